//! KL divergence of two distributions, from the logits of both.
//!
//! ```text
//! KL = Σ p (log p − log q)      log p − log q = (p − q) + (log Σ exp q − log Σ exp p), with p and q the logits
//! ```

use super::{exponentiate, log_sum_exp};

/// KL(p ‖ q) of two rows of logits, in nats; none where a logit is not finite. Exact to about 10⁻⁶, since exponentials are
/// in `f32`.
#[must_use]
pub fn divergence(p: &[f32], q: &[f32]) -> Option<f64> {
    let shift_p = log_sum_exp(p)?;
    let shift = log_sum_exp(q)? - shift_p;
    // A buffer on the stack, in place of an allocation of the vocabulary's size for each position.
    let mut shares = [0.0; 1024];
    let mut sum = 0.0;
    for (p, q) in p.chunks(shares.len()).zip(q.chunks(shares.len())) {
        let shares = &mut shares[..p.len()];
        let logarithms = shares.iter_mut().zip(p);
        logarithms.for_each(|(share, p)| *share = p - shift_p as f32);
        exponentiate(shares);
        let terms = shares.iter().zip(p).zip(q);
        sum += terms
            .map(|((share, p), q)| f64::from(*share) * (f64::from(*p) - f64::from(*q) + shift))
            .sum::<f64>();
    }
    // A divergence is never negative, but its rounding error may be.
    Some(sum.max(0.0))
}
