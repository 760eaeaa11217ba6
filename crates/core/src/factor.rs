//! The compressed form of one weight, and the form without its numbers.

use serde::{Deserialize, Serialize};

use crate::{Format, Matrix, Quantised, Result, Scheme, Shape, linalg, packing};

/// How a weight is put together. Every variant denotes one out × in matrix.
#[derive(Clone, Debug, PartialEq)]
pub enum Factor {
    /// W itself.
    Whole(Matrix),
    /// W ≈ up · down.
    LowRank {
        /// out × r
        up: Matrix,
        /// r × in
        down: Matrix,
    },
    /// W ≈ Q + up · down.
    Rounded {
        /// Q: few bits for each number.
        base: Quantised,
        /// What rounding lost; none where that is let go.
        correction: Option<Correction>,
    },
}

/// A low-rank term beside a rounded weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// out × r
    pub up: Matrix,
    /// r × in
    pub down: Matrix,
}

impl Factor {
    /// Output features × input features of the weight that it stands for.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Whole(weight) => weight.shape(),
            Self::LowRank { up, down } => Shape::new(up.rows(), down.cols()),
            Self::Rounded { base, .. } => base.shape(),
        }
    }

    /// The form without the numbers.
    #[must_use]
    pub fn form(&self) -> Form {
        match self {
            Self::Whole(_) => Form::Whole,
            Self::LowRank { up, .. } => Form::LowRank { rank: up.cols() },
            Self::Rounded { base, correction } => Form::Rounded {
                scheme: base.scheme(),
                rank: correction.as_ref().map_or(0, |term| term.up.cols()),
            },
        }
    }

    /// Multiplied out.
    pub fn dense(&self) -> Result<Matrix> {
        match self {
            Self::Whole(weight) => Ok(weight.clone()),
            Self::LowRank { up, down } => linalg::product(up, down),
            Self::Rounded { base, correction } => {
                let mut dense = base.dense();
                if let Some(Correction { up, down }) = correction {
                    add(&mut dense, &linalg::product(up, down)?);
                }
                Ok(dense)
            }
        }
    }

    /// W · x for the columns of x, in × t, without multiplying the factors out.
    pub fn apply(&self, x: &Matrix) -> Result<Matrix> {
        match self {
            Self::Whole(weight) => linalg::product(weight, x),
            Self::LowRank { up, down } => linalg::product(up, &linalg::product(down, x)?),
            Self::Rounded { base, correction } => {
                let mut y = linalg::product(&base.dense(), x)?;
                if let Some(Correction { up, down }) = correction {
                    add(&mut y, &linalg::product(up, &linalg::product(down, x)?)?);
                }
                Ok(y)
            }
        }
    }

    /// The contents of each tensor, by the suffix that its name has.
    #[must_use]
    pub fn tensors(&self) -> Vec<(&'static str, Contents<'_>)> {
        match self {
            Self::Whole(weight) => vec![("weight", Contents::Floats(weight))],
            Self::LowRank { up, down } => vec![
                ("down.weight", Contents::Floats(down)),
                ("up.weight", Contents::Floats(up)),
            ],
            Self::Rounded { base, correction } => {
                let mut tensors = packed_tensors(base);
                if let Some(Correction { up, down }) = correction {
                    tensors.push(("lora_A.weight", Contents::Floats(down)));
                    tensors.push(("lora_B.weight", Contents::Floats(up)));
                }
                tensors
            }
        }
    }
}

/// What is in a tensor.
#[derive(Clone, Debug)]
pub enum Contents<'a> {
    /// Numbers, in whatever format the tensor has.
    Floats(&'a Matrix),
    /// Bytes as they are stored.
    Bytes(Vec<u8>),
}

/// The tensors of `pack-quantized`, as compressed-tensors names them.
fn packed_tensors(base: &Quantised) -> Vec<(&'static str, Contents<'static>)> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let halves = base.scales().iter().flat_map(|scale| scale.to_le_bytes());
    let Shape { rows, cols } = base.shape();
    let shape = [rows as i64, cols as i64];
    let shape = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    let mut tensors = vec![
        ("weight_packed", words(base.words())),
        ("weight_scale", halves.collect()),
        ("weight_shape", shape),
    ];
    if !base.scheme().symmetric {
        tensors.push(("weight_zero_point", words(&base.packed_zeros())));
    }
    let bytes = tensors.into_iter();
    bytes
        .map(|(name, bytes)| (name, Contents::Bytes(bytes)))
        .collect()
}

fn add(sum: &mut Matrix, more: &Matrix) {
    let pairs = sum.data_mut().iter_mut().zip(more.data());
    pairs.for_each(|(x, y)| *x += y);
}

/// How a weight is put together, without the numbers: what a plan can say of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One matrix.
    Whole,
    /// Two factors.
    LowRank {
        /// Columns of `up`, rows of `down`.
        rank: usize,
    },
    /// Few bits for each number, and a correction.
    Rounded {
        /// Bits, groups, symmetry.
        scheme: Scheme,
        /// Rank of the correction; 0 for none.
        rank: usize,
    },
}

/// One tensor of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What its name ends in.
    pub suffix: &'static str,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// What its numbers are.
    pub numbers: Numbers,
}

impl Part {
    /// The tensor's name: within the module, or as PEFT names what is added to it.
    #[must_use]
    pub fn name(&self, module: &str) -> String {
        let suffix = self.suffix;
        match self.numbers {
            Numbers::Correction => format!("base_model.model.{module}.{suffix}"),
            _ => format!("{module}.{suffix}"),
        }
    }
}

/// What the numbers of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Floating-point numbers in the model's format.
    Floats,
    /// Floating-point numbers that belong to a correction, which lies in files of its own.
    Correction,
    /// Scales, f16.
    Scales,
    /// Packed codes, i32.
    Words,
    /// A shape, i64.
    Sizes,
}

impl Numbers {
    /// Bytes of one of them where the model's floats have the given format.
    #[must_use]
    pub const fn bytes(self, format: Format) -> usize {
        match self {
            Self::Floats => format.bytes(),
            Self::Correction | Self::Scales => 2,
            Self::Words => 4,
            Self::Sizes => 8,
        }
    }
}

impl Form {
    /// Every tensor that a weight of this shape then consists of.
    #[must_use]
    pub fn tensors(self, weight: Shape) -> Vec<Part> {
        let part = |suffix, shape: &[usize], numbers| Part {
            suffix,
            shape: shape.to_vec(),
            numbers,
        };
        let Shape { rows, cols } = weight;
        match self {
            Self::Whole => vec![part("weight", &[rows, cols], Numbers::Floats)],
            Self::LowRank { rank } => vec![
                part("down.weight", &[rank, cols], Numbers::Floats),
                part("up.weight", &[rows, rank], Numbers::Floats),
            ],
            Self::Rounded { scheme, rank } => {
                let (words, groups) = (packing::words(scheme.bits, cols), scheme.groups(cols));
                let mut parts = vec![
                    part("weight_packed", &[rows, words], Numbers::Words),
                    part("weight_scale", &[rows, groups], Numbers::Scales),
                    part("weight_shape", &[2], Numbers::Sizes),
                ];
                if !scheme.symmetric {
                    let words = packing::words(scheme.bits, rows);
                    parts.push(part("weight_zero_point", &[words, groups], Numbers::Words));
                }
                if rank > 0 {
                    parts.push(part("lora_A.weight", &[rank, cols], Numbers::Correction));
                    parts.push(part("lora_B.weight", &[rows, rank], Numbers::Correction));
                }
                parts
            }
        }
    }

    /// How many numbers the weight then takes, however few bits each has.
    #[must_use]
    pub const fn parameters(self, weight: Shape) -> usize {
        match self {
            Self::Whole => weight.size(),
            Self::LowRank { rank } => weight.low_rank_size(rank),
            Self::Rounded { rank, .. } => weight.size() + weight.low_rank_size(rank),
        }
    }

    /// How many bytes the weight then takes where its floats have the given format.
    #[must_use]
    pub fn bytes(self, weight: Shape, format: Format) -> usize {
        let bytes = |part: &Part| part.numbers.bytes(format) * part.shape.iter().product::<usize>();
        self.tensors(weight).iter().map(bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Factor {
        Factor::LowRank {
            up: Matrix::from_fn(5, 2, |i, j| (i + j) as f32 - 1.5),
            down: Matrix::from_fn(2, 4, |i, j| 0.5 * i as f32 - j as f32),
        }
    }

    #[test]
    fn a_low_rank_pair_applies_as_the_matrix_it_denotes() {
        let x = Matrix::from_fn(4, 3, |i, j| (i * 3 + j) as f32);
        let direct = example().apply(&x).unwrap();
        let dense = Factor::Whole(example().dense().unwrap()).apply(&x).unwrap();
        assert!(direct.squared_distance(&dense) < 1e-8 * dense.squared_norm());
    }

    #[test]
    fn a_form_foretells_the_tensors_of_its_factor() {
        let factor = example();
        let told = factor.form().tensors(factor.shape());
        let told: Vec<_> = told.iter().map(|p| (p.suffix, p.shape.clone())).collect();
        let found = factor.tensors().into_iter().map(|(name, contents)| {
            let Contents::Floats(m) = contents else {
                panic!("{name} has no floats")
            };
            (name, vec![m.rows(), m.cols()])
        });
        assert_eq!(told, found.collect::<Vec<_>>());
        assert_eq!(
            factor.form().bytes(factor.shape(), Format::F16),
            2 * (5 * 2 + 2 * 4)
        );
    }
}
