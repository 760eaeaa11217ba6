//! Formats without blocks: single precision, and the two halves of it.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// How many numbers in half precision are converted at a time, with the processor's instruction
/// where it has one.
const BATCH: usize = 64;

pub(super) fn f32(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f32::from_le_bytes(*bytes);
    }
}

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

/// The upper half of a number in single precision.
pub(super) fn bf16(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}
