//! The small records of the bucket and of the data directory, as they are written: names and kinds of their fields are
//! the format.

use super::rig::{Bucket, Node, block, config};
use bettong_wire::request::{HeadValue, Level, PublishHead, Task};
use bettong_wire::{BlockHash, Request};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;

/// What a record says, with the kind of each value in its place: text that a run draws says nothing.
fn shape(record: &[u8]) -> String {
    let text = std::str::from_utf8(record).unwrap();
    let (json, hash) = text.strip_suffix('\n').unwrap().split_once('\n').unwrap();
    assert_eq!(blake3::hash(json.as_bytes()).to_hex().as_str(), hash);
    let kinds = serde_json::from_str::<Value>(json).map(kind).unwrap();
    serde_json::to_string(&kinds).unwrap().replace('"', "")
}

fn kind(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, kind(value))).collect(),
        Value::Array(items) => items.into_iter().map(kind).take(1).collect(),
        Value::String(text) if text.len() >= 16 => format!("hex{}", text.len()).into(),
        Value::String(text) => text.into(),
        Value::Number(_) => "n".into(),
        Value::Bool(_) => "bool".into(),
        Value::Null => Value::Null,
    }
}

async fn shape_of_first(bucket: &Bucket, prefix: &str, part: &str) -> String {
    let paths: Vec<Path> = bucket.paths(prefix).await;
    let path = paths.iter().find(|path| path.as_ref().contains(part)).unwrap_or_else(|| panic!("{part}: {paths:?}"));
    shape(&bucket.objects.get(path).await.unwrap().bytes().await.unwrap())
}

async fn filled(bucket: &Bucket) -> Node {
    let node = bucket.node_with(config("a")).await;
    for (n, part) in [(1, 0), (1, 1), (2, 0)] {
        node.put(block(n, part), Level::Object, b"bytes").await.unwrap();
    }
    assert_eq!(node.delete(block(2, 0)).await, 1);
    let tip = BlockHash([1; 32]);
    let value = Some(HeadValue { tip, length: 1, sidecar: None });
    let publish = PublishHead { ns: node.ns, name: "main".to_owned(), expected: 0, value, chain: vec![tip] };
    node.ok(Request::PublishHead(publish), Vec::new()).await.unwrap();
    node
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test looks at what the real disk holds")]
async fn records_have_the_fields_of_their_format() {
    let bucket = Bucket::new();
    let node = filled(&bucket).await;
    let pinned = [
        ("", "format", "{reader_min:n,writer_min:n}"),
        (
            "ns",
            "/identity",
            "{adapter:null,block_tokens:n,engine_layout:null,kv_dtype:bf16,layout:NHD,model:tiny,parallel:null,parts:[n],\
             tokenizer:null,weights_digest:null}",
        ),
        ("ns", "/head/", "{generation:n,name:main,put_id:hex33,value:{length:n,sidecar:null,tip:hex64}}"),
        ("node/a/life", "life", "{life:hex16,wall_ms:n}"),
        ("node/a/dead", "dead", "{counter:n,hash:hex64,kind:n,namespace:hex64,ordinal:n,part:n,wall_ms:n}"),
    ];
    for (prefix, part, fields) in pinned {
        assert_eq!(shape_of_first(&bucket, prefix, part).await, fields, "{part}");
    }
    let directory = std::fs::read(bucket.dir("a").join("node/record")).unwrap();
    assert_eq!(shape(&directory), "{lives:[[n]],node_id:a}");
    node.stop().await;
}

#[tokio::test]
async fn records_of_a_retirement_have_the_fields_of_their_format() {
    let bucket = Bucket::new();
    filled(&bucket).await.stop().await;
    let node = bucket.node_with(config("b")).await;
    super::upkeep::task(&node, Task::Retire, false, "a").await.unwrap();
    node.stop().await;
    let pinned = [
        ("retirement", "00000000000000000000", "{by:b,node_id:a,wall_ms:n}"),
        ("node/a", "retired", "{by:b,wall_ms:n}"),
        ("node/a/life", "00002", "{life:hex16,retired_by:b,wall_ms:n}"),
        ("node/b/heir", "a", "{since:[{counter:n,node_id:b,ordinal:n}],through:null,wall_ms:n}"),
    ];
    for (prefix, part, fields) in pinned {
        assert_eq!(shape_of_first(&bucket, prefix, part).await, fields, "{part}");
    }
}
