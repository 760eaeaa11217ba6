//! How far a model is to be compressed: the fraction of parameters that stay.
//!
//! Parameters are counted, not bytes: quantisation has the same number of them. Methods of quantisation ignore a budget
//! and go by their bits.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The fraction of the parameters of the chosen sites that may stay, in (0, 1]. Sites that were not chosen, norms and
/// biases count on neither side.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct Budget(f64);

impl Budget {
    /// Everything stays; under it a method plans no steps.
    pub const ALL: Self = Self(1.0);

    /// The default where no budget is given: 80 % of the parameters stay.
    pub const USUAL: Self = Self(0.8);

    /// A budget that keeps the given fraction; fails outside (0, 1] and for NaN.
    pub fn keep(fraction: f64) -> Result<Self> {
        if fraction > 0.0 && fraction <= 1.0 {
            Ok(Self(fraction))
        } else {
            Err(Error::Budget { keep: fraction })
        }
    }

    /// The kept fraction.
    #[must_use]
    pub const fn fraction(self) -> f64 {
        self.0
    }
}

impl From<Budget> for f64 {
    fn from(budget: Budget) -> Self {
        budget.0
    }
}

impl TryFrom<f64> for Budget {
    type Error = Error;

    fn try_from(fraction: f64) -> Result<Self> {
        Self::keep(fraction)
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = "a fraction above 0 and at most 1";
        let fraction = text.parse().map_err(|_| Error::Parse {
            text: text.into(),
            expected,
        })?;
        Self::keep(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fractions_above_zero_and_at_most_one_are_budgets() {
        for keep in ["1", "0.8", "1e-9"] {
            assert!(keep.parse::<Budget>().is_ok(), "{keep}");
        }
        for keep in ["0", "-0.1", "1.01", "nan", "inf", "80%", ""] {
            assert!(keep.parse::<Budget>().is_err(), "{keep}");
        }
    }
}
