//! `kith model export`: a model for programs that know nothing of Kith.
//!
//! The exported model takes normalised rows and gives logits. How a row is normalised, and what the
//! classes are called, stands in `config.json` next to it.

mod onnx;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kith_models::source::MISSING;
use kith_models::{ColumnKind, Operation, Schema, write_model};
use serde_json::{Value, json};

use super::{Trained, class_name, refuse_overwriting};
use crate::agreement::Agreement;
use crate::cli::done;
use crate::cli::output::{Failure, Verdict, print, print_json};
use crate::error::NodeError;

/// The module, the same for every model: it is built from `config.json`.
const MODULE: &str = include_str!("export/model.py");

/// Write a model for PyTorch or as ONNX
#[derive(Debug, Args)]
#[command(after_help = "\
Both forms take normalised rows and give logits; config.json holds the labels, the normalisation and
the layers.
  torch  model.safetensors, with the names and shapes of PyTorch, and model.py, which builds the
         module from config.json and normalises rows
  onnx   model.onnx (operator set 13), from `rows` [rows, …] to `logits` [rows, classes]

Example:
  kith model export ada/checkpoints/round-000020.safetensors --charter ada/charter.toml --to torch --out digits")]
pub(crate) struct Export {
    #[command(flatten)]
    trained: Trained,
    /// The program that will read it
    #[arg(long)]
    to: Format,
    /// The folder for its files, made if it is not there
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// PyTorch
    Torch,
    /// ONNX, which most inference engines read
    Onnx,
}

impl Export {
    pub(super) fn run(self) -> Verdict {
        let (agreement, parameters) = self.trained.load()?;
        let operations = agreement.task.operations().ok_or_else(|| {
            let kind = agreement.task.model().kind;
            Failure::new(format!(
                "models of kind {kind:?} have no form outside of Kith"
            ))
        })?;
        let config = serde_json::to_vec_pretty(&config(&agreement, &operations))
            .map_err(|error| Failure::new(format!("the configuration: {error}")))?;
        let layout = agreement.task.layout();
        let mut files = match self.to {
            Format::Torch => vec![
                (
                    "model.safetensors",
                    write_model(layout, &parameters, &metadata(&agreement)),
                ),
                ("model.py", MODULE.as_bytes().to_vec()),
            ],
            Format::Onnx => {
                let schema = agreement.task.schema();
                let bytes = onnx::model(&operations, schema, layout, &parameters);
                vec![("model.onnx", bytes)]
            }
        };
        files.push(("config.json", config));
        let written = self.write(&files)?;
        if self.json {
            print_json(&json!({"written": written}))?;
        } else {
            let paths = written.iter().map(|path| format!("{}\n", path.display()));
            print(&paths.collect::<String>())?;
        }
        done()
    }

    fn write(&self, files: &[(&str, Vec<u8>)]) -> Result<Vec<PathBuf>, Failure> {
        for (name, _) in files {
            for input in [&self.trained.file, &self.trained.charter] {
                refuse_overwriting(&self.out.join(name), input)?;
            }
        }
        std::fs::create_dir_all(&self.out)
            .map_err(|error| NodeError::io("create", &self.out, error))?;
        let mut written = Vec::new();
        for (name, bytes) in files {
            let path = self.out.join(name);
            std::fs::write(&path, bytes).map_err(|error| NodeError::io("write", &path, error))?;
            written.push(path);
        }
        Ok(written)
    }
}

/// The same texts as in a checkpoint, as far as they concern the model.
fn metadata(agreement: &Agreement) -> std::collections::BTreeMap<String, String> {
    let federation = agreement.charter.genesis.to_string();
    [(super::FEDERATION.to_owned(), federation)].into()
}

/// What a program needs besides the weights.
fn config(agreement: &Agreement, operations: &[Operation]) -> Value {
    let schema = agreement.task.schema();
    let labels: Vec<String> = (0..schema.classes)
        .map(|class| class_name(schema, class))
        .collect();
    json!({
        "federation": agreement.charter.genesis.to_string(),
        "federation_name": agreement.charter.name,
        "model": agreement.task.model().kind,
        "input_shape": schema.shape,
        "labels": labels,
        "layers": operations.iter().map(layer).collect::<Vec<_>>(),
        "normalisation": normalisation(schema),
    })
}

fn layer(operation: &Operation) -> Value {
    match operation {
        Operation::Convolution {
            layer,
            inputs,
            outputs,
            kernel,
        } => {
            json!({"kind": "convolution", "name": layer, "inputs": inputs, "outputs": outputs, "kernel": kernel})
        }
        Operation::MaxPool => json!({"kind": "max-pool"}),
        Operation::Relu => json!({"kind": "relu"}),
        Operation::Flatten => json!({"kind": "flatten"}),
        Operation::Linear {
            layer,
            inputs,
            outputs,
        } => json!({"kind": "linear", "name": layer, "inputs": inputs, "outputs": outputs}),
    }
}

/// How a file's values become features: (value − mean) / deviation, or column by column.
fn normalisation(schema: &Schema) -> Value {
    if schema.columns.is_empty() {
        return json!({"mean": schema.mean, "deviation": schema.deviation});
    }
    let columns: Vec<Value> = schema
        .columns
        .iter()
        .map(|column| match &column.kind {
            ColumnKind::Number {
                mean,
                deviation,
                impute,
                missing,
            } => {
                json!({"name": column.name, "kind": "number", "mean": mean, "deviation": deviation, "impute": impute, "missing": missing})
            }
            ColumnKind::Category { values } => {
                json!({"name": column.name, "kind": "category", "values": values})
            }
        })
        .collect();
    let missing: Vec<&str> = MISSING
        .into_iter()
        .chain(schema.missing.iter().map(String::as_str))
        .collect();
    json!({"columns": columns, "missing": missing})
}
