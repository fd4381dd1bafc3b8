//! An experiment: a charter plus a world, read from one file, run, and measured.
//!
//! The file holds a charter's sections and `[world]`. What a charter must say but an experiment
//! need not is filled in: the data set's `[data]`, `[model]` and `[training]` where a section is
//! missing, the membership, and seeds, which follow the world's where they are not set. The
//! resolved experiment, every default written out, is [`Experiment::to_toml`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_consensus::charter::{Admission, Aggregation, Method, Mode};
use kith_consensus::section::{Document, Places};
use kith_consensus::topology::edges_from_text;
use kith_consensus::{Charter, Digest, PeerId, Problem, Rule, Seed};
use kith_gossip::codec::{Codec, TensorShape, codec_from_section};
use kith_gossip::effect::Record;
use kith_gossip::{Authenticator, Conduct, Effect, Event, Honest, Input, Roster, Setup};
use kith_models::{
    DATASETS, Dataset, DatasetOptions, ModelSection, Schema, SkewReport, Task, TestSize,
    TrainingSection, partition,
};
use serde::Serialize;

use crate::attack::{Attacker, Knowledge, Oracle, attack_from_text, entry_of};
use crate::check::{Failure, Promises, Scope};
use crate::learner::Learner;
use crate::metrics::{Bytes, Metrics, Mixing, PEER_ROWS_MAX, PeerRow, RoundRow};
use crate::remembered::Remembered;
use crate::simulator::{Device, Ended, Fault, Meeting, Moment, Observer, Participant, Simulation};
use crate::trainer::{Descent, Objective};
use crate::world::{Signatures, World};

/// A resolved experiment.
#[derive(Debug)]
pub struct Experiment {
    /// What the peers agree on.
    pub charter: Arc<Charter>,
    /// What lies around them.
    pub world: World,
    task: Option<Task>,
    /// The world with every default written out.
    canonical: toml::Table,
    /// Where its keys stand.
    places: Places,
}

/// Why an experiment could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// What is wrong with the file.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
    /// The rows cannot be had or dealt.
    #[error("the rows: {0}")]
    Rows(String),
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(Problem::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A setting on top of the file: a dotted key and its value in TOML's notation (a bare word is a
/// text).
pub type Setting = (String, toml::Value);

/// Reads `key=value` of a setting.
///
/// # Errors
/// What was expected.
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

/// A value in TOML's notation; what is not that is a text.
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
        let closed_form = written
            .get("world")
            .is_some_and(|world| world.get("trainer").is_some());
        let nobody = !written.contains_key("membership")
            && written
                .get("world")
                .is_none_or(|world| world.get("peers").is_none());
        Experiment::resolve(document, places, closed_form).map_err(|mut problems| {
            for problem in problems.iter_mut().filter(|problem| nobody && problem.key == "membership.member") {
                problem.key = "world.peers".to_owned();
                problem.what = "this key is missing; expected how many peers take part, or a charter's [membership]".to_owned();
            }
            // What a data set would bring along is not what is missing where its name is wrong.
            if problems.iter().any(|problem| problem.key == "world.dataset") {
                let brought = |problem: &Problem| ["data.", "model.", "training."].iter().any(|of| problem.key.starts_with(of));
                problems.retain(|problem| problem.line > 0 || !brought(problem));
            }
            problems
        })
    }

    fn resolve(
        document: Document,
        places: Places,
        closed_form: bool,
    ) -> Result<Experiment, Vec<Problem>> {
        let (mut schema, mut model, mut training, mut codec, mut world) =
            (None, None, None, None, None);
        let mut read_schema =
            |section: &mut kith_consensus::Section<'_>| schema = Some(Schema::read(section));
        let mut read_model =
            |section: &mut kith_consensus::Section<'_>| model = Some(ModelSection::read(section));
        let mut read_training = |section: &mut kith_consensus::Section<'_>| {
            training = Some(TrainingSection::read(section))
        };
        let mut read_codec =
            |section: &mut kith_consensus::Section<'_>| codec = Some(codec_from_section(section));
        let mut read_world =
            |section: &mut kith_consensus::Section<'_>| world = Some(World::read(section));
        let mut resolvers: Vec<kith_consensus::charter::Resolver<'_>> =
            vec![("codec", &mut read_codec)];
        if !closed_form {
            resolvers.push(("data", &mut read_schema));
            resolvers.push(("model", &mut read_model));
            resolvers.push(("training", &mut read_training));
        }
        let (charter, canonical) =
            Charter::read(document, &mut resolvers, &mut [("world", &mut read_world)])?;
        const CALLED: &str = "every resolver is called once";
        let world: World = world.expect(CALLED);
        let task = match closed_form {
            true => None,
            false => Some(Task::new(
                schema.expect(CALLED),
                model.expect(CALLED),
                training.expect(CALLED),
            )?),
        };
        let problem = |key: &str, what: String| places.problem(key, what);
        let mut problems: Vec<Problem> = world
            .misfits(charter.membership.peers)
            .into_iter()
            .map(|(key, what)| problem(key, what))
            .collect();
        if charter.membership.mode == Admission::Members && world.signatures == Signatures::Ed25519
        {
            let what = "the members' secrets are theirs; expected \"keyed-hash\" for a charter that lists members";
            problems.push(problem("world.signatures", what.to_owned()));
        }
        if world.peers != 0 && world.peers != charter.membership.peers {
            let what = format!(
                "the charter has {} members, the world {} peers; leave world.peers out",
                charter.membership.peers, world.peers
            );
            problems.push(problem("world.peers", what));
        }
        let lying = world.adversaries > 0 || !world.liars.is_empty();
        if closed_form && lying && entry_of(&world.attack).is_some_and(|entry| entry.new.poisons) {
            let what = format!(
                "{:?} poisons rows, and [world.trainer] has none; expected an attack on vectors",
                world.attack
            );
            problems.push(problem("world.attack", what));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let peers = charter.membership.peers;
        let aggregation = charter.aggregation;
        let rule: Box<dyn Rule> = Box::new(Remembered::new(aggregation.rule, peers));
        let charter = Charter {
            aggregation: Aggregation {
                rule,
                ..aggregation
            },
            ..charter
        };
        Ok(Experiment {
            charter: Arc::new(charter),
            world,
            task,
            canonical,
            places,
        })
    }

    /// The experiment with every key written.
    pub fn to_toml(&self) -> String {
        let world = toml::to_string(&self.canonical)
            .expect("tables of texts, numbers, flags and lists are TOML");
        format!("{}\n{world}", self.charter.to_toml())
    }

    /// The name of everything that decides the outcome: BLAKE3 of [`Experiment::to_toml`].
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_toml().as_bytes())
    }

    /// Peers of the world.
    pub fn peers(&self) -> usize {
        self.charter.membership.peers
    }

    /// Runs it, training on `threads` threads beside this one. `progress` is called now and then
    /// with (virtual time, rounds completed by all peers together).
    ///
    /// # Errors
    /// When the rows cannot be had or dealt.
    pub fn run(
        &self,
        threads: usize,
        progress: &mut dyn FnMut(Duration, u64),
    ) -> Result<Outcome, ExperimentError> {
        let mut run = self.begin(threads)?;
        run.go_on(self.world.limit, progress);
        Ok(run.finish())
    }

    /// Everything in its place, at virtual time zero.
    ///
    /// # Errors
    /// When the rows cannot be had or dealt.
    pub fn begin(&self, threads: usize) -> Result<Run<'_>, ExperimentError> {
        let started = Instant::now();
        let Staged {
            participants,
            ids,
            lies,
            names,
            optimum,
            hull,
            oracle,
            triggered,
            skew,
            guessing,
        } = self.stage()?;
        let timeline = self.world.timeline(self.peers());
        let healed_at = timeline
            .iter()
            .map(|(at, fault)| *at + lasts(fault))
            .max()
            .unwrap_or(Duration::ZERO);
        let links = &self.world.links;
        let clear = timeline.is_empty() && links.loss == 0.0 && links.duplication == 0.0;
        let heals_within = self.world.heals_within;
        let charter = Arc::clone(&self.charter);
        let scope = Scope {
            charter,
            ids: ids.into_iter().collect(),
            lies: lies.clone(),
            clear,
            hull,
            healed_at,
            heals_within,
            reached: vec![0; lies.len()],
            last: Default::default(),
        };
        let consensus_every = if self.peers() > PEER_ROWS_MAX {
            self.world.evaluate_every.max(1)
        } else {
            1
        };
        let bench = Bench {
            metrics: Metrics::new(lies.clone(), optimum.clone(), consensus_every),
            mixing: Mixing::default(),
            promises: Promises::new(scope),
            oracle,
        };
        let meeting = Meeting::Neighbours(Arc::clone(&self.charter));
        let mut simulation = Simulation::new(participants, meeting, links.clone(), threads, bench);
        for (at, fault) in timeline {
            simulation.fault_at(at, fault);
        }
        let (ready, ended) = (Instant::now(), Ended::Limit);
        Ok(Run {
            experiment: self,
            simulation,
            names,
            lies,
            optimum,
            triggered,
            skew,
            guessing,
            started,
            ready,
            ended,
        })
    }

    /// The share of triggered rows that honest peers' models take for the attack's target.
    fn attack_success(
        &self,
        simulation: &Simulation<Bench>,
        lies: &[bool],
        triggered: &Dataset,
    ) -> Option<Range> {
        let task = self.task.as_ref()?;
        let judged = (0..lies.len())
            .filter(|peer| simulation.observer.metrics.evaluated[*peer].is_some() && !lies[*peer]);
        let shares: Vec<f64> = judged
            .filter_map(|peer| {
                Some(
                    task.evaluate(simulation.parameters(peer), triggered)
                        .ok()?
                        .accuracy,
                )
            })
            .collect();
        Range::of(&shares)
    }

    fn outcome(
        &self,
        simulation: &Simulation<Bench>,
        ended: Ended,
        names: &[String],
        lies: &[bool],
        optimum: Option<&[f64]>,
        [started, ready]: [Instant; 2],
    ) -> Outcome {
        let Bench {
            metrics,
            promises,
            oracle,
            ..
        } = &simulation.observer;
        let honest: Vec<usize> = (0..lies.len()).filter(|peer| !lies[*peer]).collect();
        let models: Vec<&[f32]> = honest
            .iter()
            .map(|peer| simulation.parameters(*peer).as_slice())
            .collect();
        let accuracies: Vec<f64> = honest
            .iter()
            .filter_map(|peer| metrics.evaluated[*peer].map(|(_, _, accuracy)| accuracy))
            .collect();
        let losses: Vec<f64> = honest
            .iter()
            .filter_map(|peer| metrics.evaluated[*peer].map(|(_, loss, _)| loss))
            .collect();
        let optimum_distance = optimum.map(|optimum| {
            let squares = |model: &&[f32]| -> f64 {
                model
                    .iter()
                    .zip(optimum)
                    .map(|(value, at)| (f64::from(*value) - at).powi(2))
                    .sum()
            };
            let distances: Vec<f64> = models.iter().map(|model| squares(model).sqrt()).collect();
            Range::of(&distances).expect("there is an honest peer")
        });
        let wall = started.elapsed().as_secs_f64();
        let running = ready.elapsed().as_secs_f64();
        let by_name = |counts: &std::collections::BTreeMap<usize, u64>| {
            counts
                .iter()
                .map(|(peer, count)| (names[*peer].clone(), *count))
                .collect()
        };
        Outcome {
            name: self.charter.name.clone(),
            seed: self.world.seed,
            peers: lies.len(),
            adversaries: lies.iter().filter(|lies| **lies).count(),
            liars: (0..lies.len())
                .filter(|peer| lies[*peer])
                .map(|peer| names[peer].clone())
                .collect(),
            rounds: self.charter.rounds,
            ended: match ended {
                Ended::Stopped => "stopped",
                Ended::Quiet => "quiet",
                Ended::Limit => "limit",
            },
            events: simulation.handled(),
            virtual_seconds: simulation.now().as_secs_f64(),
            wall_seconds: wall,
            setup_seconds: wall - running,
            peer_rounds: metrics.peer_rounds,
            peer_rounds_per_second: metrics.peer_rounds as f64 / running.max(1e-9),
            signatures: match self.world.signatures {
                Signatures::Ed25519 => "ed25519",
                Signatures::KeyedHash => "keyed-hash",
            },
            trace: simulation.trace(),
            experiment: self.digest(),
            accuracy: Range::of(&accuracies),
            attack_success: None,
            known_to_liars: oracle.as_ref().and_then(|oracle| oracle.known_share()),
            skew: None,
            loss: Range::of(&losses),
            consensus_distance: consensus_distance(&models),
            optimum_distance,
            bytes: metrics.bytes,
            mixing_skipped: metrics.mixing_skipped,
            rounds_by_deadline: metrics.by_deadline,
            rounds_jumped: metrics.rounds_jumped,
            refused: metrics.refused.clone(),
            suspected: by_name(&metrics.suspected),
            convicted: by_name(&metrics.convicted),
            filtered: metrics
                .filtered()
                .map(|(peer, share)| (names[peer].clone(), share))
                .collect(),
            guessing: None,
            optimum_distance_at_start: optimum
                .map(|optimum| optimum.iter().map(|at| at * at).sum::<f64>().sqrt()),
            faults_not_felt: self.world.faults_after(simulation.now()),
            checks: Checks {
                passed: promises.count() - promises.failures.len(),
                failed: promises.failures.clone(),
            },
            round_rows: metrics.round_rows(),
            peer_rows: metrics.peer_rows().to_vec(),
        }
    }

    /// Everything that takes part, ready to begin.
    fn stage(&self) -> Result<Staged, ExperimentError> {
        let (peers, seed) = (self.peers(), Seed::from_number(self.world.seed));
        let keys = self.keys(&seed);
        let ids: Vec<PeerId> = keys.iter().map(Authenticator::peer).collect();
        let roster = Roster::new(ids.clone());
        let liars = self.world.adversaries_among(peers);
        let lies: Vec<bool> = (0..peers)
            .map(|peer| liars.binary_search(&peer).is_ok())
            .collect();
        let entry = entry_of(&self.world.attack);
        let omniscient = entry.is_some_and(|entry| entry.new.knowledge == Knowledge::Omniscient)
            && !liars.is_empty();
        let oracle = omniscient.then(|| Arc::new(Oracle::default()));
        let school = self.school(&seed, &lies)?;
        let evaluating = self.evaluating(&seed, &lies);
        let slowest = (0..peers)
            .map(|peer| self.world.machine(peer).0.step)
            .max()
            .unwrap_or(Duration::ZERO);
        let initial = match &self.task {
            Some(task) => Arc::new(task.initial_parameters()),
            None => Arc::new(vec![0.0; school.dimension]),
        };
        let layout = self
            .task
            .as_ref()
            .map_or(Digest::of(b"formula"), |task| task.layout().digest());
        let codec_text = self
            .charter
            .canonical
            .get("codec")
            .and_then(|codec| toml::to_string(codec).ok())
            .unwrap_or_default();
        let shapes: Arc<[TensorShape]> = self
            .task
            .iter()
            .flat_map(|task| task.layout().matrices())
            .map(|[offset, rows, columns]| TensorShape {
                offset,
                rows,
                columns,
            })
            .collect();
        let mut participants = Vec::with_capacity(peers);
        for (peer, (key, pupil)) in keys.into_iter().zip(school.pupils).enumerate() {
            let (charter, roster, initial) = (
                Arc::clone(&self.charter),
                roster.clone(),
                Arc::clone(&initial),
            );
            let lie = lies[peer].then(|| (self.world.attack.clone(), oracle.clone()));
            let seed = seed.child(&format!("peer {peer}"));
            let evaluate_every = if evaluating[peer] {
                self.world.evaluate_every
            } else {
                0
            };
            let (codec_text, shapes) = (codec_text.clone(), Arc::clone(&shapes));
            let setup = move || Setup {
                authenticator: key.clone(),
                charter: Arc::clone(&charter),
                roster: roster.clone(),
                codec: codec(&codec_text, &shapes),
                layout,
                initial: Arc::clone(&initial),
                seed,
                conduct: conduct(lie.as_ref(), &charter),
                evaluate_every,
            };
            let pupil: Pupil = match (pupil, evaluating[peer]) {
                (Pupil::Learner(learner), false) => Pupil::Learner(learner.without_held_out()),
                (pupil, _) => pupil,
            };
            let (device, line, starts) = self.world.machine(peer);
            let mut participant = match pupil {
                Pupil::Learner(learner) => Participant::new(setup, learner),
                Pupil::Descent(descent) => Participant::new(setup, descent),
            };
            participant.line = line;
            participant.starts = starts;
            participant.device = device;
            if omniscient && lies[peer] {
                match self.charter.round.mode {
                    // Who knows what everybody publishes publishes last, as long as receivers still
                    // wait for it.
                    Mode::Synchronous => participant.waits = Some(self.charter.round.deadline / 2),
                    // Where nobody waits for anybody there is no last: it is as slow as the
                    // slowest.
                    _ => {
                        participant.device = Device {
                            step: slowest + Duration::from_micros(1),
                            jitter: 0.0,
                        }
                    }
                }
            }
            participants.push(participant);
        }
        let hull = school
            .hull
            .filter(|_| self.tolerates(liars.len()) && !self.believes(&liars));
        let names = match self.charter.membership.mode {
            Admission::Members => ids
                .iter()
                .map(|id| {
                    self.charter
                        .member(id)
                        .map_or(id.short(), |member| member.name.clone())
                })
                .collect(),
            Admission::Open => (0..peers).map(|peer| peer.to_string()).collect(),
        };
        let School {
            optimum,
            triggered,
            skew,
            guessing,
            ..
        } = school;
        Ok(Staged {
            participants,
            ids,
            lies,
            names,
            optimum,
            hull,
            oracle,
            triggered,
            skew,
            guessing,
        })
    }

    /// Which honest peer hears most liars in one of the first rounds, and how many; `None` where
    /// nobody lies.
    pub fn worst_neighbourhood(&self) -> Option<(usize, usize)> {
        /// Rounds that are looked at where graphs follow each other (guess: as many draws show what
        /// is usual).
        const ROUNDS_MAX: u64 = 64;
        let (topology, peers) = (&self.charter.topology, self.peers());
        let liars = self.world.adversaries_among(peers);
        let lies = |peer: &usize| liars.binary_search(peer).is_ok();
        let rounds = if topology.changes() {
            self.charter.rounds.min(ROUNDS_MAX)
        } else {
            1
        };
        let graphs = (0..if liars.is_empty() { 0 } else { rounds })
            .filter_map(|round| topology.graph(peers, round).ok());
        let mut worst = None;
        for graph in graphs {
            for peer in (0..peers).filter(|peer| !lies(peer)) {
                let heard = graph
                    .receives_from(peer)
                    .iter()
                    .filter(|sender| lies(sender))
                    .count();
                if worst.is_none_or(|(_, most)| heard > most) {
                    worst = Some((peer, heard));
                }
            }
        }
        worst
    }

    /// Whether the rule says that it keeps every coordinate inside the honest range with so many
    /// liars in a neighbourhood.
    fn tolerates(&self, liars: usize) -> bool {
        let aggregation = &self.charter.aggregation;
        // Other methods and momentum step beyond where an own gradient leads.
        let plain = aggregation.method == Method::Plain && aggregation.momentum == 0.0;
        let rule = &aggregation.rule;
        plain && (liars == 0 || (rule.stays_in_honest_range() && liars <= rule.byzantine()))
    }

    /// Whether the topology has somebody adopt a liar's model as it comes, in some round.
    fn believes(&self, liars: &[usize]) -> bool {
        /// Rounds that are looked at: the periods of a hierarchy draw other heads (guess: more than
        /// a test's world has).
        const ROUNDS_MAX: u64 = 4096;
        let (topology, peers) = (&self.charter.topology, self.peers());
        let rounds = 0..if topology.has_stages(peers) {
            self.charter.rounds.min(ROUNDS_MAX)
        } else {
            0
        };
        let mut graphs = rounds.filter_map(|round| topology.graph(peers, round).ok());
        graphs.any(|graph| {
            liars
                .iter()
                .any(|liar| graph.sends_to(*liar).iter().any(|to| graph.adopts(*to)))
        })
    }

    /// One authenticator for each peer, in the order of ids, so that a peer's number is its place
    /// in the graph.
    fn keys(&self, seed: &Seed) -> Vec<Authenticator> {
        let secret = seed.child("signatures").0;
        let mut keys: Vec<Authenticator> =
            match (self.charter.membership.mode, self.world.signatures) {
                (Admission::Members, _) => {
                    let hashed = |peer: PeerId| Authenticator::KeyedHash { peer, secret };
                    self.charter.roster().into_iter().map(hashed).collect()
                }
                (Admission::Open, Signatures::Ed25519) => (0..self.peers())
                    .map(|peer| Authenticator::from_secret(&seed.child(&format!("key {peer}")).0))
                    .collect(),
                (Admission::Open, Signatures::KeyedHash) => (0..self.peers())
                    .map(|peer| Authenticator::KeyedHash {
                        peer: PeerId(seed.child(&format!("key {peer}")).0),
                        secret,
                    })
                    .collect(),
            };
        keys.sort_by_cached_key(Authenticator::peer);
        keys
    }

    /// Which peers evaluate on the held-out rows.
    fn evaluating(&self, seed: &Seed, lies: &[bool]) -> Vec<bool> {
        if self.world.evaluating == 0 {
            return lies.iter().map(|lies| !lies).collect();
        }
        let mut honest: Vec<usize> = (0..lies.len()).filter(|peer| !lies[*peer]).collect();
        seed.stream("kith.v1 evaluating").shuffle(&mut honest);
        let mut chosen = vec![false; lies.len()];
        honest
            .iter()
            .take(self.world.evaluating)
            .for_each(|peer| chosen[*peer] = true);
        chosen
    }

    /// What each peer trains on.
    fn school(&self, seed: &Seed, lies: &[bool]) -> Result<School, ExperimentError> {
        match &self.world.trainer {
            None => self.rows(seed, lies),
            Some(trainer) => {
                let (objectives, optimum) = trainer.family.draw(lies, seed);
                let hull = trainer.hull(lies, seed);
                let pupil = |(peer, objective): (usize, Arc<dyn Objective>)| {
                    let own = self
                        .world
                        .trainer_of(peer)
                        .expect("this world has a trainer");
                    Pupil::Descent(Descent::new(
                        &own,
                        objective,
                        seed.child(&format!("noise {peer}")),
                    ))
                };
                let pupils = objectives.into_iter().enumerate().map(pupil).collect();
                Ok(School {
                    pupils,
                    dimension: optimum.len(),
                    optimum: Some(optimum),
                    hull,
                    triggered: None,
                    skew: None,
                    guessing: None,
                })
            }
        }
    }

    fn rows(&self, seed: &Seed, lies: &[bool]) -> Result<School, ExperimentError> {
        let wrong = |error: &dyn std::fmt::Display| ExperimentError::Rows(error.to_string());
        let task = self
            .task
            .as_ref()
            .expect("without a formula there is a task");
        let entry = DATASETS
            .iter()
            .find(|entry| entry.name == self.world.dataset)
            .expect("the world names a known data set");
        let options = DatasetOptions {
            directory: self.world.data_dir.clone(),
        };
        let key = if self.world.data_dir.is_some() {
            "world.data_dir"
        } else {
            "world.dataset"
        };
        let loaded = (entry.new.load)(&options).map_err(|error| {
            ExperimentError::Problems(vec![self.places.problem(key, error.to_string())])
        })?;
        let all = loaded
            .dataset(task.schema())
            .map_err(|error| wrong(&error))?;
        let test = (self.world.test_rows > 0).then_some(TestSize::Rows(self.world.test_rows));
        let split = loaded
            .split(task.schema(), test, seed)
            .map_err(|error| wrong(&error))?;
        let (train, test) = (all.select(&split.train), Arc::new(all.select(&split.test)));
        let sites = loaded.sites_among(&split.train);
        let (classes, peers) = (task.schema().classes, lies.len());
        let most = test
            .class_counts(classes)
            .into_iter()
            .max()
            .filter(|most| *most > 0);
        let guessing = most.map(|most| most as f64 / test.len() as f64);
        let partition = &self.world.partition;
        let dealt = partition
            .datasets(&train, classes, sites.as_deref(), peers, seed)
            .map_err(|error| wrong(&error))?;
        let mut skew = SkewReport::of(&dealt, classes, train.len());
        if peers > PEER_ROWS_MAX {
            skew.class_counts = Vec::new();
        }
        let attack = attack_from_text(&self.world.attack).map_err(ExperimentError::Problems)?;
        let mut pupils = Vec::with_capacity(lies.len());
        for (peer, mut own) in dealt.into_iter().enumerate() {
            if lies[peer] {
                let mut random = seed
                    .child(&format!("poison {peer}"))
                    .stream("kith.v1 poison");
                own = attack
                    .poison(&own, task.schema(), &mut random)
                    .map_err(|error| wrong(&error))?
                    .unwrap_or(own);
            }
            // Where peers see rows each in its own way, what is right for one is judged as that one
            // sees it.
            let place = partition::Place {
                peer,
                peers,
                classes,
                seed,
            };
            let own_test = if partition.changes_rows() {
                Arc::new(partition.transform(&place, &test))
            } else {
                Arc::clone(&test)
            };
            let learner = Learner::new(
                task,
                own,
                seed.child(&format!("batches {peer}")),
                Some(own_test),
            );
            pupils.push(Pupil::Learner(
                learner.map_err(|error| wrong(&format!("peer {peer}: {error}")))?,
            ));
        }
        let triggered = attack
            .triggered(&test, task.schema())
            .map_err(|error| wrong(&error))?;
        Ok(School {
            pupils,
            dimension: task.layout().dimension,
            optimum: None,
            hull: None,
            triggered,
            skew: Some(skew),
            guessing,
        })
    }
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

fn codec(text: &str, shapes: &[TensorShape]) -> Box<dyn Codec> {
    let mut document = Document::parse(&format!("[codec]\n{text}")).expect("it was written by us");
    let mut codec = document.section("codec", codec_from_section);
    codec.shape(shapes);
    codec
}

fn conduct(
    lie: Option<&(String, Option<Arc<Oracle>>)>,
    charter: &Arc<Charter>,
) -> Box<dyn Conduct> {
    match lie {
        None => Box::new(Honest),
        Some((text, oracle)) => {
            let attack =
                attack_from_text(text).expect("the world was refused unless its attack is known");
            Box::new(Attacker::new(attack, oracle.clone()).under(charter))
        }
    }
}

fn lasts(fault: &Fault) -> Duration {
    match fault {
        Fault::Crash { back, .. } => back.unwrap_or(Duration::ZERO),
        Fault::Rollback { back, .. } => *back,
        Fault::Pause { lasts, .. }
        | Fault::Partition { lasts, .. }
        | Fault::Loss { lasts, .. }
        | Fault::SlowDisk { lasts, .. } => *lasts,
        Fault::Clock { .. } | Fault::Heal => Duration::ZERO,
    }
}

/// The section for whoever runs an experiment many times.
pub(crate) const SWEEP: &str = "sweep";

/// Whether the text has a section that only a sweep reads.
pub fn has_sweep(text: &str) -> bool {
    text.parse::<toml::Table>()
        .is_ok_and(|table| table.contains_key(SWEEP))
}

/// Notes a setting among what is written, as far as [`completion`] asks: the world's keys, and
/// which sections are written.
fn note_setting(written: &mut toml::Table, key: &str, value: &toml::Value) {
    let empty = || toml::Value::Table(toml::Table::new());
    match key.splitn(3, '.').collect::<Vec<&str>>()[..] {
        [name] => drop(written.insert(name.to_owned(), value.clone())),
        ["world", key, ..] => {
            if let toml::Value::Table(world) = written.entry("world").or_insert_with(empty) {
                // Of a table in [world] only that it is there.
                world.insert(key.to_owned(), value.clone());
            }
        }
        // A section of another kind has other keys than a data set's own.
        [name, "kind"] => drop(written.entry(name).or_insert_with(empty)),
        _ => {}
    }
}

/// What an experiment may leave out, for the one that is written.
fn completion(written: &toml::Table) -> toml::Table {
    let get = |key: &str| written.get("world").and_then(|world| world.get(key));
    let mut table = toml::Table::new();
    let closed_form = get("trainer").is_some();
    let dataset = get("dataset")
        .and_then(toml::Value::as_str)
        .unwrap_or("digits");
    if let Some(entry) = DATASETS
        .iter()
        .find(|entry| entry.name == dataset && !closed_form)
    {
        let defaults: toml::Table = entry
            .new
            .defaults
            .parse()
            .expect("a data set's defaults are TOML");
        // A section of the file stands for itself: a model of another kind has other keys.
        table.extend(
            defaults
                .into_iter()
                .filter(|(name, _)| !written.contains_key(name)),
        );
    }
    if let (Some(peers), false) = (get("peers"), written.contains_key("membership")) {
        let open = [
            ("mode".to_owned(), toml::Value::String("open".to_owned())),
            ("peers".to_owned(), peers.clone()),
        ];
        table.insert(
            "membership".to_owned(),
            toml::Value::Table(toml::Table::from_iter(open)),
        );
    }
    // Another seed of the world is another draw of everything that the file does not fix.
    let seed = get("seed").cloned().unwrap_or(toml::Value::Integer(0));
    for name in ["federation", "topology", "model"]
        .into_iter()
        .filter(|name| *name != "model" || !closed_form)
    {
        let section = table
            .entry(name)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert("seed".to_owned(), seed.clone());
        }
    }
    table
}

/// An experiment that runs.
pub struct Run<'a> {
    experiment: &'a Experiment,
    simulation: Simulation<Bench>,
    names: Vec<String>,
    lies: Vec<bool>,
    optimum: Option<Vec<f64>>,
    triggered: Option<Dataset>,
    guessing: Option<f64>,
    skew: Option<SkewReport>,
    started: Instant,
    ready: Instant,
    ended: Ended,
}

impl Run<'_> {
    /// Goes on until everybody has stopped or virtual time has passed `limit`, in slices, so that
    /// somebody who waits hears something.
    pub fn go_on(&mut self, limit: Duration, progress: &mut dyn FnMut(Duration, u64)) {
        const SLICE: u64 = 50_000;
        self.ended = loop {
            match self.simulation.run_some(limit, SLICE) {
                Some(ended) => break ended,
                None => progress(
                    self.simulation.now(),
                    self.simulation.observer.metrics.peer_rounds,
                ),
            }
        };
    }

    /// What came out.
    pub fn finish(mut self) -> Outcome {
        let unfinished: Vec<usize> = (0..self.lies.len())
            // A peer that comes back when all its neighbours have finished ends before its last
            // round, or waits for them, and says so.
            .filter(|peer| {
                !self.lies[*peer]
                    && self.simulation.is_running(*peer)
                    && !self.simulation.is_stranded(*peer)
            })
            .filter(|peer| self.simulation.peer(*peer).round() < self.experiment.charter.rounds)
            .collect();
        let now = self.simulation.now();
        self.simulation.observer.promises.ended(now, &unfinished);
        let gaps = std::mem::take(&mut self.simulation.observer.mixing).gaps();
        let moments = [self.started, self.ready];
        let (experiment, simulation, lies) = (self.experiment, &self.simulation, &self.lies);
        let mut outcome = experiment.outcome(
            simulation,
            self.ended,
            &self.names,
            lies,
            self.optimum.as_deref(),
            moments,
        );
        outcome.skew = self.skew.take();
        for row in &mut outcome.round_rows {
            row.spectral_gap = row
                .round
                .checked_sub(1)
                .and_then(|round| gaps.get(&round).copied().filter(|gap| gap.is_finite()));
        }
        outcome.attack_success = self
            .triggered
            .as_ref()
            .and_then(|triggered| experiment.attack_success(simulation, lies, triggered));
        outcome.guessing = self.guessing;
        outcome
    }
}

struct Staged {
    participants: Vec<Participant>,
    ids: Vec<PeerId>,
    lies: Vec<bool>,
    names: Vec<String>,
    optimum: Option<Vec<f64>>,
    hull: Option<(f32, f32)>,
    oracle: Option<Arc<Oracle>>,
    triggered: Option<Dataset>,
    guessing: Option<f64>,
    skew: Option<SkewReport>,
}

struct School {
    pupils: Vec<Pupil>,
    dimension: usize,
    optimum: Option<Vec<f64>>,
    hull: Option<(f32, f32)>,
    /// Rows that tell whether a backdoor opens.
    triggered: Option<Dataset>,
    /// See [`Outcome::guessing`].
    guessing: Option<f64>,
    skew: Option<SkewReport>,
}

enum Pupil {
    Learner(Learner),
    Descent(Descent),
}

/// Everybody who looks on.
struct Bench {
    metrics: Metrics,
    mixing: Mixing,
    promises: Promises,
    oracle: Option<Arc<Oracle>>,
}

impl Observer for Bench {
    fn event(&mut self, moment: &Moment<'_>, event: &Event) {
        let scope = self.promises.scope();
        self.metrics.event(moment, event, |peer| scope.number(peer));
        self.mixing.event(scope, moment, event);
        self.promises.event(moment, event);
    }

    fn input(&mut self, moment: &Moment<'_>, input: &Input) {
        if let (
            Some(oracle),
            Input::Trained {
                round, parameters, ..
            },
        ) = (&self.oracle, input)
            && !self.promises.scope().lies[moment.member]
        {
            oracle.tell(*round, moment.peer.id(), Arc::clone(parameters));
        }
        self.metrics.input(moment, input);
        self.promises.input(moment, input);
    }

    fn effect(&mut self, moment: &Moment<'_>, effect: &Effect) {
        self.metrics.effect(moment, effect);
        self.promises.effect(moment, effect);
    }

    fn stored(&mut self, moment: &Moment<'_>, record: &Record) {
        self.promises.stored(moment, record);
    }

    fn crashed(&mut self, moment: &Moment<'_>) {
        self.promises.crashed(moment);
    }

    fn sent(&mut self, _: usize, _: usize, bytes: usize) {
        self.metrics.bytes.wire += bytes as u64;
    }
}

/// Mean, least and most over the honest peers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Mean.
    pub mean: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
}

impl Range {
    fn of(values: &[f64]) -> Option<Range> {
        let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick);
        let (min, max) = (fold(f64::min)?, fold(f64::max)?);
        Some(Range {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            min,
            max,
        })
    }
}

/// Which promises held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checks {
    /// How many.
    pub passed: usize,
    /// Which did not.
    pub failed: Vec<Failure>,
}

/// What came out of a run. The rows are not part of its JSON.
#[derive(Clone, Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "the keys are those of the documented JSON object"
)]
pub struct Outcome {
    pub name: String,
    pub seed: u64,
    pub peers: usize,
    pub adversaries: usize,
    pub liars: Vec<String>,
    pub rounds: u64,
    pub ended: &'static str,
    pub events: u64,
    pub virtual_seconds: f64,
    pub wall_seconds: f64,
    pub setup_seconds: f64,
    pub peer_rounds: u64,
    pub peer_rounds_per_second: f64,
    pub signatures: &'static str,
    pub trace: Digest,
    pub experiment: Digest,
    pub accuracy: Option<Range>,
    /// For attacks with a trigger: the share of triggered rows of other classes that honest models
    /// take for the target.
    pub attack_success: Option<Range>,
    /// For omniscient attacks: of the honest vectors of the rounds in which liars published, the
    /// share that they knew then.
    pub known_to_liars: Option<f64>,
    /// How unlike the peers' rows are, as they were dealt; class counts in worlds of at most
    /// [`PEER_ROWS_MAX`] peers.
    pub skew: Option<SkewReport>,
    pub loss: Option<Range>,
    pub consensus_distance: Option<f64>,
    pub optimum_distance: Option<Range>,
    pub bytes: Bytes,
    pub mixing_skipped: u64,
    pub rounds_by_deadline: u64,
    /// Rounds that honest peers left out because the others were far ahead.
    pub rounds_jumped: u64,
    pub refused: std::collections::BTreeMap<&'static str, u64>,
    pub suspected: std::collections::BTreeMap<String, u64>,
    pub convicted: std::collections::BTreeMap<String, u64>,
    /// Mean share of each peer's contributions that honest peers left out, by name; empty in worlds
    /// of more than [`PEER_ROWS_MAX`] peers.
    #[serde(skip)]
    pub filtered: std::collections::BTreeMap<String, f64>,
    /// Accuracy of always naming the most frequent class of the held-out rows.
    #[serde(skip)]
    pub guessing: Option<f64>,
    /// Distance to the optimum, where it is known, of the model that everybody starts with.
    #[serde(skip)]
    pub optimum_distance_at_start: Option<f64>,
    /// Faults of the world's list whose time is after the run's end.
    pub faults_not_felt: Vec<String>,
    pub checks: Checks,
    #[serde(skip)]
    pub round_rows: Vec<RoundRow>,
    #[serde(skip)]
    pub peer_rows: Vec<PeerRow>,
}

/// Root mean square distance of the models to their mean.
fn consensus_distance(models: &[&[f32]]) -> Option<f64> {
    let first = models.first()?;
    let count = models.len() as f64;
    let (mut sum, mut squares) = (vec![0.0; first.len()], 0.0);
    for model in models {
        for ((sum, value), reference) in sum.iter_mut().zip(*model).zip(*first) {
            let difference = f64::from(*value) - f64::from(*reference);
            *sum += difference;
            squares += difference * difference;
        }
    }
    let mean_squares: f64 = sum.iter().map(|sum| (sum / count).powi(2)).sum();
    Some((squares / count - mean_squares).max(0.0).sqrt())
}
