//! One end of a connection, whose bytes faults may hold back, cut into pieces, or lose.
//!
//! Each movement of bytes is an opportunity: what arrives at this end may be late, in pieces, lost for good or followed by
//! a reset; what is written may be taken in pieces, lost for good or cut off by a reset. Since both ends of a connection
//! are links, both directions are struck.

use crate::faults::{FaultKind, Strike};
use crate::random::Stream;
use crate::run::Run;
use bytes::{Buf, Bytes};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Pieces of bytes that trickle are at most 2 to the power of this.
const PIECE_BITS_MAX: u64 = 12;
/// Bytes that a dead direction takes, as the buffers of the kernel do, before it takes no more.
const SWALLOWED_MAX: usize = 128 << 10;

/// Whose end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Client,
    Door,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "a client",
            Self::Door => "the door",
        })
    }
}

/// Who is asked whether a fault strikes: the node whose door the connection leads to.
struct Struck {
    end: End,
    node: String,
}

type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One end of a connection.
pub struct Link {
    run: Run,
    struck: Option<Struck>,
    /// `None` once the connection is reset.
    stream: Option<TcpStream>,
    /// Bytes that are here, and not read yet.
    arrived: Bytes,
    /// Nothing is read before this is over.
    read_pause: Option<Pause>,
    write_pause: Option<Pause>,
    deaf: bool,
    /// Bytes that were written and go nowhere, where that direction is dead.
    swallowed: Option<usize>,
}

impl Link {
    /// The `end` of a connection between a client and the door of `node`.
    pub fn new(stream: TcpStream, end: End, run: &Run, node: &str) -> Self {
        let mut link = Self::spared(stream, run);
        link.struck = Some(Struck { end, node: node.to_owned() });
        link
    }

    /// One that nothing strikes.
    pub fn spared(stream: TcpStream, run: &Run) -> Self {
        Self {
            run: run.clone(),
            struck: None,
            stream: Some(stream),
            arrived: Bytes::new(),
            read_pause: None,
            write_pause: None,
            deaf: false,
            swallowed: None,
        }
    }

    fn strike(&self, kind: FaultKind) -> Option<Strike> {
        self.run.fault_event(&self.struck.as_ref()?.node, kind)
    }

    fn changed(&self, strike: &Strike, what: fmt::Arguments<'_>) {
        self.run.fault_changed(&strike.key);
        if let Some(Struck { end, node }) = &self.struck {
            self.run.trace(node, format_args!("a connection, seen from {end}: {what}"));
        }
    }

    /// What strikes bytes as they arrive.
    fn arrive(&mut self, bytes: Bytes) {
        self.arrived = bytes;
        let len = self.arrived.len();
        if let Some(strike) = self.strike(FaultKind::NetDelay) {
            self.changed(&strike, format_args!("{len} bytes arrive {:?} late", strike.delay));
            self.read_pause = Some(pause(strike.delay));
        }
        if let Some(strike) = self.strike(FaultKind::NetReset) {
            let kept = part(&strike, len);
            self.changed(&strike, format_args!("reset after {kept} of {len} bytes that came"));
            self.arrived.truncate(kept);
            self.stream = None;
        }
        if let Some(strike) = self.strike(FaultKind::NetHalfOpen) {
            let kept = part(&strike, len);
            self.arrived.truncate(kept);
            self.deaf = true;
            self.die(&strike);
            self.changed(&strike, format_args!("nothing arrives after {kept} of {len} bytes"));
        }
    }

    /// The other direction of a connection whose one direction died: dead as well, as when the peer is gone, or not.
    fn die(&mut self, strike: &Strike) {
        if strike.choice.is_multiple_of(2) {
            self.deaf = true;
            self.swallowed.get_or_insert(0);
        }
    }

    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let whole = self.arrived.len().min(buf.remaining());
        let len = self.trickle(whole, |link| &mut link.read_pause);
        buf.put_slice(&self.arrived.split_to(len));
    }

    /// How many of `whole` bytes move at once, and how long the next ones wait.
    fn trickle(&mut self, whole: usize, waits: impl Fn(&mut Self) -> &mut Option<Pause>) -> usize {
        let Some(strike) = self.strike(FaultKind::NetTrickle) else { return whole };
        let mut random = Stream::new(strike.choice, "piece");
        let bits = random.below(PIECE_BITS_MAX + 1);
        let len = whole.min(1 + random.below(1 << bits) as usize);
        if len < whole {
            self.run.fault_changed(&strike.key);
        }
        if !strike.delay.is_zero() {
            *waits(self) = Some(pause(strike.delay));
        }
        len
    }

    /// What strikes bytes as they are written: how many of them go out, and how many are taken.
    fn leave(&mut self, len: usize) -> Leaving {
        if let Some(strike) = self.strike(FaultKind::NetReset) {
            let out = part(&strike, len);
            self.changed(&strike, format_args!("reset after {out} of {len} bytes that were written"));
            return Leaving { out, then: Then::Reset };
        }
        if let Some(strike) = self.strike(FaultKind::NetHalfOpen) {
            let out = part(&strike, len);
            self.swallowed = Some(0);
            self.die(&strike);
            self.changed(&strike, format_args!("nothing goes out after {out} of {len} bytes"));
            return Leaving { out, then: Then::Swallow };
        }
        let out = self.trickle(len, |link| &mut link.write_pause);
        Leaving { out, then: Then::GoOn }
    }
}

/// What becomes of bytes that are written.
struct Leaving {
    out: usize,
    then: Then,
}

enum Then {
    GoOn,
    Reset,
    Swallow,
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        loop {
            ready!(over(&mut link.read_pause, cx));
            if link.arrived.has_remaining() {
                link.hand_over(buf);
                return Poll::Ready(Ok(()));
            }
            if link.deaf {
                // Whoever waits here is woken by its own time limit.
                return Poll::Pending;
            }
            let Some(stream) = &mut link.stream else { return Poll::Ready(Err(reset())) };
            let before = buf.filled().len();
            ready!(Pin::new(stream).poll_read(cx, buf))?;
            let bytes = Bytes::copy_from_slice(buf.filled().get(before..).unwrap_or_default());
            if bytes.is_empty() || link.struck.is_none() {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
            link.arrive(bytes);
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let link = self.get_mut();
        ready!(over(&mut link.write_pause, cx));
        if let Some(swallowed) = &mut link.swallowed {
            if *swallowed >= SWALLOWED_MAX {
                return Poll::Pending;
            }
            *swallowed += bytes.len();
            return Poll::Ready(Ok(bytes.len()));
        }
        if link.stream.is_none() {
            return Poll::Ready(Err(reset()));
        }
        let Leaving { out, then } = link.leave(bytes.len());
        let Some(stream) = &mut link.stream else { return Poll::Ready(Err(reset())) };
        let out = bytes.get(..out).unwrap_or(bytes);
        let taken = ready!(Pin::new(&mut *stream).poll_write(cx, out))?;
        if taken < bytes.len() {
            // A piece goes its own way; madsim would send it with what is written after it.
            ready!(Pin::new(stream).poll_flush(cx))?;
        }
        match then {
            Then::GoOn => Poll::Ready(Ok(taken)),
            Then::Swallow => Poll::Ready(Ok(bytes.len())),
            Then::Reset => {
                link.stream = None;
                Poll::Ready(Err(reset()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        match &mut link.stream {
            _ if link.swallowed.is_some() => Poll::Ready(Ok(())),
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Err(reset())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        match &mut link.stream {
            Some(stream) if link.swallowed.is_none() => Pin::new(stream).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Link {
    /// Over a dead direction the end of a connection is not heard either.
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take().filter(|_| self.swallowed.is_some()) {
            self.run.leave_open(stream);
        }
    }
}

fn pause(lasts: Duration) -> Pause {
    Box::pin(madsim::time::sleep(lasts))
}

fn over(pause: &mut Option<Pause>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(waits) = pause {
        ready!(waits.as_mut().poll(cx));
        *pause = None;
    }
    Poll::Ready(())
}

/// Where in `len` bytes a strike comes.
fn part(strike: &Strike, len: usize) -> usize {
    Stream::new(strike.choice, "part").below(len as u64) as usize
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "reset by the simulated network")
}
