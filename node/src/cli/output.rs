//! What the command line says: data on stdout, failures on stderr.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use kith_consensus::Problem;

use crate::error::NodeError;
use crate::problems::BadFiles;
use crate::secrets::redacted;

/// The result of a verb.
pub(crate) type Verdict = Result<ExitCode, Failure>;

/// Exit code of a program whose reader has gone: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// `None`: nobody is left to read it.
    report: Option<miette::Report>,
}

impl Failure {
    /// Something is wrong: what happened, to what, what was expected.
    pub(crate) fn new(what: impl Into<String>) -> Failure {
        Failure {
            code: 1,
            report: Some(miette::Report::msg(what.into())),
        }
    }

    /// The same with the next step.
    pub(crate) fn with_help(what: impl Into<String>, help: impl Into<String>) -> Failure {
        let diagnostic = miette::MietteDiagnostic::new(what.into()).with_help(help.into());
        Failure {
            code: 1,
            report: Some(miette::Report::new(diagnostic)),
        }
    }

    /// Every problem of the command line's values.
    pub(crate) fn of_problems(what: &str, problems: &[Problem]) -> Failure {
        let list: Vec<String> = problems
            .iter()
            .map(|problem| redacted(&format!("  {}: {}", problem.key, problem.what)).into_owned())
            .collect();
        Failure::new(format!("{what}:\n{}", list.join("\n")))
    }

    /// Shows it and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(report) = self.report {
            // If stderr is gone as well, only the exit code is left.
            let _ = writeln!(std::io::stderr(), "{report:?}");
        }
        ExitCode::from(self.code)
    }
}

/// What is wrong, in one line and without the next step: for a program that asked, and for places
/// with room for one line.
impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.report {
            Some(report) => report.fmt(formatter),
            None => formatter.write_str("nobody reads any more"),
        }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Failure {
        let code = error.exit_code();
        let report = match error {
            NodeError::Files(files) => files.into(),
            other => Failure::new(other.to_string()).report,
        };
        Failure { code, report }
    }
}

impl From<BadFiles> for Failure {
    fn from(files: BadFiles) -> Failure {
        NodeError::from(files).into()
    }
}

impl From<BadFiles> for Option<miette::Report> {
    fn from(files: BadFiles) -> Option<miette::Report> {
        Some(miette::Report::new(files))
    }
}

/// Writes data to stdout.
///
/// # Errors
/// When nobody reads any more (then without a message), or the device is full.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure {
                code: BROKEN_PIPE,
                report: None,
            },
            _ => Failure::new(format!("cannot write to stdout: {error}")),
        })
}

/// One JSON document on stdout.
///
/// # Errors
/// The same as [`print`].
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(format!("cannot be written as JSON: {error}")))?;
    print(&format!("{text}\n"))
}

/// Writes a message for people to stderr, separate from the data.
pub(crate) fn tell(text: &str) {
    // A closed stderr does no harm.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A table with a plain frame, as wide as its content.
pub(crate) fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    let style =
        comfy_table::presets::UTF8_HORIZONTAL_ONLY.row_separator(comfy_table::LineStyle::none());
    table.load_style(style).set_header(header.iter().copied());
    table
}

/// A number of bytes as text for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
