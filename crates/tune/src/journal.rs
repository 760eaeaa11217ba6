//! Where training stands: one safetensors file, written anew now and then, from which it goes on.
//!
//! ```text
//! value.NAME, best.NAME            the matrices now, and as the held-out windows liked them best
//! moment_1.NAME, moment_2.NAME     the optimiser's memory
//! curve [points, 5] F64            the loss curve so far: step, block, rate, loss, held-out loss; NaN for none
//! metadata: task                   what decides the outcome, as JSON
//! ```

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use burn::{
    optim::{AdamWState, AdaptiveMomentumState},
    tensor::{Device, Tensor, TensorData},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

use crate::{Error, Optimiser, Point, Result};

/// The record of one training.
pub struct Journal {
    path: PathBuf,
    task: Value,
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
    /// Opens the journal at `path`, or starts one; what another `task` has left is an error, or starts
    /// anew with `force`.
    pub fn open(path: &Path, task: Value, force: bool) -> Result<Self> {
        let mut journal = Self {
            path: path.into(),
            task,
            curve: Vec::new(),
            found: None,
        };
        if !path.exists() {
            return Ok(journal);
        }
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|e| Error::damaged(path, &e))?;
        let about = header.metadata().as_ref();
        let found = about.and_then(|about| about.get("task"));
        if found == Some(&journal.task.to_string()) {
            journal.curve = curve(path, &bytes)?;
            journal.found = Some(bytes);
        } else if !force {
            return Err(Error::OtherTask { path: path.into() });
        }
        Ok(journal)
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
        let file = SafeTensors::deserialize(&bytes).map_err(|e| Error::damaged(&self.path, &e))?;
        let read = |kind: &str, name: &String| {
            let tensor = file.tensor(&format!("{kind}.{name}"));
            let tensor = tensor.map_err(|e| Error::damaged(&self.path, &e))?;
            let [rows, cols] = *tensor.shape() else {
                return Err(Error::damaged(
                    &self.path,
                    &format!("`{name}` is no matrix"),
                ));
            };
            let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            let numbers: Vec<f32> = tensor.data().chunks_exact(4).map(number).collect();
            let data = TensorData::new(numbers, [rows, cols]);
            Ok(Tensor::<2>::from_data(data, device))
        };
        let all = |kind: &'static str| names.iter().map(move |name| read(kind, name));
        if names
            .first()
            .is_some_and(|name| read("moment_1", name).is_ok())
        {
            let moments = all("moment_1").zip(all("moment_2"));
            let time = self.curve.len();
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

    /// Writes where training stands, beside what is there, and renames it.
    pub fn save(
        &self,
        names: &[String],
        values: &[Tensor<2>],
        best: &[Tensor<2>],
        optimiser: &Optimiser,
    ) -> Result<()> {
        let mut tensors = Vec::new();
        for (index, name) in names.iter().enumerate() {
            tensors.push((format!("value.{name}"), values[index].clone()));
            tensors.push((format!("best.{name}"), best[index].clone()));
            if let Some(Some(AdamWState { momentum })) = optimiser.states.get(index) {
                tensors.push((format!("moment_1.{name}"), momentum.moment_1.clone()));
                tensors.push((format!("moment_2.{name}"), momentum.moment_2.clone()));
            }
        }
        let bytes = tensors
            .into_iter()
            .map(|(name, tensor)| {
                let shape = tensor.dims();
                let numbers = tensor.into_data().try_into_vec::<f32>();
                let numbers = numbers.map_err(|e| Error::damaged(&self.path, &format!("{e:?}")))?;
                let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                Ok((name, shape, bytes))
            })
            .collect::<Result<Vec<_>>>()?;
        let views = bytes.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
            Ok((name, view.map_err(|e| Error::damaged(&self.path, &e))?))
        });
        let mut views = views.collect::<Result<Vec<_>>>()?;
        let (name, points) = (CURVE.to_owned(), self.curve.iter().flat_map(row));
        let bytes: Vec<u8> = points.flat_map(f64::to_le_bytes).collect();
        let shape = vec![self.curve.len(), COLUMNS];
        let view = TensorView::new(Dtype::F64, shape, &bytes);
        views.push((&name, view.map_err(|e| Error::damaged(&self.path, &e))?));
        let about = HashMap::from([("task".to_owned(), self.task.to_string())]);
        let part = self.path.with_extension("part");
        safetensors::serialize_to_file(views, Some(about), &part)
            .map_err(|e| Error::damaged(&part, &e))?;
        fs::rename(&part, &self.path).map_err(Error::io(&self.path))
    }

    /// Removes it.
    pub fn finish(self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.path)(e)),
            _ => Ok(()),
        }
    }
}

/// The tensor of the loss curve, and its columns: as text its numbers would be rounded.
const CURVE: &str = "curve";
const COLUMNS: usize = 5;

fn row(point: &Point) -> [f64; COLUMNS] {
    let block = point.block.map_or(f64::NAN, |block| block as f64);
    let held_out = point.held_out.unwrap_or(f64::NAN);
    [point.step as f64, block, point.rate, point.loss, held_out]
}

fn curve(path: &Path, bytes: &[u8]) -> Result<Vec<Point>> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| Error::damaged(path, &e))?;
    let tensor = file.tensor(CURVE).map_err(|e| Error::damaged(path, &e))?;
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
