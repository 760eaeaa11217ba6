//! How much memory this program may use, and how much it has taken.
//!
//! The limit is a budget for predictions (`footprint`, `loaded`), which choose how much goes on at the same time;
//! nothing enforces it.

use std::fs;

use bytesize::ByteSize;
use sysinfo::{
    CGroupLimits, CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate,
    System,
};

/// A limit in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// At most as many as an address can count.
    bytes: usize,
}

impl Memory {
    /// The limit that was asked for; where none was, two thirds of what is free now, so that other programs and the
    /// system's own copies of files have the rest.
    pub fn new(asked: Option<ByteSize>) -> Self {
        let bytes = asked.map_or_else(|| free() / 3 * 2, |size| size.as_u64());
        Self {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }

    /// How many bytes there are.
    pub const fn bytes(self) -> usize {
        self.bytes
    }

    /// Whether so many bytes fit.
    pub const fn holds(self, bytes: usize) -> bool {
        bytes <= self.bytes
    }
}

/// Has large blocks returned to the system when they are freed, and not the default 100 ms later: of the matrices that
/// a decomposition frees one after the other, that much time would keep three alive.
pub fn return_at_once() {
    /// `mi_option_arena_purge_mult` of mimalloc 2: the delay before an arena's free blocks are returned, in units of
    /// 10 ms. The bindings have no name for it.
    const ARENA_PURGE_DELAY: libmimalloc_sys::mi_option_t = 24;
    #[expect(
        unsafe_code,
        reason = "an option of the allocator, set before any other thread runs"
    )]
    // SAFETY: the number is of an option that exists in the pinned version, and any value is valid for it.
    unsafe {
        libmimalloc_sys::mi_option_set(ARENA_PURGE_DELAY, 0);
    }
}

/// Bytes of memory that this program has taken by now; 0 where the system does not say.
pub fn resident() -> usize {
    let mut system = System::new();
    let own = Pid::from_u32(std::process::id());
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, memory);
    let bytes = system.process(own).map_or(0, sysinfo::Process::memory);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The most memory that this program has taken since it began, or since [`forget_peak`], in bytes; none where the system
/// does not say (only Linux does).
pub fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let peak = lines.find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = peak.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Has the peak begin anew; tells whether the system did so.
pub fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The processor's name; none where it has none.
pub fn processor() -> Option<String> {
    let mut system = System::new();
    system.refresh_cpu_specifics(CpuRefreshKind::nothing());
    let name = system.cpus().first()?.brand().trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The processor, and how many threads run on it: what figures of time and memory are of.
pub fn machine() -> serde_json::Value {
    serde_json::json!({
        "made_by": format!("compress {}", env!("CARGO_PKG_VERSION")),
        "processor": processor().unwrap_or_default(),
        "threads": rayon::current_num_threads(),
    })
}

/// Bytes that programs may still take: what the system has, or what the limit of this program's group of
/// processes leaves, if that is less. What the group has read from files does not count as taken: the system
/// forgets it when memory is wanted.
pub fn free() -> u64 {
    let (system, limits) = look();
    let available = system.available_memory();
    limits.map_or(available, |limits| {
        available.min(limits.total_memory.saturating_sub(limits.rss))
    })
}

/// Bytes of memory that there are: the system's, or what the limit of this program's group of processes is, if that
/// is less; 0 where the system does not say.
pub fn total() -> u64 {
    let (system, limits) = look();
    let total = system.total_memory();
    limits.map_or(total, |limits| total.min(limits.total_memory))
}

/// The system's memory as it is now, and the limits of this program's group of processes, if it has any.
fn look() -> (System, Option<CGroupLimits>) {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let own = Pid::from_u32(std::process::id());
    let nothing = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, nothing);
    let limits = system
        .process(own)
        .and_then(sysinfo::Process::cgroup_limits);
    (system, limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_the_budget() {
        let memory = Memory::new(Some(ByteSize::gb(3)));
        assert_eq!(memory.bytes(), 3_000_000_000);
        assert!(memory.holds(3_000_000_000) && !memory.holds(3_000_000_001));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_peak_that_was_forgotten_counts_no_more() {
        let ballast = vec![1_u8; 64 << 20];
        assert!(peak() > Some(ballast.len()));
        drop(std::hint::black_box(ballast));
        let before = peak();
        assert!(!forget_peak() || peak() <= before);
    }

    #[test]
    fn without_a_word_it_is_less_than_the_machine_has() {
        let mut system = System::new();
        system.refresh_memory();
        let memory = Memory::new(None);
        assert!(memory.holds(1) && !memory.holds(system.total_memory() as usize));
    }
}
