//! The charter's `[data]` section: the form of a row, its normalisation, and the substitute for a
//! missing value.
//!
//! A schema never holds data. Its constants are agreed on beforehand, from published knowledge or
//! one member's own rows, because constants computed over everybody's rows would already be a
//! release.

use kith_consensus::Section;
use kith_consensus::charter::Declared;

/// Most features a row may have: a bound on what a charter can make a peer allocate (16 Mi values
/// are 64 MiB a row).
const FEATURES_MAX: usize = 1 << 24;
/// Bound of the numbers a schema may name; wide enough for any measurement, narrow enough to stay
/// exact.
const NUMBER_MAX: f64 = 1e12;
/// Most rows of a group: a trainer computes them together.
pub(crate) const GROUP_MAX: usize = 16;

/// The form of a row, the same for all peers.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Shape of one row: `[64]`, `[1, 28, 28]` (channels, height, width) or `[features]` of a
    /// table.
    pub shape: Vec<usize>,
    /// Number of classes, at least 2.
    pub classes: usize,
    /// Name of the label's column in CSV files.
    pub label: String,
    /// Whether labels above `classes - 1` count as `classes - 1` (0 against more than 0).
    pub label_clamp: bool,
    /// Texts that stand for class 0, 1, … in CSV files; empty if labels are written as integers.
    pub class_names: Vec<String>,
    /// Texts of cells in named columns that mean "nothing was measured", besides an empty cell, `?`
    /// and `NA`.
    pub missing: Vec<String>,
    /// Subtracted from every feature: one value, or one per feature. Unused if columns are named.
    pub mean: Vec<f64>,
    /// Every feature is divided by this afterwards: one value, or one per feature. Unused if
    /// columns are named.
    pub deviation: Vec<f64>,
    /// Named columns of a table, in the order of their features; empty: every column but the label,
    /// in the file's order.
    pub columns: Vec<Column>,
    /// Which rows belong together; `None`: each stands alone.
    pub group: Option<Group>,
}

/// A column whose equal values make rows belong together, such as a patient's number.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Name in the header. It is no feature.
    pub column: String,
    /// Rows of a group that are trained on under a privacy guarantee, at most: 1 to 16.
    pub rows: usize,
}

/// One named column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Name in the header.
    pub name: String,
    /// How a cell becomes features.
    pub kind: ColumnKind,
}

/// How a cell becomes features.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnKind {
    /// One feature: (cell − mean) / deviation.
    Number {
        /// Subtracted from the cell.
        mean: f64,
        /// The result is divided by this; above 0.
        deviation: f64,
        /// Used in place of a missing cell; without it a missing cell is an error.
        impute: Option<f64>,
        /// Numbers that mean "missing", such as a cholesterol of 0.
        missing: Vec<f64>,
    },
    /// One feature per value, 1 for the cell's own and 0 for the others; a missing cell is all
    /// zeros.
    Category {
        /// The values that occur.
        values: Vec<String>,
    },
}

impl Column {
    /// Number of features the column becomes.
    pub fn width(&self) -> usize {
        match &self.kind {
            ColumnKind::Number { .. } => 1,
            ColumnKind::Category { values } => values.len(),
        }
    }

    fn read(section: &mut Section<'_>) -> Column {
        let name = section.text("name", None);
        let kind = match section
            .choice("kind", Some("number"), &["number", "category"])
            .as_str()
        {
            "category" => {
                let values = section.texts("values", None);
                let mut sorted = values.clone();
                sorted.sort();
                sorted.dedup();
                if section.has("values") && (values.is_empty() || sorted.len() != values.len()) {
                    section.note("values", "expected at least one text, each once");
                }
                ColumnKind::Category { values }
            }
            _ => ColumnKind::Number {
                mean: section.number("mean", Some(0.0), -NUMBER_MAX..=NUMBER_MAX),
                deviation: section.number("deviation", Some(1.0), f64::MIN_POSITIVE..=NUMBER_MAX),
                impute: section
                    .has("impute")
                    .then(|| section.number("impute", None, -NUMBER_MAX..=NUMBER_MAX)),
                missing: section.numbers("missing", Some(&[])),
            },
        };
        Column { name, kind }
    }
}

impl Group {
    /// Read only if it is written, so that charters without it keep their federation's id.
    fn read(section: &mut Section<'_>, label: &str, columns: &[Column]) -> Option<Group> {
        if !section.has("group") {
            return None;
        }
        let column = section.text("group", None);
        let rows = section.integer("group_rows", None, 1..=GROUP_MAX as u64) as usize;
        if column == label || columns.iter().any(|other| other.name == column) {
            let what = format!(
                "{column:?} is the label's or a feature's column as well; expected one that models do not see"
            );
            section.note("group", what);
        }
        Some(Group { column, rows })
    }
}

impl Schema {
    /// Reads `[data]`. Problems are noted in the section.
    pub fn read(section: &mut Section<'_>) -> Schema {
        let columns = section.tables("column", Column::read);
        let width: usize = columns.iter().map(Column::width).sum();
        let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            section.note("column", format!("column {:?} is named twice", pair[0]));
        }
        let default = [width as u64];
        let shape = section.integers(
            "shape",
            (width > 0).then_some(&default[..]),
            1..=FEATURES_MAX as u64,
        );
        let shape: Vec<usize> = shape.into_iter().map(|side| side as usize).collect();
        let features = shape
            .iter()
            .try_fold(1usize, |product, side| product.checked_mul(*side));
        let given = section.has("shape") || width > 0;
        let features = match features {
            Some(features) if !shape.is_empty() && shape.len() <= 4 && features <= FEATURES_MAX => {
                features
            }
            _ => {
                if given {
                    section.note(
                        "shape",
                        format!(
                            "expected one to four sides with a product of at most {FEATURES_MAX}"
                        ),
                    );
                }
                0
            }
        };
        if width > 0 && features > 0 && features != width {
            section.note(
                "shape",
                format!("the columns make {width} features, the shape {features}"),
            );
        }
        let classes = section.integer("classes", None, 2..=65_536) as usize;
        let class_names = section.texts("class_names", Some(&[]));
        if !class_names.is_empty() && class_names.len() != classes {
            section.note(
                "class_names",
                format!(
                    "expected {classes} names, one per class, found {}",
                    class_names.len()
                ),
            );
        }
        let label = section.text("label", Some("label"));
        if columns.iter().any(|column| column.name == label) {
            section.note(
                "label",
                format!("{label:?} is a feature's column as well; the label would teach itself"),
            );
        }
        let label_clamp = section.flag("label_clamp", Some(false));
        // Read only if it is written, so that charters without it keep their federation's id.
        let missing = if section.has("missing") {
            section.texts("missing", None)
        } else {
            Vec::new()
        };
        let group = Group::read(section, &label, &columns);
        // Named columns carry their own; the same numbers in a second place could contradict them.
        let of_all = |section: &mut Section<'_>, key: &str, default: f64| match columns.is_empty() {
            true => section.numbers(key, Some(&[default])),
            false => vec![default],
        };
        let mean = of_all(section, "mean", 0.0);
        let deviation = of_all(section, "deviation", 1.0);
        for (key, list) in [("mean", &mean), ("deviation", &deviation)] {
            if list.len() != 1 && features > 0 && list.len() != features {
                section.note(
                    key,
                    format!(
                        "expected 1 value or {features}, one per feature, found {}",
                        list.len()
                    ),
                );
            }
        }
        if deviation.iter().any(|value| *value <= 0.0) {
            section.note(
                "deviation",
                "expected numbers above 0, features are divided by them",
            );
        }
        Schema {
            shape,
            classes,
            label,
            label_clamp,
            class_names,
            missing,
            mean,
            deviation,
            columns,
            group,
        }
    }

    /// Declares what the rest of the charter needs to know.
    pub fn declare(&self, declared: &mut Declared) {
        declared.groups_rows = self.group.is_some();
    }

    /// Number of features of a row: the product of the shape.
    pub fn features(&self) -> usize {
        self.shape.iter().product()
    }

    /// The named column that feature `index` comes from, if columns are named.
    pub fn column_of(&self, index: usize) -> Option<&Column> {
        let ends = self.columns.iter().scan(0, |end, column| {
            *end += column.width();
            Some((*end, column))
        });
        ends.into_iter()
            .find(|(end, _)| index < *end)
            .map(|(_, column)| column)
    }

    /// The value in a file that gives feature `index` the value `value`, except for rounding.
    pub fn in_files_units(&self, index: usize, value: f32) -> f64 {
        let at = |list: &[f64]| {
            if list.len() == 1 {
                list[0]
            } else {
                list[index]
            }
        };
        let (mean, deviation) = match self.column_of(index).map(|column| &column.kind) {
            Some(ColumnKind::Number {
                mean, deviation, ..
            }) => (*mean, *deviation),
            Some(ColumnKind::Category { .. }) => (0.0, 1.0),
            None => (at(&self.mean), at(&self.deviation)),
        };
        f64::from(value) * deviation + mean
    }

    /// Feature `index` of a file's value, normalised.
    pub(crate) fn normalise(&self, index: usize, value: f64) -> f32 {
        let at = |list: &[f64]| {
            if list.len() == 1 {
                list[0]
            } else {
                list[index]
            }
        };
        ((value - at(&self.mean)) / at(&self.deviation)) as f32
    }

    /// The class of a label written as an integer, `None` if the schema has no such class.
    pub(crate) fn class(&self, label: u64) -> Option<u32> {
        let last = self.classes as u64 - 1;
        let class = if self.label_clamp {
            label.min(last)
        } else {
            label
        };
        (class <= last).then_some(class as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::section::Document;

    fn read(text: &str) -> Result<Schema, Vec<String>> {
        let mut document = Document::parse(text).unwrap();
        let schema = document.section("data", Schema::read);
        document
            .finish()
            .map(|_| schema)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn columns_give_the_shape() {
        let text = "[data]\nclasses = 2\n[[data.column]]\nname = \"age\"\n[[data.column]]\nname = \"sex\"\nkind = \"category\"\nvalues = [\"f\", \"m\"]\n";
        assert_eq!(read(text).unwrap().shape, [3]);
    }

    #[test]
    fn features_are_traced_back_to_their_columns_and_units() {
        let text = "[data]\nclasses = 2\n[[data.column]]\nname = \"sex\"\nkind = \"category\"\nvalues = [\"f\", \"m\"]\n[[data.column]]\nname = \"age\"\nmean = 50\ndeviation = 10\n";
        let schema = read(text).unwrap();
        let names = [0, 1, 2, 3]
            .map(|feature| schema.column_of(feature).map(|column| column.name.as_str()));
        assert_eq!(names, [Some("sex"), Some("sex"), Some("age"), None]);
        assert_eq!(
            (schema.in_files_units(1, 1.0), schema.in_files_units(2, 1.5)),
            (1.0, 65.0)
        );
        let flat =
            read("[data]\nshape = [2]\nclasses = 2\nmean = [1, 2]\ndeviation = [4]\n").unwrap();
        assert_eq!(flat.in_files_units(1, 0.5), 4.0);
    }

    #[test]
    fn every_wrong_key_is_told() {
        let problems =
            read("[data]\nshape = [4]\nclasses = 1\nmean = [0, 1]\ndeviation = [0]\n").unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(
            read("[data]\nclasses = 2\n").unwrap_err()[0]
                .contains("data.shape: this key is missing")
        );
        assert!(
            read("[data]\nshape = [16777216, 16777216, 16777216]\nclasses = 2\n").unwrap_err()[0]
                .contains("product")
        );
    }

    #[test]
    fn labels_above_the_last_class_are_refused_or_clamped() {
        let mut schema = read("[data]\nshape = [4]\nclasses = 2\n").unwrap();
        assert_eq!((schema.class(1), schema.class(3)), (Some(1), None));
        schema.label_clamp = true;
        assert_eq!(schema.class(3), Some(1));
    }
}
