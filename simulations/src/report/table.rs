//! A CSV file of numbers, read back by the names of its columns.

use std::io;
use std::path::Path;

/// Columns of numbers; a cell that is empty or no number is `None`.
#[derive(Debug, Default)]
pub(super) struct Table {
    names: Vec<String>,
    rows: Vec<Vec<Option<f64>>>,
}

impl Table {
    /// Reads some columns of a file, as far as it has them; one that is not there has no rows.
    pub(super) fn read(path: &Path, columns: &[&str]) -> io::Result<Table> {
        if !path.exists() {
            return Ok(Table::default());
        }
        let mut reader = csv::Reader::from_path(path)?;
        let wanted = |(_, name): &(usize, &str)| columns.contains(name);
        let (places, names): (Vec<usize>, Vec<String>) = reader
            .headers()?
            .iter()
            .enumerate()
            .filter(wanted)
            .map(|(place, name)| (place, name.to_owned()))
            .unzip();
        let number = |text: &str| match text {
            "true" => Some(1.0),
            "false" => Some(0.0),
            text => text.parse().ok(),
        };
        let read = |row: &csv::StringRecord| {
            places
                .iter()
                .map(|place| row.get(*place).and_then(number))
                .collect()
        };
        let rows: Result<Vec<_>, csv::Error> =
            reader.records().map(|row| Ok(read(&row?))).collect();
        Ok(Table { names, rows: rows? })
    }

    /// Only the rows in which a column is above 0.
    pub(super) fn above_zero(mut self, name: &str) -> Table {
        let place = self.names.iter().position(|known| known == name);
        self.rows.retain(|row| {
            place
                .and_then(|place| row[place])
                .is_some_and(|value| value > 0.0)
        });
        self
    }

    /// (x, y) of every row that has both.
    pub(super) fn pairs(&self, x: &str, y: &str) -> Vec<(f64, f64)> {
        self.each([x, y]).map(|[x, y]| (x, y)).collect()
    }

    /// The values of these columns for every row that has them all.
    pub(super) fn each<const N: usize>(&self, names: [&str; N]) -> impl Iterator<Item = [f64; N]> {
        let places = names.map(|name| self.names.iter().position(|known| known == name));
        self.rows.iter().filter_map(move |row| {
            let mut values = [0.0; N];
            for (value, place) in values.iter_mut().zip(places) {
                *value = (*row.get(place?)?)?;
            }
            Some(values)
        })
    }
}
