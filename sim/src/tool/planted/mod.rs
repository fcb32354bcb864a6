//! The checker checked: deliberate bugs, each a small patch, are applied one at a time to a scratch copy, built, and swept
//! until the oracle that should object does. A bug that is not found, or a patch that no longer applies, fails the run.

mod bug;
mod hunt;
mod table;
mod tree;

use super::{End, plans};
use anyhow::Context;
use bug::{Bug, Expected};
use hunt::Hunt;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tree::Tree;

/// What is asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// Only these bugs.
    pub only: Vec<String>,
    /// The controls and so many others, chosen by the base.
    pub some: Option<usize>,
    /// Seeds a bug, in place of its own budget.
    pub seeds: Option<u64>,
    pub jobs: Option<usize>,
    pub base: Option<String>,
    pub json: bool,
}

/// How it ended for one bug.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// The expected oracle objected, within so many seeds; others had objected in some of them before.
    Found {
        seeds: u64,
        oracle: String,
        plan: String,
        what: String,
    },
    /// A control behaves as it should.
    Held {
        seeds: u64,
    },
    NotFound {
        seeds: u64,
        others: Vec<String>,
    },
    /// A control does not behave as it should.
    Broken {
        what: String,
    },
    DoesNotApply {
        what: String,
    },
    DoesNotBuild {
        what: String,
    },
}

/// One line of the summary.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub bug: String,
    pub what: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    pub build_s: f64,
    pub sweep_s: f64,
}

impl Row {
    pub fn is_good(&self) -> bool {
        matches!(self.outcome, Outcome::Found { .. } | Outcome::Held { .. })
    }
}

pub fn run(options: Options) -> anyhow::Result<End> {
    let top = top();
    let base = plans::base(options.base.clone())?;
    let bugs = select(load_all(&top.join("sim/planted"))?, &options, &base)?;
    for bug in &bugs {
        for plan in &bug.plans {
            plans::find(plan).with_context(|| bug.file.display().to_string())?;
        }
    }
    eprintln!("planted: {} patches, --base {base}", bugs.len());
    let tree = Tree::copy(&top)?;
    let mut rows = Vec::new();
    for (at, bug) in bugs.iter().enumerate() {
        let budget = options.seeds.unwrap_or(bug.budget);
        eprintln!("[{}/{}] {}: {}", at + 1, bugs.len(), bug.name, bug.what);
        let row = one(&tree, bug, budget, &options, &base)?;
        eprintln!("    {}", table::sentence(&row));
        rows.push(row);
    }
    if options.json {
        println!("{}", serde_json::json!({ "base": base, "planted": rows }));
    } else {
        println!("{}", table::all(&rows));
    }
    Ok(if rows.iter().all(Row::is_good) { End::Green } else { End::Planted })
}

/// The top of the tree: the current directory where it is one, else the one that this was built from.
fn top() -> PathBuf {
    let here = PathBuf::from(".");
    let top = if here.join("sim/planted").is_dir() { here } else { Path::new(env!("CARGO_MANIFEST_DIR")).join("..") };
    top.canonicalize().unwrap_or(top)
}

fn load_all(folder: &Path) -> anyhow::Result<Vec<Bug>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        anyhow::ensure!(
            path.extension().is_some_and(|extension| extension == "patch"),
            "{} is not a patch",
            path.display()
        );
        files.push(path);
    }
    files.sort();
    files.iter().map(|file| Bug::load(file)).collect()
}

/// The bugs that are asked for, controls first.
fn select(mut bugs: Vec<Bug>, options: &Options, base: &str) -> anyhow::Result<Vec<Bug>> {
    if let Some(unknown) = options.only.iter().find(|name| !bugs.iter().any(|bug| bug.name == **name)) {
        let names: Vec<&str> = bugs.iter().map(|bug| bug.name.as_str()).collect();
        anyhow::bail!("there is no planted bug `{unknown}`; there are: {}", names.join(", "));
    }
    if !options.only.is_empty() {
        bugs.retain(|bug| options.only.contains(&bug.name));
        return Ok(bugs);
    }
    let (mut chosen, mut others): (Vec<Bug>, Vec<Bug>) = bugs.into_iter().partition(Bug::is_control);
    if let Some(some) = options.some {
        others.sort_by_key(|bug| *blake3::hash(format!("{base} {}", bug.name).as_bytes()).as_bytes());
        others.truncate(some);
    }
    chosen.extend(others);
    anyhow::ensure!(!chosen.is_empty(), "there are no patches in sim/planted/");
    Ok(chosen)
}

fn one(tree: &Tree, bug: &Bug, budget: u64, options: &Options, base: &str) -> anyhow::Result<Row> {
    let mut row = Row {
        bug: bug.name.clone(),
        what: bug.what.clone(),
        outcome: Outcome::Broken { what: String::new() },
        build_s: 0.0,
        sweep_s: 0.0,
    };
    let applied = match tree.apply(bug)? {
        Ok(applied) => applied,
        Err(what) => {
            row.outcome = Outcome::DoesNotApply { what };
            return Ok(row);
        }
    };
    let (built, took) = timed(|| tree.build());
    row.build_s = took.as_secs_f64();
    let searched = match built {
        Ok(Ok(())) => {
            let hunt = Hunt { program: tree.binary(), dir: tree.dir().to_owned(), bug, budget, base };
            let (outcome, took) = timed(|| search(&hunt, options.jobs));
            row.sweep_s = took.as_secs_f64();
            outcome
        }
        Ok(Err(what)) => Ok(Outcome::DoesNotBuild { what }),
        Err(error) => Err(error),
    };
    tree.restore(applied)?;
    row.outcome = searched?;
    Ok(row)
}

fn search(hunt: &Hunt<'_>, jobs: Option<usize>) -> anyhow::Result<Outcome> {
    if hunt.bug.expects_nondeterminism() {
        return hunt.compare();
    }
    let swept = hunt.sweep(jobs)?;
    let (seeds, red) = (swept.reports.len() as u64, swept.red());
    Ok(match &hunt.bug.expected {
        Expected::Objection(_) => match swept.first {
            Some((index, report)) => Outcome::Found {
                seeds: index + 1,
                oracle: hunt::objection(&report.verdict).unwrap_or_default(),
                what: format!("{} (seed {})", report.verdict, report.seed),
                plan: report.plan,
            },
            None => Outcome::NotFound { seeds, others: swept.objections() },
        },
        Expected::Every if red == seeds => Outcome::Held { seeds },
        Expected::Every => Outcome::Broken { what: format!("only {red} of {seeds} runs are red") },
        Expected::Nobody if red == 0 => Outcome::Held { seeds },
        Expected::Nobody => Outcome::Broken {
            what: format!("{red} of {seeds} runs of the tree itself are red: {}", swept.objections().join(", ")),
        },
    })
}

#[expect(clippy::disallowed_methods, reason = "outside any simulation: real time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = std::time::Instant::now();
    let done = work();
    (done, began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_in_the_tree_is_well_formed_and_its_plans_exist() {
        let bugs = load_all(&top().join("sim/planted")).unwrap();
        assert!(bugs.iter().any(|bug| bug.expected == Expected::Every), "no canary");
        assert!(bugs.iter().any(|bug| bug.expected == Expected::Nobody), "no clean tree");
        for plan in bugs.iter().flat_map(|bug| &bug.plans) {
            plans::find(plan).unwrap();
        }
    }

    #[test]
    fn a_few_are_chosen_by_the_base_and_controls_are_always_there() {
        let all = || load_all(&top().join("sim/planted")).unwrap();
        let names = |base: &str| -> Vec<String> {
            let options = Options { some: Some(2), ..Options::default() };
            select(all(), &options, base).unwrap().into_iter().map(|bug| bug.name).collect()
        };
        assert_eq!(names("a"), names("a"));
        assert!((0..20).any(|base| names(&base.to_string()) != names("a")));
        let controls = all().iter().filter(|bug| bug.is_control()).count();
        assert_eq!(names("a").len(), controls + 2);
        let unknown = Options { only: vec!["no-such".to_owned()], ..Options::default() };
        assert!(select(all(), &unknown, "a").unwrap_err().to_string().contains("no-such"));
    }
}
