//! Folders for what this user alone is to see: models that are made on the way, and what of an upload is done.

use std::fs::DirBuilder;
use std::io;
use std::path::Path;

/// Makes a folder, and those above it that aren't there, for this user alone. One that is there stays as it is.
///
/// # Errors
/// Where it can't be made.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nobody_else_sees_what_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("tidewaiter/uploads");
        make(&folder).unwrap();
        make(&folder).unwrap();
        for made in [folder.parent().unwrap(), &folder] {
            assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
