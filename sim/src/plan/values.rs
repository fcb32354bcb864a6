//! The small languages inside a plan's strings: durations, ranges of them, path patterns.

use std::ops::Range;
use std::time::Duration;

/// Longest duration that a plan may name: a day.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// `200us`, `50ms`, `5s`, `2m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| format!("`{text}` is no duration: write a whole number and a unit"))?;
    let duration = match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        "h" => Duration::from_secs(number.saturating_mul(3600)),
        _ => return Err(format!("`{text}` has no unit out of us, ms, s, m, h")),
    };
    if duration > DURATION_MAX {
        return Err(format!("`{text}` is over the limit of 24h"));
    }
    Ok(duration)
}

/// `200ms..5s`, or a single duration.
pub fn range(text: &str) -> Result<Range<Duration>, String> {
    let Some((start, end)) = text.split_once("..") else {
        let exact = duration(text)?;
        return Ok(exact..exact);
    };
    let (start, end) = (duration(start)?, duration(end)?);
    if start > end {
        return Err(format!("`{text}` ends before it starts"));
    }
    Ok(start..end)
}

/// Most steps that a plan may name.
const COUNT_MAX: u64 = 1_000_000;

/// `3..500`, or a single number: from the first to the last, both included.
pub fn count(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| *number <= COUNT_MAX);
        number.ok_or_else(|| format!("`{text}` is no number of steps up to {COUNT_MAX}"))
    };
    let (start, end): (u64, u64) = (number(start)?, number(end)?);
    if start > end {
        return Err(format!("`{text}` ends before it starts"));
    }
    Ok(start..end + 1)
}

/// A path pattern in which `*` stands for any characters, `/` included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<String>);

impl Glob {
    pub fn new(pattern: &str) -> Self {
        Self(pattern.split('*').map(str::to_owned).collect())
    }

    pub fn matches(&self, path: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return path.is_empty() };
        let Some(mut path) = path.strip_prefix(first.as_str()) else { return false };
        let Some((last, middle)) = rest.split_last() else { return path.is_empty() };
        for piece in middle {
            let Some((_, after)) = path.split_once(piece.as_str()) else { return false };
            path = after;
        }
        path.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, path, matches) in [
            ("*", "", true),
            ("*", "a/b", true),
            ("*/block/*", "p/ns/x/block/ab/cd", true),
            ("*/block/*", "p/ns/x/head/ab/cd", false),
            ("a*c", "abc", true),
            ("a*c", "ab", false),
            ("a*b*b", "ab", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(path), matches, "{pattern} on {path}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!((count("3..500"), count("7")), (Ok(3..501), Ok(7..8)));
        for wrong in ["", "a", "5..1", "-1", "1..", "1000001"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(range("200ms..5s"), Ok(Duration::from_millis(200)..Duration::from_secs(5)));
        assert_eq!(range("3m"), Ok(Duration::from_secs(180)..Duration::from_secs(180)));
        for wrong in ["", "5", "s", "5s..1s", "25h", "99999999999999999999s", "-1s", "1s..", "1d"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
