//! The daemon behind TCP.

use super::{House, Server, is_opened};
use bettong_wire::tcp::{ServerConnection, ServerEvent, ServerLimits};
use bettong_wire::{BlockMemory, memory::HeapMemory};
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub async fn start(house: House) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let (leave, hung_up) = (house.leave.clone(), house.hung_up.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, house.clone()));
        }
    });
    Server { url, leave, hung_up, _door: Box::new(()) }
}

/// Serves one connection until it ends.
async fn serve(mut stream: TcpStream, house: House) {
    let mut wire = ServerConnection::new(ServerLimits::default());
    let memory = HeapMemory::new(1 << 30, 1 << 30);
    loop {
        match wire.next_event() {
            ServerEvent::Closing { .. } => return flush(&mut stream, &mut wire).await.unwrap_or_default(),
            ServerEvent::Weigh { id, request } => wire.weighed(id, request, 0),
            ServerEvent::ReserveArchive { len } => wire.fill_archive(memory.reserve(len.into()).unwrap()),
            ServerEvent::Reserve { lens, .. } => {
                wire.fill(lens.iter().map(|len| memory.reserve(*len).unwrap()).collect());
            }
            ServerEvent::Request { id, request, body } => {
                let response = house.answer(request, body);
                if is_opened(&response) {
                    wire.set_authenticated();
                }
                wire.answer(id, response);
            }
            ServerEvent::NeedBytes => {
                if flush(&mut stream, &mut wire).await.is_err() {
                    return;
                }
                let mut told = pin!(house.leave.notified());
                let read = std::future::poll_fn(|cx| {
                    if told.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                    let mut into = wire.read_into();
                    pin!(stream.read_buf(&mut into)).poll(cx).map(Some)
                });
                match read.await {
                    Some(Ok(n)) if n > 0 => wire.advance_read(n),
                    Some(_) => return,
                    None => return hang_up(stream, &house).await,
                }
            }
        }
    }
}

async fn flush(stream: &mut TcpStream, wire: &mut ServerConnection) -> std::io::Result<()> {
    while wire.has_unsent() {
        let n = stream.write_vectored(&wire.slices()).await?;
        wire.advance_written(n);
    }
    stream.flush().await
}

/// Ends a connection first in order and then with a reset: who writes to it afterwards is sent SIGPIPE.
async fn hang_up(mut stream: TcpStream, house: &House) {
    stream.shutdown().await.unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    house.hung_up.notify_one();
}
