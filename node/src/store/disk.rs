//! The file operations that a privacy ledger needs, so that tests can put a disk that fails in place
//! of the system's.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::folder::sync_folder;
use crate::private;

/// Whether a file may be made where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It is made, empty.
    Allowed,
    /// That is an error.
    Refused,
}

/// A disk with files that only their owner may read.
pub trait Disk: Clone + Debug {
    /// An open file, locked until it is dropped.
    type File;

    /// Opens a file to read and write, and locks it: others wait.
    fn open(&self, path: &Path, beginning: Beginning) -> io::Result<Self::File>;
    /// All bytes of an open file.
    fn contents(&self, file: &mut Self::File) -> io::Result<Vec<u8>>;
    /// Cuts an open file off after so many bytes.
    fn cut(&self, file: &mut Self::File, length: u64) -> io::Result<()>;
    /// Writes bytes at a place in an open file.
    fn write(&self, file: &mut Self::File, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes an open file durable.
    fn sync(&self, file: &mut Self::File) -> io::Result<()>;
    /// All bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Writes a file in full or not at all, and makes it and its name durable.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes the name of a file durable.
    fn sync_name(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct System;

impl Disk for System {
    type File = File;

    fn open(&self, path: &Path, beginning: Beginning) -> io::Result<File> {
        let file = match beginning {
            Beginning::Allowed => private::open(path)?,
            Beginning::Refused => private::open_existing(path)?,
        };
        file.lock()?;
        Ok(file)
    }

    fn contents(&self, file: &mut File) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn cut(&self, file: &mut File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn write(&self, file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }

    fn sync(&self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut aside: OsString = path.as_os_str().to_owned();
        aside.push(".new");
        let mut file = private::create(Path::new(&aside))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        self.sync_name(path)
    }

    fn sync_name(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
            _ => sync_folder(Path::new(".")),
        }
    }
}
