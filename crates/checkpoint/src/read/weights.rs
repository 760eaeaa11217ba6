//! Weights by site: the form in which each is stored, and reading it as a factor.
//!
//! The form follows from the tensors that exist: `weight` for floats, `weight_packed` for codes,
//! `down` and `up` for a low-rank pair, `lora_A` and `lora_B` for a correction, `coefficients` for a
//! mixture of atoms. Every tensor of a form is then compared with the shape that the config implies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, Weak},
};

use compress_core::{
    Dictionaries, Dictionary, DictionaryForm, Factor, Form, Group, Matrix, Precision, Quantised,
    Scheme, Shape, Site, Store, Weights, f16,
};

use crate::{
    Checkpoint, Config, Error, Result,
    names::{self, Fault, Numbers, Part},
};

impl Checkpoint {
    /// The form of a site, every tensor of which has been compared with the config.
    pub(crate) fn find_form(&self, site: Site) -> Result<Form> {
        let shape = self.config().weight_shape(site);
        let scheme = |module: &str| self.config().quantisation.scheme(module);
        let found = names::find(site, |name| self.shape_of(name), scheme);
        let form = found.map_err(|fault| self.fault(fault))?;
        form.check(shape)?;
        self.expect_rank(&names::module(site), form.correction())?;
        if let Some(atoms) = form.dictionary() {
            self.expect_mixture(site, atoms)?;
        }
        let atoms = form.dictionary().into_iter();
        let atoms = atoms.flat_map(|atoms| names::dictionary_parts(atoms, shape));
        for part in names::parts(site, form, shape).into_iter().chain(atoms) {
            self.expect_part(&part)?;
        }
        Ok(form)
    }

    /// Checks that a mixture is of the atoms that the config says: those that begin nearest before it in the files
    /// could be others.
    fn expect_mixture(&self, site: Site, atoms: DictionaryForm) -> Result<()> {
        let module = names::module(site);
        let found = names::dictionary_key(atoms.group);
        let mixture = self
            .config()
            .json
            .get("mixtures")
            .and_then(|all| all.get(&module));
        let said = mixture.and_then(|it| it.get("dictionary")?.as_str());
        if said == Some(&found) {
            return Ok(());
        }
        let problem = format!(
            "`{module}` mixes atoms, in the files those of `{found}`, but `mixtures` in config.json says {}",
            said.map_or("nothing of it".into(), |said| format!("`{said}`")),
        );
        Err(Error::damaged(self.path(), problem))
    }

    /// The shape of a tensor, if it exists.
    fn shape_of(&self, tensor: &str) -> Option<&[usize]> {
        self.tensors().get(tensor).map(|tensor| &tensor.shape[..])
    }

    /// Turns a fault of the names into an error with the path.
    fn fault(&self, fault: Fault) -> Error {
        let problem = match fault {
            Fault::NoScheme { tensor } => format!(
                "tensor `{tensor}` is there, but no group of `quantization_config` in config.json is for it"
            ),
            Fault::NoAtoms { tensor } => {
                format!("tensor `{tensor}` mixes atoms, and none are there for its layer")
            }
            Fault::Shape { tensor, shape } => {
                format!("tensor `{tensor}` is {shape:?}, and no factor has that shape")
            }
        };
        Error::damaged(self.path(), problem)
    }

    /// Checks a tensor of a form: its presence, shape and dtype.
    fn expect_part(&self, part: &Part) -> Result<()> {
        let wanted = match part.numbers {
            Numbers::Words => "I32",
            Numbers::Sizes => "I64",
            // Other programs store scales as bf16 or f32: any float dtype is decoded.
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

    /// One weight in its stored form: a float matrix, a low-rank pair, rounded codes, a base
    /// with its correction, or a mixture of atoms.
    ///
    /// Float matrices are decoded to `f32`; codes stay packed. Fails where the site has no weight
    /// of its own (a tied head) or the file cannot be read.
    pub fn factor(&self, site: Site) -> Result<Factor> {
        let (_, stores) = self.stores(site)?;
        self.joined(site, stores)
    }

    /// The form of a weight and its own matrices, in the order of [`Factor::stores`]: all of it but
    /// atoms. Fails as [`factor`](Self::factor) does.
    pub fn stores(&self, site: Site) -> Result<(Form, Vec<Store>)> {
        let form = self.form(site)?;
        let stores = form.stores(self.config().weight_shape(site)).into_iter();
        let stores = names::modules(site, form).into_iter().zip(stores);
        let stores =
            stores.map(|(module, (precision, shape))| self.store(&module, precision, shape));
        Ok((form, stores.collect::<Result<_>>()?))
    }

    /// The weight whose own [`stores`](Self::stores) these are; atoms are read, where it mixes any.
    pub fn joined(&self, site: Site, stores: Vec<Store>) -> Result<Factor> {
        let form = self.form(site)?;
        let atoms = form.dictionary();
        let atoms = atoms.map(|atoms| self.atoms(atoms)).transpose()?;
        let factor = Factor::from_stores(form, stores, atoms);
        Ok(factor.ok_or(compress_core::Error::NoSuchSite { site })?)
    }

    fn form(&self, site: Site) -> Result<Form> {
        let form = self.forms().get(&site).copied();
        Ok(form.ok_or(compress_core::Error::NoSuchSite { site })?)
    }

    /// The atoms of a group, of which all weights that are in memory at the same time hold one copy.
    fn atoms(&self, form: DictionaryForm) -> Result<Arc<Dictionary>> {
        let held = || self.atoms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(atoms) = held().get(&form.group).and_then(Weak::upgrade) {
            return Ok(atoms);
        }
        let DictionaryForm {
            group,
            atoms,
            precision,
        } = form;
        let shape = form.shape(self.config().weight_shape(group.start()));
        let module = names::dictionary(group);
        // No lock is held here: decoding may wait for threads that wait for it. At worst two threads read the same.
        let stacked = self.store(&module, precision, shape)?;
        let dictionary = Arc::new(Dictionary {
            group,
            atoms,
            stacked,
        });
        held().insert(group, Arc::downgrade(&dictionary));
        Ok(dictionary)
    }

    /// One matrix, in the format that it is kept in.
    fn store(&self, module: &str, precision: Precision, shape: Shape) -> Result<Store> {
        match precision {
            Precision::Float => self.float(module, shape).map(Store::Float),
            Precision::Quantised(scheme) => {
                let quantised = self.quantised(module, shape, scheme);
                quantised.map(Store::Quantised)
            }
        }
    }

    /// A float matrix, rows × cols.
    fn float(&self, module: &str, Shape { rows, cols }: Shape) -> Result<Matrix> {
        let numbers = self.numbers(&format!("{module}.weight"))?;
        Ok(Matrix::new(rows, cols, numbers)?)
    }

    /// Packed codes with scales and zero points, as compressed-tensors stores them.
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
        // Scales of other programs may be bf16 or f32: the f16 copy is for writing, the fine scales
        // are used in computing.
        let halves = scales.iter().copied().map(f16::from_f32).collect();
        let words = words("weight_packed")?;
        let rounded = Quantised::from_parts(shape, scheme, words, halves, zeros)?;
        Ok(rounded.with_fine_scales(scales)?)
    }
}

/// The weights that a method may compress: whole float matrices of the blocks. Factored or rounded
/// ones keep their form.
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
            // Not reached by `shapes`, but a caller may name any site.
            factor => factor.dense(),
        }
    }
}

/// The atoms of the file, once they are written.
impl Dictionaries for Checkpoint {
    fn dictionary(&self, group: Group) -> compress_core::Result<Arc<Dictionary>> {
        let mut forms = self.forms().values().filter_map(|form| form.dictionary());
        let form = forms.find(|form| form.group == group);
        let problem = "the model has no such atoms";
        let form = form.ok_or(compress_core::Error::Dictionary { group, problem })?;
        self.atoms(form).map_err(compress_core::Error::source)
    }
}

/// Every dictionary of some forms, once.
pub fn dictionaries(forms: &BTreeMap<Site, Form>) -> BTreeMap<Group, DictionaryForm> {
    let found = forms.values().filter_map(|form| form.dictionary());
    found.map(|form| (form.group, form)).collect()
}

/// The names of all tensors of weights of some forms, atoms included.
pub fn part_names(config: &Config, forms: &BTreeMap<Site, Form>) -> BTreeSet<String> {
    let of_weights = forms
        .iter()
        .flat_map(|(&site, &form)| names::parts(site, form, config.weight_shape(site)));
    let of_atoms = dictionaries(forms).into_iter();
    let of_atoms = of_atoms.flat_map(|(group, form)| {
        let shape = config.weight_shape(group.start());
        names::dictionary_parts(form, shape)
    });
    let parts = of_weights.chain(of_atoms);
    parts.map(|part| part.name).collect()
}

/// Number of parameters: those of the forms, and the elements of all tensors (`sizes`) that belong
/// to no form. Codes count one each; scales, zero points and stored shapes do not count.
pub fn parameters<'a>(
    config: &Config,
    forms: &BTreeMap<Site, Form>,
    sizes: impl Iterator<Item = (&'a str, usize)>,
) -> usize {
    let of_weights = forms.iter();
    let of_weights = of_weights.map(|(&site, form)| form.parameters(config.weight_shape(site)));
    let of_atoms = dictionaries(forms).into_iter();
    let of_atoms =
        of_atoms.map(|(group, form)| form.shape(config.weight_shape(group.start())).size());
    let names = part_names(config, forms);
    let others = sizes.filter(|(name, _)| !names.contains(*name));
    of_weights
        .chain(of_atoms)
        .chain(others.map(|(_, size)| size))
        .sum()
}
