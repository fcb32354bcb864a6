//! A daemon made of the servers' state machines and a map, with moods.

#[cfg(all(target_os = "linux", not(madsim)))]
pub mod shm;

use bettong_client::{Level, Target};
use bettong_wire::request::NsHandle;
use bettong_wire::response::{Answer, Hit, ItemOutcome, MissReason, Opened, SessionLimits, Stored};
use bettong_wire::tcp::{ServerConnection, ServerEvent, ServerLimits};
use bettong_wire::{
    BlockMemory, ErrorKind, NamespaceId, Payload, PutId, Request, Response, ServiceError, memory::HeapMemory,
};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Well,
    /// The next call that is no OPEN costs the connection.
    DropNext,
    /// The next call that is no OPEN is answered BUSY.
    BusyNext,
    /// The next call that is no OPEN costs the connection, the one after it is answered so.
    DropThenRefuse(ErrorKind),
    /// The next call that is no OPEN is answered RETRY, the one after it so.
    DoubtThenRefuse(ErrorKind),
    RefuseNext(ErrorKind),
    /// Nothing is answered.
    Silent,
    /// The next call is answered with a few bytes, and then nothing comes on its connection.
    HalfAnswerNext,
}

pub struct Server {
    pub url: String,
    pub connections: Arc<AtomicUsize>,
    pub puts: Arc<AtomicUsize>,
    /// OPENs of the namespace that `refuse_opens` named.
    pub refused_opens: Arc<AtomicUsize>,
    /// Batches that were read.
    pub reads: Arc<AtomicUsize>,
    /// Requests that are not answered.
    #[cfg_attr(
        not(all(target_os = "linux", not(madsim))),
        expect(dead_code, reason = "tests of shared memory read it")
    )]
    pub ignored: Arc<AtomicUsize>,
    #[cfg_attr(
        not(all(target_os = "linux", not(madsim))),
        expect(dead_code, reason = "tests of shared memory read it")
    )]
    pub closes: Arc<AtomicUsize>,
    mood: Arc<Mutex<Mood>>,
    refuse_opens: Arc<Mutex<Option<(String, ServiceError)>>>,
    script: Arc<Mutex<Script>>,
}

/// What is answered without a look at anything, and what was asked so.
#[derive(Default)]
struct Script {
    answers: VecDeque<Response>,
    asked: Vec<Request>,
}

#[derive(Clone)]
struct Shared {
    values: Arc<Mutex<BTreeMap<Target, Payload>>>,
    mood: Arc<Mutex<Mood>>,
    connections: Arc<AtomicUsize>,
    puts: Arc<AtomicUsize>,
    refuse_opens: Arc<Mutex<Option<(String, ServiceError)>>>,
    refused_opens: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
    ignored: Arc<AtomicUsize>,
    closes: Arc<AtomicUsize>,
    script: Arc<Mutex<Script>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            values: Arc::default(),
            mood: Arc::new(Mutex::new(Mood::Well)),
            connections: Arc::default(),
            puts: Arc::default(),
            refuse_opens: Arc::default(),
            refused_opens: Arc::default(),
            reads: Arc::default(),
            ignored: Arc::default(),
            closes: Arc::default(),
            script: Arc::default(),
        }
    }
}

/// What becomes of a request.
enum Verdict {
    Ignore,
    HangUp,
    Answer(Response),
    /// Only the beginning of it is sent.
    HalfAnswer(Response),
}

/// What one answer may bring, where it brings several values.
pub const UNSENT_BYTES_MAX: u64 = 1 << 20;

/// What a read asks for.
fn targets(request: &Request) -> Vec<Target> {
    match request {
        Request::Get(get) => vec![get.target.clone()],
        Request::GetMany(get) => get.targets.clone(),
        Request::GetBlocks(get) => get.keys.iter().copied().map(Target::Block).collect(),
        _ => Vec::new(),
    }
}

impl Shared {
    fn weight(&self, request: &Request) -> u64 {
        let values = self.values.lock().unwrap();
        targets(request).iter().filter_map(|target| values.get(target)).map(|payload| payload.len() as u64).sum()
    }

    /// Each item of a batch; of the leading ones, those before the first that is missing.
    fn batch(&self, request: &Request) -> Response {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let (values, leading) = (self.values.lock().unwrap(), matches!(request, Request::GetBlocks(_)));
        let (mut items, mut payloads) = (Vec::new(), Vec::new());
        for target in targets(request) {
            match values.get(&target) {
                Some(payload) => {
                    let (total_len, put_id) = (payload.len() as u64, PutId { life: 1, counter: 1 });
                    let hit = Hit { total_len, put_id, tier: bettong_client::Tier::Memory, expires_at_ms: 0 };
                    items.push(ItemOutcome::Hit(hit));
                    payloads.push(payload.clone());
                }
                None if leading => break,
                None => items.push(ItemOutcome::Miss(MissReason::Absent)),
            }
        }
        Response::with_payloads(Answer::Items(items), payloads)
    }

    fn judge(&self, open: &mut Vec<bool>, request: Request, body: Vec<Payload>) -> Verdict {
        if !matches!(request, Request::Open(_)) {
            let mut script = self.script.lock().unwrap();
            if let Some(answer) = script.answers.pop_front() {
                script.asked.push(request);
                return Verdict::Answer(answer);
            }
        }
        let mut mood = self.mood.lock().unwrap();
        let refused = |error| Verdict::Answer(Response::error(error));
        match (*mood, &request) {
            (Mood::Silent, _) => {
                self.ignored.fetch_add(1, Ordering::Relaxed);
                Verdict::Ignore
            }
            (Mood::HalfAnswerNext, _) => {
                *mood = Mood::Well;
                Verdict::HalfAnswer(answer(self, open, request, body))
            }
            (_, Request::Open(_)) | (Mood::Well, _) => Verdict::Answer(answer(self, open, request, body)),
            (Mood::DropNext, _) => {
                *mood = Mood::Well;
                Verdict::HangUp
            }
            (Mood::DropThenRefuse(kind), _) => {
                *mood = Mood::RefuseNext(kind);
                Verdict::HangUp
            }
            (Mood::DoubtThenRefuse(kind), _) => {
                *mood = Mood::RefuseNext(kind);
                refused(ServiceError::new(ErrorKind::Retry, "who knows"))
            }
            (Mood::RefuseNext(kind), _) => {
                *mood = Mood::Well;
                refused(ServiceError::new(kind, "not now"))
            }
            (Mood::BusyNext, _) => {
                *mood = Mood::Well;
                refused(ServiceError::busy("too much", 1))
            }
        }
    }
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Shared::default();
        let server = Self::of(format!("tcp://{}", listener.local_addr().unwrap()), &shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        server
    }

    fn of(url: String, shared: &Shared) -> Self {
        let Shared { mood, connections, puts, refuse_opens, refused_opens, reads, ignored, closes, script, .. } =
            shared.clone();
        Self { url, connections, puts, refused_opens, reads, ignored, closes, mood, refuse_opens, script }
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// What comes next and is no OPEN is answered so, one after the other.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Response>) {
        self.script.lock().unwrap().answers.extend(answers);
    }

    /// What was answered by `answer_next` since the last time, all of which has been.
    pub fn take_asked(&self) -> Vec<Request> {
        let mut script = self.script.lock().unwrap();
        assert!(script.answers.is_empty(), "more was to be asked");
        std::mem::take(&mut script.asked)
    }

    /// From now on OPENs of this namespace are answered so.
    pub fn refuse_opens(&self, namespace: &str, error: ServiceError) {
        *self.refuse_opens.lock().unwrap() = Some((namespace.to_owned(), error));
    }

    pub fn refuse_no_opens(&self) {
        *self.refuse_opens.lock().unwrap() = None;
    }
}

/// Serves one connection until it ends, or the mood ends it.
async fn serve(mut stream: TcpStream, shared: Shared) {
    let frame_bytes_max = bettong_wire::limits::FRAME_BYTES_MIN;
    let limits = ServerLimits { frame_bytes_max, unsent_bytes_max: UNSENT_BYTES_MAX, ..ServerLimits::default() };
    let mut wire = ServerConnection::new(limits);
    let memory = HeapMemory::new(1 << 30, 1 << 30);
    let (mut open, mut half) = (Vec::new(), false);
    loop {
        match wire.next_event() {
            ServerEvent::Closing { .. } => return flush(&mut stream, &mut wire).await.unwrap_or_default(),
            ServerEvent::Weigh { id, request } => {
                let weight = shared.weight(&request);
                wire.weighed(id, request, weight);
            }
            ServerEvent::ReserveArchive { len } => wire.fill_archive(memory.reserve(len.into()).unwrap()),
            ServerEvent::Reserve { lens, .. } => {
                wire.fill(lens.iter().map(|len| memory.reserve(*len).unwrap()).collect())
            }
            ServerEvent::Request { id, request, body } => {
                let response = match shared.judge(&mut open, request, body) {
                    Verdict::Ignore => continue,
                    Verdict::HangUp => return,
                    Verdict::Answer(response) => response,
                    Verdict::HalfAnswer(response) => {
                        half = true;
                        response
                    }
                };
                if matches!(response.outcome, bettong_wire::response::Outcome::Ok(Answer::Opened(_))) {
                    wire.set_authenticated();
                }
                wire.answer(id, response);
            }
            ServerEvent::NeedBytes if half => return half_answer(stream, wire).await,
            ServerEvent::NeedBytes => {
                if flush(&mut stream, &mut wire).await.is_err() {
                    return;
                }
                let read = std::future::poll_fn(|cx| {
                    let mut into = wire.read_into();
                    std::pin::pin!(stream.read_buf(&mut into)).poll(cx)
                });
                match read.await {
                    Ok(n) if n > 0 => wire.advance_read(n),
                    _ => return,
                }
            }
        }
    }
}

/// Sends the beginning of what is to be sent, and leaves the connection as it is.
async fn half_answer(mut stream: TcpStream, mut wire: ServerConnection) {
    let begun: Vec<u8> = wire.slices().iter().flat_map(|slice| slice.iter().copied()).take(7).collect();
    let _ = stream.write_all(&begun).await;
    let _ = stream.flush().await;
    std::future::pending().await
}

async fn flush(stream: &mut TcpStream, wire: &mut ServerConnection) -> std::io::Result<()> {
    while wire.has_unsent() {
        let n = stream.write_vectored(&wire.slices()).await?;
        wire.advance_written(n);
    }
    stream.flush().await
}

fn answer(shared: &Shared, open: &mut Vec<bool>, request: Request, mut body: Vec<Payload>) -> Response {
    let mut request = request;
    if let Some(ns) = request.namespace_mut()
        && open.get(ns.0 as usize) != Some(&true)
    {
        return Response::error(ServiceError::new(ErrorKind::Invalid, "the namespace is not open"));
    }
    let put_id = PutId { life: 1, counter: 1 };
    let tier = bettong_client::Tier::Memory;
    match request {
        Request::Ping => Response::ok(Answer::Pong),
        Request::Cancel { .. } => Response::ok(Answer::Cancelled),
        Request::Open(asked) if asked.token == "wrong" => {
            Response::error(ServiceError::new(ErrorKind::Denied, "the token is not known"))
        }
        Request::Open(asked) if asked.identity.is_some() => {
            Response::error(ServiceError::new(ErrorKind::IdentityMismatch, "kv_dtype differs"))
        }
        Request::Open(asked) => {
            if let Some((_, error)) =
                shared.refuse_opens.lock().unwrap().as_ref().filter(|(name, _)| *name == asked.namespace)
            {
                shared.refused_opens.fetch_add(1, Ordering::Relaxed);
                return Response::error(error.clone());
            }
            open.push(true);
            Response::ok(Answer::Opened(Opened {
                ns: NsHandle(open.len() as u32 - 1),
                namespace_id: NamespaceId::derive(&asked.tenant, &asked.namespace),
                protocol_version: 1,
                parts: vec![],
                payload_crc: false,
                limits: SessionLimits::default(),
            }))
        }
        Request::Close { ns } => {
            shared.closes.fetch_add(1, Ordering::Relaxed);
            open[ns.0 as usize] = false;
            Response::ok(Answer::Closed)
        }
        Request::Put(put) => {
            assert_eq!(put.level, Level::Memory);
            shared.puts.fetch_add(1, Ordering::Relaxed);
            shared.values.lock().unwrap().insert(put.target, body.remove(0));
            Response::ok(Answer::Stored(Stored { put_id, already: false }))
        }
        Request::Get(get) => match shared.values.lock().unwrap().get(&get.target) {
            None => Response::miss(MissReason::Absent),
            Some(payload) => {
                let hit = Hit { total_len: payload.len() as u64, put_id, tier, expires_at_ms: 0 };
                let (offset, len) = get.range.unwrap_or((0, payload.len() as u64));
                Response::with_payloads(Answer::Hit(hit), vec![payload.slice(offset, len).unwrap()])
            }
        },
        Request::GetMany(_) | Request::GetBlocks(_) => shared.batch(&request),
        other => Response::error(ServiceError::new(ErrorKind::Internal, format!("{other:?}"))),
    }
}
