//! The retirements of a bucket, in the order in which they were decided.
//!
//! `retirement/{number}` is created only if absent, so that all nodes agree on one order. One that names a node that was
//! retired before it, as heir or once more, means nothing: no two nodes retire each other, nor do more in a ring.

use crate::objects::names::Names;
use crate::objects::{ObjectError, Objects};
use crate::record;
use crate::world::World;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Retirements that one bucket may see.
const RETIREMENTS_MAX: u64 = 65_536;
/// Records that are listed in one page, and how many of them are read at once.
const PAGE: usize = 1000;
const READS_AT_ONCE: usize = 32;
/// Numbers that others may take while one is looked for.
const ATTEMPTS_MAX: usize = 16;

/// What `retirement/{number}` holds.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(super) struct Retirement {
    node_id: String,
    by: String,
    wall_ms: u64,
}

/// Who retired whom.
#[derive(Default, Debug)]
pub(super) struct Retirements {
    heirs: BTreeMap<String, String>,
    /// Retired nodes in the order of their retirement.
    order: Vec<String>,
    next: u64,
    /// A record that does not verify: what it says is not known.
    damaged: Option<String>,
}

/// What became of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The node is this one's to retire.
    Ours,
    /// Another retired it, and answers for it.
    Theirs { heir: String },
    /// This node was retired itself.
    Retired { by: String },
}

/// Why it is not known whose a node is.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    #[error(transparent)]
    Objects(#[from] ObjectError),
    #[error("{why}: what was decided there is not known, and nothing is retired before it is")]
    Damaged { why: String },
    #[error("the bucket has seen {RETIREMENTS_MAX} retirements, which is the limit")]
    Full,
    #[error("{ATTEMPTS_MAX} other retirements were faster")]
    Contended,
}

impl Retirements {
    pub async fn read<W: World>(objects: &Objects<W>, names: &Names) -> Result<Self, ObjectError> {
        let mut read = Self::default();
        let mut after = None;
        loop {
            let page = objects.page(&names.retirements(), after.as_ref(), PAGE).await?;
            after = page.objects.last().map(|object| object.location.clone()).or(after);
            let numbered = page.objects.into_iter().filter_map(|object| {
                let number: u64 = object.location.filename()?.parse().ok()?;
                Some(async move { (number, object.location.clone(), objects.read_record(&object.location).await) })
            });
            let mut records = stream::iter(numbered.collect::<Vec<_>>()).buffered(READS_AT_ONCE);
            while let Some((number, path, record)) = records.next().await {
                read.next = number.saturating_add(1);
                match record? {
                    // Whether one behind a damaged one means anything is not known.
                    Ok(retirement) if read.damaged.is_none() => read.enter(retirement),
                    Ok(_) => {}
                    Err(why) => {
                        tracing::warn!(%path, why, "what was decided is not known");
                        read.damaged.get_or_insert(why);
                    }
                }
            }
            if !page.more {
                return Ok(read);
            }
        }
    }

    fn enter(&mut self, Retirement { node_id, by, .. }: Retirement) {
        if self.heirs.contains_key(&node_id) || self.heirs.contains_key(&by) || node_id == by {
            return;
        }
        self.order.push(node_id.clone());
        self.heirs.insert(node_id, by);
    }

    /// Refuses where not everything that was decided is known.
    pub fn check(&self) -> Result<(), ClaimError> {
        match self.damaged.clone() {
            None => Ok(()),
            Some(why) => Err(ClaimError::Damaged { why }),
        }
    }

    /// The node that retired `node_id`.
    pub fn heir(&self, node_id: &str) -> Option<&str> {
        self.heirs.get(node_id).map(String::as_str)
    }

    /// The node that answers for `node_id` in the end: its heir, or that one's, or so on.
    fn last_heir<'a>(&'a self, node_id: &'a str) -> &'a str {
        // There is no ring: the heir of each was not retired then.
        let mut last = node_id;
        while let Some(by) = self.heir(last) {
            last = by;
        }
        last
    }

    /// The nodes that `by` retired, in order.
    pub fn of<'a>(&'a self, by: &'a str) -> impl Iterator<Item = &'a str> {
        self.order.iter().map(String::as_str).filter(move |node_id| self.heir(node_id) == Some(by))
    }

    /// Claims `node_id` for `by`, unless that is decided already.
    pub async fn claim<W: World>(
        world: &W,
        objects: &Objects<W>,
        names: &Names,
        node_id: &str,
        by: &str,
        wall_ms: u64,
    ) -> Result<Claim, ClaimError> {
        let held = Retirement { node_id: node_id.to_owned(), by: by.to_owned(), wall_ms };
        let bytes = record::encode(&held).map_err(ObjectError::Unknown)?;
        for _ in 0..ATTEMPTS_MAX {
            let known = Self::read(objects, names).await?;
            if let Some(by) = known.heir(by) {
                return Ok(Claim::Retired { by: by.to_owned() });
            }
            if let Some(heir) = known.heir(node_id) {
                let last = known.last_heir(node_id);
                return Ok(match () {
                    () if heir == by => Claim::Ours,
                    // It comes with the heir's own retirement, from where that one had come with it.
                    () if last == by => Claim::Theirs { heir: heir.to_owned() },
                    () => Claim::Theirs { heir: last.to_owned() },
                });
            }
            known.check()?;
            if known.next >= RETIREMENTS_MAX {
                return Err(ClaimError::Full);
            }
            world.at(crate::observe::Point::DuringRetire).await;
            match objects.create(&names.retirement(known.next), bytes.clone().into()).await {
                // Ours, somebody's, or not known: what is there then decides.
                Ok(()) | Err(ObjectError::AlreadyExists | ObjectError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ClaimError::Contended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn retirements(of: &[(u8, u8)]) -> Retirements {
        let mut read = Retirements::default();
        for (node, by) in of {
            read.enter(Retirement { node_id: node.to_string(), by: by.to_string(), wall_ms: 0 });
        }
        read
    }

    #[test]
    fn of_two_that_retire_each_other_the_first_wins() {
        let read = retirements(&[(1, 2), (2, 1), (1, 3), (2, 3), (4, 2)]);
        assert_eq!((read.heir("1"), read.heir("2"), read.heir("4")), (Some("2"), Some("3"), None));
        assert_eq!((read.last_heir("1"), read.last_heir("4")), ("3", "4"));
        assert_eq!((read.of("2").collect::<Vec<_>>(), read.of("3").collect::<Vec<_>>()), (vec!["1"], vec!["2"]));
    }

    proptest! {
        #[test]
        fn whatever_is_claimed_somebody_answers_for_every_node(claims in prop::collection::vec((0u8..6, 0u8..6), 0..40)) {
            let read = retirements(&claims);
            for node in 0u8..6 {
                let node = node.to_string();
                prop_assert!(read.heir(read.last_heir(&node)).is_none());
            }
        }
    }
}
