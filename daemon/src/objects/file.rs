//! A folder as an object store.

use crate::exit::{Exit, Failure, Outcome};
use bettong_core::real::Folder;
use object_store::ObjectStore;
use std::path::Path;
use std::sync::Arc;

/// Opens the folder, making it where it is missing.
pub fn open(path: &Path) -> Outcome<Arc<dyn ObjectStore>> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::new(Exit::ObjectStore, format!("object store file://{}: {what}: {error}", path.display()))
    };
    std::fs::create_dir_all(path).map_err(|error| failed("the folder cannot be made", &error))?;
    tempfile::tempfile_in(path).map_err(|error| failed("the folder is not writable", &error))?;
    Ok(Arc::new(Folder::open(path).map_err(|error| failed("cannot be opened", &error))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_core::conformance::object_store::{Capabilities, object_store};

    #[tokio::test]
    async fn a_folder_conforms() {
        let dir = tempfile::tempdir().unwrap();
        let can = Capabilities { create: true, update: false, attributes: false };
        let store = open(&dir.path().join("objects")).unwrap();
        object_store(store.as_ref(), "suite", can).await.unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("objects");
        std::fs::write(&path, "in the way").unwrap();
        let failure = open(&path).unwrap_err();
        assert_eq!(failure.exit, Exit::ObjectStore);
        assert!(failure.message.contains("the folder cannot be made"), "{failure}");
        open(&dir.path().join("a/b")).unwrap();
    }
}
