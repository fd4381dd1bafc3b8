//! What peers and people see, written down: traces of simulated runs, charter ids, documents' keys,
//! refusals' words.
//!
//! The files under `unchanged/` are transcripts. A line that starts with `$` is a command, and what
//! follows until the next one is what it answered. They are the program's own output and say
//! nothing about what is right. They are here so that moving code about shows when it changes more
//! than the place of the code. `KITH_UNCHANGED=write` writes them anew, which is right only in a
//! change that means to alter what they hold, and says so.
//!
//! | command | what is written down |
//! |---|---|
//! | `$ trace FILE …` | `kith sim run FILE …`: how it ended, the hash over all inputs and effects, or the refusal |
//! | `$ keys …` | the keys of the one JSON document of `kith … --json` |
//! | `$ events NAME,NAME …` | the keys of these events among the lines of `kith … --json` |
//! | `$ names TABLE` | the names in `kith list TABLE` |
//! | `$ kith …` | exit code and output, whole |

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{Folder, fold};
use serde_json::Value;

fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder with the committed worlds, the experiments and the transcripts' own files.
fn folder() -> Folder {
    let folder = Folder::new();
    for from in [
        "../simulations/tests/worlds",
        "../experiments",
        "unchanged/files",
    ] {
        for entry in std::fs::read_dir(place(from)).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a file has a name");
                std::fs::copy(&path, folder.0.path().join(name)).expect("copied");
            }
        }
    }
    folder
}

/// Every key of a document with the kind of what it holds; a list's items share their keys, and
/// maps of peers their one name.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "flag",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(items) => {
            items
                .iter()
                .for_each(|item| keys(item, &format!("{at}[]"), found));
            "list"
        }
        // Which names stand in these tells what happened to come about, not what the document is.
        Value::Object(_) if at.ends_with(".refused") => "object",
        Value::Object(map) => {
            for (key, item) in map {
                let name = if key.starts_with("12D3Koo") {
                    "PEER"
                } else {
                    key
                };
                keys(item, &format!("{at}.{name}"), found);
            }
            "object"
        }
    };
    found.insert(format!("{at} {kind}"));
}

/// What one command of a transcript answers, in lines.
fn answer(folder: &Folder, command: &str) -> String {
    let mut words = command.split_whitespace();
    let verb = words.next().expect("a command");
    let arguments: Vec<&str> = words.collect();
    let document = |arguments: &[&str]| -> Result<Value, String> {
        let output = folder.kith(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text).map_err(|_| fold(&String::from_utf8_lossy(&output.stderr)))
    };
    match verb {
        "trace" => {
            let run = [&["sim", "run"], &arguments[..], &["--json", "--no-files"]].concat();
            match document(&run) {
                Ok(found) => format!(
                    "{} {}\n",
                    found["ended"].as_str().unwrap_or("?"),
                    found["trace"].as_str().unwrap_or("?")
                ),
                Err(why) => format!("refused: {why}\n"),
            }
        }
        "keys" => {
            let found = document(&[&arguments[..], &["--json"]].concat());
            let mut all = BTreeSet::new();
            keys(
                &found.unwrap_or_else(|why| panic!("{command}: {why}")),
                "",
                &mut all,
            );
            all.into_iter().map(|key| key + "\n").collect()
        }
        "events" => {
            let wanted: Vec<&str> = arguments[0].split(',').collect();
            let output = folder.kith(&[&arguments[1..], &["--json"]].concat());
            let mut all = BTreeSet::new();
            for line in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>() {
                let line = line.unwrap_or_else(|why| panic!("{command}: {why}"));
                let event = line["event"].as_str().unwrap_or("?");
                if wanted.contains(&event) {
                    keys(&line, event, &mut all);
                }
            }
            all.into_iter().map(|key| key + "\n").collect()
        }
        "names" => {
            let found =
                document(&[&["list"], &arguments[..], &["--json"]].concat()).expect("a table");
            let rows = found
                .as_array()
                .unwrap_or_else(|| panic!("{command}: no list: {found}"));
            rows.iter()
                .map(|row| format!("{}\n", row["name"].as_str().unwrap_or("?")))
                .collect()
        }
        "kith" => {
            let output = folder.kith(&arguments);
            let code = output
                .status
                .code()
                .map_or("killed".to_owned(), |code| code.to_string());
            let mut told = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            told.extend(errors.lines().map(|line| format!("! {line}\n")));
            let told = told.replace(&folder.0.path().to_string_lossy().into_owned(), "FOLDER");
            let told: String = told
                .lines()
                .map(|line| line.trim_end().to_owned() + "\n")
                .collect();
            format!("exit {code}\n{told}")
        }
        other => panic!("{other:?} is no verb of a transcript"),
    }
}

/// Replays a transcript and compares each answer.
fn replay(name: &str) {
    let path = place("unchanged").join(name);
    let text = std::fs::read_to_string(&path).expect("a transcript");
    let folder = folder();
    let mut written = String::new();
    let mut differing = Vec::new();
    let blocks = text.split("$ ").skip(1);
    for block in blocks {
        let (command, expected) = block
            .split_once('\n')
            .expect("a command stands on a line of its own");
        let found = answer(&folder, command);
        if found.trim_end() != expected.trim_end() {
            differing.push(format!(
                "$ {command}\n--- written down\n{}\n--- now\n{found}",
                expected.trim_end()
            ));
        }
        written.push_str(&format!("$ {command}\n{found}"));
    }
    assert!(!written.is_empty(), "{name} has commands");
    if std::env::var("KITH_UNCHANGED").is_ok_and(|what| what == "write") {
        std::fs::write(&path, written).expect("written");
        return;
    }
    assert!(
        differing.is_empty(),
        "{} of {name} changed:\n{}",
        differing.len(),
        differing.join("\n")
    );
}

#[test]
fn traces_of_worlds_are_as_they_were() {
    replay("traces.txt");
}

#[test]
fn traces_of_methods_modes_and_attacks_are_as_they_were() {
    replay("traces-kinds.txt");
}

#[test]
fn charters_have_their_ids() {
    replay("charters.txt");
}

#[test]
fn documents_have_their_keys() {
    replay("documents.txt");
}

#[test]
fn refusals_have_their_words() {
    replay("refusals.txt");
}
