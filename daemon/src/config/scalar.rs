//! The types of configuration values. Each is read from text or from a bare TOML value, and written back as text.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Defines a value type by its `FromStr` and `Display`: files may write `8`, `true` or `"8 MiB"`, the environment and
/// flags only have text, and all three mean the same.
macro_rules! textual {
    ($($name:ident),*) => {
        $(
            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = deserializer.deserialize_any(AnyScalar)?;
                    text.parse().map_err(D::Error::custom)
                }
            }

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }
        )*
    };
}

textual!(Text, Count, Bytes, Millis, Switch, Compression, Budgets);

/// Accepts any scalar and yields its text.
struct AnyScalar;

impl Visitor<'_> for AnyScalar {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value: text, a whole number, or true or false")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

/// Any text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Text(pub String);

impl FromStr for Text {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Count(pub u32);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.trim().parse().map(Self).map_err(|_| format!("`{text}` is no whole number from 0 to {}", u32::MAX))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of bytes: `4096`, `4KiB`, `4 KiB`, `2GiB`. Units are binary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bytes(pub u64);

const BYTE_UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size; write bytes, or a whole number with KiB, MiB, GiB or TiB");
        let (digits, unit) = split_unit(text);
        let factor = match unit {
            "" | "B" => 1,
            unit => BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?.1,
        };
        digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BYTE_UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A duration in milliseconds: `250`, `250ms`, `10s`, `2min`, `1h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Millis(pub u64);

const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

impl Millis {
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no duration; write milliseconds, or a whole number with ms, s, min or h");
        let (digits, unit) = split_unit(text);
        let factor = match unit {
            "" => 1,
            unit => TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TIME_UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}ms", self.0),
        }
    }
}

/// On or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switch(pub bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "true" | "on" | "yes" | "1" => Ok(Self(true)),
            "false" | "off" | "no" | "0" => Ok(Self(false)),
            _ => Err(format!("`{text}` is neither true nor false")),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How payloads are compressed before they go to disk and to the object store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    None,
    Zstd,
    Lz4,
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "none" => Ok(Self::None),
            "zstd" => Ok(Self::Zstd),
            "lz4" => Ok(Self::Lz4),
            _ => Err(format!("`{text}` is no compression; write none, zstd or lz4")),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        })
    }
}

/// Budgets of single namespaces: `TENANT/NAME=BYTES`, separated by commas. The last `=` counts, and the first `/`; a
/// name with a comma or white space has no budget of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Budgets(pub Vec<Budget>);

/// The budget of one namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Budget {
    pub tenant: String,
    pub namespace: String,
    pub bytes: Bytes,
}

impl FromStr for Budgets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut budgets: Vec<Budget> = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let wrong = || format!("`{item}` is no budget of a namespace; write TENANT/NAME=BYTES");
            let (name, bytes) = item.rsplit_once('=').ok_or_else(wrong)?;
            let (tenant, namespace) = name.trim().split_once('/').ok_or_else(wrong)?;
            // White space inside is a comma that was forgotten.
            if tenant.is_empty() || namespace.is_empty() || name.trim().contains(char::is_whitespace) {
                return Err(wrong());
            }
            if budgets.iter().any(|known| known.tenant == tenant && known.namespace == namespace) {
                return Err(format!("`{tenant}/{namespace}` has a budget already"));
            }
            let (tenant, namespace) = (tenant.to_owned(), namespace.to_owned());
            budgets.push(Budget { tenant, namespace, bytes: bytes.parse()? });
        }
        Ok(Self(budgets))
    }
}

impl fmt::Display for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Budget { tenant, namespace, bytes }) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{tenant}/{namespace}={bytes}")?;
        }
        Ok(())
    }
}

/// Splits `12 MiB` into (`12`, `MiB`).
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_and_written_back() {
        for (text, bytes, shown) in [
            ("4096", 4096, "4KiB"),
            ("3 mib", 3 << 20, "3MiB"),
            ("0", 0, "0"),
            ("5", 5, "5"),
            ("1TiB", 1 << 40, "1TiB"),
        ] {
            assert_eq!(text.parse::<Bytes>().unwrap().0, bytes);
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
        for (text, ms, shown) in
            [("250", 250, "250ms"), ("10 s", 10_000, "10s"), ("90s", 90_000, "90s"), ("0", 0, "0ms")]
        {
            assert_eq!(text.parse::<Millis>().unwrap().0, ms);
            assert_eq!(Millis(ms).to_string(), shown);
        }
    }

    #[test]
    fn budgets_are_read_and_written_back() {
        for (text, shown) in
            [("", ""), ("default/chat=2 GiB", "default/chat=2GiB"), (" a/b/c=1KiB, a/x=y=5,", "a/b/c=1KiB, a/x=y=5")]
        {
            assert_eq!(text.parse::<Budgets>().unwrap().to_string(), shown);
        }
        for text in ["chat=1GiB", "a/b", "a/b=much", "/b=1", "a/=1", "a/b=1,a/b=2", "a/b=1 c/d=2"] {
            assert!(text.parse::<Budgets>().is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for text in ["", "-1", "1.5GiB", "GiB", "18446744073709551616", "99999999TiB", "1 PiB", "1\u{0}"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
        assert!("4294967296".parse::<Count>().is_err());
        assert!("maybe".parse::<Switch>().is_err());
        assert!("gzip".parse::<Compression>().is_err());
    }
}
