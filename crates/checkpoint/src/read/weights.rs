//! The weights of a network: in which form each is stored, and reading it.

use std::collections::{BTreeMap, BTreeSet};

use compress_core::{
    Factor, Form, Matrix, Precision, Quantised, Scheme, Shape, Site, Store, Weights, f16,
};

use crate::{
    Checkpoint, Config, Error, Result,
    names::{self, Fault, Numbers, Part},
};

impl Checkpoint {
    /// The form of a weight, all of its tensors as the config implies.
    pub(crate) fn find_form(&self, site: Site, scheme: Option<Scheme>) -> Result<Form> {
        let shape = self.config().weight_shape(site);
        let found = names::find(site, |name| self.shape_of(name), scheme);
        let form = found.map_err(|fault| self.fault(fault))?;
        form.check(shape)?;
        self.expect_rank(&names::module(site), form.correction())?;
        for part in names::parts(site, form, shape) {
            self.expect_part(&part)?;
        }
        Ok(form)
    }

    fn shape_of(&self, tensor: &str) -> Option<&[usize]> {
        self.tensors().get(tensor).map(|tensor| &tensor.shape[..])
    }

    fn fault(&self, fault: Fault) -> Error {
        let problem = match fault {
            Fault::NoScheme { tensor } => format!(
                "tensor `{tensor}` is there, but no group of `quantization_config` in config.json is for it"
            ),
            Fault::Shape { tensor, shape } => {
                format!("tensor `{tensor}` is {shape:?}, and no factor has that shape")
            }
        };
        Error::damaged(self.path(), problem)
    }

    /// Compares a tensor with what a weight's form asks for.
    fn expect_part(&self, part: &Part) -> Result<()> {
        let wanted = match part.numbers {
            Numbers::Words => "I32",
            Numbers::Sizes => "I64",
            Numbers::Floats | Numbers::Adapter | Numbers::Scales => {
                return self.expect(&part.name, &part.shape);
            }
        };
        let tensor = self.tensor(&part.name)?;
        if tensor.kind.to_string() != wanted {
            return Err(Error::NumberType {
                path: self.path().into(),
                name: part.name.clone(),
                found: tensor.kind.to_string(),
                wanted,
            });
        }
        if tensor.shape != part.shape {
            return Err(Error::Shape {
                path: self.path().into(),
                name: part.name.clone(),
                found: tensor.shape.clone(),
                expected: part.shape.clone(),
            });
        }
        Ok(())
    }

    /// One weight, in the form in which it is stored.
    pub fn factor(&self, site: Site) -> Result<Factor> {
        let form = self.forms().get(&site).copied();
        let form = form.ok_or(compress_core::Error::NoSuchSite { site })?;
        let stores = form.stores(self.config().weight_shape(site)).into_iter();
        let stores = names::modules(site, form).into_iter().zip(stores);
        let stores = stores.map(|(module, (precision, shape))| match precision {
            Precision::Float => self.float(&module, shape).map(Store::Float),
            Precision::Quantised(scheme) => {
                let quantised = self.quantised(&module, shape, scheme);
                quantised.map(Store::Quantised)
            }
        });
        let factor = Factor::from_stores(form, stores.collect::<Result<Vec<_>>>()?);
        Ok(factor.ok_or(compress_core::Error::NoSuchSite { site })?)
    }

    fn float(&self, module: &str, Shape { rows, cols }: Shape) -> Result<Matrix> {
        let numbers = self.numbers(&format!("{module}.weight"))?;
        Ok(Matrix::new(rows, cols, numbers)?)
    }

    fn quantised(&self, module: &str, shape: Shape, scheme: Scheme) -> Result<Quantised> {
        let words = |suffix: &str| {
            let bytes = self.raw(&format!("{module}.{suffix}"))?;
            let words = bytes.as_chunks().0.iter();
            Ok::<_, Error>(words.map(|&b| u32::from_le_bytes(b)).collect::<Vec<_>>())
        };
        let scales = self.numbers(&format!("{module}.weight_scale"))?;
        let zeros = if scheme.symmetric {
            Vec::new()
        } else {
            Quantised::unpack_zeros(shape, scheme, &words("weight_zero_point")?)?
        };
        let halves = scales.iter().copied().map(f16::from_f32).collect();
        let words = words("weight_packed")?;
        let rounded = Quantised::from_parts(shape, scheme, words, halves, zeros)?;
        Ok(rounded.with_fine_scales(scales)?)
    }
}

/// Only weights of blocks that are still whole can be cut; what is factored already stays as it is.
impl Weights for Checkpoint {
    fn shapes(&self) -> BTreeMap<Site, Shape> {
        let whole = self.forms().iter();
        let whole = whole.filter(|(site, form)| site.role().is_some() && **form == Form::WHOLE);
        whole
            .map(|(site, _)| (*site, self.config().weight_shape(*site)))
            .collect()
    }

    fn load(&self, site: Site) -> compress_core::Result<Matrix> {
        match self.factor(site).map_err(compress_core::Error::source)? {
            Factor::Whole(Store::Float(weight)) => Ok(weight),
            factor => factor.dense(),
        }
    }
}

/// How many numbers a model has, from the forms of its weights and the names and sizes of all its tensors:
/// packed numbers count one by one, their scales not at all.
pub fn parameters<'a>(
    config: &Config,
    forms: &BTreeMap<Site, Form>,
    sizes: impl Iterator<Item = (&'a str, usize)>,
) -> usize {
    let (mut names, mut of_weights) = (BTreeSet::new(), 0);
    for (&site, form) in forms {
        let shape = config.weight_shape(site);
        of_weights += form.parameters(shape);
        let parts = names::parts(site, *form, shape).into_iter();
        names.extend(parts.map(|part| part.name));
    }
    let others = sizes.filter(|(name, _)| !names.contains(*name));
    of_weights + others.map(|(_, size)| size).sum::<usize>()
}
