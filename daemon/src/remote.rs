//! A session with a running daemon, in the words of the commands: every error is one line and an exit code.

use crate::exit::{Exit, Failure, OrExit, Outcome, exit_of};
use bettong_wire::limits::PROTOCOL_VERSION;
use bettong_wire::memory::{BlockMemory, HeapMemory};
use bettong_wire::request::{
    BlockPut, Clear, Delete, Exists, Get, GetBlocks, Level, List, ListKind, LookupBlockPrefix, NsHandle, Open, Put,
    PutBlocks, ReadLimits, Target, Tier,
};
use bettong_wire::response::{Answer, ItemOutcome, ListPage, Outcome as Ended, Stored};
use bettong_wire::tcp::{ClientConnection, ClientEvent};
use bettong_wire::{BlockHash, BlockKey, MissReason, ModelIdentity, Payload, Request, Response};
use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Wire {
    conn: ClientConnection,
    stream: TcpStream,
    memory: HeapMemory,
}

/// One open namespace of a daemon.
pub struct Remote {
    wire: tokio::sync::Mutex<Wire>,
    ns: NsHandle,
}

impl Wire {
    async fn call(&mut self, request: Request, payloads: Vec<Payload>) -> Outcome<Response> {
        let failed = |e: std::io::Error| Failure::new(Exit::Unavailable, format!("daemon: {e}"));
        let sent = self.conn.send(&request, payloads).or_exit(Exit::Usage, "request")?;
        loop {
            while self.conn.has_unsent() {
                let slices = self.conn.slices();
                let n = self.stream.write_vectored(&slices).await.map_err(failed)?;
                self.conn.advance_written(n);
            }
            match self.conn.next_event() {
                ClientEvent::NeedBytes => {
                    let (conn, stream) = (&mut self.conn, &mut self.stream);
                    let n = std::future::poll_fn(|cx| {
                        let mut into = conn.read_into();
                        let read = std::pin::pin!(stream.read_buf(&mut into));
                        std::future::Future::poll(read, cx)
                    })
                    .await
                    .map_err(failed)?;
                    if n == 0 {
                        return Err(Failure::new(Exit::Unavailable, "the daemon closed the connection"));
                    }
                    self.conn.advance_read(n);
                }
                ClientEvent::Reserve { lens, .. } => {
                    let bufs = lens
                        .iter()
                        .map(|l| self.memory.reserve(*l))
                        .collect::<Result<Vec<_>, _>>()
                        .or_exit(Exit::Failed, "memory")?;
                    self.conn.fill(bufs);
                }
                ClientEvent::Response { id, response } => {
                    if id == sent {
                        return Ok(response);
                    }
                }
                other => return Err(Failure::new(Exit::Unavailable, format!("{other:?}"))),
            }
        }
    }
}

fn ok(response: Response) -> Outcome<Result<(Answer, Vec<Payload>), MissReason>> {
    match response.outcome {
        Ended::Ok(answer) => Ok(Ok((answer, response.payloads))),
        Ended::Miss(reason) => Ok(Err(reason)),
        Ended::Error(error) => Err(Failure::new(exit_of(error.kind), error.message)),
    }
}

fn odd<T>() -> Outcome<T> {
    Err(Failure::new(Exit::Failed, "odd answer"))
}

impl Remote {
    pub async fn open(connect: &str, namespace: &str, identity: Option<ModelIdentity>) -> Outcome<Self> {
        let stream = TcpStream::connect(connect.trim_start_matches("tcp://"))
            .await
            .or_exit(Exit::Unavailable, format!("daemon {connect}"))?;
        stream.set_nodelay(true).or_exit(Exit::Failed, "nodelay")?;
        let mut wire = Wire { conn: ClientConnection::new(), stream, memory: HeapMemory::new(1 << 30, 128 << 20) };
        let open = Open {
            protocol_version: PROTOCOL_VERSION,
            tenant: "default".into(),
            token: String::new(),
            namespace: namespace.into(),
            identity,
            payload_crc: false,
        };
        let Ok((Answer::Opened(opened), _)) = ok(wire.call(Request::Open(open), vec![]).await?)? else { return odd() };
        Ok(Self { wire: tokio::sync::Mutex::new(wire), ns: opened.ns })
    }
    async fn call(
        &self,
        request: Request,
        payloads: Vec<Payload>,
    ) -> Outcome<Result<(Answer, Vec<Payload>), MissReason>> {
        ok(self.wire.lock().await.call(request, payloads).await?)
    }
    pub async fn put_plain(&self, key: &str, value: Bytes, level: Level, ttl_ms: u64) -> Outcome<Stored> {
        let put = Put {
            ns: self.ns,
            target: Target::Plain(key.into()),
            level,
            ttl_ms,
            parent: None,
            sequence: 0,
            len: value.len() as u64,
        };
        match self.call(Request::Put(put), vec![value.into()]).await? {
            Ok((Answer::Stored(s), _)) => Ok(s),
            _ => odd(),
        }
    }
    pub async fn get_plain(&self, key: &str) -> Outcome<Payload> {
        let get = Get { ns: self.ns, target: Target::Plain(key.into()), range: None, limits: ReadLimits::default() };
        match self.call(Request::Get(get), vec![]).await? {
            Ok((_, mut p)) => p.pop().map_or_else(odd, Ok),
            Err(r) => Err(Failure::miss(key, r)),
        }
    }
    pub async fn exists_plain(&self, key: &str) -> Outcome<(u64, u64)> {
        match self.call(Request::Exists(Exists { ns: self.ns, target: Target::Plain(key.into()) }), vec![]).await? {
            Ok((Answer::Exists { len, expires_at_ms }, _)) => Ok((len, expires_at_ms)),
            Err(r) => Err(Failure::miss(key, r)),
            _ => odd(),
        }
    }
    async fn delete(&self, target: Target) -> Outcome<u64> {
        match self.call(Request::Delete(Delete { ns: self.ns, target }), vec![]).await? {
            Ok((Answer::Removed { count }, _)) => Ok(count),
            _ => odd(),
        }
    }
    pub async fn delete_plain(&self, key: &str) -> Outcome<u64> {
        self.delete(Target::Plain(key.into())).await
    }
    pub async fn delete_block(&self, key: BlockKey) -> Outcome<u64> {
        self.delete(Target::Block(key)).await
    }
    pub async fn lookup(&self, hashes: &[BlockHash]) -> Outcome<usize> {
        match self
            .call(
                Request::LookupBlockPrefix(LookupBlockPrefix { ns: self.ns, hashes: hashes.to_vec(), parts: vec![] }),
                vec![],
            )
            .await?
        {
            Ok((Answer::Prefix { blocks }, _)) => Ok(blocks as usize),
            _ => odd(),
        }
    }
    pub async fn get_blocks(&self, keys: Vec<BlockKey>) -> Outcome<Vec<(Payload, Tier)>> {
        match self
            .call(
                Request::GetBlocks(GetBlocks { ns: self.ns, keys, leading: true, limits: ReadLimits::default() }),
                vec![],
            )
            .await?
        {
            Ok((Answer::Items(items), p)) => Ok(items
                .into_iter()
                .filter_map(|i| match i {
                    ItemOutcome::Hit(h) => Some(h.tier),
                    _ => None,
                })
                .zip(p)
                .map(|(t, p)| (p, t))
                .collect()),
            Err(_) => Ok(vec![]),
            _ => odd(),
        }
    }
    pub async fn get_block(&self, key: BlockKey) -> Outcome<Result<Payload, MissReason>> {
        let get = Get { ns: self.ns, target: Target::Block(key), range: None, limits: ReadLimits::default() };
        Ok(self.call(Request::Get(get), vec![]).await?.map(|(_, mut p)| p.pop().unwrap_or_default()))
    }
    pub async fn put_blocks(&self, blocks: Vec<(BlockPut, Bytes)>, level: Level) -> Outcome<Vec<Stored>> {
        let (blocks, p): (Vec<_>, Vec<_>) = blocks.into_iter().map(|(b, p)| (b, p.into())).unzip();
        match self.call(Request::PutBlocks(PutBlocks { ns: self.ns, level, blocks }), p).await? {
            Ok((Answer::StoredBatch(s), _)) => Ok(s),
            _ => odd(),
        }
    }
    pub async fn list(&self, kind: ListKind, prefix: &str, cursor: Vec<u8>, limit: u32) -> Outcome<ListPage> {
        match self.call(Request::List(List { ns: self.ns, kind, prefix: prefix.into(), cursor, limit }), vec![]).await?
        {
            Ok((Answer::Page(p), _)) => Ok(p),
            _ => odd(),
        }
    }
    pub async fn clear(&self, tier: Tier) -> Outcome<u64> {
        match self.call(Request::Clear(Clear { ns: self.ns, tier }), vec![]).await? {
            Ok((Answer::Removed { count }, _)) => Ok(count),
            _ => odd(),
        }
    }
    pub async fn stats(&self) -> Outcome<Value> {
        match self.call(Request::Stats, vec![]).await? {
            Ok((_, p)) => {
                serde_json::from_slice(p.first().cloned().unwrap_or_default().as_ref()).or_exit(Exit::Failed, "stats")
            }
            _ => odd(),
        }
    }
}
