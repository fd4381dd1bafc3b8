//! NPY, numpy's format: an array of rows in one file, their labels in another.

use std::io::Read;
use std::path::Path;

use super::error::DataError;
use super::images::compare_axes;
use super::reading::{DATA_BYTES_MAX, PLACEHOLDER, Reading, content, read_values};
use crate::data::Dataset;
use crate::schema::Schema;

/// Longest header of an NPY file; a description of one array takes about 128 bytes.
const NPY_HEADER_MAX: usize = 64 * 1024;
/// Most characters of a header in a message: one with four axes has about 80.
const HEADER_SHOWN: usize = 160;

/// Opens a pair of NPY files: rows and labels.
///
/// # Errors
/// A header that is not NPY, an order or type that is not supported, a wrong length, values that
/// are not finite.
pub fn open_npy(rows: &Path, labels: &Path, schema: &Schema) -> Result<Dataset, DataError> {
    read(rows, Some(labels), schema).map(|(rows, _)| rows)
}

/// The rows of an NPY pair, and how their axes were read. Without a file of labels every row has
/// [`PLACEHOLDER`].
pub(super) fn read(
    rows: &Path,
    labels: Option<&Path>,
    schema: &Schema,
) -> Result<(Dataset, Reading), DataError> {
    let found = read_npy(rows)?;
    let shown = format!("an array of shape {:?}", found.shape);
    let [count, ref sides @ ..] = *found.shape else {
        return Err(DataError::Shape {
            path: rows.to_owned(),
            expected: schema.shape.clone(),
            found: shown,
        });
    };
    let axes = compare_axes(rows, sides, schema, shown)?;
    let reading = Reading {
        axes,
        ..Reading::default()
    };
    let labels = match labels {
        Some(labels) => read_labels(labels, count, schema)?,
        None => vec![PLACEHOLDER; count],
    };
    if count == 0 {
        return Err(DataError::format(rows, "the array has no row"));
    }
    let data = if found.kind == "u1" {
        Dataset::from_bytes(found.bytes, labels, schema)
    } else {
        let numbers = found.normalised(rows, count, schema)?;
        Dataset::from_numbers(numbers, labels, schema.features())
    };
    Ok((data, reading))
}

/// The classes of `count` rows.
fn read_labels(path: &Path, count: usize, schema: &Schema) -> Result<Vec<u32>, DataError> {
    let classes = read_npy(path)?;
    if classes.shape != [count] {
        let found = &classes.shape;
        let what = format!("expected shape [{count}] like the rows, found {found:?}");
        return Err(DataError::format(path, what));
    }
    let class = |row: usize| {
        let label = classes.integer(row).ok_or_else(|| {
            let found = &classes.kind;
            let what = format!("expected labels of type u1, i4 or i8, found {found:?}");
            DataError::format(path, what)
        })?;
        u64::try_from(label)
            .ok()
            .and_then(|label| schema.class(label))
            .ok_or_else(|| DataError::Label {
                path: path.to_owned(),
                row,
                found: label.to_string(),
                classes: schema.classes,
            })
    };
    (0..count).map(class).collect()
}

struct Npy {
    /// `u1`, `i4`, `i8`, `f4` or `f8`, little-endian.
    kind: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Npy {
    /// The numbers of `count` rows, normalised by the schema.
    fn normalised(
        &self,
        path: &Path,
        count: usize,
        schema: &Schema,
    ) -> Result<Vec<f32>, DataError> {
        let features = schema.features();
        let number = |index: usize| {
            let (row, feature) = (index / features, index % features);
            let value = self.number(index);
            let normalised = schema.normalise(feature, value);
            if normalised.is_finite() {
                return Ok(normalised);
            }
            let what =
                format!("row {row}, feature {feature}: expected a finite number, found {value}");
            Err(DataError::format(path, what))
        };
        (0..count * features).map(number).collect()
    }

    fn cell<const N: usize>(&self, index: usize) -> [u8; N] {
        self.bytes[index * N..(index + 1) * N]
            .try_into()
            .expect("the slice has N bytes")
    }

    fn integer(&self, index: usize) -> Option<i64> {
        match self.kind.as_str() {
            "u1" => Some(i64::from(self.bytes[index])),
            "i4" => Some(i64::from(i32::from_le_bytes(self.cell(index)))),
            "i8" => Some(i64::from_le_bytes(self.cell(index))),
            _ => None,
        }
    }

    fn number(&self, index: usize) -> f64 {
        match self.kind.as_str() {
            "f4" => f64::from(f32::from_le_bytes(self.cell(index))),
            "f8" => f64::from_le_bytes(self.cell(index)),
            _ => self
                .integer(index)
                .map_or(f64::NAN, |integer| integer as f64),
        }
    }
}

/// The NPY format, versions 1 and 2: magic, version, header length, a Python dictionary as text,
/// then the values.
fn read_npy(path: &Path) -> Result<Npy, DataError> {
    let failed = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let mut reader = content(path)?;
    let mut start = Vec::new();
    (&mut reader)
        .take(8)
        .read_to_end(&mut start)
        .map_err(failed)?;
    let wide = match start.as_slice() {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => false,
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2, _] => true,
        _ => {
            return Err(DataError::format(
                path,
                "expected an NPY file of version 1 or 2, found other first bytes",
            ));
        }
    };
    let mut length = [0; 4];
    reader
        .read_exact(&mut length[..if wide { 4 } else { 2 }])
        .map_err(failed)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > NPY_HEADER_MAX {
        return Err(DataError::format(
            path,
            format!("announces a header of {length} bytes, expected at most {NPY_HEADER_MAX}"),
        ));
    }
    let mut header = Vec::new();
    (&mut reader)
        .take(length as u64)
        .read_to_end(&mut header)
        .map_err(failed)?;
    let header = String::from_utf8_lossy(&header);
    let shown: String = header.trim().chars().take(HEADER_SHOWN).collect();
    let wrong = |what: &str| {
        DataError::format(path, format!("expected {what}, found the header {shown:?}"))
    };
    let entry = |key: &str| {
        header
            .split_once(&format!("'{key}':"))
            .map(|(_, rest)| rest.trim_start())
    };
    let kind = entry("descr")
        .and_then(|rest| rest.strip_prefix('\'')?.split_once('\''))
        .map(|(kind, _)| kind);
    let kind = match kind {
        Some("|u1") => "u1",
        Some("<i4") => "i4",
        Some("<i8") => "i8",
        Some("<f4") => "f4",
        Some("<f8") => "f8",
        _ => return Err(wrong("the type u1, i4, i8, f4 or f8, little-endian")),
    };
    if !entry("fortran_order").is_some_and(|rest| rest.starts_with("False")) {
        return Err(wrong("C order (numpy.ascontiguousarray)"));
    }
    let sides = entry("shape")
        .and_then(|rest| rest.strip_prefix('(')?.split_once(')'))
        .map(|(sides, _)| sides);
    let sides = sides.map(|sides| {
        sides
            .split(',')
            .map(str::trim)
            .filter(|side| !side.is_empty())
            .map(str::parse)
            .collect()
    });
    let Some(Ok(shape)) = sides else {
        return Err(wrong("a shape"));
    };
    let shape: Vec<usize> = shape;
    let size = u64::from(kind.as_bytes()[1] - b'0');
    let bytes = shape
        .iter()
        .try_fold(size, |product, side| product.checked_mul(*side as u64));
    let bytes = bytes
        .filter(|bytes| *bytes <= DATA_BYTES_MAX)
        .ok_or_else(|| wrong("at most 16 GiB"))?;
    let bytes = read_values(path, &mut reader, bytes, 1, None)?;
    Ok(Npy {
        kind: kind.to_owned(),
        shape,
        bytes,
    })
}
