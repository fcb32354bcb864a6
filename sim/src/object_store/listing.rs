//! Listings: pages of a snapshot each, slow or broken off where a fault strikes.

use super::bucket::STORE;
use super::service::Service;
use crate::faults::FaultKind;
use crate::plan::Operation;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ListResult, ObjectMeta, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Objects of one page. Far below S3's 1,000, so that listings of a short run have several pages.
const PAGE: usize = 17;

struct Cursor {
    service: Arc<Service>,
    caller: String,
    prefix: Option<Path>,
    offset: Option<String>,
    done: bool,
}

pub fn list(
    service: Arc<Service>,
    caller: String,
    prefix: Option<Path>,
    offset: Option<String>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let cursor = Cursor { service, caller, prefix, offset, done: false };
    stream::unfold(cursor, |mut cursor| async move {
        if cursor.done {
            return None;
        }
        let page = cursor.page().await;
        let items: Vec<Result<ObjectMeta>> = match page {
            Ok((metas, broken)) => metas.into_iter().map(Ok).chain(broken.map(Err)).collect(),
            Err(error) => {
                cursor.done = true;
                vec![Err(error)]
            }
        };
        Some((stream::iter(items), cursor))
    })
    .flatten()
    .boxed()
}

impl Cursor {
    /// The next page, and the error with which the listing breaks off behind it.
    async fn page(&mut self) -> Result<(Vec<ObjectMeta>, Option<Error>)> {
        let (prefix, offset) = (self.prefix.clone(), self.offset.clone());
        let path = prefix.as_ref().map(ToString::to_string).unwrap_or_default();
        let read = move |bucket: &mut super::Bucket| Ok(bucket.list(prefix.as_ref(), offset.as_deref()));
        let (mut metas, strikes) = self.service.read(&self.caller, Operation::List, path, read).await?;
        self.done = metas.len() <= PAGE;
        metas.truncate(PAGE);
        self.offset = metas.last().map(|meta| meta.location.to_string()).or(self.offset.take());
        let partial = strikes.into_iter().find(|strike| strike.kind == FaultKind::ObjectPartialList);
        let broken = partial.map(|strike| {
            self.service.run().fault_changed(&strike.key);
            self.done = true;
            metas.truncate((strike.choice % (metas.len() as u64 + 1)) as usize);
            Error::Generic { store: STORE, source: "the listing broke off".into() }
        });
        Ok((metas, broken))
    }
}

pub async fn list_with_delimiter(service: Arc<Service>, caller: String, prefix: Option<Path>) -> Result<ListResult> {
    let root = prefix.clone().unwrap_or_default();
    let metas: Vec<_> = list(service, caller, prefix, None).try_collect().await?;
    let mut common_prefixes = BTreeSet::new();
    let mut objects = Vec::new();
    for meta in metas {
        let Some(mut parts) = meta.location.prefix_match(&root) else { continue };
        match (parts.next(), parts.next().is_some()) {
            (Some(first), true) => {
                common_prefixes.insert(root.clone().join(first));
            }
            (Some(_), false) => {
                drop(parts);
                objects.push(meta);
            }
            (None, _) => {}
        }
    }
    let common_prefixes = common_prefixes.into_iter().collect();
    Ok(ListResult { objects, common_prefixes, extensions: Default::default() })
}
