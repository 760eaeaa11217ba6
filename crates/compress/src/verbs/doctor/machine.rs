//! The processor, and the devices that networks may run on.

use std::{panic, thread};

use compress_models::{AUTOTUNE, Adapter, CPU, DeviceChoice, adapters};
use serde_json::{Value, json};
use sysinfo::System;

use super::{Fact, unknown};
use crate::{memory, report};

/// Name, cores and vector instructions.
pub fn processor() -> Vec<Fact> {
    let logical = thread::available_parallelism().ok().map(usize::from);
    vec![
        Fact::text("name", memory::processor()),
        Fact::count("physical_cores", System::physical_core_count()),
        Fact::count("logical_cores", logical),
        Fact::count("threads_used", Some(rayon::current_num_threads())),
        Fact::list("vector_instructions", &vector_instructions()),
    ]
}

/// Those of this processor that make a difference to kernels.
#[cfg(target_arch = "x86_64")]
fn vector_instructions() -> Vec<&'static str> {
    use std::is_x86_feature_detected as detected;
    let all = [
        ("avx2", detected!("avx2")),
        ("fma", detected!("fma")),
        ("f16c", detected!("f16c")),
        ("avx512f", detected!("avx512f")),
        ("avx512bw", detected!("avx512bw")),
        ("avx512vnni", detected!("avx512vnni")),
        ("avxvnni", detected!("avxvnni")),
    ];
    present(&all)
}

/// Those of this processor that make a difference to kernels.
#[cfg(target_arch = "aarch64")]
fn vector_instructions() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected as detected;
    let all = [
        ("neon", detected!("neon")),
        ("fp16", detected!("fp16")),
        ("dotprod", detected!("dotprod")),
        ("i8mm", detected!("i8mm")),
        ("sve", detected!("sve")),
    ];
    present(&all)
}

/// On other processors nothing is known of them.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vector_instructions() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn present(all: &[(&'static str, bool)]) -> Vec<&'static str> {
    all.iter()
        .filter_map(|&(name, is_there)| is_there.then_some(name))
        .collect()
}

/// What there is to run on, what would be taken, and what is kept of timings.
pub fn devices() -> Vec<Fact> {
    // Drivers of graphics cards are where a broken machine shows, and burn panics where one does not open: a table
    // with a gap says more than no table.
    let adapters = panic::catch_unwind(adapters).ok();
    let taken = panic::catch_unwind(|| DeviceChoice::Automatic.open()).ok();
    let taken = taken.and_then(Result::ok).map(|(_, name)| name);
    let on_cpu = taken.as_deref() == Some(CPU);
    let because = adapters
        .as_ref()
        .map(|found| reason(found.as_deref(), on_cpu));
    vec![
        adapters_fact(adapters.as_ref()),
        Fact::text("device_auto", taken),
        Fact::text("because", because.map(str::to_owned)),
        Fact::text("autotune", Some(AUTOTUNE.to_owned())),
    ]
}

fn adapters_fact(found: Option<&Option<Vec<Adapter>>>) -> Fact {
    let words = match found {
        None => unknown(),
        Some(None) => "this program was built without wgpu".to_owned(),
        Some(Some(all)) if all.is_empty() => "none".to_owned(),
        Some(Some(all)) => all.iter().map(words).collect::<Vec<_>>().join("\n"),
    };
    let all = found.and_then(Option::as_ref);
    let value = all.map(|all| all.iter().map(describe).collect::<Vec<_>>());
    Fact::new("adapters", words, value)
}

/// An adapter in a line.
fn words(adapter: &Adapter) -> String {
    let f16 = if adapter.f16 { "f16" } else { "no f16" };
    let largest = report::size(adapter.largest_buffer as usize);
    format!(
        "{}: {} by {}, {f16}, buffers up to {largest}",
        adapter.name, adapter.kind, adapter.api
    )
}

/// An adapter, for programs.
fn describe(adapter: &Adapter) -> Value {
    json!({
        "name": adapter.name,
        "api": adapter.api,
        "driver": adapter.driver,
        "kind": adapter.kind,
        "physical": adapter.physical,
        "f16": adapter.f16,
        "largest_buffer_bytes": adapter.largest_buffer,
    })
}

/// Why `--device auto` takes what it takes.
fn reason(found: Option<&[Adapter]>, on_cpu: bool) -> &'static str {
    match found {
        None => "this program was built without wgpu",
        Some([]) => "no adapter answers",
        Some(_) if !on_cpu => "the first card that answers",
        Some(all) if all.iter().any(|adapter| adapter.physical) => {
            "an adapter answers that is no card, or whose device file is not there; --device wgpu takes it"
        }
        Some(_) => "no card answers, and a software driver is slower than the kernels for the CPU",
    }
}
