//! Formats without blocks: `f32`, `f16` and `bf16`, little endian.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Numbers of `f16` that are converted at a time: slices use the processor's conversion instruction
/// where it has one.
const BATCH: usize = 64;

/// `f32`: a copy in the machine's byte order.
pub(super) fn f32(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f32::from_le_bytes(*bytes);
    }
}

/// `f16`: 1 sign bit, 5 of the exponent, 10 of the fraction.
pub(super) fn f16(bytes: &[u8], out: &mut [f32]) {
    let mut halves = [f16::ZERO; BATCH];
    for (bytes, out) in bytes.chunks(2 * BATCH).zip(out.chunks_mut(BATCH)) {
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        if let Some(halves) = halves.get(..out.len()) {
            halves.convert_to_f32_slice(out);
        }
    }
}

/// `bf16`: the upper 16 bits of an `f32`.
pub(super) fn bf16(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}
