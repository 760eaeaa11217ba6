//! Matrix PCA: the atoms that explain most of a group's weights.
//!
//! ```text
//! X = [vec W_1 … vec W_L]      m·n × L
//! XᵀX = V Λ Vᵀ                 L × L: K_ij = ⟨W_i, W_j⟩
//! D_s = Σ_l v_ls W_l / √L      orthogonal, ‖D_s‖² = λ_s / L
//! ```
//!
//! Atoms are the eigenvectors of X Xᵀ, scaled so that coefficients are of the order of 1 and entries of the order of the
//! weights': both survive half precision. The Gram matrix is made pair by pair: memory holds two weights, and then the
//! atoms.

use compress_core::{Dictionary, Error, Matrix, Result, Site, Step as _, Store, Survey};
use compress_numerics::linalg::Double;
use rayon::prelude::*;

use crate::{Mix, step::Atoms};

/// Numbers of two weights whose products are summed in one go; sums of these have one order.
const BAND: usize = 1 << 14;

/// The atoms of a group of a model's own weights, in `f32`. Fails where a weight cannot be read or is not finite.
pub fn dictionary(atoms: &Atoms, survey: &Survey<'_>) -> Result<Dictionary> {
    let start = atoms.start;
    let form = Mix::Atoms(atoms.clone()).dictionary();
    let form = form.ok_or(Error::NoSuchSite { site: start })?;
    let sites: Vec<Site> = atoms.sites().collect();
    let (_, vectors) = gram(&sites, survey)?.top_eigenvectors(form.atoms)?;
    let shape = survey.shape(start)?;
    let mut stacked = vec![0.0_f32; form.atoms * shape.size()];
    let scale = (sites.len() as f64).sqrt().recip();
    for (layer, site) in sites.iter().enumerate() {
        let weight = survey.weight(*site)?;
        // One atom is one thread's work: sums over layers have one order.
        let atoms = stacked.par_chunks_mut(shape.size()).enumerate();
        atoms.for_each(|(s, atom)| {
            let share = (scale * vectors.column(s)[layer]) as f32;
            let pairs = atom.iter_mut().zip(weight.data());
            pairs.for_each(|(x, w)| *x += share * w);
        });
    }
    let stacked = Matrix::new(form.atoms * shape.rows, shape.cols, stacked)?;
    Ok(Dictionary {
        group: form.group,
        atoms: form.atoms,
        stacked: Store::Float(stacked),
    })
}

/// The inner products of weights, L × L.
fn gram(sites: &[Site], survey: &Survey<'_>) -> Result<Double> {
    let mut gram = Double::zeros(sites.len(), sites.len());
    for (i, site) in sites.iter().enumerate() {
        let weight = survey.weight(*site)?;
        for (j, other) in sites.iter().enumerate().take(i) {
            let product = dot(&weight, &survey.weight(*other)?);
            gram.column_mut(j)[i] = product;
            gram.column_mut(i)[j] = product;
        }
        gram.column_mut(i)[i] = dot(&weight, &weight);
    }
    Ok(gram)
}

/// ⟨A, B⟩ of two matrices of one shape, in `f64`.
fn dot(a: &Matrix, b: &Matrix) -> f64 {
    let bands = a.data().par_chunks(BAND).zip(b.data().par_chunks(BAND));
    let products = bands.map(|(a, b)| {
        let pairs = a.iter().zip(b);
        pairs
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum::<f64>()
    });
    // Collected first: rayon's own sum has no fixed order.
    products.collect::<Vec<f64>>().iter().sum()
}
