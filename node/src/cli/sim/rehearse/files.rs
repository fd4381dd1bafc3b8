//! The two files of a rehearsal, read as one experiment; each problem names the file and the line
//! it is about.

use std::path::{Path, PathBuf};

use kith_consensus::Problem;
use kith_consensus::section::Document;
use kith_simulations::experiment::{Experiment, Setting};

use crate::cli::output::Failure;
use crate::problems::{BadFile, BadFiles};

/// Shown in place of the file if a problem is about a setting.
const COMMAND_LINE: &str = "--set";

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn read(path: &Path, what: &str) -> Result<File, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!(
                "cannot read the {what} {}: {error}",
                path.display()
            ))
        })?;
        Ok(File {
            path: path.to_owned(),
            text,
        })
    }

    /// A problem at a key of this file, or at the nearest section around it.
    fn problem(&self, key: &str, what: String) -> Problem {
        match Document::parse(&self.text) {
            Ok(document) => document.places().problem(key, what),
            Err(problem) => problem,
        }
    }

    fn bad(&self, problems: Vec<Problem>) -> Option<BadFile> {
        (!problems.is_empty()).then(|| BadFile::new(&self.path, &self.text, problems))
    }

    /// The sections, if this is TOML.
    fn sections(&self) -> toml::Table {
        self.text.parse().unwrap_or_default()
    }
}

/// A charter and a world.
pub(super) struct Files {
    charter: File,
    world: File,
    text: String,
}

impl Files {
    /// Reads both.
    ///
    /// # Errors
    /// When one cannot be read, is not TOML, or holds what belongs in the other.
    pub(super) fn read(charter: &Path, world: &Path) -> Result<Files, Failure> {
        let (charter, world) = (File::read(charter, "charter")?, File::read(world, "world")?);
        let text = format!("{}\n{}", charter.text, world.text);
        let files = Files {
            charter,
            world,
            text,
        };
        let misplaced = [files.misplaced_in_charter(), files.misplaced_in_world()];
        let both = [&files.charter, &files.world];
        BadFiles::check(
            both.into_iter()
                .zip(misplaced)
                .filter_map(|(file, problems)| file.bad(problems))
                .collect(),
        )?;
        Ok(files)
    }

    fn misplaced_in_charter(&self) -> Vec<Problem> {
        if let Err(problem) = Document::parse(&self.charter.text) {
            return vec![problem];
        }
        let sections = self.charter.sections();
        let wrong = sections.keys().filter_map(|name| match name.as_str() {
            "world" => Some((
                name,
                format!(
                    "a charter has no [world]; expected it in the file of --world, {}",
                    self.world.path.display()
                ),
            )),
            "sweep" => Some((
                name,
                "a rehearsal has no [sweep]; `kith sim sweep` runs one".to_owned(),
            )),
            _ => None,
        });
        let mut problems: Vec<Problem> = wrong
            .map(|(name, what)| self.charter.problem(name, what))
            .collect();
        if sections
            .get("topology")
            .is_some_and(|topology| topology.get("file").is_some())
        {
            let what = "a charter lists its edges itself, so that all agree on them; expected edges = [[0, 1]]";
            problems.push(self.charter.problem("topology.file", what.to_owned()));
        }
        problems
    }

    fn misplaced_in_world(&self) -> Vec<Problem> {
        if let Err(problem) = Document::parse(&self.world.text) {
            return vec![problem];
        }
        let sections = self.world.sections();
        let what = |name: &str| {
            format!(
                "[{name}] is the charter's, which is rehearsed as it is; expected only [world] in this file (--set changes a key)"
            )
        };
        let others = sections.keys().filter(|name| *name != "world");
        let mut problems: Vec<Problem> = others
            .map(|name| self.world.problem(name, what(name)))
            .collect();
        if problems.is_empty() {
            // Without a header of its own this text would be read as part of the charter's last
            // section.
            let mut both = self.charter.sections();
            both.extend(sections);
            if Document::parse(&self.charter.text).is_ok()
                && self.text.parse::<toml::Table>().ok() != Some(both)
            {
                problems.push(self.world.problem(
                    "world",
                    "expected a section that begins with the line [world]".to_owned(),
                ));
            } else if self.world.sections().is_empty() {
                problems.push(self.world.problem(
                    "world",
                    "this section is missing; expected what lies around the peers".to_owned(),
                ));
            }
        }
        problems
    }

    /// The experiment that both make, with settings on top.
    ///
    /// # Errors
    /// Every problem, with its file and line.
    pub(super) fn experiment(&self, settings: &[Setting]) -> Result<Experiment, Failure> {
        Experiment::parse(&self.text, settings)
            .map_err(|problems| self.placed(problems, settings).into())
    }

    /// The problems of the joint experiment, each with its own file and line.
    pub(super) fn placed(&self, problems: Vec<Problem>, settings: &[Setting]) -> BadFiles {
        let (mut charter, mut world, mut command_line) = (Vec::new(), Vec::new(), Vec::new());
        let begin = self.charter.text.len() + 1;
        let lines_before = self.text[..begin].matches('\n').count();
        let seed_is_bad = problems.iter().any(|problem| problem.key == "world.seed");
        for problem in problems {
            // Seeds that the charter leaves out follow the world's: one mistake is reported once.
            if seed_is_bad
                && problem.span.is_none()
                && problem.key.ends_with(".seed")
                && problem.key != "world.seed"
            {
                continue;
            }
            match problem.span.clone() {
                Some(span) if span.start >= begin => world.push(Problem {
                    line: problem.line - lines_before,
                    span: Some(span.start - begin..span.end - begin),
                    ..problem
                }),
                Some(_) => charter.push(problem),
                None if settings.iter().any(|(key, _)| within(&problem.key, key)) => {
                    command_line.push(problem)
                }
                None if within(&problem.key, "world") => {
                    world.push(self.world.problem(&problem.key, problem.what))
                }
                None => charter.push(self.charter.problem(&problem.key, problem.what)),
            }
        }
        let mut files: Vec<BadFile> = [self.charter.bad(charter), self.world.bad(world)]
            .into_iter()
            .flatten()
            .collect();
        if !command_line.is_empty() {
            files.push(BadFile::new(Path::new(COMMAND_LINE), "", command_line));
        }
        BadFiles(files)
    }
}

/// Whether a dotted key is `section` or lies in it.
fn within(key: &str, section: &str) -> bool {
    key.strip_prefix(section)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
