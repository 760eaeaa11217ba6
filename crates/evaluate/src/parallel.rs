//! Work in parallel where that pays, and its time.

use std::time::Instant;

use compress_models::Device;
use rayon::prelude::*;

use crate::Result;

/// Runs `count` tasks in parallel on the CPU, or one after the other on a GPU, which runs one at a
/// time anyway; results in order. The first error ends it.
pub fn side_by_side<T: Send>(
    mut devices: impl Iterator<Item = Device>,
    count: usize,
    run: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    if devices.all(|device| side_by_side_pays(&device, count)) {
        let each = (0..count).into_par_iter().with_max_len(1);
        each.map(&run).collect()
    } else {
        (0..count).map(run).collect()
    }
}

/// Whether tasks should run in parallel. A single task uses all cores for its matrix products.
pub fn side_by_side_pays(device: &Device, count: usize) -> bool {
    *device == Device::flex() && count > 1
}

/// Runs some work and adds the seconds to a total; a failed attempt adds none.
pub fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let clock = Instant::now();
    let result = work()?;
    *seconds += clock.elapsed().as_secs_f64();
    Ok(result)
}
