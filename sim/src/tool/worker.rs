//! The other end of a sweep: one run after the other, each on a fresh thread.

use super::{End, plans};
use crate::plan::Plan;
use crate::run::{Options, Report, execute};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};

/// Reads lines of `SEED PLAN` until the end of standard input; answers each with one line of JSON.
pub fn serve() -> anyhow::Result<End> {
    let mut known: BTreeMap<String, Plan> = BTreeMap::new();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (seed, name) = line.split_once(' ').ok_or_else(|| anyhow::anyhow!("a job is `SEED PLAN`, not `{line}`"))?;
        let seed = seed.parse()?;
        let plan = match known.get(name) {
            Some(plan) => plan.clone(),
            None => {
                let plan = plans::find(name)?;
                known.insert(name.to_owned(), plan.clone());
                plan
            }
        };
        let (report, _): (Report, _) = execute(seed, &plan, Options::default());
        serde_json::to_writer(&mut output, &report)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(End::Green)
}
