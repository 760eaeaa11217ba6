//! How many bits each channel of keys gets: as many as its score is worth.
//!
//! ```text
//! error of channel i   =  score_i                                      dropped
//!                         E[q_i²] · E[range_i²] / (12 (2ᵇ − 1)²)       in b bits
//! ```
//!
//! The score is E[q_i²] E[k_i²], that of ThinK; a range is that of the numbers which share a grid, and a rounding error is
//! even within a step. The sum of errors is least for a budget of bits where the last bit of every channel buys the
//! same: reverse water-filling. Dropping channels is the case in which a width is 0 or full.

use crate::{
    allocate,
    integers::{GROUP, mask},
    score::mean_squares,
};

/// The widths that a channel may have.
const WIDTHS: [u8; 5] = [0, 2, 3, 4, 8];

/// Bits of s and m, for each number of a whole group.
pub const SCALES: f64 = 32.0 / GROUP as f64;

/// The bits of each channel, 0 where it is dropped, for `bits` per number on average with those of scales.
///
/// `scores` are those of the channels, and `rows` the prompt's keys.
pub fn widths(scores: &[f64], rows: &[f32], bits: f64) -> Vec<u8> {
    let size = scores.len();
    let (ranges, squares) = (ranges(rows, size), mean_squares(rows, size));
    let errors = scores.iter().zip(ranges.iter().zip(&squares));
    let errors: Vec<Vec<f64>> = errors
        .map(|(score, (range, square))| {
            // E[range²] / E[k²]. A channel of zeros costs nothing however it is stored.
            let spread = if *square > 0.0 { range / square } else { 0.0 };
            let error = |&bits: &u8| match bits {
                0 => *score,
                bits => score * spread / (12.0 * f64::from(mask(bits)).powi(2)),
            };
            WIDTHS.iter().map(error).collect()
        })
        .collect();
    let cost = |bits: u8| {
        if bits == 0 {
            0.0
        } else {
            f64::from(bits) + SCALES
        }
    };
    let chosen = allocate(&errors, &WIDTHS.map(cost), bits * size as f64);
    // Every budget is enough for no bits at all.
    let chosen = chosen.unwrap_or_else(|| vec![0; size]);
    chosen.into_iter().map(|choice| WIDTHS[choice]).collect()
}

/// The mean square range of each channel's groups. Where the rows make no group, that of normal numbers with the same
/// mean square: 4.7 standard deviations.
fn ranges(rows: &[f32], size: usize) -> Vec<f64> {
    let groups = rows.chunks_exact(GROUP * size);
    let count = groups.len();
    if count == 0 {
        return mean_squares(rows, size)
            .into_iter()
            .map(|x| 22.0 * x)
            .collect();
    }
    let mut sums = vec![0.0; size];
    for group in groups {
        for (channel, sum) in sums.iter_mut().enumerate() {
            let numbers = group.iter().skip(channel).step_by(size);
            let (least, most) = numbers.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| {
                (a.min(x), b.max(x))
            });
            *sum += f64::from(most - least).powi(2) / count as f64;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use compress_numerics::Random;

    use super::*;

    /// Keys whose channel i is 1.1ⁱ times as large as channel 0.
    fn keys(tokens: usize, size: usize) -> Vec<f32> {
        let mut random = Random(9);
        let number = |i: usize| random.normal() * 1.1_f32.powi((i % size) as i32);
        (0..tokens * size).map(number).collect()
    }

    fn spent(widths: &[u8]) -> f64 {
        let bits = widths.iter().filter(|bits| **bits > 0);
        bits.map(|&bits| f64::from(bits) + SCALES).sum::<f64>() / widths.len() as f64
    }

    #[test]
    fn larger_channels_get_more_bits_and_the_budget_is_kept() {
        // With whole groups, and without any.
        for tokens in [130, 7] {
            let keys = keys(tokens, 64);
            let scores = mean_squares(&keys, 64);
            let mut before = 0;
            for bits in [0.1, 1.5, 2.0, 2.75, 3.0, 4.5, 8.5, 16.0] {
                let widths = widths(&scores, &keys, bits);
                assert!(
                    spent(&widths) <= bits && spent(&widths) > bits.min(8.5) - 0.2,
                    "{bits}: {widths:?}"
                );
                let sum: u32 = widths.iter().map(|&bits| u32::from(bits)).sum();
                assert!(sum >= before, "more bits");
                before = sum;
                if tokens > 64 {
                    // Neighbours may differ by their ranges; those that are 2.6 times as large don't.
                    assert!(
                        widths
                            .iter()
                            .zip(&widths[10..])
                            .all(|(small, large)| small <= large),
                        "{widths:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_other_widths_of_the_same_bits_have_a_smaller_error() {
        // Three channels: all 125 can be tried.
        let keys = keys(64, 3);
        let scores = [1.0, 0.3, 40.0];
        let (ranges, squares) = (ranges(&keys, 3), mean_squares(&keys, 3));
        let error = |widths: &[u8]| -> f64 {
            let one = |i: usize| match widths[i] {
                0 => scores[i],
                bits => scores[i] / squares[i] * ranges[i] / 12.0 / f64::from(mask(bits)).powi(2),
            };
            (0..3).map(one).sum()
        };
        for bits in [1.0, 2.0, 3.0, 4.0] {
            let found = widths(&scores, &keys, bits);
            let all = (0..125).map(|all| [all % 5, all / 5 % 5, all / 25].map(|i| WIDTHS[i]));
            let same = all.filter(|widths| spent(widths) <= spent(&found) + 1e-9);
            let best = same
                .map(|widths| error(&widths))
                .fold(f64::INFINITY, f64::min);
            // What is left of a budget may not pay the best last step.
            assert!(
                error(&found) <= 1.5 * best,
                "{bits} bits: {found:?}, {} for {best}",
                error(&found)
            );
        }
    }

    #[test]
    fn keys_of_zeros_are_no_trouble() {
        assert_eq!(widths(&[0.0; 4], &[0.0; 8], 3.0).len(), 4);
    }
}
