//! Finds plans by name or by file, and derives seeds.

use crate::plan::Plan;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// The folder of plans: in the current directory, or beside this crate.
fn folder() -> PathBuf {
    let here = PathBuf::from("fault_plans");
    if here.is_dir() { here } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("../fault_plans") }
}

/// The plan of this name, or in this file.
pub fn find(name: &str) -> anyhow::Result<Plan> {
    let file = if name.contains('/') || name.ends_with(".toml") {
        PathBuf::from(name)
    } else {
        folder().join(format!("{name}.toml"))
    };
    Ok(Plan { called: name.to_owned(), ..Plan::load(&file)? })
}

/// The named plans; all of them where none is named. Sorted by name.
pub fn all(names: &[String]) -> anyhow::Result<Vec<Plan>> {
    if !names.is_empty() {
        return names.iter().map(|name| find(name)).collect();
    }
    let folder = folder();
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    files.iter().map(|file| Ok(Plan::load(file)?)).collect()
}

/// Where a sweep's seeds come from: the given text, or fresh random bits. Answers the text to print.
pub fn base(given: Option<String>) -> anyhow::Result<String> {
    if let Some(given) = given {
        return Ok(given);
    }
    let mut bytes = [0; 6];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The `index`-th seed of a base. Short enough to be read aloud.
pub fn seed(base: &str, index: u64) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("bettong sim sweep seeds v1");
    hasher.update(base.as_bytes());
    hasher.update(&index.to_le_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes) >> 24
}
