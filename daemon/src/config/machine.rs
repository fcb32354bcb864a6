//! What this machine has: memory, the control group's limit, cores.

use super::scalar::{Bytes, Count};
use bettong_core::index::INDEX_ENTRY_BYTES;
use std::path::Path;

/// The default length of the index where there is memory enough.
const INDEX_ENTRIES_MAX_DEFAULT: u32 = 16_000_000;

/// The part of the machine that configuration depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Bytes of main memory, without what is set aside as huge pages.
    pub memory_bytes: u64,
    /// The control group's limit, in bytes, where there is one.
    pub group_bytes: Option<u64>,
    /// Cores that this process may use, at least 1.
    pub cores: usize,
}

impl Machine {
    /// Reads `/proc` and `/sys`. Where the memory cannot be read, 1 GiB is assumed: too small a pool is safe.
    pub fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        Self {
            memory_bytes: total_of(&text("/proc/meminfo")).unwrap_or(1 << 30),
            group_bytes: group_limit(&text("/proc/self/cgroup"), text),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// The most that may be used: the smaller of main memory and the group's limit.
    pub fn usable_bytes(&self) -> u64 {
        self.group_bytes.map_or(self.memory_bytes, |group| group.min(self.memory_bytes))
    }

    /// The default of the doors' threads: one for every two cores. Whom they serve needs cores as well, here or by way of the
    /// kernel: on two cores, a thread on each answers half as many requests of a client on the same machine.
    pub fn reactors_default(&self) -> Count {
        Count(u32::try_from(self.cores.div_ceil(2)).unwrap_or(u32::MAX))
    }

    /// The default of the memory pool: a quarter of what is usable, in whole huge pages of the shorter kind.
    pub fn pool_default(&self) -> Bytes {
        Bytes((self.usable_bytes() / 4) & !((2 << 20) - 1))
    }

    /// The default length of the index: what an eighth of what is usable has room for, within bounds.
    pub fn index_entries_default(&self) -> u32 {
        let room = self.usable_bytes() / 8 / INDEX_ENTRY_BYTES;
        u32::try_from(room).unwrap_or(u32::MAX).clamp(1, INDEX_ENTRIES_MAX_DEFAULT)
    }
}

/// `MemTotal` of /proc/meminfo without `Hugetlb`, in bytes.
fn total_of(meminfo: &str) -> Option<u64> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(bytes("MemTotal:")?.saturating_sub(bytes("Hugetlb:").unwrap_or(0)))
}

/// The smallest memory limit on the way from this process's control group up to the root (version 2, then version 1).
fn group_limit(own: &str, read: impl Fn(&str) -> String) -> Option<u64> {
    let number = |path: String| read(&path).trim().parse::<u64>().ok();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let above = Path::new(path).ancestors().filter_map(Path::to_str);
    let version_2 =
        above.filter_map(|group| number(format!("/sys/fs/cgroup{}/memory.max", group.trim_end_matches('/'))));
    let version_1 = number("/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned());
    // Version 1 writes "no limit" as a number near 2^63.
    version_2.min().or(version_1).filter(|limit| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_above_the_process_counts() {
        let files = |path: &str| match path {
            "/sys/fs/cgroup/a/b/memory.max" => "max\n".to_owned(),
            "/sys/fs/cgroup/a/memory.max" => "1073741824\n".to_owned(),
            "/sys/fs/cgroup/memory.max" => "4294967296\n".to_owned(),
            _ => String::new(),
        };
        assert_eq!(group_limit("0::/a/b\n", files), Some(1 << 30));
        assert_eq!(group_limit("0::/\n", files), Some(4 << 30));
        assert_eq!(group_limit("", |_| String::new()), None);
        let old = |path: &str| if path.contains("limit_in_bytes") { "9223372036854771712" } else { "" }.to_owned();
        assert_eq!(group_limit("4:memory:/x\n", old), None);
    }

    #[test]
    fn the_pool_is_a_quarter_of_the_smaller() {
        assert_eq!(total_of("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
        assert_eq!(total_of("MemTotal: 16384 kB\nHugetlb:  4096 kB\n"), Some(12 << 20));
        let odd = Machine { memory_bytes: 4 * ((8003 << 20) + 5), group_bytes: None, cores: 2 };
        assert_eq!(odd.pool_default(), Bytes(8002 << 20));
        let machine = Machine { memory_bytes: 16 << 30, group_bytes: Some(8 << 30), cores: 2 };
        assert_eq!(machine.pool_default(), Bytes(2 << 30));
        assert_eq!(machine.index_entries_default(), (1 << 30) / 128);
        assert_eq!(Machine { group_bytes: None, ..machine }.index_entries_default(), 16_000_000);
    }
}
