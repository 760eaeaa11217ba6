//! Packing of integer codes into 32-bit words, as compressed-tensors does it.
//!
//! ```text
//! u = code + 2^(b−1)     element i of a run is at bit i·b of it, lowest bit first
//! ```
//!
//! The stream is dense: codes of three bits cross from one word into the next. Each run (a row, or a column of zero
//! points) begins at a new word, and the unused bits of its last word are zero.
//!
//! These functions serve files and checks, a code at a time. Products use the kernels of [`packed`](super), which never
//! write the codes out.

use super::Bits;

/// The words of a run of codes: ⌈codes·b / 32⌉.
#[must_use]
pub const fn words(bits: Bits, codes: usize) -> usize {
    (codes * bits.count()).div_ceil(32)
}

/// Packs a run of codes and appends its words. Codes must be in range, which is not checked.
pub fn pack(bits: Bits, codes: impl Iterator<Item = i8>, words: &mut Vec<u32>) {
    let (mut held, mut filled) = (0_u64, 0);
    for code in codes {
        // Offset binary, as the format has it: the least code is stored as 0.
        let unsigned = i16::from(code) - i16::from(bits.least());
        held |= (unsigned as u64) << filled;
        filled += bits.count();
        if filled >= 32 {
            words.push(held as u32);
            held >>= 32;
            filled -= 32;
        }
    }
    if filled > 0 {
        words.push(held as u32);
    }
}

/// Unpacks the code at `index` of a run; none outside it.
#[must_use]
pub fn code(bits: Bits, run: &[u32], index: usize) -> Option<i8> {
    let (word, bit) = (index * bits.count() / 32, index * bits.count() % 32);
    let low = u64::from(*run.get(word)?);
    // Only then is the next word read, which need not exist at the end of a run.
    let crosses = bit + bits.count() > 32;
    let high = if crosses { *run.get(word + 1)? } else { 0 };
    let unsigned = ((low | u64::from(high) << 32) >> bit) as u8 & bits.steps();
    Some((i16::from(unsigned) + i16::from(bits.least())) as i8)
}

/// Unpacks `count` codes of a run; words that are missing count as zero.
pub fn unpack(bits: Bits, run: &[u32], count: usize) -> impl Iterator<Item = i8> {
    let (mut rest, mut held, mut filled) = (run.iter(), 0_u64, 0);
    (0..count).map(move |_| {
        if filled < bits.count() {
            held |= u64::from(rest.next().copied().unwrap_or_default()) << filled;
            filled += 32;
        }
        // 2^b − 1 is the mask as well.
        let unsigned = held as u8 & bits.steps();
        held >>= bits.count();
        filled -= bits.count();
        (i16::from(unsigned) + i16::from(bits.least())) as i8
    })
}

/// Packs each column of a row-major matrix of codes as a run: words × cols. Zero points are stored so.
#[must_use]
pub fn pack_down(bits: Bits, codes: &[i8], cols: usize) -> Vec<u32> {
    let mut runs = Vec::new(); // cols × words
    for j in 0..cols {
        pack(bits, codes.iter().skip(j).step_by(cols).copied(), &mut runs);
    }
    transposed(&runs, cols)
}

/// The inverse of [`pack_down`]: rows × cols.
#[must_use]
pub fn unpack_down(bits: Bits, packed: &[u32], rows: usize, cols: usize) -> Vec<i8> {
    let length = words(bits, rows);
    let runs = transposed(packed, length); // cols × words
    let columns = runs.chunks_exact(length.max(1));
    let codes: Vec<i8> = columns.flat_map(|run| unpack(bits, run, rows)).collect();
    transposed(&codes, cols)
}

/// The transpose of a row-major matrix with the given number of rows.
fn transposed<T: Copy>(matrix: &[T], rows: usize) -> Vec<T> {
    let cols = matrix.len() / rows.max(1);
    let column = |j| matrix.iter().skip(j).step_by(cols).copied();
    (0..cols).flat_map(column).collect()
}
