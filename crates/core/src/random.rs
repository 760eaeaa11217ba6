//! Random numbers that are the same everywhere.

/// A small generator: good enough for test matrices and for drawing windows.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        // Knuth's multiplier and increment for 64 bits; the upper bits are the random ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    /// A number of mean 0 and variance 1, near enough to normal (a sum of twelve uniform ones).
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    /// Puts things in any order: Fisher and Yates' shuffle.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = (f64::from(self.uniform()) * (last + 1) as f64) as usize;
            things.swap(last, other.min(last));
        }
    }
}
