//! The network between clients and the TCP doors of nodes. Madsim carries the bytes, and cuts nodes off; what happens to
//! the bytes of one connection happens in `Link`, which both the client library and the door get for their sockets.

mod link;

pub use link::{End, Link};

use crate::run::Run;
use bettong_client::{Dial, Tcp};
use std::io;

/// Connects the client library to one daemon.
pub struct Dialer {
    run: Run,
    daemon: String,
}

impl Dialer {
    pub fn new(run: &Run, daemon: &str) -> Self {
        Self { run: run.clone(), daemon: daemon.to_owned() }
    }
}

impl Dial for Dialer {
    type Stream = Link;

    async fn dial(&self, host_port: &str) -> io::Result<Link> {
        let stream = Tcp.dial(host_port).await?;
        Ok(Link::new(stream, End::Client, &self.run, &self.daemon))
    }
}
