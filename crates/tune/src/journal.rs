//! Where training stands: one safetensors file, written anew now and then, from which it goes on.
//!
//! ```text
//! value.NAME, best.NAME            the matrices now, and as the held-out windows liked them best
//! moment_1.NAME, moment_2.NAME     the optimiser's memory
//! curve [points, 5] F64            the loss curve so far: step, block, rate, loss, held-out loss; NaN for none
//! ```

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use burn::{
    optim::{AdamWState, AdaptiveMomentumState},
    tensor::{Device, Tensor, TensorData},
};
use safetensors::{Dtype, SafeTensors, View};

use crate::{Error, Optimiser, Point, Result, curve::steps};

/// The record of one training, in a folder of its own: whoever opens it sees to it that it is the same one.
pub struct Journal {
    folder: PathBuf,
    /// The loss curve up to where training stands.
    pub curve: Vec<Point>,
    found: Option<Vec<u8>>,
}

/// The matrices of a training that goes on.
pub struct Restored {
    /// As they are.
    pub values: Vec<Tensor<2>>,
    /// As they were at their best.
    pub best: Vec<Tensor<2>>,
}

impl Journal {
    /// Opens the journal in `folder`, or starts one.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut journal = Self {
            folder: folder.into(),
            curve: Vec::new(),
            found: None,
        };
        let path = journal.path();
        if path.exists() {
            let bytes = fs::read(&path).map_err(Error::io(&path))?;
            journal.curve = curve(&path, &bytes)?;
            journal.found = Some(bytes);
        }
        Ok(journal)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("state.safetensors")
    }

    /// What an earlier run has left of the named matrices; the optimiser remembers what it knew then.
    pub fn restore(
        &mut self,
        names: &[String],
        optimiser: &mut Optimiser,
        device: &Device,
    ) -> Result<Option<Restored>> {
        let Some(bytes) = self.found.take() else {
            return Ok(None);
        };
        let path = self.path();
        let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::damaged(&path, &e))?;
        let read = |kind: &str, name: &String| {
            let tensor = file.tensor(&format!("{kind}.{name}"));
            let tensor = tensor.map_err(|e| Error::damaged(&path, &e))?;
            let [rows, cols] = *tensor.shape() else {
                return Err(Error::damaged(&path, &format!("`{name}` is no matrix")));
            };
            let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            let numbers: Vec<f32> = tensor.data().chunks_exact(4).map(number).collect();
            let data = TensorData::new(numbers, [rows, cols]);
            Ok(Tensor::<2>::from_data(data, device))
        };
        let all = |kind: &'static str| names.iter().map(move |name| read(kind, name));
        let first = names.first();
        if first.is_some_and(|name| read("moment_1", name).is_ok()) {
            let moments = all("moment_1").zip(all("moment_2"));
            let time = steps(&self.curve);
            let states = moments.map(|(first, second)| {
                let momentum = AdaptiveMomentumState::new(time, first?, second?);
                Ok(Some(AdamWState::new(momentum)))
            });
            optimiser.states = states.collect::<Result<_>>()?;
        }
        Ok(Some(Restored {
            values: all("value").collect::<Result<_>>()?,
            best: all("best").collect::<Result<_>>()?,
        }))
    }

    /// Writes where training stands in the place of what is there, at once.
    pub fn save(
        &self,
        names: &[String],
        values: &[Tensor<2>],
        best: &[Tensor<2>],
        optimiser: &Optimiser,
    ) -> Result<()> {
        let mut entries = vec![("curve".to_owned(), Entry::curve(&self.curve))];
        let mut add = |kind: &str, name: &str, matrix: &Tensor<2>| {
            entries.push((format!("{kind}.{name}"), Entry::matrix(matrix)));
        };
        for (index, name) in names.iter().enumerate() {
            add("value", name, &values[index]);
            add("best", name, &best[index]);
            if let Some(Some(AdamWState { momentum })) = optimiser.states.get(index) {
                add("moment_1", name, &momentum.moment_1);
                add("moment_2", name, &momentum.moment_2);
            }
        }
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        let path = self.path();
        safetensors::serialize_to_file(entries, None, &path).map_err(|e| Error::damaged(&path, &e))
    }

    /// Removes it, with what kills have left of files under way.
    pub fn finish(self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.folder)(e)),
            _ => Ok(()),
        }
    }
}

/// A tensor on its way to disk: its bytes are made when it is its turn.
enum Entry {
    Matrix(Box<Tensor<2>>, [usize; 2]),
    Curve(Vec<f64>, [usize; 2]),
}

impl Entry {
    fn matrix(matrix: &Tensor<2>) -> Self {
        Self::Matrix(Box::new(matrix.clone()), matrix.dims())
    }

    /// As text its numbers would be rounded.
    fn curve(curve: &[Point]) -> Self {
        Self::Curve(curve.iter().flat_map(row).collect(), [curve.len(), COLUMNS])
    }
}

impl View for Entry {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Matrix(..) => Dtype::F32,
            Self::Curve(..) => Dtype::F64,
        }
    }

    fn shape(&self) -> &[usize] {
        let (Self::Matrix(_, shape) | Self::Curve(_, shape)) = self;
        shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Matrix(matrix, _) => {
                let data = matrix.as_ref().clone().into_data();
                data.iter::<f32>().flat_map(f32::to_le_bytes).collect()
            }
            Self::Curve(numbers, _) => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    fn data_len(&self) -> usize {
        let size: usize = self.shape().iter().product();
        size * match self {
            Self::Matrix(..) => 4,
            Self::Curve(..) => 8,
        }
    }
}

/// The columns of the curve's tensor.
const COLUMNS: usize = 5;

fn row(point: &Point) -> [f64; COLUMNS] {
    let block = point.block.map_or(f64::NAN, |block| block as f64);
    let held_out = point.held_out.unwrap_or(f64::NAN);
    [point.step as f64, block, point.rate, point.loss, held_out]
}

fn curve(path: &Path, bytes: &[u8]) -> Result<Vec<Point>> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| Error::damaged(path, &e))?;
    let tensor = file.tensor("curve").map_err(|e| Error::damaged(path, &e))?;
    let number = |b: &[u8]| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    let numbers: Vec<f64> = tensor.data().chunks_exact(8).map(number).collect();
    let known = |x: f64| (!x.is_nan()).then_some(x);
    let point = |row: &[f64]| Point {
        step: row[0] as usize,
        block: known(row[1]).map(|block| block as usize),
        rate: row[2],
        loss: row[3],
        held_out: known(row[4]),
    };
    Ok(numbers.chunks_exact(COLUMNS).map(point).collect())
}
