//! Which channels of a head are dropped.

/// The score of each of d channels: the mean square of some queries times that of keys, both rows of d numbers.
///
/// Sums in `f64`, in the order of the rows. No rows give zeros.
#[must_use]
pub fn channel_scores(queries: &[f32], keys: &[f32], size: usize) -> Vec<f64> {
    let (queries, keys) = (mean_squares(queries, size), mean_squares(keys, size));
    queries.iter().zip(keys).map(|(q, k)| q * k).collect()
}

/// The mean square of each channel over rows.
pub fn mean_squares(rows: &[f32], size: usize) -> Vec<f64> {
    means(rows, size, |x| f64::from(x) * f64::from(x))
}

/// The mean of a function of each channel over rows; 0 over none.
pub fn means(rows: &[f32], size: usize, of: impl Fn(f32) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; size];
    for row in rows.chunks_exact(size.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += of(x));
    }
    let count = (rows.len() / size.max(1)).max(1) as f64;
    sums.iter_mut().for_each(|sum| *sum /= count);
    sums
}

/// The channels that stay when a share λ is dropped: all but the ⌊λ d⌋ of lowest score, in order. Of equal scores the
/// first are dropped.
#[must_use]
pub fn kept_channels(scores: &[f64], lambda: f64) -> Vec<u16> {
    let dropped = (lambda * scores.len() as f64).floor() as usize;
    let mut order: Vec<u16> = (0..scores.len() as u16).collect();
    // Stable, so that the order of equal scores is that of the channels.
    order.sort_by(|&a, &b| scores[usize::from(a)].total_cmp(&scores[usize::from(b)]));
    let mut kept = order.split_off(dropped.min(scores.len()));
    kept.sort_unstable();
    kept
}
