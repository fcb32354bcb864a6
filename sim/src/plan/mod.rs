//! Fault plans: which faults may strike, where, when.

mod parse;
mod values;

pub use parse::PlanError;
pub use values::Glob;

use crate::faults::FaultKind;
use bettong_core::observe::Point;
use std::ops::Range;
use std::time::Duration;

/// A plan, as its TOML file says it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: String,
    /// How it is found again: its name, or where it was named by its file, that file.
    pub called: String,
    pub workload: Workload,
    /// Store nodes; drawn by the seed where the plan leaves it open.
    pub nodes: Option<u32>,
    /// Whether the object store obeys conditions on writes; where not, the seed draws whether it overlooks or refuses
    /// them.
    pub conditional_writes: bool,
    /// States that a sweep of this plan must have met.
    pub reaches: Vec<String>,
    pub faults: Vec<FaultSpec>,
}

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Everything at once, redrawn for each seed.
    Swarm,
    /// Prompts are saved (blocks, sidecar, head) and restored by name.
    ChainSaveRestore,
    /// Several nodes put, evict, delete and read the same few keys, with different bytes and lengths.
    FewKeys,
    /// A second daemon starts under the first one's node id.
    TwoDaemons,
    /// Nodes are filled, killed and started again, with and without their index.
    Bootstrap,
    /// Everything at once, mostly at level `journal`.
    Journal,
    /// Batches of small blocks are put, deleted and read from the bucket again, always with packing.
    Packs,
    /// Everything at once, while an operator scrubs, prefetches and retires nodes.
    Upkeep,
    /// Nodes with budgets that do not hold everything, and values that expire.
    Eviction,
    /// Clients of one host share memory with their daemon: they read in place, hold, and die.
    SharedMemory,
    /// SlateDB and foyer alone, without the store: is the world itself deterministic?
    Engines,
}

impl Workload {
    pub const ALL: [(&'static str, Self); 11] = [
        ("swarm", Self::Swarm),
        ("chain-save-restore", Self::ChainSaveRestore),
        ("few-keys", Self::FewKeys),
        ("two-daemons", Self::TwoDaemons),
        ("bootstrap", Self::Bootstrap),
        ("journal", Self::Journal),
        ("packs", Self::Packs),
        ("upkeep", Self::Upkeep),
        ("eviction", Self::Eviction),
        ("shared-memory", Self::SharedMemory),
        ("engines", Self::Engines),
    ];
}

/// One fault of a plan.
#[derive(Debug, Clone)]
pub struct FaultSpec {
    pub kind: FaultKind,
    pub trigger: Trigger,
    /// Only on this node; on any where absent.
    pub node: Option<String>,
    /// Only for this operation.
    pub operation: Option<Operation>,
    /// Only for objects or files whose path matches.
    pub path: Option<Glob>,
    /// Whether a failing write happened nevertheless.
    pub effect: Effect,
    /// How long it delays, or how late it lands.
    pub delay: Option<Range<Duration>>,
    /// How long it lasts.
    pub lasts: Option<Range<Duration>>,
    /// How long a killed node stays down.
    pub restart_after: Option<Restart>,
    /// What a killed node comes back with.
    pub configuration: Configuration,
    /// Strikes at most; unbounded for a probability, once otherwise.
    pub count: u64,
}

/// When a killed node comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restart {
    After(Range<Duration>),
    /// Never, unless it is the last one standing.
    Never,
}

/// The settings of a killed node's next lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Configuration {
    /// Those that it had.
    Same,
    /// Drawn anew, as by an operator or another release: sizes, limits, compression, packing, budgets, with a disk cache
    /// or without.
    Redrawn,
}

impl Configuration {
    pub const ALL: [(&'static str, Self); 2] = [("same", Self::Same), ("redrawn", Self::Redrawn)];
}

#[derive(Debug, Clone)]
pub enum Trigger {
    /// A named step of the protocol is reached for the n-th time, from 1; where `steps` is there, so many steps after.
    Point { point: Point, nth: u64, steps: Option<Range<u64>> },
    /// So many steps into a life of a node. A step is a turn of one of its tasks, or one side of an operation of its
    /// disk: everywhere that a death may cut in between.
    Step(Range<u64>),
    /// The n-th matching operation, from 1.
    Nth(u64),
    /// The first opportunity after this much virtual time, counted again from each strike.
    Time(Range<Duration>),
    /// Each opportunity, with this probability.
    Probability(f64),
}

/// An operation of a seam that a fault can single out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Put,
    Get,
    Head,
    List,
    Delete,
    Copy,
    Create,
    Append,
    Read,
    Sync,
    Rename,
    Remove,
    SyncDir,
}

impl Operation {
    pub const ALL: [(&'static str, Self); 13] = [
        ("put", Self::Put),
        ("get", Self::Get),
        ("head", Self::Head),
        ("list", Self::List),
        ("delete", Self::Delete),
        ("copy", Self::Copy),
        ("create", Self::Create),
        ("append", Self::Append),
        ("read", Self::Read),
        ("sync", Self::Sync),
        ("rename", Self::Rename),
        ("remove", Self::Remove),
        ("sync-dir", Self::SyncDir),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, operation)| *operation == self).map_or("?", |(name, _)| name)
    }
}

/// What became of a write whose caller hears an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// It happened.
    Applied,
    /// It happens later, perhaps after its retry and after other operations.
    Late,
}

impl Effect {
    pub const ALL: [(&'static str, Self); 3] = [("none", Self::None), ("applied", Self::Applied), ("late", Self::Late)];
}

impl Plan {
    /// Whether any fault goes by steps.
    pub fn counts_steps(&self) -> bool {
        let by_steps = |trigger: &Trigger| matches!(trigger, Trigger::Step(_) | Trigger::Point { steps: Some(_), .. });
        self.faults.iter().any(|fault| by_steps(&fault.trigger))
    }

    /// A plan without faults.
    pub fn calm(workload: Workload) -> Self {
        Self {
            name: "calm".to_owned(),
            called: "calm".to_owned(),
            workload,
            nodes: None,
            conditional_writes: true,
            reaches: Vec::new(),
            faults: Vec::new(),
        }
    }
}
