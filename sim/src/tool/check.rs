//! Is a run decided by its seed alone? Each seed runs in two fresh processes, and their traces must be equal.

use super::{End, again, plans, quoted};
use std::process::{Command, Stdio};

/// Events of a run that did something.
const EVENTS_MIN: usize = 100;
/// Events shown before the first difference.
const CONTEXT: usize = 5;

pub fn run(seeds: u64, names: &[String], base: Option<String>, planted: bool) -> anyhow::Result<End> {
    let plans = plans::all(names)?;
    anyhow::ensure!(!plans.is_empty(), "there are no plans in fault_plans/");
    let base = plans::base(base)?;
    println!("check-determinism: {seeds} seeds over {} plans, twice each, --base {base}", plans.len());
    let (mut different, mut red) = (0, 0);
    // Each base begins with another plan, so that few seeds do not always try the same ones.
    let first = plans::seed(&base, u64::MAX);
    for index in 0..seeds {
        let at = usize::try_from(first.wrapping_add(index) % plans.len() as u64)?;
        let Some(plan) = plans.get(at) else { continue };
        let name = names.get(at).unwrap_or(&plan.name);
        let seed = plans::seed(&base, index);
        let (one, two) = (start(seed, name, planted)?, start(seed, name, planted)?);
        let (one, two) = (one.wait_with_output()?, two.wait_with_output()?);
        let green = one.status.success() && two.status.success();
        let (one, two) = (String::from_utf8_lossy(&one.stdout), String::from_utf8_lossy(&two.stdout));
        if let Some(difference) = difference(&one, &two) {
            different += 1;
            println!("seed {seed}, plan {name}: two processes, two runs\n{difference}");
            println!(
                "    cargo sim check-determinism --seeds {seeds} --plan {} --base {}",
                quoted(name),
                quoted(&base)
            );
        } else if !green || trace(&one).count() < EVENTS_MIN {
            // Two equal crashes prove nothing.
            red += 1;
            println!("seed {seed}, plan {name}: both runs are red, or say nothing\n    {}", again(seed, name));
        } else {
            println!("seed {seed}, plan {name}: {} equal events", trace(&one).count());
        }
    }
    println!("{different} of {seeds} seeds differ, {red} are red");
    Ok(match (different, red) {
        (0, 0) => End::Green,
        (0, _) => End::Crash,
        _ => End::Nondeterminism,
    })
}

fn start(seed: u64, plan: &str, planted: bool) -> anyhow::Result<std::process::Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--trace", "--seed", &seed.to_string(), "--plan", plan]);
    if planted {
        command.arg("--planted-nondeterminism");
    }
    Ok(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
}

/// The lines that must be equal: all but the processor time.
fn trace(output: &str) -> impl Iterator<Item = &str> {
    output.lines().map(|line| line.split("simulated s").next().unwrap_or(line))
}

/// The first difference, with what led to it.
fn difference(one: &str, two: &str) -> Option<String> {
    let (one, two): (Vec<_>, Vec<_>) = (trace(one).collect(), trace(two).collect());
    let longest = one.len().max(two.len());
    let at = (0..longest).find(|at| one.get(*at) != two.get(*at))?;
    let mut text = String::new();
    for line in one.iter().take(at).skip(at.saturating_sub(CONTEXT)) {
        text.push_str(&format!("    = {line}\n"));
    }
    text.push_str(&format!("    1 {}\n    2 {}", one.get(at).unwrap_or(&"(end)"), two.get(at).unwrap_or(&"(end)")));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found_and_processor_time_is_none() {
        assert_eq!(difference("a\n1 simulated s  2", "a\n1 simulated s  3"), None);
        let shown = difference("a\nb\nc", "a\nx\nc").unwrap();
        assert!(shown.contains("= a") && shown.contains("1 b") && shown.contains("2 x"), "{shown}");
        assert!(difference("a", "a\nb").unwrap().contains("1 (end)"));
    }
}
