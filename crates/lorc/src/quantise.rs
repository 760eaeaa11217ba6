//! A weight in codes: a first rounding, then refinement, band after band of rows.

use compress_core::{Matrix, Quantised, Result, Scheme, linalg::Double};
use serde::{Deserialize, Serialize};

use crate::{Hessian, Scaling, coded::Parts, gptq::gptq, refine::refine, rtn::nearest};

/// Rows that are rounded together: what they need besides H fits the cache.
const BAND: usize = 256;

/// How weights get their codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantizer {
    /// Round to nearest.
    #[default]
    Nearest,
    /// GPTQ.
    Gptq,
}

/// Quantises a weight. Without a Hessian everything is rounded to nearest; with one, `refinements` is
/// how often scales and codes are fitted to it after the first rounding.
pub fn quantise(
    weight: &Matrix,
    hessian: Option<&Hessian>,
    scheme: Scheme,
    (quantizer, scaling, refinements): (Quantizer, Scaling, usize),
) -> Result<Quantised> {
    let shape = weight.shape();
    scheme.check(shape)?;
    let even = vec![1.0; shape.cols];
    let mut parts = Parts::default();
    for rows in weight.data().chunks((BAND * shape.cols).max(1)) {
        let numbers: Vec<f64> = rows.iter().copied().map(f64::from).collect();
        let band = Double::new(rows.len() / shape.cols, shape.cols, &numbers)?;
        let coded = match hessian {
            None => nearest(&band, &even, scheme, scaling),
            Some(hessian) => {
                let mut coded = match quantizer {
                    Quantizer::Nearest => nearest(&band, &hessian.importance, scheme, scaling),
                    Quantizer::Gptq => gptq(&band, hessian, scheme, scaling),
                };
                refine(&mut coded, &band, hessian, scheme, refinements)?;
                coded
            }
        };
        coded.write(scheme, &mut parts);
    }
    parts.assemble(shape, scheme)
}
