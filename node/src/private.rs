//! Folders and files that only their owner may read: the state, checkpoints, keys and tokens. The
//! modes are set here and do not depend on the umask of the user who starts the program.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of a private folder.
const FOLDER: u32 = 0o700;
/// Mode of a private file.
const FILE: u32 = 0o600;
/// Permission bits that others may not have on either.
pub(crate) const OTHERS: u32 = 0o077;

/// Makes the folder if it is not there. A folder that was there keeps its mode, which may be meant;
/// the answer is a warning if others can look into it.
pub(crate) fn create_folder(path: &Path) -> io::Result<Option<String>> {
    if let Ok(found) = std::fs::metadata(path)
        && found.is_dir()
    {
        let mode = found.mode() & 0o777;
        let open = mode & OTHERS != 0;
        return Ok(open.then(|| {
            format!(
                "others on this machine can look into {0} (mode {mode:03o}); `chmod 700 {0}` keeps it private",
                path.display()
            )
        }));
    }
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        std::fs::create_dir_all(parent)?;
    }
    DirBuilder::new()
        .mode(FOLDER)
        .create(path)
        .or_else(|error| {
            // Somebody else made it just now.
            if path.is_dir() { Ok(()) } else { Err(error) }
        })?;
    std::fs::set_permissions(path, Permissions::from_mode(FOLDER))?;
    Ok(None)
}

/// Opens a file to read and write, makes it if it is not there, and removes others' permissions.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE)
        .open(path)?;
    restrict(&file)?;
    Ok(file)
}

/// A file to read and write that is there already.
pub(crate) fn open_existing(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    restrict(&file)?;
    Ok(file)
}

/// A new or emptied file to write.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE)
        .open(path)?;
    restrict(&file)?;
    Ok(file)
}

/// Writes the whole file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

/// Removes a file that still holds what this run wrote into it. Left behind, such a file gives no
/// access and names nothing.
pub(crate) fn remove_own(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
        let _ = std::fs::remove_file(path);
    }
}

fn restrict(file: &File) -> io::Result<()> {
    if file.metadata()?.mode() & OTHERS == 0 {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(FILE))
}

/// Whether folders can be made at a path, without making any: the nearest one that exists is asked.
pub(crate) fn can_be_made(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    let existing: PathBuf = absolute
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"))
        .to_owned();
    if !existing.is_dir() {
        return Err(std::io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is not a folder", existing.display()),
        ));
    }
    // The mode alone does not show, for example, that a file system is mounted read-only.
    let probe = existing.join(format!(".kith-probe-{}", std::process::id()));
    std::fs::File::create(&probe)?;
    std::fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private_and_what_was_open_is_told_or_closed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        assert_eq!(create_folder(&folder).unwrap(), None);
        assert_eq!(mode(&folder), 0o700);
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let warning = create_folder(&folder).unwrap().unwrap();
        assert!(
            warning.contains("chmod 700") && warning.contains("755"),
            "{warning}"
        );
        let file = folder.join("file");
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        write(&file, b"new").unwrap();
        assert_eq!(
            (mode(&file), std::fs::read(&file).unwrap()),
            (0o600, b"new".to_vec())
        );
        let opened = folder.join("opened");
        open(&opened).unwrap();
        assert_eq!(mode(&opened), 0o600);
        assert!(create_folder(&file).is_err(), "a file is no folder");
    }

    #[test]
    fn a_place_where_no_folder_can_be_made_is_told_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        can_be_made(&folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(can_be_made(&folder.path().join("file/state")).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
