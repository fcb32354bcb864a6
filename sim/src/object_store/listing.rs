//! Listings: pages of a snapshot each, slow or broken off where a fault strikes.

use super::bucket::STORE;
use super::{Disorder, SimObjectStore};
use crate::faults::FaultKind;
use crate::plan::Operation;
use crate::random::Stream;
use crate::world::elapsed;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ListResult, ObjectMeta, Result};
use std::collections::BTreeSet;

/// Objects of one page. Far below S3's 1,000, so that listings of a short run have several pages.
const PAGE: usize = 17;

struct Cursor {
    store: SimObjectStore,
    prefix: Option<Path>,
    offset: Option<String>,
    /// Where it does not come in the order of names.
    order: Option<Drawn>,
    /// The place of the last object that was listed in a drawn order.
    last: Option<Place>,
    done: bool,
}

/// Where an object stands in a drawn order.
type Place = (u64, String);

/// The order of one listing, drawn when it begins.
#[derive(Debug, Clone, Copy)]
struct Drawn(u64);

impl Drawn {
    fn new(disorder: &Disorder) -> Self {
        let now = u64::try_from(elapsed().as_nanos()).unwrap_or(u64::MAX);
        Self(Stream::new(disorder.salt, &format!("listing/{now}")).draw())
    }

    fn place(self, path: &Path) -> Place {
        (Stream::new(self.0, path.as_ref()).draw(), path.to_string())
    }
}

pub fn list(
    store: &SimObjectStore,
    prefix: Option<Path>,
    offset: Option<String>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let order = store.disorder.as_ref().map(Drawn::new);
    let cursor = Cursor { store: store.clone(), prefix, offset, order, last: None, done: false };
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
        let (prefix, offset, service) = (self.prefix.clone(), self.offset.clone(), &self.store.service);
        let path = prefix.as_ref().map(ToString::to_string).unwrap_or_default();
        let read = move |bucket: &mut super::Bucket| Ok(bucket.list(prefix.as_ref(), offset.as_deref()));
        let (mut metas, strikes) = service.read(&self.store.caller, Operation::List, path, read).await?;
        if let Some(order) = self.order {
            metas.retain(|meta| self.last.as_ref().is_none_or(|last| order.place(&meta.location) > *last));
            metas.sort_by_cached_key(|meta| order.place(&meta.location));
        }
        self.done = metas.len() <= PAGE;
        metas.truncate(PAGE);
        let last = metas.last().map(|meta| &meta.location);
        match self.order {
            Some(order) => self.last = last.map(|path| order.place(path)).or(self.last.take()),
            None => self.offset = last.map(ToString::to_string).or(self.offset.take()),
        }
        if let Some(disorder) = &self.store.disorder
            && !metas.is_sorted_by(|a, b| a.location <= b.location)
        {
            service.run().fault_changed(&disorder.fault);
        }
        let partial = strikes.into_iter().find(|strike| strike.kind == FaultKind::ObjectPartialList);
        let broken = partial.map(|strike| {
            service.run().fault_changed(&strike.key);
            self.done = true;
            metas.truncate((strike.choice % (metas.len() as u64 + 1)) as usize);
            Error::Generic { store: STORE, source: "the listing broke off".into() }
        });
        Ok((metas, broken))
    }
}

pub async fn list_with_delimiter(store: &SimObjectStore, prefix: Option<Path>) -> Result<ListResult> {
    let root = prefix.clone().unwrap_or_default();
    let order = store.disorder.as_ref().map(Drawn::new);
    let metas: Vec<_> = list(store, prefix, None).try_collect().await?;
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
    let mut common_prefixes: Vec<Path> = common_prefixes.into_iter().collect();
    if let Some(order) = order {
        common_prefixes.sort_by_cached_key(|path| order.place(path));
    }
    Ok(ListResult { objects, common_prefixes, extensions: Default::default() })
}
