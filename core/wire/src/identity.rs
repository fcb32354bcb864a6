//! The model identity: what must be equal for KV bytes to be usable.

use rkyv::{Archive, Deserialize, Serialize};

/// What must be equal for KV bytes to be usable by another engine. Required fields are never empty; an optional field
/// that is absent equals only absent. Fail closed: an unknown difference is a difference.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Model name, e.g. `meta-llama/Llama-3.1-70B`. Required.
    pub model: String,
    /// Digest of the weights. Optional.
    pub weights_digest: Option<String>,
    /// Digest or name of the tokenizer. Optional.
    pub tokenizer: Option<String>,
    /// Element type of the KV cache, e.g. `bf16`, `fp8_e4m3`. Required.
    pub kv_dtype: String,
    /// Layout of a block's bytes, e.g. `NHD`, `HND`, `MLA`. Required.
    pub layout: String,
    /// Tokens in a full block. Required, at least 1.
    pub block_tokens: u32,
    /// Parallel geometry, e.g. `tp8.pp1`. Optional.
    pub parallel: Option<String>,
    /// Adapter (LoRA) digest. Optional.
    pub adapter: Option<String>,
    /// Version of the engine's own layout. Optional.
    pub engine_layout: Option<String>,
    /// The parts that every block of this identity has, ascending. Required, at least one (one for MLA).
    pub parts: Vec<u16>,
}

/// One field in which two identities differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityDifference {
    pub field: &'static str,
    /// What the caller says.
    pub offered: String,
    /// What the namespace holds.
    pub held: String,
}

impl ModelIdentity {
    /// The fields as (name, value) pairs, in a fixed order; an absent optional field reads `(absent)`.
    pub fn fields(&self) -> [(&'static str, String); 10] {
        let optional = |field: &Option<String>| field.clone().unwrap_or_else(|| "(absent)".to_owned());
        [
            ("model", self.model.clone()),
            ("weights_digest", optional(&self.weights_digest)),
            ("tokenizer", optional(&self.tokenizer)),
            ("kv_dtype", self.kv_dtype.clone()),
            ("layout", self.layout.clone()),
            ("block_tokens", self.block_tokens.to_string()),
            ("parallel", optional(&self.parallel)),
            ("adapter", optional(&self.adapter)),
            ("engine_layout", optional(&self.engine_layout)),
            ("parts", format!("{:?}", self.parts)),
        ]
    }

    /// Every field in which the offered identity (`self`) differs from the held one. Compares the typed fields: an
    /// optional field holding the text `(absent)` still differs from an absent one.
    pub fn differences(&self, held: &Self) -> Vec<IdentityDifference> {
        let equal = [
            self.model == held.model,
            self.weights_digest == held.weights_digest,
            self.tokenizer == held.tokenizer,
            self.kv_dtype == held.kv_dtype,
            self.layout == held.layout,
            self.block_tokens == held.block_tokens,
            self.parallel == held.parallel,
            self.adapter == held.adapter,
            self.engine_layout == held.engine_layout,
            self.parts == held.parts,
        ];
        let pairs = self.fields().into_iter().zip(held.fields());
        equal
            .into_iter()
            .zip(pairs)
            .filter(|(equal, _)| !equal)
            .map(|(_, ((field, offered), (_, held)))| IdentityDifference { field, offered, held })
            .collect()
    }
}
