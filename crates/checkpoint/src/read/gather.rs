//! Scales and zero points become part of the weights of one byte that they belong to.
//!
//! That is done when a model is opened, before any tensor is judged. So such a weight is read like
//! any float tensor, and none of its companions can get into an output, where they would mean
//! nothing.

use std::{collections::BTreeMap, path::Path};

use compress_core::Shape;

use crate::{
    Config, Error, Kind, Result, Scaled, Tensor,
    huggingface::quantisation::{Code, Extent, Scaling, Storage},
    names,
    read::tensor::FLOATS,
};

/// Goes through all weights of one byte. Returns what a user should know of how they are read.
///
/// Fails where a weight of a site lacks scales, has others than the settings say, or has no
/// settings. Other parts of a file are not computed with: there, such a tensor stays as it is.
pub fn gather(
    tensors: &mut BTreeMap<String, Tensor>,
    config: &Config,
    path: &Path,
) -> Result<Vec<String>> {
    let of_bytes = tensors.iter().filter_map(|(name, tensor)| {
        let code = code_of(&tensor.kind)?;
        Some((name.strip_suffix(".weight")?.to_owned(), code))
    });
    let of_bytes: Vec<(String, Code)> = of_bytes.collect();
    let mut rounded = None;
    for (module, code) in of_bytes {
        let weight = Weight {
            module: &module,
            code,
            path,
        };
        match weight.gather(tensors, config) {
            Ok(inputs_rounded) => rounded = rounded.or(inputs_rounded.then_some(code)),
            Err(error) if names::site(&module).is_some() => return Err(error),
            Err(_) => {}
        }
    }
    let warning = rounded.map(|code| {
        format!(
            "weights in {} are read as the floats that they stand for; programs that serve this model also round what enters its layers, which is not done here, so that figures may differ a little from theirs",
            code.dtype()
        )
    });
    Ok(warning.into_iter().collect())
}

/// The code of a tensor that has a byte for each number.
fn code_of(kind: &Kind) -> Option<Code> {
    let Kind::Opaque(dtype) = kind else {
        return None;
    };
    let mut all = [Code::E4m3, Code::Int8].into_iter();
    all.find(|code| code.dtype() == dtype)
}

/// A weight whose tensor holds bytes.
struct Weight<'a> {
    module: &'a str,
    code: Code,
    path: &'a Path,
}

impl Weight<'_> {
    /// The name of one of its tensors.
    fn name(&self, end: &str) -> String {
        format!("{}.{end}", self.module)
    }

    /// The error that something is wrong with its tensor.
    fn wrong(&self, problem: &str) -> Error {
        let (name, dtype) = (self.name("weight"), self.code.dtype());
        Error::damaged(
            self.path,
            format!("tensor `{name}` holds {dtype}, but {problem}"),
        )
    }

    /// Moves its companions into its tensor, and tells whether the inputs of its layer are rounded.
    /// Changes nothing where it fails.
    fn gather(&self, tensors: &mut BTreeMap<String, Tensor>, config: &Config) -> Result<bool> {
        let scaling = match config.quantisation.storage(self.module) {
            Some(Storage::Scaled(scaling)) if scaling.code == self.code => scaling,
            _ => {
                return Err(
                    self.wrong("`quantization_config` in config.json does not say so of it")
                );
            }
        };
        let weight = self.name("weight");
        let mut scale_names = names::SCALES.map(|end| self.name(end)).into_iter();
        let scale = scale_names.find(|name| tensors.contains_key(name));
        let scale = scale.unwrap_or_else(|| self.name(names::SCALES[0]));
        let zero = self.name(names::ZEROS);
        let scaled = self.scaled(scaling, tensors, [&weight, &scale, &zero])?;
        tensors.remove(&scale);
        if scaled.zeros.is_some() {
            tensors.remove(&zero);
        }
        // Only such layers use them; of any other it is not known what they are for.
        if scaling.inputs_rounded {
            for end in names::INPUT_SCALES {
                tensors.remove(&self.name(end));
            }
        }
        if let Some(tensor) = tensors.get_mut(&weight) {
            tensor.kind = Kind::Scaled(Box::new(scaled));
        }
        Ok(scaling.inputs_rounded)
    }

    /// What its bytes mean, from the tensors of these names.
    fn scaled(
        &self,
        scaling: Scaling,
        tensors: &BTreeMap<String, Tensor>,
        [weight, scale, zero]: [&str; 3],
    ) -> Result<Scaled> {
        let shape = tensors.get(weight).map(|tensor| &tensor.shape[..]);
        let shape = match shape {
            Some(&[rows, cols]) if rows > 0 && cols > 0 => Shape::new(rows, cols),
            _ => return Err(self.wrong("is no matrix")),
        };
        let there = |name: &str| {
            let tensor = tensors.get(name).cloned();
            tensor.ok_or_else(|| self.wrong(&format!("there is no tensor `{name}`")))
        };
        let scales = there(scale)?;
        if !matches!(scales.kind, Kind::Float(_)) {
            return Err(self.strange(scale, &scales, FLOATS));
        }
        let zeros = (!scaling.symmetric).then(|| there(zero)).transpose()?;
        if let Some(zeros) = &zeros {
            if code_of(&zeros.kind) != Some(Code::Int8) {
                return Err(self.strange(zero, zeros, Code::Int8.dtype()));
            }
            if zeros.shape != scales.shape {
                let (is, are) = (&zeros.shape, &scales.shape);
                let problem = format!("`{zero}` is {is:?} and its scales are {are:?}");
                return Err(self.wrong(&problem));
            }
        }
        Ok(Scaled {
            code: self.code,
            cols: shape.cols,
            block: self.block(scaling.extent, shape, &scales.shape)?,
            scales,
            zeros,
        })
    }

    /// The block that shares a scale, once the scales have the shape that follows from it.
    fn block(&self, extent: Extent, shape: Shape, scales: &[usize]) -> Result<Shape> {
        let block = match extent {
            Extent::Tensor => shape,
            Extent::Row => Shape::new(1, shape.cols),
            Extent::Group(size) => Shape::new(1, size),
            Extent::Block(rows, cols) => Shape::new(rows, cols),
        };
        let wanted = [
            shape.rows.div_ceil(block.rows),
            shape.cols.div_ceil(block.cols),
        ];
        let fits = match extent {
            // With or without dimensions of 1.
            Extent::Tensor => scales.iter().all(|size| *size == 1),
            Extent::Row => scales == wanted || scales == [shape.rows],
            // Blocks may be cut off by the edge, groups are whole.
            Extent::Group(size) => scales == wanted && shape.cols.is_multiple_of(size),
            Extent::Block(..) => scales == wanted,
        };
        if fits {
            return Ok(block);
        }
        let problem = format!(
            "its scales are {scales:?}, which does not fit its shape and `quantization_config` in config.json ({extent:?})"
        );
        Err(self.wrong(&problem))
    }

    /// The error of a companion of another dtype.
    fn strange(&self, name: &str, tensor: &Tensor, wanted: &'static str) -> Error {
        Error::NumberType {
            path: self.path.into(),
            name: name.into(),
            found: tensor.kind.to_string(),
            wanted,
        }
    }
}
