//! A peer's own files: CSV, IDX and NPY, gzip recognised by its first bytes; and the writers of CSV
//! and IDX.
//!
//! A file may be anything, so sizes are checked before memory is taken, and errors name file, line,
//! column and value. No row, column or axis is silently dropped, moved or made up: an ambiguous
//! file is refused, and the [`Reading`] lists what was done to its rows. Nothing here downloads.
//!
//! Start reading at [`open_as`]; each format has a file of its own in `source/`.

mod idx;
mod npy;
mod quotes;
mod table;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::data::Dataset;
use crate::schema::Schema;

pub(crate) use idx::read_idx;
pub use idx::{open_idx, open_idx_rows, write_idx};
pub use npy::open_npy;
pub use table::write_csv;
pub(crate) use table::{RowEncoder, images_from_csv};

/// Most bytes of pixels or numbers read from one file (16 GiB): a bound on what a lying header or a
/// gzip bomb can make a peer read.
const DATA_BYTES_MAX: u64 = 1 << 34;
/// Most characters of a file's own texts in a message: enough to recognise them, few enough to
/// read.
const TEXT_MAX: usize = 48;
/// Most characters of a list of names in a message.
const LIST_MAX: usize = 160;

/// A file that cannot be read as the schema says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A cell that the schema does not allow.
    #[error("{}, line {line}, column {column:?}: expected {expected}, found {value:?}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: u64,
        /// Name of the column.
        column: String,
        /// The cell, at most 32 characters of it.
        value: String,
        /// What the schema allows.
        expected: String,
    },
    /// A row with more or fewer cells than the header.
    #[error("{}, line {line}: expected {expected} cells like the header, found {found}", path.display())]
    Cells {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: u64,
        /// Cells of the header.
        expected: usize,
        /// Cells of the row.
        found: usize,
    },
    /// A quote that opens a cell and that nothing closes: the rest of the file would be one cell.
    #[error(
        "{}, line {line}: a cell opens with a quote here, and no later quote closes it; take the quote out, or double it and close the cell",
        path.display()
    )]
    OpenQuote {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: u64,
    },
    /// A cell that seems to have swallowed rows between two stray quotes.
    #[error(
        "{}, line {line}, column {column:?}: this cell holds {lines} lines that look like rows, from one quote to the next; \
         take out the stray quotes, or the line breaks if this is a text",
        path.display()
    )]
    RowsInCell {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: u64,
        /// Name of the column.
        column: String,
        /// Lines of the cell.
        lines: usize,
    },
    /// A column that the header should name exactly once and does not.
    #[error("{}: expected the column {column:?} once, found it {times}{near}; the header is: {header}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// Name of the column.
        column: String,
        /// How often it was found.
        times: &'static str,
        /// The header's names like it, as a phrase; empty if there is none.
        near: String,
        /// The file's header, or its first names.
        header: String,
    },
    /// Rows of another size than the schema's.
    #[error("{}: expected rows of shape {expected:?} (data.shape), found {found}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The schema's shape.
        expected: Vec<usize>,
        /// The file's shape, in words.
        found: String,
    },
    /// A label that is no class.
    #[error("{}: row {row} has label {found}, expected an integer from 0 to {}", path.display(), classes - 1)]
    Label {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// The label, as the file has it.
        found: String,
        /// Number of the schema's classes.
        classes: usize,
    },
    /// The first bytes are not those of the format.
    #[error("{}: expected the magic number {expected:#010x}, found {found:#010x}; is this another kind of file?", path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// The format's magic number.
        expected: u32,
        /// The file's first bytes as a number.
        found: u32,
    },
    /// More or fewer bytes or values than announced.
    #[error("{}: expected {expected} bytes of values as announced, found {found}; the file is truncated or damaged", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Number announced.
        expected: u64,
        /// Number present (counted up to one more than announced).
        found: u64,
    },
    /// Anything else that is wrong with a file.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        what: String,
    },
}

impl DataError {
    pub(crate) fn format(path: &Path, what: impl Into<String>) -> DataError {
        DataError::Format {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}

/// A file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Table,
    Idx,
    Npy,
}

impl Format {
    /// The format that the first bytes show, after unpacking; a table has no such mark.
    fn of_content(path: &Path) -> Result<Option<Format>, DataError> {
        let mut start = Vec::new();
        let read = content(path)?.take(6).read_to_end(&mut start);
        read.map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(match start.as_slice() {
            [0x93, b'N', b'U', b'M', b'P', b'Y'] => Some(Format::Npy),
            // Two zeros, the type of the values, the number of axes.
            [0, 0, 8..=14, 1..=8, ..] => Some(Format::Idx),
            _ => None,
        })
    }

    fn of_name(path: &Path) -> Option<Format> {
        let name = file_name(path).to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        match plain {
            _ if plain.ends_with(".csv") => Some(Format::Table),
            _ if plain.ends_with(".npy") => Some(Format::Npy),
            _ if plain.ends_with("ubyte") => Some(Format::Idx),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Table => "a table",
            Format::Idx => "IDX",
            Format::Npy => "NPY",
        }
    }
}

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

/// How a file is to be read, in addition to its schema.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening<'a> {
    /// The file with the labels, if it is not the one that the rows' name leads to.
    pub labels: Option<&'a Path>,
    /// The names of the features in their order, as another file had them ([`Reading::columns`]): a
    /// table of a schema without named columns is then read by these names, in any order of
    /// columns.
    pub columns: &'a [String],
}

/// Opens a peer's own file as [`open_as`] does, with the labels in the file that its name leads to.
///
/// # Errors
/// What is wrong, with file, line, column and value if there are any.
pub fn open(path: &Path, schema: &Schema) -> Result<Dataset, DataError> {
    open_as(path, schema, Opening::default()).map(|(rows, _)| rows)
}

/// Opens a peer's own file, by its first bytes or else its name; each may be packed with gzip:
///
/// - `*.csv`: a table with a header and the schema's label column. With named columns in the schema
///   other columns are left out; without, every column but the label is a feature.
/// - IDX images of bytes, as `*-images-idx3-ubyte` with their labels in `*-labels-idx1-ubyte` next
///   to it.
/// - NPY: an array of rows, as `*x.npy` with the labels in `*y.npy` next to it. `u1`, `f4`, `f8`, C
///   order; labels `u1`, `i4`, `i8`.
///
/// # Errors
/// What is wrong, with file, line, column and value if there are any.
pub fn open_as(
    path: &Path,
    schema: &Schema,
    opening: Opening<'_>,
) -> Result<(Dataset, Reading), DataError> {
    let Some(format) = Format::of_content(path)?.or_else(|| Format::of_name(path)) else {
        let known = "expected *.csv, NPY (as *x.npy) or IDX (as *-images-idx3-ubyte), each plain or as *.gz";
        return Err(DataError::format(
            path,
            format!("neither its first bytes nor its name tell the format; {known}"),
        ));
    };
    if format == Format::Table {
        if let Some(labels) = opening.labels {
            let what = format!(
                "a table holds its labels in its column {:?} (data.label); give no file of labels",
                schema.label
            );
            return Err(DataError::format(
                path,
                format!("{what}, found {}", labels.display()),
            ));
        }
        return table::read_csv(path, schema, opening.columns);
    }
    let labels = match opening.labels {
        Some(labels) => labels.to_owned(),
        None => labels_beside(path, format)?,
    };
    let found = Format::of_content(&labels)?;
    if found != Some(format) && (found.is_some() || opening.labels.is_some()) {
        let other = found.map_or("another kind of file", Format::name);
        return Err(DataError::format(
            &labels,
            format!(
                "expected labels as {} like the rows, found {other}",
                format.name()
            ),
        ));
    }
    match format {
        Format::Npy => npy::read(path, &labels, schema),
        _ => idx::read(path, &labels, schema),
    }
}

/// Default file of the labels of these rows: the customary name next to the rows' file.
fn labels_beside(path: &Path, format: Format) -> Result<PathBuf, DataError> {
    let name = file_name(path);
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let wanted = match format {
        Format::Npy => plain
            .strip_suffix("x.npy")
            .map(|stem| format!("{stem}y.npy")),
        _ if plain.contains("images") => {
            Some(plain.replace("images", "labels").replace("idx3", "idx1"))
        }
        _ => None,
    };
    let named =
        "name the file with the key `labels` (`test_labels` for test rows), or the option --labels";
    let Some(wanted) = wanted else {
        let custom = if format == Format::Npy {
            "*x.npy with *y.npy"
        } else {
            "*-images-idx3-ubyte with *-labels-idx1-ubyte"
        };
        return Err(DataError::format(
            path,
            format!("its name does not lead to its labels, as {custom} does; {named}"),
        ));
    };
    let candidates = [
        path.with_file_name(&wanted),
        path.with_file_name(format!("{wanted}.gz")),
    ];
    let missing = || {
        DataError::format(
            path,
            format!("the labels are missing: expected {wanted:?} beside it; or {named}"),
        )
    };
    candidates
        .into_iter()
        .find(|candidate| candidate.exists())
        .ok_or_else(missing)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Whether rows with these sides are rows of the schema: the same sides in the same order, sides of
/// 1 aside, or one of the two flat. `Ok` says how flat and shaped rows were matched; the order of
/// the values is the file's.
///
/// # Errors
/// [`DataError::Shape`], in which `found` is the file's shape.
pub(crate) fn compare_axes(
    path: &Path,
    sides: &[usize],
    schema: &Schema,
    found: String,
) -> Result<Option<String>, DataError> {
    let long = |sides: &[usize]| {
        sides
            .iter()
            .copied()
            .filter(|side| *side != 1)
            .collect::<Vec<_>>()
    };
    let (theirs, ours) = (long(sides), long(&schema.shape));
    if theirs == ours {
        return Ok(None);
    }
    let product = sides
        .iter()
        .try_fold(1usize, |product, side| product.checked_mul(*side));
    if product == Some(schema.features()) && (theirs.len() == 1 || ours.len() == 1) {
        return Ok(Some(format!(
            "rows of {sides:?} are read as {:?} (data.shape), the last axis running fastest",
            schema.shape
        )));
    }
    let sorted = |mut sides: Vec<usize>| {
        sides.sort_unstable();
        sides
    };
    let turned = if sorted(theirs) == sorted(ours) {
        "; the axes are in another order, channels come first"
    } else {
        ""
    };
    let path = path.to_owned();
    Err(DataError::Shape {
        path,
        expected: schema.shape.clone(),
        found: format!("{found}{turned}"),
    })
}

/// A text of a file, cut if it is too long for a message.
fn clip(text: &str) -> String {
    let cut = text.chars().count() > TEXT_MAX;
    text.chars()
        .take(TEXT_MAX)
        .chain(cut.then_some('…'))
        .collect()
}

/// Names for a message: all, or as many as a reader can take in.
fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let (mut text, mut shown) = (String::new(), 0);
    for name in names {
        let name = clip(name.as_ref());
        if shown > 0 && text.len() + name.len() > LIST_MAX {
            break;
        }
        text = if shown == 0 {
            name
        } else {
            format!("{text}, {name}")
        };
        shown += 1;
    }
    if shown < names.len() {
        format!("{text}, … ({} more)", names.len() - shown)
    } else {
        text
    }
}

/// A reader of the file's content, unpacked if its first bytes say gzip.
fn content(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    unpacked(BufReader::new(file)).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })
}

fn unpacked<'a>(mut reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let packed = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if packed {
        Box::new(MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    })
}

/// Reads `count` records of `size` bytes, or those at the ascending positions `rows`, and asserts
/// that the file then ends. Memory grows with what really comes, so a lying header takes none.
fn read_values(
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
