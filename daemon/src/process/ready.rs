//! The one line on standard output that says the daemon serves.

use std::net::SocketAddr;

const PREFIX: &str = "ready tcp://";

/// The line, e.g. `ready tcp://127.0.0.1:7450 node node-5f3c store file:///data/objects`.
pub fn line(address: SocketAddr, node_id: &str, store: &str) -> String {
    format!("{PREFIX}{address} node {node_id} store {store}")
}

/// The URL to connect to, from such a line.
pub fn parse(line: &str) -> Option<String> {
    let rest = line.strip_prefix(PREFIX)?;
    let address: SocketAddr = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(format!("tcp://{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let address: SocketAddr = "[::1]:7450".parse().unwrap();
        assert_eq!(parse(&line(address, "n", "memory:")), Some("tcp://[::1]:7450".to_owned()));
        for other in ["", "ready", "ready tcp://", "ready tcp://x node", "error ready tcp://127.0.0.1:1"] {
            assert_eq!(parse(other), None);
        }
    }
}
