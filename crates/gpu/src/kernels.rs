//! Products with a packed weight, as kernels.
//!
//! ```text
//! W[o, i] = (u[o, i] − 2^(bits−1) − z[o, g]) · s[o, g],  g = i / group
//! ```
//!
//! Codes u lie in 32-bit words as in a file, row after row, each row filled to whole words. Scales are halves, two in
//! a word, and are converted by arithmetic: not every adapter has `f16`. Zero points are bytes, four in a word. A
//! weight of 16-bit floats lies in the same way, and has neither scales nor zero points.

use cubecl::prelude::*;

/// Units (threads) that share a row of the weight where there are few tokens.
pub const LANES: u32 = 32;

/// Rows of the weight that a cube (workgroup) multiplies where there are few tokens.
pub const ROWS: u32 = 4;

/// Codes that a unit takes at a time: as many words as a code has bits.
const RUN: usize = 32;

/// The sides of the square of outputs that a cube makes where there are many tokens.
pub const TILE: usize = 64;

/// The part of the depth of a product that is in shared memory at a time: two tiles of it are the 16 KiB that every
/// adapter has.
const STEP: usize = 32;

/// Units along each side of a cube for tiles; each makes 4 × 4 outputs.
pub const SIDE: usize = 16;

/// Outputs of a unit along each side.
const EACH: usize = TILE / SIDE;

/// What the words of a weight are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Integer codes.
    Codes,
    /// `f16` numbers.
    Half,
    /// `bf16` numbers.
    Bfloat,
}

/// How codes, scales and zero points of a weight are stored: known when a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// What they are.
    pub kind: Kind,
    /// Bits per code: 2, 3, 4 or 8; 16 of floats.
    pub bits: usize,
    /// Inputs that share a scale.
    pub group: usize,
    /// Inputs, and so groups and words per row.
    pub inputs: usize,
    /// Whether scales are `f32`, not halves.
    pub fine: bool,
    /// Whether groups have zero points.
    pub zeros: bool,
}

impl Layout {
    /// Groups per row.
    const fn groups(self) -> usize {
        self.inputs / self.group
    }

    /// Words per row.
    const fn words(self) -> usize {
        (self.inputs * self.bits).div_ceil(32)
    }

    /// Whether the codes of a run have one scale. Groups divide the inputs, so that there are whole runs only.
    fn runs_in_groups(self) -> bool {
        self.kind == Kind::Codes && self.group.is_multiple_of(RUN)
    }
}

/// A code of a row, `bits` bits from bit i·bits of its words on.
#[allow(
    clippy::collapsible_if,
    reason = "the outer condition is decided when the kernel is compiled"
)]
#[cube]
fn code(words: &[u32], row: usize, i: usize, #[comptime] layout: Layout) -> u32 {
    let bits = layout.bits;
    let (first, last) = ((i * bits) / 32, (i * bits + bits - 1) / 32);
    let shift = u32::cast_from((i * bits) % 32);
    let start = row * layout.words();
    let mut code = words[start + first] >> shift;
    // Of three bits some codes lie in two words.
    if comptime!(32 % bits != 0) {
        if last != first {
            code |= words[start + last] << (32 - shift);
        }
    }
    code & comptime!((1u32 << bits as u32) - 1)
}

/// A scale by its index row · groups + group.
#[cube]
fn scale(scales: &[u32], index: usize, #[comptime] layout: Layout) -> f32 {
    if comptime!(layout.fine) {
        f32::reinterpret(scales[index])
    } else {
        let half = (scales[index / 2] >> u32::cast_from((index % 2) * 16)) & 0xffff;
        widened(half)
    }
}

/// A half as an `f32`, from its bits; finite ones only.
#[cube]
fn widened(half: u32) -> f32 {
    let magnitude = half & 0x7fff;
    // Exponents differ by 112. Below the least normal half numbers are multiples of 2⁻²⁴.
    let normal = f32::reinterpret((magnitude << 13) + (112u32 << 23));
    let subnormal = f32::cast_from(magnitude) * 5.960_464_5e-8;
    let number = select(magnitude < 0x400, subnormal, normal);
    select(half >= 0x8000, -number, number)
}

/// 2^(bits−1) + z: the code that stands for 0 in a group.
#[cube]
fn zero(zeros: &[u32], index: usize, #[comptime] layout: Layout) -> f32 {
    let middle = comptime!((1u32 << (layout.bits as u32 - 1)) as f32);
    if comptime!(layout.zeros) {
        let byte = (zeros[index / 4] >> u32::cast_from((index % 4) * 8)) & 0xff;
        // Two's complement.
        let point = f32::cast_from(byte) - select(byte >= 128, 256.0f32, 0.0f32);
        middle + point
    } else {
        middle.runtime()
    }
}

/// W[row, i].
#[cube]
fn number(
    words: &[u32],
    scales: &[u32],
    zeros: &[u32],
    row: usize,
    i: usize,
    #[comptime] layout: Layout,
) -> f32 {
    let code = code(words, row, i, layout);
    if comptime!(layout.kind == Kind::Half) {
        widened(code)
    } else if comptime!(layout.kind == Kind::Bfloat) {
        f32::reinterpret(code << 16)
    } else {
        let group = row * layout.groups() + i / layout.group;
        (f32::cast_from(code) - zero(zeros, group, layout)) * scale(scales, group, layout)
    }
}

/// Y = X Wᵀ for few tokens: each cube makes [`ROWS`] outputs of one token, [`LANES`] units sum each.
///
/// x: tokens × inputs, y: tokens × outputs. Each word of the weight is read once per token.
#[cube(launch)]
pub fn few_rows(
    x: &[f32],
    words: &[u32],
    scales: &[u32],
    zeros: &[u32],
    y: &mut [f32],
    outputs: usize,
    #[comptime] layout: Layout,
) {
    let mut parts = Shared::<[f32]>::new_slice(comptime!((LANES * ROWS) as usize));
    let lane = UNIT_POS_X as usize;
    let token = CUBE_POS_Z as usize;
    // Cubes are counted in two dimensions, since one has too few for a large vocabulary.
    let place = CUBE_POS_Y as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize;
    let row = place * comptime!(ROWS as usize) + UNIT_POS_Y as usize;
    let mut sum = 0.0f32;
    if row < outputs {
        let start = token * layout.inputs;
        if comptime!(layout.runs_in_groups()) {
            let runs = comptime!(layout.inputs / RUN);
            let mut run = lane;
            while run < runs {
                let first = run * RUN;
                let group = row * layout.groups() + first / layout.group;
                let zero = zero(zeros, group, layout);
                let mut part = 0.0f32;
                #[unroll]
                for i in 0..RUN {
                    let code = f32::cast_from(code(words, row, first + i, layout));
                    part += (code - zero) * x[start + first + i];
                }
                sum += part * scale(scales, group, layout);
                run += comptime!(LANES as usize);
            }
        } else {
            let mut i = lane;
            while i < layout.inputs {
                sum += number(words, scales, zeros, row, i, layout) * x[start + i];
                i += comptime!(LANES as usize);
            }
        }
    }
    let unit = UNIT_POS as usize;
    parts[unit] = sum;
    let mut half = comptime!(LANES as usize / 2).runtime();
    while half > 0 {
        sync_cube();
        if lane < half {
            parts[unit] += parts[unit + half];
        }
        half /= 2;
    }
    if lane == 0 && row < outputs {
        y[token * outputs + row] = parts[unit];
    }
}

/// Y = X Wᵀ, or Y = X W, for many tokens: each cube makes a square of outputs, of [`TILE`] tokens. A part of W is
/// unpacked into shared memory once for all of them.
///
/// x: tokens × depth, y: tokens × width. The depth is summed in order, so that tokens do not depend on their neighbours.
#[cube(launch)]
pub fn tiles(
    x: &[f32],
    words: &[u32],
    scales: &[u32],
    zeros: &[u32],
    y: &mut [f32],
    tokens: usize,
    depth: usize,
    width: usize,
    #[comptime] layout: Layout,
    #[comptime] transposed: bool,
) {
    let mut x_tile = Shared::<[f32]>::new_slice(comptime!(STEP * TILE)); // step × tokens
    let mut w_tile = Shared::<[f32]>::new_slice(comptime!(STEP * TILE)); // step × outputs
    let mut sums = Array::<f32>::new(comptime!(EACH * EACH));
    #[unroll]
    for i in 0..comptime!(EACH * EACH) {
        sums[i] = 0.0;
    }
    let first_token = CUBE_POS_Y as usize * TILE;
    let first_output = CUBE_POS_X as usize * TILE;
    let mut start = 0usize.runtime();
    while start < depth {
        load_x(x, &mut x_tile, first_token, start, tokens, depth);
        load_w(
            words,
            scales,
            zeros,
            &mut w_tile,
            first_output,
            start,
            depth,
            width,
            layout,
            transposed,
        );
        sync_cube();
        for k in 0..STEP {
            #[unroll]
            for i in 0..EACH {
                let value = x_tile[k * TILE + UNIT_POS_Y as usize + i * SIDE];
                #[unroll]
                for j in 0..EACH {
                    let weight = w_tile[k * TILE + UNIT_POS_X as usize + j * SIDE];
                    sums[i * EACH + j] += value * weight;
                }
            }
        }
        sync_cube();
        start += STEP;
    }
    #[unroll]
    for i in 0..EACH {
        let token = first_token + UNIT_POS_Y as usize + i * SIDE;
        #[unroll]
        for j in 0..EACH {
            let output = first_output + UNIT_POS_X as usize + j * SIDE;
            if token < tokens && output < width {
                y[token * width + output] = sums[i * EACH + j];
            }
        }
    }
}

/// Copies a part of x to shared memory, step × tokens; zeros beyond its ends.
#[cube]
fn load_x(
    x: &[f32],
    tile: &mut Shared<[f32]>,
    first_token: usize,
    start: usize,
    tokens: usize,
    depth: usize,
) {
    let mut place = UNIT_POS as usize;
    while place < comptime!(STEP * TILE) {
        // Neighbouring units read neighbouring numbers of a row.
        let (k, token) = (place % STEP, place / STEP);
        let mut value = 0.0f32;
        if start + k < depth && first_token + token < tokens {
            value = x[(first_token + token) * depth + start + k];
        }
        tile[k * TILE + token] = value;
        place += comptime!(SIDE * SIDE);
    }
}

/// Decodes a part of the weight to shared memory, step × outputs of the product; zeros beyond its ends.
#[allow(
    clippy::too_many_arguments,
    reason = "a weight is three buffers, and kernels take no structures of them"
)]
#[cube]
fn load_w(
    words: &[u32],
    scales: &[u32],
    zeros: &[u32],
    tile: &mut Shared<[f32]>,
    first_output: usize,
    start: usize,
    depth: usize,
    width: usize,
    #[comptime] layout: Layout,
    #[comptime] transposed: bool,
) {
    let mut place = UNIT_POS as usize;
    while place < comptime!(STEP * TILE) {
        let mut weight = 0.0f32;
        // Neighbouring units read neighbouring numbers of a row, which runs along the depth or along the outputs.
        if comptime!(transposed) {
            let (k, output) = (place % STEP, place / STEP);
            if start + k < depth && first_output + output < width {
                weight = number(
                    words,
                    scales,
                    zeros,
                    first_output + output,
                    start + k,
                    layout,
                );
            }
            tile[k * TILE + output] = weight;
        } else {
            let (output, k) = (place % TILE, place / TILE);
            if start + k < depth && first_output + output < width {
                weight = number(
                    words,
                    scales,
                    zeros,
                    start + k,
                    first_output + output,
                    layout,
                );
            }
            tile[k * TILE + output] = weight;
        }
        place += comptime!(SIDE * SIDE);
    }
}

/// Rows of the weight, decoded: a unit for each number.
#[cube(launch)]
pub fn rows(
    indices: &[u32],
    words: &[u32],
    scales: &[u32],
    zeros: &[u32],
    y: &mut [f32],
    count: usize,
    #[comptime] layout: Layout,
) {
    let place = ABSOLUTE_POS;
    if place < count {
        let (index, i) = (place / layout.inputs, place % layout.inputs);
        y[place] = number(words, scales, zeros, indices[index] as usize, i, layout);
    }
}
