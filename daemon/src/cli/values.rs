//! Arguments of the commands about values.

use crate::config::scalar::Millis;
use bettong_wire::request::Level;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const PUT_EXAMPLES: &str = "\
Examples:
  bettong put greeting hello.txt
  tar c notes | bettong put notes.tar - --ttl 12h
  bettong put --level journal log report.txt
";

pub(super) const GET_EXAMPLES: &str = "\
Examples:
  bettong get greeting > copy.txt
  bettong get notes.tar | tar x
";

pub(super) const EXISTS_EXAMPLES: &str = "\
Examples:
  bettong exists greeting && echo there     ends with 3 where it is not
  bettong exists greeting --json
";

pub(super) const RM_EXAMPLES: &str = "\
Examples:
  bettong rm greeting
";

pub(super) const STATS_EXAMPLES: &str = "\
Examples:
  bettong stats                             every counter, and what the requests since the start cost
  bettong stats --json | jq .hits
";

pub(super) const LS_EXAMPLES: &str = "\
Examples:
  bettong ls                              every plain key, with its length and expiry
  bettong ls reports/                     those that start with it
  bettong ls --kind blocks --namespace llama --json
";

pub(super) const LOOKUP_EXAMPLES: &str = "\
Examples:
  bettong lookup --namespace llama --identity model.json HASH HASH
where model.json is such a file as
  {\"model\": \"llama-3-8b\", \"kv_dtype\": \"bf16\", \"layout\": \"NHD\", \"block_tokens\": 16, \"parts\": [0]}
A namespace holds the blocks of one model: the first that opens it with an identity decides.
";

#[derive(Args, Debug)]
pub struct PutArgs {
    /// The key: UTF-8, 1 to 1,024 bytes.
    pub key: String,
    /// The file to store; `-` reads standard input.
    pub file: PathBuf,
    /// When the put is acknowledged.
    #[arg(long, value_enum, default_value_t)]
    pub level: PutLevel,
    /// The value expires after this, e.g. 90s or 1h.
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<Millis>,
}

/// When a put is acknowledged.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PutLevel {
    /// The bytes are in the memory tier.
    Memory,
    /// The local journal holds the bytes and is synced; they are uploaded in the background.
    Journal,
    /// The object store confirmed the bytes and the index entry is durable.
    #[default]
    Object,
}

impl From<PutLevel> for Level {
    fn from(level: PutLevel) -> Self {
        match level {
            PutLevel::Memory => Self::Memory,
            PutLevel::Journal => Self::Journal,
            PutLevel::Object => Self::Object,
        }
    }
}

#[derive(Args, Debug)]
pub struct LsArgs {
    /// Only plain keys that start with this.
    #[arg(default_value = "")]
    pub prefix: String,
    /// What to list.
    #[arg(long, value_enum, default_value_t)]
    pub kind: LsKind,
    /// A JSON file with the model identity, to be sure that the blocks are this model's.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// What `ls` walks over.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LsKind {
    #[default]
    Keys,
    Blocks,
    Sidecars,
}

#[derive(Args, Debug)]
pub struct LookupArgs {
    /// The chain's block hashes in order, 64 hexadecimal digits each.
    #[arg(required = true)]
    pub hashes: Vec<String>,
    /// A JSON file with the model identity.
    #[arg(long, value_name = "FILE")]
    pub identity: PathBuf,
}
