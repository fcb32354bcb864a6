//! How a client behaves, and where it connects to.

use bettong_wire::{ErrorKind, ServiceError};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a client behaves. The defaults suit a daemon on the same host or in the same rack.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tenant whose namespaces are opened.
    pub tenant: String,
    /// Bearer token; empty where the daemon asks for none.
    pub token: String,
    /// Every call ends within this time, repetitions included. Longer than a daemon's own deadline, so that a daemon that
    /// lives is the one to say why a call was not answered.
    pub call_timeout: Duration,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// First pause before connecting again; doubled each time, with jitter.
    pub backoff: Duration,
    /// Longest pause before connecting again.
    pub backoff_max: Duration,
    /// Answers of the daemon that ask to come again are heeded so often, within `call_timeout`.
    pub attempts_max: u32,
    /// Calls under way at once, those that wait for the connection included; one more is `busy`.
    pub calls_max: usize,
    /// Over TCP: bytes of payloads that were received and are still held, or are being received; 32 MiB of buffers are kept
    /// beside them for the next ones. Through shared memory the
    /// daemon's quota is what limits them.
    pub received_bytes_max: u64,
    /// Over TCP: CRC32C over payloads; `None` means: unless the daemon is on this host.
    pub payload_crc: Option<bool>,
    /// Through shared memory: how much of it is asked of the daemon for what is put, in bytes; 64 MiB by default. The daemon
    /// may give less, and gives room for its longest value in any case. A batch of puts has to fit into it at once, and is
    /// `too_large` otherwise.
    pub staging_bytes: u64,
    /// Through shared memory: for how long an answer is looked for before the thread may sleep, which alone costs about as
    /// much. It gives way to other tasks, and is left out for a while where it was in vain. Zero: never.
    pub spin: Duration,
    /// Through shared memory: what the daemon's operators know this client by, at most 64 bytes.
    pub name: String,
    /// Decides the jitter. Give each client its own.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tenant: "default".to_owned(),
            token: String::new(),
            call_timeout: Duration::from_secs(35),
            connect_timeout: Duration::from_secs(5),
            backoff: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
            attempts_max: 8,
            calls_max: 4096,
            received_bytes_max: 4 << 30,
            payload_crc: None,
            staging_bytes: 64 << 20,
            spin: Duration::from_micros(50),
            name: String::new(),
            seed: 0,
        }
    }
}

/// Where a daemon listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Tcp {
        /// As `TcpStream::connect` takes it.
        host_port: String,
        is_loopback: bool,
    },
    /// A socket in the file system of this host, by which memory is shared.
    Shm { path: PathBuf },
}

/// That a URL is no address, and why.
fn no_address(url: &str, why: &str) -> ServiceError {
    let text = format!("`{url}` is no address of a daemon: {why}; write tcp://HOST:PORT or shm:///PATH");
    ServiceError::new(ErrorKind::Invalid, text)
}

impl Address {
    /// Reads `tcp://HOST:PORT` or `shm:///PATH`.
    pub fn parse(url: &str) -> Result<Self, ServiceError> {
        let read = match (url.strip_prefix("tcp://"), url.strip_prefix("shm://")) {
            (Some(host_port), _) => Self::tcp(host_port),
            (_, Some(path)) => Self::shm(path),
            _ => Err("it begins with neither tcp:// nor shm://"),
        };
        read.map_err(|why| no_address(url, why))
    }

    fn tcp(host_port: &str) -> Result<Self, &'static str> {
        let (host, port) = host_port.rsplit_once(':').ok_or("it has no port")?;
        if port.parse::<u16>().is_err() {
            return Err("its port is not a number up to 65535");
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() || bare.contains(['/', '@', ' ']) || (bare == host && host.contains(':')) {
            return Err("its host is not a name or an address");
        }
        let is_loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        Ok(Self::Tcp { host_port: host_port.to_owned(), is_loopback })
    }

    fn shm(path: &str) -> Result<Self, &'static str> {
        if !path.starts_with('/') {
            return Err("its path does not begin with a slash");
        }
        if path.ends_with('/') || path.contains('\0') {
            return Err("its path is not that of a file");
        }
        Ok(Self::Shm { path: path.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_a_reason() {
        for (url, host_port, is_loopback) in [
            ("tcp://127.0.0.1:7450", "127.0.0.1:7450", true),
            ("tcp://localhost:1", "localhost:1", true),
            ("tcp://[::1]:7450", "[::1]:7450", true),
            ("tcp://store.example:7450", "store.example:7450", false),
            ("tcp://10.0.0.1:7450", "10.0.0.1:7450", false),
        ] {
            assert_eq!(Address::parse(url), Ok(Address::Tcp { host_port: host_port.into(), is_loopback }), "{url}");
        }
        let path = "/run/a daemon.sock".into();
        assert_eq!(Address::parse("shm:///run/a daemon.sock"), Ok(Address::Shm { path }));
        for url in [
            "",
            "127.0.0.1:1",
            "http://x:1",
            "tcp://x",
            "tcp://:1",
            "tcp://x:y",
            "tcp://x:70000",
            "tcp://::1:7",
            "tcp://x:1/y",
            "shm://",
            "shm:///",
            "shm://run/socket",
            "shm:///run/",
            "shm:///a\0b",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(error.message.contains("tcp://HOST:PORT or shm:///PATH"), "{error}");
        }
    }
}
