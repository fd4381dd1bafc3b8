//! `docs/reference/cli.md` is the command tree: every verb with its arguments. `KITH_REFERENCE=write`
//! writes it anew.

use std::path::Path;

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory};

use super::Kith;

/// Help on one line of a table.
fn on_one_line(help: &StyledStr) -> String {
    let text = help.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|").replace('<', "\\<")
}

/// How an argument is written: `--dir <DIR>`, `[FILE]...`.
fn written(argument: &Arg) -> String {
    let long = argument.get_long().map(|name| format!("--{name}"));
    let short = argument.get_short().map(|name| format!("-{name}"));
    let flag: Vec<String> = short.into_iter().chain(long).collect();
    if !argument.get_action().takes_values() {
        return flag.join(", ");
    }
    let names = argument.get_value_names().unwrap_or_default();
    let names: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
    match flag.is_empty() {
        true => argument.to_string(),
        false => format!("{} {}", flag.join(", "), names.join(" ")),
    }
}

fn row(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let mut meaning = help.map(on_one_line).unwrap_or_default();
    let values = argument.get_possible_values();
    if argument.get_action().takes_values() && !values.is_empty() {
        let names = values.iter().map(|value| format!("`{}`", value.get_name()));
        meaning += &format!(". One of {}", names.collect::<Vec<_>>().join(", "));
    }
    let defaults = argument.get_default_values().iter();
    let defaults = defaults.map(|value| format!("`{}`", value.to_string_lossy()));
    let default = match (
        argument.is_required_set(),
        argument.get_action().takes_values(),
    ) {
        (true, _) => "required".to_owned(),
        (false, true) => defaults.collect::<Vec<_>>().join(" "),
        (false, false) => String::new(),
    };
    format!("| `{}` | {default} | {meaning} |\n", written(argument))
}

/// A verb and those below it, each as a section.
fn sections(command: &Command, path: &str, text: &mut String) {
    *text += &format!("\n## {path}\n\n");
    let about = command.get_long_about().or(command.get_about());
    *text += &about.map(|about| format!("{about}\n")).unwrap_or_default();
    let verbs = command
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help");
    let verbs: Vec<&Command> = verbs.filter(|verb| !verb.is_hide_set()).collect();
    if !verbs.is_empty() {
        *text += "\n| verb | does |\n|---|---|\n";
        for verb in &verbs {
            let name = format!("{path} {}", verb.get_name());
            let anchor = name.replace(' ', "-");
            let about = verb.get_about().map(on_one_line).unwrap_or_default();
            *text += &format!("| [{name}](#{anchor}) | {about} |\n");
        }
    }
    let arguments = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    let arguments =
        arguments.filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"));
    let rows: String = arguments.map(row).collect();
    if !rows.is_empty() {
        *text += &format!("\n| argument | default | meaning |\n|---|---|---|\n{rows}");
    }
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        *text += &format!("\n```text\n{after}\n```\n");
    }
    for verb in verbs {
        sections(verb, &format!("{path} {}", verb.get_name()), text);
    }
}

#[test]
fn every_verb_is_on_its_page() {
    let mut kith = Kith::command();
    kith.build();
    let mut made = "# The command line\n\n\
        Every verb with its arguments, as `--help` shows them. This page is made from the program; \
        [the index](../index.md#every-verb) has the verbs on one screen. An argument without a default may be left out.\n"
        .to_owned();
    sections(&kith, "kith", &mut made);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/cli.md");
    if std::env::var("KITH_REFERENCE").is_ok_and(|wish| wish == "write") {
        std::fs::write(&page, &made).expect("written");
    }
    let found = std::fs::read_to_string(&page).expect("a page");
    assert!(
        found == made,
        "docs/reference/cli.md is not what the program says: \
         KITH_REFERENCE=write cargo test -p kith-node --lib reference"
    );
}
