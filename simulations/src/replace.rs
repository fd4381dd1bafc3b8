//! Files that are there whole or not at all.

use std::io;
use std::path::Path;

/// Puts a file in the place of another in one step: a process killed in between leaves the old file
/// or the new one.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".partial");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}
