//! Packs: several small values in one object, where that saves requests.

mod book;
mod build;
mod repack;

pub(super) use book::{PackBook, Writing};
pub(super) use build::{Item, Packing, groups};
