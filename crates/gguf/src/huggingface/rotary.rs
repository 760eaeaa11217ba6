//! Row order of query and key projections under rotary position embedding.
//!
//! A head of d rows rotates d/2 pairs. transformers pairs row i with row d/2 + i; ggml, for the
//! architecture `llama`, pairs row 2i with row 2i + 1. Hence, for head h, i < d/2 and p in {0, 1},
//!
//! checkpoint row h·d + p·d/2 + i = GGUF row h·d + 2i + p.

use crate::Error;

/// Reorders rows of `cols` values each, those of `heads` heads one after another, in place from
/// ggml's order to the checkpoint's; a bias has `cols` = 1.
///
/// Fails, with `rows` untouched, where the values are not whole rows or a head has an odd number of
/// rows. Needs memory for one head.
///
/// ```
/// let mut bias = [0.0, 3.0, 1.0, 4.0, 2.0, 5.0];
/// compress_gguf::huggingface::unpermute_rows(1, &mut bias, 1)?;
/// assert_eq!(bias, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
/// # Ok::<(), compress_gguf::Error>(())
/// ```
pub fn unpermute_rows(heads: usize, rows: &mut [f32], cols: usize) -> Result<(), Error> {
    let pairs = heads
        .checked_mul(2)
        .and_then(|halves| halves.checked_mul(cols));
    match pairs {
        Some(pairs) if pairs > 0 && rows.len().is_multiple_of(pairs) => {}
        _ => {
            return Err(Error::Heads {
                heads,
                values: rows.len(),
                cols,
            });
        }
    }
    let head = rows.len() / heads; // d · cols values
    // An empty matrix: chunks of size 0 would panic.
    if head == 0 {
        return Ok(());
    }
    let mut halves = Vec::with_capacity(head);
    for rows in rows.chunks_exact_mut(head) {
        // Even rows are the first half of a head, odd rows the second.
        for p in 0..2 {
            halves.extend(rows.chunks_exact(cols).skip(p).step_by(2).flatten());
        }
        rows.copy_from_slice(&halves);
        halves.clear();
    }
    Ok(())
}
