//! What was learned is used outside of a run: `kith model predict` and `kith model export`. What is
//! exported is read by PyTorch and onnxruntime. Skipped, and said so, where Python lacks them;
//! `KITH_PYTHON` names another interpreter.

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use common::{Folder, one_document, text_of, told};
use kith_models::{DATASETS, DatasetOptions, MODELS, open_unlabelled, write_csv, write_model};
use kith_node::agreement::Agreement;
use serde_json::{Value, json};

/// Rows that are compared.
const ROWS: usize = 40;
/// Most by which a logit may differ from ours. Sums of at most a few hundred products of numbers of
/// 32 bits differ by about 1e-6 with their order.
const TOLERANCE: f64 = 1e-5;

const DIGITS: &str = "classes = 10\nmean = [5]\ndeviation = [6]";

/// Every kind of model, with data that it can read: a name, the data set, and `[data]` and `[model]`.
fn cases() -> [(&'static str, &'static str, String); 4] {
    let digits =
        |shape: &str, model: &str| format!("[data]\nshape = {shape}\n{DIGITS}\n[model]\n{model}\n");
    let heart = DATASETS.find("heart").expect("listed").new.defaults;
    let heart = heart.split("[training]").next().expect("a part");
    [
        ("softmax of named columns", "heart", heart.to_owned()),
        ("softmax", "digits", digits("[64]", "kind = \"softmax\"")),
        (
            "mlp",
            "digits",
            digits("[64]", "kind = \"mlp\"\nhidden = [24, 16]"),
        ),
        (
            "cnn",
            "digits",
            digits(
                "[1, 8, 8]",
                "kind = \"cnn\"\nkernel = 3\nchannels = [4, 6]\nhidden = [24]",
            ),
        ),
    ]
}

/// A folder with `charter.toml`, `model.safetensors` and `rows.csv`.
struct Case {
    folder: Folder,
    agreement: Agreement,
    parameters: Vec<f32>,
}

impl Case {
    fn new(dataset: &str, sections: &str) -> Case {
        let folder = Folder::new();
        let text = format!(
            "[federation]\nname = \"wards\"\nrounds = 3\n[membership]\nmode = \"open\"\npeers = 4\n[topology]\nkind = \"complete\"\n[training]\n{sections}"
        );
        folder.write("charter.toml", &text);
        let agreement = Agreement::load(&folder.path("charter.toml"))
            .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        let mut parameters = agreement.task.initial_parameters();
        // Initial biases are 0, which would hide one that is lost.
        for (index, value) in parameters.iter_mut().enumerate() {
            *value += (index as f32).sin() * 0.1;
        }
        let case = Case {
            folder,
            agreement,
            parameters,
        };
        case.write_model(
            "model.safetensors",
            &case.agreement.charter.genesis.to_string(),
        );
        let files = DATASETS.find(dataset).expect("listed").new;
        let loaded = (files.load)(&DatasetOptions::default()).expect("it is compiled in");
        let rows: Vec<usize> = (0..ROWS).map(|row| row * 11).collect();
        let label = &case.agreement.task.schema().label;
        write_csv(
            &case.folder.path("rows.csv"),
            &loaded.source.select(&rows),
            label,
        )
        .expect("written");
        case
    }

    fn write_model(&self, name: &str, federation: &str) {
        let metadata = BTreeMap::from([("kith.federation".to_owned(), federation.to_owned())]);
        let bytes = write_model(self.agreement.task.layout(), &self.parameters, &metadata);
        std::fs::write(self.folder.path(name), bytes).expect("written");
    }

    fn logits(&self) -> Vec<Vec<f32>> {
        let task = &self.agreement.task;
        let (rows, _) =
            open_unlabelled(&self.folder.path("rows.csv"), task.schema()).expect("rows");
        task.logits(&self.parameters, &rows).expect("logits")
    }

    fn export(&self, to: &str) {
        let output = self.folder.kith(&[
            "model",
            "export",
            "model.safetensors",
            "--charter",
            "charter.toml",
            "--to",
            to,
            "--out",
            to,
        ]);
        assert!(output.status.success(), "{}", told(&output));
    }

    fn predict(&self, model: &str, rows: &str) -> Output {
        self.folder.kith(&[
            "model",
            "predict",
            model,
            "--charter",
            "charter.toml",
            "--data",
            rows,
            "--out",
            "predictions.csv",
        ])
    }

    /// Asserts that a program gives our logits.
    fn compare(&self, name: &str, found: &Value) {
        let found: Vec<Vec<f64>> = serde_json::from_value(found.clone()).expect("logits");
        let ours = self.logits();
        assert_eq!((found.len(), ours.len()), (ROWS, ROWS), "{name}");
        let mut largest = 0.0f64;
        for (found, ours) in found.iter().zip(&ours) {
            assert_eq!(found.len(), ours.len(), "{name}");
            for (found, ours) in found.iter().zip(ours) {
                largest = largest.max((found - f64::from(*ours)).abs());
            }
        }
        assert!(largest <= TOLERANCE, "{name}: logits differ by {largest:e}");
        eprintln!("{name}: logits differ by at most {largest:.1e}");
    }
}

fn python() -> Command {
    Command::new(std::env::var("KITH_PYTHON").unwrap_or_else(|_| "python3".to_owned()))
}

fn is_installed(module: &str, how: &str) -> bool {
    let found = python().args(["-c", &format!("import {module}")]).output();
    let found = found.is_ok_and(|found| found.status.success());
    if !found {
        // Written past the test's capture of output, so that it is seen.
        let _ = writeln!(
            std::io::stderr(),
            "!! SKIPPED: Python's {module} is not installed: {how}"
        );
    }
    found
}

/// The JSON that a script prints.
fn script(text: &str, arguments: &[&str]) -> Value {
    let output = python().args(["-c", text]).args(arguments).output();
    let output = output.expect("Python starts");
    assert!(output.status.success(), "{}", told(&output));
    one_document(&output)
}

#[test]
fn every_kind_of_model_is_compared() {
    let kinds: Vec<_> = cases().map(|(name, _, _)| name).to_vec();
    assert!(
        MODELS.iter().all(|entry| kinds.contains(&entry.name)),
        "{kinds:?}"
    );
}

/// Reads rows as a stranger would: with the module that comes with the model.
const TORCH: &str = r#"
import csv, json, sys
folder, rows, label = sys.argv[1:]
sys.path.insert(0, folder)
from model import load, normalise
model, config = load(folder)
rows = list(csv.DictReader(open(rows)))
if "columns" not in config["normalisation"]:
    rows = [[float(cell) for name, cell in row.items() if name != label] for row in rows]
print(json.dumps(model(normalise(config, rows)).tolist()))
"#;

#[test]
fn pytorch_loads_every_kind_of_model_strictly_and_gives_our_logits() {
    if !is_installed("torch", "apt-get install python3-torch") {
        return;
    }
    for (name, dataset, sections) in cases() {
        let case = Case::new(dataset, &sections);
        case.export("torch");
        let [folder, rows] =
            ["torch", "rows.csv"].map(|name| case.folder.path(name).display().to_string());
        case.compare(
            name,
            &script(
                TORCH,
                &[&folder, &rows, &case.agreement.task.schema().label],
            ),
        );
    }
}

/// Runs the model on rows that are normalised already.
const ONNX: &str = r#"
import json, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
[taken], [given] = session.get_inputs(), session.get_outputs()
assert (taken.name, given.name) == ("rows", "logits"), (taken.name, given.name)
rows = numpy.array(json.load(open(sys.argv[2])), dtype=numpy.float32)
rows = rows.reshape(-1, *taken.shape[1:])
print(json.dumps(session.run(None, {"rows": rows})[0].tolist()))
"#;

#[test]
fn onnxruntime_reads_every_kind_of_model_and_gives_our_logits() {
    if !is_installed("onnxruntime", "pip install onnxruntime") {
        return;
    }
    for (name, dataset, sections) in cases() {
        let case = Case::new(dataset, &sections);
        case.export("onnx");
        let schema = case.agreement.task.schema();
        let (rows, _) = open_unlabelled(&case.folder.path("rows.csv"), schema).expect("rows");
        let features: Vec<Vec<f32>> = (0..rows.len()).map(|row| rows.row(row)).collect();
        case.folder
            .write("features.json", &json!(features).to_string());
        let [model, rows] = ["onnx/model.onnx", "features.json"]
            .map(|name| case.folder.path(name).display().to_string());
        case.compare(name, &script(ONNX, &[&model, &rows]));
    }
}

/// Blocks of the guide in this language.
fn blocks(language: &str) -> Vec<String> {
    let guide = text_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/models.md"));
    let begin = format!("```{language}\n");
    let blocks = guide.split(&begin).skip(1);
    blocks
        .map(|rest| rest.split("```").next().expect("a block").to_owned())
        .collect()
}

#[test]
fn the_guide_s_commands_do_what_it_says() {
    let folder = Folder::new();
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("kith"), "{line}");
        let output = folder.kith(&words.collect::<Vec<_>>());
        assert!(output.status.success(), "{line}: {}", told(&output));
    }
    let predictions = text_of(&folder.path("predictions.csv"));
    let shown = &blocks("csv")[0];
    assert_eq!(predictions.lines().next(), shown.lines().next());
    let classes = predictions.lines().skip(1);
    let classes: Vec<&str> = classes.filter_map(|line| line.split(',').nth(1)).collect();
    assert!(!classes.is_empty() && classes.contains(&"0") && classes.contains(&"1"));
    if !is_installed("torch", "apt-get install python3-torch") {
        return;
    }
    let program = format!(
        "import sys\nsys.path.insert(0, 'heart')\n{}",
        blocks("python")[0]
    );
    let output = python()
        .args(["-c", &program])
        .current_dir(folder.0.path())
        .output()
        .expect("Python starts");
    assert!(output.status.success(), "{}", told(&output));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.lines().collect::<Vec<_>>(), classes);
}

#[test]
fn predictions_name_class_and_probabilities_of_rows_with_or_without_labels() {
    let sections = "[data]\nclasses = 2\nlabel = \"sick\"\nclass_names = [\"no, well\", \"yes\"]\n[[data.column]]\nname = \"age\"\n[model]\nkind = \"softmax\"\n";
    let mut case = Case::new("digits", sections);
    // Logits are 0 and `age`, so that the probability of "yes" is that of the logistic function.
    case.parameters = vec![0.0, 0.0, 0.0, 1.0];
    let federation = case.agreement.charter.genesis.to_string();
    case.write_model("model.safetensors", &federation);
    for rows in ["age\n2\n-1\n0\n", "sick,age\n?,2\nyes,-1\nyes,0\n"] {
        case.folder.write("rows.csv", rows);
        let output = case.predict("model.safetensors", "rows.csv");
        assert!(
            output.status.success() && output.stdout == b"predictions.csv\n",
            "{}",
            told(&output)
        );
        let text = text_of(&case.folder.path("predictions.csv"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "row,class,\"probability_no, well\",probability_yes"
        );
        // 1 / (1 + e⁻²), 1 / (1 + e¹) and a half, to six digits.
        let wanted = [
            ("1,yes", 0.880_797),
            ("2,\"no, well\"", 0.268_941),
            ("3,\"no, well\"", 0.5),
        ];
        assert_eq!(lines.len(), wanted.len() + 1, "{text}");
        for (line, (begin, yes)) in lines[1..].iter().zip(wanted) {
            let cells: Vec<&str> = line
                .strip_prefix(begin)
                .unwrap_or_else(|| panic!("{line}"))
                .split(',')
                .collect();
            let [no, found]: [f64; 2] =
                [cells[1], cells[2]].map(|cell| cell.parse().expect("a number"));
            assert!(
                (found - yes).abs() < 1e-6 && (no + found - 1.0).abs() < 1e-6,
                "{line}"
            );
        }
    }
}

#[test]
fn a_model_of_another_federation_is_neither_applied_nor_exported() {
    let case = Case::new("digits", &cases()[1].2);
    let other = "00".repeat(32);
    case.write_model("other.safetensors", &other);
    let refused = |verb: &str, options: &[&str]| {
        let begin = [
            "model",
            verb,
            "other.safetensors",
            "--charter",
            "charter.toml",
        ];
        let arguments: Vec<&str> = begin.iter().chain(options).copied().collect();
        case.folder
            .refused(&arguments, &["another federation", &other]);
    };
    refused(
        "predict",
        &["--data", "rows.csv", "--out", "predictions.csv"],
    );
    refused("export", &["--to", "torch", "--out", "torch"]);
    assert!(!case.folder.path("predictions.csv").exists() && !case.folder.path("torch").exists());
}

#[test]
fn an_output_that_is_an_input_is_refused_and_keeps_the_input() {
    let case = Case::new("digits", &cases()[1].2);
    let before = text_of(&case.folder.path("rows.csv"));
    let model = [
        "model",
        "predict",
        "model.safetensors",
        "--charter",
        "charter.toml",
    ];
    let same = ["--data", "rows.csv", "--out", "./rows.csv"];
    case.folder.refused(
        &[&model[..], &same[..]].concat(),
        &["the output and also an input"],
    );
    let export = [
        "model",
        "export",
        "model.safetensors",
        "--charter",
        "charter.toml",
    ];
    let here = ["--to", "torch", "--out", "."];
    case.folder.refused(
        &[&export[..], &here[..]].concat(),
        &["the output and also an input"],
    );
    assert_eq!(text_of(&case.folder.path("rows.csv")), before);
}
