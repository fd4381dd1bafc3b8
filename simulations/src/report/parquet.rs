//! A table once more as Parquet, for programs that read that faster than CSV. It is made of the CSV
//! file itself, so that the two cannot disagree: the same columns in the same order, empty cells
//! null.
//!
//! A column's type follows from its cells: true and false, integers, numbers (also if it is empty),
//! or text. NaN and infinity in a column of numbers stay NaN and infinity. No compression: these
//! are small files.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Flag,
    Integer,
    Number,
    Text,
}

impl Kind {
    /// The narrowest kind that every written cell of a column is of.
    fn of<'a>(cells: impl Iterator<Item = &'a str> + Clone) -> Kind {
        let mut written = cells.filter(|cell| !cell.is_empty());
        let every = |is: fn(&str) -> bool| written.clone().all(is);
        if written.clone().next().is_none() {
            Kind::Number
        } else if every(|cell| cell.parse::<bool>().is_ok()) {
            Kind::Flag
        } else if every(|cell| cell.parse::<i64>().is_ok()) {
            Kind::Integer
        } else if written.all(|cell| cell.parse::<f64>().is_ok()) {
            Kind::Number
        } else {
            Kind::Text
        }
    }

    fn column(self, name: &str) -> Result<Type, parquet::errors::ParquetError> {
        let physical = match self {
            Kind::Flag => Physical::BOOLEAN,
            Kind::Integer => Physical::INT64,
            Kind::Number => Physical::DOUBLE,
            Kind::Text => Physical::BYTE_ARRAY,
        };
        let logical = (self == Kind::Text).then_some(LogicalType::String);
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()
    }
}

/// Writes `NAME.parquet` next to `NAME.csv`.
///
/// # Errors
/// When the table cannot be read or the file cannot be written.
pub(super) fn beside(table: &Path) -> io::Result<()> {
    let mut reader = csv::Reader::from_path(table)?;
    let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
    let cells = |place: usize| {
        records
            .iter()
            .map(move |record| record.get(place).unwrap_or_default())
    };
    let kinds: Vec<Kind> = (0..names.len())
        .map(|place| Kind::of(cells(place)))
        .collect();

    let columns = names
        .iter()
        .zip(&kinds)
        .map(|(name, kind)| Ok(Arc::new(kind.column(name)?)));
    let columns = columns
        .collect::<Result<_, parquet::errors::ParquetError>>()
        .map_err(io::Error::other)?;
    let schema = Type::group_type_builder("table")
        .with_fields(columns)
        .build()
        .map_err(io::Error::other)?;
    let write = |file: File| -> Result<(), parquet::errors::ParquetError> {
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), properties)?;
        let mut group = writer.next_row_group()?;
        for (place, kind) in kinds.iter().enumerate() {
            let mut column = group
                .next_column()?
                .expect("the schema has a column for each name");
            let written = || cells(place).filter(|cell| !cell.is_empty());
            let levels: Vec<i16> = cells(place)
                .map(|cell| i16::from(!cell.is_empty()))
                .collect();
            match kind {
                Kind::Flag => fill::<BoolType>(
                    &mut column,
                    written().map(|cell| cell == "true").collect(),
                    &levels,
                )?,
                Kind::Integer => fill::<Int64Type>(&mut column, numbers(written()), &levels)?,
                Kind::Number => fill::<DoubleType>(&mut column, numbers(written()), &levels)?,
                Kind::Text => fill::<ByteArrayType>(
                    &mut column,
                    written().map(ByteArray::from).collect(),
                    &levels,
                )?,
            }
            column.close()?;
        }
        group.close()?;
        writer.close()?;
        Ok(())
    };
    // In one step, like every result: a process killed in between leaves the old file or the new
    // one.
    let (path, partial) = (
        table.with_extension("parquet"),
        table.with_extension("parquet.partial"),
    );
    write(File::create(&partial)?).map_err(io::Error::other)?;
    std::fs::rename(partial, path)
}

fn numbers<'a, T: std::str::FromStr>(cells: impl Iterator<Item = &'a str>) -> Vec<T> {
    cells.filter_map(|cell| cell.parse().ok()).collect()
}

fn fill<T: DataType>(
    column: &mut parquet::file::writer::SerializedColumnWriter<'_>,
    values: Vec<T::T>,
    levels: &[i16],
) -> Result<(), parquet::errors::ParquetError> {
    column
        .typed::<T>()
        .write_batch(&values, Some(levels), None)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::PeerRow;
    use crate::report::{table_file, write_parquet};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder =
            std::env::temp_dir().join(format!("kith-parquet-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("cells/a")).unwrap();
        folder
    }

    /// Columns and rows of a file.
    fn read(path: &Path) -> Vec<Vec<(String, Field)>> {
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        rows.map(|row| row.unwrap().into_columns()).collect()
    }

    #[test]
    fn what_is_written_is_read_back_with_the_columns_of_the_csv() {
        let folder = folder("rows");
        let mut row = PeerRow::default();
        (
            row.round,
            row.peer,
            row.lies,
            row.virtual_seconds,
            row.train_loss,
        ) = (3, 1, true, 0.25, Some(1e-7));
        let mut other = row.clone();
        (other.round, other.train_loss, other.accuracy) = (4, None, Some(1.0));
        let rows = [row, other];
        for folder in [folder.clone(), folder.join("cells/a")] {
            table_file(&folder.join("peers.csv"), &rows).unwrap();
        }
        write_parquet(&folder).unwrap();
        let names: Vec<String> = csv::Reader::from_path(folder.join("peers.csv"))
            .unwrap()
            .headers()
            .unwrap()
            .iter()
            .map(str::to_owned)
            .collect();
        for folder in [&folder, &folder.join("cells/a")] {
            let read = read(&folder.join("peers.parquet"));
            assert_eq!(read.len(), 2);
            for (row, original) in read.iter().zip(&rows) {
                assert_eq!(
                    row.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
                    names
                );
                let field = |name: &str| &row.iter().find(|(column, _)| column == name).unwrap().1;
                assert_eq!(field("round"), &Field::Long(original.round as i64));
                assert_eq!(field("lies"), &Field::Bool(true));
                assert_eq!(field("virtual_seconds"), &Field::Double(0.25));
                assert_eq!(
                    field("train_loss"),
                    &original.train_loss.map_or(Field::Null, Field::Double)
                );
                assert_eq!(
                    field("accuracy"),
                    &original.accuracy.map_or(Field::Null, Field::Double)
                );
                assert_eq!(field("spread"), &Field::Null, "a column without a value");
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn texts_stay_texts_and_a_table_without_rows_has_its_columns() {
        let folder = folder("texts");
        std::fs::write(
            folder.join("sweep.csv"),
            "rule,value,seed\nmean,1,7\n\"nnm+mean, then\",\u{e9},8\n",
        )
        .unwrap();
        std::fs::write(folder.join("summary.csv"), "rule,value\n").unwrap();
        write_parquet(&folder).unwrap();
        let rows = read(&folder.join("sweep.parquet"));
        assert_eq!(rows[1][0].1, Field::Str("nnm+mean, then".to_owned()));
        assert_eq!(
            (&rows[0][1].1, &rows[1][1].1),
            (
                &Field::Str("1".to_owned()),
                &Field::Str("\u{e9}".to_owned())
            )
        );
        assert_eq!(rows[0][2].1, Field::Long(7));
        assert!(read(&folder.join("summary.parquet")).is_empty());
        let reader =
            SerializedFileReader::new(File::open(folder.join("summary.parquet")).unwrap()).unwrap();
        assert_eq!(
            reader
                .metadata()
                .file_metadata()
                .schema_descr()
                .num_columns(),
            2
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
