//! Attention by heads, and the turn of a block's heads that changes nothing.
//!
//! ```text
//! value    rows by key-value heads    V[g] ← R_g V[p_g]             its bias the same
//! output   columns by query heads     O[g, j] ← O[p_g, j] R_gᵀ      what a head gives is R_g times what it gave
//! query    rows by query heads        Q[g, j] ← Q[p_g, j]           its bias the same
//! key      rows by key-value heads    K[g] ← K[p_g]                 its bias the same
//! ```
//!
//! Attention weighs values token by token, so that a turn of values is a turn of what their head gives, and output turns it
//! back. Norms on the heads of queries and keys, and rotary embedding, are the same for all heads: a permutation of heads
//! does not meet them.

use compress_core::{Matrix, Result};
use compress_numerics::linalg::Double;

/// The heads of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads of keys and values.
    pub key_value: usize,
    /// Query heads that share each of them.
    pub queries: usize,
    /// Numbers per head.
    pub size: usize,
}

/// A permutation of a block's key-value heads, each with its query heads, and an orthogonal matrix for each.
#[derive(Clone, Debug)]
pub struct Turn {
    heads: Heads,
    /// `p_g`: which head goes to place g.
    from: Vec<usize>,
    /// `R_g`, of place g.
    turns: Vec<Double>,
}

impl Turn {
    /// All heads as they are.
    #[must_use]
    pub fn none(heads: Heads) -> Self {
        let one = |i, j| f64::from(u8::from(i == j));
        let turns = vec![Double::from_fn(heads.size, heads.size, one); heads.key_value];
        let from = (0..heads.key_value).collect();
        Self { heads, from, turns }
    }

    /// The heads `from` in the order of their new places, each turned.
    pub(crate) const fn new(heads: Heads, from: Vec<usize>, turns: Vec<Double>) -> Self {
        Self { heads, from, turns }
    }

    /// Whether no head goes to another place.
    #[must_use]
    pub fn keeps_places(&self) -> bool {
        self.from.iter().enumerate().all(|(to, from)| to == *from)
    }

    /// Rows by heads, permuted and turned: a value, its bias as one column, a transposed output. Fails where rows are no
    /// multiple of the heads'.
    pub fn turned(&self, rows: &Matrix) -> Result<Matrix> {
        let (size, cols) = (self.heads.size, rows.cols());
        let moved = self.moved(rows)?;
        let each = self.rows_of_head(rows);
        let mut turned = Vec::with_capacity(moved.data().len());
        for (turn, head) in self.turns.iter().zip(moved.data().chunks(each * cols)) {
            for block in head.chunks(size * cols) {
                let block = Double::from(&Matrix::new(size, cols, block.to_vec())?);
                turned.extend(turn.times(&block)?.row_major().iter().map(|x| *x as f32));
            }
        }
        Ok(Matrix::new(rows.rows(), cols, turned)?)
    }

    /// Rows by heads, permuted only: a query or a key, or its bias as one column.
    pub fn moved(&self, rows: &Matrix) -> Result<Matrix> {
        let each = self.rows_of_head(rows) * rows.cols();
        let heads: Vec<&[f32]> = rows.data().chunks(each).collect();
        let moved = self
            .from
            .iter()
            .filter_map(|&head| heads.get(head).copied());
        Ok(Matrix::new(
            rows.rows(),
            rows.cols(),
            moved.collect::<Vec<_>>().concat(),
        )?)
    }

    /// Rows that belong to a key-value head: its own, or those of its query heads.
    fn rows_of_head(&self, rows: &Matrix) -> usize {
        (rows.rows() / self.heads.key_value).max(1)
    }
}
