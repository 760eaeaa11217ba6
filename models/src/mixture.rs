//! A weight that is a mixture of atoms, which are in memory once for all layers that share them.
//!
//! ```text
//! W = Σₛ cₛ Dₛ + up · down          D: S·m × n, the S atoms one below the other
//!
//! by its matrix   Σₛ cₛ Dₛ, then its product with X    S·m·n + t·m·n multiplications for t tokens
//! by the atoms    X Dᵀ, then the sum of its S parts    t·S·m·n
//! ```
//!
//! Each product goes the way that is less work: one token, or any number of them with one atom, by the atoms; else by
//! the matrix, which is let go of after the product.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use compress_core::{DictionaryForm, Form, Group, Shape};
use compress_numerics::linalg::Right;

use crate::{
    Pair, Result, Store,
    host::{self, numbers, plain},
    product::{product, product_of_transposed},
    store::selected,
};

/// What becomes of mixtures of atoms when a network is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mixtures {
    /// They are multiplied out: a matrix for each layer, and no more work than any weight is.
    #[default]
    MultipliedOut,
    /// They stay what they are: atoms are in memory once, and every product has to mix them.
    Shared,
}

/// Σₛ cₛ Dₛ, or that plus up · down, out × in.
#[derive(Module, Debug)]
pub struct Mixture {
    /// The atoms one below the other. Those of all layers of a group are one matrix in memory.
    pub atoms: Store,
    /// c, 1 × S, in floats.
    pub coefficients: Store,
    /// up · down, the layer's own.
    pub residual: Option<Pair>,
    /// The form of the atoms, in files.
    #[module(skip)]
    pub dictionary: DictionaryForm,
}

impl Mixture {
    /// The weights that share the atoms.
    #[must_use]
    pub const fn group(&self) -> Group {
        self.dictionary.group
    }

    /// Output features × input features: the shape of an atom.
    pub(crate) fn shape(&self) -> Shape {
        let Shape { rows, cols } = self.atoms.shape();
        Shape::new(rows / self.dictionary.atoms, cols)
    }

    /// Atoms and residual, without the numbers.
    pub(crate) fn form(&self) -> Form {
        Form::Shared {
            dictionary: self.dictionary,
            residual: self.residual.as_ref().map(Pair::form),
        }
    }

    /// X Wᵀ: tokens × in to tokens × out.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mixed = if self.is_by_atoms(&x) {
            let parts = self.atoms.forward(x.clone()); // tokens × S·out
            let weighted = self.by_atom(parts) * self.coefficients_by_atom(&x.device());
            let [tokens, _, outputs] = weighted.dims();
            weighted.sum_dim(1).reshape([tokens, outputs])
        } else {
            product(x.clone(), self.mixed(&x.device()), Right::Transposed)
        };
        match &self.residual {
            Some(pair) => mixed + pair.forward(x),
            None => mixed,
        }
    }

    /// G W: tokens × out to tokens × in.
    pub(crate) fn backward(&self, g: Tensor<2>) -> Tensor<2> {
        let mixed = if self.is_by_atoms(&g) {
            let [tokens, outputs] = g.dims();
            let coefficients = self.coefficients_by_atom(&g.device());
            let parts = g.clone().reshape([tokens, 1, outputs]) * coefficients;
            let width = self.dictionary.atoms * outputs;
            self.atoms.backward(parts.reshape([tokens, width]))
        } else {
            product(g.clone(), self.mixed(&g.device()), Right::AsIs)
        };
        match &self.residual {
            Some(pair) => mixed + pair.backward(g),
            None => mixed,
        }
    }

    /// Gradients by atoms and coefficients, in their shapes, from X, tokens × in, and G, tokens × out:
    ///
    /// ```text
    /// M = Gᵀ X     ∂L/∂Dₛ = cₛ M     ∂L/∂cₛ = Σ Dₛ ∘ M
    /// ```
    ///
    /// The gradient by the atoms is one layer's share: theirs is the sum over all layers that read them.
    #[must_use]
    pub fn gradients(&self, x: &Tensor<2>, g: &Tensor<2>) -> [Tensor<2>; 2] {
        let m = product_of_transposed(g.clone(), x.clone());
        let (count, [rows, cols], device) = (self.dictionary.atoms, m.dims(), m.device());
        let m: Tensor<3> = m.reshape([1, rows, cols]);
        let coefficients = self.coefficients.dense(&device).reshape([count, 1, 1]);
        let by_atoms = (m.clone() * coefficients).reshape([count * rows, cols]);
        let atoms: Tensor<3> = self.atoms.dense(&device).reshape([count, rows, cols]);
        // One dimension after the other: burn's sum of all numbers has an order that its threads decide.
        let by_coefficients = (atoms * m).sum_dim(2).sum_dim(1);
        [by_atoms, by_coefficients.reshape([1, count])]
    }

    /// Rows of W.
    pub(crate) fn rows(&self, indices: &[u32], device: &Device) -> Result<Tensor<2>> {
        let mixed = selected(self.mixed(device), indices, device);
        Ok(match &self.residual {
            Some(pair) => mixed + pair.rows(indices, device)?,
            None => mixed,
        })
    }

    /// Whether products with so many rows take less work by the atoms than by the mixed matrix: t·S ≤ S + t. Where both
    /// are as much (two of two), the atoms need no room for a matrix.
    fn is_by_atoms(&self, x: &Tensor<2>) -> bool {
        let (tokens, atoms) = (x.dims()[0], self.dictionary.atoms);
        tokens * atoms <= tokens + atoms
    }

    /// tokens × S·out, the outputs of one atom after the other, as tokens × S × out.
    fn by_atom(&self, x: Tensor<2>) -> Tensor<3> {
        let ([tokens, width], atoms) = (x.dims(), self.dictionary.atoms);
        x.reshape([tokens, atoms, width / atoms])
    }

    /// c as 1 × S × 1.
    fn coefficients_by_atom(&self, device: &Device) -> Tensor<3> {
        let shape = [1, self.dictionary.atoms, 1];
        self.coefficients.dense(device).reshape(shape)
    }

    /// Σₛ cₛ Dₛ, out × in, on its device.
    fn mixed(&self, device: &Device) -> Tensor<2> {
        self.mixed_on_host().unwrap_or_else(|| {
            let (rows, atoms) = (self.shape().rows, self.atoms.dense(device));
            let coefficients = self.coefficients.dense(device);
            let one = |s| {
                let atom = atoms.clone().narrow(0, s * rows, rows);
                atom * coefficients.clone().narrow(1, s, 1)
            };
            (1..self.dictionary.atoms).fold(one(0), |sum, s| sum + one(s))
        })
    }

    /// The same on the CPU, row by row: rounded atoms are decoded no further, and sums have the order of
    /// [`compress_core::Dictionary::mixed`]. None where anything is on a GPU or under autodiff.
    fn mixed_on_host(&self) -> Option<Tensor<2>> {
        let Shape { rows, cols } = self.shape();
        let coefficients = self.numbers_of_coefficients()?;
        let mut mixed = vec![0.0; rows * cols];
        let mut add = |row: usize, coefficient: f32, atom: &[f32]| {
            let sums = mixed[row * cols..].iter_mut().zip(atom);
            sums.for_each(|(sum, x)| *sum += coefficient * x);
        };
        let places = (0..rows).flat_map(|row| {
            (0..)
                .zip(&coefficients)
                .map(move |(s, c)| (row, s * rows + row, *c))
        });
        match &self.atoms {
            Store::Float(atoms) => {
                let atoms = plain(&atoms.val())?;
                let atoms = numbers(&atoms)?;
                for (row, place, coefficient) in places {
                    add(row, coefficient, &atoms[place * cols..][..cols]);
                }
            }
            Store::Packed(atoms) => {
                let atoms = atoms.on_host()?.packed().ok()?;
                for (row, place, coefficient) in places {
                    add(row, coefficient, &atoms.row(place));
                }
            }
        }
        Some(host::tensor(mixed, [rows, cols]))
    }

    /// c as numbers, where it is on the CPU and not under autodiff.
    pub(crate) fn numbers_of_coefficients(&self) -> Option<Vec<f32>> {
        let coefficients = plain(&self.coefficients.float()?.val())?;
        Some(numbers(&coefficients)?.to_vec())
    }
}
