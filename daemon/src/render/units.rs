//! Numbers as people read them.

use std::time::Duration;

/// `288500` as `288,500`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && index % 3 == head {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with a binary unit and one decimal.
pub fn bytes(number: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| number >= *factor) {
        Some((unit, factor)) => format!("{:.1} {unit}", number as f64 / *factor as f64),
        None => format!("{number} B"),
    }
}

/// A share in percent, `-` where there is nothing to share.
pub fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        whole => format!("{:.2} %", part as f64 * 100.0 / whole as f64),
    }
}

/// A duration in the unit that suits it.
pub fn duration(duration: Duration) -> String {
    let ns = duration.as_nanos() as f64;
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.1} us", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 12, 123, 1234, 288_500, 1_000_000].map(count),
            ["0", "12", "123", "1,234", "288,500", "1,000,000"]
        );
        assert_eq!([0, 1023, 1536, 3 << 29].map(bytes), ["0 B", "1023 B", "1.5 KiB", "1.5 GiB"]);
        assert_eq!((percent(1, 3), percent(0, 0)), ("33.33 %".to_owned(), "-".to_owned()));
        assert_eq!(
            [900, 1_500, 2_500_000].map(|ns| duration(Duration::from_nanos(ns))),
            ["900 ns", "1.5 us", "2.50 ms"]
        );
    }
}
