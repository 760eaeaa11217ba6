//! A factor: the matrices that take a weight's place, as a structure over stores.
//!
//! A *structure* says how a weight is composed: whole, as a product of two thin matrices, as the sum of a
//! matrix and such a product, or as a mixture of atoms that it shares with other layers. A *store* says how
//! the numbers of one matrix are kept. Any store may stand in any place of any structure.
//!
//! ```
//! use compress_core::{Bits, Factor, Form, Matrix, Pair, Quantised, Scheme, Store};
//!
//! let weight = Matrix::new(2, 4, vec![1.0, -2.0, 0.5, 3.0, 0.0, 1.0, -1.0, 2.0])?;
//! let base = Quantised::nearest(&weight, Scheme::symmetric(Bits::Four, None))?;
//! let factor = Factor::Sum {
//!     base: Store::Quantised(base),
//!     correction: Pair::new(Matrix::zeros(2, 1), Matrix::zeros(1, 4)),
//! };
//! assert_eq!(factor.form().parameters(factor.shape()), 2 * 4 + 1 * (2 + 4));
//! assert!(matches!(factor.form(), Form::Sum { .. }));
//! # Ok::<(), compress_core::Error>(())
//! ```

use std::{borrow::Cow, sync::Arc};

use compress_numerics::linalg;

use crate::{Dictionary, Form, Matrix, PairForm, Precision, Quantised, Result, Scheme, Shape};

/// One matrix in its number format.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// Floating-point numbers.
    Float(Matrix),
    /// Integers of a few bits, with a scale for each group.
    Quantised(Quantised),
}

/// A low-rank pair: two thin matrices whose product is out × in.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// out × r, applied second.
    pub up: Store,
    /// r × in, applied first.
    pub down: Store,
}

/// The replacement of a weight. Every variant denotes one out × in matrix.
#[derive(Clone, Debug, PartialEq)]
pub enum Factor {
    /// W itself.
    Whole(Store),
    /// W ≈ up · down.
    LowRank(Pair),
    /// W ≈ base + up · down.
    Sum {
        /// out × in
        base: Store,
        /// The low-rank approximation of W − base.
        correction: Pair,
    },
    /// W ≈ Σₛ cₛ Dₛ, or W ≈ Σₛ cₛ Dₛ + up · down.
    Shared {
        /// The atoms Dₛ, which other weights have as well.
        dictionary: Arc<Dictionary>,
        /// c, 1 × S.
        coefficients: Store,
        /// The low-rank approximation of W − Σₛ cₛ Dₛ.
        residual: Option<Pair>,
    },
}

impl Store {
    /// Rows × columns.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        match self {
            Self::Float(matrix) => matrix.shape(),
            Self::Quantised(quantised) => quantised.shape(),
        }
    }

    /// Its number format, with the scheme where quantised.
    #[must_use]
    pub const fn precision(&self) -> Precision {
        match self {
            Self::Float(_) => Precision::Float,
            Self::Quantised(quantised) => Precision::Quantised(quantised.scheme()),
        }
    }

    /// The matrix in floats, without a copy where it is kept so.
    #[must_use]
    pub fn floats(&self) -> Cow<'_, Matrix> {
        match self {
            Self::Float(matrix) => Cow::Borrowed(matrix),
            Self::Quantised(quantised) => Cow::Owned(quantised.dense()),
        }
    }

    /// A copy of the matrix, dequantised where needed.
    #[must_use]
    pub fn dense(&self) -> Matrix {
        self.floats().into_owned()
    }

    /// The same rounded to nearest; groups run along the columns. Fails where the scheme does not fit the shape or a
    /// number is not finite.
    pub fn quantised(&self, scheme: Scheme) -> Result<Self> {
        Quantised::nearest(&self.floats(), scheme).map(Self::Quantised)
    }

    /// M · x, rows × t, for the columns of x, cols × t. A quantised matrix is dequantised first: this serves checks,
    /// not inference.
    fn apply(&self, x: &Matrix) -> Result<Matrix> {
        Ok(linalg::product(&self.floats(), x)?)
    }
}

impl Pair {
    /// Two matrices of floating-point numbers: out × r and r × in.
    #[must_use]
    pub const fn new(up: Matrix, down: Matrix) -> Self {
        Self {
            up: Store::Float(up),
            down: Store::Float(down),
        }
    }

    /// r
    #[must_use]
    pub const fn rank(&self) -> usize {
        self.down.shape().rows
    }

    /// The form without the numbers.
    #[must_use]
    pub const fn form(&self) -> PairForm {
        PairForm {
            rank: self.rank(),
            up: self.up.precision(),
            down: self.down.precision(),
        }
    }

    /// The same with both matrices rounded, as [`Store::quantised`] does.
    pub fn quantised(&self, scheme: Scheme) -> Result<Self> {
        Ok(Self {
            up: self.up.quantised(scheme)?,
            down: self.down.quantised(scheme)?,
        })
    }

    /// up · down, out × in.
    pub fn dense(&self) -> Result<Matrix> {
        self.up.apply(&self.down.dense())
    }

    /// up · (down · x), r·(in + out)·t operations instead of in·out·t.
    fn apply(&self, x: &Matrix) -> Result<Matrix> {
        self.up.apply(&self.down.apply(x)?)
    }
}

impl Factor {
    /// A weight of floating-point numbers as it is.
    #[must_use]
    pub const fn whole(weight: Matrix) -> Self {
        Self::Whole(Store::Float(weight))
    }

    /// up · down in floating-point numbers: out × r and r × in.
    #[must_use]
    pub const fn low_rank(up: Matrix, down: Matrix) -> Self {
        Self::LowRank(Pair::new(up, down))
    }

    /// The shape of the weight that it stands for, out × in.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Whole(store) | Self::Sum { base: store, .. } => store.shape(),
            Self::LowRank(pair) => Shape::new(pair.up.shape().rows, pair.down.shape().cols),
            Self::Shared { dictionary, .. } => dictionary.shape(),
        }
    }

    /// The form without the numbers.
    #[must_use]
    pub fn form(&self) -> Form {
        match self {
            Self::Whole(store) => Form::Whole(store.precision()),
            Self::LowRank(pair) => Form::LowRank(pair.form()),
            Self::Sum { base, correction } => Form::Sum {
                base: base.precision(),
                correction: correction.form(),
            },
            Self::Shared {
                dictionary,
                residual,
                ..
            } => Form::Shared {
                dictionary: dictionary.form(),
                residual: residual.as_ref().map(Pair::form),
            },
        }
    }

    /// Its own matrices, in the order of [`Form::stores`]: base or coefficients, `down`, `up`.
    #[must_use]
    pub fn stores(&self) -> Vec<&Store> {
        match self {
            Self::Whole(store) => vec![store],
            Self::LowRank(Pair { up, down }) => vec![down, up],
            Self::Sum {
                base,
                correction: Pair { up, down },
            } => vec![base, down, up],
            Self::Shared {
                coefficients,
                residual,
                ..
            } => {
                let residual = residual.iter().flat_map(|Pair { up, down }| [down, up]);
                [coefficients].into_iter().chain(residual).collect()
            }
        }
    }

    /// The atoms that it shares; none for a weight that shares nothing.
    #[must_use]
    pub const fn dictionary(&self) -> Option<&Arc<Dictionary>> {
        match self {
            Self::Shared { dictionary, .. } => Some(dictionary),
            _ => None,
        }
    }

    /// The inverse of [`stores`](Self::stores) and [`dictionary`](Self::dictionary); none where they are not those of
    /// the form. Shapes are not checked.
    #[must_use]
    pub fn from_stores(
        form: Form,
        stores: Vec<Store>,
        dictionary: Option<Arc<Dictionary>>,
    ) -> Option<Self> {
        match form {
            Form::Whole(_) => {
                let [store] = stores.try_into().ok()?;
                Some(Self::Whole(store))
            }
            Form::LowRank(_) => {
                let [down, up] = stores.try_into().ok()?;
                Some(Self::LowRank(Pair { up, down }))
            }
            Form::Sum { .. } => {
                let [base, down, up] = stores.try_into().ok()?;
                let correction = Pair { up, down };
                Some(Self::Sum { base, correction })
            }
            Form::Shared { residual, .. } => {
                let mut stores = stores.into_iter();
                let coefficients = stores.next()?;
                let found = if residual.is_some() {
                    let [down, up] = [stores.next()?, stores.next()?];
                    Some(Pair { up, down })
                } else {
                    None
                };
                Some(Self::Shared {
                    dictionary: dictionary?,
                    coefficients,
                    residual: found,
                })
            }
        }
    }

    /// The out × in matrix that it denotes, factors multiplied out in `f32`. Fails where the shapes of a pair do not
    /// fit each other.
    pub fn dense(&self) -> Result<Matrix> {
        match self {
            Self::Whole(store) => Ok(store.dense()),
            Self::LowRank(pair) => pair.dense(),
            Self::Sum { base, correction } => {
                let mut dense = base.dense();
                add(&mut dense, &correction.dense()?);
                Ok(dense)
            }
            Self::Shared {
                dictionary,
                coefficients,
                residual,
            } => {
                let mut dense = dictionary.mixed(&coefficients.floats())?;
                if let Some(residual) = residual {
                    add(&mut dense, &residual.dense()?);
                }
                Ok(dense)
            }
        }
    }

    /// W · x, out × t, for the columns of x, in × t, without multiplying the factors out. (Atoms are mixed first: a
    /// product with each of them would cost S times as much.)
    pub fn apply(&self, x: &Matrix) -> Result<Matrix> {
        match self {
            Self::Whole(store) => store.apply(x),
            Self::LowRank(pair) => pair.apply(x),
            Self::Sum { base, correction } => {
                let mut y = base.apply(x)?;
                add(&mut y, &correction.apply(x)?);
                Ok(y)
            }
            Self::Shared {
                dictionary,
                coefficients,
                residual,
            } => {
                let mixed = dictionary.mixed(&coefficients.floats())?;
                let mut y = linalg::product(&mixed, x)?;
                if let Some(residual) = residual {
                    add(&mut y, &residual.apply(x)?);
                }
                Ok(y)
            }
        }
    }
}

/// Adds a matrix of the same shape in place.
fn add(sum: &mut Matrix, more: &Matrix) {
    let pairs = sum.data_mut().iter_mut().zip(more.data());
    pairs.for_each(|(x, y)| *x += y);
}

#[cfg(test)]
mod tests {
    use compress_numerics::Random;

    use super::*;
    use crate::{Bits, Format, testing::factors};

    #[test]
    fn every_form_says_which_matrices_there_will_be() {
        for factor in factors(5, 8).unwrap() {
            let (form, shape) = (factor.form(), factor.shape());
            assert_eq!(shape, Shape::new(5, 8));
            form.check(shape).unwrap();
            let stores = factor.stores().into_iter();
            let found: Vec<_> = stores
                .map(|store| (store.precision(), store.shape()))
                .collect();
            assert_eq!(form.stores(shape), found);
            let stores = factor.stores().into_iter().cloned().collect();
            let dictionary = factor.dictionary().cloned();
            assert_eq!(Factor::from_stores(form, stores, dictionary), Some(factor));
        }
    }

    #[test]
    fn every_factor_applies_as_the_matrix_it_denotes() {
        let x = Random(2).matrix(8, 3);
        for factor in factors(5, 8).unwrap() {
            let dense = Factor::whole(factor.dense().unwrap()).apply(&x).unwrap();
            let distance = factor.apply(&x).unwrap().squared_distance(&dense);
            assert!(
                distance < 1e-10 * dense.squared_norm(),
                "{:?}",
                factor.form()
            );
        }
    }

    #[test]
    fn bytes_are_those_of_all_matrices() {
        let scheme = Scheme::symmetric(Bits::Four, None);
        let form = Form::quantised(scheme, 2);
        let stores = form.stores(Shape::new(5, 8)).into_iter();
        let bytes = stores.map(|(precision, shape)| precision.bytes(shape, Format::F16));
        // A word and a scale for each row, and the shape; then 2 (5 + 8) halves.
        assert_eq!(bytes.sum::<usize>(), 5 * (4 + 2) + 16 + 2 * 2 * 13);
    }
}
