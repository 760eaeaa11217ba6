//! Matrix atoms that the weights of one role share over consecutive layers.
//!
//! ```text
//! W_l ≈ Σ_s c_ls D_s      D_s: m × n, s = 1 … S, for layers l of the group; c_l: S numbers of the layer's own
//! ```
//!
//! Atoms are the one thing in a model that no single weight owns: they belong to a [`Group`], are made before any
//! weight that is a mixture of them, and are stored once.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    Error, Matrix, Method, Precision, Result, Role, Scheme, Shape, Site, Step, Store, Survey,
};

/// The weights of one role that may share atoms: those from layer `first` on, up to where the next group of the role
/// begins. Written as its first weight, `3.query`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The role of its weights.
    pub role: Role,
    /// Its first layer.
    pub first: usize,
}

/// The form of a dictionary: how many atoms, and how their numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DictionaryForm {
    /// The weights that it serves.
    pub group: Group,
    /// S: how many atoms it has.
    pub atoms: usize,
    /// How they are kept.
    pub precision: Precision,
}

/// The atoms of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Dictionary {
    /// The weights that it serves.
    pub group: Group,
    /// S: how many atoms it has.
    pub atoms: usize,
    /// The atoms one below the other: S·m × n.
    pub stacked: Store,
}

/// A source of dictionaries that are finished: those that a method has made, as they are stored.
pub trait Dictionaries: Sync {
    /// The atoms of a group; fails where there are none, or they cannot be read.
    fn dictionary(&self, group: Group) -> Result<Arc<Dictionary>>;
}

/// Dictionaries in memory, for models small enough and for outputs that do not store them.
#[derive(Clone, Debug, Default)]
pub struct DictionariesInMemory(BTreeMap<Group, Arc<Dictionary>>);

impl DictionariesInMemory {
    /// All that the steps of a plan make.
    pub fn of<'a, M: Method>(
        method: &M,
        steps: impl IntoIterator<Item = &'a M::Step>,
        survey: &Survey<'_>,
    ) -> Result<Self>
    where
        M::Step: 'a,
    {
        let steps = steps.into_iter();
        let made = steps
            .filter(|step| step.dictionary().is_some())
            .map(|step| {
                let atoms = method.share(step, survey)?;
                Ok((atoms.group, Arc::new(atoms)))
            });
        Ok(Self(made.collect::<Result<_>>()?))
    }
}

impl Dictionaries for DictionariesInMemory {
    fn dictionary(&self, group: Group) -> Result<Arc<Dictionary>> {
        let problem = "its atoms are not made";
        let found = self.0.get(&group).cloned();
        found.ok_or(Error::Dictionary { group, problem })
    }
}

impl Group {
    /// Its first weight, whose shape all have.
    #[must_use]
    pub const fn start(self) -> Site {
        Site::new(self.first, self.role)
    }

    /// Whether a weight can be one of its own.
    #[must_use]
    pub fn admits(self, site: Site) -> bool {
        site.role() == Some(self.role) && site.layer() >= Some(self.first)
    }
}

impl DictionaryForm {
    /// The shape of the stacked atoms, where each has the given one.
    #[must_use]
    pub const fn shape(self, atom: Shape) -> Shape {
        Shape::new(self.atoms * atom.rows, atom.cols)
    }
}

impl Dictionary {
    /// The form without the numbers.
    #[must_use]
    pub const fn form(&self) -> DictionaryForm {
        DictionaryForm {
            group: self.group,
            atoms: self.atoms,
            precision: self.stacked.precision(),
        }
    }

    /// m × n, the shape of an atom and of every weight of the group.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        let Shape { rows, cols } = self.stacked.shape();
        Shape::new(rows / self.atoms, cols)
    }

    /// The same with all atoms rounded to nearest. Fails where the scheme does not fit their shape or a number is not
    /// finite.
    pub fn quantised(&self, scheme: Scheme) -> Result<Self> {
        Ok(Self {
            stacked: self.stacked.quantised(scheme)?,
            ..self.clone()
        })
    }

    /// Σₛ cₛ Dₛ, m × n, for S coefficients; a sum in `f32`, as a model of such weights computes it.
    ///
    /// Fails where there are not S of them.
    pub fn mixed(&self, coefficients: &Matrix) -> Result<Matrix> {
        let Shape { rows, cols } = self.shape();
        let given = coefficients.shape();
        if given.size() != self.atoms {
            let (left, right) = (given, Shape::new(self.atoms, rows * cols));
            return Err(compress_numerics::Error::Product { left, right }.into());
        }
        let stacked = self.stacked.floats();
        let mut mixed = Matrix::zeros(rows, cols);
        // One atom after the other, so that none is copied.
        let atoms = stacked.data().chunks_exact(rows * cols);
        for (atom, coefficient) in atoms.zip(coefficients.data()) {
            let pairs = mixed.data_mut().iter_mut().zip(atom);
            pairs.for_each(|(sum, x)| *sum += coefficient * x);
        }
        Ok(mixed)
    }
}

/// `4 atoms`, `4 atoms, int8 per row`.
impl fmt::Display for DictionaryForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let atoms = if self.atoms == 1 { "atom" } else { "atoms" };
        write!(f, "{} {atoms}", self.atoms)?;
        match self.precision {
            Precision::Float => Ok(()),
            Precision::Quantised(scheme) => write!(f, ", {scheme}"),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.start().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_is_the_sum_of_its_atoms() {
        let stacked = Matrix::from_fn(4, 3, |i, j| (3 * i + j) as f32);
        let dictionary = Dictionary {
            group: Group {
                role: Role::Key,
                first: 0,
            },
            atoms: 2,
            stacked: Store::Float(stacked),
        };
        let mixed = dictionary.mixed(&Matrix::new(1, 2, vec![2.0, -1.0]).unwrap());
        let expected = [-6.0, -5.0, -4.0, -3.0, -2.0, -1.0];
        assert_eq!(mixed.unwrap().data(), expected);
        assert!(dictionary.mixed(&Matrix::zeros(1, 3)).is_err());
    }
}
