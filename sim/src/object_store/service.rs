//! The service: each operation is a task of the service's own node, with its latency and its faults.

use super::bucket::{Bucket, Cause, Conditions, Object, Origin, STORE, Write, flip_bit, meta, spoiled};
use crate::faults::{FaultKind, Strike};
use crate::plan::{Effect, Operation};
use crate::random::Stream;
use crate::run::Run;
use crate::world::elapsed;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream;
use madsim::runtime::NodeHandle;
use object_store::{CopyMode, Error, GetOptions, GetResult, GetResultPayload, PutMode, Result};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Where no answer comes, the HTTP client of a real store gives up after this long.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pieces in which a slow body arrives.
const SLOW_PIECES: usize = 4;

/// What is between a node and its objects, and so which faults strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// The network, and a service that all nodes share.
    Network,
    /// One node's own file system, in synced files.
    Files,
    /// A copy for the harness's own looks: nothing strikes, and nothing is traced.
    Aside,
}

pub struct Service {
    run: Run,
    node: NodeHandle,
    medium: Medium,
    bucket: Arc<Mutex<Bucket>>,
    latency: Range<Duration>,
    random: Mutex<Stream>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(STORE)
    }
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: STORE, source: what.into() }
}

/// The error that a caller hears because of this fault, where it fails the operation before it happens.
fn refusal(strike: &Strike, operation: Operation, conditional: bool, path: &str) -> Option<Error> {
    match strike.kind {
        FaultKind::ObjectThrottle => Some(failure("503 SlowDown: come back in 50 ms")),
        FaultKind::ObjectGetError => Some(failure("500 the read failed")),
        FaultKind::ObjectUnavailable | FaultKind::ObjectPeerCut => Some(failure("503 unavailable")),
        FaultKind::FdLimit => Some(failure("Too many open files (os error 24)")),
        FaultKind::ObjectForbidden => {
            Some(Error::PermissionDenied { path: path.to_owned(), source: "403 forbidden".into() })
        }
        FaultKind::ObjectConflict if conditional => Some(failure("409 ConditionalRequestConflict")),
        FaultKind::ObjectPutError if strike.effect == Effect::None && operation == Operation::Put => {
            Some(failure("500 the write failed"))
        }
        FaultKind::ObjectDeleteError if strike.effect == Effect::None => Some(failure("500 the delete failed")),
        _ => None,
    }
}

/// Whether `path` is in the folder of another node than `caller`.
fn is_of_another(path: &str, caller: &str) -> bool {
    let folder = path.split_once("/node/").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    folder.is_some_and(|node| node != caller)
}

/// What the caller hears; without an answer it waits until its client gives up.
async fn heard<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    match answer.await {
        Ok(result) => result,
        Err(_) => {
            madsim::time::sleep(CLIENT_TIMEOUT).await;
            Err(failure("no answer"))
        }
    }
}

/// What becomes of an operation that changes the bucket.
struct Fate {
    delay: Duration,
    refused: Option<(Error, String)>,
    /// The effect lands this much after the caller has heard an error.
    late: Option<Duration>,
    /// The caller hears an error although it happened.
    disowned: Option<String>,
    /// The caller hears nothing.
    silent: Option<String>,
    repeat: Option<(Duration, String)>,
}

impl Service {
    /// The service on `node`, with an empty bucket; `latency` is what an operation takes where no fault strikes.
    pub fn new(run: &Run, node: NodeHandle, latency: Range<Duration>, conditions: Conditions) -> Self {
        let random = Mutex::new(Stream::new(run.seed(), "object-store/latency"));
        let bucket = Arc::new(Mutex::new(Bucket::new(conditions)));
        Self { run: run.clone(), node, medium: Medium::Network, bucket, latency, random }
    }

    /// Objects in the files of the node `owner`; what it asked for is done by `node` whatever becomes of it, as a kernel
    /// does.
    pub fn files(run: &Run, node: NodeHandle, owner: &str) -> Self {
        let random = Mutex::new(Stream::new(run.seed(), &format!("files/{owner}/latency")));
        let latency = Duration::from_millis(1)..Duration::from_millis(2);
        Self { run: run.clone(), node, medium: Medium::Files, bucket: Arc::default(), latency, random }
    }

    /// A copy of the bucket as it is now, served by `node`.
    pub fn fork(&self, node: NodeHandle) -> Self {
        let random = Mutex::new(Stream::new(self.run.seed(), "fork/latency"));
        let bucket = Arc::new(Mutex::new(self.bucket.lock().fork()));
        Self { run: self.run.clone(), node, medium: Medium::Aside, bucket, latency: self.latency.clone(), random }
    }

    pub fn run(&self) -> &Run {
        &self.run
    }

    /// For oracles and injected damage.
    pub fn bucket(&self) -> &Mutex<Bucket> {
        &self.bucket
    }

    pub fn origin(&self, by: &str, cause: Cause) -> Origin {
        Origin { by: by.to_owned(), cause, at: elapsed(), wall: wall_now() }
    }

    fn strikes(&self, caller: &str, operation: Operation, path: &str) -> (Vec<Strike>, Duration) {
        let wanted = |kind: FaultKind| match self.medium {
            Medium::Network => {
                kind.needs_descriptors()
                    || kind.of_object_store() && (kind != FaultKind::ObjectPeerCut || is_of_another(path, caller))
            }
            Medium::Files => kind.needs_descriptors(),
            Medium::Aside => false,
        };
        let strikes = self.run.fault_operation(caller, operation, path, wanted);
        let slow = |kind| matches!(kind, FaultKind::ObjectLatency | FaultKind::ObjectSlowList);
        let extra: Duration = strikes.iter().filter(|strike| slow(strike.kind)).map(|strike| strike.delay).sum();
        (strikes, self.random.lock().duration(&self.latency) + extra)
    }

    fn fate(&self, caller: &str, operation: Operation, conditional: bool, path: &str) -> Fate {
        let (strikes, delay) = self.strikes(caller, operation, path);
        let mut fate = Fate { delay, refused: None, late: None, disowned: None, silent: None, repeat: None };
        for strike in strikes {
            if let Some(error) = refusal(&strike, operation, conditional, path) {
                fate.refused = fate.refused.or(Some((error, strike.key)));
                continue;
            }
            let after = strike.delay.max(Duration::from_millis(1));
            match (strike.kind, strike.effect) {
                (FaultKind::ObjectPutError | FaultKind::ObjectDeleteError, Effect::Late) => {
                    fate.late = Some(after);
                    fate.disowned = Some(strike.key);
                }
                (FaultKind::ObjectPutError | FaultKind::ObjectDeleteError, _) => fate.disowned = Some(strike.key),
                (FaultKind::ObjectSilence, Effect::None) => {
                    fate.refused = Some((failure("silence"), strike.key.clone()));
                    fate.silent = Some(strike.key);
                }
                (FaultKind::ObjectSilence, effect) => {
                    fate.late = (effect == Effect::Late).then_some(after);
                    fate.silent = Some(strike.key);
                }
                (FaultKind::ObjectRepeat, _) => fate.repeat = Some((after, strike.key)),
                _ => {}
            }
        }
        fate
    }

    /// Runs a change of the bucket on the service's node, whatever becomes of its caller.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        caller: &str,
        operation: Operation,
        conditional: bool,
        path: String,
        apply: impl Fn(&mut Bucket, &Origin) -> Result<T> + Send + Sync + 'static,
    ) -> Result<T> {
        let fate = self.fate(caller, operation, conditional, &path);
        let (reply, answer) = oneshot::channel();
        let (service, caller) = (self.clone(), caller.to_owned());
        drop(self.node.spawn(async move { service.land(caller, operation, path, fate, apply, reply).await }));
        heard(answer).await
    }

    async fn land<T: Send>(
        self: Arc<Self>,
        caller: String,
        operation: Operation,
        path: String,
        fate: Fate,
        apply: impl Fn(&mut Bucket, &Origin) -> Result<T> + Send + Sync,
        reply: oneshot::Sender<Result<T>>,
    ) {
        madsim::time::sleep(fate.delay).await;
        let apply = |cause: Cause| {
            let result = apply(&mut self.bucket.lock(), &self.origin(&caller, cause));
            let outcome = if result.is_ok() { "applied" } else { "refused" };
            let verb = operation.as_str();
            let store = match self.medium {
                Medium::Network => "object-store",
                Medium::Files => "files",
                Medium::Aside => return result,
            };
            self.run.trace(store, format_args!("{verb} {path} for {caller}: {cause:?} {outcome}"));
            result
        };
        if let Some(key) = &fate.silent {
            self.run.fault_changed(key);
            if fate.refused.is_none() {
                madsim::time::sleep(fate.late.unwrap_or_default()).await;
                let _ = apply(if fate.late.is_some() { Cause::Late } else { Cause::Asked });
            }
            // Dropped without an answer.
            return;
        }
        if let Some((error, key)) = fate.refused {
            self.answer(reply, Err(error), Some(&key));
        } else if let Some(late) = fate.late {
            self.answer(reply, Err(failure("timed out")), fate.disowned.as_deref());
            madsim::time::sleep(late).await;
            let _ = apply(Cause::Late);
        } else {
            let result = apply(Cause::Asked);
            match (&fate.disowned, result) {
                (Some(key), Ok(_)) => self.answer(reply, Err(failure("timed out")), Some(key)),
                (_, result) => self.answer(reply, result, None),
            }
        }
        if let Some((after, key)) = fate.repeat {
            madsim::time::sleep(after).await;
            self.run.fault_changed(&key);
            let _ = apply(Cause::Repeated);
        }
    }

    fn answer<T>(&self, reply: oneshot::Sender<Result<T>>, result: Result<T>, changed_by: Option<&str>) {
        // A caller that is gone hears nothing; what happened has happened.
        if reply.send(result).is_ok()
            && let Some(key) = changed_by
        {
            self.run.fault_changed(key);
        }
    }

    pub async fn put(self: &Arc<Self>, caller: &str, path: String, write: Write) -> Result<String> {
        let conditional = !matches!(write.mode, PutMode::Overwrite);
        let location = path.clone();
        let apply = move |bucket: &mut Bucket, origin: &Origin| bucket.put(&location, write.clone(), origin);
        self.change(caller, Operation::Put, conditional, path, apply).await
    }

    /// One part of a multipart upload: only its latency and its errors.
    pub async fn part(self: &Arc<Self>, caller: &str, path: String) -> Result<()> {
        self.change(caller, Operation::Put, false, path, |_, _| Ok(())).await
    }

    pub async fn delete(self: &Arc<Self>, caller: &str, path: String) -> Result<()> {
        let location = path.clone();
        let apply = move |bucket: &mut Bucket, origin: &Origin| {
            bucket.delete(&location, origin);
            Ok(())
        };
        self.change(caller, Operation::Delete, false, path, apply).await
    }

    pub async fn copy(self: &Arc<Self>, caller: &str, from: String, to: String, mode: CopyMode) -> Result<()> {
        let location = to.clone();
        let apply = move |bucket: &mut Bucket, origin: &Origin| bucket.copy(&from, &location, mode, origin);
        self.change(caller, Operation::Copy, matches!(mode, CopyMode::Create), to, apply).await
    }

    /// Reads the bucket on the service's node; hands back the strikes for the caller to apply to what was read.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        caller: &str,
        operation: Operation,
        path: String,
        read: impl FnOnce(&mut Bucket) -> Result<T> + Send + 'static,
    ) -> Result<(T, Vec<Strike>)> {
        let (strikes, delay) = self.strikes(caller, operation, &path);
        let (reply, answer) = oneshot::channel();
        let (service, caller) = (self.clone(), caller.to_owned());
        let task = async move {
            madsim::time::sleep(delay).await;
            if let Some(strike) = strikes.iter().find(|strike| strike.kind == FaultKind::ObjectSilence) {
                service.run.fault_changed(&strike.key);
                return;
            }
            if let Some((error, strike)) =
                strikes.iter().find_map(|strike| Some((refusal(strike, operation, false, &path)?, strike)))
            {
                service.answer(reply, Err(error), Some(&strike.key));
                return;
            }
            if let Some(strike) = strikes.iter().find(|strike| strike.kind == FaultKind::ObjectRot) {
                let origin = service.origin(&caller, Cause::Injected);
                let before = service.bucket.lock().get(&path).map(|object| object.bytes).unwrap_or_default();
                if service.bucket.lock().rot(&path, strike.choice, &origin) {
                    service.run.fault_changed(&strike.key);
                    let at = strike.choice.checked_rem(before.len() as u64).unwrap_or(0);
                    service.run.damage(spoiled(&path, &before, &(at..at + 1)));
                    service.run.trace("object-store", format_args!("{path} rots"));
                }
            }
            let result = read(&mut service.bucket.lock());
            service.answer(reply, result.map(|value| (value, strikes)), None);
        };
        drop(self.node.spawn(task));
        heard(answer).await
    }

    pub async fn get(self: &Arc<Self>, caller: &str, path: String, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { Operation::Head } else { Operation::Get };
        let location = path.clone();
        let read = move |bucket: &mut Bucket| bucket.get(&location);
        let (object, strikes) = self.read(caller, operation, path.clone(), read).await?;
        let meta = meta(&path, &object);
        options.check_preconditions(&meta)?;
        let size = object.bytes.len() as u64;
        let range = match &options.range {
            Some(range) => {
                range.as_range(size).map_err(|error| Error::Generic { store: STORE, source: error.into() })?
            }
            None => 0..size,
        };
        let Object { bytes, attributes, .. } = object;
        let names = spoiled(&path, &bytes, &range);
        let bytes = if options.head { Bytes::new() } else { bytes.slice(range.start as usize..range.end as usize) };
        let payload = GetResultPayload::Stream(self.body(names, bytes, strikes));
        Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
    }

    /// The body, with what the strikes do to it; `names` are of the values in it.
    fn body(
        &self,
        names: Vec<String>,
        bytes: Bytes,
        strikes: Vec<Strike>,
    ) -> stream::BoxStream<'static, Result<Bytes>> {
        let mut bytes = bytes;
        let mut pause = Duration::ZERO;
        for strike in strikes {
            match strike.kind {
                _ if bytes.is_empty() => continue,
                FaultKind::ObjectCorruptBody => bytes = flip_bit(&bytes, strike.choice),
                FaultKind::ObjectTruncateBody => bytes.truncate((strike.choice % bytes.len() as u64) as usize),
                FaultKind::ObjectSlowStream => pause = strike.delay,
                _ => continue,
            }
            self.run.fault_changed(&strike.key);
            if strike.kind != FaultKind::ObjectSlowStream {
                self.run.damage(names.clone());
            }
        }
        if pause.is_zero() {
            return stream::once(std::future::ready(Ok(bytes))).boxed();
        }
        let piece = bytes.len().div_ceil(SLOW_PIECES).max(1);
        let pieces: Vec<_> =
            (0..bytes.len()).step_by(piece).map(|at| bytes.slice(at..bytes.len().min(at + piece))).collect();
        stream::iter(pieces)
            .then(move |piece| async move {
                madsim::time::sleep(pause).await;
                Ok(piece)
            })
            .boxed()
    }
}

fn wall_now() -> DateTime<Utc> {
    let ms = crate::world::perfect_wall_ms();
    DateTime::from_timestamp_millis(i64::try_from(ms).unwrap_or(i64::MAX)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
