//! The fast Walsh–Hadamard transform, which spreads each channel over all channels of its block.

/// Multiplies each block of 2ᵏ channels by the normalised Hadamard matrix, the largest 2ᵏ that divides their number:
/// orthogonal and its own inverse, so that products of two rotated vectors are those of the vectors themselves.
pub fn rotate(channels: &mut [f32]) {
    let size = 1 << channels.len().trailing_zeros();
    let scale = (size as f32).sqrt().recip();
    for block in channels.chunks_exact_mut(size) {
        let mut half = 1;
        while half < size {
            for pair in block.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        block.iter_mut().for_each(|x| *x *= scale);
    }
}

#[cfg(test)]
mod tests {
    use compress_numerics::Random;

    use super::*;

    #[test]
    fn a_rotation_keeps_lengths_and_is_its_own_inverse() {
        for size in [2, 48, 64, 80, 128] {
            let mut random = Random(7);
            let x: Vec<f32> = (0..size).map(|_| random.normal()).collect();
            let mut y = x.clone();
            rotate(&mut y);
            let length = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>();
            assert!((length(&x) / length(&y) - 1.0).abs() < 1e-6);
            assert!(x.iter().zip(&y).any(|(x, y)| (x - y).abs() > 0.1));
            rotate(&mut y);
            let worst = x.iter().zip(&y).map(|(x, y)| (x - y).abs());
            assert!(worst.fold(0.0, f32::max) < 1e-5);
        }
    }

    #[test]
    fn one_large_channel_is_spread_over_all() {
        let mut x = vec![0.0; 64];
        x[5] = 8.0;
        rotate(&mut x);
        assert!(x.iter().all(|x| (x.abs() - 1.0).abs() < 1e-6));
    }
}
