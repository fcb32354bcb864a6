//! The README's tables say what the program does.

use bettong::config::load::{Sources, load};
use bettong::config::machine::Machine;
use bettong::exit::Exit;

const README: &str = include_str!("../../README.md");

#[test]
fn every_exit_code_is_there() {
    for (exit, meaning) in Exit::ALL {
        let row = format!("| {} | {meaning} |", exit as u8);
        assert!(README.contains(&row), "README.md has no row {row}");
    }
}

#[test]
fn every_configuration_value_is_there_with_its_default() {
    let machine = Machine { memory_bytes: 16 << 30, group_bytes: None, cores: 2 };
    let loaded = load(&Sources::default(), &machine).unwrap();
    for (described, value, _) in &loaded.shown {
        let value = match (described.name, value.as_str()) {
            ("reactors", _) => "one for every two cores".to_owned(),
            ("storage_threads", _) => "one a core, at least 2".to_owned(),
            ("memory_bytes", _) => "a quarter".to_owned(),
            ("payload_bytes_max", value) => format!("`{value}`, at most a quarter of `memory_bytes`'s default"),
            (_, "") => String::new(),
            (_, value) => format!("`{value}`"),
        };
        let row = format!("| `{}` | {value} | {} | {} |", described.name, described.unit, described.meaning);
        assert!(README.contains(&row), "README.md has no row {row}");
    }
}
