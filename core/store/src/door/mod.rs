//! The doors that a simulated world can open too: they are driven over any byte stream, by whoever accepted it.

mod desk;
#[cfg(test)]
mod fake;
pub mod shm;
pub mod tcp;

pub use desk::Deadlines;

use crate::service::Rights;
use bettong_wire::ServiceError;

/// Decides who may come in.
pub trait Authenticate: Send + Sync + 'static {
    /// The rights of whoever shows `token` as `tenant` from `origin`, or why it is turned away. Must not wait.
    fn authenticate(&self, tenant: &str, token: &str, origin: &str) -> Result<Rights, ServiceError>;
}

impl<F> Authenticate for F
where
    F: Fn(&str, &str, &str) -> Result<Rights, ServiceError> + Send + Sync + 'static,
{
    fn authenticate(&self, tenant: &str, token: &str, origin: &str) -> Result<Rights, ServiceError> {
        self(tenant, token, origin)
    }
}
