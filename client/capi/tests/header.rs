//! That the header is what cbindgen makes of the sources.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// What has something for the header, in the header's order.
const SOURCES: [&str; 5] = ["abi.rs", "error.rs", "session.rs", "blocks.rs", "sidecars.rs"];

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name)
}

fn generated() -> String {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("cbindgen.toml");
    let mut builder = cbindgen::Builder::new().with_config(cbindgen::Config::from_file(config).unwrap());
    for name in SOURCES {
        builder = builder.with_src(source(name));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_header_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/bettong.h");
    let generated = generated();
    if env::var_os("BETTONG_WRITE_HEADER").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = generated.lines().zip(committed.lines()).position(|(new, old)| new != old);
    assert!(
        generated == committed,
        "{} is stale, from line {} on: BETTONG_WRITE_HEADER=1 cargo test -p bettong-capi --test header",
        path.display(),
        differs.unwrap_or_else(|| generated.lines().count().min(committed.lines().count())) + 1,
    );
}

#[test]
fn every_exported_function_is_in_the_header() {
    let header = generated();
    let mut exported = 0;
    for entry in fs::read_dir(source("")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for (_, after) in text.match_indices("extern \"C\" fn ").map(|(at, found)| (at, &text[at + found.len()..])) {
            let name = &after[..after.find('(').unwrap()];
            assert!(header.contains(&format!(" {name}(")) || header.contains(&format!("*{name}(")), "{name}");
            exported += 1;
        }
    }
    assert!(exported >= 16, "only {exported} functions were found");
}
