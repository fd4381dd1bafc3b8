//! Files that a person wrote and that are wrong, shown with their source lines. One error lists
//! every problem of every file.

use std::fmt;
use std::path::{Path, PathBuf};

use kith_consensus::Problem;
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::secrets::{looks_secret, redacted};

/// A file with everything that is wrong in it.
#[derive(Debug)]
pub struct BadFile {
    /// Where the file is.
    pub path: PathBuf,
    /// What is wrong in it; at least one problem.
    pub problems: Vec<Problem>,
    shown: Vec<Shown>,
}

impl BadFile {
    /// The problems of the file at `path` with this text. A text that looks like a private key is
    /// not quoted, nor is text in a problem's own words that looks like one.
    pub fn new(path: &Path, text: &str, problems: Vec<Problem>) -> BadFile {
        let secret = looks_secret(text);
        let mut problems: Vec<Problem> = problems.into_iter().map(without_secrets).collect();
        if secret && text.split_whitespace().count() == 1 {
            let what = "this is a key file, not a TOML file; it is not quoted here, since whoever has the key is the peer";
            problems = vec![Problem {
                key: String::new(),
                what: what.to_owned(),
                span: None,
                line: 0,
                column: 0,
            }];
        }
        let source = |_: &Problem| {
            (!secret).then(|| {
                NamedSource::new(path.display().to_string(), text.to_owned()).with_language("TOML")
            })
        };
        let shown = problems
            .iter()
            .map(|problem| Shown {
                problem: problem.clone(),
                file: path.display().to_string(),
                source: source(problem),
            })
            .collect();
        BadFile {
            path: path.to_owned(),
            problems,
            shown,
        }
    }

    /// The problems as one error.
    pub fn problems(path: &Path, text: &str, problems: Vec<Problem>) -> BadFiles {
        BadFiles(vec![BadFile::new(path, text, problems)])
    }
}

/// Every wrong file. Its text names all problems, one a line; shown by miette it also underlines
/// them.
#[derive(Debug)]
pub struct BadFiles(pub Vec<BadFile>);

impl BadFiles {
    /// Ok if nothing is wrong.
    ///
    /// # Errors
    /// The wrong files, if there is one.
    pub fn check(files: Vec<BadFile>) -> Result<(), BadFiles> {
        if files.is_empty() {
            Ok(())
        } else {
            Err(BadFiles(files))
        }
    }

    /// Every problem with its file, for programs.
    pub fn to_json(&self) -> serde_json::Value {
        let problem = |file: &BadFile, problem: &Problem| {
            serde_json::json!({
                "file": file.path.display().to_string(),
                "key": problem.key,
                "line": problem.line,
                "column": problem.column,
                "what": problem.what,
            })
        };
        self.0
            .iter()
            .flat_map(|file| file.problems.iter().map(move |found| problem(file, found)))
            .collect()
    }
}

impl fmt::Display for BadFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, file) in self.0.iter().enumerate() {
            let count = file.problems.len();
            let separator = if index > 0 { "; " } else { "" };
            write!(
                formatter,
                "{separator}{} has {count} problem{}",
                file.path.display(),
                if count == 1 { "" } else { "s" }
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for BadFiles {}

impl Diagnostic for BadFiles {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(
            "mend these lines and try again; `kith check` tells whether everything fits",
        ))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().flat_map(|file| {
            file.shown.iter().map(|shown| shown as &dyn Diagnostic)
        })))
    }
}

fn without_secrets(mut problem: Problem) -> Problem {
    for text in [&mut problem.key, &mut problem.what] {
        *text = redacted(text).into_owned();
    }
    problem
}

/// One problem with the text around it, if that may be shown.
#[derive(Debug)]
struct Shown {
    problem: Problem,
    file: String,
    source: Option<NamedSource<String>>,
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.file, self.problem)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.problem.span.as_ref()?;
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        let span = self.problem.span.clone()?;
        Some(Box::new(std::iter::once(LabeledSpan::at(span, "here"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

    fn shown(text: &str) -> String {
        let problems = kith_consensus::section::Document::parse(text)
            .err()
            .map_or_else(
                || {
                    let mut document = kith_consensus::section::Document::parse(text).unwrap();
                    document.section("peer", |section| section.text("name", None));
                    document.finish().unwrap_err()
                },
                |problem| vec![problem],
            );
        let files = BadFile::problems(Path::new("a.toml"), text, problems);
        format!(
            "{}\n{:?}\n{}",
            files.to_json(),
            miette::Report::new(files),
            ""
        )
    }

    #[test]
    fn a_key_is_never_quoted_wherever_it_stands() {
        for text in [
            format!("{KEY}\n"),
            format!("name\n{KEY}\n"),
            format!("[peer]\n{KEY} = 1\n"),
            format!("[peer]\ncolour = \"{KEY}\"\n"),
            format!("[peer]\nname = 3 # {KEY}\n"),
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n".to_owned(),
        ] {
            let shown = shown(&text);
            assert!(
                !shown.contains(&KEY[..16]) && !shown.contains("MC4CAQ"),
                "{text}: {shown}"
            );
            assert!(shown.contains("a.toml"), "{shown}");
        }
        assert!(
            shown("[peer]\ncolour = 1\n").contains("colour = 1"),
            "what is no key is quoted"
        );
    }
}
