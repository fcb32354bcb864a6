//! The store through its service, on real directories and a bucket in memory. Faults are the simulator's; here is what
//! must hold when nothing fails.

mod attached;
mod attached_ends;
mod broken;
mod cases;
mod damage;
mod door;
mod evicting;
mod hung_disk;
mod journal_limit;
mod memory;
mod model;
mod namespaces;
mod packs;
mod packs_kept;
mod records;
mod rig;
mod unconditional;
mod unopened;
mod upkeep;
