//! One run: connections that each have one request in flight until the time is over.

use super::blocks::BlockDriver;
use super::resp::Resp;
use super::{Plan, Target, disk, repeat};
use crate::cli::{BenchOp, PutLevel};
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::remote::Remote;
use crate::render::latency::Latency;
use crate::trace::payload;
use bytes::Bytes;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Keys that each connection works on.
const KEYS: usize = 16;

/// What one run did.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub ops: u64,
    pub took: Duration,
    pub latency: Latency,
    /// CPU time of the server's process during the run, where it is known.
    pub cpu: Option<Duration>,
}

enum Session {
    Bettong(Box<Remote>),
    Redis(Box<Resp>),
}

impl Session {
    async fn put(&mut self, key: &str, value: &Bytes, plan: &Plan) -> Outcome {
        match self {
            Self::Bettong(remote) => remote.put_plain(key, value.clone(), plan.level.into(), 0).await.map(|_| ()),
            Self::Redis(redis) => redis.set(key, value).await.or_exit(Exit::Unavailable, "redis"),
        }
    }

    /// Gets and compares.
    async fn get(&mut self, key: &str, value: &Bytes) -> Outcome {
        let right = match self {
            Self::Bettong(remote) => remote.get_plain(key).await?.as_ref() == value.as_ref(),
            Self::Redis(redis) => redis.get(key).await.or_exit(Exit::Unavailable, "redis")? == Some(value.as_ref()),
        };
        if right { Ok(()) } else { Err(Failure::new(Exit::CheckFailed, format!("{key}: not the bytes that were put"))) }
    }

    async fn exists(&mut self, key: &str) -> Outcome {
        let there = match self {
            Self::Bettong(remote) => remote.exists_plain(key).await.map(|_| true)?,
            Self::Redis(redis) => redis.exists(key).await.or_exit(Exit::Unavailable, "redis")?,
        };
        if there { Ok(()) } else { Err(Failure::new(Exit::CheckFailed, format!("{key}: was put and is not there"))) }
    }

    async fn delete(&mut self, key: &str) -> Outcome {
        match self {
            Self::Bettong(remote) => remote.delete_plain(key).await.map(|_| ()),
            Self::Redis(redis) => redis.del(key).await.or_exit(Exit::Unavailable, "redis"),
        }
    }
}

/// One connection with its keys and their values.
struct Driver {
    session: Session,
    keys: Vec<(String, Bytes)>,
    /// Keys that a run put besides, to be removed at the end.
    fresh: Vec<String>,
}

/// Connections that are warm: their keys are stored.
pub struct Load {
    plan: Plan,
    work: Work,
}

/// What the connections of one target do.
enum Work {
    Values(Vec<Driver>),
    Blocks(Vec<BlockDriver>),
    /// No connections: files of this folder.
    Disk(PathBuf),
}

impl Load {
    /// Connects and stores every key once.
    pub async fn prepare(target: &Target, plan: Plan) -> Outcome<Self> {
        if let (Target::Bettong(access), Some(_)) = (target, plan.items()) {
            return Ok(Self { plan, work: Work::Blocks(BlockDriver::prepare(access, plan).await?) });
        }
        let mut drivers = Vec::new();
        for index in 0..plan.concurrency {
            let session = match target {
                Target::Bettong(access) => Session::Bettong(Box::new(Remote::open(access, None).await?)),
                Target::Redis { address } => {
                    let redis = Resp::connect(address).await;
                    Session::Redis(Box::new(redis.or_exit(Exit::Unavailable, format!("redis {address}"))?))
                }
                Target::Disk { dir } => return Ok(Self { plan, work: Work::Disk(dir.clone()) }),
            };
            let key = |number: usize| format!("bettong-bench-{}-{index}-{number}", std::process::id());
            let id = |number: usize| (u64::from(index) << 32) | number as u64;
            let keys =
                (0..KEYS).map(|number| (key(number), Bytes::from(payload::block(id(number), plan.size)))).collect();
            let mut driver = Driver { session, keys, fresh: Vec::new() };
            for (key, value) in &driver.keys {
                driver.session.put(key, value, &plan).await?;
            }
            drivers.push(driver);
        }
        Ok(Self { plan, work: Work::Values(drivers) })
    }

    /// Runs for the plan's duration on every connection at once.
    pub async fn run(&mut self, server: Option<u32>) -> Outcome<Run> {
        let cpu_before = server.and_then(super::process_cpu::cpu_time);
        let began = Instant::now();
        let until = began + self.plan.duration;
        let plan = self.plan;
        let mut total = Run::default();
        let driven = match &mut self.work {
            Work::Disk(dir) => {
                let written = disk::run(dir, plan, until).await?;
                total.took = began.elapsed();
                written.iter().try_for_each(disk::Written::remove)?;
                written.into_iter().map(|thread| thread.latency).collect()
            }
            Work::Values(drivers) => {
                let driven = drivers.iter_mut().map(|driver| drive(driver, plan, until));
                futures::future::try_join_all(driven).await?
            }
            Work::Blocks(drivers) => {
                futures::future::try_join_all(drivers.iter_mut().map(|driver| driver.drive(until))).await?
            }
        };
        if total.took.is_zero() {
            total.took = began.elapsed();
        }
        driven.iter().for_each(|latency| total.latency.merge(latency));
        total.ops = total.latency.count();
        let cpu_after = server.and_then(super::process_cpu::cpu_time);
        total.cpu = cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
        Ok(total)
    }

    /// Removes what was stored.
    pub async fn clean(self) -> Outcome {
        match self.work {
            Work::Disk(_) => Ok(()),
            Work::Values(drivers) => futures::future::try_join_all(drivers.into_iter().map(clean)).await.map(drop),
            Work::Blocks(drivers) => {
                futures::future::try_join_all(drivers.into_iter().map(BlockDriver::clean)).await.map(drop)
            }
        }
    }
}

async fn clean(mut driver: Driver) -> Outcome {
    for key in driver.keys.iter().map(|(key, _)| key).chain(&driver.fresh) {
        driver.session.delete(key).await?;
    }
    Ok(())
}

async fn drive(driver: &mut Driver, plan: Plan, until: Instant) -> Outcome<Latency> {
    // A durable put of a key that is there has the old version to remove as well: what is measured is a put alone.
    let is_fresh = plan.op == BenchOp::Put && plan.level != PutLevel::Memory;
    let Driver { session, keys, fresh } = driver;
    let mut turns = keys.iter().cycle();
    repeat(until, async || {
        let Some((key, value)) = turns.next() else { return Ok(()) };
        match plan.op {
            BenchOp::Put if is_fresh => {
                let key = format!("{key}-{}", fresh.len());
                session.put(&key, value, &plan).await?;
                fresh.push(key);
                Ok(())
            }
            BenchOp::Put => session.put(key, value, &plan).await,
            BenchOp::Get => session.get(key, value).await,
            BenchOp::Exists => session.exists(key).await,
            BenchOp::Lookup | BenchOp::PutBatch | BenchOp::GetBatch => {
                Err(Failure::new(Exit::Usage, "this operation is about blocks, which only bettong has"))
            }
        }
    })
    .await
}
