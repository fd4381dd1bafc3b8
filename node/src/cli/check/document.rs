//! What `kith check` finds, as the JSON document that `--json` prints.

use std::path::Path;

use kith_models::{Dataset, Reading, Schema, far_values};
use serde::Serialize;
use serde_json::Value;

/// Everything that was found. A part that could not be looked at is absent.
#[derive(Default, Serialize)]
pub(super) struct Document {
    #[serde(flatten)]
    pub(super) identity: Option<Identity>,
    #[serde(flatten)]
    pub(super) agreement: Option<Agreement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expected: Option<Expected>,
    /// Whether `kith run` could start.
    pub(super) ok: bool,
    /// What is released of the rows, and what that spends; absent without a guarantee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) privacy: Option<Privacy>,
    /// What is wrong; one in a file has its place.
    pub(super) problems: Vec<Value>,
}

/// The peer itself.
#[derive(Serialize)]
pub(super) struct Identity {
    pub(super) name: String,
    /// `None` if its key cannot be read.
    pub(super) peer_id: Option<String>,
}

/// What its charter says.
#[derive(Serialize)]
pub(super) struct Agreement {
    pub(super) federation: Federation,
    pub(super) model: Model,
    pub(super) rule: Rule,
    /// Of an open federation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) membership: Option<Membership>,
    /// This peer's name in the charter, `None` inside if it has none there; absent in an open
    /// federation, and without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) member: Option<Option<String>>,
    /// Absent if the charter's graph cannot be drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) neighbourhoods: Option<Vec<Neighbourhood>>,
}

#[derive(Serialize)]
pub(super) struct Federation {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) rounds: u64,
}

#[derive(Serialize)]
pub(super) struct Model {
    pub(super) kind: &'static str,
    pub(super) parameters: usize,
}

#[derive(Serialize)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) byzantine: usize,
    pub(super) models_needed: usize,
}

#[derive(Serialize)]
pub(super) struct Membership {
    pub(super) mode: &'static str,
    pub(super) peers: usize,
}

/// The peers that one peer hears in the first round.
#[derive(Serialize)]
pub(super) struct Neighbourhood {
    pub(super) name: String,
    pub(super) neighbours: Vec<String>,
    /// Models that its rule gets, its own included.
    pub(super) models: usize,
    pub(super) byzantine: usize,
}

/// The peer's rows.
#[derive(Serialize)]
pub(super) struct Data {
    pub(super) path: String,
    pub(super) rows: usize,
    pub(super) held_out_rows: Option<usize>,
    pub(super) features: usize,
    pub(super) class_counts: Vec<u64>,
    pub(super) held_out_class_counts: Option<Vec<u64>>,
    /// Held-out rows that are trained on as well.
    pub(super) rows_in_both: Option<usize>,
    /// Those of the first file.
    pub(super) missing: Vec<Missing>,
    /// The training rows' file, then the test rows', if they have one.
    pub(super) files: Vec<File>,
}

/// What reading a file showed.
#[derive(Serialize)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) missing: Vec<Missing>,
    pub(super) unused_columns: Vec<String>,
    pub(super) columns_in_file_order: Vec<String>,
    pub(super) axes: Option<String>,
    pub(super) large_values: Vec<LargeValue>,
}

/// Missing cells of a column.
#[derive(Clone, Serialize)]
pub(super) struct Missing {
    pub(super) column: String,
    pub(super) cells: usize,
}

/// A value far from the others of its column, in the file's units.
#[derive(Serialize)]
pub(super) struct LargeValue {
    /// Line in a table, from 1.
    pub(super) line: Option<u64>,
    /// The row, from 0.
    pub(super) row: usize,
    pub(super) column: String,
    pub(super) value: f64,
    pub(super) median: f64,
}

/// A guarantee for each row.
#[derive(Serialize)]
pub(super) struct Privacy {
    pub(super) mechanism: &'static str,
    /// What is protected.
    pub(super) unit: &'static str,
    pub(super) clip_norm: f64,
    pub(super) noise_multiplier: f64,
    /// `None` at the update level.
    #[serde(flatten)]
    pub(super) sampling: Option<Sampling>,
    pub(super) steps_per_release: u64,
    pub(super) delta: f64,
    pub(super) epsilon_budget: f64,
    /// ε that all rounds would spend, by the filter.
    pub(super) epsilon_planned: f64,
    /// Rounds that the rest of the budget pays for, of those in which peers train.
    pub(super) rounds_affordable: u64,
    pub(super) rounds_planned: u64,
    /// ε that is spent of these rows already.
    pub(super) epsilon_spent: f64,
    /// Standard deviation of the noise on every coordinate of a step's mean gradient, or of a round's
    /// update.
    pub(super) noise_per_coordinate: f64,
    pub(super) ledger: String,
}

/// How rows take part in a step at the example level.
#[derive(Serialize)]
pub(super) struct Sampling {
    pub(super) sampling_rate: f64,
    /// By which noised sums are divided.
    pub(super) lot: usize,
    /// Rows of this peer that are expected in a lot.
    pub(super) expected_lot: f64,
}

/// What a run is expected to cost; bytes are those of one round.
#[derive(Serialize)]
pub(super) struct Expected {
    pub(super) memory_bytes: u64,
    pub(super) update_bytes_max: u64,
    pub(super) bytes_out_per_round: u64,
    pub(super) bytes_in_per_round: u64,
    pub(super) dense_bytes_per_round: u64,
    /// `None` if the codec needs no keyframe.
    pub(super) keyframe_bytes: Option<u64>,
    pub(super) graph_changes: bool,
    pub(super) local_steps_per_round: u64,
}

impl File {
    pub(super) fn of(path: &Path, schema: &Schema, rows: &Dataset, reading: &Reading) -> File {
        let missing = reading.missing.iter().map(|(column, cells)| Missing {
            column: column.clone(),
            cells: *cells,
        });
        let large = far_values(rows).into_iter().map(|far| {
            let column = schema
                .column_of(far.feature)
                .map(|column| &column.name)
                .or_else(|| reading.columns.get(far.feature));
            LargeValue {
                line: reading.lines.get(far.row).copied(),
                row: far.row,
                column: column
                    .cloned()
                    .unwrap_or_else(|| format!("feature {}", far.feature)),
                value: schema.in_files_units(far.feature, far.value),
                median: schema.in_files_units(far.feature, far.median),
            }
        });
        File {
            path: path.display().to_string(),
            missing: missing.collect(),
            unused_columns: reading.unused.clone(),
            columns_in_file_order: reading.columns.clone(),
            axes: reading.axes.clone(),
            large_values: large.collect(),
        }
    }
}
