//! The weights of the blocks: in which form each is stored, and reading it.

use std::collections::{BTreeMap, BTreeSet};

use compress_core::{
    Correction, Factor, Form, Matrix, Numbers, Part, Quantised, Scheme, Shape, Site, Weights, f16,
};

use crate::{Checkpoint, Config, Error, Result, Table, adapter};

/// As large as any size in a `config.json`: a header may claim more.
const MOST_RANK: usize = 1 << 24;

impl Checkpoint {
    /// The form of a module's weight, by the tensors there are and how it is rounded if it is.
    pub(crate) fn find_form(&self, module: &str, scheme: Option<Scheme>) -> Result<Form> {
        let packed = format!("{module}.weight_packed");
        if self.tensors().contains_key(&packed) {
            let scheme = scheme.ok_or_else(|| self.no_group(&packed))?;
            let rank = self.rank_of(&format!("{}{module}.lora_A.weight", adapter::PREFIX))?;
            let rank = rank.unwrap_or(0);
            self.expect_rank(module, rank)?;
            return Ok(Form::Rounded { scheme, rank });
        }
        let packed = format!("{module}.down.weight_packed");
        if let Some(rank) = self.rank_of(&packed)? {
            let scheme = scheme.ok_or_else(|| self.no_group(&packed))?;
            return Ok(Form::RoundedPair { scheme, rank });
        }
        let rank = self.rank_of(&format!("{module}.down.weight"))?;
        Ok(rank.map_or(Form::Whole, |rank| Form::LowRank { rank }))
    }

    fn no_group(&self, packed: &str) -> Error {
        let problem = format!(
            "tensor `{packed}` is there, but no group of `quantization_config` in config.json is for it"
        );
        Error::damaged(self.path(), problem)
    }

    /// How many rows the first factor of a pair has; none where there is no such tensor.
    fn rank_of(&self, down: &str) -> Result<Option<usize>> {
        match self.tensors().get(down).map(|tensor| &tensor.shape[..]) {
            None => Ok(None),
            Some(&[rank, _]) if (1..=MOST_RANK).contains(&rank) => Ok(Some(rank)),
            Some(shape) => {
                let problem = format!("tensor `{down}` is {shape:?}, and no factor has that shape");
                Err(Error::damaged(self.path(), problem))
            }
        }
    }

    /// Compares a tensor with what a weight's form asks for.
    pub(crate) fn expect_part(&self, name: &str, part: &Part) -> Result<()> {
        let wanted = match part.numbers {
            Numbers::Words => "I32",
            Numbers::Sizes => "I64",
            Numbers::Floats | Numbers::Correction | Numbers::Scales => {
                return self.expect(name, &part.shape);
            }
        };
        let tensor = self.tensor(name)?;
        if tensor.kind.to_string() != wanted {
            return Err(Error::NumberType {
                path: self.path().into(),
                name: name.into(),
                found: tensor.kind.to_string(),
                wanted,
            });
        }
        if tensor.shape != part.shape {
            return Err(Error::Shape {
                path: self.path().into(),
                name: name.into(),
                found: tensor.shape.clone(),
                expected: part.shape.clone(),
            });
        }
        Ok(())
    }

    /// One weight of the blocks, as it is stored.
    pub fn factor(&self, site: Site) -> Result<Factor> {
        let form = *self
            .forms()
            .get(&site)
            .ok_or(compress_core::Error::NoSuchSite { site })?;
        self.read(&site.module(), self.config().shape(site.role), form)
    }

    /// Embedding or head, as it is stored; the embedding where that serves as the head.
    pub fn table(&self, table: Table) -> Result<Factor> {
        let own = self.tables().contains_key(&table);
        let table = if own { table } else { Table::Embedding };
        let form = self.tables().get(&table).copied().unwrap_or(Form::Whole);
        self.read(table.module(), self.config().table_shape(), form)
    }

    fn read(&self, module: &str, shape: Shape, form: Form) -> Result<Factor> {
        let Shape { rows, cols } = shape;
        let matrix = |suffix: &str, rows, cols| {
            let numbers = self.numbers(&format!("{module}.{suffix}"))?;
            Ok::<_, Error>(Matrix::new(rows, cols, numbers)?)
        };
        Ok(match form {
            Form::Whole => Factor::Whole(matrix("weight", rows, cols)?),
            Form::LowRank { rank } => Factor::LowRank {
                up: matrix("up.weight", rows, rank)?,
                down: matrix("down.weight", rank, cols)?,
            },
            Form::RoundedPair { scheme, rank } => {
                let part = |part: &str, rows, cols| {
                    self.quantised(&format!("{module}.{part}"), Shape { rows, cols }, scheme)
                };
                Factor::RoundedPair {
                    up: part("up", rows, rank)?,
                    down: part("down", rank, cols)?,
                }
            }
            Form::Rounded { scheme, rank } => Factor::Rounded {
                base: self.quantised(module, shape, scheme)?,
                correction: (rank > 0)
                    .then(|| self.correction(module, shape, rank))
                    .transpose()?,
            },
        })
    }

    fn quantised(&self, module: &str, shape: Shape, scheme: Scheme) -> Result<Quantised> {
        let raw = |suffix: &str| self.raw(&format!("{module}.{suffix}"));
        let words = |suffix: &str| {
            let bytes = raw(suffix)?;
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

    fn correction(&self, module: &str, shape: Shape, rank: usize) -> Result<Correction> {
        let Shape { rows, cols } = shape;
        let matrix = |suffix: &str, rows, cols| {
            let name = format!("{}{module}.{suffix}", adapter::PREFIX);
            Ok::<_, Error>(Matrix::new(rows, cols, self.numbers(&name)?)?)
        };
        Ok(Correction {
            up: matrix("lora_B.weight", rows, rank)?,
            down: matrix("lora_A.weight", rank, cols)?,
        })
    }
}

/// Only weights that are still whole can be cut; what is factored already stays as it is.
impl Weights for Checkpoint {
    fn shapes(&self) -> BTreeMap<Site, Shape> {
        let whole = self
            .forms()
            .iter()
            .filter(|(_, form)| **form == Form::Whole);
        whole
            .map(|(site, _)| (*site, self.config().shape(site.role)))
            .collect()
    }

    fn load(&self, site: Site) -> compress_core::Result<Matrix> {
        match self.factor(site).map_err(compress_core::Error::source)? {
            Factor::Whole(weight) => Ok(weight),
            factor => factor.dense(),
        }
    }
}

/// Every module that may be rounded, with shape and form.
pub fn modules<'a>(
    config: &'a Config,
    forms: &'a BTreeMap<Site, Form>,
    tables: &'a BTreeMap<Table, Form>,
) -> impl Iterator<Item = (String, Shape, Form)> {
    let blocks = forms
        .iter()
        .map(|(site, form)| (site.module(), config.shape(site.role), *form));
    let tables = tables
        .iter()
        .map(|(table, form)| (table.module().to_owned(), config.table_shape(), *form));
    blocks.chain(tables)
}

/// Where the bias of a weight of this form is stored.
pub fn bias_name(site: Site, form: Form) -> String {
    match form {
        Form::LowRank { .. } | Form::RoundedPair { .. } => format!("{}.up.bias", site.module()),
        Form::Whole | Form::Rounded { .. } => format!("{}.bias", site.module()),
    }
}

/// How many numbers a model has, from the modules that may be rounded, with shapes and forms, and the
/// names and sizes of all its tensors: packed numbers count one by one, their scales not at all.
pub fn parameters<'a>(
    modules: impl Iterator<Item = (String, Shape, Form)>,
    sizes: impl Iterator<Item = (&'a str, usize)>,
) -> usize {
    let (mut parts, mut of_weights) = (BTreeSet::new(), 0);
    for (module, shape, form) in modules {
        of_weights += form.parameters(shape);
        parts.extend(form.tensors(shape).iter().map(|part| part.name(&module)));
    }
    let others = sizes.filter(|(name, _)| !parts.contains(*name));
    of_weights + others.map(|(_, size)| size).sum::<usize>()
}
