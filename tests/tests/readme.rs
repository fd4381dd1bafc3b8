//! The README's commands do what it says.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    std::fs::read_to_string(path).expect("a README")
}

/// Commands of the `sh` blocks under a heading, comments cut off.
fn commands(heading: &str) -> Vec<String> {
    let text = readme();
    let section = text
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .expect("the heading")
        .split("\n## ")
        .next()
        .expect("a section");
    let blocks = section
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a block"));
    blocks
        .flat_map(str::lines)
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn continuous_integration_calls_the_readmes_test_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let script = std::fs::read_to_string(root.join(".ci/run")).expect("a script");
    assert!(readme().contains("\ncargo test --workspace "));
    assert!(script.contains("\ncargo test --workspace\n"));
}

#[test]
fn three_peers_by_hand_find_each_other_and_train() {
    let folder = tempfile::tempdir().expect("a folder");
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("made");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kith-under-test"), bin.join("kith"))
        .expect("a link");
    let models = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models")
        .canonicalize()
        .expect("models");
    std::os::unix::fs::symlink(models, folder.path().join("models")).expect("a link");
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    // The README's ports may be taken on this machine.
    let ports: Vec<(String, String)> = ["4701", "4702", "4703"]
        .iter()
        .map(|port| ((*port).to_owned(), common::free_port().to_string()))
        .collect();
    let shell = |line: &str| {
        let line = ports.iter().fold(line.to_owned(), |line, (from, to)| {
            line.replace(&format!("tcp/{from}"), &format!("tcp/{to}"))
        });
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("set -eo pipefail; {line}")])
            .current_dir(folder.path());
        command
            .env("PATH", &path)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    };
    let lines = commands("Three peers by hand");
    assert!(lines.len() >= 12, "{lines:?}");
    let mut running = Vec::new();
    for line in &lines {
        if line.starts_with("kith run") {
            let child = shell(&format!("exec {line}"))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("bash");
            running.push((line.clone(), child));
            continue;
        }
        for (line, child) in running.drain(..) {
            let output = child.wait_with_output().expect("ends");
            assert!(output.status.success(), "{line}: {}", common::told(&output));
            assert!(
                common::told(&output).contains("finished 1000 rounds"),
                "{line}: {}",
                common::told(&output)
            );
        }
        let output = shell(line).output().expect("bash");
        assert!(output.status.success(), "{line}: {}", common::told(&output));
    }
    assert!(
        running.is_empty(),
        "what was learned is looked at in the end"
    );
}

#[test]
fn pictures_of_text_keep_their_columns() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .join("docs");
    for entry in std::fs::read_dir(docs).expect("documents") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            let text = std::fs::read_to_string(&path).expect("text");
            // Browsers no longer honour xml:space, and a text does not inherit the style of what it
            // stands in.
            assert!(
                text.contains("<style>text { white-space: pre }</style>"),
                "{}",
                path.display()
            );
        }
    }
}
