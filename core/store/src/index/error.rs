//! Why the durable index could not be opened, read or written: what kind of remedy that wants.

use std::error::Error;
use std::sync::Arc;

/// Why the index does not open, or does not take what a start writes into it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// What it is kept in does not answer, or takes nothing.
    #[error("{0}")]
    Unreachable(String),
    /// What is stored does not verify, is not whole, or is of a newer release.
    #[error("{0}")]
    Stored(String),
    /// It was closed, or somebody else opened it meanwhile. Another start may go on.
    #[error("{0}")]
    Closed(String),
    /// It was asked for something that it does not do.
    #[error("{0}")]
    Defect(String),
}

impl From<slatedb::Error> for IndexError {
    fn from(error: slatedb::Error) -> Self {
        use slatedb::ErrorKind;
        let text = error.to_string();
        match error.kind() {
            ErrorKind::Unavailable => Self::Unreachable(text),
            ErrorKind::Data => Self::Stored(text),
            ErrorKind::Closed(_) => Self::Closed(text),
            // What its background tasks met comes without a kind of its own.
            _ if is_of_object_store(&error) => Self::Unreachable(text),
            _ => Self::Defect(text),
        }
    }
}

/// Whether an object store's error is behind this one.
fn is_of_object_store(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .any(|error| error.is::<object_store::Error>() || error.is::<Arc<object_store::Error>>())
}
