//! The form of a weight: the structure of a factor and the precision of its matrices, without the numbers.
//!
//! ```text
//! whole      W              m·n numbers
//! low rank   up · down      r·(m + n)
//! sum        base + up·down m·n + r·(m + n)      m outputs × n inputs, up m × r, down r × n
//! shared     Σ cₛ Dₛ        S                    atoms Dₛ of several layers, S·m·n once for all of them
//!            … + up·down    S + r·(m + n)
//! ```
//!
//! Sizes, plans and file layouts need no more than this, so they are known before any weight is compressed.

use std::fmt;

use crate::{DictionaryForm, Format, Result, Scheme, Shape};

/// The number format of one matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Floats, in the format of the output checkpoint.
    Float,
    /// Integer codes of a few bits, with scales.
    Quantised(Scheme),
}

/// The form of a low-rank pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairForm {
    /// r: the columns of `up` and the rows of `down`.
    pub rank: usize,
    /// How `up` is kept.
    pub up: Precision,
    /// How `down` is kept.
    pub down: Precision,
}

/// The structure of a weight, with the precision of each matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One matrix, m × n.
    Whole(Precision),
    /// Two thin matrices whose product takes the weight's place.
    LowRank(PairForm),
    /// A matrix, usually quantised, plus a low-rank correction of its error.
    Sum {
        /// How the matrix is kept.
        base: Precision,
        /// The low-rank correction.
        correction: PairForm,
    },
    /// A mixture of matrix atoms, which a group of layers owns, plus a low-rank residual of the weight's own.
    Shared {
        /// The atoms: no part of the weight's own numbers.
        dictionary: DictionaryForm,
        /// The low-rank residual, if there is one.
        residual: Option<PairForm>,
    },
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float => f.pad("float"),
            Self::Quantised(scheme) => f.pad(&scheme.to_string()),
        }
    }
}

/// `whole`, `int4 g32`, `rank 8`, `rank 8, int8 per row`, `int4 g32 + rank 8`, `4 atoms + rank 8`.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(Precision::Float) => f.pad("whole"),
            Self::Whole(precision) => f.pad(&precision.to_string()),
            Self::LowRank(pair) => f.pad(&pair.to_string()),
            Self::Sum { base, correction } => f.pad(&format!("{base} + {correction}")),
            Self::Shared {
                dictionary,
                residual,
            } => {
                let residual = residual.map_or_else(String::new, |pair| format!(" + {pair}"));
                f.pad(&format!("{dictionary}{residual}"))
            }
        }
    }
}

impl fmt::Display for PairForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}", self.rank)?;
        match (self.down, self.up) {
            (Precision::Float, Precision::Float) => Ok(()),
            // The usual case: both are rounded by the same `--factor-bits`.
            (down, up) if down == up => write!(f, ", {down}"),
            (down, up) => write!(f, ", {down} and {up}"),
        }
    }
}

impl Precision {
    /// Fails where a matrix of this shape cannot be stored so: a group size does not divide its columns.
    pub fn check(self, shape: Shape) -> Result<()> {
        match self {
            Self::Float => Ok(()),
            Self::Quantised(scheme) => scheme.check(shape),
        }
    }

    /// Bytes of a matrix of this shape on disk, with floats in the given format.
    #[must_use]
    pub fn bytes(self, shape: Shape, format: Format) -> usize {
        match self {
            Self::Float => shape.size() * format.bytes(),
            Self::Quantised(scheme) => scheme.bytes(shape),
        }
    }

    /// The quantisation scheme; none for floats.
    #[must_use]
    pub const fn scheme(self) -> Option<Scheme> {
        match self {
            Self::Float => None,
            Self::Quantised(scheme) => Some(scheme),
        }
    }
}

impl PairForm {
    /// A pair of float matrices.
    #[must_use]
    pub const fn float(rank: usize) -> Self {
        Self {
            rank,
            up: Precision::Float,
            down: Precision::Float,
        }
    }

    /// A pair of matrices rounded by one scheme.
    #[must_use]
    pub const fn quantised(rank: usize, scheme: Scheme) -> Self {
        let precision = Precision::Quantised(scheme);
        Self {
            rank,
            up: precision,
            down: precision,
        }
    }
}

impl Form {
    /// A float weight, unchanged.
    pub const WHOLE: Self = Self::Whole(Precision::Float);

    /// A low-rank pair of floats.
    #[must_use]
    pub const fn low_rank(rank: usize) -> Self {
        Self::LowRank(PairForm::float(rank))
    }

    /// A quantised weight, with a float correction of the given rank unless that is 0.
    #[must_use]
    pub const fn quantised(scheme: Scheme, correction: usize) -> Self {
        let base = Precision::Quantised(scheme);
        match correction {
            0 => Self::Whole(base),
            rank => Self::Sum {
                base,
                correction: PairForm::float(rank),
            },
        }
    }

    /// The matrices of a weight of this shape, with their precision and shape: base or coefficients, `down`, `up`. Files
    /// list them in this order. Atoms are not among them, since several weights own them.
    #[must_use]
    pub fn stores(self, weight: Shape) -> Vec<(Precision, Shape)> {
        let Shape { rows, cols } = weight;
        let pair = |PairForm { rank, up, down }| {
            [(down, Shape::new(rank, cols)), (up, Shape::new(rows, rank))]
        };
        match self {
            Self::Whole(precision) => vec![(precision, weight)],
            Self::LowRank(form) => pair(form).into(),
            Self::Sum { base, correction } => {
                let [down, up] = pair(correction);
                vec![(base, weight), down, up]
            }
            Self::Shared {
                dictionary,
                residual,
            } => {
                let coefficients = (Precision::Float, Shape::new(1, dictionary.atoms));
                let residual = residual.map(pair).into_iter().flatten();
                [coefficients].into_iter().chain(residual).collect()
            }
        }
    }

    /// Fails where a group size does not divide the columns of one of the matrices. The rank is the step's to check.
    pub fn check(self, weight: Shape) -> Result<()> {
        let atoms = self.dictionary();
        let atoms = atoms.map(|atoms| (atoms.precision, atoms.shape(weight)));
        let mut stores = self.stores(weight).into_iter().chain(atoms);
        stores.try_for_each(|(precision, shape)| precision.check(shape))
    }

    /// The numbers that are stored for this weight alone, however few bits each has: m·n, r·(m + n), or both together.
    #[must_use]
    pub fn parameters(self, weight: Shape) -> usize {
        let stores = self.stores(weight).into_iter();
        stores.map(|(_, shape)| shape.size()).sum()
    }

    /// The rank of a low-rank pair; none for other structures.
    #[must_use]
    pub const fn rank(self) -> Option<usize> {
        match self {
            Self::LowRank(pair) => Some(pair.rank),
            _ => None,
        }
    }

    /// Whether several matrices take the weight's place within the model, which it then needs code of its own for.
    #[must_use]
    pub const fn is_factored(self) -> bool {
        matches!(self, Self::LowRank(_) | Self::Shared { .. })
    }

    /// The atoms that it is a mixture of; none for a weight that shares nothing.
    #[must_use]
    pub const fn dictionary(self) -> Option<DictionaryForm> {
        match self {
            Self::Shared { dictionary, .. } => Some(dictionary),
            _ => None,
        }
    }

    /// The rank of the correction of a sum; 0 for other structures.
    #[must_use]
    pub const fn correction(self) -> usize {
        match self {
            Self::Sum { correction, .. } => correction.rank,
            _ => 0,
        }
    }
}
