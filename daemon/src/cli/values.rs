//! Arguments of the commands about values.

use crate::config::scalar::Millis;
use bettong_wire::request::Level;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct PutArgs {
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
    /// A JSON file with the model identity; blocks and sidecars need it.
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
