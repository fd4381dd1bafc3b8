//! `kith model predict`: the class that a model gives to each of some rows, as CSV.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use kith_models::{Schema, open_unlabelled};
use serde_json::json;

use super::{Trained, class_name, failed, refuse_overwriting, tell_of};
use crate::cli::done;
use crate::cli::output::{Failure, Verdict, print, print_json};

/// Class and probabilities of rows without labels
#[derive(Debug, Args)]
#[command(after_help = "\
The output is CSV: the row's number from 1 on, the header not counted; its most probable class, by
the charter's name if classes have names; and the probability of each class. If the rows have labels,
these are not read: `kith model evaluate` compares them with the model.

Example:
  kith model predict ada/checkpoints/round-000020.safetensors --charter ada/charter.toml --data rows.csv --out predictions.csv")]
pub(crate) struct Predict {
    #[command(flatten)]
    trained: Trained,
    /// Rows as CSV, IDX or NPY; the column of labels may be missing
    #[arg(long)]
    data: PathBuf,
    /// The file that is written
    #[arg(long)]
    out: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Predict {
    pub(super) fn run(self) -> Verdict {
        for input in [&self.data, &self.trained.file, &self.trained.charter] {
            refuse_overwriting(&self.out, input)?;
        }
        let (agreement, parameters) = self.trained.load()?;
        let task = &agreement.task;
        let (rows, reading) = open_unlabelled(&self.data, task.schema())
            .map_err(|error| Failure::new(error.to_string()))?;
        tell_of(reading);
        let scores = task
            .scores(&parameters, &rows)
            .map_err(|error| failed(&self.data, error))?;
        let not_finite = |row: &Vec<f32>| row.iter().any(|probability| !probability.is_finite());
        if let Some(row) = scores.iter().position(not_finite) {
            return Err(Failure::with_help(
                format!(
                    "{} gives row {} of {} no probabilities: its outputs are too large for numbers of 32 bits",
                    self.trained.file.display(),
                    row + 1,
                    self.data.display()
                ),
                "nothing was written; look for values in that row that are far outside of those that the model was trained on",
            ));
        }
        write(&self.out, task.schema(), &scores).map_err(|error| {
            Failure::new(format!("cannot write {}: {error}", self.out.display()))
        })?;
        if self.json {
            print_json(&json!({"rows": scores.len(), "written": self.out}))?;
        } else {
            print(&format!("{}\n", self.out.display()))?;
        }
        done()
    }
}

/// The most probable class; of equal ones the first, as an evaluation counts it.
fn most_probable(probabilities: &[f32]) -> usize {
    (0..probabilities.len()).fold(0, |best, class| {
        if probabilities[class] > probabilities[best] {
            class
        } else {
            best
        }
    })
}

fn write(path: &Path, schema: &Schema, scores: &[Vec<f32>]) -> Result<(), csv::Error> {
    let mut bytes = csv::Writer::from_writer(Vec::new());
    let names =
        (0..schema.classes).map(|class| format!("probability_{}", class_name(schema, class)));
    let header = ["row".to_owned(), "class".to_owned()].into_iter();
    bytes.write_record(header.chain(names))?;
    for (index, probabilities) in scores.iter().enumerate() {
        let class = class_name(schema, most_probable(probabilities));
        let row = [(index + 1).to_string(), class].into_iter();
        bytes.write_record(row.chain(probabilities.iter().map(f32::to_string)))?;
    }
    let bytes = bytes.into_inner().map_err(|error| error.into_error())?;
    std::fs::File::create(path)?.write_all(&bytes)?;
    Ok(())
}
