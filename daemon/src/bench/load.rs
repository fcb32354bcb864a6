//! One run: connections that each have one request in flight until the time is over.

use super::resp::Resp;
use super::{Plan, Target, disk};
use crate::cli::{BenchOp, PutLevel};
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::remote::Remote;
use crate::render::latency::Latency;
use crate::trace::payload;
use bytes::Bytes;
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
    disk: Option<std::path::PathBuf>,
    drivers: Vec<Driver>,
}

impl Load {
    /// Connects and stores every key once.
    pub async fn prepare(target: &Target, plan: Plan) -> Outcome<Self> {
        let mut drivers = Vec::new();
        for index in 0..plan.concurrency {
            let session = match target {
                Target::Bettong(access) => Session::Bettong(Box::new(Remote::open(access, None).await?)),
                Target::Redis { address } => {
                    let redis = Resp::connect(address).await;
                    Session::Redis(Box::new(redis.or_exit(Exit::Unavailable, format!("redis {address}"))?))
                }
                Target::Disk { dir } => return Ok(Self { plan, disk: Some(dir.clone()), drivers: Vec::new() }),
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
        Ok(Self { plan, disk: None, drivers })
    }

    /// Runs for the plan's duration on every connection at once.
    pub async fn run(&mut self, server: Option<u32>) -> Outcome<Run> {
        let cpu_before = server.and_then(super::process_cpu::cpu_time);
        let began = Instant::now();
        let until = began + self.plan.duration;
        let plan = self.plan;
        let mut total = Run::default();
        if let Some(dir) = &self.disk {
            let written = disk::run(dir, plan, until).await?;
            total.took = began.elapsed();
            for thread in written {
                total.latency.merge(&thread.latency);
                thread.remove()?;
            }
        } else {
            let drivers = self.drivers.iter_mut().map(|driver| drive(driver, plan, until));
            let driven = futures::future::try_join_all(drivers).await?;
            total.took = began.elapsed();
            driven.iter().for_each(|latency| total.latency.merge(latency));
        }
        total.ops = total.latency.count();
        let cpu_after = server.and_then(super::process_cpu::cpu_time);
        total.cpu = cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
        Ok(total)
    }

    /// Removes what was stored.
    pub async fn clean(mut self) -> Outcome {
        let cleaning = self.drivers.iter_mut().map(async |driver| {
            for key in driver.keys.iter().map(|(key, _)| key).chain(&driver.fresh) {
                driver.session.delete(key).await?;
            }
            Ok(())
        });
        futures::future::try_join_all(cleaning).await.map(|_| ())
    }
}

async fn drive(driver: &mut Driver, plan: Plan, until: Instant) -> Outcome<Latency> {
    let mut latency = Latency::default();
    let mut begin = Instant::now();
    // A durable put of a key that is there has the old version to remove as well: what is measured is a put alone.
    let fresh = plan.op == BenchOp::Put && plan.level == PutLevel::Object;
    for (key, value) in driver.keys.iter().cycle() {
        if begin >= until {
            break;
        }
        match plan.op {
            BenchOp::Put if fresh => {
                let key = format!("{key}-{}", driver.fresh.len());
                driver.session.put(&key, value, &plan).await?;
                driver.fresh.push(key);
            }
            BenchOp::Put => driver.session.put(key, value, &plan).await?,
            BenchOp::Get => driver.session.get(key, value).await?,
            BenchOp::Exists => driver.session.exists(key).await?,
        }
        let end = Instant::now();
        latency.record(end.saturating_duration_since(begin));
        begin = end;
    }
    Ok(latency)
}
