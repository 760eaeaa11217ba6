//! The journal of a training: safetensors files from which a killed run goes on.
//!
//! ```text
//! state.safetensors                the whole model's training, written anew at every evaluation:
//!   value.NAME, best.NAME          the matrices now, and at the lowest held-out loss
//!   moment_1.NAME, moment_2.NAME   the optimiser's state
//! block-LAYER.safetensors          a distillation, written once for each finished block:
//!   value.NAME                     its matrices
//! curve [points, 5] F64            in each: the loss curve (of the block), with NaN for none:
//!                                  step, block, rate, loss, held-out loss
//! ```
//!
//! A file has its name when all of it is on disk: a kill, or a loss of power, leaves the one before.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use burn::{
    optim::{AdamWState, AdaptiveMomentumState},
    tensor::{Device, Tensor},
};
use compress_models::to_device;
use safetensors::{Dtype, SafeTensors, View};

use crate::{Error, Optimiser, Point, Result, curve::steps, durable};

/// The record of one training, in a folder of its own. Whether it is the same training, the caller must know: the
/// journal does not say what it belongs to.
pub struct Journal {
    folder: PathBuf,
    /// The loss curve so far.
    pub curve: Vec<Point>,
    /// The bytes of the state that an earlier run left, until they are restored.
    found: Option<Vec<u8>>,
}

/// The matrices of a training that goes on, in the order of their names.
pub struct Restored {
    /// At the last evaluation.
    pub values: Vec<Tensor<2>>,
    /// At the lowest held-out loss.
    pub best: Vec<Tensor<2>>,
}

impl Journal {
    /// Opens the journal in `folder`, or starts one; fails where the folder cannot be made, or its file is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
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

    /// Its folder; the residual streams of a distillation lie there too.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the whole model's training.
    fn path(&self) -> PathBuf {
        self.folder.join("state.safetensors")
    }

    /// The file of a distilled block.
    fn path_of(&self, block: usize) -> PathBuf {
        self.folder.join(format!("block-{block}.safetensors"))
    }

    /// The named matrices as an earlier run left them, and the optimiser's state in `optimiser`; none where there was
    /// no earlier run. May be asked once. Fails where the file lacks one of the names.
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
        let all = |kind: &'static str| {
            let read = |name| matrix(&file, &path, &format!("{kind}.{name}"), device);
            names.iter().map(read).collect::<Result<Vec<_>>>()
        };
        // There are no moments before the first step.
        let first = names.first();
        if first.is_some_and(|name| file.tensor(&format!("moment_1.{name}")).is_ok()) {
            let moments = all("moment_1")?.into_iter().zip(all("moment_2")?);
            // The number of steps is the exponent of the moments' bias correction.
            let time = steps(&self.curve);
            let states = moments.map(|(first, second)| {
                let momentum = AdaptiveMomentumState::new(time, first, second);
                Some(AdamWState::new(momentum))
            });
            optimiser.states = states.collect();
        }
        Ok(Some(Restored {
            values: all("value")?,
            best: all("best")?,
        }))
    }

    /// Writes the curve, the matrices and the optimiser's state in the place of the last ones: either all or none of
    /// it.
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
        write(&self.path(), entries)
    }

    /// The matrices of a block that an earlier run has distilled, and its curve; none where it has not.
    pub fn restore_block(
        &self,
        block: usize,
        names: &[String],
        device: &Device,
    ) -> Result<Option<(Vec<Tensor<2>>, Vec<Point>)>> {
        let path = self.path_of(block);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).map_err(Error::io(&path))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::damaged(&path, &e))?;
        let read = |name| matrix(&file, &path, &format!("value.{name}"), device);
        let values = names.iter().map(read).collect::<Result<_>>()?;
        Ok(Some((values, curve(&path, &bytes)?)))
    }

    /// Writes a distilled block and its curve.
    pub fn save_block(
        &self,
        block: usize,
        matrices: &[(String, Tensor<2>)],
        curve: &[Point],
    ) -> Result<()> {
        let values = matrices
            .iter()
            .map(|(name, value)| (format!("value.{name}"), Entry::matrix(value)));
        let curve = ("curve".to_owned(), Entry::curve(curve));
        write(&self.path_of(block), values.chain([curve]).collect())
    }

    /// Removes the journal, with the temporary files that kills may have left.
    pub fn finish(self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.folder)(e)),
            _ => Ok(()),
        }
    }
}

/// Writes a file durably.
fn write(path: &Path, entries: Vec<(String, Entry)>) -> Result<()> {
    durable::put(path, |path| {
        safetensors::serialize_to_file(entries, None, path).map_err(|e| Error::damaged(path, &e))
    })
}

/// A matrix of a journal's file, on a device.
fn matrix(file: &SafeTensors<'_>, path: &Path, name: &str, device: &Device) -> Result<Tensor<2>> {
    let tensor = file.tensor(name).map_err(|e| Error::damaged(path, &e))?;
    let [rows, cols] = *tensor.shape() else {
        return Err(Error::damaged(path, &format!("`{name}` is no matrix")));
    };
    let numbers: Vec<f32> = tensor
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b))
        .collect();
    Ok(to_device(numbers, [rows, cols], device))
}

/// A tensor for the safetensors writer; its bytes are made when they are written.
enum Entry {
    /// F32, rows × columns.
    Matrix(Box<Tensor<2>>, [usize; 2]),
    /// F64, points × columns.
    Curve(Vec<f64>, [usize; 2]),
}

impl Entry {
    /// A matrix; shares its numbers.
    fn matrix(matrix: &Tensor<2>) -> Self {
        Self::Matrix(Box::new(matrix.clone()), matrix.dims())
    }

    /// A curve, with all bits of its numbers and its NaN.
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

/// A point as a row of numbers, NaN where it has none.
fn row(point: &Point) -> [f64; COLUMNS] {
    let block = point.block.map_or(f64::NAN, |block| block as f64);
    let held_out = point.held_out.unwrap_or(f64::NAN);
    [point.step as f64, block, point.rate, point.loss, held_out]
}

/// The curve of a journal's file.
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
