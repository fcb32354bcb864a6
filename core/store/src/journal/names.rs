//! Names of the files of a journal's directory.

/// What a file of the block journal's directory is, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileName {
    Segment(u64),
    LowWater,
    Newest,
    /// Room for a disk that is full; of no meaning.
    Reserve,
    /// A mark or a plan that was being written; of no meaning.
    Unfinished,
    /// A salvage has begun and not ended.
    SalvagePlan,
    Foreign,
}

pub(super) const LOW_WATER: &str = "low-water";
pub(super) const NEWEST: &str = "newest";
pub(super) const RESERVE: &str = "reserve";
pub(super) const SALVAGE_PLAN: &str = "salvage";
/// The directory of damaged segments, and of what was said of them.
pub(super) const QUARANTINE: &str = "quarantine";
/// Ending of the files that are renamed once they are whole.
pub(super) const UNFINISHED: &str = ".new";

const DIGITS: usize = 20;

/// `{20-digit number}.seg`
pub(super) fn segment(number: u64) -> String {
    format!("{number:020}.seg")
}

/// The number of a segment's file.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let ordinary = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    ordinary.then(|| digits.parse().ok()).flatten()
}

pub(super) fn file(name: &str) -> FileName {
    match name {
        LOW_WATER => FileName::LowWater,
        NEWEST => FileName::Newest,
        RESERVE => FileName::Reserve,
        SALVAGE_PLAN => FileName::SalvagePlan,
        "low-water.new" | "newest.new" | "salvage.new" => FileName::Unfinished,
        _ => segment_number(name).map_or(FileName::Foreign, FileName::Segment),
    }
}
