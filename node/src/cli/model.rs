//! `kith model`: what was learned.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kith_models::{auc, inspect, open, read_model};
use serde_json::json;

use super::done;
use super::output::{Failure, Verdict, print, print_json, table};
use crate::agreement::Agreement;

/// Look into a model file, or evaluate it
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Tensors and metadata of a safetensors file
    Inspect(Inspect),
    /// Loss and accuracy on rows of your own
    Evaluate(Evaluate),
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
    /// The model, for example a checkpoint
    file: PathBuf,
    /// The charter it was trained under
    #[arg(long)]
    charter: PathBuf,
    /// Rows with labels
    #[arg(long)]
    data: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Model {
    pub(crate) fn run(self) -> Verdict {
        match self {
            Model::Inspect(inspect) => inspect.run(),
            Model::Evaluate(evaluate) => evaluate.run(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
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
            let tensors: Vec<_> =
                found.tensors.iter().map(|(name, kind, shape)| json!({"name": name, "dtype": kind, "shape": shape})).collect();
            print_json(&json!({"tensors": tensors, "metadata": found.metadata}))?;
            return done();
        }
        let mut shown = table(&["tensor", "type", "shape", "values"]);
        for (name, kind, shape) in &found.tensors {
            let values: usize = shape.iter().product();
            shown.add_row([name.clone(), kind.clone(), format!("{shape:?}"), values.to_string()]);
        }
        let metadata: String = found.metadata.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        print(&format!("{shown}\n{metadata}"))?;
        done()
    }
}

impl Evaluate {
    fn run(self) -> Verdict {
        let agreement = Agreement::load(&self.charter)?;
        let failed = |path: &Path, error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
        let parameters = read_model(&read(&self.file)?, agreement.task.layout()).map_err(|error| failed(&self.file, &error))?;
        let rows = open(&self.data, agreement.task.schema()).map_err(|error| Failure::new(error.to_string()))?;
        let evaluation = agreement.task.evaluate(&parameters, &rows).map_err(|error| failed(&self.data, &error))?;
        let scores = agreement.task.scores(&parameters, &rows).map_err(|error| failed(&self.data, &error))?;
        let auc = auc(&scores, rows.labels());
        if self.json {
            let classes: Vec<_> = evaluation
                .classes
                .iter()
                .map(|class| json!({"class": class.class, "samples": class.samples, "correct": class.correct}))
                .collect();
            print_json(&json!({
                "samples": evaluation.samples,
                "loss": evaluation.loss,
                "accuracy": evaluation.accuracy,
                "balanced_accuracy": evaluation.balanced_accuracy(),
                "auc": auc,
                "classes": classes,
            }))?;
            return done();
        }
        let mut shown = table(&["class", "rows", "right", "share"]);
        for class in &evaluation.classes {
            let share =
                if class.samples > 0 { format!("{:.4}", class.correct as f64 / class.samples as f64) } else { "–".to_owned() };
            shown.add_row([class.class.to_string(), class.samples.to_string(), class.correct.to_string(), share]);
        }
        let auc = auc.map_or(String::new(), |auc| format!(", AUC {auc:.4}"));
        print(&format!(
            "{shown}\naccuracy {:.4}, balanced {:.4}{auc}, loss {:.4} on {} rows\n",
            evaluation.accuracy,
            evaluation.balanced_accuracy(),
            evaluation.loss,
            evaluation.samples
        ))?;
        done()
    }
}
