//! Rows in memory: a [`Dataset`] is what a model trains on. Files and the schema's application to
//! their rows are the business of [`crate::source`].

use std::sync::Arc;

use crate::schema::Schema;

/// Rows of normalised features with their labels. Cheap to clone.
///
/// The features stand in a table that data sets share: [`Dataset::select`] gives a view of it. A
/// view takes eight bytes for each of its rows (its number in the table, and its label), however
/// many features there are. So the rows of ten thousand peers need one table. Labels belong to the
/// view: [`Dataset::relabelled`] shares the table as well.
#[derive(Clone, Debug)]
pub struct Dataset {
    features: usize,
    values: Values,
    /// Numbers of the rows in the table; `None`: all of them, in the table's order.
    rows: Option<Arc<[u32]>>,
    labels: Arc<[u32]>,
    /// Which rows belong together: those of equal numbers. `None`: nothing is known of it.
    groups: Option<Arc<Vec<u64>>>,
}

/// Equal features, bit for bit before normalisation, and equal labels; whether they are views does
/// not matter.
impl PartialEq for Dataset {
    fn eq(&self, other: &Dataset) -> bool {
        let of_one_form = match (&self.values, &other.values) {
            (Values::Bytes(_, scale), Values::Bytes(_, other)) => scale == other,
            (Values::Numbers(_), Values::Numbers(_)) => true,
            _ => false,
        };
        let equal = |row: usize| match (&self.values, &other.values) {
            (Values::Bytes(bytes, _), Values::Bytes(others, _)) => {
                bytes[self.range(row)] == others[other.range(row)]
            }
            (Values::Numbers(numbers), Values::Numbers(others)) => {
                numbers[self.range(row)] == others[other.range(row)]
            }
            _ => false,
        };
        of_one_form
            && self.features == other.features
            && self.labels == other.labels
            && (0..self.len()).all(equal)
    }
}

#[derive(Clone, Debug)]
enum Values {
    /// As the file had them, a quarter of the memory; They are normalised when a batch is built.
    Bytes(Arc<Vec<u8>>, Arc<ByteScale>),
    Numbers(Arc<Vec<f32>>),
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
        ByteScale {
            tables: (0..each).map(table).collect(),
        }
    }
}

impl Dataset {
    pub(crate) fn from_bytes(pixels: Vec<u8>, labels: Vec<u32>, schema: &Schema) -> Dataset {
        let features = schema.features();
        assert_eq!(
            pixels.len(),
            labels.len() * features,
            "rows × features bytes"
        );
        Dataset::of_table(
            features,
            Values::Bytes(Arc::new(pixels), Arc::new(ByteScale::new(schema))),
            labels,
        )
    }

    pub(crate) fn from_numbers(numbers: Vec<f32>, labels: Vec<u32>, features: usize) -> Dataset {
        assert_eq!(
            numbers.len(),
            labels.len() * features,
            "rows × features numbers"
        );
        Dataset::of_table(features, Values::Numbers(Arc::new(numbers)), labels)
    }

    fn of_table(features: usize, values: Values, labels: Vec<u32>) -> Dataset {
        assert!(
            u32::try_from(labels.len()).is_ok(),
            "rows are numbered by u32"
        );
        Dataset {
            features,
            values,
            rows: None,
            labels: labels.into(),
            groups: None,
        }
    }

    /// The same rows, of which those with equal numbers belong together.
    pub(crate) fn grouped(self, groups: Option<Vec<u64>>) -> Dataset {
        let groups = groups.map(Arc::new);
        Dataset { groups, ..self }
    }

    /// For each row the number of its group; `None` if nothing is known of groups.
    pub fn groups(&self) -> Option<&[u64]> {
        self.groups.as_deref().map(Vec::as_slice)
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

    /// Bytes that this data set keeps in memory: its table, all of it, its row numbers and its
    /// labels.
    pub fn memory_bytes(&self) -> usize {
        Dataset::memory_bytes_of([self])
    }

    /// Bytes that these data sets keep in memory together: a table that several share is counted
    /// once.
    pub fn memory_bytes_of<'a>(datasets: impl IntoIterator<Item = &'a Dataset>) -> usize {
        let mut tables = std::collections::BTreeSet::new();
        let mut bytes = 0;
        for dataset in datasets {
            let (place, length) = match &dataset.values {
                Values::Bytes(values, _) => (values.as_ptr() as usize, values.len()),
                Values::Numbers(values) => (values.as_ptr() as usize, values.len() * 4),
            };
            if tables.insert(place) {
                bytes += length;
            }
            bytes +=
                (dataset.labels.len() + dataset.rows.as_ref().map_or(0, |rows| rows.len())) * 4;
            bytes += dataset.groups().map_or(0, |groups| groups.len() * 8);
        }
        bytes
    }

    /// The rows at these positions, in this order, as a view of the same table; a position may
    /// occur more than once.
    ///
    /// # Panics
    /// When a position is beyond the last row.
    pub fn select(&self, rows: &[usize]) -> Dataset {
        let labels = rows.iter().map(|row| self.labels[*row]).collect();
        let groups = self.groups.as_ref();
        let groups = groups.map(|groups| rows.iter().map(|row| groups[*row]).collect::<Vec<u64>>());
        let groups = groups.map(Arc::new);
        let rows = rows.iter().map(|row| self.place(*row) as u32).collect();
        Dataset {
            features: self.features,
            values: self.values.clone(),
            rows: Some(rows),
            labels,
            groups,
        }
    }

    /// The same rows with other labels: the features are shared.
    pub fn relabelled(&self, label: impl Fn(u32) -> u32) -> Dataset {
        Dataset {
            labels: self.labels.iter().map(|old| label(*old)).collect(),
            ..self.clone()
        }
    }

    /// The same, with each row's position as well.
    pub(crate) fn relabelled_by_row(&self, label: impl Fn(usize, u32) -> u32) -> Dataset {
        Dataset {
            labels: self
                .labels
                .iter()
                .enumerate()
                .map(|(row, old)| label(row, *old))
                .collect(),
            ..self.clone()
        }
    }

    /// A copy whose features `change` makes from each row's normalised ones; it is called with the
    /// row's position.
    pub(crate) fn changed(&self, mut change: impl FnMut(usize, &mut [f32])) -> Dataset {
        let mut numbers = Vec::with_capacity(self.len() * self.features);
        (0..self.len()).for_each(|row| self.write_row(row, &mut numbers));
        numbers
            .chunks_exact_mut(self.features.max(1))
            .enumerate()
            .for_each(|(row, features)| change(row, features));
        Dataset {
            features: self.features,
            values: Values::Numbers(Arc::new(numbers)),
            rows: None,
            labels: self.labels.clone(),
            groups: self.groups.clone(),
        }
    }

    /// Whether the features are bytes.
    pub(crate) fn is_bytes(&self) -> bool {
        matches!(self.values, Values::Bytes(..))
    }

    /// One normalised feature of a row.
    pub(crate) fn value(&self, row: usize, feature: usize) -> f32 {
        let place = self.place(row) * self.features + feature;
        match &self.values {
            Values::Numbers(numbers) => numbers[place],
            Values::Bytes(bytes, scale) => {
                scale.tables[feature.min(scale.tables.len() - 1)][usize::from(bytes[place])]
            }
        }
    }

    /// The same rows with their features normalised once and for all. They take four bytes each
    /// where a byte was enough, but reading them is a copy. Worth it for test rows on which many
    /// peers are evaluated.
    pub fn normalised(&self) -> Dataset {
        if let (Values::Numbers(_), None) = (&self.values, &self.rows) {
            return self.clone();
        }
        self.changed(|_, _| {})
    }

    /// All rows of `parts`, one part after the other.
    ///
    /// # Panics
    /// When there is no part, or the parts have different numbers of features.
    pub fn concat(parts: &[Dataset]) -> Dataset {
        let first = parts.first().expect("concat needs a part");
        assert!(
            parts.iter().all(|part| part.features == first.features),
            "parts of one schema have equal features"
        );
        let labels: Vec<u32> = parts
            .iter()
            .flat_map(|part| part.labels.iter().copied())
            .collect();
        // Known of all parts, or of none.
        let groups: Option<Vec<&[u64]>> = parts.iter().map(Dataset::groups).collect();
        let groups = groups.map(|groups| groups.concat());
        if let Values::Bytes(_, scale) = &first.values {
            let mut bytes = Vec::with_capacity(labels.len() * first.features);
            let copied = parts.iter().all(|part| part.copy_bytes(scale, &mut bytes));
            if copied {
                return Dataset::of_table(
                    first.features,
                    Values::Bytes(Arc::new(bytes), scale.clone()),
                    labels,
                )
                .grouped(groups);
            }
        }
        let mut numbers = Vec::with_capacity(labels.len() * first.features);
        parts
            .iter()
            .for_each(|part| (0..part.len()).for_each(|row| part.write_row(row, &mut numbers)));
        Dataset::of_table(first.features, Values::Numbers(Arc::new(numbers)), labels)
            .grouped(groups)
    }

    /// Appends all rows as bytes; `false`, and nothing is appended, if they are not bytes of this
    /// scale.
    fn copy_bytes(&self, scale: &Arc<ByteScale>, out: &mut Vec<u8>) -> bool {
        match &self.values {
            Values::Bytes(bytes, own) if own == scale => {
                (0..self.len()).for_each(|row| out.extend_from_slice(&bytes[self.range(row)]));
                true
            }
            _ => false,
        }
    }

    /// The normalised features of a row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.features);
        self.write_row(row, &mut values);
        values
    }

    /// Appends the normalised features of a row.
    pub(crate) fn write_row(&self, row: usize, out: &mut Vec<f32>) {
        let range = self.range(row);
        match &self.values {
            Values::Numbers(numbers) => out.extend_from_slice(&numbers[range]),
            Values::Bytes(bytes, scale) => match scale.tables.as_slice() {
                [table] => out.extend(bytes[range].iter().map(|byte| table[usize::from(*byte)])),
                tables => out.extend(
                    bytes[range]
                        .iter()
                        .zip(tables)
                        .map(|(byte, table)| table[usize::from(*byte)]),
                ),
            },
        }
    }

    /// Replaces `out` by the normalised features of these rows, one row after the other.
    pub(crate) fn gather(&self, rows: &[usize], out: &mut Vec<f32>) {
        out.clear();
        out.reserve(rows.len() * self.features);
        rows.iter().for_each(|row| self.write_row(*row, out));
    }

    /// The number of a row in the table.
    fn place(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(row, |rows| rows[row] as usize)
    }

    /// The place of a row's features in the table's values.
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let place = self.place(row);
        place * self.features..(place + 1) * self.features
    }
}

pub(crate) fn class_counts(labels: &[u32], classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    labels.iter().for_each(|label| counts[*label as usize] += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::section::Document;

    fn table(rows: usize) -> Dataset {
        let mut document =
            Document::parse("[data]\nshape = [3]\nclasses = 4\nmean = [1, 2, 3]\n").unwrap();
        let schema = document.section("data", Schema::read);
        Dataset::from_bytes(
            (0..rows * 3).map(|value| value as u8).collect(),
            (0..rows as u32).map(|row| row % 4).collect(),
            &schema,
        )
    }

    #[test]
    fn views_share_their_table_and_read_like_copies() {
        let all = table(50);
        let view = all.select(&[7, 3, 3, 49]);
        assert_eq!((view.len(), view.labels()), (4, [3, 3, 3, 1].as_slice()));
        assert_eq!(view.row(0), [20.0, 20.0, 20.0]);
        let again = view.select(&[3, 0]);
        assert_eq!(again.row(0), all.row(49));
        assert_eq!(again, Dataset::concat(std::slice::from_ref(&again)));
        assert_eq!(
            again,
            Dataset::concat(&[all.select(&[49]), all.select(&[7])])
        );
        assert_ne!(again, all.select(&[7, 49]));
        assert_eq!(again.normalised().row(1), all.row(7));
        assert_eq!(
            all.select(&[0, 1]).relabelled(|label| 3 - label).labels(),
            [3, 2]
        );
    }

    #[test]
    fn a_view_costs_eight_bytes_a_row_and_its_table_once() {
        let all = table(50);
        assert_eq!(all.memory_bytes(), 50 * 3 + 50 * 4);
        let views: Vec<Dataset> = (0..1000).map(|peer| all.select(&[peer % 50, 0])).collect();
        assert_eq!(views[0].memory_bytes(), 50 * 3 + 2 * 8);
        assert_eq!(Dataset::memory_bytes_of(&views), 50 * 3 + 1000 * 2 * 8);
        assert!(size_of::<Dataset>() <= 64, "{} bytes", size_of::<Dataset>());
        assert_eq!(all.select(&[4]).normalised().memory_bytes(), 3 * 4 + 4);
    }
}
