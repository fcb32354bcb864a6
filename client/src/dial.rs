//! How a client reaches a daemon: over TCP, or by whatever stands in for it.

use std::future::Future;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Makes connections. A client asks again whenever it has lost one.
pub trait Dial: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects to `HOST:PORT`, once. The caller limits the time; a dropped call leaves nothing behind.
    fn dial(&self, host_port: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The network of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Dial for Tcp {
    type Stream = TcpStream;

    async fn dial(&self, host_port: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(host_port).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
