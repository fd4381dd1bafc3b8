//! The charter with everything that follows from it: the learning task, the encoding, the members.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kith_consensus::charter::Admission;
use kith_consensus::{Charter, PeerId, Problem};
use kith_gossip::Federation;
use kith_gossip::codec::{Codec, TensorShape, codec_from_section};
use kith_models::{ModelSection, Schema, Task, TrainingSection};

use crate::checkpoint::Shapes;
use crate::error::NodeError;
use crate::problems::BadFile;

/// A resolved charter and what each crate made of its sections.
#[derive(Debug)]
pub struct Agreement {
    /// The charter.
    pub charter: Arc<Charter>,
    /// Model, data schema and training.
    pub task: Task,
    /// Encoding of updates.
    pub codec: Box<dyn Codec>,
}

impl Agreement {
    /// Reads the charter at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or with every problem in it.
    pub fn load(path: &Path) -> Result<Agreement, NodeError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| NodeError::io("read the charter", path, error))?;
        Agreement::parse(&text).map_err(|problems| BadFile::problems(path, &text, problems).into())
    }

    /// Resolves a charter's text.
    ///
    /// # Errors
    /// Every problem in it.
    pub fn parse(text: &str) -> Result<Agreement, Vec<Problem>> {
        let (mut schema, mut model, mut training, mut codec) = (None, None, None, None);
        let charter = Charter::resolve(
            text,
            &mut [
                ("data", &mut |section, declared| {
                    schema.insert(Schema::read(section)).declare(declared);
                }),
                ("model", &mut |section, _| {
                    model = Some(ModelSection::read(section))
                }),
                ("training", &mut |section, declared| {
                    let read = training.insert(TrainingSection::read(section));
                    read.declare(declared);
                }),
                ("codec", &mut |section, declared| {
                    let read = codec.insert(codec_from_section(section));
                    declared.codec_is_exact = read.is_exact();
                }),
            ],
        )?;
        const CALLED: &str = "every resolver is called once";
        let task = Task::new(
            schema.expect(CALLED),
            model.expect(CALLED),
            training.expect(CALLED),
        )?;
        task.check_guarantee(charter.privacy.as_ref())?;
        let mut codec = codec.expect(CALLED);
        codec.shape(&matrices(&task));
        Ok(Agreement {
            charter: Arc::new(charter),
            task,
            codec,
        })
    }

    /// What all its peers have in common. Makes the initial parameters, which is work for a large
    /// model.
    pub fn federation(&self) -> Federation {
        Federation::new(
            Arc::clone(&self.charter),
            self.task.layout().digest(),
            self.task.initial_parameters(),
            matrices(&self.task),
        )
    }

    /// Whether a peer with this key may take part.
    pub fn admits(&self, peer: &PeerId) -> bool {
        self.allowed().is_none_or(|allowed| allowed.contains(peer))
    }

    /// The keys that may hold a connection; `None` admits every key, and the handshake decides.
    pub fn allowed(&self) -> Option<BTreeSet<PeerId>> {
        match self.charter.membership.mode {
            Admission::Members => Some(self.charter.roster().into_iter().collect()),
            Admission::Open => None,
        }
    }

    /// Names and shapes of the model's tensors.
    pub fn shapes(&self) -> Shapes {
        Shapes::new(
            self.task
                .layout()
                .tensors
                .iter()
                .map(|tensor| (tensor.name.clone(), tensor.shape.clone())),
        )
    }
}

fn matrices(task: &Task) -> Vec<TensorShape> {
    let matrices = task.layout().matrices().into_iter();
    matrices.map(TensorShape::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_models::DATASETS;

    #[test]
    fn a_charter_of_every_data_set_reads_back_as_the_same_agreement() {
        for entry in &DATASETS {
            let key = PeerId([1; 32]);
            let text = format!(
                "{}\n[federation]\nname = \"test\"\n[topology]\nkind = \"complete\"\n[[membership.member]]\nname = \"a\"\nkey = \"{key}\"\n",
                entry.new.defaults
            );
            let first = Agreement::parse(&text)
                .unwrap_or_else(|problems| panic!("{}: {problems:?}", entry.name));
            let again = Agreement::parse(&first.charter.to_toml())
                .unwrap_or_else(|problems| panic!("{}: {problems:?}", entry.name));
            assert_eq!(first.charter.id, again.charter.id, "{}", entry.name);
        }
    }

    #[test]
    fn problems_of_every_crate_s_section_are_told_at_once() {
        let text = "[federation]\nname = \"x\"\nrounds = 0\n[data]\nclasses = 1\n[model]\nkind = \"mpl\"\n[training]\nmomentum = 2\n\
                    [codec]\nkind = \"zip\"\n[aggregation]\nrule = \"krun\"\n";
        let problems = Agreement::parse(text).unwrap_err();
        for key in [
            "federation.rounds",
            "data.classes",
            "model.kind",
            "training.momentum",
            "codec.kind",
            "aggregation.rule",
        ] {
            assert!(
                problems
                    .iter()
                    .any(|problem| problem.key == key && problem.line > 0),
                "{key}: {problems:?}"
            );
        }
    }
}
