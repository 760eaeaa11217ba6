//! The form of a weight: a factor without its numbers, which is all that a plan needs to say.

use std::fmt;

use crate::{Format, Result, Scheme, Shape};

/// How the numbers of a matrix are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Floating-point numbers, in a format that the model decides.
    Float,
    /// Integers of a few bits.
    Quantised(Scheme),
}

/// A pair without its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairForm {
    /// Columns of `up`, rows of `down`.
    pub rank: usize,
    /// How `up` is kept.
    pub up: Precision,
    /// How `down` is kept.
    pub down: Precision,
}

/// How a weight is put together, without the numbers: what a plan can say of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One matrix.
    Whole(Precision),
    /// Two thin matrices.
    LowRank(PairForm),
    /// A matrix and two thin ones.
    Sum {
        /// How the matrix is kept.
        base: Precision,
        /// What is added to it.
        correction: PairForm,
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

/// `whole`, `int4 g32`, `rank 8`, `rank 8, int8 per row`, `int4 g32 + rank 8`.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(Precision::Float) => f.pad("whole"),
            Self::Whole(precision) => f.pad(&precision.to_string()),
            Self::LowRank(pair) => f.pad(&pair.to_string()),
            Self::Sum { base, correction } => f.pad(&format!("{base} + {correction}")),
        }
    }
}

impl fmt::Display for PairForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}", self.rank)?;
        match (self.down, self.up) {
            (Precision::Float, Precision::Float) => Ok(()),
            (down, up) if down == up => write!(f, ", {down}"),
            (down, up) => write!(f, ", {down} and {up}"),
        }
    }
}

impl Precision {
    /// Whether a matrix of this shape can be kept so: its columns make whole groups.
    pub fn check(self, shape: Shape) -> Result<()> {
        match self {
            Self::Float => Ok(()),
            Self::Quantised(scheme) => scheme.check(shape),
        }
    }

    /// Bytes of a matrix where floats have the given format.
    #[must_use]
    pub fn bytes(self, shape: Shape, format: Format) -> usize {
        match self {
            Self::Float => shape.size() * format.bytes(),
            Self::Quantised(scheme) => scheme.bytes(shape),
        }
    }

    /// How it is rounded; none where it is not.
    #[must_use]
    pub const fn scheme(self) -> Option<Scheme> {
        match self {
            Self::Float => None,
            Self::Quantised(scheme) => Some(scheme),
        }
    }
}

impl PairForm {
    /// Two matrices of floating-point numbers.
    #[must_use]
    pub const fn float(rank: usize) -> Self {
        Self {
            rank,
            up: Precision::Float,
            down: Precision::Float,
        }
    }

    /// Two matrices that are rounded alike.
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
    /// A weight of floating-point numbers as it is.
    pub const WHOLE: Self = Self::Whole(Precision::Float);

    /// Two thin matrices of floating-point numbers.
    #[must_use]
    pub const fn low_rank(rank: usize) -> Self {
        Self::LowRank(PairForm::float(rank))
    }

    /// A weight that is rounded, and corrected by a pair of floating-point numbers unless its rank is 0.
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

    /// Every matrix that a weight of this shape consists of: `down` before `up`, a base before both.
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
        }
    }

    /// Whether a weight of this shape can have the form.
    pub fn check(self, weight: Shape) -> Result<()> {
        let mut stores = self.stores(weight).into_iter();
        stores.try_for_each(|(precision, shape)| precision.check(shape))
    }

    /// How many numbers the weight then takes, however few bits each has.
    #[must_use]
    pub fn parameters(self, weight: Shape) -> usize {
        let stores = self.stores(weight).into_iter();
        stores.map(|(_, shape)| shape.size()).sum()
    }

    /// The rank of a weight that is kept as two thin matrices and nothing else.
    #[must_use]
    pub const fn rank(self) -> Option<usize> {
        match self {
            Self::LowRank(pair) => Some(pair.rank),
            _ => None,
        }
    }

    /// The rank of what is added to a base; 0 where nothing is.
    #[must_use]
    pub const fn correction(self) -> usize {
        match self {
            Self::Sum { correction, .. } => correction.rank,
            _ => 0,
        }
    }
}
