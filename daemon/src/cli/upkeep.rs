//! Arguments of the commands for a node's upkeep: scrub, prefetch, node retire.

use clap::Args;

pub(super) const SCRUB_HELP: &str = "\
Needs the admin right. Removed are only values' objects that this node (or one that it retired) wrote, that nothing names,
and that are older than scrub_grace_ms by the object store's clock, and generations of heads that newer ones have replaced;
a value that a newer release wrote is never touched. Every object that is
named is read and verified; what does not verify twice is quarantined, and healed where memory, disk or another node has a
good copy. It works in slices of about 2 s, rests between pieces of work, and can be stopped at any time. It ends with exit code 20
where something is damaged that was not healed; with --dry-run nothing is.

Examples:
  bettong scrub --dry-run             say what would be done
  bettong scrub --json | jq .counts
";

pub(super) const PREFETCH_HELP: &str = "\
Needs the admin right. The score of a block is 2^(-age / 600 s), 0.3 more where it starts a chain, 0.2 more where its
namespace is the one used last. The best come first, within prefetch_blocks, prefetch_bytes
and prefetch_ms. prefetch_every_ms does it in the background.

Examples:
  bettong prefetch --dry-run          the blocks that would be fetched, with their scores
";

pub(super) const RETIRE_HELP: &str = "\
For a node that is gone for good. It is fenced: a daemon that still runs under its id ends with exit code 14, and one that
starts is refused with it. The daemon that this command talks to takes its names over: its entries, its plain keys (where
both have one, its own stays), and the right to remove its objects. What only the dead node's own journal holds, on its own
disk, is not in the object store and is not taken over. Interrupted anywhere, the same command goes on. Needs the admin
right, and an object store that can create an object only if it is absent.

Examples:
  bettong node retire gpu-7 --dry-run
  bettong node retire gpu-7
";

#[derive(Args, Debug)]
pub struct UpkeepArgs {
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug)]
pub struct RetireArgs {
    /// The node to retire, as `bettong node ls` shows it.
    pub id: String,
    /// Say what would be taken over, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}
