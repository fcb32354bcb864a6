//! Names in the object store. Flat, one per write; a name is written once and never used again.

use crate::index::rows::ValueKey;
use crate::life::Life;
use bettong_wire::envelope::Kind;
use bettong_wire::{NamespaceId, Part, PutId};
use object_store::path::Path;

/// Names under one prefix.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
}

/// What the name of a payload object says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadName {
    pub namespace: NamespaceId,
    pub kind: Kind,
    pub hash: [u8; 32],
    pub part: Part,
    pub put_id: PutId,
}

impl PayloadName {
    /// The key of the value whose object it is.
    pub fn value_key(&self) -> ValueKey {
        let Self { namespace, kind, hash, part, .. } = *self;
        ValueKey { kind, namespace, hash, part }
    }
}

impl Names {
    pub fn new(prefix: &str) -> Self {
        let prefix = Path::from(prefix);
        Self { prefix: if prefix.as_ref().is_empty() { String::new() } else { format!("{prefix}/") } }
    }

    fn path(&self, rest: &str) -> Path {
        Path::from(format!("{}{rest}", self.prefix))
    }

    /// Minimum reader and writer versions.
    pub fn format(&self) -> Path {
        self.path("format")
    }

    /// Everything of all namespaces.
    pub fn namespaces(&self) -> Path {
        self.path("ns")
    }

    pub fn namespace(&self, namespace: NamespaceId) -> Path {
        self.path(&format!("ns/{namespace}"))
    }

    pub fn identity(&self, namespace: NamespaceId) -> Path {
        self.path(&format!("ns/{namespace}/identity"))
    }

    /// The object of one write of one payload.
    pub fn payload(&self, name: &PayloadName) -> Path {
        let PayloadName { namespace, kind, hash, part, put_id } = name;
        let hex = blake3::Hash::from_bytes(*hash).to_hex();
        let fan = &hex.as_str()[..2];
        self.path(&match kind {
            Kind::Block => format!("ns/{namespace}/block/{fan}/{hex}.{}.{put_id}", part.0),
            Kind::Sidecar => format!("ns/{namespace}/sidecar/{fan}/{hex}.{put_id}"),
            Kind::Plain => format!("ns/{namespace}/kv/{fan}/{hex}.{put_id}"),
        })
    }

    /// The name before all those of a value's objects, whatever their put ids, and what these begin with.
    pub fn versions(&self, key: &ValueKey) -> (Path, String) {
        let ValueKey { kind, namespace, hash, part } = *key;
        let name = self.payload(&PayloadName { namespace, kind, hash, part, put_id: PutId { life: 0, counter: 0 } });
        let stem = name.as_ref().rsplit_once('.').map_or(name.as_ref(), |(stem, _)| stem);
        (Path::from(stem), format!("{stem}."))
    }

    /// The packs of a namespace.
    pub fn packs(&self, namespace: NamespaceId) -> Path {
        self.path(&format!("ns/{namespace}/pack"))
    }

    /// Reads a payload object's name; `None` for every other name.
    pub fn parse_payload(&self, path: &Path) -> Option<PayloadName> {
        let rest = path.as_ref().strip_prefix(self.prefix.as_str())?.strip_prefix("ns/")?;
        let mut segments = rest.split('/');
        let namespace = NamespaceId::from_hex(segments.next()?)?;
        let kind = match segments.next()? {
            "block" => Kind::Block,
            "sidecar" => Kind::Sidecar,
            "kv" => Kind::Plain,
            _ => return None,
        };
        let (fan, file) = (segments.next()?, segments.next()?);
        if segments.next().is_some() || !file.starts_with(fan) {
            return None;
        }
        let mut fields = file.split('.');
        let hash = *blake3::Hash::from_hex(fields.next()?).ok()?.as_bytes();
        let part = if kind == Kind::Block { fields.next()?.parse().ok()? } else { 0 };
        let put_id = PutId::parse(fields.next()?)?;
        let name = PayloadName { namespace, kind, hash, part: Part(part), put_id };
        // One name for one thing: a spelling that this release would not write is not read either.
        (fields.next().is_none() && self.payload(&name) == *path).then_some(name)
    }

    /// Several small values of one namespace in one object.
    pub fn pack(&self, namespace: NamespaceId, pack: PutId) -> Path {
        self.path(&format!("ns/{namespace}/pack/{pack}"))
    }

    /// Reads a pack's name; `None` for every other name.
    pub fn parse_pack(&self, path: &Path) -> Option<(NamespaceId, PutId)> {
        let rest = path.as_ref().strip_prefix(self.prefix.as_str())?.strip_prefix("ns/")?;
        let (namespace, file) = rest.split_once("/pack/")?;
        let (namespace, pack) = (NamespaceId::from_hex(namespace)?, PutId::parse(file)?);
        (self.pack(namespace, pack) == *path).then_some((namespace, pack))
    }

    pub fn heads(&self, namespace: NamespaceId, name: &str) -> Path {
        self.path(&format!("ns/{namespace}/head/{}", blake3::hash(name.as_bytes()).to_hex()))
    }

    pub fn head(&self, namespace: NamespaceId, name: &str, generation: u64) -> Path {
        self.heads(namespace, name).join(format!("{generation:020}"))
    }

    pub fn nodes(&self) -> Path {
        self.path("node")
    }

    pub fn lives(&self, node_id: &str) -> Path {
        self.path(&format!("node/{node_id}/life"))
    }

    pub fn life(&self, node_id: &str, ordinal: u64) -> Path {
        self.lives(node_id).join(format!("{ordinal:020}"))
    }

    /// The life's name where nothing keeps two lives from taking one ordinal: nobody else writes it.
    pub fn own_life(&self, node_id: &str, life: Life) -> Path {
        self.lives(node_id).join(of_life(life))
    }

    /// Identities of a namespace where nothing keeps two opens from writing one name.
    pub fn identities(&self, namespace: NamespaceId) -> Path {
        self.path(&format!("ns/{namespace}/identities"))
    }

    /// The identity that one life found or chose for a namespace. The newest life's counts.
    pub fn identity_of_life(&self, namespace: NamespaceId, life: Life) -> Path {
        self.identities(namespace).join(of_life(life))
    }

    /// Who wants this prefix for itself.
    pub fn claims(&self) -> Path {
        self.path("owner/claim")
    }

    /// Claims that count no more, by the same names.
    pub fn withdrawn(&self) -> Path {
        self.path("owner/withdrawn")
    }

    /// Whose this prefix is, once that is decided, by the name of the claim.
    pub fn owners(&self) -> Path {
        self.path("owner/held")
    }

    pub fn dead_marks(&self, node_id: &str) -> Path {
        self.path(&format!("node/{node_id}/dead"))
    }

    pub fn dead_mark(&self, node_id: &str, put_id: PutId) -> Path {
        self.dead_marks(node_id).join(put_id.to_string())
    }

    /// Says who retired the node; there once somebody did.
    pub fn retired(&self, node_id: &str) -> Path {
        self.path(&format!("node/{node_id}/retired"))
    }

    /// All retirements, in the order in which they were decided.
    pub fn retirements(&self) -> Path {
        self.path("retirement")
    }

    pub fn retirement(&self, number: u64) -> Path {
        self.retirements().join(format!("{number:020}"))
    }

    pub fn heirs(&self, node_id: &str) -> Path {
        self.path(&format!("node/{node_id}/heir"))
    }

    /// Says that `node_id` answers for what the retired node `of` had.
    pub fn heir(&self, node_id: &str, of: &str) -> Path {
        self.heirs(node_id).join(of)
    }

    pub fn index(&self, node_id: &str) -> Path {
        self.path(&format!("node/{node_id}/index"))
    }

    /// Where SlateDB keeps an index's manifests: without one there is no index, whatever else lies there.
    pub fn index_manifests(&self, node_id: &str) -> Path {
        self.index(node_id).join("manifest")
    }

    pub fn probes(&self) -> Path {
        self.path("probe")
    }

    /// Written and removed to learn what the store can do; never read by anybody else.
    pub fn probe(&self, node_id: &str, number: u64) -> Path {
        self.probes().join(format!("{node_id}.{number:016x}"))
    }

    pub fn is_probe_of(&self, path: &Path, node_id: &str) -> bool {
        let of = path.filename().and_then(|name| name.split_once('.')).map(|(of, _)| of);
        of == Some(node_id) && path.prefix_matches(&self.probes())
    }

    /// What the generations of one head have in common; `None` for every other name.
    pub fn head_folder<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let rest = path.as_ref().strip_prefix(self.prefix.as_str())?.strip_prefix("ns/")?;
        let mut segments = rest.split('/');
        let (_, kind, _, _) = (segments.next()?, segments.next()?, segments.next()?, segments.next()?);
        let is_head = kind == "head" && segments.next().is_none();
        is_head.then(|| path.as_ref().rsplit_once('/').map(|(folder, _)| folder)).flatten()
    }
}

/// The number that the last segment of `path` spells with 20 digits.
pub fn last_number(path: &Path) -> Option<u64> {
    let digits = path.filename()?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

fn of_life(life: Life) -> String {
    format!("{:020}.{:016x}", life.ordinal, life.life)
}

/// The ordinal in the name of a life's record, in either of its forms.
pub fn life_ordinal(path: &Path) -> Option<u64> {
    let name = path.filename()?;
    let (digits, life) = name.split_once('.').unwrap_or((name, "0000000000000000"));
    let valid = life.len() == 16 && life.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    let valid = valid && digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_name_is_read_as_it_is_written() {
        for prefix in ["", "a/b"] {
            let names = Names::new(prefix);
            for kind in [Kind::Block, Kind::Sidecar, Kind::Plain] {
                let part = Part(if kind == Kind::Block { 7 } else { 0 });
                let put_id = PutId { life: u64::MAX, counter: 1 };
                let name = PayloadName { namespace: NamespaceId([3; 32]), kind, hash: [0xab; 32], part, put_id };
                let path = names.payload(&name);
                assert_eq!(names.parse_payload(&path), Some(name), "{path}");
                assert_eq!(Names::new("other").parse_payload(&path), None);
                assert!(path.filename().is_some_and(|file| file.len() < 255));
            }
        }
    }

    #[test]
    fn a_packs_name_is_read_as_it_is_written() {
        for prefix in ["", "a/b"] {
            let names = Names::new(prefix);
            let (namespace, pack) = (NamespaceId([0xab; 32]), PutId { life: u64::MAX, counter: 1 });
            let path = names.pack(namespace, pack);
            assert_eq!(names.parse_pack(&path), Some((namespace, pack)), "{path}");
            assert_eq!(names.parse_payload(&path), None);
            assert_eq!(Names::new("other").parse_pack(&path), None);
            assert_eq!(names.parse_pack(&path.clone().join("x")), None);
            assert_eq!(names.parse_pack(&Path::from(path.as_ref().to_uppercase())), None);
        }
    }

    #[test]
    fn a_life_is_read_in_both_forms_and_sorted_by_ordinal() {
        let names = Names::new("p");
        let own = names.own_life("n", Life { ordinal: 7, life: 0xab });
        assert_eq!((life_ordinal(&own), life_ordinal(&names.life("n", 7))), (Some(7), Some(7)));
        assert!(names.life("n", 7) < own && own < names.life("n", 8));
        for name in
            ["7", "00000000000000000007.", "00000000000000000007.xyz", "0000000000000000000x", ".0000000000000000"]
        {
            assert_eq!(life_ordinal(&names.lives("n").join(name)), None, "{name}");
        }
    }

    #[test]
    fn foreign_spellings_are_not_names() {
        let names = Names::new("");
        let hex = "ab".repeat(32);
        let ns = "03".repeat(32);
        for file in [
            format!("{hex}.07.ffffffffffffffff-0000000000000001"),
            format!("{hex}.7.FFFFFFFFFFFFFFFF-0000000000000001"),
            format!("{hex}.7.ffffffffffffffff-0000000000000001.tmp"),
            format!("{hex}.70000.ffffffffffffffff-0000000000000001"),
            hex.clone(),
        ] {
            assert_eq!(names.parse_payload(&Path::from(format!("ns/{ns}/block/ab/{file}"))), None, "{file}");
        }
    }
}
