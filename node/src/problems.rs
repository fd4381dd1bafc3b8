//! Files that a person wrote and that are wrong, shown with their source lines. One error lists every problem of every file.

use std::fmt;
use std::path::{Path, PathBuf};

use kith_consensus::Problem;
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

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
    /// The problems of the file at `path` with this text.
    pub fn new(path: &Path, text: &str, problems: Vec<Problem>) -> BadFile {
        let source = |_: &Problem| NamedSource::new(path.display().to_string(), text.to_owned()).with_language("TOML");
        let shown = problems.iter().map(|problem| Shown { problem: problem.clone(), source: source(problem) }).collect();
        BadFile { path: path.to_owned(), problems, shown }
    }

    /// The problems as one error.
    pub fn problems(path: &Path, text: &str, problems: Vec<Problem>) -> BadFiles {
        BadFiles(vec![BadFile::new(path, text, problems)])
    }
}

/// Every wrong file. Its text names all problems, one a line; shown by miette it also underlines them.
#[derive(Debug)]
pub struct BadFiles(pub Vec<BadFile>);

impl BadFiles {
    /// Ok where nothing is wrong.
    ///
    /// # Errors
    /// The files, where there is one.
    pub fn check(files: Vec<BadFile>) -> Result<(), BadFiles> {
        if files.is_empty() { Ok(()) } else { Err(BadFiles(files)) }
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
        self.0.iter().flat_map(|file| file.problems.iter().map(move |found| problem(file, found))).collect()
    }
}

impl fmt::Display for BadFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, file) in self.0.iter().enumerate() {
            let count = file.problems.len();
            let separator = if index > 0 { "; " } else { "" };
            write!(formatter, "{separator}{} has {count} problem{}", file.path.display(), if count == 1 { "" } else { "s" })?;
        }
        Ok(())
    }
}

impl std::error::Error for BadFiles {}

impl Diagnostic for BadFiles {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new("mend these lines and try again; `kith check` tells whether everything fits"))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().flat_map(|file| file.shown.iter().map(|shown| shown as &dyn Diagnostic))))
    }
}

/// One problem with the text around it.
#[derive(Debug)]
struct Shown {
    problem: Problem,
    source: NamedSource<String>,
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.source.name(), self.problem)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.problem.span.is_some().then_some(&self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span.clone()?;
        Some(Box::new(std::iter::once(LabeledSpan::at(span, "here"))))
    }
}
