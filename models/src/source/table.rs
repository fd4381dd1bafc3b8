//! Tables: CSV with a header. Its columns are found by their names.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use kith_consensus::Digest;

use super::error::{DataError, TEXT_MAX, clip, listed};
use super::images::Images;
use super::quotes::Quotes;
use super::reading::{Labels, PLACEHOLDER, Reading, content, unpacked};
use crate::data::Dataset;
use crate::schema::{ColumnKind, Schema};

/// Cells of a named column that mean "nothing was measured", in every schema; `data.missing` adds to
/// them.
pub const MISSING: [&str; 3] = ["", "?", "NA"];
/// Most similar names shown for one that is missing.
const NEAR_MAX: usize = 3;
/// Most letters by which a near name differs, upper and lower case aside.
const NEAR_DISTANCE: usize = 2;

fn csv_reader<R: Read>(reader: R, headers: bool) -> csv::Reader<Quotes<R>> {
    // `flexible`: rows of the wrong length pass the reader, and are refused here with line and both
    // lengths.
    let builder = &mut csv::ReaderBuilder::new();
    builder
        .has_headers(headers)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(Quotes::new(reader))
}

fn csv_error(path: &Path, error: csv::Error) -> DataError {
    let place = error.position().map_or(String::new(), |position| {
        format!("line {}: ", position.line())
    });
    match error.into_kind() {
        csv::ErrorKind::Io(source) => DataError::Io {
            path: path.to_owned(),
            source,
        },
        csv::ErrorKind::Utf8 { .. } => {
            DataError::format(path, format!("{place}this is not UTF-8 text"))
        }
        _ => DataError::format(path, format!("{place}this is not CSV")),
    }
}

fn csv_header<R: Read>(
    path: &Path,
    reader: &mut csv::Reader<Quotes<R>>,
) -> Result<csv::StringRecord, DataError> {
    let mut header = reader
        .headers()
        .map_err(|error| csv_error(path, error))?
        .clone();
    // Spreadsheets put a byte order mark before the first name.
    if let Some(first) = header
        .get(0)
        .and_then(|first| first.strip_prefix('\u{feff}'))
    {
        header = std::iter::once(first)
            .chain(header.iter().skip(1))
            .collect();
    }
    Ok(header)
}

/// Reads the next row into `row` and checks it; `false` after the last.
fn next_row<R: Read>(
    path: &Path,
    reader: &mut csv::Reader<Quotes<R>>,
    header: &csv::StringRecord,
    row: &mut csv::StringRecord,
) -> Result<bool, DataError> {
    if !reader
        .read_record(row)
        .map_err(|error| csv_error(path, error))?
    {
        return Ok(false);
    }
    if let Some(line) = reader.get_ref().open_at_end() {
        return Err(DataError::OpenQuote {
            path: path.to_owned(),
            line,
        });
    }
    let line = row.position().map_or(0, csv::Position::line);
    if row.len() != header.len() {
        return Err(DataError::Cells {
            path: path.to_owned(),
            line,
            expected: header.len(),
            found: row.len(),
        });
    }
    match row
        .iter()
        .enumerate()
        .find_map(|(place, cell)| Some((place, rows_in_cell(cell, place, row.len())?)))
    {
        Some((place, lines)) => Err(DataError::RowsInCell {
            path: path.to_owned(),
            line,
            column: clip(header.get(place).unwrap_or("")),
            lines,
        }),
        None => Ok(true),
    }
}

/// Lines of a cell at `place` of `columns` that seem to be rows: the first has the separators of
/// the cells after it, the last of the cells before it, and all others those of a whole row. So a
/// text of two lines is not one, unless it has as many commas.
fn rows_in_cell(cell: &str, place: usize, columns: usize) -> Option<usize> {
    if !cell.contains(['\n', '\r']) {
        return None;
    }
    let separators: Vec<usize> = cell.lines().map(|line| line.matches(',').count()).collect();
    let [first, middle @ .., last] = separators.as_slice() else {
        return None;
    };
    let rows = *first >= columns - 1 - place
        && *last >= place
        && middle.iter().all(|count| *count >= columns - 1);
    rows.then_some(separators.len())
}

pub(super) fn read_csv(
    path: &Path,
    schema: &Schema,
    columns: &[String],
    wanted: Labels,
) -> Result<(Dataset, Reading), DataError> {
    let mut reader = csv_reader(content(path)?, true);
    let header = csv_header(path, &mut reader)?;
    let mut encoder = RowEncoder::new(path, &header, schema, columns, wanted)?;
    let mut row = csv::StringRecord::new();
    let (mut numbers, mut labels, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    let mut groups = encoder.no_groups();
    while next_row(path, &mut reader, &header, &mut row)? {
        labels.push(encoder.encode(&row, &mut numbers)?);
        encoder.group(&row, &mut groups)?;
        lines.push(row.position().map_or(0, csv::Position::line));
    }
    if labels.is_empty() {
        return Err(DataError::format(path, "the table has a header and no row"));
    }
    let reading = Reading {
        lines,
        ..encoder.reading()
    };
    Ok((
        Dataset::from_numbers(numbers, labels, schema.features()).grouped(groups),
        reading,
    ))
}

/// A table as its file wrote it: missing values and spelling survive.
#[derive(Clone, Debug, PartialEq)]
pub struct RawTable {
    name: PathBuf,
    header: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

impl RawTable {
    /// Reads CSV text with a header, gzip or not; `name` is what errors call it.
    ///
    /// # Errors
    /// When it is not CSV, or a row has another number of cells than the header.
    pub fn read(name: &Path, reader: impl BufRead) -> Result<RawTable, DataError> {
        let reader = unpacked(reader).map_err(|source| DataError::Io {
            path: name.to_owned(),
            source,
        })?;
        let mut reader = csv_reader(reader, true);
        let header = csv_header(name, &mut reader)?;
        let (mut rows, mut row) = (Vec::new(), csv::StringRecord::new());
        while next_row(name, &mut reader, &header, &mut row)? {
            rows.push(row.clone());
        }
        Ok(RawTable {
            name: name.to_owned(),
            header,
            rows,
        })
    }

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

    /// The cells of a column, from the first row on; `None` if there is no such column.
    pub fn column(&self, name: &str) -> Option<impl Iterator<Item = &str>> {
        let index = self.header.iter().position(|column| column == name)?;
        Some(self.rows.iter().map(move |row| &row[index]))
    }

    /// The rows at these positions, in this order.
    pub fn select(&self, rows: &[usize]) -> RawTable {
        let rows = rows.iter().map(|row| self.rows[*row].clone()).collect();
        RawTable {
            name: self.name.clone(),
            header: self.header.clone(),
            rows,
        }
    }

    /// The class of each row.
    pub(super) fn classes(&self, schema: &Schema) -> Result<Vec<u32>, DataError> {
        let encoder = RowEncoder::new(&self.name, &self.header, schema, &[], Labels::Needed)?;
        self.rows.iter().map(|row| encoder.label(row)).collect()
    }

    /// Writes the table as it was read.
    pub(super) fn write(&self, path: &Path) -> Result<(), DataError> {
        let records = std::iter::once(&self.header).chain(&self.rows);
        write_records(path, records)
    }
}

impl Dataset {
    /// The rows of a table, read as the schema says.
    ///
    /// # Errors
    /// The first cell that the schema does not allow, with its line and column.
    pub fn from_table(table: &RawTable, schema: &Schema) -> Result<Dataset, DataError> {
        let mut encoder = RowEncoder::new(&table.name, &table.header, schema, &[], Labels::Needed)?;
        let mut numbers = Vec::with_capacity(table.rows.len() * schema.features());
        let mut groups = encoder.no_groups();
        let mut labels = Vec::with_capacity(table.rows.len());
        for row in &table.rows {
            labels.push(encoder.encode(row, &mut numbers)?);
            encoder.group(row, &mut groups)?;
        }
        Ok(Dataset::from_numbers(numbers, labels, schema.features()).grouped(groups))
    }
}

/// Reads rows of small integers, the last one a label, without a header: the format of the shipped
/// digits.
pub(crate) fn images_from_csv(
    name: &str,
    bytes: &[u8],
    height: usize,
    width: usize,
) -> Result<Images, DataError> {
    let path = Path::new(name);
    let reader = unpacked(bytes).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for row in csv_reader(reader, false).into_records() {
        let row = row.map_err(|error| csv_error(path, error))?;
        if row.len() != height * width + 1 {
            let line = row.position().map_or(0, csv::Position::line);
            return Err(DataError::Cells {
                path: path.to_owned(),
                line,
                expected: height * width + 1,
                found: row.len(),
            });
        }
        let values: Result<Vec<u8>, _> = row.iter().map(str::parse).collect();
        let values =
            values.map_err(|_| DataError::format(path, "expected integers from 0 to 255"))?;
        let (label, image) = values
            .split_last()
            .expect("a row has height × width + 1 cells");
        pixels.extend_from_slice(image);
        labels.push(*label);
    }
    Images::new(name, height, width, pixels, labels)
}

/// Writes images as columns `p0`, `p1`, … and `label`.
pub(super) fn write_images(path: &Path, images: &Images, label: &str) -> Result<(), DataError> {
    let size = images.height * images.width;
    let names = (0..size).map(|pixel| format!("p{pixel}"));
    let header: Vec<String> = names.chain([label.to_owned()]).collect();
    let rows = images.pixels.chunks(size).zip(&images.labels);
    let record = |(image, label): (&[u8], &u8)| -> Vec<String> {
        image.iter().chain([label]).map(u8::to_string).collect()
    };
    write_records(path, std::iter::once(header).chain(rows.map(record)))
}

fn write_records<R>(path: &Path, records: impl Iterator<Item = R>) -> Result<(), DataError>
where
    R: IntoIterator<Item: AsRef<[u8]>>,
{
    let failed = |error| csv_error(path, error);
    let mut writer = csv::Writer::from_path(path).map_err(failed)?;
    for record in records {
        writer.write_record(record).map_err(failed)?;
    }
    writer.flush().map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Turns the cells of a row into features and a class.
struct RowEncoder<'a> {
    path: &'a Path,
    header: &'a csv::StringRecord,
    schema: &'a Schema,
    /// Position of the label's column; `None` if rows need none and the table has none.
    label: Option<usize>,
    wanted: Labels,
    /// Where the file says which rows belong together, if the schema asks for that.
    group: Option<usize>,
    /// Positions in the file: of `schema.columns`, or of every column but label and group.
    positions: Vec<usize>,
    /// Missing cells so far, for each of `positions`.
    missing: Vec<usize>,
}

impl<'a> RowEncoder<'a> {
    /// For a schema without named columns `columns` are the features' names in their order; none:
    /// the header's order.
    fn new(
        path: &'a Path,
        header: &'a csv::StringRecord,
        schema: &'a Schema,
        columns: &[String],
        wanted: Labels,
    ) -> Result<RowEncoder<'a>, DataError> {
        let has_label = header.iter().any(|name| name == schema.label);
        let label = match wanted {
            Labels::Ignored if !has_label => None,
            _ => Some(place_of(path, header, &schema.label)?),
        };
        let by_name = |names: &mut dyn Iterator<Item = &str>| {
            names
                .map(|name| place_of(path, header, name))
                .collect::<Result<Vec<_>, _>>()
        };
        let group = group_of(path, header, schema, wanted)?;
        let others = || (0..header.len()).filter(|place| ![label, group].contains(&Some(*place)));
        let positions: Vec<usize> = if !schema.columns.is_empty() {
            by_name(&mut schema.columns.iter().map(|column| column.name.as_str()))?
        } else if columns.is_empty() || others().map(|place| &header[place]).eq(columns) {
            others().collect()
        } else {
            by_name(&mut columns.iter().map(String::as_str))?
        };
        let count = others().count();
        if schema.columns.is_empty() && count != schema.features() {
            let besides = schema
                .group
                .iter()
                .map(|group| format!(" and {:?}", group.column));
            let besides: String = besides.collect();
            let found = format!("{count} columns besides {:?}{besides}", schema.label);
            return Err(DataError::Shape {
                path: path.to_owned(),
                expected: schema.shape.clone(),
                found,
            });
        }
        let missing = vec![0; positions.len()];
        Ok(RowEncoder {
            path,
            header,
            schema,
            label,
            wanted,
            group,
            positions,
            missing,
        })
    }

    /// What the rows encoded so far showed.
    fn reading(&self) -> Reading {
        let name = |place: usize| self.header[place].to_owned();
        let named = !self.schema.columns.is_empty();
        let read = |place: &usize| {
            [self.label, self.group].contains(&Some(*place)) || self.positions.contains(place)
        };
        let missing = self
            .positions
            .iter()
            .zip(&self.missing)
            .filter(|(_, cells)| **cells > 0);
        Reading {
            columns: if named {
                Vec::new()
            } else {
                self.positions.iter().map(|place| name(*place)).collect()
            },
            unused: if named {
                (0..self.header.len())
                    .filter(|place| !read(place))
                    .map(name)
                    .collect()
            } else {
                Vec::new()
            },
            missing: missing
                .map(|(place, cells)| (name(*place), *cells))
                .collect(),
            ..Reading::default()
        }
    }

    /// Appends the features of `row` and returns its class.
    fn encode(&mut self, row: &csv::StringRecord, out: &mut Vec<f32>) -> Result<u32, DataError> {
        for (index, place) in self.positions.iter().enumerate() {
            let cell = &row[*place];
            let kind = self.schema.columns.get(index).map(|column| &column.kind);
            let is_missing = kind.is_some_and(|kind| is_missing(cell, kind, self.schema));
            self.missing[index] += usize::from(is_missing);
            match kind {
                None => {
                    let number =
                        finite(cell).ok_or_else(|| self.refuse(row, *place, "a finite number"))?;
                    out.push(self.schema.normalise(index, number));
                }
                Some(ColumnKind::Number {
                    mean,
                    deviation,
                    impute,
                    ..
                }) => {
                    let number = if is_missing {
                        impute.ok_or_else(|| {
                            self.refuse(
                                row,
                                *place,
                                "a number (the schema has no `impute` for this column)",
                            )
                        })?
                    } else {
                        finite(cell).ok_or_else(|| self.refuse(row, *place, "a finite number"))?
                    };
                    out.push(((number - mean) / deviation) as f32);
                }
                Some(ColumnKind::Category { values }) => {
                    if !is_missing && !values.iter().any(|value| value == cell) {
                        return Err(self.refuse(
                            row,
                            *place,
                            &format!("one of {}", listed(values)),
                        ));
                    }
                    out.extend(
                        values
                            .iter()
                            .map(|value| f32::from(u8::from(value == cell))),
                    );
                }
            }
        }
        self.label(row)
    }

    /// Where the groups of rows go, if they are told: rows without labels need none.
    fn no_groups(&self) -> Option<Vec<u64>> {
        (self.wanted == Labels::Needed && self.group.is_some()).then(Vec::new)
    }

    /// Appends the number of the row's group, if groups are asked for: the start of its text's hash.
    fn group(
        &self,
        row: &csv::StringRecord,
        groups: &mut Option<Vec<u64>>,
    ) -> Result<(), DataError> {
        let (Some(place), Some(groups)) = (self.group, groups) else {
            return Ok(());
        };
        let cell = row[place].trim();
        if cell.is_empty() {
            return Err(self.refuse(row, place, "a value, since each row belongs to somebody"));
        }
        let hash = Digest::of(cell.as_bytes()).0;
        let (start, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        groups.push(u64::from_le_bytes(*start));
        Ok(())
    }

    /// The class of `row`; [`PLACEHOLDER`] if labels are ignored.
    fn label(&self, row: &csv::StringRecord) -> Result<u32, DataError> {
        let (Some(place), Labels::Needed) = (self.label, self.wanted) else {
            return Ok(PLACEHOLDER);
        };
        let cell = &row[place];
        let names = &self.schema.class_names;
        if !names.is_empty() {
            let class = names.iter().position(|name| name == cell);
            return class
                .map(|class| class as u32)
                .ok_or_else(|| self.refuse(row, place, &format!("one of {}", listed(names))));
        }
        // Spreadsheets and data frames with gaps write integers as 3.0.
        let whole = finite(cell)
            .filter(|number| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number));
        whole
            .and_then(|number| self.schema.class(number as u64))
            .ok_or_else(|| {
                let expected = if self.schema.label_clamp {
                    "an integer from 0".to_owned()
                } else {
                    format!("an integer from 0 to {}", self.schema.classes - 1)
                };
                self.refuse(row, place, &expected)
            })
    }

    fn refuse(&self, row: &csv::StringRecord, place: usize, expected: &str) -> DataError {
        DataError::Cell {
            path: self.path.to_owned(),
            line: row.position().map_or(0, csv::Position::line),
            column: clip(&self.header[place]),
            // A cell is private data: shown only as far as needed to find it, never a whole
            // document in a log.
            value: row[place].chars().take(32).collect(),
            expected: expected.to_owned(),
        }
    }
}

fn finite(cell: &str) -> Option<f64> {
    cell.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && (*number as f32).is_finite())
}

fn is_missing(cell: &str, kind: &ColumnKind, schema: &Schema) -> bool {
    let named = MISSING.contains(&cell) || schema.missing.iter().any(|text| text == cell);
    match kind {
        ColumnKind::Category { values } => named && !values.iter().any(|value| value == cell),
        ColumnKind::Number { missing, .. } => {
            named
                || cell
                    .parse::<f64>()
                    .is_ok_and(|number| missing.contains(&number))
        }
    }
}

/// Where a table says which rows belong together. Rows without labels may lack it.
fn group_of(
    path: &Path,
    header: &csv::StringRecord,
    schema: &Schema,
    wanted: Labels,
) -> Result<Option<usize>, DataError> {
    let Some(group) = &schema.group else {
        return Ok(None);
    };
    match wanted {
        Labels::Needed => place_of(path, header, &group.column).map(Some),
        Labels::Ignored => Ok(header.iter().position(|name| name == group.column)),
    }
}

/// The one place of this name in a header.
fn place_of(path: &Path, header: &csv::StringRecord, name: &str) -> Result<usize, DataError> {
    let mut places = header
        .iter()
        .enumerate()
        .filter(|(_, column)| *column == name)
        .map(|(place, _)| place);
    let (found, again) = (places.next(), places.next());
    if let (Some(place), None) = (found, again) {
        return Ok(place);
    }
    let near = if found.is_none() {
        near(name, header)
    } else {
        Vec::new()
    };
    Err(DataError::Column {
        path: path.to_owned(),
        column: clip(name),
        times: if found.is_some() {
            "more than once"
        } else {
            "not at all"
        },
        near: if near.is_empty() {
            String::new()
        } else {
            format!(" (near it: {})", near.join(", "))
        },
        header: listed(&header.iter().collect::<Vec<_>>()),
    })
}

/// The names most like this one, quoted.
fn near(name: &str, header: &csv::StringRecord) -> Vec<String> {
    let plain = |text: &str| {
        text.chars()
            .take(TEXT_MAX)
            .collect::<String>()
            .to_lowercase()
    };
    let wanted = plain(name);
    let distances = header
        .iter()
        .map(|column| (strsim::osa_distance(&wanted, &plain(column)), column));
    let mut near: Vec<(usize, &str)> = distances
        .filter(|(distance, _)| *distance <= NEAR_DISTANCE)
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.iter()
        .take(NEAR_MAX)
        .map(|(_, column)| format!("{:?}", clip(column)))
        .collect()
}
