//! Rows in memory: a [`Dataset`] is what a model trains on; a [`Source`] is what a file holds, before the schema is applied,
//! so that a part of it can be written as a file again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::schema::{Column, ColumnKind, Schema};
use crate::source::{DataError, write_csv, write_idx};

/// Cells of a table that mean "nothing was measured".
const MISSING: [&str; 3] = ["", "?", "NA"];

/// Rows of normalised features with their labels. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    features: usize,
    values: Values,
    labels: Arc<[u32]>,
}

#[derive(Clone, Debug)]
enum Values {
    /// As the file had them, a quarter of the memory; normalised when a batch is built.
    Bytes(Arc<Vec<u8>>, Arc<ByteScale>),
    Numbers(Arc<Vec<f32>>),
}

impl PartialEq for Values {
    fn eq(&self, other: &Values) -> bool {
        match (self, other) {
            (Values::Bytes(left, left_scale), Values::Bytes(right, right_scale)) => left == right && left_scale == right_scale,
            (Values::Numbers(left), Values::Numbers(right)) => left == right,
            _ => false,
        }
    }
}

/// The normalised value of every byte: one table, or one per feature.
#[derive(Debug, PartialEq)]
struct ByteScale {
    tables: Vec<[f32; 256]>,
}

impl ByteScale {
    fn new(schema: &Schema) -> ByteScale {
        let each = schema.mean.len().max(schema.deviation.len());
        let table = |index: usize| std::array::from_fn(|byte| schema.normalise(index, byte as f64));
        ByteScale { tables: (0..each).map(table).collect() }
    }
}

impl Dataset {
    pub(crate) fn from_bytes(pixels: Vec<u8>, labels: Vec<u32>, schema: &Schema) -> Dataset {
        let features = schema.features();
        assert_eq!(pixels.len(), labels.len() * features, "rows × features bytes");
        Dataset { features, values: Values::Bytes(Arc::new(pixels), Arc::new(ByteScale::new(schema))), labels: labels.into() }
    }

    pub(crate) fn from_numbers(numbers: Vec<f32>, labels: Vec<u32>, features: usize) -> Dataset {
        assert_eq!(numbers.len(), labels.len() * features, "rows × features numbers");
        Dataset { features, values: Values::Numbers(Arc::new(numbers)), labels: labels.into() }
    }

    /// The rows of images, normalised by the schema.
    ///
    /// # Errors
    /// When the images have another size than the schema's shape, or a label is not one of its classes.
    pub fn from_images(images: &Images, schema: &Schema) -> Result<Dataset, DataError> {
        let labels = images.classes(schema)?;
        Ok(Dataset::from_bytes(images.pixels.clone(), labels, schema))
    }

    /// The rows of a table, read as the schema says.
    ///
    /// # Errors
    /// The first cell that the schema does not allow, with its line and column.
    pub fn from_table(table: &RawTable, schema: &Schema) -> Result<Dataset, DataError> {
        let encoder = RowEncoder::new(&table.name, &table.header, schema)?;
        let mut numbers = Vec::with_capacity(table.rows.len() * schema.features());
        let labels: Result<Vec<u32>, DataError> = table.rows.iter().map(|row| encoder.encode(row, &mut numbers)).collect();
        Ok(Dataset::from_numbers(numbers, labels?, schema.features()))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of features of a row.
    pub fn features(&self) -> usize {
        self.features
    }

    /// The class of each row.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Rows of each class.
    pub fn class_counts(&self, classes: usize) -> Vec<u64> {
        class_counts(&self.labels, classes)
    }

    /// Bytes the rows take in memory.
    pub fn memory_bytes(&self) -> usize {
        let values = match &self.values {
            Values::Bytes(bytes, _) => bytes.len(),
            Values::Numbers(numbers) => numbers.len() * 4,
        };
        values + self.labels.len() * 4
    }

    /// The rows at these positions, in this order; a position may occur more than once.
    ///
    /// # Panics
    /// When a position is beyond the last row.
    pub fn select(&self, rows: &[usize]) -> Dataset {
        let values = match &self.values {
            Values::Bytes(bytes, scale) => Values::Bytes(Arc::new(gather(bytes, rows, self.features)), scale.clone()),
            Values::Numbers(numbers) => Values::Numbers(Arc::new(gather(numbers, rows, self.features))),
        };
        Dataset { features: self.features, values, labels: rows.iter().map(|row| self.labels[*row]).collect() }
    }

    /// All rows of `parts`, one part after the other.
    ///
    /// # Panics
    /// When there is no part, or the parts have different numbers of features.
    pub fn concat(parts: &[Dataset]) -> Dataset {
        let first = parts.first().expect("concat needs a part");
        assert!(parts.iter().all(|part| part.features == first.features), "parts of one schema have equal features");
        let labels = parts.iter().flat_map(|part| part.labels.iter().copied()).collect();
        let mut bytes = Vec::new();
        for part in parts {
            match (&part.values, &first.values) {
                (Values::Bytes(values, scale), Values::Bytes(_, first_scale)) if scale == first_scale => {
                    bytes.extend_from_slice(values)
                }
                _ => {
                    let mut numbers = Vec::new();
                    parts.iter().for_each(|part| (0..part.len()).for_each(|row| part.write_row(row, &mut numbers)));
                    return Dataset { features: first.features, values: Values::Numbers(Arc::new(numbers)), labels };
                }
            }
        }
        let Values::Bytes(_, scale) = &first.values else { return Dataset { labels, ..first.clone() } };
        Dataset { features: first.features, values: Values::Bytes(Arc::new(bytes), scale.clone()), labels }
    }

    /// The normalised features of a row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.features);
        self.write_row(row, &mut values);
        values
    }

    /// Appends the normalised features of a row.
    pub(crate) fn write_row(&self, row: usize, out: &mut Vec<f32>) {
        let range = row * self.features..(row + 1) * self.features;
        match &self.values {
            Values::Numbers(numbers) => out.extend_from_slice(&numbers[range]),
            Values::Bytes(bytes, scale) => match scale.tables.as_slice() {
                [table] => out.extend(bytes[range].iter().map(|byte| table[usize::from(*byte)])),
                tables => out.extend(bytes[range].iter().zip(tables).map(|(byte, table)| table[usize::from(*byte)])),
            },
        }
    }
}

fn gather<T: Copy>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
    rows.iter().flat_map(|row| values[row * width..(row + 1) * width].iter().copied()).collect()
}

pub(crate) fn class_counts(labels: &[u32], classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    labels.iter().for_each(|label| counts[*label as usize] += 1);
    counts
}

/// Grey images of one size with their labels, as an IDX pair holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pub(crate) name: PathBuf,
    /// Rows of pixels in an image.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Image after image, row after row.
    pub pixels: Vec<u8>,
    /// One label per image.
    pub labels: Vec<u8>,
}

impl Images {
    /// Images from bytes; `name` is what errors call them.
    ///
    /// # Errors
    /// When there are not `labels × height × width` pixels.
    pub fn new(name: &str, height: usize, width: usize, pixels: Vec<u8>, labels: Vec<u8>) -> Result<Images, DataError> {
        let images = Images { name: name.into(), height, width, pixels, labels };
        let expected = images.labels.len() * height * width;
        if images.pixels.len() != expected {
            let (expected, found) = (expected as u64, images.pixels.len() as u64);
            return Err(DataError::Length { path: images.name, expected, found });
        }
        Ok(images)
    }

    fn classes(&self, schema: &Schema) -> Result<Vec<u32>, DataError> {
        if self.height * self.width != schema.features() {
            let found = format!("images of {}×{} pixels", self.height, self.width);
            return Err(DataError::Shape { path: self.name.clone(), expected: schema.shape.clone(), found });
        }
        let class = |(row, label): (usize, &u8)| {
            schema.class(u64::from(*label)).ok_or_else(|| DataError::Label {
                path: self.name.clone(),
                row,
                found: label.to_string(),
                classes: schema.classes,
            })
        };
        self.labels.iter().enumerate().map(class).collect()
    }

    fn select(&self, rows: &[usize]) -> Images {
        Images {
            name: self.name.clone(),
            height: self.height,
            width: self.width,
            pixels: gather(&self.pixels, rows, self.height * self.width),
            labels: rows.iter().map(|row| self.labels[*row]).collect(),
        }
    }
}

/// A table as its file wrote it: missing values and spelling survive.
#[derive(Clone, Debug, PartialEq)]
pub struct RawTable {
    pub(crate) name: PathBuf,
    pub(crate) header: csv::StringRecord,
    pub(crate) rows: Vec<csv::StringRecord>,
}

impl RawTable {
    /// The names of the columns.
    pub fn header(&self) -> impl Iterator<Item = &str> {
        self.header.iter()
    }

    /// Number of rows, the header not counted.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The cells of a column, from the first row on; `None` where there is no such column.
    pub fn column(&self, name: &str) -> Option<impl Iterator<Item = &str>> {
        let index = self.header.iter().position(|column| column == name)?;
        Some(self.rows.iter().map(move |row| &row[index]))
    }

    /// The rows at these positions, in this order.
    pub fn select(&self, rows: &[usize]) -> RawTable {
        let rows = rows.iter().map(|row| self.rows[*row].clone()).collect();
        RawTable { name: self.name.clone(), header: self.header.clone(), rows }
    }

    /// Missing cells of each column that the schema reads, as (column, cells), the ones without any left out.
    pub fn missing(&self, schema: &Schema) -> Vec<(String, usize)> {
        let count = |column: &Column| {
            let cells = self.column(&column.name)?;
            let missing = cells.filter(|cell| is_missing(cell, &column.kind)).count();
            (missing > 0).then(|| (column.name.clone(), missing))
        };
        schema.columns.iter().filter_map(count).collect()
    }
}

fn is_missing(cell: &str, kind: &ColumnKind) -> bool {
    match kind {
        ColumnKind::Category { values } => MISSING.contains(&cell) && !values.iter().any(|value| value == cell),
        ColumnKind::Number { missing, .. } => {
            MISSING.contains(&cell) || cell.parse::<f64>().is_ok_and(|number| missing.contains(&number))
        }
    }
}

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
            Source::Table(table) => {
                let encoder = RowEncoder::new(&table.name, &table.header, schema)?;
                table.rows.iter().map(|row| encoder.label(row)).collect()
            }
        }
    }

    /// The rows at these positions, in this order.
    pub fn select(&self, rows: &[usize]) -> Source {
        match self {
            Source::Table(table) => Source::Table(table.select(rows)),
            Source::Images(images) => Source::Images(images.select(rows)),
        }
    }

    /// Writes the rows into `directory` as files that [`crate::source::open`] reads: a table as `<stem>.csv`, images as
    /// `<stem>-images-idx3-ubyte` with `<stem>-labels-idx1-ubyte`. Returns the path to open.
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
                write_idx(&path, &directory.join(format!("{stem}-labels-idx1-ubyte")), images)?;
                Ok(path)
            }
        }
    }
}

/// Turns the cells of a row into features and a class.
pub(crate) struct RowEncoder<'a> {
    path: &'a Path,
    header: &'a csv::StringRecord,
    schema: &'a Schema,
    label: usize,
    /// Positions in the file: of `schema.columns`, or of every column but the label.
    positions: Vec<usize>,
}

impl<'a> RowEncoder<'a> {
    pub(crate) fn new(path: &'a Path, header: &'a csv::StringRecord, schema: &'a Schema) -> Result<RowEncoder<'a>, DataError> {
        let position = |name: &str| {
            let mut places = header.iter().enumerate().filter(|(_, column)| *column == name).map(|(place, _)| place);
            match (places.next(), places.next()) {
                (Some(place), None) => Ok(place),
                (found, _) => Err(DataError::Column {
                    path: path.to_owned(),
                    column: name.to_owned(),
                    times: if found.is_some() { "more than once" } else { "not at all" },
                    header: header.iter().collect::<Vec<_>>().join(", "),
                }),
            }
        };
        let label = position(&schema.label)?;
        let positions: Vec<usize> = if schema.columns.is_empty() {
            (0..header.len()).filter(|place| *place != label).collect()
        } else {
            schema.columns.iter().map(|column| position(&column.name)).collect::<Result<_, _>>()?
        };
        if schema.columns.is_empty() && positions.len() != schema.features() {
            let found = format!("{} columns besides {:?}", positions.len(), schema.label);
            return Err(DataError::Shape { path: path.to_owned(), expected: schema.shape.clone(), found });
        }
        Ok(RowEncoder { path, header, schema, label, positions })
    }

    /// Appends the features of `row` and returns its class.
    pub(crate) fn encode(&self, row: &csv::StringRecord, out: &mut Vec<f32>) -> Result<u32, DataError> {
        for (index, place) in self.positions.iter().enumerate() {
            let cell = &row[*place];
            match self.schema.columns.get(index).map(|column| &column.kind) {
                None => {
                    let number = finite(cell).ok_or_else(|| self.refuse(row, *place, "a finite number"))?;
                    out.push(self.schema.normalise(index, number));
                }
                Some(kind @ ColumnKind::Number { mean, deviation, impute, .. }) => {
                    let number = if is_missing(cell, kind) {
                        impute.ok_or_else(|| self.refuse(row, *place, "a number (the schema has no `impute` for this column)"))?
                    } else {
                        finite(cell).ok_or_else(|| self.refuse(row, *place, "a finite number"))?
                    };
                    out.push(((number - mean) / deviation) as f32);
                }
                Some(kind @ ColumnKind::Category { values }) => {
                    if !is_missing(cell, kind) && !values.iter().any(|value| value == cell) {
                        return Err(self.refuse(row, *place, &format!("one of {}", values.join(", "))));
                    }
                    out.extend(values.iter().map(|value| f32::from(u8::from(value == cell))));
                }
            }
        }
        self.label(row)
    }

    pub(crate) fn label(&self, row: &csv::StringRecord) -> Result<u32, DataError> {
        let cell = &row[self.label];
        let names = &self.schema.class_names;
        if !names.is_empty() {
            let class = names.iter().position(|name| name == cell);
            return class
                .map(|class| class as u32)
                .ok_or_else(|| self.refuse(row, self.label, &format!("one of {}", names.join(", "))));
        }
        // Spreadsheets and data frames with gaps write integers as 3.0.
        let whole = finite(cell).filter(|number| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number));
        whole.and_then(|number| self.schema.class(number as u64)).ok_or_else(|| {
            let expected = if self.schema.label_clamp {
                "an integer from 0".to_owned()
            } else {
                format!("an integer from 0 to {}", self.schema.classes - 1)
            };
            self.refuse(row, self.label, &expected)
        })
    }

    fn refuse(&self, row: &csv::StringRecord, place: usize, expected: &str) -> DataError {
        DataError::Cell {
            path: self.path.to_owned(),
            line: row.position().map_or(0, csv::Position::line),
            column: self.header[place].to_owned(),
            // A cell is private data: enough to find it, never a whole document in a log.
            value: row[place].chars().take(32).collect(),
            expected: expected.to_owned(),
        }
    }
}

fn finite(cell: &str) -> Option<f64> {
    cell.parse::<f64>().ok().filter(|number| number.is_finite() && (*number as f32).is_finite())
}
