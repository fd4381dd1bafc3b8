//! Reading an experiment's file, with settings on top of it.

use std::sync::Arc;

use kith_consensus::charter::{Admission, Aggregation, Declared, Resolver};
use kith_consensus::section::{Document, Places};
use kith_consensus::topology::edges_from_text;
use kith_consensus::{Charter, Problem, Rule, Section};
use kith_gossip::codec::codec_from_section;
use kith_models::{DATASETS, ModelSection, Schema, Task, TrainingSection};

use super::Experiment;
use crate::attack::{Means, entry_of};
use crate::remembered::Remembered;
use crate::world::{Signatures, World};

/// The section for programs that run an experiment many times.
pub(crate) const SWEEP: &str = "sweep";

/// A setting on top of the file: a dotted key and its value in TOML's notation (a bare word is a
/// text).
pub type Setting = (String, toml::Value);

/// Reads `key=value` of a setting.
///
/// # Errors
/// What was expected, in words for people.
pub fn setting(text: &str) -> Result<Setting, String> {
    let (key, value) = text.split_once('=').ok_or_else(|| {
        format!("expected KEY=VALUE, for example aggregation.rule=median, found {text:?}")
    })?;
    let value = value_from_text(value);
    if !key.contains('.') && !value.is_table() {
        return Err(format!(
            "expected a section and a key, for example world.peers or aggregation.rule, or a whole section as {{ key = value }}, \
             found {key:?}"
        ));
    }
    Ok((key.trim().to_owned(), value))
}

/// A value in TOML's notation; anything else is a text.
pub fn value_from_text(text: &str) -> toml::Value {
    let parsed = format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| toml::Value::String(text.trim().to_owned()))
}

/// A setting as [`setting`] reads it, for one word of a shell.
pub fn setting_to_text((key, value): &Setting) -> String {
    format!("'{key}={}'", value.to_string().replace('\'', "'\\''"))
}

/// What the models are trained on.
#[derive(Clone, Copy, PartialEq)]
enum Training {
    /// The charter's `[data]`, `[model]` and `[training]`.
    Rows,
    /// `[world.trainer]`: an objective whose optimum is known.
    Formula,
}

impl Experiment {
    /// Reads an experiment's text with settings on top.
    ///
    /// # Errors
    /// Every problem; those of the text itself with line and column.
    pub fn parse(text: &str, settings: &[Setting]) -> Result<Experiment, Vec<Problem>> {
        let mut document = Document::parse(text).map_err(|problem| vec![problem])?;
        let mut written: toml::Table = text.parse().unwrap_or_default(); // it was just parsed
        document.remove(SWEEP);
        for (key, value) in settings {
            document.set(key, value).map_err(|problem| vec![problem])?;
            note_setting(&mut written, key, value);
        }
        let places = document.places();
        edges_of_file(&mut document, &places)?;
        document.supply(&completion(&written));
        let training = match world_key(&written, "trainer") {
            Some(_) => Training::Formula,
            None => Training::Rows,
        };
        Experiment::resolve(document, places, training)
            .map_err(|problems| as_written(&written, problems))
    }

    fn resolve(
        document: Document,
        places: Places,
        training: Training,
    ) -> Result<Experiment, Vec<Problem>> {
        let (mut schema, mut model, mut local) = (None, None, None);
        let mut world = None;
        let mut read_schema = |section: &mut Section<'_>, declared: &mut Declared| {
            schema.insert(Schema::read(section)).declare(declared);
        };
        let mut read_model =
            |section: &mut Section<'_>, _: &mut Declared| model = Some(ModelSection::read(section));
        let mut read_training = |section: &mut Section<'_>, declared: &mut Declared| {
            local
                .insert(TrainingSection::read(section))
                .declare(declared);
        };
        let mut read_codec = |section: &mut Section<'_>, declared: &mut Declared| {
            declared.codec_is_exact = codec_from_section(section).is_exact();
        };
        let mut read_world =
            |section: &mut Section<'_>, _: &mut Declared| world = Some(World::read(section));
        let mut resolvers: Vec<Resolver<'_>> = vec![("codec", &mut read_codec)];
        if training == Training::Rows {
            resolvers.push(("data", &mut read_schema));
            resolvers.push(("model", &mut read_model));
            resolvers.push(("training", &mut read_training));
        }
        let (charter, canonical) =
            Charter::read(document, &mut resolvers, &mut [("world", &mut read_world)])?;
        let world: World = world.expect("every resolver is called once");
        let task = match (schema, model, local) {
            (Some(schema), Some(model), Some(local)) => {
                let task = Task::new(schema, model, local)?;
                task.check_guarantee(charter.privacy.as_ref())?;
                Some(task)
            }
            _ => None,
        };
        let misfits = misfits(&charter, &world, training);
        if !misfits.is_empty() {
            let problem = |(key, what): (&str, String)| places.problem(key, what);
            return Err(misfits.into_iter().map(problem).collect());
        }
        Ok(Experiment {
            charter: Arc::new(remembering(charter)),
            world,
            task,
            canonical,
            places,
        })
    }
}

/// Parts of a world that do not fit its charter: key and reason.
fn misfits(charter: &Charter, world: &World, training: Training) -> Vec<(&'static str, String)> {
    let membership = &charter.membership;
    let mut found = world.misfits(membership.peers);
    if membership.mode == Admission::Members && world.signatures == Signatures::Ed25519 {
        let what = "the members' secrets are theirs; expected \"keyed-hash\" for a charter that lists members";
        found.push(("world.signatures", what.to_owned()));
    }
    if training == Training::Formula && charter.privacy.is_some() {
        let what = "[world.trainer] has no rows that a guarantee could protect; expected \"none\"";
        found.push(("privacy.mechanism", what.to_owned()));
    }
    if world.peers != 0 && world.peers != membership.peers {
        let what = format!(
            "the charter has {} members, the world {} peers; leave world.peers out",
            membership.peers, world.peers
        );
        found.push(("world.peers", what));
    }
    let lying = world.adversaries > 0 || !world.liars.is_empty();
    let poisons =
        entry_of(&world.attack).is_some_and(|entry| matches!(entry.new.means, Means::Rows));
    if training == Training::Formula && lying && poisons {
        let what = format!(
            "{:?} poisons rows, and [world.trainer] has none; expected an attack on vectors",
            world.attack
        );
        found.push(("world.attack", what));
    }
    found
}

/// The charter with a rule that computes equal results once.
fn remembering(charter: Charter) -> Charter {
    let (aggregation, peers) = (charter.aggregation, charter.membership.peers);
    let rule: Box<dyn Rule> = Box::new(Remembered::new(aggregation.rule, peers));
    Charter {
        aggregation: Aggregation {
            rule,
            ..aggregation
        },
        ..charter
    }
}

/// The problems in terms of the written file, without the filled-in parts.
fn as_written(written: &toml::Table, mut problems: Vec<Problem>) -> Vec<Problem> {
    if !written.contains_key("membership") && world_key(written, "peers").is_none() {
        for problem in &mut problems {
            if problem.key == "membership.member" {
                problem.key = "world.peers".to_owned();
                problem.what = "this key is missing; expected how many peers take part, or a charter's [membership]".to_owned();
            }
        }
    }
    // Sections that a data set would bring are not missing if only its name is wrong.
    if problems
        .iter()
        .any(|problem| problem.key == "world.dataset")
    {
        let brought = |problem: &Problem| {
            ["data.", "model.", "training."]
                .iter()
                .any(|of| problem.key.starts_with(of))
        };
        problems.retain(|problem| problem.line > 0 || !brought(problem));
    }
    problems
}

fn world_key<'a>(written: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    written.get("world")?.get(key)
}

/// Puts the edges that a file lists in the place of `topology.file`, which names it: the
/// experiment, once resolved, stands alone.
fn edges_of_file(document: &mut Document, places: &Places) -> Result<(), Vec<Problem>> {
    const KEY: &str = "topology.file";
    let wrong = |what: String| vec![places.problem(KEY, what)];
    let path = match document.take("topology", "file") {
        None => return Ok(()),
        Some(toml::Value::String(path)) => path,
        Some(other) => return Err(wrong(format!("expected a text, found {other}"))),
    };
    if document.take("topology", "edges").is_some() {
        return Err(wrong(
            "the edges are listed in topology.edges too; expected one of the two".to_owned(),
        ));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| {
        wrong(format!(
            "cannot read {path}: {error}; expected a file with a pair of peers a line"
        ))
    })?;
    let edges = edges_from_text(&path, &text)
        .map_err(|problem| wrong(format!("line {} of {path}: {}", problem.line, problem.what)))?;
    let number = |peer: usize| toml::Value::Integer(peer as i64);
    let pairs = edges
        .into_iter()
        .map(|(a, b)| toml::Value::Array(vec![number(a), number(b)]));
    document
        .set("topology.edges", &toml::Value::Array(pairs.collect()))
        .map_err(|problem| vec![problem])
}

/// Whether the text has a section that only a sweep reads.
pub fn has_sweep(text: &str) -> bool {
    text.parse::<toml::Table>()
        .is_ok_and(|table| table.contains_key(SWEEP))
}

/// Notes a setting among the written keys, as far as [`completion`] needs it: the world's keys, and
/// which sections are written.
fn note_setting(written: &mut toml::Table, key: &str, value: &toml::Value) {
    let empty = || toml::Value::Table(toml::Table::new());
    match key.splitn(3, '.').collect::<Vec<&str>>()[..] {
        [name] => drop(written.insert(name.to_owned(), value.clone())),
        ["world", key, ..] => {
            if let toml::Value::Table(world) = written.entry("world").or_insert_with(empty) {
                // For a table in [world], only that it is there.
                world.insert(key.to_owned(), value.clone());
            }
        }
        // A section of another kind has other keys than the data set's.
        [name, "kind"] => drop(written.entry(name).or_insert_with(empty)),
        _ => {}
    }
}

/// The parts that an experiment may leave out, for the written one.
fn completion(written: &toml::Table) -> toml::Table {
    let mut table = toml::Table::new();
    let closed_form = world_key(written, "trainer").is_some();
    if !closed_form {
        let dataset = world_key(written, "dataset").and_then(toml::Value::as_str);
        let defaults = defaults_of(dataset.unwrap_or("digits"));
        // A section of the file is taken as written: a model of another kind has other keys.
        let missing = |(name, _): &(String, toml::Value)| !written.contains_key(name);
        table.extend(defaults.into_iter().filter(missing));
    }
    if let (Some(peers), false) = (
        world_key(written, "peers"),
        written.contains_key("membership"),
    ) {
        let open = [
            ("mode".to_owned(), toml::Value::String("open".to_owned())),
            ("peers".to_owned(), peers.clone()),
        ];
        let open = toml::Value::Table(toml::Table::from_iter(open));
        table.insert("membership".to_owned(), open);
    }
    // Another seed of the world is another draw of everything that the file does not fix.
    let seed = world_key(written, "seed");
    let seed = seed.cloned().unwrap_or(toml::Value::Integer(0));
    let model = (!closed_form).then_some("model");
    for name in ["federation", "topology"].into_iter().chain(model) {
        let section = table
            .entry(name)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert("seed".to_owned(), seed.clone());
        }
    }
    table
}

/// The sections that a data set brings along; none if it is not known.
fn defaults_of(dataset: &str) -> toml::Table {
    let entry = DATASETS.iter().find(|entry| entry.name == dataset);
    entry.map_or_else(toml::Table::new, |entry| {
        let defaults = entry.new.defaults.parse();
        defaults.expect("a data set's defaults are TOML")
    })
}
