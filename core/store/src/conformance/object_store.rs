//! What the store needs of an object store: put, get, range, head, list, list with offset, delete, conditional create
//! and update, multipart, attributes. Run against memory, local files, S3 and the simulated store.

use super::{Verdict, holds, step};
use crate::objects::BytesOnly;
use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion,
};

/// What this store can do besides the seven plain methods.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities {
    /// `PutMode::Create` has one winner.
    pub create: bool,
    /// `PutMode::Update` compares etags.
    pub update: bool,
    /// Attributes come back with the object.
    pub attributes: bool,
}

/// The whole suite under `prefix`, which must be empty.
pub async fn object_store(store: &dyn ObjectStore, prefix: &str, can: Capabilities) -> Verdict {
    plain(store, prefix).await?;
    ranges(store, prefix).await?;
    bytes_only(store, prefix).await?;
    listing(store, prefix).await?;
    multipart(store, prefix).await?;
    if can.create {
        create(store, prefix).await?;
    }
    if can.update {
        update(store, prefix).await?;
    }
    if can.attributes {
        attributes(store, prefix).await?;
    }
    Ok(())
}

async fn body(store: &dyn ObjectStore, path: &Path) -> Result<Bytes, String> {
    let result = step("get", store.get(path).await)?;
    step("body", result.bytes().await)
}

async fn plain(store: &dyn ObjectStore, prefix: &str) -> Verdict {
    let path = Path::from(format!("{prefix}/plain/object"));
    let absent = store.get(&path).await.err();
    holds!(matches!(absent, Some(Error::NotFound { .. })), absent);
    let absent = store.head(&path).await.err();
    holds!(matches!(absent, Some(Error::NotFound { .. })), absent);
    step("put", store.put(&path, Bytes::from_static(b"first").into()).await)?;
    holds!(body(store, &path).await? == "first", body(store, &path).await);
    let head = step("head", store.head(&path).await)?;
    holds!(head.size == 5 && head.location == path, head);
    step("overwrite", store.put(&path, Bytes::from_static(b"second!").into()).await)?;
    holds!(body(store, &path).await? == "second!", body(store, &path).await);
    step("empty put", store.put(&Path::from(format!("{prefix}/plain/empty")), Bytes::new().into()).await)?;
    step("delete", store.delete(&path).await)?;
    let gone = store.get(&path).await.err();
    holds!(matches!(gone, Some(Error::NotFound { .. })), gone);
    let copy = Path::from(format!("{prefix}/plain/copy"));
    step("put", store.put(&path, Bytes::from_static(b"third").into()).await)?;
    step("copy", store.copy(&path, &copy).await)?;
    holds!(body(store, &copy).await? == "third", body(store, &copy).await);
    Ok(())
}

async fn ranges(store: &dyn ObjectStore, prefix: &str) -> Verdict {
    let path = Path::from(format!("{prefix}/ranges/object"));
    let bytes: Vec<u8> = (0..10_000_u32).map(|i| (i % 253) as u8).collect();
    step("put", store.put(&path, Bytes::from(bytes.clone()).into()).await)?;
    for (start, end) in [(0_usize, 1_usize), (0, 10_000), (17, 4113), (9_999, 10_000)] {
        let range = step("range", store.get_range(&path, start as u64..end as u64).await)?;
        holds!(Some(range.as_ref()) == bytes.get(start..end), (start, end));
    }
    let suffix = GetOptions { range: Some(GetRange::Suffix(100)), ..GetOptions::default() };
    let suffix = step("suffix", store.get_opts(&path, suffix).await)?;
    holds!(suffix.range == (9_900..10_000), suffix.range);
    holds!(suffix.meta.size == 10_000, suffix.meta);
    let several = step("ranges", store.get_ranges(&path, &[5..10, 100..200, 9_000..9_001]).await)?;
    holds!(several.iter().map(Bytes::len).eq([5, 100, 1]), several);
    let beyond = store.get_range(&path, 20_000..20_010).await;
    holds!(beyond.is_err(), beyond);
    Ok(())
}

/// A store that is told that only the bytes are wanted answers with the same bytes and sizes as one that is not.
async fn bytes_only(store: &dyn ObjectStore, prefix: &str) -> Verdict {
    let path = Path::from(format!("{prefix}/bytes-only/object"));
    let bytes: Vec<u8> = (0..10_000_u32).map(|i| (i % 251) as u8).collect();
    step("put", store.put(&path, Bytes::from(bytes.clone()).into()).await)?;
    let read = |range, max| store.get_opts(&path, BytesOnly::of(range, max));
    for max in [10_000, 9_999, 0] {
        let whole = step("whole", read(None, max).await)?;
        holds!(whole.meta.size == 10_000 && whole.range == (0..10_000), whole);
        holds!(step("body", whole.bytes().await)? == bytes, max);
    }
    for (start, end) in [(0_usize, 1_usize), (17, 4113), (9_999, 10_000), (9_000, 20_000)] {
        let piece = step("piece", read(Some(start as u64..end as u64), (end - start) as u64).await)?;
        let there = start..end.min(10_000);
        holds!(piece.meta.size == 10_000, piece);
        holds!(piece.range == (there.start as u64..there.end as u64), piece);
        holds!(bytes.get(there) == Some(step("body", piece.bytes().await)?.as_ref()), (start, end));
    }
    let beyond = read(Some(20_000..20_010), 10).await;
    holds!(beyond.is_err(), beyond);
    step("empty put", store.put(&path, Bytes::new().into()).await)?;
    let empty = step("empty", read(None, 10).await)?;
    holds!(empty.meta.size == 0, empty);
    holds!(step("body", empty.bytes().await)?.is_empty(), path);
    step("delete", store.delete(&path).await)?;
    let gone = read(None, 10_000).await.err();
    holds!(matches!(gone, Some(Error::NotFound { .. })), gone);
    Ok(())
}

async fn listing(store: &dyn ObjectStore, prefix: &str) -> Verdict {
    let root = Path::from(format!("{prefix}/list"));
    let names: Vec<String> = (0..12).map(|i| format!("{prefix}/list/{}/{i:02}", i % 3)).collect();
    for name in &names {
        step("put", store.put(&Path::from(name.as_str()), Bytes::from(name.clone()).into()).await)?;
    }
    step("neighbour", store.put(&Path::from(format!("{prefix}/list-not")), Bytes::new().into()).await)?;
    let mut sorted = names.clone();
    sorted.sort_unstable();

    let listed = collect(store.list(Some(&root))).await?;
    holds!(listed == sorted, listed);
    let offset = sorted.get(4).cloned().unwrap_or_default();
    let after = collect(store.list_with_offset(Some(&root), &Path::from(offset.as_str()))).await?;
    let expected: Vec<_> = sorted.iter().filter(|name| **name > offset).cloned().collect();
    holds!(after == expected, after);
    let level = step("list_with_delimiter", store.list_with_delimiter(Some(&root)).await)?;
    let prefixes: Vec<_> = level.common_prefixes.iter().map(ToString::to_string).collect();
    let expected: Vec<_> = (0..3).map(|i| format!("{prefix}/list/{i}")).collect();
    holds!(prefixes == expected && level.objects.is_empty(), level);
    let none = collect(store.list(Some(&Path::from(format!("{prefix}/nothing-here"))))).await?;
    holds!(none.is_empty(), none);

    let all = futures::stream::iter(names.iter().map(|name| Ok(Path::from(name.as_str()))).collect::<Vec<_>>()).boxed();
    let deleted: Vec<_> = store.delete_stream(all).collect().await;
    holds!(deleted.len() == names.len() && deleted.iter().all(Result::is_ok), deleted);
    let left = collect(store.list(Some(&root))).await?;
    holds!(left.is_empty(), left);
    Ok(())
}

async fn collect(
    mut listing: futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>>,
) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    while let Some(meta) = listing.next().await {
        names.push(step("list", meta)?.location.to_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// S3 wants parts of at least 5 MiB, but the last.
const PART_BYTES: usize = 5 << 20;

async fn multipart(store: &dyn ObjectStore, prefix: &str) -> Verdict {
    let path = Path::from(format!("{prefix}/multipart/object"));
    let mut upload = step("put_multipart", store.put_multipart(&path).await)?;
    step("part", upload.put_part(Bytes::from(vec![1; PART_BYTES]).into()).await)?;
    step("part", upload.put_part(Bytes::from(vec![2; 1000]).into()).await)?;
    let unfinished = store.head(&path).await.err();
    holds!(matches!(unfinished, Some(Error::NotFound { .. })), unfinished);
    step("complete", upload.complete().await)?;
    let whole = body(store, &path).await?;
    holds!(whole.len() == PART_BYTES + 1000, whole.len());
    let boundary = whole.get(PART_BYTES - 1..PART_BYTES + 1);
    holds!(boundary == Some(&[1, 2]), boundary);

    let aborted = Path::from(format!("{prefix}/multipart/aborted"));
    let mut upload = step("put_multipart", store.put_multipart(&aborted).await)?;
    step("part", upload.put_part(Bytes::from(vec![3; 100]).into()).await)?;
    step("abort", upload.abort().await)?;
    let absent = store.head(&aborted).await.err();
    holds!(matches!(absent, Some(Error::NotFound { .. })), absent);
    Ok(())
}

async fn create(store: &dyn ObjectStore, prefix: &str) -> Verdict {
    let path = Path::from(format!("{prefix}/create/object"));
    let put = |bytes: &'static [u8]| store.put_opts(&path, Bytes::from_static(bytes).into(), PutMode::Create.into());
    step("create", put(b"winner").await)?;
    let second = put(b"loser").await.err();
    holds!(matches!(second, Some(Error::AlreadyExists { .. })), second);
    holds!(body(store, &path).await? == "winner", body(store, &path).await);

    let contested = Path::from(format!("{prefix}/create/contested"));
    let racers = (0..8_u8).map(|racer| {
        let bytes = Bytes::from(vec![racer; 64]);
        store.put_opts(&contested, bytes.into(), PutMode::Create.into())
    });
    let results = futures::future::join_all(racers).await;
    let winners: Vec<_> =
        results.iter().enumerate().filter(|(_, result)| result.is_ok()).map(|(racer, _)| racer).collect();
    holds!(winners.len() == 1, winners);
    let stored = body(store, &contested).await?;
    holds!(winners.first().is_some_and(|winner| stored.iter().all(|byte| usize::from(*byte) == *winner)), winners);
    Ok(())
}

async fn update(store: &dyn ObjectStore, prefix: &str) -> Verdict {
    let path = Path::from(format!("{prefix}/update/object"));
    let first: UpdateVersion = step("put", store.put(&path, Bytes::from_static(b"one").into()).await)?.into();
    let put = |bytes: &'static [u8], version: &UpdateVersion| {
        store.put_opts(&path, Bytes::from_static(bytes).into(), PutMode::Update(version.clone()).into())
    };
    let second: UpdateVersion = step("update", put(b"two", &first).await)?.into();
    let stale = put(b"stale", &first).await.err();
    holds!(matches!(stale, Some(Error::Precondition { .. })), stale);
    holds!(body(store, &path).await? == "two", body(store, &path).await);
    step("update", put(b"three", &second).await)?;
    let matching = GetOptions { if_match: first.e_tag, ..GetOptions::default() };
    let mismatch = store.get_opts(&path, matching).await.err();
    holds!(matches!(mismatch, Some(Error::Precondition { .. })), mismatch);
    Ok(())
}

async fn attributes(store: &dyn ObjectStore, prefix: &str) -> Verdict {
    let path = Path::from(format!("{prefix}/attributes/object"));
    let attribute = Attribute::Metadata("bettong".into());
    let attributes = Attributes::from_iter([(attribute.clone(), "kept")]);
    let options = PutOptions { attributes, ..PutOptions::default() };
    step("put", store.put_opts(&path, Bytes::from_static(b"x").into(), options).await)?;
    let result = step("get", store.get(&path).await)?;
    let kept = result.attributes.get(&attribute).map(|value| value.as_ref() == "kept");
    holds!(kept == Some(true), result.attributes);
    Ok(())
}
