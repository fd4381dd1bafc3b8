//! Reading a file's bytes, packed or not, within bounds, and what that showed besides its rows.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::error::DataError;

/// Most bytes of pixels or numbers read from one file (16 GiB): a bound on what a lying header or a
/// gzip bomb can make a peer read.
pub(super) const DATA_BYTES_MAX: u64 = 1 << 34;

/// What reading a file showed besides its rows. People are told, because it was done by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The header's names of the features, in the features' order, if the schema names no columns,
    /// so that the file decides.
    pub columns: Vec<String>,
    /// Columns of the file that the schema does not name and nobody reads.
    pub unused: Vec<String>,
    /// Missing cells of each column, those without any left out.
    pub missing: Vec<(String, usize)>,
    /// The line of each row in a table, from 1; empty for other files.
    pub lines: Vec<u64>,
    /// How rows of other axes than the schema's were read, if they were.
    pub axes: Option<String>,
}

/// Whether the labels of rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    /// Every row has one of the schema's classes.
    Needed,
    /// Rows may have none; those that are there may be anything.
    Ignored,
}

/// The class of rows whose labels are ignored. Every schema has this class.
pub(super) const PLACEHOLDER: u32 = 0;

/// A reader of the file's content, unpacked if its first bytes say gzip.
pub(super) fn content(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    unpacked(BufReader::new(file)).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn unpacked<'a>(mut reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let packed = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if packed {
        Box::new(MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    })
}

/// Reads `count` records of `size` bytes, or those at the ascending positions `rows`, and asserts
/// that the file then ends. Memory grows with what really comes, so a lying header takes none.
pub(super) fn read_values(
    path: &Path,
    reader: &mut dyn Read,
    count: u64,
    size: u64,
    rows: Option<&[usize]>,
) -> Result<Vec<u8>, DataError> {
    let failed = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let expected = count * size;
    let mut values = Vec::new();
    let mut found = 0;
    let mut next = 0;
    for row in rows.unwrap_or(&[]) {
        let row = *row as u64;
        if row < next || row >= count {
            return Err(DataError::format(
                path,
                format!("row {row} asked for, expected ascending rows below {count}"),
            ));
        }
        found +=
            io::copy(&mut reader.take((row - next) * size), &mut io::sink()).map_err(failed)?;
        found += reader.take(size).read_to_end(&mut values).map_err(failed)? as u64;
        next = row + 1;
    }
    let rest = expected - next * size;
    found += match rows {
        Some(_) => io::copy(&mut reader.take(rest), &mut io::sink()).map_err(failed)?,
        None => reader.take(rest).read_to_end(&mut values).map_err(failed)? as u64,
    };
    found += reader
        .take(1)
        .read_to_end(&mut Vec::new())
        .map_err(failed)? as u64;
    if found != expected {
        return Err(DataError::Length {
            path: path.to_owned(),
            expected,
            found,
        });
    }
    Ok(values)
}
