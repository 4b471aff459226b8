//! How many processors and how much memory this process may use.

use std::collections::BTreeSet;

/// Physical cores among the processors that this process may run on: the default number of
/// threads. Two hyperthreads of a core share its multipliers, so the second adds nothing.
pub(crate) fn physical_cores() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    let Some(allowed) = allowed_processors() else { return logical };
    let mut cores = BTreeSet::new();
    for cpu in allowed {
        let topology = format!("/sys/devices/system/cpu/cpu{cpu}/topology");
        let read = |name: &str| -> Option<u32> {
            std::fs::read_to_string(format!("{topology}/{name}")).ok()?.trim().parse().ok()
        };
        match (read("physical_package_id"), read("core_id")) {
            (Some(package), Some(core)) => cores.insert((package, core)),
            _ => return logical,
        };
    }
    // A container's quota may allow fewer than the affinity mask does.
    cores.len().clamp(1, logical)
}

/// The processors that this process may be scheduled on, from Linux's process status.
fn allowed_processors() -> Option<Vec<usize>> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    parse_list(list.trim())
}

/// Linux's list form: `0-3,8,10-11`.
fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // No machine has more; a larger range is not a list of processors.
        if last >= 1 << 16 {
            return None;
        }
        found.extend(first..=last);
    }
    (!found.is_empty()).then_some(found)
}

/// Memory in all and memory free for use, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// What the machine or the container has.
    pub(crate) total: u64,
    /// What can be had without swapping.
    pub(crate) available: u64,
}

/// This machine's memory, lowered to the container's limit where there is one; none where the
/// system does not tell.
pub(crate) fn memory() -> Option<Memory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    };
    let mut memory = Memory { total: field("MemTotal:")?, available: field("MemAvailable:")? };
    let cgroup = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse().ok()
    };
    if let Some(limit) = cgroup("memory.max") {
        let used = cgroup("memory.current").unwrap_or(0);
        memory.total = memory.total.min(limit);
        memory.available = memory.available.min(limit.saturating_sub(used));
    }
    Some(memory)
}

/// The processor's name, where the system tells.
pub(crate) fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

/// The memory that this process holds now, in bytes.
pub(crate) fn resident_memory() -> Option<u64> {
    status("VmRSS:")
}

/// From now on [`peak_memory`] is what is resident from now on, where the system can forget.
pub(crate) fn forget_peak_memory() {
    // Linux's "reset the peak resident set size".
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The memory of its own that this process holds, files that it reads left out, in bytes.
pub(crate) fn held_memory() -> Option<u64> {
    status("RssAnon:")
}

/// The most memory that this process has held, in bytes.
pub(crate) fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// An amount of memory in Linux's process status, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_lists() {
        let check = |text: &str, expected: Option<Vec<usize>>| {
            assert_eq!(parse_list(text), expected, "{text}");
        };
        check("0", Some(vec![0]));
        check("0-2,5", Some(vec![0, 1, 2, 5]));
        check("", None);
        check("0-99999999999", None);
        check("a-b", None);
    }

    #[test]
    fn there_is_at_least_one_core() {
        assert!(physical_cores() >= 1);
    }
}
