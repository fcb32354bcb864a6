//! `bettong ls`: pages of keys, blocks or sidecars, until the end.

use crate::cli::{Global, LsArgs, LsKind};
use crate::exit::Outcome;
use crate::remote::Remote;
use crate::render;
use bettong_wire::limits::LIST_PAGE_MAX;
use bettong_wire::request::ListKind;
use bettong_wire::response::{ListEntry, ListName};
use serde_json::json;

pub async fn run(args: &LsArgs, global: &Global) -> Outcome {
    let identity = args.identity.as_deref().map(super::keys::identity).transpose()?;
    let remote = Remote::open(&global.access()?, identity).await?;
    let kind = match args.kind {
        LsKind::Keys => ListKind::Plain,
        LsKind::Blocks => ListKind::Blocks,
        LsKind::Sidecars => ListKind::Sidecars,
    };
    let mut cursor = Vec::new();
    loop {
        let page = remote.list(kind, &args.prefix, cursor, LIST_PAGE_MAX).await?;
        for entry in &page.entries {
            render::line(&shown(entry, global.json))?;
        }
        if page.cursor.is_empty() {
            return Ok(());
        }
        cursor = page.cursor;
    }
}

/// One line an entry, so that a long listing needs no memory.
fn shown(entry: &ListEntry, as_json: bool) -> String {
    let name = match &entry.name {
        ListName::Plain(key) => key.clone(),
        ListName::Block(key) => format!("{}.{}", key.hash, key.part.0),
        ListName::Sidecar(key) => key.to_string(),
    };
    match as_json {
        true => json!({
            "name": name,
            "bytes": entry.len,
            "put_id": entry.put_id.to_string(),
            "expires_at_ms": entry.expires_at_ms,
        })
        .to_string(),
        false => format!("{:>12}  {name}", entry.len),
    }
}
