//! Attacks on a daemon that is full of blocks.

use super::child::{Daemon, Setup};
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::remote::{Access, Remote};
use crate::render::units;
use crate::replay::identity;
use crate::trace::payload;
use bettong_wire::request::{BlockPut, Level, Tier};
use bettong_wire::{BlockHash, BlockKey, MissReason, Part};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for a second daemon to know the first one's blocks.
const PEER_WAIT_MAX: Duration = Duration::from_secs(30);

/// What an attack showed, and whether the promise held.
pub type Shown = (String, bool);

/// Flips one byte of a block's object. The next read from there must be a miss that says `corrupt`; the block that is
/// put again must be right.
pub async fn flip_one_byte(
    remote: &Remote,
    objects: &Path,
    block: (u64, BlockHash),
    block_bytes: usize,
) -> Outcome<Shown> {
    let (id, hash) = block;
    let key = BlockKey { hash, part: Part(0) };
    let Some(file) = object_of(objects, &hash)? else {
        return Ok(("the block's object was not found".to_owned(), false));
    };
    let mut bytes = std::fs::read(&file).or_exit(Exit::Failed, file.display())?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x40;
    }
    std::fs::write(&file, bytes).or_exit(Exit::Failed, file.display())?;
    for tier in [Tier::Memory, Tier::Disk] {
        remote.clear(tier).await?;
    }
    let miss = match remote.get_block(key).await? {
        Ok(bytes) => return Ok((format!("served {} bytes", bytes.len()), false)),
        Err(reason) => reason,
    };
    let put = BlockPut { key, parent: None, sequence: 0, len: block_bytes as u64 };
    remote.put_blocks(vec![(put, Bytes::from(payload::block(id, block_bytes)))], Level::Object).await?;
    for tier in [Tier::Memory, Tier::Disk] {
        remote.clear(tier).await?;
    }
    let healed = match remote.get_block(key).await? {
        Ok(bytes) => payload::is_block(id, block_bytes, bytes.as_ref()),
        Err(_) => false,
    };
    let shown = format!(
        "one miss `{}`, {} after the block was put again",
        miss.as_str(),
        if healed { "right" } else { "NOT right" }
    );
    Ok((shown, miss == MissReason::Corrupt && healed))
}

/// The file of a block's object: `ns/{id}/block/{2 hex}/{64 hex}.{part}.{put id}`.
fn object_of(objects: &Path, hash: &BlockHash) -> Outcome<Option<PathBuf>> {
    let name = hash.to_hex();
    let spaces = objects.join("ns");
    let folders = std::fs::read_dir(&spaces).or_exit(Exit::Failed, spaces.display())?.flatten();
    for namespace in folders {
        let folder = namespace.path().join("block").join(name.get(..2).unwrap_or_default());
        let Ok(files) = std::fs::read_dir(&folder) else { continue };
        let found = files
            .flatten()
            .map(|file| file.path())
            .find(|path| path.file_name().and_then(|file| file.to_str()).is_some_and(|file| file.starts_with(&name)));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Opens the namespace with another element type; it must be refused with both values.
pub async fn other_dtype(access: &Access) -> Shown {
    match Remote::open(access, Some(identity("fp8_e4m3"))).await {
        Ok(_) => ("the namespace opened".to_owned(), false),
        Err(Failure { exit, message }) => {
            let named = message.contains("fp8_e4m3") && message.contains("bf16");
            (message, exit == Exit::Refused && named)
        }
    }
}

/// A second daemon on the same objects, with a data directory of its own, must serve the first one's blocks.
pub async fn second_daemon(
    setup: &Setup,
    namespace: &str,
    ledger: &[(u64, BlockHash)],
    block_bytes: usize,
) -> Outcome<Shown> {
    let daemon = Daemon::start(setup)?;
    let remote = Remote::open(&daemon.access(namespace), Some(identity("bf16"))).await?;
    let began = Instant::now();
    let (mut right, mut wrong) = (0, 0);
    for (id, hash) in ledger {
        let key = BlockKey { hash: *hash, part: Part(0) };
        let mut got = remote.get_block(key).await?;
        // Another node's index is read every `peer_refresh`, the first time right after the start; that takes a while.
        while got.is_err() && began.elapsed() < PEER_WAIT_MAX {
            tokio::time::sleep(Duration::from_millis(20)).await;
            got = remote.get_block(key).await?;
        }
        match got {
            Ok(bytes) if payload::is_block(*id, block_bytes, bytes.as_ref()) => right += 1,
            Ok(_) => wrong += 1,
            Err(_) => {}
        }
    }
    let waited = began.elapsed();
    daemon.stop()?;
    let shown = format!(
        "served {right} of {} blocks of the first, {wrong} wrong, within {} of its start",
        ledger.len(),
        units::duration(waited)
    );
    Ok((shown, right == ledger.len() && wrong == 0))
}
