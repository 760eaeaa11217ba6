//! FP8 as models have it: E4M3 without infinities, the `float8_e4m3fn` of PyTorch.
//!
//! ```text
//! s eeee mmm     (−1)^s · (1 + m/8) · 2^(e − 7)     e > 0
//!                (−1)^s ·      m/8  · 2^(−6)        e = 0
//!                NaN                                e = 15, m = 7
//! ```
//!
//! The largest number is 448, the smallest above 0 is 2^(−9). All are exact in `f32`.

/// The number of every byte.
pub static NUMBERS: [f32; 256] = {
    let mut numbers = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        numbers[byte] = number(byte as u8);
        byte += 1;
    }
    numbers
};

const fn number(byte: u8) -> f32 {
    let (sign, exponent, mantissa) = (byte >> 7, byte >> 3 & 15, byte & 7);
    let size = match (exponent, mantissa) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa as f32 / 512.0,
        // The bias of `f32` is 127, and its mantissa has 20 bits more.
        _ => f32::from_bits((exponent as u32 + 127 - 7) << 23 | (mantissa as u32) << 20),
    };
    if sign == 1 { -size } else { size }
}
