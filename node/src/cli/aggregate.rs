//! `kith aggregate`: robustly combine model files, outside any federation.

use std::path::PathBuf;

use clap::Args;
use kith_consensus::aggregate::{Aggregate as Combined, Context, Contribution, rule_from_text};
use kith_consensus::{Digest, PeerId, Rule};
use kith_models::{Layout, read_tensors, write_model};
use serde_json::{Value, json};

use super::done;
use super::output::{Failure, Verdict, print, print_json, table};
use super::text;
use crate::checkpoint::write_durably;

/// Robustly combine model files
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kith aggregate --rule median a.safetensors b.safetensors c.safetensors --out all.safetensors
  kith aggregate --rule nnm+trimmed-mean --byzantine 1 *.safetensors --out all.safetensors --json")]
pub(crate) struct Aggregate {
    /// The rule (`kith list rules`)
    #[arg(long)]
    rule: String,
    /// Models that may be arbitrary
    #[arg(long, default_value_t = 0)]
    byzantine: usize,
    /// Parameters of the rule
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = text::parameter)]
    parameters: Vec<(String, String)>,
    /// Models of one layout, f32
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to write the result
    #[arg(long)]
    out: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Aggregate {
    pub(crate) fn run(self) -> Verdict {
        let rule = rule_from_text(&self.rule, self.byzantine, &self.parameters)
            .map_err(|problems| Failure::of_problems("the rule cannot be used", &problems))?;
        self.refuse_own_output()?;
        let (layout, models) = self.read()?;
        let aggregate = combined(rule.as_ref(), &models)?;
        let metadata = [
            ("kith.rule".to_owned(), rule.name()),
            ("kith.byzantine".to_owned(), self.byzantine.to_string()),
        ];
        let bytes = write_model(&layout, &aggregate.parameters, &metadata.into());
        write_durably(&self.out, &bytes).map_err(|error| {
            Failure::new(format!("cannot write {}: {error}", self.out.display()))
        })?;
        if self.json {
            print_json(&self.json(rule.as_ref(), &layout, &aggregate))?;
        } else {
            print(&self.text(&layout, &aggregate))?;
        }
        done()
    }

    fn name(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }

    fn json(&self, rule: &dyn Rule, layout: &Layout, aggregate: &Combined) -> Value {
        let names = |indices: Vec<usize>| -> Vec<String> {
            indices.into_iter().map(|index| self.name(index)).collect()
        };
        json!({
            "rule": rule.name(),
            "byzantine": self.byzantine,
            "models": self.files.len(),
            "dimension": layout.dimension,
            "kept": names(aggregate.kept()),
            "dropped": names(aggregate.dropped()),
            "influence": aggregate.influence,
            "scores": aggregate.scores,
            "out": self.out.display().to_string(),
            "state": Digest::of_values(&aggregate.parameters).to_string(),
        })
    }

    fn text(&self, layout: &Layout, aggregate: &Combined) -> String {
        let dropped = aggregate.dropped();
        let mut shown = table(&["file", "influence", "score", "kept"]);
        for (index, influence) in aggregate.influence.iter().enumerate() {
            let score = aggregate
                .scores
                .get(index)
                .map_or("–".to_owned(), |score| format!("{score:.6}"));
            let verdict = if dropped.contains(&index) {
                "no"
            } else {
                "yes"
            };
            shown.add_row([
                self.name(index),
                format!("{:.1} %", 100.0 * influence),
                score,
                verdict.to_owned(),
            ]);
        }
        format!(
            "{shown}\n{} models of {} values combined into {}\n",
            self.files.len(),
            layout.dimension,
            self.out.display()
        )
    }

    /// An output that is among the inputs, under any path, would be an input of the next run too.
    fn refuse_own_output(&self) -> Result<(), Failure> {
        let Ok(out) = self.out.canonicalize() else {
            return Ok(());
        }; // it is not there yet
        match self
            .files
            .iter()
            .find(|file| file.canonicalize().is_ok_and(|file| file == out))
        {
            None => Ok(()),
            Some(file) => Err(Failure::with_help(
                format!(
                    "{} is the output and also one of the models, {}",
                    self.out.display(),
                    file.display()
                ),
                "nothing was written; write to another folder, or leave the earlier result out of the models",
            )),
        }
    }

    fn read(&self) -> Result<(Layout, Vec<Vec<f32>>), Failure> {
        let mut first: Option<Layout> = None;
        let mut models = Vec::with_capacity(self.files.len());
        for path in &self.files {
            let bytes = std::fs::read(path).map_err(|error| {
                Failure::new(format!("cannot read {}: {error}", path.display()))
            })?;
            let (layout, values, _) = read_tensors(&bytes)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
            match &first {
                Some(first) if *first != layout => return Err(self.different(path, first, &layout)),
                Some(_) => {}
                None => first = Some(layout),
            }
            models.push(values);
        }
        Ok((
            first.expect("the command line asks for at least one file"),
            models,
        ))
    }

    fn different(&self, path: &std::path::Path, first: &Layout, found: &Layout) -> Failure {
        let describe = |layout: &Layout| {
            let tensors: Vec<String> = layout
                .tensors
                .iter()
                .map(|tensor| format!("{} {:?}", tensor.name, tensor.shape))
                .collect();
            tensors.join(", ")
        };
        Failure::with_help(
            format!(
                "{} has another layout than {}:\n  {}\n  {}",
                path.display(),
                self.files[0].display(),
                describe(found),
                describe(first)
            ),
            "only models of the same kind and sizes can be combined; `kith model inspect FILE` shows what is in one",
        )
    }
}

fn combined(rule: &dyn Rule, models: &[Vec<f32>]) -> Result<Combined, Failure> {
    // Files have no sender; their order stands for one.
    let senders: Vec<PeerId> = (0..models.len()).map(place).collect();
    let contributions: Vec<Contribution<'_>> = senders
        .iter()
        .zip(models)
        .map(|(sender, model)| Contribution::of(*sender, model))
        .collect();
    rule.aggregate(&Context::offline(), &contributions)
        .map_err(|error| {
            Failure::with_help(
                error.to_string(),
                "nothing was written; give more files, or a smaller --byzantine",
            )
        })
}

/// A stand-in for a sender, ordered as the files are.
fn place(index: usize) -> PeerId {
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&(index as u64).to_be_bytes());
    PeerId(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_among_the_models_is_refused_whatever_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a.safetensors"), "a model").expect("written");
        std::fs::create_dir(path("inner")).expect("made");
        std::os::unix::fs::symlink(path("a.safetensors"), path("link.safetensors"))
            .expect("linked");
        let refused = |out: &str| {
            let asked = Aggregate {
                rule: "mean".into(),
                byzantine: 0,
                parameters: Vec::new(),
                files: vec![path("a.safetensors")],
                out: path(out),
                json: false,
            };
            asked.refuse_own_output().is_err()
        };
        assert!(
            [
                "a.safetensors",
                "inner/../a.safetensors",
                "./a.safetensors",
                "link.safetensors"
            ]
            .into_iter()
            .all(refused)
        );
        assert!(
            !["b.safetensors", "inner/a.safetensors", "no/such/folder"]
                .into_iter()
                .any(refused)
        );
    }
}
