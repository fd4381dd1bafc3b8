//! A peer's own files: CSV, IDX and NPY, gzip recognised by its first bytes; and the writers of CSV and IDX.
//!
//! A file may be anything, so sizes are checked before memory is taken, and what is wrong is told with file, line, column
//! and value. Nothing here downloads.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::data::{Dataset, Images, RawTable, RowEncoder, Source};
use crate::schema::Schema;

/// Most bytes of pixels or numbers read from one file (16 GiB): what a lying header or a gzip bomb can make a peer read.
const DATA_BYTES_MAX: u64 = 1 << 34;
/// Longest header of an NPY file; a description of one array takes about 128 bytes.
const NPY_HEADER_MAX: usize = 64 * 1024;
const IDX_IMAGES: u32 = 0x0000_0803;
const IDX_LABELS: u32 = 0x0000_0801;

/// A file that cannot be read as the schema says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
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
    /// A column of the schema that the header names not once.
    #[error("{}: expected the column {column:?} once, found it {times}; the header is: {header}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The schema's column.
        column: String,
        /// How often it was found.
        times: &'static str,
        /// The file's header.
        header: String,
    },
    /// Rows of another size than the schema's.
    #[error("{}: expected rows of shape {expected:?} (data.shape), found {found}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The schema's shape.
        expected: Vec<usize>,
        /// What the file has.
        found: String,
    },
    /// A label that is no class.
    #[error("{}: row {row} has label {found}, expected an integer from 0 to {}", path.display(), classes - 1)]
    Label {
        /// The file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// The label.
        found: String,
        /// The schema's classes.
        classes: usize,
    },
    /// The first bytes are not those of the format.
    #[error("{}: expected the magic number {expected:#010x}, found {found:#010x}; is this another kind of file?", path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// The format's.
        expected: u32,
        /// The file's.
        found: u32,
    },
    /// More or fewer bytes or values than announced.
    #[error("{}: expected {expected} bytes of values as announced, found {found}; the file is truncated or damaged", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Announced.
        expected: u64,
        /// Present (counted up to one more than announced).
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
        DataError::Format { path: path.to_owned(), what: what.into() }
    }
}

/// Opens a peer's own file, by its name:
///
/// - `*.csv`, `*.csv.gz`: a table with a header and the schema's label column. With named columns in the schema other columns
///   are ignored; without, every column but the label is a feature.
/// - `*-images-idx3-ubyte`, with or without `.gz`: images, with their labels in `*-labels-idx1-ubyte` beside it.
/// - `*x.npy`: an array of rows, with the labels in `*y.npy` beside it. `u1`, `f4`, `f8`, C order; labels `u1`, `i4`, `i8`.
///
/// # Errors
/// What is wrong, with file, line, column and value where it has them.
pub fn open(path: &Path, schema: &Schema) -> Result<Dataset, DataError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    if plain.ends_with(".csv") {
        return read_csv(path, schema);
    }
    if let Some(stem) = plain.strip_suffix("-images-idx3-ubyte") {
        let labels = beside(path, &format!("{stem}-labels-idx1-ubyte"))?;
        return open_idx(path, &labels, schema);
    }
    if let Some(stem) = plain.strip_suffix("x.npy") {
        return open_npy(path, &beside(path, &format!("{stem}y.npy"))?, schema);
    }
    let known = "expected *.csv, *.csv.gz, *-images-idx3-ubyte[.gz] or *x.npy";
    Err(DataError::format(path, format!("the name does not tell the format; {known}")))
}

/// The file of this name, or of this name and `.gz`, in the folder of `path`.
fn beside(path: &Path, name: &str) -> Result<PathBuf, DataError> {
    let candidates = [path.with_file_name(name), path.with_file_name(format!("{name}.gz"))];
    let missing = || DataError::format(path, format!("the labels are missing: expected {name:?} beside it"));
    candidates.into_iter().find(|candidate| candidate.exists()).ok_or_else(missing)
}

/// A reader of the file's content, unpacked if its first bytes say gzip.
fn content(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    unpacked(BufReader::new(file)).map_err(|source| DataError::Io { path: path.to_owned(), source })
}

fn unpacked<'a>(mut reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let packed = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if packed { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) })
}

// ---- CSV

fn csv_reader<R: Read>(reader: R, headers: bool) -> csv::Reader<R> {
    // `flexible`: rows of the wrong length come through, and are refused here with line and both lengths.
    csv::ReaderBuilder::new().has_headers(headers).flexible(true).trim(csv::Trim::All).from_reader(reader)
}

fn csv_error(path: &Path, error: csv::Error) -> DataError {
    let place = error.position().map_or(String::new(), |position| format!("line {}: ", position.line()));
    match error.into_kind() {
        csv::ErrorKind::Io(source) => DataError::Io { path: path.to_owned(), source },
        csv::ErrorKind::Utf8 { .. } => DataError::format(path, format!("{place}this is not UTF-8 text")),
        _ => DataError::format(path, format!("{place}this is not CSV")),
    }
}

fn csv_header<R: Read>(path: &Path, reader: &mut csv::Reader<R>) -> Result<csv::StringRecord, DataError> {
    let mut header = reader.headers().map_err(|error| csv_error(path, error))?.clone();
    // Spreadsheets put a byte order mark before the first name.
    if let Some(first) = header.get(0).and_then(|first| first.strip_prefix('\u{feff}')) {
        header = std::iter::once(first).chain(header.iter().skip(1)).collect();
    }
    Ok(header)
}

fn check_cells(path: &Path, row: &csv::StringRecord, expected: usize) -> Result<(), DataError> {
    if row.len() == expected {
        return Ok(());
    }
    let line = row.position().map_or(0, csv::Position::line);
    Err(DataError::Cells { path: path.to_owned(), line, expected, found: row.len() })
}

fn read_csv(path: &Path, schema: &Schema) -> Result<Dataset, DataError> {
    let mut reader = csv_reader(content(path)?, true);
    let header = csv_header(path, &mut reader)?;
    let encoder = RowEncoder::new(path, &header, schema)?;
    let mut row = csv::StringRecord::new();
    let (mut numbers, mut labels) = (Vec::new(), Vec::new());
    while reader.read_record(&mut row).map_err(|error| csv_error(path, error))? {
        check_cells(path, &row, header.len())?;
        labels.push(encoder.encode(&row, &mut numbers)?);
    }
    if labels.is_empty() {
        return Err(DataError::format(path, "the table has a header and no row"));
    }
    Ok(Dataset::from_numbers(numbers, labels, schema.features()))
}

impl RawTable {
    /// Reads CSV text with a header, gzip or not; `name` is what errors call it.
    ///
    /// # Errors
    /// When it is not CSV, or a row has another number of cells than the header.
    pub fn read(name: &Path, reader: impl BufRead) -> Result<RawTable, DataError> {
        let reader = unpacked(reader).map_err(|source| DataError::Io { path: name.to_owned(), source })?;
        let mut reader = csv_reader(reader, true);
        let header = csv_header(name, &mut reader)?;
        let mut rows = Vec::new();
        for row in reader.into_records() {
            let row = row.map_err(|error| csv_error(name, error))?;
            check_cells(name, &row, header.len())?;
            rows.push(row);
        }
        Ok(RawTable { name: name.to_owned(), header, rows })
    }
}

/// Reads rows of small integers, the last one a label, without a header: the format of the shipped digits.
pub(crate) fn images_from_csv(name: &str, bytes: &[u8], height: usize, width: usize) -> Result<Images, DataError> {
    let path = Path::new(name);
    let reader = unpacked(bytes).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for row in csv_reader(reader, false).into_records() {
        let row = row.map_err(|error| csv_error(path, error))?;
        check_cells(path, &row, height * width + 1)?;
        let values: Result<Vec<u8>, _> = row.iter().map(str::parse).collect();
        let values = values.map_err(|_| DataError::format(path, "expected integers from 0 to 255"))?;
        let (label, image) = values.split_last().expect("a row has height × width + 1 cells");
        pixels.extend_from_slice(image);
        labels.push(*label);
    }
    Images::new(name, height, width, pixels, labels)
}

/// Writes rows as CSV with a header: a table as it was read; images as columns `p0`, `p1`, … and `label`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_csv(path: &Path, source: &Source, label: &str) -> Result<(), DataError> {
    let failed = |error| csv_error(path, error);
    let mut writer = csv::Writer::from_path(path).map_err(failed)?;
    match source {
        Source::Table(table) => {
            writer.write_record(&table.header).map_err(failed)?;
            for row in &table.rows {
                writer.write_record(row).map_err(failed)?;
            }
        }
        Source::Images(images) => {
            let size = images.height * images.width;
            let header = (0..size).map(|pixel| format!("p{pixel}")).chain([label.to_owned()]);
            writer.write_record(header).map_err(failed)?;
            for (image, label) in images.pixels.chunks(size).zip(&images.labels) {
                writer.write_record(image.iter().chain([label]).map(u8::to_string)).map_err(failed)?;
            }
        }
    }
    writer.flush().map_err(|source| DataError::Io { path: path.to_owned(), source })
}

// ---- IDX

/// Opens an IDX pair: images (magic 0x0803) and labels (0x0801), gzip or not.
///
/// # Errors
/// A wrong magic number, a wrong length, images of another size than the schema's, labels beyond its classes.
pub fn open_idx(images: &Path, labels: &Path, schema: &Schema) -> Result<Dataset, DataError> {
    open_idx_rows(images, labels, schema, None)
}

/// Opens only some rows of an IDX pair: `rows` are ascending positions, and only their pixels are kept in memory.
///
/// # Errors
/// As [`open_idx`]; and when a row is beyond the last or the order is not ascending.
pub fn open_idx_rows(images: &Path, labels: &Path, schema: &Schema, rows: Option<&[usize]>) -> Result<Dataset, DataError> {
    Dataset::from_images(&read_idx(images, labels, rows)?, schema)
}

/// Reads an IDX pair, or its rows at these ascending positions.
pub(crate) fn read_idx(images: &Path, labels: &Path, rows: Option<&[usize]>) -> Result<Images, DataError> {
    let mut reader = content(images)?;
    let [count, height, width] = idx_header(images, &mut reader, IDX_IMAGES)?;
    let size = u64::from(height) * u64::from(width);
    if size == 0 || count == 0 || size.saturating_mul(u64::from(count)) > DATA_BYTES_MAX {
        let what = format!("announces {count} images of {height}×{width} pixels; expected at least one and at most 16 GiB");
        return Err(DataError::format(images, what));
    }
    let pixels = read_values(images, &mut reader, u64::from(count), size, rows)?;
    let mut reader = content(labels)?;
    let [label_count] = idx_header(labels, &mut reader, IDX_LABELS)?;
    if label_count != count {
        let what = format!("announces {label_count} labels for the {count} images of {}", images.display());
        return Err(DataError::format(labels, what));
    }
    let labels = read_values(labels, &mut reader, u64::from(count), 1, rows)?;
    Ok(Images { name: images.to_owned(), height: height as usize, width: width as usize, pixels, labels })
}

fn idx_header<const N: usize>(path: &Path, reader: &mut dyn Read, magic: u32) -> Result<[u32; N], DataError> {
    let mut word = || {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes)).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => DataError::format(path, format!("expected an IDX header of {} bytes", 4 + 4 * N)),
            _ => DataError::Io { path: path.to_owned(), source },
        })
    };
    let found = word()?;
    if found != magic {
        return Err(DataError::Magic { path: path.to_owned(), expected: magic, found });
    }
    let mut sides = [0; N];
    for side in &mut sides {
        *side = word()?;
    }
    Ok(sides)
}

/// Reads `count` records of `size` bytes, or those at the ascending positions `rows`, and asserts that the file then ends.
/// Memory grows with what really comes, so a lying header takes none.
fn read_values(path: &Path, reader: &mut dyn Read, count: u64, size: u64, rows: Option<&[usize]>) -> Result<Vec<u8>, DataError> {
    let failed = |source| DataError::Io { path: path.to_owned(), source };
    let expected = count * size;
    let mut values = Vec::new();
    let mut found = 0;
    let mut next = 0;
    for row in rows.unwrap_or(&[]) {
        let row = *row as u64;
        if row < next || row >= count {
            return Err(DataError::format(path, format!("row {row} asked for, expected ascending rows below {count}")));
        }
        found += io::copy(&mut reader.take((row - next) * size), &mut io::sink()).map_err(failed)?;
        found += reader.take(size).read_to_end(&mut values).map_err(failed)? as u64;
        next = row + 1;
    }
    let rest = expected - next * size;
    found += match rows {
        Some(_) => io::copy(&mut reader.take(rest), &mut io::sink()).map_err(failed)?,
        None => reader.take(rest).read_to_end(&mut values).map_err(failed)? as u64,
    };
    found += reader.take(1).read_to_end(&mut Vec::new()).map_err(failed)? as u64;
    if found != expected {
        return Err(DataError::Length { path: path.to_owned(), expected, found });
    }
    Ok(values)
}

/// Writes images and labels as an IDX pair.
///
/// # Errors
/// When a file cannot be written.
pub fn write_idx(images_path: &Path, labels_path: &Path, images: &Images) -> Result<(), DataError> {
    let sides = [images.labels.len(), images.height, images.width];
    write_idx_file(images_path, IDX_IMAGES, &sides, &images.pixels)?;
    write_idx_file(labels_path, IDX_LABELS, &sides[..1], &images.labels)
}

fn write_idx_file(path: &Path, magic: u32, sides: &[usize], values: &[u8]) -> Result<(), DataError> {
    let write = || {
        let mut writer = BufWriter::new(File::create(path)?);
        writer.write_all(&magic.to_be_bytes())?;
        for side in sides {
            let side = u32::try_from(*side).map_err(|_| io::Error::other("IDX counts end at 2^32"))?;
            writer.write_all(&side.to_be_bytes())?;
        }
        writer.write_all(values)?;
        writer.flush()
    };
    write().map_err(|source| DataError::Io { path: path.to_owned(), source })
}

// ---- NPY

/// Opens a pair of NPY files: rows and labels.
///
/// # Errors
/// A header that is not NPY, an order or type that is not supported, a wrong length, values that are not finite.
pub fn open_npy(rows: &Path, labels: &Path, schema: &Schema) -> Result<Dataset, DataError> {
    let features = schema.features();
    let found = read_npy(rows)?;
    let size = found.shape.iter().skip(1).try_fold(1usize, |product, side| product.checked_mul(*side));
    if found.shape.len() < 2 || size != Some(features) {
        let shape = format!("an array of shape {:?}", found.shape);
        return Err(DataError::Shape { path: rows.to_owned(), expected: schema.shape.clone(), found: shape });
    }
    let count = found.shape[0];
    let classes = read_npy(labels)?;
    if classes.shape != [count] {
        return Err(DataError::format(labels, format!("expected shape [{count}] like the rows, found {:?}", classes.shape)));
    }
    if count == 0 {
        return Err(DataError::format(rows, "the array has no row"));
    }
    let wrong = |row, found: String| DataError::Label { path: labels.to_owned(), row, found, classes: schema.classes };
    let class = |row: usize| {
        let label = classes.integer(row).ok_or_else(|| {
            DataError::format(labels, format!("expected labels of type u1, i4 or i8, found {:?}", classes.kind))
        })?;
        u64::try_from(label).ok().and_then(|label| schema.class(label)).ok_or_else(|| wrong(row, label.to_string()))
    };
    let labels: Vec<u32> = (0..count).map(class).collect::<Result<_, _>>()?;
    if found.kind == "u1" {
        return Ok(Dataset::from_bytes(found.bytes, labels, schema));
    }
    let mut numbers = Vec::with_capacity(count * features);
    for index in 0..count * features {
        let value = found.number(index);
        let normalised = schema.normalise(index % features, value);
        if !normalised.is_finite() {
            let (row, feature) = (index / features, index % features);
            return Err(DataError::format(
                rows,
                format!("row {row}, feature {feature}: expected a finite number, found {value}"),
            ));
        }
        numbers.push(normalised);
    }
    Ok(Dataset::from_numbers(numbers, labels, features))
}

struct Npy {
    /// `u1`, `i4`, `i8`, `f4` or `f8`, little-endian.
    kind: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Npy {
    fn cell<const N: usize>(&self, index: usize) -> [u8; N] {
        self.bytes[index * N..(index + 1) * N].try_into().expect("the slice has N bytes")
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
            _ => self.integer(index).map_or(f64::NAN, |integer| integer as f64),
        }
    }
}

/// The NPY format, versions 1 and 2: magic, version, header length, a Python dictionary as text, then the values.
fn read_npy(path: &Path) -> Result<Npy, DataError> {
    let failed = |source| DataError::Io { path: path.to_owned(), source };
    let mut reader = content(path)?;
    let mut start = Vec::new();
    (&mut reader).take(8).read_to_end(&mut start).map_err(failed)?;
    let wide = match start.as_slice() {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => false,
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2, _] => true,
        _ => return Err(DataError::format(path, "expected an NPY file of version 1 or 2, found other first bytes")),
    };
    let mut length = [0; 4];
    reader.read_exact(&mut length[..if wide { 4 } else { 2 }]).map_err(failed)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > NPY_HEADER_MAX {
        return Err(DataError::format(path, format!("announces a header of {length} bytes, expected at most {NPY_HEADER_MAX}")));
    }
    let mut header = Vec::new();
    (&mut reader).take(length as u64).read_to_end(&mut header).map_err(failed)?;
    let header = String::from_utf8_lossy(&header);
    let wrong = |what: &str| DataError::format(path, format!("expected {what}, found the header {:?}", header.trim()));
    let entry = |key: &str| header.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let kind = entry("descr").and_then(|rest| rest.strip_prefix('\'')?.split_once('\'')).map(|(kind, _)| kind);
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
    let sides = entry("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(sides, _)| sides);
    let sides = sides.map(|sides| sides.split(',').map(str::trim).filter(|side| !side.is_empty()).map(str::parse).collect());
    let Some(Ok(shape)) = sides else { return Err(wrong("a shape")) };
    let shape: Vec<usize> = shape;
    let size = u64::from(kind.as_bytes()[1] - b'0');
    let bytes = shape.iter().try_fold(size, |product, side| product.checked_mul(*side as u64));
    let bytes = bytes.filter(|bytes| *bytes <= DATA_BYTES_MAX).ok_or_else(|| wrong("at most 16 GiB"))?;
    let bytes = read_values(path, &mut reader, bytes, 1, None)?;
    Ok(Npy { kind: kind.to_owned(), shape, bytes })
}
