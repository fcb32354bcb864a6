//! redis-server over a unix socket.

use super::processes::{Running, until};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

pub struct Redis {
    _server: Running,
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Redis {
    /// `None` where there is no redis-server.
    pub fn start(dir: &Path) -> Option<Self> {
        let socket = dir.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).stdout(Stdio::null());
        let server = Running::start(&mut command)?;
        let stream = until(|| UnixStream::connect(&socket).ok());
        Some(Self { _server: server, stream, buffer: vec![0; 8 << 20] })
    }

    pub fn set(&mut self, key: &str, value: &[u8]) {
        let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), value.len());
        self.stream.write_all(head.as_bytes()).expect("redis");
        self.stream.write_all(value).expect("redis");
        self.stream.write_all(b"\r\n").expect("redis");
        let read = self.stream.read(&mut self.buffer).expect("redis");
        assert!(self.buffer[..read].starts_with(b"+OK"));
    }

    pub fn get(&mut self, key: &str, len: usize) {
        let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
        self.stream.write_all(request.as_bytes()).expect("redis");
        let whole = format!("${len}\r\n").len() + len + 2;
        self.stream.read_exact(&mut self.buffer[..whole]).expect("redis");
    }
}
