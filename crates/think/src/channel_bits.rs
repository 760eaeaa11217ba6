//! How many bits each channel of keys gets: as many as its score is worth.
//!
//! ```text
//! error of channel i   =  score_i                                      dropped
//!                         E[q_i²] · E[range_i²] / (12 (2ᵇ − 1)²)       in b bits
//! ```
//!
//! The score is `E[q_i²] E[k_i²]`, that of ThinK; a range is that of the numbers which share a grid, and a rounding error is
//! even within a step. The sum of errors is least for a budget of bits where the last bit of every channel buys the
//! same: reverse water-filling. Dropping channels is the case in which a channel has no bits or all of them.

use crate::{
    allocate,
    integers::{GROUP, mask},
    score::{mean_squares, means},
};

/// The bits that a channel may have.
pub const CHOICES: [u8; 5] = [0, 2, 3, 4, 8];

/// Bits of s and m, for each number of a whole group.
pub const SCALES: f64 = 32.0 / GROUP as f64;

/// The bits of each channel, 0 where it is dropped, for `bits` per number on average with those of scales.
///
/// `scores` are those of the channels, and `rows` the prompt's keys. Where dropped channels count by their means, `by_means`,
/// what is lost of them is their variance only.
pub fn channel_bits(scores: &[f64], rows: &[f32], bits: f64, by_means: bool) -> Vec<u8> {
    let size = scores.len();
    let (ranges, squares) = (ranges(rows, size), mean_squares(rows, size));
    let means = means(rows, size, f64::from);
    let errors = |channel: usize| -> Vec<f64> {
        // E[q²]; a channel of zeros costs nothing however it is stored.
        let square = squares[channel];
        let query = if square > 0.0 {
            scores[channel] / square
        } else {
            0.0
        };
        let lost = if by_means {
            square - means[channel].powi(2)
        } else {
            square
        };
        let error = |&bits: &u8| match bits {
            0 => query * lost,
            bits => query * ranges[channel] / (12.0 * f64::from(mask(bits)).powi(2)),
        };
        CHOICES.iter().map(error).collect()
    };
    let errors: Vec<Vec<f64>> = (0..size).map(errors).collect();
    let cost = |bits: u8| {
        if bits == 0 {
            0.0
        } else {
            f64::from(bits) + SCALES
        }
    };
    let chosen = allocate(&errors, &CHOICES.map(cost), bits * size as f64);
    // Every budget is enough for no bits at all.
    let chosen = chosen.unwrap_or_else(|| vec![0; size]);
    chosen.into_iter().map(|choice| CHOICES[choice]).collect()
}

/// The mean square range of each channel's groups. Where the rows make no group, that of normal numbers with the same
/// mean square: 4.7 standard deviations.
fn ranges(rows: &[f32], size: usize) -> Vec<f64> {
    let groups = rows.chunks_exact(GROUP * size);
    let count = groups.len();
    if count == 0 {
        return mean_squares(rows, size).iter().map(|x| 22.0 * x).collect();
    }
    let mut sums = vec![0.0; size];
    for group in groups {
        for (channel, sum) in sums.iter_mut().enumerate() {
            let numbers = group.iter().skip(channel).step_by(size);
            let (least, most) = numbers
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &x| {
                    (least.min(x), most.max(x))
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

    fn spent(chosen: &[u8]) -> f64 {
        let bits = chosen.iter().filter(|bits| **bits > 0);
        bits.map(|&bits| f64::from(bits) + SCALES).sum::<f64>() / chosen.len() as f64
    }

    #[test]
    fn larger_channels_get_more_bits_and_the_budget_is_kept() {
        // With whole groups, and without any.
        for tokens in [130, 7] {
            let keys = keys(tokens, 64);
            let scores = mean_squares(&keys, 64);
            let mut before = 0;
            for bits in [0.1, 1.5, 2.0, 2.75, 3.0, 4.5, 8.5, 16.0] {
                let chosen = channel_bits(&scores, &keys, bits, false);
                assert!(
                    spent(&chosen) <= bits && spent(&chosen) > bits.min(8.5) - 0.2,
                    "{bits}: {chosen:?}"
                );
                let sum: u32 = chosen.iter().map(|&bits| u32::from(bits)).sum();
                assert!(sum >= before, "more bits");
                before = sum;
                if tokens > 64 {
                    // Neighbours may differ by their ranges; those that are 2.6 times as large don't.
                    assert!(
                        chosen
                            .iter()
                            .zip(&chosen[10..])
                            .all(|(small, large)| small <= large),
                        "{chosen:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_choice_is_near_the_best_of_all_125() {
        // Three channels: all 125 can be tried.
        let keys = keys(64, 3);
        let scores = [1.0, 0.3, 40.0];
        let (ranges, squares) = (ranges(&keys, 3), mean_squares(&keys, 3));
        let error = |chosen: &[u8]| -> f64 {
            let one = |i: usize| match chosen[i] {
                0 => scores[i],
                bits => scores[i] / squares[i] * ranges[i] / 12.0 / f64::from(mask(bits)).powi(2),
            };
            (0..3).map(one).sum()
        };
        for bits in [1.0, 2.0, 3.0, 4.0] {
            let found = channel_bits(&scores, &keys, bits, false);
            let all = (0..125).map(|all| [all % 5, all / 5 % 5, all / 25].map(|i| CHOICES[i]));
            let same = all.filter(|chosen| spent(chosen) <= spent(&found) + 1e-9);
            let best = same
                .map(|chosen| error(&chosen))
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
        assert_eq!(channel_bits(&[0.0; 4], &[0.0; 8], 3.0, true).len(), 4);
    }
}
