//! `bettong config`: every value, its origin and its meaning.

use crate::cli::ConfigArgs;
use crate::config::load::{ENV_PREFIX, Loaded, Sources, load};
use crate::config::machine::Machine;
use crate::exit::{Exit, Failure, Outcome};
use crate::render::table::Table;
use serde_json::json;

/// The configuration that these arguments, their file and the environment give.
pub fn loaded(args: &ConfigArgs) -> Outcome<Loaded> {
    let sources = Sources { file: args.config.as_deref(), environment: environment()?, flags: flags(args)? };
    load(&sources, &Machine::read())
}

/// The environment as text. What is no text is refused where it is ours, and nobody's business where it is not.
fn environment() -> Outcome<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else { continue };
        let text = value
            .to_str()
            .ok_or_else(|| Failure::new(Exit::Usage, format!("environment {name}: its value is not UTF-8")))?;
        variables.push((name.to_owned(), text.to_owned()));
    }
    Ok(variables)
}

/// Flags as (name, value, origin).
fn flags(args: &ConfigArgs) -> Outcome<Vec<(String, String, String)>> {
    let mut flags = Vec::new();
    for pair in &args.set {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(Exit::Usage, format!("flag --set {pair}: write NAME=VALUE")))?;
        flags.push((name.replace('-', "_"), value.to_owned(), format!("flag --set {name}")));
    }
    let named = [
        ("data_dir", "flag --data-dir", &args.data_dir),
        ("store", "flag --store", &args.store),
        ("listen", "flag --listen", &args.listen),
        ("shm_socket", "flag --shm-socket", &args.shm_socket),
        ("node_id", "flag --node-id", &args.node_id),
        ("pack_below", "flag --pack-below", &args.pack_below),
        ("pack_bytes", "flag --pack-bytes", &args.pack_bytes),
        ("prefetch_bytes", "flag --prefetch-bytes", &args.prefetch_bytes),
        ("prefetch_blocks", "flag --prefetch-blocks", &args.prefetch_blocks),
        ("prefetch_ms", "flag --prefetch-ms", &args.prefetch_ms),
    ];
    for (name, flag, value) in named {
        if let Some(value) = value {
            flags.push((name.to_owned(), value.clone(), flag.to_owned()));
        }
    }
    if args.insecure {
        flags.push(("insecure".to_owned(), "true".to_owned(), "flag --insecure".to_owned()));
    }
    Ok(flags)
}

/// Prints the table, or a JSON array of objects.
pub fn run(args: &ConfigArgs, as_json: bool) -> Outcome {
    let loaded = loaded(args)?;
    if as_json {
        let values: Vec<_> = loaded
            .shown
            .iter()
            .map(|(described, value, origin)| {
                json!({ "name": described.name, "value": value, "unit": described.unit, "origin": origin, "meaning": described.meaning })
            })
            .collect();
        crate::render::line(&serde_json::Value::Array(values).to_string())
    } else {
        let mut table = Table::new(&["name", "value", "unit", "origin", "meaning"]);
        for (described, value, origin) in &loaded.shown {
            table.row(&[described.name, value, described.unit, origin, described.meaning]);
        }
        crate::render::line(&table.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn each_flag_of_a_value_sets_that_value() {
        let flags = [
            ("data-dir", "data"),
            ("store", "memory:"),
            ("listen", "127.0.0.1:1"),
            ("node-id", "gpu-7"),
            ("pack-below", "64KiB"),
            ("pack-bytes", "1MiB"),
            ("prefetch-bytes", "1GiB"),
            ("prefetch-blocks", "64"),
            ("prefetch-ms", "3s"),
        ];
        let arguments = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
        let command = ["bettong".to_owned(), "serve".to_owned()].into_iter().chain(arguments);
        let Command::Serve(args) = Cli::parse_from(command).command else { unreachable!() };
        let loaded = loaded(&args).unwrap();
        for (flag, value) in flags {
            let name = flag.replace('-', "_");
            let shown = loaded.shown.iter().find(|(described, _, _)| described.name == name).unwrap();
            assert_eq!((shown.1.as_str(), &shown.2), (value, &format!("flag --{flag}")), "{name}");
        }
    }
}
