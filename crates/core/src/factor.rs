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
    /// W ≈ up · down, both of few bits.
    RoundedPair {
        /// out × r
        up: Quantised,
        /// r × in
        down: Quantised,
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
            Self::RoundedPair { up, down } => Shape::new(up.shape().rows, down.shape().cols),
            Self::Rounded { base, .. } => base.shape(),
        }
    }

    /// The form without the numbers.
    #[must_use]
    pub fn form(&self) -> Form {
        match self {
            Self::Whole(_) => Form::Whole,
            Self::LowRank { up, .. } => Form::LowRank { rank: up.cols() },
            Self::RoundedPair { down, .. } => Form::RoundedPair {
                scheme: down.scheme(),
                rank: down.shape().rows,
            },
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
            Self::RoundedPair { up, down } => linalg::product(&up.dense(), &down.dense()),
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
            Self::RoundedPair { up, down } => {
                linalg::product(&up.dense(), &linalg::product(&down.dense(), x)?)
            }
            Self::Rounded { base, correction } => {
                let mut y = linalg::product(&base.dense(), x)?;
                if let Some(Correction { up, down }) = correction {
                    add(&mut y, &linalg::product(up, &linalg::product(down, x)?)?);
                }
                Ok(y)
            }
        }
    }

    /// Its matrices of floating-point numbers, by the suffixes that their names have.
    #[must_use]
    pub fn floats(&self) -> Vec<(&'static str, &Matrix)> {
        match self {
            Self::Whole(weight) => vec![("weight", weight)],
            Self::LowRank { up, down } => vec![("down.weight", down), ("up.weight", up)],
            Self::RoundedPair { .. } => Vec::new(),
            Self::Rounded { correction, .. } => match correction {
                Some(Correction { up, down }) => {
                    vec![("lora_A.weight", down), ("lora_B.weight", up)]
                }
                None => Vec::new(),
            },
        }
    }

    /// The contents of each tensor, by the suffix that its name has.
    #[must_use]
    pub fn tensors(&self) -> Vec<(&'static str, Contents<'_>)> {
        let mut tensors = match self {
            Self::Whole(_) | Self::LowRank { .. } => Vec::new(),
            Self::RoundedPair { up, down } => {
                let mut tensors = packed_tensors(down, &DOWN);
                tensors.append(&mut packed_tensors(up, &UP));
                tensors
            }
            Self::Rounded { base, .. } => packed_tensors(base, &OWN),
        };
        let floats = self.floats().into_iter();
        tensors.extend(floats.map(|(suffix, matrix)| (suffix, Contents::Floats(matrix))));
        tensors
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

/// The tensors of `pack-quantized`, as compressed-tensors names them: codes, scales, shape, zero points.
type Suffixes = [&'static str; 4];

const OWN: Suffixes = [
    "weight_packed",
    "weight_scale",
    "weight_shape",
    "weight_zero_point",
];
const DOWN: Suffixes = [
    "down.weight_packed",
    "down.weight_scale",
    "down.weight_shape",
    "down.weight_zero_point",
];
const UP: Suffixes = [
    "up.weight_packed",
    "up.weight_scale",
    "up.weight_shape",
    "up.weight_zero_point",
];

fn packed_tensors(
    base: &Quantised,
    [codes, scales, size, zeros]: &Suffixes,
) -> Vec<(&'static str, Contents<'static>)> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let halves = base.scales().iter().flat_map(|scale| scale.to_le_bytes());
    let Shape { rows, cols } = base.shape();
    let shape = [rows as i64, cols as i64];
    let shape = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    let mut tensors = vec![
        (*codes, words(base.words())),
        (*scales, halves.collect()),
        (*size, shape),
    ];
    if !base.scheme().symmetric {
        tensors.push((*zeros, words(&base.packed_zeros())));
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
    /// Two factors of few bits.
    RoundedPair {
        /// Bits, groups, symmetry.
        scheme: Scheme,
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
    /// Whether what is rounded makes whole groups, in a weight of this shape.
    pub fn check(self, weight: Shape) -> Result<()> {
        match self {
            Self::Whole | Self::LowRank { .. } => Ok(()),
            Self::Rounded { scheme, .. } => scheme.check(weight),
            Self::RoundedPair { scheme, rank } => {
                scheme.check(Shape::new(rank, weight.cols))?;
                scheme.check(Shape::new(weight.rows, rank))
            }
        }
    }

    /// Every tensor that a weight of this shape then consists of.
    #[must_use]
    pub fn tensors(self, weight: Shape) -> Vec<Part> {
        let Shape { rows, cols } = weight;
        match self {
            Self::Whole => vec![part("weight", &[rows, cols], Numbers::Floats)],
            Self::LowRank { rank } => vec![
                part("down.weight", &[rank, cols], Numbers::Floats),
                part("up.weight", &[rows, rank], Numbers::Floats),
            ],
            Self::RoundedPair { scheme, rank } => {
                let mut parts = packed_parts(Shape::new(rank, cols), scheme, &DOWN);
                parts.append(&mut packed_parts(Shape::new(rows, rank), scheme, &UP));
                parts
            }
            Self::Rounded { scheme, rank } => {
                let mut parts = packed_parts(weight, scheme, &OWN);
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
            Self::LowRank { rank } | Self::RoundedPair { rank, .. } => weight.low_rank_size(rank),
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

fn part(suffix: &'static str, shape: &[usize], numbers: Numbers) -> Part {
    Part {
        suffix,
        shape: shape.to_vec(),
        numbers,
    }
}

/// What [`packed_tensors`] gives for a matrix of this shape.
fn packed_parts(
    Shape { rows, cols }: Shape,
    scheme: Scheme,
    [codes, scales, size, zeros]: &Suffixes,
) -> Vec<Part> {
    let (words, groups) = (packing::words(scheme.bits, cols), scheme.groups(cols));
    let mut parts = vec![
        part(codes, &[rows, words], Numbers::Words),
        part(scales, &[rows, groups], Numbers::Scales),
        part(size, &[2], Numbers::Sizes),
    ];
    if !scheme.symmetric {
        let words = packing::words(scheme.bits, rows);
        parts.push(part(zeros, &[words, groups], Numbers::Words));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bits, Random};

    /// Every way in which a weight of 5 × 8 is put together.
    fn examples() -> [Factor; 5] {
        let rounded = |m: &Matrix, symmetric| {
            let scheme = Scheme {
                symmetric,
                ..Scheme::symmetric(Bits::Eight, None)
            };
            Quantised::nearest(m, scheme).unwrap()
        };
        let mut random = Random(1);
        let (whole, up, down) = (
            random.matrix(5, 8),
            random.matrix(5, 2),
            random.matrix(2, 8),
        );
        [
            Factor::RoundedPair {
                up: rounded(&up, true),
                down: rounded(&down, true),
            },
            Factor::Rounded {
                base: rounded(&whole, false),
                correction: None,
            },
            Factor::Rounded {
                base: rounded(&whole, true),
                correction: Some(Correction {
                    up: up.clone(),
                    down: down.clone(),
                }),
            },
            Factor::LowRank { up, down },
            Factor::Whole(whole),
        ]
    }

    #[test]
    fn every_form_foretells_the_tensors_and_their_bytes() {
        for factor in examples() {
            let (form, shape) = (factor.form(), factor.shape());
            form.check(shape).unwrap();
            let (told, found) = (form.tensors(shape), factor.tensors());
            assert_eq!(told.len(), found.len());
            for (part, (suffix, contents)) in told.iter().zip(found) {
                assert_eq!(part.suffix, suffix);
                let count: usize = part.shape.iter().product();
                match contents {
                    Contents::Floats(m) => assert_eq!(part.shape, [m.rows(), m.cols()]),
                    Contents::Bytes(bytes) => {
                        assert_eq!(bytes.len(), count * part.numbers.bytes(Format::F32));
                    }
                }
            }
        }
    }

    #[test]
    fn every_factor_applies_as_the_matrix_it_denotes() {
        let x = Random(2).matrix(8, 3);
        for factor in examples() {
            let dense = Factor::Whole(factor.dense().unwrap()).apply(&x).unwrap();
            let distance = factor.apply(&x).unwrap().squared_distance(&dense);
            assert!(
                distance < 1e-10 * dense.squared_norm(),
                "{:?}",
                factor.form()
            );
        }
    }

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
