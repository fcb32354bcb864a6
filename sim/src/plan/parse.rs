//! Reads plans from TOML. Unknown keys, kinds, points and nodes, and values out of range are errors that name the line.

use super::values::{self, Glob};
use super::{Configuration, Effect, FaultSpec, Operation, Plan, Restart, Trigger, Workload};
use crate::faults::FaultKind;
use crate::workload::ShmState;
use bettong_core::observe::{Point, State};
use serde::Deserialize;
use std::path::Path;
use toml::Spanned;

/// Most store nodes of a run.
pub const NODES_MAX: u32 = 4;
/// Most faults of one plan.
const FAULTS_MAX: usize = 64;
/// Largest plan, in bytes.
const PLAN_BYTES_MAX: usize = 64 << 10;

/// What is wrong with a plan, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct PlanError {
    pub file: String,
    pub line: usize,
    pub what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    plan: Head,
    #[serde(default)]
    fault: Vec<Spanned<Fault>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: Spanned<String>,
    workload: Spanned<String>,
    nodes: Option<Spanned<u32>>,
    conditional_writes: Option<bool>,
    #[serde(default)]
    reaches: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    kind: Spanned<String>,
    node: Option<Spanned<String>>,
    at: Option<Spanned<At>>,
    probability: Option<Spanned<f64>>,
    operation: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    effect: Option<Spanned<String>>,
    delay: Option<Spanned<String>>,
    lasts: Option<Spanned<String>>,
    restart_after: Option<Spanned<String>>,
    configuration: Option<Spanned<String>>,
    count: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    point: Option<String>,
    nth: Option<u64>,
    time: Option<String>,
    steps: Option<String>,
}

/// Where a complaint belongs, and the complaint.
type Located = (usize, String);

impl Plan {
    /// Reads the plan file at `path`.
    pub fn load(path: &Path) -> Result<Self, PlanError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| PlanError {
            file: file.clone(),
            line: 0,
            what: error.to_string(),
        })?;
        Self::parse(&file, &text)
    }

    /// Reads a plan from `text`; `file` is the name that errors carry.
    pub fn parse(file: &str, text: &str) -> Result<Self, PlanError> {
        let locate = |(offset, what): Located| {
            let before = text.as_bytes().iter().take(offset);
            PlanError { file: file.to_owned(), line: 1 + before.filter(|byte| **byte == b'\n').count(), what }
        };
        if text.len() > PLAN_BYTES_MAX {
            return Err(locate((0, format!("a plan of {} bytes is over the limit of {PLAN_BYTES_MAX}", text.len()))));
        }
        let raw: File = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            locate((offset, error.message().to_owned()))
        })?;
        build(raw).map_err(locate)
    }
}

fn build(raw: File) -> Result<Plan, Located> {
    let name = raw.plan.name;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.get_ref().is_empty() || name.get_ref().len() > 64 || !name.get_ref().chars().all(plain) {
        return Err((name.span().start, "a plan's name is 1 to 64 characters of a-z, 0-9 and -".to_owned()));
    }
    let workload = one_of("workload", &raw.plan.workload, &Workload::ALL)?;
    let nodes = raw.plan.nodes.map(|nodes| {
        let count = *nodes.get_ref();
        let valid = (1..=NODES_MAX).contains(&count);
        valid
            .then_some(count)
            .ok_or_else(|| (nodes.span().start, format!("nodes is {count}, it must be 1 to {NODES_MAX}")))
    });
    let nodes = nodes.transpose()?;
    if let Some(extra) = raw.fault.get(FAULTS_MAX) {
        return Err((extra.span().start, format!("a plan holds at most {FAULTS_MAX} faults")));
    }
    let faults = raw.fault.iter().map(fault).collect::<Result<_, _>>()?;
    let reaches = raw.plan.reaches.iter().map(state).collect::<Result<_, _>>()?;
    let conditional_writes = raw.plan.conditional_writes.unwrap_or(true);
    let name = name.into_inner();
    Ok(Plan { called: name.clone(), name, workload, nodes, conditional_writes, reaches, faults })
}

fn state(name: &Spanned<String>) -> Result<String, Located> {
    let of_shm = ShmState::ALL.iter().map(|state| state.as_str());
    let mut known = State::ALL.iter().map(|state| state.as_str()).chain(of_shm);
    let known = known.any(|known| known == name.get_ref());
    known
        .then(|| name.get_ref().clone())
        .ok_or_else(|| (name.span().start, format!("unknown state `{}`", name.get_ref())))
}

fn fault(spanned: &Spanned<Fault>) -> Result<FaultSpec, Located> {
    let (start, raw) = (spanned.span().start, spanned.get_ref());
    let kind = FaultKind::parse(raw.kind.get_ref()).ok_or_else(|| {
        let known: Vec<_> = FaultKind::ALL.iter().map(|kind| kind.as_str()).collect();
        (raw.kind.span().start, format!("unknown kind `{}`; known are {}", raw.kind.get_ref(), known.join(", ")))
    })?;
    let trigger = trigger(start, raw)?;
    if matches!(trigger, Trigger::Point { .. } | Trigger::Step(_)) && !kind.strikes_at_points() {
        return Err((start, format!("{} does not strike at steps: it has no `point` and no `steps`", kind.as_str())));
    }
    let range = |text: &Option<Spanned<String>>| {
        let parse = |text: &Spanned<String>| values::range(text.get_ref()).map_err(|what| (text.span().start, what));
        text.as_ref().map(parse).transpose()
    };
    let kills = kind == FaultKind::KillNode;
    for (key, value, taken) in [
        ("restart_after", &raw.restart_after, kills),
        ("configuration", &raw.configuration, kills),
        ("delay", &raw.delay, kind.takes_delay()),
        ("lasts", &raw.lasts, kind.lasts()),
    ] {
        if let (Some(value), false) = (value, taken) {
            return Err((value.span().start, format!("{} has no `{key}`", kind.as_str())));
        }
    }
    let configuration = raw.configuration.as_ref();
    let configuration = configuration.map(|name| one_of("configuration", name, &Configuration::ALL)).transpose()?;
    let restart_after = match &raw.restart_after {
        Some(never) if never.get_ref() == "never" => Some(Restart::Never),
        after => range(after)?.map(Restart::After),
    };
    let effect = raw.effect.as_ref().map(|effect| one_of("effect", effect, &Effect::ALL)).transpose()?;
    if let (Some(effect), false) = (&raw.effect, kind.takes_effect()) {
        return Err((effect.span().start, format!("{} has no `effect`", kind.as_str())));
    }
    if let Some(node) = &raw.node {
        node_name(node)?;
    }
    let count = match (&raw.count, &trigger) {
        (Some(count), _) if *count.get_ref() == 0 => {
            return Err((count.span().start, "count is 0, it must be at least 1".to_owned()));
        }
        (Some(count), _) => *count.get_ref(),
        (None, Trigger::Probability(_)) => u64::MAX,
        (None, _) => 1,
    };
    Ok(FaultSpec {
        kind,
        trigger,
        node: raw.node.as_ref().map(|node| node.get_ref().clone()),
        operation: raw.operation.as_ref().map(|name| one_of("operation", name, &Operation::ALL)).transpose()?,
        path: raw.path.as_ref().map(|pattern| Glob::new(pattern.get_ref())),
        effect: effect.unwrap_or(Effect::None),
        delay: range(&raw.delay)?,
        lasts: range(&raw.lasts)?,
        restart_after,
        configuration: configuration.unwrap_or(Configuration::Same),
        count,
    })
}

fn trigger(start: usize, raw: &Fault) -> Result<Trigger, Located> {
    match (&raw.at, &raw.probability) {
        (None, Some(probability)) => {
            let value = *probability.get_ref();
            let valid = value > 0.0 && value <= 1.0;
            valid.then_some(Trigger::Probability(value)).ok_or_else(|| {
                (probability.span().start, format!("probability is {value}, it must be over 0 and at most 1"))
            })
        }
        (Some(at), None) => {
            let here = at.span().start;
            let nth = at.get_ref().nth;
            if nth == Some(0) {
                return Err((here, "nth counts from 1".to_owned()));
            }
            let At { point, time, steps, .. } = at.get_ref();
            let steps = steps.as_deref().map(values::count).transpose().map_err(|what| (here, what))?;
            match (point, time, steps) {
                (Some(name), None, steps) => {
                    let point = Point::parse(name).ok_or_else(|| {
                        let known: Vec<_> = Point::ALL.iter().map(|point| point.as_str()).collect();
                        (here, format!("unknown point `{name}`; known are {}", known.join(", ")))
                    })?;
                    Ok(Trigger::Point { point, nth: nth.unwrap_or(1), steps })
                }
                (None, Some(time), None) if nth.is_none() => {
                    values::range(time).map(Trigger::Time).map_err(|what| (here, what))
                }
                (None, None, Some(steps)) if nth.is_none() => Ok(Trigger::Step(steps)),
                (None, None, None) if nth.is_some() => Ok(Trigger::Nth(nth.unwrap_or(1))),
                _ => Err((
                    here,
                    "`at` holds `point` (with `nth` and `steps`), or `nth`, or `steps`, or `time`".to_owned(),
                )),
            }
        }
        _ => Err((start, "a fault has either `at` or `probability`".to_owned())),
    }
}

fn node_name(node: &Spanned<String>) -> Result<(), Located> {
    let known = (0..NODES_MAX).any(|index| *node.get_ref() == format!("store-{index}"));
    known.then_some(()).ok_or_else(|| {
        (node.span().start, format!("unknown node `{}`; nodes are store-0 to store-{}", node.get_ref(), NODES_MAX - 1))
    })
}

fn one_of<T: Copy>(what: &str, name: &Spanned<String>, known: &[(&'static str, T)]) -> Result<T, Located> {
    known.iter().find(|(known, _)| known == name.get_ref()).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        (name.span().start, format!("unknown {what} `{}`; known are {}", name.get_ref(), known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[plan]\nname = \"p\"\nworkload = \"swarm\"\n";

    #[test]
    fn every_mistake_names_its_line() {
        for (fault, line, part) in [
            ("[[fault]]\nkind = \"kill-nod\"\nprobability = 0.1", 5, "unknown kind `kill-nod`"),
            ("[[fault]]\nkind = \"kill-node\"\nprobabilty = 0.1", 6, "unknown field"),
            ("[[fault]]\nkind = \"kill-node\"\nprobability = 1.5", 6, "probability is 1.5"),
            ("[[fault]]\nkind = \"kill-node\"\nat = { point = \"before-breakfast\" }", 6, "unknown point"),
            ("[[fault]]\nkind = \"kill-node\"\nat = { point = \"before-head-put\", nth = 0 }", 6, "nth counts from 1"),
            ("[[fault]]\nkind = \"kill-node\"\nnode = \"store-9\"\nprobability = 0.1", 6, "unknown node `store-9`"),
            ("[[fault]]\nkind = \"object-throttle\"\nat = { point = \"before-head-put\" }", 4, "has no `point`"),
            ("[[fault]]\nkind = \"journal-rot\"\nat = { steps = \"1..9\" }", 4, "no `steps`"),
            ("[[fault]]\nkind = \"kill-node\"\nat = { steps = \"9..1\" }", 6, "ends before it starts"),
            ("[[fault]]\nkind = \"kill-node\"\nat = { steps = \"1..9\", time = \"1s\" }", 6, "`at` holds"),
            ("[[fault]]\nkind = \"object-throttle\"\neffect = \"late\"\nprobability = 0.1", 6, "has no `effect`"),
            ("[[fault]]\nkind = \"kill-node\"\nat = { time = \"9s..1s\" }", 6, "ends before it starts"),
            ("[[fault]]\nkind = \"kill-node\"\nrestart_after = \"no\"\nprobability = 0.1", 6, "is no duration"),
            (
                "[[fault]]\nkind = \"net-cut\"\nrestart_after = \"never\"\nprobability = 0.1",
                6,
                "has no `restart_after`",
            ),
            (
                "[[fault]]\nkind = \"kill-node\"\nconfiguration = \"new\"\nprobability = 0.1",
                6,
                "unknown configuration `new`",
            ),
            ("[[fault]]\nkind = \"net-cut\"\nconfiguration = \"same\"\nprobability = 0.1", 6, "has no `configuration`"),
            ("[[fault]]\nkind = \"net-reset\"\ndelay = \"1s\"\nprobability = 0.1", 6, "has no `delay`"),
            ("[[fault]]\nkind = \"net-delay\"\nlasts = \"1s\"\nprobability = 0.1", 6, "has no `lasts`"),
            ("[[fault]]\nkind = \"net-trickle\"\nat = { steps = \"1..9\" }", 4, "no `steps`"),
            ("[[fault]]\nkind = \"kill-node\"", 4, "either `at` or `probability`"),
            ("[[fault]]\nkind = \"kill-node\"\nprobability = 0.1\ncount = 0", 7, "count is 0"),
            ("[[fault]]\nkind = 3", 5, "invalid type"),
            ("[[fault]\n", 4, ""),
        ] {
            let error = Plan::parse("f.toml", &format!("{HEAD}{fault}")).unwrap_err();
            assert!(error.line == line && error.what.contains(part), "{fault}: {error}");
        }
        let unknown = Plan::parse("f.toml", "[plan]\nname = \"p\"\nworkload = \"w\"\n").unwrap_err();
        assert_eq!((unknown.line, unknown.file.as_str()), (3, "f.toml"));
        assert!(Plan::parse("f.toml", "[plan]\nname = \"p\"\nworkload = \"swarm\"\nnodes = 9\n").is_err());
        let nowhere = "[plan]\nname = \"p\"\nworkload = \"swarm\"\nreaches = [\"evicted\", \"heaven\"]\n";
        let nowhere = Plan::parse("f.toml", nowhere).unwrap_err();
        assert!(nowhere.line == 4 && nowhere.what.contains("unknown state `heaven`"), "{nowhere}");
    }

    #[test]
    fn every_shipped_plan_is_valid_and_says_which_promise_it_attacks() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fault_plans");
        let mut struck = std::collections::BTreeSet::new();
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let plan = Plan::load(&path).unwrap();
            assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(plan.name.as_str()));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# ") && text.contains("romise"), "{}", path.display());
            struck.extend(plan.faults.iter().map(|fault| fault.kind));
        }
        let never: Vec<_> = FaultKind::ALL.iter().filter(|kind| !struck.contains(kind)).collect();
        assert!(never.is_empty(), "no plan strikes with {never:?}");
    }
}
