//! How old an object is, by the clock of the bucket: the node's own wall clock may be anywhere.

use super::super::Store;
use crate::objects::ObjectError;
use crate::world::World;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::ObjectMeta;
use std::time::Duration;

/// A moment of the bucket's clock.
#[derive(Clone, Copy, Debug)]
pub struct BucketTime(DateTime<Utc>);

impl BucketTime {
    /// Whether the object was last written at least `age` before this moment.
    pub fn is_older(&self, object: &ObjectMeta, age: Duration) -> bool {
        (self.0 - object.last_modified).to_std().is_ok_and(|old| old >= age)
    }
}

impl<W: World> Store<W> {
    /// The bucket's clock, as this life's record and the time since it tell. Writes nothing; ahead by what the record took to
    /// be written, and off by what the two clocks have drifted apart since: good enough to say what would be done.
    pub(in crate::store) async fn bucket_time_unwritten(&self) -> Result<BucketTime, ObjectError> {
        let began = self.shared.objects.meta(&self.watch.own).await?.last_modified;
        let since = chrono::Duration::from_std(self.mono().since(self.shared.began)).unwrap_or_default();
        Ok(BucketTime(began + since))
    }

    /// The bucket's clock, by an object that is written now.
    pub(in crate::store) async fn bucket_time(&self) -> Result<BucketTime, ObjectError> {
        let shared = &self.shared;
        let path = shared.names.probe(&shared.config.node_id, shared.world.random_u64());
        shared.objects.put_unique(&path, Bytes::from_static(b"clock").into()).await?;
        let written = shared.objects.meta(&path).await;
        if let Err(error) = shared.objects.remove(&path).await {
            tracing::debug!(%error, %path, "a probe object stays behind");
        }
        Ok(BucketTime(written?.last_modified))
    }
}
