//! `bettong node ls`: the nodes under a store's prefix, read from the store itself; no daemon is needed.

use crate::cli::ConfigArgs;
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::objects::{self, StoreUrl};
use crate::render::{self, table::Table};
use bettong_core::objects::names::life_ordinal;
use bettong_core::record::{self, RECORD_BYTES_MAX};
use bettong_core::store::RetiredRecord;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;

/// One node of a prefix.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    id: String,
    /// Starts so far: the ordinal of its newest life.
    lives: u64,
    /// When the newest life began.
    began: String,
    /// The node that retired it and answers for what it had; empty where nobody did.
    retired_by: String,
}

pub async fn ls(args: &ConfigArgs, as_json: bool) -> Outcome {
    let loaded = super::config::loaded(args)?;
    if let StoreUrl::File(path) = StoreUrl::parse(&loaded.config.store_or_default())?
        && !path.is_dir()
    {
        // Opening would make the folder, and this command only reads.
        return Err(Failure::new(
            Exit::ObjectStore,
            format!("object store file://{}: there is no such folder", path.display()),
        ));
    }
    let store = objects::open(&loaded.config).await?;
    let nodes = nodes(store.objects.as_ref(), &store.prefix).await.or_exit(Exit::ObjectStore, "listing nodes")?;
    if as_json {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| {
                let retired_by = (!node.retired_by.is_empty()).then_some(&node.retired_by);
                let (lives, began) = (node.lives, &node.began);
                json!({ "node": node.id, "lives": lives, "newest_life_began": began, "retired_by": retired_by })
            })
            .collect();
        return render::line(&serde_json::Value::Array(nodes).to_string());
    }
    let mut table = Table::new(&["node", "lives", "newest life began", "retired by"]);
    for node in &nodes {
        table.row(&[&node.id, &node.lives.to_string(), &node.began, &node.retired_by]);
    }
    render::line(&table.to_string())
}

async fn nodes(objects: &dyn ObjectStore, prefix: &Path) -> object_store::Result<Vec<Node>> {
    let root = prefix.clone().join("node");
    let mut nodes = Vec::new();
    for folder in objects.list_with_delimiter(Some(&root)).await?.common_prefixes {
        let Some(id) = folder.filename().map(str::to_owned) else { continue };
        let lives: Vec<_> = objects.list(Some(&folder.clone().join("life"))).try_collect().await?;
        let newest =
            lives.iter().filter_map(|life| Some((life_ordinal(&life.location)?, life))).max_by_key(|(n, _)| *n);
        if let Some((lives, life)) = newest {
            let retired_by = retired_by(objects, &folder.join("retired")).await?;
            nodes.push(Node {
                id,
                retired_by,
                lives,
                began: life.last_modified.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            });
        }
    }
    Ok(nodes)
}

/// Who retired a node, by its record; empty where there is none.
async fn retired_by(objects: &dyn ObjectStore, record: &Path) -> object_store::Result<String> {
    let bytes = match objects.get(record).await {
        Ok(answer) if answer.meta.size <= RECORD_BYTES_MAX => answer.bytes().await?,
        Ok(_) => return Ok("(its record does not verify)".to_owned()),
        Err(object_store::Error::NotFound { .. }) => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let held = record::decode::<RetiredRecord>(&bytes);
    Ok(held.map_or_else(|_| "(its record does not verify)".to_owned(), |held| held.by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_life_counts() {
        let objects = object_store::memory::InMemory::new();
        for name in [
            "p/node/a/life/00000000000000000009",
            "p/node/a/life/00000000000000000010.00000000000000ff",
            "p/node/a/life/x",
            "p/node/b/dead/y",
            "node/c/life/00000000000000000001",
        ] {
            objects.put(&Path::from(name), "life".into()).await.unwrap();
        }
        let nodes = nodes(&objects, &Path::from("p")).await.unwrap();
        assert_eq!(nodes.iter().map(|node| (node.id.as_str(), node.lives)).collect::<Vec<_>>(), [("a", 10)]);
    }
}
