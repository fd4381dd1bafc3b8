//! `kith model`: looks into a trained model, evaluates it, applies it to rows, and writes it for other
//! programs.

mod export;
mod predict;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kith_models::source::Reading;
use kith_models::{Evaluation, Opening, Schema, auc, inspect, open_as, read_model};
use serde_json::{Value, json};

use super::done;
use super::output::{Failure, Verdict, print, print_json, table, tell};
use crate::agreement::Agreement;

/// Metadata of a checkpoint: the federation in which it was made.
const FEDERATION: &str = "kith.federation";

/// Look into a model file, evaluate it, or apply it to rows
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Tensors and metadata of a safetensors file
    Inspect(Inspect),
    /// Loss and accuracy on rows of your own
    Evaluate(Evaluate),
    /// Class and probabilities of rows without labels
    Predict(predict::Predict),
    /// Write it for PyTorch or as ONNX
    Export(export::Export),
}

/// Tensors and metadata of a safetensors file
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The model
    file: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Loss and accuracy on rows of your own
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kith model evaluate ada/checkpoints/round-000020.safetensors --charter ada/charter.toml --data test.csv")]
pub(crate) struct Evaluate {
    #[command(flatten)]
    trained: Trained,
    /// Rows with labels; best rows that no peer has trained on
    #[arg(long)]
    data: PathBuf,
    /// The labels of IDX or NPY rows, if they are in a file of another name
    #[arg(long)]
    labels: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// A model and the charter that says what its parameters mean
#[derive(Debug, Args)]
struct Trained {
    /// The model, for example a checkpoint
    file: PathBuf,
    /// The charter it was trained under
    #[arg(long)]
    charter: PathBuf,
}

impl Model {
    pub(crate) fn run(self) -> Verdict {
        match self {
            Model::Inspect(inspect) => inspect.run(),
            Model::Evaluate(evaluate) => evaluate.run(),
            Model::Predict(predict) => predict.run(),
            Model::Export(export) => export.run(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
}

impl Inspect {
    fn run(self) -> Verdict {
        let bytes = read(&self.file)?;
        let found = inspect(&bytes).map_err(|error| {
            Failure::with_help(
                format!("{}: {error}", self.file.display()),
                "expected a safetensors file, for example one of checkpoints/",
            )
        })?;
        if self.json {
            let tensors: Vec<_> = found
                .tensors
                .iter()
                .map(|(name, kind, shape)| json!({"name": name, "dtype": kind, "shape": shape}))
                .collect();
            print_json(&json!({"tensors": tensors, "metadata": found.metadata}))?;
            return done();
        }
        let mut shown = table(&["tensor", "type", "shape", "values"]);
        for (name, kind, shape) in &found.tensors {
            let values: usize = shape.iter().product();
            shown.add_row([
                name.clone(),
                kind.clone(),
                format!("{shape:?}"),
                values.to_string(),
            ]);
        }
        let metadata: String = found
            .metadata
            .iter()
            .map(|(key, value)| format!("{key}: {value}\n"))
            .collect();
        print(&format!("{shown}\n{metadata}"))?;
        done()
    }
}

impl Trained {
    /// A model means something only under the charter that it was trained under: another one may
    /// normalise rows differently and still have parameters of equal shapes.
    fn compare_federations(&self, trained: Option<&String>, given: &str) -> Result<(), Failure> {
        match trained {
            Some(trained) if trained != given => Err(Failure::with_help(
                format!(
                    "{} is a model of another federation: it was trained in {trained}, and {} is the charter of {given}",
                    self.file.display(),
                    self.charter.display()
                ),
                "give the charter that it was trained under; `kith charter hash` tells a charter's federation, `kith charter diff` what differs",
            )),
            Some(_) => Ok(()),
            None => {
                tell(&format!(
                    "{} does not say under which charter it was trained",
                    self.file.display()
                ));
                Ok(())
            }
        }
    }

    /// The charter's agreement and the model's parameters.
    fn load(&self) -> Result<(Agreement, Vec<f32>), Failure> {
        let agreement = Agreement::load(&self.charter)?;
        let bytes = read(&self.file)?;
        let metadata = inspect(&bytes)
            .map_err(|error| failed(&self.file, error))?
            .metadata;
        self.compare_federations(
            metadata.get(FEDERATION),
            &agreement.charter.genesis.to_string(),
        )?;
        let parameters = read_model(&bytes, agreement.task.layout())
            .map_err(|error| failed(&self.file, error))?;
        Ok((agreement, parameters))
    }
}

impl Evaluate {
    fn run(self) -> Verdict {
        let (agreement, parameters) = self.trained.load()?;
        let opening = Opening {
            labels: self.labels.as_deref(),
            ..Opening::default()
        };
        let (rows, reading) = open_as(&self.data, agreement.task.schema(), opening)
            .map_err(|error| Failure::new(error.to_string()))?;
        tell_of(reading);
        let evaluation = agreement
            .task
            .evaluate(&parameters, &rows)
            .map_err(|error| failed(&self.data, error))?;
        let scores = agreement
            .task
            .scores(&parameters, &rows)
            .map_err(|error| failed(&self.data, error))?;
        let auc = auc(&scores, rows.labels());
        if self.json {
            print_json(&evaluation_json(&evaluation, auc))?;
        } else {
            print(&evaluation_text(&evaluation, auc))?;
        }
        done()
    }
}

fn failed(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// An output that is also an input would destroy it.
fn refuse_overwriting(out: &Path, input: &Path) -> Result<(), Failure> {
    match (out.canonicalize(), input.canonicalize()) {
        (Ok(same), Ok(other)) if same == other => Err(Failure::with_help(
            format!("{} is the output and also an input", out.display()),
            "nothing was written; give another --out",
        )),
        _ => Ok(()),
    }
}

/// The name of a class: the schema's, or its number from 0.
fn class_name(schema: &Schema, class: usize) -> String {
    let given = schema.class_names.get(class);
    given.map_or_else(|| class.to_string(), Clone::clone)
}

/// Reports what was done to the rows by default.
fn tell_of(reading: Reading) {
    if !reading.columns.is_empty() {
        tell(
            "the charter names no columns: those of the rows are taken in their file's order, which must be the training rows'",
        );
    }
    reading.axes.into_iter().for_each(|axes| tell(&axes));
    for (column, cells) in reading.missing {
        tell(&format!(
            "{cells} cells of {column} are missing; what the charter imputes stands in for them"
        ));
    }
}

fn evaluation_json(evaluation: &Evaluation, auc: Option<f64>) -> Value {
    let classes: Vec<_> = evaluation
        .classes
        .iter()
        .map(|class| json!({"class": class.class, "samples": class.samples, "correct": class.correct}))
        .collect();
    json!({
        "samples": evaluation.samples,
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "balanced_accuracy": evaluation.balanced_accuracy(),
        "auc": auc,
        "classes": classes,
    })
}

fn evaluation_text(evaluation: &Evaluation, auc: Option<f64>) -> String {
    let mut shown = table(&["class", "rows", "right", "share"]);
    for class in &evaluation.classes {
        let share = if class.samples > 0 {
            format!("{:.4}", class.correct as f64 / class.samples as f64)
        } else {
            "–".to_owned()
        };
        shown.add_row([
            class.class.to_string(),
            class.samples.to_string(),
            class.correct.to_string(),
            share,
        ]);
    }
    let auc = auc.map_or(String::new(), |auc| format!(", AUC {auc:.4}"));
    format!(
        "{shown}\naccuracy {:.4}, balanced {:.4}{auc}, loss {:.4} on {} rows\n",
        evaluation.accuracy,
        evaluation.balanced_accuracy(),
        evaluation.loss,
        evaluation.samples
    )
}
