//! Door reactors: threads, each pinned to a core, with an event loop of its own and a listening socket on the shared address.

use crate::exit::{Exit, Failure, OrExit, Outcome};
use bettong_core::Clock;
use bettong_core::real::RealClock;
use bettong_core::seldom::Seldom;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Connections that wait to be accepted, for each reactor.
const BACKLOG: i32 = 1024;
/// Pause after an accept that failed: a full table of descriptors must not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Time between two messages about connections that are not taken.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Listening sockets, one a reactor, that share one address.
#[derive(Debug)]
pub struct Listeners {
    pub address: SocketAddr,
    sockets: Vec<StdListener>,
}

impl Listeners {
    /// Binds `count` sockets. A busy address is refused, though sharing would let us join its owner.
    pub fn bind(address: SocketAddr, count: usize) -> Outcome<Self> {
        let failed = |error: std::io::Error| Failure::new(Exit::Listen, format!("listen address {address}: {error}"));
        // Bound without sharing: this fails where anybody else listens, and then nothing is started.
        let alone = StdListener::bind(address).map_err(failed)?;
        let address = alone.local_addr().map_err(failed)?;
        drop(alone);
        let sockets = (0..count.max(1)).map(|_| shared(address)).collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self { address, sockets })
    }
}

fn shared(address: SocketAddr) -> std::io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A peer that vanished without a word, with its machine or with the way to it, is found out within two minutes, and its
/// place under `connections_max` is free again. One that is alive and idle answers for ever, from its kernel.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Between two probes that are not answered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer, after which the connection is over.
const KEEPALIVE_PROBES: u32 = 4;

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))
}

/// Connections beyond the limit that are told so at a time.
const FAREWELLS_MAX: usize = 16;

/// Whether there is room for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Served,
    /// It is to be told that there is none.
    None,
}

/// Running reactors.
#[derive(Debug)]
pub struct Reactors {
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<Stop>,
    permits: Arc<Semaphore>,
    connections_max: u32,
}

/// How far the daemon's end has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stop {
    /// Serving.
    No,
    /// New connections are not accepted.
    Accepting,
    /// Connections are dropped.
    Connections,
}

impl Reactors {
    /// Starts one thread a listener. `serve` drives one connection to its end on the reactor that accepted it; at most
    /// `connections_max` at a time in all. One more is to be told so; of those some at a time, and others are closed at once.
    pub fn start<F, S>(listeners: Listeners, connections_max: u32, serve: F) -> Outcome<Self>
    where
        F: Fn(TcpStream, SocketAddr, watch::Receiver<Stop>, Place) -> S + Clone + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(Stop::No);
        let permits = Arc::new(Semaphore::new(usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS)));
        let troubles = Arc::new(Troubles {
            accept: Seldom::new(SAID_AGAIN),
            full: Seldom::new(SAID_AGAIN),
            clock: RealClock::start(),
            farewells: Arc::new(Semaphore::new(FAREWELLS_MAX)),
        });
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let mut threads = Vec::new();
        for (index, socket) in listeners.sockets.into_iter().enumerate() {
            let core = cores.get(index % cores.len().max(1)).copied();
            let (permits, stopped, serve) = (permits.clone(), stopped.clone(), serve.clone());
            let troubles = troubles.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.or_exit(Exit::Failed, "reactor")?;
            let run = move || {
                // A refused pin costs speed, not correctness: containers forbid it at times.
                let _pinned = core.is_some_and(core_affinity::set_for_current);
                if let Err(error) = runtime.block_on(accept(socket, permits, &troubles, stopped, serve)) {
                    tracing::error!(%error, "a reactor cannot accept connections");
                }
            };
            let thread = std::thread::Builder::new().name(format!("reactor-{index}")).spawn(run);
            threads.push(thread.or_exit(Exit::Failed, "reactor")?);
        }
        Ok(Self { threads, stop, permits, connections_max })
    }

    /// Asks every reactor to go on with its end.
    pub fn stop(&self, stop: Stop) {
        self.stop.send_replace(stop);
    }

    /// Completes when no connection is left.
    pub async fn finished(&self) {
        let _ = self.permits.acquire_many(self.connections_max).await;
    }

    /// Drops what is left and waits for the threads.
    pub fn join(self) {
        self.stop(Stop::Connections);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a reactor panicked");
            }
        }
    }
}

/// What may strike with every connection.
#[derive(Debug)]
struct Troubles {
    accept: Seldom,
    full: Seldom,
    clock: RealClock,
    /// Connections beyond the limit that are being told so.
    farewells: Arc<Semaphore>,
}

async fn accept<F, S>(
    socket: StdListener,
    permits: Arc<Semaphore>,
    troubles: &Troubles,
    mut stopped: watch::Receiver<Stop>,
    serve: F,
) -> std::io::Result<()>
where
    F: Fn(TcpStream, SocketAddr, watch::Receiver<Stop>, Place) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::from_std(socket)?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop >= Stop::Accepting) => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task panicked; its connection is closed");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, origin) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a connection that went away before it was accepted.
                if let Some(kept_back) = troubles.accept.due(troubles.clock.mono()) {
                    tracing::warn!(%error, kept_back, "a connection cannot be accepted; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (permit, place) = match permits.clone().try_acquire_owned() {
            Ok(permit) => (permit, Place::Served),
            Err(_) => {
                if let Some(kept_back) = troubles.full.due(troubles.clock.mono()) {
                    tracing::warn!(%origin, kept_back, "no room for one more connection, it is closed: connections_max");
                }
                let Ok(permit) = troubles.farewells.clone().try_acquire_owned() else { continue };
                (permit, Place::None)
            }
        };
        if let Err(error) = prepare(&stream) {
            // Slower, or longer there than it should be, but it serves.
            tracing::debug!(%error, %origin, "a connection's socket takes no options");
        }
        let served = serve(stream, origin, stopped.clone(), place);
        connections.spawn(async move {
            served.await;
            drop(permit);
        });
    }
    drop(listener);
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stop| *stop >= Stop::Connections) => {}
        () = async { while connections.join_next().await.is_some() {} } => {}
    }
    connections.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use tokio::io::AsyncWriteExt;

    fn echo_nothing(listeners: Listeners, connections_max: u32) -> Reactors {
        let serve = |mut stream: TcpStream, _, _, place| async move {
            if place == Place::None {
                let _ = stream.write_all(b"full!").await;
                return;
            }
            let _ = stream.write_all(b"hello").await;
            std::future::pending::<()>().await;
        };
        Reactors::start(listeners, connections_max, serve).unwrap()
    }

    #[test]
    fn a_busy_address_is_refused() {
        let first = Listeners::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let failure = Listeners::bind(first.address, 2).unwrap_err();
        assert_eq!(failure.exit, Exit::Listen);
        assert!(failure.message.contains(&first.address.to_string()), "{failure}");
    }

    #[test]
    fn a_connection_is_probed_once_it_is_idle() {
        let listeners = Listeners::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = listeners.address;
        let (tell, told) = std::sync::mpsc::channel();
        let serve = move |stream: TcpStream, _, _, _| {
            let socket = SockRef::from(&stream);
            let probed = (socket.keepalive().unwrap(), socket.tcp_keepalive_time().unwrap());
            tell.send((probed, socket.tcp_keepalive_interval().unwrap(), socket.tcp_keepalive_retries().unwrap()))
                .unwrap();
            std::future::ready(())
        };
        let reactors = Reactors::start(listeners, 1, serve).unwrap();
        let _connection = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(told.recv().unwrap(), ((true, KEEPALIVE_IDLE), KEEPALIVE_INTERVAL, KEEPALIVE_PROBES));
        reactors.join();
    }

    #[test]
    fn one_connection_too_many_is_told_so_and_closed_and_the_end_closes_the_others() {
        let listeners = Listeners::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = listeners.address;
        let reactors = echo_nothing(listeners, 1);
        let mut first = std::net::TcpStream::connect(address).unwrap();
        let mut hello = [0; 5];
        first.read_exact(&mut hello).unwrap();
        let mut second = std::net::TcpStream::connect(address).unwrap();
        second.read_exact(&mut hello).unwrap();
        assert_eq!((&hello, second.read(&mut [0; 5]).unwrap_or(0)), (b"full!", 0));
        reactors.join();
        assert_eq!(first.read(&mut hello).unwrap_or(0), 0);
    }
}
