//! The widths of integer codes: 2, 3, 4 and 8 bits, in two's complement, −2^(b−1) to 2^(b−1) − 1.
//!
//! | b | least | greatest | steps | codes per word |
//! |---|---|---|---|---|
//! | 2 | −2 | 1 | 3 | 16 |
//! | 3 | −4 | 3 | 7 | 10 ⅔ |
//! | 4 | −8 | 7 | 15 | 8 |
//! | 8 | −128 | 127 | 255 | 4 |

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Bits per code, b.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Bits {
    /// Codes −2 to 1.
    Two,
    /// Codes −4 to 3.
    Three,
    /// Codes −8 to 7.
    Four,
    /// Codes −128 to 127.
    Eight,
}

impl Bits {
    /// All widths, ascending.
    pub const ALL: [Self; 4] = [Self::Two, Self::Three, Self::Four, Self::Eight];

    /// b as a number.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The least code, −2^(b−1).
    #[must_use]
    pub const fn least(self) -> i8 {
        match self {
            Self::Two => -2,
            Self::Three => -4,
            Self::Four => -8,
            Self::Eight => -128,
        }
    }

    /// The greatest code, 2^(b−1) − 1.
    #[must_use]
    pub const fn greatest(self) -> i8 {
        -1 - self.least()
    }

    /// The steps from the least code to the greatest, 2^b − 1; as bits, the mask of a code.
    #[must_use]
    pub const fn steps(self) -> u8 {
        self.greatest().abs_diff(self.least())
    }
}

impl From<Bits> for u8 {
    fn from(bits: Bits) -> Self {
        bits.count() as Self
    }
}

impl TryFrom<u8> for Bits {
    type Error = Error;

    fn try_from(count: u8) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|&bits| u8::from(bits) == count);
        found.ok_or_else(|| not_bits(&count.to_string()))
    }
}

impl FromStr for Bits {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let count: u8 = text.parse().map_err(|_| not_bits(text))?;
        count.try_into()
    }
}

/// The error of a width that is not known.
fn not_bits(text: &str) -> Error {
    Error::Bits { text: text.into() }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "int{}", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_fill_the_range_of_their_bits() {
        for bits in Bits::ALL {
            assert_eq!(1 << bits.count(), usize::from(bits.steps()) + 1);
            assert_eq!(i16::from(bits.greatest()), -1 - i16::from(bits.least()));
            assert_eq!(Bits::try_from(u8::from(bits)).unwrap(), bits);
        }
        assert!("5".parse::<Bits>().is_err());
        assert!("four".parse::<Bits>().is_err());
        assert_eq!("3".parse::<Bits>().unwrap(), Bits::Three);
    }
}
