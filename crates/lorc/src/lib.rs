//! `LoRC`: post-training quantisation of weights, with a low-rank correction of the rounding error.
//!
//! ```text
//! Ŵ = Q + A · B       Q: m × n, b bits per number and a scale per group of g inputs
//!                     A · B: rank r, the best for W − Q in the norm of a metric
//! bits per weight = b + 16 / g + 16 r (m + n) / (m n)
//! ```
//!
//! [`round`] does it for one weight. Codes come from rounding to nearest, or from GPTQ, which compensates the
//! error at one input by later inputs and needs H = Σ x xᵀ of a calibration text ([`Hessian`]); either
//! may search its scales (`mse`), and be refined by coordinate descent. The correction costs bits as more codes would;
//! [`gains`] says where it is worth them.
//!
//! GPTQ takes m·n² operations for an m × n weight, nearly all of them in matrix products, and n³ once for
//! all weights that read one layer input; a refinement takes four times as much as GPTQ.
//!
//! ```
//! use compress_core::{Bits, Scheme};
//! use compress_numerics::Random;
//! use compress_lorc::{RoundingOptions, round};
//! use compress_svd::Metric;
//!
//! let weight = Random(1).matrix(24, 64);
//! let options = RoundingOptions::nearest(Scheme::symmetric(Bits::Four, Some(32)));
//! let plain = round(&weight, None, &Metric::PLAIN, &options)?;
//! let compensated = round(&weight, None, &Metric::PLAIN, &RoundingOptions { rank: 4, ..options })?;
//! assert!(compensated.error < plain.error && plain.error < 0.01);
//! # Ok::<(), compress_core::Error>(())
//! ```
//!
//! # References
//!
//! Yao et al., *ZeroQuant-V2*, arXiv 2303.08302 (LoRC); the metric is that of Zhang et al., *QERA*,
//! arXiv 2410.06040, the alternation that of Saha et al., *CALDERA*, arXiv 2405.18886.

mod accept;
mod block;
mod compensate;
mod gptq;
mod grids;
mod hessian;
mod lanes;
mod memory;
mod method;
mod options;
mod quantise;
mod refine;
mod round;
mod rtn;
mod search;
mod sweep;

pub use accept::{auto_ranks, gains};
pub use compensate::{Keep, compensate};
pub use hessian::{DAMPING, Hessian};
pub use method::{Lorc, Round};
pub use options::{Quantizer, RoundingOptions};
pub use quantise::quantise;
pub use round::{Rounded, round};
pub use search::Scaling;
