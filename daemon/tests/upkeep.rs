//! Upkeep by the real binary: a scrub finds and removes an orphan; a node that is retired is refused when it returns.

mod rig;

use bettong::demo::child::{Daemon, Setup};
use bettong::exit::Exit;
use bettong_core::objects::names::{Names, PayloadName};
use bettong_core::seal::{SealMeta, seal};
use bettong_wire::envelope::{Algorithm, Kind};
use bettong_wire::{Part, PutId};
use rig::setup;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn bettong(arguments: &[&str]) -> (i32, String, String) {
    let output = rig::run(Path::new(rig::PROGRAM), arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(arguments: &[&str]) -> Value {
    let (code, out, err) = bettong(arguments);
    assert_eq!(code, Exit::Ok as i32, "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

fn files(under: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(under).into_iter().flatten().flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}

/// An object of the daemon's own life that no index entry names.
fn place_orphan(objects: &Path) -> PathBuf {
    let names = Names::new("");
    let held = files(&objects.join("ns")).into_iter().find_map(|file| {
        let path = file.strip_prefix(objects).unwrap().to_str().unwrap().to_owned();
        names.parse_payload(&object_store::path::Path::from(path))
    });
    let held = held.expect("the value's object");
    let put_id = PutId { life: held.put_id.life, counter: 999 };
    let name = PayloadName { kind: Kind::Block, hash: [7; 32], part: Part(0), put_id, ..held };
    let meta = SealMeta {
        kind: name.kind,
        namespace: name.namespace,
        hash: name.hash,
        part: name.part,
        plain_key: String::new(),
        sequence: 0,
        put_id,
        parent: None,
        created_at_ms: 1,
        expires_at_ms: 0,
    };
    let sealed = seal(&meta, &vec![1; 1000].into(), Algorithm::None);
    let file = objects.join(names.payload(&name).as_ref());
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, sealed.parts().map(|part| part.to_vec()).concat()).unwrap();
    file
}

#[test]
fn a_scrub_says_what_it_would_do_and_then_does_it() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&setup(dir.path(), &["scrub_grace_ms=0"])).unwrap();
    let value = dir.path().join("value");
    std::fs::write(&value, "kept").unwrap();
    let connect = daemon.connect.as_str();
    assert_eq!(bettong(&["put", "key", value.to_str().unwrap(), "--connect", connect]).0, 0);
    let orphan = place_orphan(&dir.path().join("objects"));
    let said = json(&["scrub", "--dry-run", "--json", "--connect", connect]);
    assert_eq!((&said["counts"]["orphans"], &said["counts"]["orphans_removed"]), (&1.into(), &Value::Null), "{said}");
    assert!(orphan.exists());
    let (code, table, _) = bettong(&["scrub", "--connect", connect]);
    assert_eq!(code, 0);
    assert!(table.contains("orphans removed"), "{table}");
    assert!(!orphan.exists());
    assert_eq!(bettong(&["get", "key", "--connect", connect]).1, "kept");
    let said = json(&["prefetch", "--dry-run", "--json", "--connect", connect]);
    assert_eq!(said["task"], "prefetch");
    daemon.stop().unwrap();
}

#[test]
fn a_dead_node_is_retired_and_refused_when_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("file://{}", dir.path().join("objects").display());
    let node = |id: &str| {
        let id_value = format!("node_id={id}");
        Setup { store: store.clone(), ..setup(&dir.path().join(id), &[&id_value, "peer_refresh_ms=200"]) }
    };
    let (a, b) = (Daemon::start(&node("a")).unwrap(), Daemon::start(&node("b")).unwrap());
    let value = dir.path().join("value");
    std::fs::write(&value, "of a").unwrap();
    assert_eq!(bettong(&["put", "key", value.to_str().unwrap(), "--connect", &a.connect]).0, 0);
    a.kill().unwrap();
    let connect = b.connect.as_str();
    assert_eq!(bettong(&["get", "key", "--connect", connect]).0, Exit::Miss as i32);
    let survey = json(&["node", "retire", "a", "--dry-run", "--json", "--connect", connect]);
    assert_eq!(survey["counts"]["would_take_over"], 1, "{survey}");
    let done = json(&["node", "retire", "a", "--json", "--connect", connect]);
    assert_eq!(done["counts"]["nodes_taken_over"], 1, "{done}");
    assert_eq!(bettong(&["get", "key", "--connect", connect]).1, "of a");

    let data = dir.path().join("a").join("data").display().to_string();
    let returns = ["serve", "--data-dir", &data, "--store", &store, "--listen", "127.0.0.1:0", "--node-id", "a"];
    let (code, said) = rig::refused(Path::new(rig::PROGRAM), &returns);
    assert_eq!(code, Exit::Fenced as i32, "{said}");
    assert!(said.contains("node `a` was retired by node `b`"), "{said}");
    let nodes = json(&["node", "ls", "--json", "--store", &store]);
    let retired = nodes.as_array().unwrap().iter().find(|node| node["node"] == "a").unwrap();
    assert_eq!(retired["retired_by"], "b", "{nodes}");
    b.stop().unwrap();
}

#[test]
fn a_scrub_that_leaves_damage_says_so_with_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(dir.path(), &[]);
    let daemon = Daemon::start(&setup).unwrap();
    let value = dir.path().join("value");
    std::fs::write(&value, "kept").unwrap();
    assert_eq!(bettong(&["put", "key", value.to_str().unwrap(), "--connect", &daemon.connect]).0, 0);
    daemon.stop().unwrap();
    // No other copy is left to heal it from.
    std::fs::remove_dir_all(dir.path().join("data/cache")).unwrap();
    let object = files(&dir.path().join("objects/ns")).into_iter().find(|file| file.to_str().unwrap().contains("/kv/"));
    let object = object.expect("the value's object");
    let mut bytes = std::fs::read(&object).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let daemon = Daemon::start(&setup).unwrap();
    for arguments in [&["scrub", "--dry-run"], &["scrub", "--json"], &["scrub", "--dry-run"]] {
        let (code, out, said) = bettong(&[arguments.as_slice(), &["--connect", &daemon.connect]].concat());
        assert_eq!(code, Exit::CheckFailed as i32, "{arguments:?}: {out} {said}");
        assert!(!out.is_empty() && said.contains("1 values are damaged and not healed"), "{said}");
    }
    daemon.stop().unwrap();
}

#[test]
fn a_node_that_does_not_exist_is_not_retired_and_those_that_do_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&setup(dir.path(), &["node_id=gpu-7"])).unwrap();
    for dry_run in [&[][..], &["--dry-run"]] {
        let retire = ["node", "retire", "gpu-8", "--connect", &daemon.connect];
        let (code, _, said) = bettong(&[&retire, dry_run].concat());
        assert_eq!(code, Exit::Usage as i32, "{said}");
        assert!(said.contains("there is no node `gpu-8` under this prefix; there are: gpu-7"), "{said}");
    }
    daemon.stop().unwrap();
}
