//! How a client behaves, and where it connects to.

use bettong_wire::{ErrorKind, ServiceError};
use std::net::IpAddr;
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
    /// Bytes of payloads that were received and are still held, or are being received.
    pub received_bytes_max: u64,
    /// CRC32C over payloads; `None` means: unless the daemon is on this host.
    pub payload_crc: Option<bool>,
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
            seed: 0,
        }
    }
}

/// Where a daemon listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    /// As `TcpStream::connect` takes it.
    pub host_port: String,
    pub is_loopback: bool,
}

impl Address {
    /// Reads `tcp://HOST:PORT`.
    pub fn parse(url: &str) -> Result<Self, ServiceError> {
        let wrong = |why: &str| {
            let text = format!("`{url}` is no address of a daemon: {why}; write tcp://HOST:PORT");
            ServiceError::new(ErrorKind::Invalid, text)
        };
        let rest = url.strip_prefix("tcp://").ok_or_else(|| wrong("it does not begin with tcp://"))?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        if port.parse::<u16>().is_err() {
            return Err(wrong("its port is not a number up to 65535"));
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() || bare.contains(['/', '@', ' ']) || (bare == host && host.contains(':')) {
            return Err(wrong("its host is not a name or an address"));
        }
        let is_loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        Ok(Self { host_port: rest.to_owned(), is_loopback })
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
            assert_eq!(Address::parse(url), Ok(Address { host_port: host_port.into(), is_loopback }), "{url}");
        }
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
        ] {
            let error = Address::parse(url).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(error.message.contains("tcp://HOST:PORT"), "{error}");
        }
    }
}
