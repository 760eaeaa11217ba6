//! A batch of windows on its way through one block: in parallel on the CPU, as one tensor on a GPU.

use burn::tensor::Tensor;
use compress_models::{Block, Device, RotaryAngles};
use rayon::prelude::*;

use crate::{Result, parallel::side_by_side_pays};

/// Tokens that go through a block of a GPU's at once, in whole windows: enough to keep it busy.
const TOGETHER: usize = 4096;

/// That many windows of some length; at least one.
pub fn together(time: usize) -> usize {
    (TOGETHER / time.max(1)).max(1)
}

/// Takes the residual streams of a batch through a block: in parallel where that pays, on a GPU as one tensor.
pub fn pass_through(block: &Block, angles: &RotaryAngles, streams: &mut [Tensor<3>]) {
    let forward = |x: Tensor<3>| {
        let angles = angles.first(x.dims()[1]);
        block.forward(x, &angles, None)
    };
    let device = streams.first().map(Tensor::device);
    if device.is_some_and(|device| side_by_side_pays(&device, streams.len())) {
        let each = streams.par_iter_mut().with_max_len(1);
        each.for_each(|x| *x = forward(x.clone()));
        return;
    }
    // Windows of one length only; documents have lengths of their own.
    for alike in streams.chunk_by_mut(|a, b| a.dims() == b.dims()) {
        let time = alike.first().map_or(1, |window| window.dims()[1]);
        for windows in alike.chunks_mut(together(time)) {
            if let [window] = windows {
                *window = forward(window.clone());
                continue;
            }
            let joined = forward(Tensor::cat(windows.to_vec(), 0));
            for (window, passed) in windows.iter_mut().zip(joined.split(1, 0)) {
                *window = passed;
            }
        }
    }
}

/// Waits until a device has done what it was given; the CPU has already.
pub fn wait(device: &Device) -> Result<()> {
    let failed = |e: String| compress_models::Error::Execution { problem: e };
    Ok(device.sync().map_err(|e| failed(e.to_string()))?)
}
