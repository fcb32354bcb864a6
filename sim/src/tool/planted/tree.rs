//! A scratch copy of the tree in which patches are applied and the simulator is built.

use super::bug::Bug;
use anyhow::Context;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where the copy is, below the top of the tree.
const PLACE: &str = "target/planted/tree";
/// The simulator's build folder and binary, in the copy as in the tree itself.
const BUILD: &str = "target/sim/dst";
const BINARY: &str = "bettong-sim";
/// What of a build folder is worth taking over: not the incremental state, which belongs to the members.
const BUILT: [&str; 3] = ["deps", "build", ".fingerprint"];
/// What would win over the flags that `cargo sim` sets.
const OVERRIDES: [&str; 5] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTDOCFLAGS"];

/// The copy. Patches never reach the tree that it was made of.
pub struct Tree {
    dir: PathBuf,
}

/// A patch that is in the copy until `restore`.
pub struct Applied {
    /// What the touched files held; `None` for those that were not there.
    saved: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Tree {
    /// Makes the copy equal to the tree at `top`: everything that git knows or would add, as it is now. Files that are
    /// equal already keep their times, so that little is built again.
    pub fn copy(top: &Path) -> anyhow::Result<Self> {
        let dir = top.join(PLACE);
        let mut files = names(top)?;
        // The copy lies inside the tree, whose configuration cargo finds by itself; it would join a second one to it.
        files.retain(|name| !name.starts_with(".cargo"));
        for name in &files {
            let bytes = std::fs::read(top.join(name)).with_context(|| name.display().to_string())?;
            write_if_other(&dir.join(name), &bytes)?;
        }
        for stale in files_below(&dir, Path::new(""))?.into_iter().filter(|name| !files.contains(name)) {
            std::fs::remove_file(dir.join(stale))?;
        }
        take_over_build(&top.join(BUILD), &dir.join(BUILD))?;
        Ok(Self { dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn binary(&self) -> PathBuf {
        self.dir.join(BUILD).join(BINARY)
    }

    /// Applies a patch, whole or not at all; the inner error says why it does not apply.
    pub fn apply(&self, bug: &Bug) -> anyhow::Result<Result<Applied, String>> {
        let read = |name: &PathBuf| (name.clone(), std::fs::read(self.dir.join(name)).ok());
        let saved = bug.touched.iter().map(read).collect();
        if bug.touched.is_empty() {
            return Ok(Ok(Applied { saved }));
        }
        let file = bug.file.canonicalize().with_context(|| bug.file.display().to_string())?;
        let output = Command::new("git")
            // One line around a change must match: what is near may move on, what is changed may not.
            .args(["apply", "--whitespace=nowarn", "-C1"])
            .arg(file)
            .current_dir(&self.dir)
            // Inside a repository `git apply` would skip, without a word, whatever lies outside the current folder.
            .env("GIT_CEILING_DIRECTORIES", self.dir.parent().unwrap_or(&self.dir))
            .output()
            .context("git apply")?;
        match output.status.success() {
            true => Ok(Ok(Applied { saved })),
            false => Ok(Err(last_lines(&output))),
        }
    }

    /// Takes a patch out again.
    pub fn restore(&self, applied: Applied) -> anyhow::Result<()> {
        for (name, bytes) in applied.saved {
            let path = self.dir.join(&name);
            match bytes {
                Some(bytes) => std::fs::write(&path, bytes).with_context(|| path.display().to_string())?,
                None => std::fs::remove_file(&path).with_context(|| path.display().to_string())?,
            }
        }
        Ok(())
    }

    /// Builds the copy's simulator as `cargo sim` does; the inner error is what the compiler says.
    pub fn build(&self) -> anyhow::Result<Result<(), String>> {
        let mut command = Command::new("cargo");
        for name in OVERRIDES {
            command.env_remove(name);
        }
        // Each patch is compiled once and runs for seconds: what optimizing the members costs is not won back. Their
        // dependencies, which were built before, stay as they are.
        command.env("CARGO_PROFILE_DST_OPT_LEVEL", "0").env("CARGO_PROFILE_DST_DEBUG", "none");
        // A worker without jobs ends at once: what stays is the build.
        let output = command.args(["sim", "worker"]).current_dir(&self.dir).stdin(Stdio::null()).output();
        let output = output.context("cargo sim")?;
        Ok(if output.status.success() { Ok(()) } else { Err(last_lines(&output)) })
    }
}

fn last_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

/// The files that git tracks or would add, as far as they are there.
fn names(top: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(top)
        .output()
        .context("git ls-files")?;
    anyhow::ensure!(listed.status.success(), "git ls-files in {}: {}", top.display(), last_lines(&listed));
    let text = String::from_utf8(listed.stdout).context("a file name that is not UTF-8")?;
    Ok(text.split_terminator('\0').map(PathBuf::from).filter(|name| top.join(name).is_file()).collect())
}

/// Every file below `dir`, but for build folders; none where there is no such folder yet.
fn files_below(dir: &Path, below: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir.join(below)).into_iter().flatten() {
        let entry = entry?;
        let name = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true if name == Path::new("target") => {}
            true => files.extend(files_below(dir, &name)?),
            false => files.push(name),
        }
    }
    Ok(files)
}

fn write_if_other(to: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if std::fs::read(to).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(to, bytes).with_context(|| to.display().to_string())
}

/// Copies what was built of the dependencies, where the copy has no build folder yet. Times are kept, for they are how
/// cargo tells that nothing has changed; the members are built anew, because their paths are others.
fn take_over_build(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        return Ok(());
    }
    // Under another name until it is whole.
    let coming = to.with_extension("coming");
    if coming.exists() {
        std::fs::remove_dir_all(&coming)?;
    }
    for part in BUILT {
        copy_folder(&from.join(part), &coming.join(part))?;
    }
    std::fs::rename(&coming, to).with_context(|| to.display().to_string())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).into_iter().flatten() {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let of_members = name.to_str().is_some_and(|name| name.trim_start_matches("lib").starts_with("bettong"));
        if kind.is_dir() && !of_members {
            copy_folder(&entry.path(), &to.join(name))?;
        } else if kind.is_file() && !of_members {
            std::fs::copy(entry.path(), to.join(&name))?;
            std::fs::File::options().append(true).open(to.join(&name))?.set_modified(entry.metadata()?.modified()?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(top: &Path, arguments: &[&str]) {
        assert!(Command::new("git").args(arguments).current_dir(top).output().unwrap().status.success());
    }

    #[test]
    fn a_copy_follows_its_tree_and_a_patch_leaves_no_trace() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path();
        git(top, &["init", "--quiet"]);
        std::fs::write(top.join(".gitignore"), "/target\n").unwrap();
        for name in ["one", "two"] {
            std::fs::write(top.join(name), "a\n").unwrap();
        }
        Tree::copy(top).unwrap();
        std::fs::write(top.join("one"), "b\n").unwrap();
        std::fs::remove_file(top.join("two")).unwrap();
        let tree = Tree::copy(top).unwrap();
        let read = |name: &str| std::fs::read_to_string(tree.dir().join(name)).ok();
        assert_eq!((read("one").as_deref(), read("two")), (Some("b\n"), None));

        let patch = |old: &str| {
            let head = "# name: bug\n# what: x\n# oracle: O1\n# plans: swarm\n# budget: 1\n";
            let diff = format!(
                "--- a/one\n+++ b/one\n@@ -1 +1 @@\n-{old}\n+c\n--- /dev/null\n+++ b/three\n@@ -0,0 +1 @@\n+d\n"
            );
            std::fs::write(top.join("bug.patch"), format!("{head}{diff}")).unwrap();
            Bug::load(&top.join("bug.patch")).unwrap()
        };
        let applied = tree.apply(&patch("b")).unwrap().unwrap();
        assert_eq!((read("one").as_deref(), read("three").as_deref()), (Some("c\n"), Some("d\n")));
        tree.restore(applied).unwrap();
        assert_eq!((read("one").as_deref(), read("three")), (Some("b\n"), None));
        assert!(tree.apply(&patch("other")).unwrap().is_err_and(|why| why.contains("one")));
        assert_eq!(read("one").as_deref(), Some("b\n"));
    }
}
