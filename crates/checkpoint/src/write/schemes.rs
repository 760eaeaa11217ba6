//! The quantisation schemes of an output: which there are, and what can be written down of them.
//!
//! Weights of one scheme make a group of `quantization_config`; all corrections are one adapter.

use std::collections::BTreeMap;

use compress_core::{Form, Precision, Scheme, Shape, Site};

use crate::{Error, Result};

/// The schemes of a model, each once, in the order of the first site that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schemes {
    /// Those of the blocks' weights.
    pub blocks: Vec<Scheme>,
    /// Those of embedding and head.
    pub ends: Vec<Scheme>,
}

impl Schemes {
    /// The schemes of a set of forms.
    #[must_use]
    pub fn of(forms: &BTreeMap<Site, Form>) -> Self {
        let mut found = Self::default();
        for (site, form) in forms {
            let place = match site.role() {
                Some(_) => &mut found.blocks,
                None => &mut found.ends,
            };
            for scheme in schemes(*form) {
                if !place.contains(&scheme) {
                    place.push(scheme);
                }
            }
        }
        found
    }
}

/// The schemes of all rounded matrices of a form: two where both factors of a pair are rounded.
pub fn schemes(form: Form) -> impl Iterator<Item = Scheme> {
    // The shape decides nothing of how numbers are kept.
    let stores = form.stores(Shape::new(0, 0)).into_iter();
    let stores = stores.map(|(precision, _)| precision);
    let atoms = form.dictionary().map(|atoms| atoms.precision);
    stores.chain(atoms).filter_map(Precision::scheme)
}

/// Refuses corrections of two ranks: an adapter has one. Fails with [`Error::Mixed`].
pub fn check_ranks(forms: &BTreeMap<Site, Form>) -> Result<()> {
    let mut corrected = forms.iter().filter(|(_, form)| form.correction() > 0);
    let Some((&other, first)) = corrected.next() else {
        return Ok(());
    };
    match corrected.find(|(_, form)| form.correction() != first.correction()) {
        Some((&site, _)) => Err(Error::Mixed { site, other }),
        None => Ok(()),
    }
}
