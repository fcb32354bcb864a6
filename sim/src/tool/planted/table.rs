//! What became of the planted bugs, as text.

use super::{Outcome, Row};
use std::fmt::Write;

/// One line for one bug.
pub fn sentence(row: &Row) -> String {
    match &row.outcome {
        Outcome::Found { seeds, what, .. } => format!("found in {seeds} seeds: {what}"),
        Outcome::Held { seeds } => format!("as it should be in {seeds} seeds"),
        Outcome::NotFound { seeds, others } if others.is_empty() => format!("NOT FOUND in {seeds} seeds"),
        Outcome::NotFound { seeds, others } => format!("NOT FOUND in {seeds} seeds; only {}", others.join(", ")),
        Outcome::Broken { what } => format!("CONTROL BROKEN: {what}"),
        Outcome::DoesNotApply { what } => format!("DOES NOT APPLY any more: {what}"),
        Outcome::DoesNotBuild { what } => format!("DOES NOT BUILD: {what}"),
    }
}

/// All of them.
pub fn all(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.bug.len()).max().unwrap_or(0).max(3);
    let plans = rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Found { plan, .. } => Some(plan.len()),
        _ => None,
    });
    let plan_width = plans.max().unwrap_or(0).max(4);
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{:width$}  {:>6}  {:14}  {:plan_width$}  {:>8}  {:>8}  result",
        "bug", "seeds", "oracle", "plan", "build s", "sweep s"
    );
    for row in rows {
        let (seeds, oracle, plan, result) = match &row.outcome {
            Outcome::Found { seeds, oracle, plan, .. } => (*seeds, oracle.as_str(), plan.as_str(), "found"),
            Outcome::Held { seeds } => (*seeds, "", "", "control holds"),
            Outcome::NotFound { seeds, .. } => (*seeds, "", "", "NOT FOUND"),
            Outcome::Broken { .. } => (0, "", "", "CONTROL BROKEN"),
            Outcome::DoesNotApply { .. } => (0, "", "", "DOES NOT APPLY"),
            Outcome::DoesNotBuild { .. } => (0, "", "", "DOES NOT BUILD"),
        };
        let _ = writeln!(
            text,
            "{:width$}  {seeds:>6}  {oracle:14}  {plan:plan_width$}  {:>8.1}  {:>8.1}  {result}",
            row.bug, row.build_s, row.sweep_s
        );
    }
    let bad = rows.iter().filter(|row| !row.is_good()).count();
    let _ = write!(text, "{} of {} as they should be", rows.len() - bad, rows.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_that_is_not_found_is_shouted() {
        let row =
            |bug: &str, outcome| Row { bug: bug.to_owned(), what: String::new(), outcome, build_s: 1.0, sweep_s: 2.0 };
        let missed = row("missed", Outcome::NotFound { seeds: 5, others: vec!["O2 1 times".to_owned()] });
        assert!(!missed.is_good() && sentence(&missed).contains("NOT FOUND in 5 seeds; only O2"));
        let held = row("held", Outcome::Held { seeds: 3 });
        let text = all(&[missed, held]);
        assert!(text.contains("NOT FOUND\n") && text.ends_with("1 of 2 as they should be"), "{text}");
    }
}
