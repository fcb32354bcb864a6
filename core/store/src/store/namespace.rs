//! Opening namespaces: the first open writes the model identity, every later one is compared with it, field by field.

use super::Store;
use crate::keys::{NamespaceTable, NsNum};
use crate::objects::ObjectError;
use crate::record::{self, RECORD_BYTES_MAX};
use crate::world::World;
use bettong_wire::{ErrorKind, ModelIdentity, NamespaceId, ServiceError};
use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Records of one page of a listing.
const PAGE: usize = 1000;

/// What `ns/{id}/identity` holds. Unknown fields are refused: a newer release may compare more than this one knows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityRecord {
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

impl From<&ModelIdentity> for IdentityRecord {
    fn from(identity: &ModelIdentity) -> Self {
        let ModelIdentity {
            model,
            weights_digest,
            tokenizer,
            kv_dtype,
            layout,
            block_tokens,
            parallel,
            adapter,
            engine_layout,
            parts,
        } = identity.clone();
        Self {
            model,
            weights_digest,
            tokenizer,
            kv_dtype,
            layout,
            block_tokens,
            parallel,
            adapter,
            engine_layout,
            parts,
        }
    }
}

impl From<IdentityRecord> for ModelIdentity {
    fn from(held: IdentityRecord) -> Self {
        Self {
            model: held.model,
            weights_digest: held.weights_digest,
            tokenizer: held.tokenizer,
            kv_dtype: held.kv_dtype,
            layout: held.layout,
            block_tokens: held.block_tokens,
            parallel: held.parallel,
            adapter: held.adapter,
            engine_layout: held.engine_layout,
            parts: held.parts,
        }
    }
}

impl<W: World> Store<W> {
    /// Opens the namespace `name` of `tenant`; with an identity its blocks are reachable. Without one it takes no number
    /// before something is written to it: names alone must not use them up.
    pub async fn open_namespace(
        &self,
        tenant: &str,
        name: &str,
        identity: Option<&ModelIdentity>,
    ) -> Result<NamespaceId, ServiceError> {
        let id = NamespaceId::derive(tenant, name);
        if let Some(offered) = identity {
            check(offered)?;
            let held = self.identity(id, offered).await?;
            if let Some(difference) = offered.differences(&held).first() {
                let (field, offered, held) = (difference.field, &difference.offered, &difference.held);
                let message = format!("{field} is {offered}, namespace `{name}` holds {held}");
                return Err(ServiceError::new(ErrorKind::IdentityMismatch, message));
            }
            self.number_for_writes(tenant, id)?;
        }
        Ok(id)
    }

    /// The number of a namespace that something is written to; it has one from then on.
    pub fn number_for_writes(&self, tenant: &str, id: NamespaceId) -> Result<NsNum, ServiceError> {
        if let Some(number) = self.shared.namespaces.read().get(id) {
            return Ok(number);
        }
        let full = |message| ServiceError::busy(message, 60_000);
        let mut added = self.shared.namespaces_added.lock();
        if let Some(number) = self.shared.namespaces.read().get(id) {
            return Ok(number);
        }
        let of_tenant = added.get(tenant).copied().unwrap_or(0);
        let limit = NamespaceTable::MAX_OF_TENANT;
        if of_tenant >= limit {
            return Err(full(format!(
                "tenant `{tenant}` has written to {limit} namespaces of this node, which is the limit"
            )));
        }
        let limit = NamespaceTable::MAX;
        let number = self.shared.namespaces.write().number(id);
        let number = number.ok_or_else(|| full(format!("this node holds {limit} namespaces, which is the limit")))?;
        added.insert(tenant.to_owned(), of_tenant + 1);
        Ok(number)
    }

    /// The identity that the namespace holds: written by the first open.
    async fn identity(&self, id: NamespaceId, offered: &ModelIdentity) -> Result<Arc<ModelIdentity>, ServiceError> {
        let shared = &self.shared;
        if let Some(held) = shared.identities.lock().get(&id) {
            return Ok(held.clone());
        }
        let _turn = shared.identity_turns.lock([id]).await;
        if let Some(held) = shared.identities.lock().get(&id) {
            return Ok(held.clone());
        }
        let bytes = if shared.conditional_create {
            self.first_identity(id, offered).await?
        } else {
            self.identity_of_this_life(id, offered).await?
        };
        let held = Arc::new(ModelIdentity::from(decoded(&shared.names.identity(id), &bytes)?));
        shared.identities.lock().insert(id, held.clone());
        Ok(held)
    }

    /// Whoever creates the record first has decided.
    async fn first_identity(&self, id: NamespaceId, offered: &ModelIdentity) -> Result<Bytes, ServiceError> {
        let shared = &self.shared;
        let path = shared.names.identity(id);
        match shared.objects.get(&path, RECORD_BYTES_MAX).await {
            Ok(bytes) => return Ok(bytes),
            Err(ObjectError::NotFound) => {}
            Err(error) => return Err(unavailable(error)),
        }
        // Decided, perhaps, when the object store could not yet create an object only if it is absent.
        let bytes = match self.newest_identity(id).await? {
            Some(bytes) => bytes,
            None => encoded(offered)?,
        };
        match shared.objects.create(&path, bytes.clone().into()).await {
            Ok(()) => Ok(bytes),
            // Somebody was faster, or our own first attempt was: what is there decides.
            Err(ObjectError::AlreadyExists | ObjectError::Unknown(_)) => {
                shared.objects.get(&path, RECORD_BYTES_MAX).await.map_err(unavailable)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Where nothing keeps two writes from taking one name, each life writes down what it found or chose, under a name
    /// of its own and before it relies on it, and never changes its mind: the newest life's record counts, and a write
    /// of an older life that lands late changes nothing. Needs the namespace's turn.
    async fn identity_of_this_life(&self, id: NamespaceId, offered: &ModelIdentity) -> Result<Bytes, ServiceError> {
        let shared = &self.shared;
        let chosen = shared.identities_chosen.lock().get(&id).cloned();
        let bytes = match chosen {
            Some(bytes) => bytes,
            None => {
                let first = match shared.objects.get(&shared.names.identity(id), RECORD_BYTES_MAX).await {
                    Ok(bytes) => Some(bytes),
                    Err(ObjectError::NotFound) => None,
                    Err(error) => return Err(unavailable(error)),
                };
                let bytes = match self.newest_identity(id).await?.or(first) {
                    Some(bytes) => bytes,
                    None => encoded(offered)?,
                };
                decoded(&shared.names.identity(id), &bytes)?;
                shared.identities_chosen.lock().insert(id, bytes.clone());
                bytes
            }
        };
        let path = shared.names.identity_of_life(id, shared.life);
        shared.objects.put_unique(&path, bytes.clone().into()).await.map_err(unavailable)?;
        Ok(bytes)
    }

    /// What the newest life that opened the namespace wrote down.
    async fn newest_identity(&self, id: NamespaceId) -> Result<Option<Bytes>, ServiceError> {
        let shared = &self.shared;
        let mut after = None;
        loop {
            let page = shared.objects.page(&shared.names.identities(id), after.as_ref(), PAGE).await;
            let page = page.map_err(unavailable)?;
            let last = page.objects.last().map(|object| object.location.clone()).or(after);
            if page.more {
                after = last;
                continue;
            }
            return match last {
                Some(path) => shared.objects.get(&path, RECORD_BYTES_MAX).await.map(Some).map_err(unavailable),
                None => Ok(None),
            };
        }
    }
}

fn unavailable(error: ObjectError) -> ServiceError {
    ServiceError::new(ErrorKind::Retry, format!("the namespace's identity: {error}"))
}

fn encoded(identity: &ModelIdentity) -> Result<Bytes, ServiceError> {
    let bytes = record::encode(&IdentityRecord::from(identity));
    bytes.map_err(|error| ServiceError::new(ErrorKind::Internal, error))
}

/// A wrong read is another attempt's; where the object itself is damaged only whoever has another copy can help.
fn decoded(path: &Path, bytes: &Bytes) -> Result<IdentityRecord, ServiceError> {
    record::decode(bytes).map_err(|error| {
        let text =
            format!("the namespace's identity, {path}, does not verify: {error}; if this goes on, restore the object");
        ServiceError::new(ErrorKind::Retry, text)
    })
}

fn check(identity: &ModelIdentity) -> Result<(), ServiceError> {
    let invalid = |message: String| Err(ServiceError::new(ErrorKind::Invalid, message));
    let required = [("model", &identity.model), ("kv_dtype", &identity.kv_dtype), ("layout", &identity.layout)];
    if let Some((field, _)) = required.iter().find(|(_, value)| value.is_empty()) {
        return invalid(format!("the model identity's {field} is required and empty"));
    }
    if identity.block_tokens == 0 {
        return invalid("the model identity's block_tokens is 0, it must be at least 1".to_owned());
    }
    if identity.parts.is_empty() || !identity.parts.is_sorted_by(|a, b| a < b) {
        return invalid(format!(
            "the model identity's parts are {:?}, they must be ascending, at least one",
            identity.parts
        ));
    }
    Ok(())
}
