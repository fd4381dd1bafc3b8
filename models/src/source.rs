//! A peer's own files: CSV, IDX and NPY, gzip recognised by its first bytes; and the writers of CSV
//! and IDX.
//!
//! A file may be anything, so sizes are checked before memory is taken, and errors name file, line,
//! column and value. No row, column or axis is silently dropped, moved or made up: an ambiguous
//! file is refused, and the [`Reading`] lists what was done to its rows. Nothing here downloads.
//!
//! Start reading at [`open_as`]; each format has a file of its own in `source/`.

mod error;
mod idx;
mod images;
mod npy;
mod quotes;
mod reading;
mod table;

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::data::Dataset;
use crate::schema::Schema;

pub use error::DataError;
pub(crate) use idx::read_idx;
pub use idx::{open_idx, open_idx_rows, write_idx};
pub use images::Images;
pub use npy::open_npy;
pub use reading::Reading;
use reading::{Labels, content};
pub(crate) use table::images_from_csv;
pub use table::{MISSING, RawTable};

/// What a file or a shipped data set holds, before the schema is applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A table of named columns.
    Table(RawTable),
    /// Images of one size.
    Images(Images),
}

impl Source {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Source::Table(table) => table.len(),
            Source::Images(images) => images.labels.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows, read as the schema says.
    ///
    /// # Errors
    /// When they do not suit the schema.
    pub fn dataset(&self, schema: &Schema) -> Result<Dataset, DataError> {
        match self {
            Source::Table(table) => Dataset::from_table(table, schema),
            Source::Images(images) => Dataset::from_images(images, schema),
        }
    }

    /// The class of each row.
    ///
    /// # Errors
    /// When a label is not one of the schema's classes.
    pub fn labels(&self, schema: &Schema) -> Result<Vec<u32>, DataError> {
        match self {
            Source::Images(images) => images.classes(schema),
            Source::Table(table) => table.classes(schema),
        }
    }

    /// The rows at these positions, in this order.
    pub fn select(&self, rows: &[usize]) -> Source {
        match self {
            Source::Table(table) => Source::Table(table.select(rows)),
            Source::Images(images) => Source::Images(images.select(rows)),
        }
    }

    /// Writes the rows into `directory` as files that [`open`] reads: a table as
    /// `<stem>.csv`, images as `<stem>-images-idx3-ubyte` with `<stem>-labels-idx1-ubyte`. Returns
    /// the path to open.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path, stem: &str) -> Result<PathBuf, DataError> {
        match self {
            Source::Table(_) => {
                let path = directory.join(format!("{stem}.csv"));
                write_csv(&path, self, "label")?;
                Ok(path)
            }
            Source::Images(images) => {
                let path = directory.join(format!("{stem}-images-idx3-ubyte"));
                write_idx(
                    &path,
                    &directory.join(format!("{stem}-labels-idx1-ubyte")),
                    images,
                )?;
                Ok(path)
            }
        }
    }
}

/// Writes rows as CSV with a header: a table as it was read; images as columns `p0`, `p1`, … and
/// `label`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_csv(path: &Path, source: &Source, label: &str) -> Result<(), DataError> {
    match source {
        Source::Table(table) => table.write(path),
        Source::Images(images) => table::write_images(path, images, label),
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
    /// The format that a file's first bytes show, or else its name.
    fn of(path: &Path) -> Result<Format, DataError> {
        let found = Format::of_content(path)?.or_else(|| Format::of_name(path));
        found.ok_or_else(|| {
            let known = "expected *.csv, NPY (as *x.npy) or IDX (as *-images-idx3-ubyte), each plain or as *.gz";
            DataError::format(
                path,
                format!("neither its first bytes nor its name tell the format; {known}"),
            )
        })
    }

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
    let format = Format::of(path)?;
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
        return table::read_csv(path, schema, opening.columns, Labels::Needed);
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
        Format::Npy => npy::read(path, Some(&labels), schema),
        _ => idx::read(path, Some(&labels), schema),
    }
}

/// Opens rows that need no labels, in the formats of [`open_as`], for a model to classify. Labels
/// are not read, whether they are there or not. Every label of the result is 0, which says nothing
/// about the row.
///
/// # Errors
/// What is wrong, with file, line, column and value if there are any.
pub fn open_unlabelled(path: &Path, schema: &Schema) -> Result<(Dataset, Reading), DataError> {
    match Format::of(path)? {
        Format::Table => table::read_csv(path, schema, &[], Labels::Ignored),
        Format::Npy => npy::read(path, None, schema),
        Format::Idx => idx::read(path, None, schema),
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
