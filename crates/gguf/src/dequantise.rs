//! Decodes the blocks of a tensor to `f32`.
//!
//! Most formats are affine: value = scale · code + shift, where codes are integers of few bits, and
//! a group of consecutive values shares a scale and a shift. The formats differ in where the bits of
//! codes, scales and shifts lie in a block: [`small`] has blocks of 32 values with one group,
//! [`large`] blocks of 256 values in groups whose scales are themselves quantized, [`ternary`] three
//! values only. In [`codebook`] a code names a value of a table, in [`grid`] a point with four or
//! eight values. Operations are in ggml's order, each rounded to `f32`, so that results agree with
//! ggml bit for bit.

mod affine;
mod codebook;
mod grid;
mod large;
mod plain;
mod small;
mod ternary;

use crate::{BlockType, Error};

/// Decodes `bytes`, whole blocks of format `kind`, to `out`.
///
/// Fails, with `out` untouched, where `bytes` are not exactly the blocks of `out.len()` values.
/// Runs on the calling thread and allocates nothing; callers divide large tensors at block
/// boundaries.
///
/// ```
/// use compress_gguf::{BlockType, dequantise};
///
/// let mut block = [0x31_u8; 18];
/// block[..2].copy_from_slice(&[0x00, 0x38]); // the scale, 0.5 in half precision
/// let mut values = [0.0; 32];
/// dequantise(BlockType::Q4_0, &block, &mut values)?;
/// assert_eq!((values[0], values[16]), (0.5 * (1.0 - 8.0), 0.5 * (3.0 - 8.0)));
/// # Ok::<(), compress_gguf::Error>(())
/// ```
pub fn dequantise(kind: BlockType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    // The product may overflow for absurd lengths, hence `checked_mul`.
    let blocks = bytes.len() / kind.bytes();
    if !bytes.len().is_multiple_of(kind.bytes())
        || blocks.checked_mul(kind.values()) != Some(out.len())
    {
        return Err(Error::Lengths {
            kind,
            bytes: bytes.len(),
            values: out.len(),
        });
    }
    match kind {
        BlockType::F32 => plain::f32(bytes, out),
        BlockType::F16 => plain::f16(bytes, out),
        BlockType::BF16 => plain::bf16(bytes, out),
        BlockType::Q4_0 => each_block(bytes, out, small::q4_0),
        BlockType::Q4_1 => each_block(bytes, out, small::q4_1),
        BlockType::Q5_0 => each_block(bytes, out, small::q5_0),
        BlockType::Q5_1 => each_block(bytes, out, small::q5_1),
        BlockType::Q8_0 => each_block(bytes, out, small::q8_0),
        BlockType::Q2_K => each_block(bytes, out, large::q2_k),
        BlockType::Q3_K => each_block(bytes, out, large::q3_k),
        BlockType::Q4_K => each_block(bytes, out, large::q4_k),
        BlockType::Q5_K => each_block(bytes, out, large::q5_k),
        BlockType::Q6_K => each_block(bytes, out, large::q6_k),
        BlockType::IQ1_S => each_block(bytes, out, grid::iq1_s),
        BlockType::IQ1_M => each_block(bytes, out, grid::iq1_m),
        BlockType::IQ2_XXS => each_block(bytes, out, grid::iq2_xxs),
        BlockType::IQ2_XS => each_block(bytes, out, grid::iq2_xs),
        BlockType::IQ2_S => each_block(bytes, out, grid::iq2_s),
        BlockType::IQ3_XXS => each_block(bytes, out, grid::iq3_xxs),
        BlockType::IQ3_S => each_block(bytes, out, grid::iq3_s),
        BlockType::IQ4_NL => each_block(bytes, out, codebook::iq4_nl),
        BlockType::IQ4_XS => each_block(bytes, out, codebook::iq4_xs),
        BlockType::TQ1_0 => each_block(bytes, out, ternary::tq1_0),
        BlockType::TQ2_0 => each_block(bytes, out, ternary::tq2_0),
        BlockType::MXFP4 => each_block(bytes, out, codebook::mxfp4),
    }
    Ok(())
}

/// Applies a decoder of one block to all of them. Block sizes are types, so that the loops in a
/// decoder have constant bounds and vectorise.
#[inline]
fn each_block<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, _) = bytes.as_chunks();
    let (outs, _) = out.as_chunks_mut();
    for (bytes, out) in blocks.iter().zip(outs) {
        block(bytes, out);
    }
}
