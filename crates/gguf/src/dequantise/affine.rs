//! Shared steps of the block formats: unpacking codes from bytes, and the affine map from codes to
//! values.

use half::f16;

/// The shift of formats without one. x + (−0) is x for every x, −0 included, which x + 0 would turn
/// into 0: results stay equal to ggml's bit for bit.
pub(super) const NOTHING: f32 = -0.0;

/// Takes `BITS`-wide codes out of bytes: from each run of `RUN` bytes first the lowest `BITS` bits
/// of every byte, then the next ones.
///
/// code[(8 / BITS · k + p) · RUN + l] = (packed[k · RUN + l] >> BITS · p) mod 2^BITS
#[inline]
pub(super) fn unpack<const BITS: u32, const RUN: usize, const N: usize>(packed: &[u8]) -> [u8; N] {
    let mut codes = [0; N];
    let planes = (0..8).step_by(BITS as usize);
    let runs = packed.as_chunks::<RUN>().0.iter();
    let places = runs.flat_map(|run| planes.clone().map(move |shift| (run, shift)));
    for (codes, (run, shift)) in codes.as_chunks_mut::<RUN>().0.iter_mut().zip(places) {
        for (code, byte) in codes.iter_mut().zip(run) {
            *code = (byte >> shift) & ((1 << BITS) - 1);
        }
    }
    codes
}

/// value = scale · (code − `ZERO`) + shift, with a scale and a shift for each group of `LENGTH`
/// values. The zero point is subtracted in integers, as in ggml.
#[inline]
pub(super) fn scaled<const ZERO: i16, const LENGTH: usize>(
    codes: &[u8],
    groups: &[(f32, f32)],
    out: &mut [f32],
) {
    let codes = codes.as_chunks::<LENGTH>().0.iter();
    let outs = out.as_chunks_mut::<LENGTH>().0.iter_mut();
    for ((codes, out), &(scale, shift)) in codes.zip(outs).zip(groups) {
        for (code, out) in codes.iter().zip(out) {
            *out = scale * f32::from(i16::from(*code) - ZERO) + shift;
        }
    }
}

/// The `f16` in two little-endian bytes, as `f32`.
#[inline]
pub(super) fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// Cuts `AB` = `A` + `B` bytes in two. Lengths that do not add up do not compile, so the fallbacks
/// below are never taken.
#[inline]
pub(super) fn parts<const A: usize, const B: usize, const AB: usize>(
    bytes: &[u8; AB],
) -> (&[u8; A], &[u8; B]) {
    const { assert!(A + B == AB, "the parts are the whole") };
    let first = bytes.first_chunk().unwrap_or(&[0; A]);
    let last = bytes.last_chunk().unwrap_or(&[0; B]);
    (first, last)
}
