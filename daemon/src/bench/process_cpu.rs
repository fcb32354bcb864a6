//! CPU time of another process, from /proc.

use std::net::SocketAddr;
use std::time::Duration;

/// CPU time, user and system, that process `pid` and its threads have used.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(ticks_to_time(ticks_of(&stat)?))
}

/// Fields 14 and 15 of /proc/PID/stat. The name in field 2 may hold anything, so counting starts behind its last `)`.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')?.checked_add(1)?..)?.split_ascii_whitespace().skip(11);
    let user = fields.next()?.parse::<u64>().ok()?;
    let system = fields.next()?.parse::<u64>().ok()?;
    user.checked_add(system)
}

/// Linux reports these times in hundredths of a second on every architecture.
fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(10))
}

/// The local process that listens on `address`, if this user may see it.
pub fn listener_of(address: SocketAddr) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes: Vec<u64> = tables
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().filter_map(|line| listening_inode(line, address.port())).collect::<Vec<_>>())
        .collect();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        let mut files = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let holds = |link: std::path::PathBuf| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()?;
            inodes.contains(&inode).then_some(())
        };
        files.any(|file| std::fs::read_link(file.path()).ok().and_then(holds).is_some()).then_some(pid)
    })
}

/// The inode of a listening socket on `port`, from one line of /proc/net/tcp.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let matches = *fields.get(3)? == LISTEN && u16::from_str_radix(local_port, 16).ok()? == port;
    matches.then(|| fields.get(9)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks_of(stat).map(ticks_to_time), Some(Duration::from_secs(3)));
        for damaged in ["", "7 (a", "7 (a) S 1", "7 (a) S 1 7 7 0 -1 4 1 0 0 0 x y"] {
            assert_eq!(ticks_of(damaged), None);
        }
        assert!(cpu_time(std::process::id()).is_some());
    }

    #[test]
    fn our_own_listener_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listener_of(socket.local_addr().unwrap()), Some(std::process::id()));
    }
}
