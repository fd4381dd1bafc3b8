//! The commands of guides and tutorials do what they say, and the troubleshooting guide knows every exit code and
//! every reason to refuse something.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Folder, free_port, kebab, kith, text_of, told};

/// Pages whose commands are all run here, in the order in which they stand. Those of
/// `tutorials/federation` are run by `readme.rs`.
const RUN: [&str; 11] = [
    "guides/cookbook",
    "guides/data",
    "guides/evaluator",
    "guides/monitor",
    "guides/operator",
    "guides/rehearse",
    "guides/researcher",
    "guides/cloud",
    "guides/edge",
    "tutorials/see-it",
    "tutorials/experiment",
];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

fn page(name: &str) -> String {
    text_of(&root().join("docs").join(name).with_extension("md"))
}

/// Fenced blocks: what stands behind the fence, the section before it, and the block.
fn blocks(text: &str) -> Vec<(&str, &str, &str)> {
    let fences: Vec<usize> = text.match_indices("```").map(|(place, _)| place).collect();
    fences
        .chunks(2)
        .map(|pair| {
            let (before, rest) = text.split_at(pair[0]);
            let section = before.rsplit("\n## ").next().unwrap_or(before);
            let block = &rest[3..pair[1] - pair[0]];
            let (info, block) = block.split_once('\n').expect("a fence and a block");
            (info, section, block)
        })
        .collect()
}

/// All commands of a page as one script, run in a folder of its own. Folders of the system and ports
/// are replaced: tests run beside each other, and not always as root.
fn run(name: &str) {
    let folder = Folder::new();
    let place = folder.0.path();
    for part in ["models", "deploy", "experiments"] {
        std::os::unix::fs::symlink(root().join(part), folder.path(part)).expect("a link");
    }
    std::fs::create_dir(folder.path("bin")).expect("made");
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_kith-under-test"),
        folder.path("bin/kith"),
    )
    .expect("a link");
    let text = page(name);
    let mut script = "set -euo pipefail\n".to_owned();
    for (info, _, block) in blocks(&text) {
        if info == "sh" {
            script += block;
        }
    }
    for from in ["/etc/kith", "/var/lib/kith"] {
        script = script.replace(from, &format!("{}{from}", place.display()));
    }
    for port in ["4701", "4702", "4703"] {
        script = script.replace(&format!("tcp/{port}"), &format!("tcp/{}", free_port()));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("timeout")
        .args(["600", "bash", "-c", &script])
        .current_dir(place)
        .env("PATH", format!("{}:{path}", folder.path("bin").display()))
        .env("NO_COLOR", "1")
        .output()
        .expect("bash");
    let (out, told) = (String::from_utf8_lossy(&output.stdout), told(&output));
    assert!(output.status.success(), "{name}: {out}\n{told}");
    let printed = without_numbers(&format!("{out}\n{told}"));
    let shown = blocks(&text)
        .into_iter()
        .filter(|(info, ..)| *info == "text");
    for line in shown.flat_map(|(_, _, block)| block.lines()) {
        let line_printed = printed.contains(&without_numbers(line.trim_end()));
        assert!(
            line_printed,
            "{name} shows {line:?}, printed is: {out}\n{told}"
        );
    }
}

/// A text with a sign in place of each number: times, and what training comes to, differ between
/// machines.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if !letter.is_ascii_digit() {
            plain.push(letter);
            continue;
        }
        plain.push('#');
        while letters
            .next_if(|next| next.is_ascii_digit() || *next == '.')
            .is_some()
        {}
    }
    plain
}

#[test]
fn the_evaluators_commands_work() {
    run("guides/evaluator");
}

#[test]
fn the_operators_commands_work() {
    run("guides/operator");
}

#[test]
fn the_commands_for_rows_and_rehearsals_work() {
    run("guides/data");
    run("guides/rehearse");
}

#[test]
fn the_commands_that_monitor_work() {
    run("guides/monitor");
}

#[test]
fn the_recipes_of_the_cookbook_work() {
    run("guides/cookbook");
}

#[test]
fn the_researchers_commands_work() {
    run("guides/researcher");
}

#[test]
fn the_commands_for_clouds_and_small_boards_work() {
    run("guides/cloud");
    run("guides/edge");
}

#[test]
fn the_commands_of_seeing_it_work_do() {
    run("tutorials/see-it");
}

#[test]
fn the_first_experiment_is_the_file_that_it_shows() {
    let text = page("tutorials/experiment");
    let (_, _, shown) = blocks(&text)
        .into_iter()
        .find(|(info, ..)| *info == "toml")
        .expect("the experiment");
    let file = text_of(&root().join("experiments/first.toml"));
    let settings = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(settings(shown), settings(&file));
    run("tutorials/experiment");
}

#[test]
fn a_command_that_no_test_runs_says_why() {
    for name in ["guides/mobile", "guides/troubleshooting"]
        .iter()
        .chain(&RUN)
    {
        let text = page(name);
        for (info, section, block) in blocks(&text) {
            match info {
                "sh" => assert!(RUN.contains(name), "{name}: nobody runs {block}"),
                "sh untested" => {
                    let told = text.lines().take(4).chain(section.lines());
                    let told = told.collect::<Vec<_>>().join(" ").to_lowercase();
                    assert!(told.contains("untested"), "{name}: {block}");
                }
                "toml" => {}
                "text" => assert!(RUN.contains(name), "{name}: nobody compares {block}"),
                other => panic!("{name}: a block of an unknown kind: {other:?}"),
            }
        }
    }
}

/// Headings of the troubleshooting guide that begin like this; what follows.
fn sections(start: &str) -> BTreeSet<String> {
    let text = page("guides/troubleshooting");
    let lines = text.lines().filter_map(|line| line.strip_prefix(start));
    lines
        .map(|rest| rest.trim_end_matches('`').to_owned())
        .collect()
}

#[test]
fn each_exit_code_has_a_section() {
    let output = kith().arg("--help").output().expect("the program starts");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let list = help.split("Exit codes:\n").nth(1).expect("a list");
    let list = list.split("\n\n").next().expect("its end");
    let codes: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.parse::<u8>().is_ok())
        .map(str::to_owned)
        .collect();
    assert!(codes.len() > 10, "{codes:?}");
    assert_eq!(sections("### Exit code "), codes);
}

#[test]
fn each_refusal_has_a_section() {
    // The enum's variants, named as `Refusal::name` names them.
    let source = text_of(&root().join("gossip/src/refusal.rs"));
    let file = syn::parse_file(&source).expect("Rust");
    let refusal = file.items.iter().find_map(|item| match item {
        syn::Item::Enum(found) if found.ident == "Refusal" => Some(found),
        _ => None,
    });
    let variants = refusal.expect("the enum").variants.iter();
    let names: BTreeSet<String> = variants
        .map(|variant| kebab(&variant.ident.to_string()))
        .collect();
    assert!(names.contains(kith_gossip::Refusal::NotANeighbour { round: 0 }.name()));
    assert_eq!(sections("### `"), names);
}
