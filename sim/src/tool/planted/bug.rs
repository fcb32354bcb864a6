//! One planted bug: a patch under a header of `# key: value` lines. Unknown or missing keys and values out of range are
//! errors that name file and line.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Largest patch, in bytes: a planted bug is small.
const PATCH_BYTES_MAX: usize = 64 << 10;
/// Most seeds that one bug may take.
const BUDGET_MAX: u64 = 100_000;

/// What is wrong with a patch, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct BugError {
    pub file: String,
    pub line: usize,
    pub what: String,
}

/// Who must object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// One of these, within the budget: names of oracles, `crash` or `nondeterminism`. `O8` is liveness.
    Objection(BTreeSet<String>),
    /// A control: every run of the budget is red, whoever says so.
    Every,
    /// A control: no run of the budget is red.
    Nobody,
}

/// A deliberate bug.
#[derive(Debug, Clone)]
pub struct Bug {
    /// Also the name of its file.
    pub name: String,
    pub what: String,
    pub expected: Expected,
    pub plans: Vec<String>,
    /// Seeds within which it must be found.
    pub budget: u64,
    pub file: PathBuf,
    /// The files that the patch changes, below the top of the tree.
    pub touched: Vec<PathBuf>,
}

impl Bug {
    /// Controls judge the checker itself, so every selection contains them.
    pub fn is_control(&self) -> bool {
        !matches!(self.expected, Expected::Objection(_))
    }

    pub fn expects_nondeterminism(&self) -> bool {
        matches!(&self.expected, Expected::Objection(names) if names.contains(NONDETERMINISM))
    }

    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let error = |what: String| BugError { file: file.display().to_string(), line: 1, what };
        let text = std::fs::read_to_string(file).map_err(|cause| error(cause.to_string()))?;
        Ok(Self::parse(file, &text)?)
    }

    pub fn parse(file: &Path, text: &str) -> Result<Self, BugError> {
        let error = |line: usize, what: String| BugError { file: file.display().to_string(), line, what };
        if text.len() > PATCH_BYTES_MAX {
            return Err(error(1, format!("{} bytes, the limit is {PATCH_BYTES_MAX}", text.len())));
        }
        let mut header = Header::default();
        let mut lines = text.lines().zip(1..).peekable();
        let mut end = 1;
        while let Some((line, at)) = lines.next_if(|(line, _)| line.starts_with('#')) {
            header.line(line, at).map_err(|what| error(at, what))?;
            end = at;
        }
        let missing = |key: &str| error(end, format!("the header has no `# {key}: ...`"));
        let (name, at) = header.name.ok_or_else(|| missing("name"))?;
        if file.file_stem().and_then(|stem| stem.to_str()) != Some(name.as_str()) {
            return Err(error(at, format!("it is named `{name}` in a file of another name")));
        }
        let what = header.what.ok_or_else(|| missing("what"))?.0;
        let expected = header.expected.ok_or_else(|| missing("oracle"))?.0;
        let plans = header.plans.ok_or_else(|| missing("plans"))?.0;
        let budget = header.budget.ok_or_else(|| missing("budget"))?.0;
        let mut touched = BTreeSet::new();
        for (line, at) in lines {
            if let Some(path) = line.strip_prefix("+++ ").or_else(|| line.strip_prefix("--- ")) {
                touched.extend(changed_file(path).map_err(|what| error(at, what))?);
            }
        }
        if touched.is_empty() != (expected == Expected::Nobody) {
            let what = "a patch changes at least one file; only the one that expects nobody to object changes none";
            return Err(error(end + 1, what.to_owned()));
        }
        let touched = touched.into_iter().collect();
        Ok(Self { name, what, expected, plans, budget, file: file.to_owned(), touched })
    }
}

pub const NONDETERMINISM: &str = "nondeterminism";
const OTHER_OBJECTIONS: [&str; 3] = ["crash", "identity", NONDETERMINISM];

/// The values of the header, each with its line.
#[derive(Default)]
struct Header {
    name: Option<(String, usize)>,
    what: Option<(String, usize)>,
    expected: Option<(Expected, usize)>,
    plans: Option<(Vec<String>, usize)>,
    budget: Option<(u64, usize)>,
}

impl Header {
    fn line(&mut self, line: &str, at: usize) -> Result<(), String> {
        let form = || format!("`{line}` is not of the form `# key: value`");
        let (key, value) = line.strip_prefix("# ").and_then(|line| line.split_once(": ")).ok_or_else(form)?;
        let value = value.trim();
        if value.is_empty() {
            return Err(format!("`{key}` is empty"));
        }
        match key {
            "name" => once(&mut self.name, key, value.to_owned(), at),
            "what" => once(&mut self.what, key, value.to_owned(), at),
            "oracle" => once(&mut self.expected, key, expected(value)?, at),
            "plans" => once(&mut self.plans, key, value.split(' ').map(str::to_owned).collect(), at),
            "budget" => {
                let seeds = value.parse().ok().filter(|seeds| (1..=BUDGET_MAX).contains(seeds));
                let seeds =
                    seeds.ok_or_else(|| format!("`budget` is `{value}`, it must be 1 to {BUDGET_MAX} seeds"))?;
                once(&mut self.budget, key, seeds, at)
            }
            _ => Err(format!("unknown key `{key}`; there are: name, what, oracle, plans, budget")),
        }
    }
}

fn once<T>(slot: &mut Option<(T, usize)>, key: &str, value: T, at: usize) -> Result<(), String> {
    match slot.replace((value, at)) {
        Some((_, first)) => Err(format!("`{key}` is there twice, first in line {first}")),
        None => Ok(()),
    }
}

fn expected(value: &str) -> Result<Expected, String> {
    match value {
        "every run" => return Ok(Expected::Every),
        "none" => return Ok(Expected::Nobody),
        _ => {}
    }
    let is_oracle = |name: &str| name.strip_prefix('O').is_some_and(|number| number.parse::<u8>().is_ok());
    let names: BTreeSet<String> = value.split(' ').map(str::to_owned).collect();
    match names.iter().find(|name| !is_oracle(name) && !OTHER_OBJECTIONS.contains(&name.as_str())) {
        Some(other) => Err(format!(
            "`oracle` is `{other}`; there are: O1 to O15, crash, identity, nondeterminism, `every run`, `none`"
        )),
        None => Ok(Expected::Objection(names)),
    }
}

/// The file that a `---` or `+++` line names, where it is not `/dev/null`.
fn changed_file(path: &str) -> Result<Option<PathBuf>, String> {
    if path == "/dev/null" {
        return Ok(None);
    }
    let below = path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).map(PathBuf::from);
    let inside = |path: &PathBuf| path.components().all(|part| matches!(part, Component::Normal(_)));
    below.filter(inside).map(Some).ok_or_else(|| format!("`{path}` is not a path below the top of the tree"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# name: bug
# what: nothing is checked
# oracle: O1 crash
# plans: swarm few-keys
# budget: 20
--- a/core/x.rs
+++ b/core/x.rs
@@ -1 +1 @@
-a
+b
";

    fn parse(text: &str) -> Result<Bug, BugError> {
        Bug::parse(Path::new("sim/planted/bug.patch"), text)
    }

    #[test]
    fn a_patch_is_read() {
        let bug = parse(GOOD).unwrap();
        assert_eq!((bug.name.as_str(), bug.budget, bug.plans.len()), ("bug", 20, 2));
        assert_eq!(bug.touched, [PathBuf::from("core/x.rs")]);
        assert!(!bug.is_control() && !bug.expects_nondeterminism());
        let clean = "# name: bug\n# what: clean\n# oracle: none\n# plans: swarm\n# budget: 2\n";
        assert!(parse(clean).unwrap().is_control());
    }

    #[test]
    fn an_error_names_file_and_line() {
        for (from, to, line, what) in [
            ("# budget: 20\n", "", 4, "no `# budget"),
            ("20", "0", 5, "1 to 100000"),
            ("O1 crash", "O1 crush", 3, "`crush`"),
            ("# oracle: O1 crash", "# orakel: O1", 3, "unknown key `orakel`"),
            ("# plans: ", "# plans ", 4, "key: value"),
            ("# name: bug", "# name: bugs", 1, "another name"),
            ("# what: nothing", "# name: x", 2, "twice, first in line 1"),
            ("+++ b/core/x.rs", "+++ b/../x.rs", 7, "below the top"),
            ("--- a/core/x.rs\n+++ b/core/x.rs\n", "", 6, "at least one file"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.what.contains(what), "{error}");
            assert_eq!((error.line, error.file.as_str()), (line, "sim/planted/bug.patch"), "{error}");
        }
    }
}
