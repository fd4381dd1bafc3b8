//! What is wrong with a file, and how much of its texts a message shows.

use std::io;
use std::path::{Path, PathBuf};

/// Most characters of a file's own texts in a message: enough to recognise them, few enough to
/// read.
pub(super) const TEXT_MAX: usize = 48;
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

/// A text of a file, cut if it is too long for a message.
pub(super) fn clip(text: &str) -> String {
    let cut = text.chars().count() > TEXT_MAX;
    text.chars()
        .take(TEXT_MAX)
        .chain(cut.then_some('…'))
        .collect()
}

/// Names for a message: all, or as many as a reader can take in.
pub(super) fn listed<S: AsRef<str>>(names: &[S]) -> String {
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
