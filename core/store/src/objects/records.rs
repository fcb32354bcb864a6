//! Records of the bucket: read twice where the first read does not verify, since damage may be of the way only.

use super::{ObjectError, Objects};
use crate::record::{self, RECORD_BYTES_MAX};
use crate::world::World;
use object_store::path::Path;
use serde::de::DeserializeOwned;

/// How often a record that does not verify is read.
const READS: u32 = 2;

impl<W: World> Objects<W> {
    /// Reads a record; the inner error says in what way it does not verify.
    pub async fn read_record<T: DeserializeOwned>(&self, path: &Path) -> Result<Result<T, String>, ObjectError> {
        let mut damage = String::new();
        for _ in 0..READS {
            match self.get(path, RECORD_BYTES_MAX).await {
                Ok(bytes) => match record::decode(&bytes) {
                    Ok(held) => return Ok(Ok(held)),
                    Err(error) => damage = format!("{path} does not verify: {error}"),
                },
                Err(error @ ObjectError::TooLong { .. }) => damage = format!("{path}: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(Err(damage))
    }

    /// As `read_record`: `None` where there is none, and one that does not verify is an error as one that was not read.
    pub async fn find_record<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, ObjectError> {
        match self.read_record(path).await {
            Ok(held) => held.map(Some).map_err(ObjectError::Unknown),
            Err(ObjectError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
