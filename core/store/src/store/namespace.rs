//! Opening namespaces: the first open writes the model identity, every later one is compared with it, field by field.

use super::Store;
use crate::keys::{NamespaceTable, NsNum};
use crate::objects::ObjectError;
use crate::record::{self, RECORD_BYTES_MAX};
use crate::world::World;
use bettong_wire::{ErrorKind, ModelIdentity, NamespaceId, ServiceError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What `ns/{id}/identity` holds. Unknown fields are refused: a newer release may compare more than this one knows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityRecord {
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
    /// Opens the namespace `name` of `tenant`; with an identity its blocks are reachable.
    pub async fn open_namespace(
        &self,
        tenant: &str,
        name: &str,
        identity: Option<&ModelIdentity>,
    ) -> Result<(NsNum, NamespaceId), ServiceError> {
        let shared = &self.shared;
        let id = NamespaceId::derive(tenant, name);
        let number = shared.namespaces.write().number(id).ok_or_else(|| {
            let limit = NamespaceTable::MAX;
            ServiceError::busy(format!("this node holds {limit} namespaces, which is the limit"), 60_000)
        })?;
        if let Some(offered) = identity {
            check(offered)?;
            let held = self.identity(id, offered).await?;
            if let Some(difference) = offered.differences(&held).first() {
                let (field, offered, held) = (difference.field, &difference.offered, &difference.held);
                let message = format!("{field} is {offered}, namespace `{name}` holds {held}");
                return Err(ServiceError::new(ErrorKind::IdentityMismatch, message));
            }
        }
        Ok((number, id))
    }

    /// The identity that the namespace holds: written by the first open.
    async fn identity(&self, id: NamespaceId, offered: &ModelIdentity) -> Result<Arc<ModelIdentity>, ServiceError> {
        let shared = &self.shared;
        if let Some(held) = shared.identities.lock().get(&id) {
            return Ok(held.clone());
        }
        let _turn = shared.identity_turn.lock().await;
        if let Some(held) = shared.identities.lock().get(&id) {
            return Ok(held.clone());
        }
        let path = shared.names.identity(id);
        let unavailable =
            |error: ObjectError| ServiceError::new(ErrorKind::Retry, format!("the namespace's identity: {error}"));
        let bytes = match shared.objects.get(&path, RECORD_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound) => {
                let bytes = record::encode(&IdentityRecord::from(offered))
                    .map_err(|error| ServiceError::new(ErrorKind::Internal, error))?;
                let created = if shared.conditional_create {
                    shared.objects.create(&path, bytes.clone().into()).await
                } else {
                    shared.objects.put_unique(&path, bytes.clone().into()).await
                };
                match created {
                    Ok(()) => bytes,
                    // Somebody was faster, or our own first attempt was: what is there decides.
                    Err(ObjectError::AlreadyExists | ObjectError::Unknown(_)) => {
                        shared.objects.get(&path, RECORD_BYTES_MAX).await.map_err(unavailable)?
                    }
                    Err(error) => return Err(unavailable(error)),
                }
            }
            Err(error) => return Err(unavailable(error)),
        };
        let held: IdentityRecord = record::decode(&bytes).map_err(|error| {
            ServiceError::new(ErrorKind::Retry, format!("the namespace's identity does not verify: {error}"))
        })?;
        let held = Arc::new(ModelIdentity::from(held));
        shared.identities.lock().insert(id, held.clone());
        Ok(held)
    }
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
