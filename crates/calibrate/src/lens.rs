//! How far neighbouring blocks are apart, by the logit lens.
//!
//! ```text
//! p_l = softmax(head(norm(residual stream behind block l)))      what the model would say if it ended there
//! d_l = mean over tokens of KL(p_l ‖ p_(l−1))                    l = 1 … L − 1
//! ```
//!
//! # References
//!
//! nostalgebraist, *interpreting GPT: the logit lens*, 2020. MASA (arXiv 2508.04581) groups blocks by it.

use burn::tensor::Tensor;
use compress_models::{Network as _, Streamed, slices, to_host};
use compress_numerics::kernels::divergence;

use crate::{Error, Result};

/// The mean divergence over the tokens of one window, from the residual streams before and behind a block. In memory are the
/// logits of one slice of positions, of both. Fails where a logit is not finite, naming block and window.
pub fn of_window(
    network: &Streamed<'_>,
    [before, after]: [Tensor<3>; 2],
    (layer, window): (usize, usize),
) -> Result<f64> {
    let [_, time, width] = before.dims();
    // One behind the other, so that the head is decoded once for both.
    let both = Tensor::cat(vec![before, after], 1);
    let both = network.normed(both).reshape([2 * time, width]);
    let vocabulary = network.vocabulary();
    let mut sum = 0.0;
    for slice in slices(time, vocabulary) {
        let behind = time + slice.start..time + slice.end;
        let logits = network.logits(&both, &[slice, behind])?.into_iter();
        let logits = logits.map(|it| Ok(to_host(it)?));
        let logits = logits.collect::<Result<Vec<_>>>()?;
        let [before, after] = &logits[..] else {
            return Err(Error::Lens { layer, window });
        };
        let rows = after.chunks(vocabulary).zip(before.chunks(vocabulary));
        for (after, before) in rows {
            sum += divergence(after, before).ok_or(Error::Lens { layer, window })?;
        }
    }
    Ok(sum / time as f64)
}
