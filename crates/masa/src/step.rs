//! The steps of a plan: one for the atoms of a group, and one for each weight that is a mixture of them.

use compress_core::{
    DictionaryForm, Error, Form, Group, PairForm, Precision, Result, Shape, Site, Step,
};
use serde::{Deserialize, Serialize};

/// A step of a plan of matrix atoms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// Makes the atoms of a group.
    Atoms(Atoms),
    /// Makes a weight a mixture of them.
    Mixture(Mixture),
}

/// The atoms of a group of layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Atoms {
    /// Its first weight, which says of which role.
    pub start: Site,
    /// The layers whose weights they are made of, in ascending order from that of `start` on.
    pub layers: Vec<usize>,
    /// S: how many there are.
    pub count: usize,
}

/// The atoms that a mixture is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtomsOf {
    /// The first weight of their group.
    pub start: Site,
    /// S: how many there are.
    pub count: usize,
}

/// A weight as a mixture of atoms, and a low-rank residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixture {
    /// Which weight.
    pub site: Site,
    /// The atoms; without any, the weight is its residual alone, a low-rank pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atoms: Option<AtomsOf>,
    /// The rank of the residual; 0 for none.
    pub residual: usize,
}

impl AtomsOf {
    /// The form of the dictionary, in floats; none where the group begins with no weight of a block.
    fn form(self) -> Option<DictionaryForm> {
        let Site::Block { layer: first, role } = self.start else {
            return None;
        };
        Some(DictionaryForm {
            group: Group { role, first },
            atoms: self.count,
            precision: Precision::Float,
        })
    }
}

impl Atoms {
    /// The atoms, as mixtures name them.
    #[must_use]
    pub const fn reference(&self) -> AtomsOf {
        let (start, count) = (self.start, self.count);
        AtomsOf { start, count }
    }

    /// The weights that they are made of.
    pub fn sites(&self) -> impl Iterator<Item = Site> {
        let role = self.start.role();
        let sites = self.layers.iter();
        sites.filter_map(move |&layer| role.map(|role| Site::new(layer, role)))
    }

    /// Fails where the layers are none that could make up a group, or their number none that they could share.
    fn check(&self, shape: &impl Fn(Site) -> Result<Shape>) -> Result<()> {
        let form = self.reference().form();
        let group = form.ok_or(Error::NoSuchSite { site: self.start })?.group;
        let fail = |problem| Err(Error::Dictionary { group, problem });
        let ascending = self.layers.windows(2).all(|pair| pair[0] < pair[1]);
        if self.layers.first() < Some(&group.first) || !ascending {
            return fail("its layers are to be in ascending order, from its first one on");
        }
        // More atoms than layers would span no more than the layers do.
        if !(1..=self.layers.len()).contains(&self.count) {
            return fail("it has at least one atom, and at most as many as layers");
        }
        let first = shape(self.start)?;
        for site in self.sites() {
            if shape(site)? != first {
                return fail("its weights have different shapes");
            }
        }
        Ok(())
    }
}

impl Mixture {
    /// The atoms that it is made of, in floats; none for a low-rank pair.
    #[must_use]
    pub fn dictionary(self) -> Option<DictionaryForm> {
        self.atoms.and_then(AtomsOf::form)
    }

    fn check(self, shape: impl Fn(Site) -> Result<Shape>) -> Result<()> {
        let Self {
            site,
            atoms,
            residual: rank,
        } = self;
        let shape = shape(site)?;
        let (least, limit) = (usize::from(atoms.is_none()), shape.full_rank());
        if !(least..=limit).contains(&rank) {
            return Err(Error::Rank {
                site,
                rank,
                limit,
                shape,
            });
        }
        let Some(atoms) = atoms else {
            return Ok(());
        };
        let group = atoms.form().map(|form| form.group);
        match group.filter(|group| group.admits(site)) {
            Some(_) => Ok(()),
            None => Err(Error::NoSuchSite { site: atoms.start }),
        }
    }
}

impl Mix {
    /// The mixture, for a step that makes one.
    #[must_use]
    pub const fn mixture(&self) -> Option<Mixture> {
        match self {
            Self::Mixture(mixture) => Some(*mixture),
            Self::Atoms(_) => None,
        }
    }
}

impl Step for Mix {
    const KIND: &'static str = "mix";

    fn forms(&self) -> Vec<(Site, Form)> {
        let Self::Mixture(mixture) = self else {
            return Vec::new();
        };
        let Mixture { site, residual, .. } = *mixture;
        let form = match mixture.dictionary() {
            None => Form::low_rank(residual),
            Some(dictionary) => Form::Shared {
                dictionary,
                residual: (residual > 0).then(|| PairForm::float(residual)),
            },
        };
        vec![(site, form)]
    }

    fn dictionary(&self) -> Option<DictionaryForm> {
        match self {
            Self::Atoms(atoms) => atoms.reference().form(),
            Self::Mixture(_) => None,
        }
    }

    fn check(&self, shape: impl Fn(Site) -> Result<Shape>) -> Result<()> {
        match self {
            Self::Atoms(atoms) => atoms.check(&shape),
            Self::Mixture(mixture) => mixture.check(shape),
        }
    }
}
