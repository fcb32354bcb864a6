//! `put`, `get`, `exists`, `rm` of plain keys, and `lookup` of a chain.

use crate::cli::{Global, LookupArgs, PutArgs};
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::remote::Remote;
use crate::render;
use bettong_wire::limits::BLOCK_BYTES_MAX;
use bettong_wire::{BlockHash, ModelIdentity};
use bytes::Bytes;
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

async fn open(global: &Global) -> Outcome<Remote> {
    Remote::open(&global.access()?, None).await
}

pub async fn put(args: &PutArgs, global: &Global) -> Outcome {
    if args.ttl.is_some_and(|ttl| ttl.0 == 0) {
        return Err(Failure::new(Exit::Usage, "--ttl is 0: a value that never expires has none"));
    }
    let bytes = read_value(&args.file)?;
    let len = bytes.len();
    let ttl_ms = args.ttl.map_or(0, |ttl| ttl.0);
    let stored = open(global).await?.put_plain(&args.key, bytes, args.level.into(), ttl_ms).await?;
    match global.json {
        true => {
            render::line(&json!({ "key": args.key, "bytes": len, "put_id": stored.put_id.to_string() }).to_string())
        }
        false => Ok(()),
    }
}

/// The whole file, or all of standard input for `-`; more than a value may hold is refused before it is all read.
fn read_value(path: &Path) -> Outcome<Bytes> {
    let mut bytes = Vec::new();
    let shown = path.display();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().lock().take(BLOCK_BYTES_MAX + 1).read_to_end(&mut bytes),
        _ => std::fs::File::open(path).and_then(|file| file.take(BLOCK_BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    read.or_exit(Exit::Usage, &shown)?;
    if bytes.len() as u64 > BLOCK_BYTES_MAX {
        return Err(Failure::new(
            Exit::Refused,
            format!("{shown}: over the limit of {BLOCK_BYTES_MAX} bytes for one value"),
        ));
    }
    Ok(bytes.into())
}

pub async fn get(key: &str, global: &Global) -> Outcome {
    let value = open(global).await?.get_plain(key).await?;
    let mut out = std::io::stdout().lock();
    match out.write_all(value.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.or_exit(Exit::Failed, "standard output"),
    }
}

pub async fn exists(key: &str, global: &Global) -> Outcome {
    let (len, expires_at_ms) = open(global).await?.exists_plain(key).await?;
    match global.json {
        true => render::line(&json!({ "key": key, "bytes": len, "expires_at_ms": expires_at_ms }).to_string()),
        false => render::line(&format!("{key}: {len} bytes")),
    }
}

pub async fn rm(key: &str, global: &Global) -> Outcome {
    let removed = open(global).await?.delete_plain(key).await?;
    if global.json {
        render::line(&json!({ "key": key, "removed": removed }).to_string())?;
    }
    match removed {
        0 => Err(Failure::new(Exit::Miss, format!("{key}: not there"))),
        _ => Ok(()),
    }
}

pub async fn lookup(args: &LookupArgs, global: &Global) -> Outcome {
    let hashes: Vec<BlockHash> = args
        .hashes
        .iter()
        .map(|text| {
            BlockHash::from_hex(text)
                .ok_or_else(|| Failure::new(Exit::Usage, format!("`{text}` is no block hash of 64 hexadecimal digits")))
        })
        .collect::<Outcome<_>>()?;
    let remote = Remote::open(&global.access()?, Some(identity(&args.identity)?)).await?;
    let found = remote.lookup(&hashes).await?;
    match global.json {
        true => render::line(&json!({ "asked": hashes.len(), "present": found }).to_string()),
        false => render::line(&format!("{found} of {} leading blocks are there", hashes.len())),
    }
}

/// Reads a model identity from a JSON file: an object with the identity's own field names.
pub fn identity(path: &Path) -> Outcome<ModelIdentity> {
    /// Largest identity file, in bytes.
    const FILE_BYTES_MAX: u64 = 1 << 20;
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        model: String,
        weights_digest: Option<String>,
        tokenizer: Option<String>,
        kv_dtype: String,
        layout: String,
        block_tokens: u32,
        parallel: Option<String>,
        adapter: Option<String>,
        engine_layout: Option<String>,
        parts: Vec<u16>,
    }
    let shown = path.display();
    let mut text = String::new();
    let file = std::fs::File::open(path).or_exit(Exit::Usage, &shown)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).or_exit(Exit::Usage, &shown)?;
    let file: File = serde_json::from_str(&text).or_exit(Exit::Usage, &shown)?;
    Ok(ModelIdentity {
        model: file.model,
        weights_digest: file.weights_digest,
        tokenizer: file.tokenizer,
        kv_dtype: file.kv_dtype,
        layout: file.layout,
        block_tokens: file.block_tokens,
        parallel: file.parallel,
        adapter: file.adapter,
        engine_layout: file.engine_layout,
        parts: file.parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_file_is_read_strictly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.json");
        let good = r#"{"model": "m", "kv_dtype": "bf16", "layout": "NHD", "block_tokens": 16, "parts": [0, 1]}"#;
        std::fs::write(&path, good).unwrap();
        assert_eq!(identity(&path).unwrap().parts, [0, 1]);
        for bad in [
            "",
            "{}",
            &good.replace("model", "modell"),
            &good.replace("16,", "-1,"),
            &good.replace("[0, 1]", "[65536]"),
        ] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(identity(&path).unwrap_err().exit, Exit::Usage);
        }
    }
}
