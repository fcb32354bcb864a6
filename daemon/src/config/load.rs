//! Puts the layers together and keeps each value's origin.

use super::machine::Machine;
use super::{Config, Described, FileValues, VALUES};
use crate::exit::{Exit, Failure, Outcome};
use figment::providers::Serialized;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Prefix of the environment variables that are read.
pub const ENV_PREFIX: &str = "BETTONG_";

/// Largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Names of layers, as `bettong config` shows them.
const DEFAULT: &str = "default";

/// A configuration, and where each value comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// One (value, origin) for each of `VALUES`, in order; secrets are masked.
    pub shown: Vec<(Described, String, String)>,
}

/// What stands above the defaults.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    pub file: Option<&'a Path>,
    /// Every variable of the environment; names without `BETTONG_` are passed over.
    pub environment: Vec<(String, String)>,
    /// (name, value, the flag as the user wrote it).
    pub flags: Vec<(String, String, String)>,
}

/// Whether Kubernetes sets it for a Service that is called `bettong`: none of ours, and no value is called so.
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn is_service_link(name: &str) -> bool {
    name == "SERVICE_HOST" || name == "PORT" || ["SERVICE_PORT", "PORT_"].iter().any(|begin| name.starts_with(begin))
}

/// Loads and checks a configuration. An unknown name or a wrong value is an error that says where it stands.
pub fn load(sources: &Sources<'_>, machine: &Machine) -> Outcome<Loaded> {
    let wrong = |message: String| Failure::new(Exit::Usage, message);
    let mut figment = Figment::from(Serialized::defaults(Config::defaults(machine)));
    if let Some(path) = sources.file {
        for layer in file_layers(path).map_err(wrong)? {
            figment = figment.merge(layer);
        }
    }
    for (variable, value) in &sources.environment {
        let Some(name) = variable.strip_prefix(ENV_PREFIX).filter(|name| !is_service_link(name)) else { continue };
        figment =
            figment.merge(one(&name.to_ascii_lowercase(), value, format!("environment {variable}")).map_err(wrong)?);
    }
    for (name, value, flag) in &sources.flags {
        figment = figment.merge(one(name, value, flag.clone()).map_err(wrong)?);
    }
    let config: Config = figment.extract().map_err(|error| wrong(first_line(&figment, error)))?;
    let shown = VALUES.iter().map(|described| shown(&figment, *described)).collect();
    let loaded = Loaded { config, shown };
    super::check::check(&loaded.config, machine).map_err(|failure| loaded.located(failure))?;
    Ok(loaded)
}

impl Loaded {
    /// The failure with the place of every value that its message names, unless it is the default.
    pub fn located(&self, failure: Failure) -> Failure {
        let named = |name: &str| failure.message.split(|c: char| c != '_' && !c.is_alphanumeric()).any(|w| w == name);
        let is_set = |origin: &str| origin != DEFAULT;
        let places: Vec<String> = (self.shown.iter())
            .filter(|(described, _, origin)| is_set(origin) && named(described.name))
            .map(|(described, _, origin)| format!("{} is from {origin}", described.name))
            .collect();
        match places.is_empty() {
            true => failure,
            false => Failure { message: format!("{} ({})", failure.message, places.join(", ")), ..failure },
        }
    }
}

/// Values with the one origin that they all share.
struct Layer {
    origin: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

fn one(name: &str, value: &str, origin: String) -> Result<Layer, String> {
    if !VALUES.iter().any(|described| described.name == name) {
        return Err(format!("{origin}: there is no configuration value `{name}`; `bettong config` lists them"));
    }
    // Kept as text: a name of digits stays a name, and every type reads its own text.
    Ok(Layer { origin, values: Dict::from([(name.to_owned(), Value::from(value))]) })
}

/// Reads and checks a file by itself first, because only the TOML parser knows lines.
fn file_layers(path: &Path) -> Result<Vec<Layer>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    let read = read.map_err(|error| format!("{shown}: {error}"))?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(format!("{shown}: over the limit of {FILE_BYTES_MAX} bytes for a configuration file"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        format!("{shown}:{line}: the file is not UTF-8")
    })?;
    let line = |at: usize| text.get(..at).map_or(1, |head| head.matches('\n').count() + 1);
    toml::from_str::<FileValues>(text).map_err(|error| {
        let line = line(error.span().map_or(0, |span| span.start));
        format!("{shown}:{line}: {}", error.message())
    })?;
    let values = toml::from_str::<BTreeMap<String, toml::Spanned<Value>>>(text)
        .map_err(|error| format!("{shown}: {}", error.message()))?;
    // A layer for each value: a layer has one origin.
    let layer = |(name, value): (String, toml::Spanned<Value>)| {
        let origin = format!("file {shown}:{}", line(value.span().start));
        Layer { origin, values: Dict::from([(name, value.into_inner())]) }
    };
    Ok(values.into_iter().map(layer).collect())
}

fn first_line(figment: &Figment, error: figment::Error) -> String {
    let key = error.path.join(".");
    let origin = figment.find_metadata(&key).map_or_else(String::new, |metadata| format!("{}: ", metadata.name));
    format!("{origin}{key}: {}", error.kind)
}

fn shown(figment: &Figment, described: Described) -> (Described, String, String) {
    let value =
        figment.extract_inner::<super::scalar::Text>(described.name).map_or_else(|_| String::new(), |text| text.0);
    let value = if described.secret && !value.is_empty() { "***".to_owned() } else { value };
    let origin = figment.find_metadata(described.name).map_or(DEFAULT, |metadata| &metadata.name);
    let origin = if origin.starts_with("bettong::config") { DEFAULT } else { origin };
    (described, value, origin.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalar::{Bytes, Millis};

    fn machine() -> Machine {
        Machine { memory_bytes: 16 << 30, group_bytes: None, cores: 2 }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn flag(name: &str, value: &str) -> (String, String, String) {
        (name.to_owned(), value.to_owned(), format!("flag --{name}"))
    }

    fn origin<'a>(loaded: &'a Loaded, name: &str) -> (&'a str, &'a str) {
        let (_, value, origin) = loaded.shown.iter().find(|(described, _, _)| described.name == name).unwrap();
        (value, origin)
    }

    #[test]
    fn a_stronger_layer_wins_and_the_origin_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bettong.toml");
        std::fs::write(&path, "disk_bytes = \"1GiB\"\ndrain_ms = 5\nconnections_max = 7\n").unwrap();
        let sources = Sources {
            file: Some(&path),
            environment: vec![
                pair("PATH", "/bin"),
                pair("BETTONG_DRAIN_MS", "6 s"),
                pair("BETTONG_NODE_ID", "007"),
                // Of a Kubernetes Service.
                pair("BETTONG_SERVICE_HOST", "10.0.0.1"),
                pair("BETTONG_SERVICE_PORT_TCP", "7450"),
                pair("BETTONG_PORT_7450_TCP_ADDR", "10.0.0.1"),
            ],
            flags: vec![flag("disk_bytes", "2GiB")],
        };
        let loaded = load(&sources, &machine()).unwrap();
        assert_eq!(loaded.config.disk_bytes, Bytes(2 << 30));
        assert_eq!(loaded.config.drain_ms, Millis(6_000));
        assert_eq!(loaded.config.node_id.0, "007");
        assert_eq!(origin(&loaded, "disk_bytes"), ("2GiB", "flag --disk_bytes"));
        assert_eq!(origin(&loaded, "drain_ms"), ("6 s", "environment BETTONG_DRAIN_MS"));
        assert_eq!(origin(&loaded, "connections_max"), ("7", format!("file {}:3", path.display()).as_str()));
        assert_eq!(origin(&loaded, "listen"), ("127.0.0.1:7450", "default"));
    }

    #[test]
    fn what_is_unknown_or_wrong_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bettong.toml");
        for (text, line, word) in [
            ("drain_ms = 5\n\ndisc_bytes = 1\n", 3, "disc_bytes"),
            ("drain_ms = 5\ndisk_bytes = \"much\"\n", 2, "much"),
            ("drain_ms = [5]\n", 1, "one value"),
            ("drain_ms = = 5\n", 1, ""),
            ("drain_ms = 1\ndrain_ms = 2\n", 2, "duplicate"),
        ] {
            std::fs::write(&path, text).unwrap();
            let failure = load(&Sources { file: Some(&path), ..Sources::default() }, &machine()).unwrap_err();
            let message = failure.to_string();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(message.starts_with(&format!("{}:{line}: ", path.display())), "{message}");
            assert!(message.contains(word), "{message}");
        }
        std::fs::write(&path, "drain_ms = 5\n\nreactors = 0\n").unwrap();
        let failure = load(&Sources { file: Some(&path), ..Sources::default() }, &machine()).unwrap_err();
        let place = format!("reactors is 0, it must be from 1 to 1024 (reactors is from file {}:3)", path.display());
        assert_eq!(failure.to_string(), place);
        std::fs::write(&path, b"drain_ms = 5\nlog = \"\xff\"\n").unwrap();
        let failure = load(&Sources { file: Some(&path), ..Sources::default() }, &machine()).unwrap_err();
        assert_eq!(failure.to_string(), format!("{}:2: the file is not UTF-8", path.display()));
        let from =
            |environment, flags| load(&Sources { file: None, environment, flags }, &machine()).unwrap_err().to_string();
        let message = from(vec![pair("BETTONG_DATADIR", "x")], vec![]);
        assert!(
            message.starts_with("environment BETTONG_DATADIR: there is no configuration value `datadir`"),
            "{message}"
        );
        let message = from(vec![], vec![flag("connections_max", "-4")]);
        assert!(message.starts_with("flag --connections_max: connections_max: `-4` is no whole number"), "{message}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let sources = Sources { flags: vec![flag("s3_secret_access_key", "hidden")], ..Sources::default() };
        let loaded = load(&sources, &machine()).unwrap();
        assert_eq!(loaded.config.s3_secret_access_key.0, "hidden");
        assert_eq!(origin(&loaded, "s3_secret_access_key").0, "***");
    }
}
