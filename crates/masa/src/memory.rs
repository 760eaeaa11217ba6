//! Predicted peak memory: the bytes of whole matrices, which are all that count where they are large.
//!
//! ```text
//! atoms      two weights, then 4 S m n
//! mixture    its atoms; one of them, and G D H, in f64; the weight, what the atoms leave of it, and the cut of that as in svd
//! ```

use compress_core::{Result, Shape, Site};
use compress_svd::{Norm, memory_of_cut, memory_of_metric, memory_together};

use crate::step::Mix;

/// Bytes of an `f32`.
const SINGLE: usize = size_of::<f32>();

/// Bytes of an `f64`.
const DOUBLE: usize = size_of::<f64>();

/// The peak bytes of carrying out the steps of one layer input, or one that makes atoms, on so many threads.
pub fn memory(
    steps: &[Mix],
    norm: Norm,
    shape: &dyn Fn(Site) -> Result<Shape>,
    threads: usize,
) -> Result<usize> {
    let (mut mixtures, mut atoms, mut shared) = (Vec::new(), 0, 0);
    for step in steps {
        match step {
            Mix::Atoms(step) => {
                let size = shape(step.start)?.size();
                atoms = atoms.max(SINGLE * size * (step.count + 2));
            }
            Mix::Mixture(step) => {
                let shape = shape(step.site)?;
                mixtures.push(of_mixture(
                    shape,
                    step.atoms.map_or(0, |it| it.count),
                    step.residual,
                    norm,
                    threads,
                ));
                if norm.shares_inputs() {
                    shared = memory_of_metric(shape.cols, shape.rows > shape.cols).max(shared);
                }
            }
        }
    }
    Ok(atoms.max(shared + memory_together(mixtures.into_iter(), threads)))
}

/// One mixture, without the metric of its inputs.
fn of_mixture(shape: Shape, atoms: usize, rank: usize, norm: Norm, threads: usize) -> usize {
    let (single, double) = (SINGLE * shape.size(), DOUBLE * shape.size());
    let cut = memory_of_cut(shape, rank.max(1), norm, threads);
    if atoms == 0 {
        return cut;
    }
    let dictionary = atoms * single;
    // An atom by itself and in f64, its products with the metric of each side, and that row by row.
    let fitting = single + 4 * double;
    // Mixed atoms become what they leave; the cut counts that as its weight.
    dictionary + single + fitting.max(cut)
}
