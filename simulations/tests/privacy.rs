//! Differential privacy in whole federations: what leaves a peer, when releases end, and that no fault
//! of process or disk makes a ledger forget.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kith_consensus::charter::Declared;
use kith_consensus::section::Document;
use kith_consensus::{Charter, Digest, Section, Seed};
use kith_gossip::codec::TensorShape;
use kith_gossip::{Authenticator, Effect, Event, Federation, Packet, Record, Setup};
use kith_models::{DATASETS, Dataset, DatasetOptions, ModelSection, Schema, Task, TrainingSection};
use kith_simulations::experiment::{Experiment, Happened, Outcome};
use kith_simulations::learner::Learner;
use kith_simulations::simulator::{
    Ended, Links, Meeting, Moment, Observer, Participant, Simulation,
};

/// The digits under a guarantee: 30 rounds of one step with all rows.
fn text(budget: f64, sigma: f64, world: &str) -> String {
    format!(
        "[federation]\nname = \"digits\"\nrounds = 30\n[topology]\nkind = \"complete\"\n\
         [training]\nlocal_steps = 1\nlocal_epochs = 0\nbatch_size = 190\nlearning_rate = 0.5\nmomentum = 0.9\n\
         momentum_scope = \"run\"\n[privacy]\nmechanism = \"example-level\"\nclip_norm = 1.0\nnoise_multiplier = {sigma}\n\
         sampling_rate = 1.0\ndelta = 1e-5\nepsilon_budget = {budget}\n[world]\npeers = 8\nseed = 1\ndataset = \"digits\"\n\
         partition = \"iid\"\n{world}"
    )
}

/// The same, with all rows of a peer protected together.
fn text_of_peers(budget: f64, sigma: f64) -> String {
    text(budget, sigma, "")
        .replace("example-level", "update-level")
        .replace("sampling_rate = 1.0\n", "")
        .replace("momentum_scope = \"run\"\n", "")
}

fn run(text: &str) -> Outcome {
    let experiment = Experiment::parse(text, &[]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let outcome = experiment.run(0, &mut |_, _| {}).expect("it runs");
    assert_eq!(outcome.checks.failed, []);
    assert_eq!(outcome.ended, Ended::Stopped, "everyone finishes");
    outcome
}

/// The experiment is refused for this key, in words among which are these.
fn refused(text: &str, key: &str, words: &str) {
    let problems = Experiment::parse(text, &[]).expect_err("it is refused");
    let found = problems
        .iter()
        .any(|problem| problem.key == key && problem.what.contains(words));
    assert!(found, "{key}: {problems:?}");
}

#[test]
fn a_private_federation_learns_within_its_budget_and_waits_for_nobody() {
    let outcome = run(&text(4.0, 6.8, ""));
    let spent = outcome.privacy.expect("a guarantee has a statement");
    assert_eq!(
        (spent.releases, spent.mechanism.as_str()),
        (30, "example-level")
    );
    let tight = spent.epsilon_pld.expect("a schedule fixed beforehand");
    assert!(
        spent.epsilon_rdp <= 4.0 && spent.epsilon_rdp > 3.0,
        "{spent:?}"
    );
    assert!(tight < spent.epsilon_rdp && tight > 2.5, "{spent:?}");
    let accuracy = outcome.accuracy.expect("evaluated").mean;
    println!("accuracy {accuracy:.3} at epsilon {:.3}", spent.epsilon_rdp);
    assert!(accuracy > 0.8, "{accuracy}");
    assert_eq!(outcome.rounds_by_deadline, 0, "early updates are not lost");
    let epsilons: Vec<f64> = outcome
        .round_rows
        .iter()
        .filter_map(|row| row.epsilon)
        .collect();
    assert_eq!(epsilons.len(), 30);
    assert!(
        epsilons.windows(2).all(|pair| pair[0] < pair[1]),
        "{epsilons:?}"
    );
    assert!(
        outcome
            .round_rows
            .iter()
            .all(|row| row.train_loss.is_none())
    );
}

#[test]
fn peers_whose_budget_is_spent_release_nothing_more_and_still_finish() {
    let outcome = run(&text(2.0, 6.8, ""));
    let spent = outcome.privacy.expect("a statement");
    assert!((5..25).contains(&spent.releases), "{spent:?}");
    assert!(spent.epsilon_rdp <= 2.0, "{spent:?}");
    let last = outcome.round_rows.last().expect("rounds");
    assert_eq!((last.round, last.peers), (30, 8), "everyone goes on");
    assert_eq!(outcome.rounds_by_deadline, 0, "nobody is waited for");
}

#[test]
fn whole_updates_are_charged_once_a_round_and_end_at_the_budget() {
    let outcome = run(&text_of_peers(3.0, 6.0));
    let spent = outcome.privacy.expect("a statement");
    assert_eq!(
        (spent.mechanism.as_str(), spent.unit.name()),
        ("update-level", "peer")
    );
    assert!((10..30).contains(&spent.releases), "{spent:?}");
    assert!(
        spent.epsilon_rdp <= 3.0 && spent.epsilon_rdp > 2.7,
        "{spent:?}"
    );
    assert_eq!(outcome.rounds_by_deadline, 0, "nobody is waited for");
    // Almost no noise at all: what is clipped still learns.
    let outcome = run(&text_of_peers(1e6, 0.2).replace("clip_norm = 1.0", "clip_norm = 0.05"));
    let accuracy = outcome.accuracy.expect("evaluated").mean;
    assert!(accuracy > 0.3, "{accuracy}");
}

#[test]
fn what_a_guarantee_for_whole_peers_does_not_cover_is_refused() {
    for (change, key, words) in [
        (
            ("delta = 1e-5", "delta = 1e-5\nsampling_rate = 0.5"),
            "privacy.sampling_rate",
            "expected no sampling_rate",
        ),
        (
            ("momentum = 0.9", "momentum = 0.9\nmomentum_scope = \"run\""),
            "training.momentum_scope",
            "bare gradients",
        ),
        (
            ("local_steps = 1\nlocal_epochs = 0", "local_epochs = 1"),
            "training.local_epochs",
            "update-level",
        ),
    ] {
        refused(
            &text_of_peers(8.0, 6.0).replace(change.0, change.1),
            key,
            words,
        );
    }
}

/// The invariant `charged-first` watches.
#[test]
fn crashes_full_disks_and_older_copies_of_the_state_never_spend_more_than_the_budget() {
    let mut restarts = 0;
    for seed in 0..6 {
        let slow = |peer: usize| {
            format!(
                "[[world.fault]]\nkind = \"slow-disk\"\npeer = {peer}\nat_seconds = 0\nwrite_ms = 20\nlasts_seconds = 60\n"
            )
        };
        let world: String = (0..8).map(slow).collect();
        let world = format!("{world}[world.chaos]\nfaults = 24\nuntil_seconds = 3\n");
        let text = text(1.2, 6.8, &world).replace("seed = 1\n", &format!("seed = {seed}\n"));
        let outcome = run(&text);
        let spent = outcome.privacy.expect("a statement");
        assert!(spent.epsilon_rdp <= 1.2, "{seed}: {spent:?}");
        restarts += u32::from(spent.epsilon_pld.is_none());
    }
    println!("{restarts} runs with a torn entry");
}

/// How many peers notice that their ledger is an older copy, in a run with these faults that keeps every
/// invariant.
fn ledgers_behind(faults: &str, seed: u64) -> u32 {
    let slow = "[world.devices]\nstep_ms = 40\n[world.links]\nlatency_ms = 5\n";
    let text = text(3.0, 6.8, &format!("{faults}{slow}"));
    let text = text.replace("seed = 1\n", &format!("seed = {seed}\n"));
    let experiment = Experiment::parse(&text, &[]).expect("a good experiment");
    let mut run = experiment.begin(0).expect("it begins");
    let behind = Rc::new(Cell::new(0));
    let count = Rc::clone(&behind);
    run.listen(Box::new(move |_, _, happened| {
        let told = matches!(happened, Happened::Event(Event::LedgerBehind { .. }));
        count.set(count.get() + u32::from(told));
    }));
    run.run_until(Duration::MAX, &mut |_, _| {});
    let outcome = run.finish();
    assert_eq!(outcome.checks.failed, [], "seed {seed}");
    assert_eq!(outcome.ended, Ended::Stopped, "everyone finishes");
    behind.get()
}

/// Three peers lose their state, and an older copy of their ledger is put back. What it lacks stands
/// in their own headers, which neighbours give back. The invariant `charged-first` adds up all that
/// was ever charged, whatever a ledger says later.
#[test]
fn a_ledger_that_was_put_back_from_an_older_copy_never_permits_more_than_the_budget() {
    for seed in 0..12 {
        let fault = |peer: u64| {
            format!(
                "[[world.fault]]\nkind = \"restored-ledger\"\npeer = {peer}\nat_seconds = {}\nentries = {}\nlasts_seconds = 0.1\n",
                0.3 + 0.2 * (peer + seed) as f64 / 8.0,
                2 + 3 * peer + seed
            )
        };
        let faults: String = (0..3).map(fault).collect();
        let behind = ledgers_behind(&faults, seed);
        assert_eq!(behind, 3, "seed {seed}: every peer noticed");
    }
}

/// While such a peer is away all others are restarted too: what it had spent stands in their
/// checkpoints.
#[test]
fn an_older_copy_of_a_ledger_is_noticed_though_all_neighbours_have_been_restarted() {
    let others = (1..8).map(|peer| {
        let (at, lasts) = (0.55 + 0.01 * f64::from(peer), 0.1);
        format!(
            "[[world.fault]]\nkind = \"crash\"\npeer = {peer}\nat_seconds = {at}\nlasts_seconds = {lasts}\n"
        )
    });
    let restored = "[[world.fault]]\nkind = \"restored-ledger\"\npeer = 0\nat_seconds = 0.5\nentries = 6\nlasts_seconds = 0.5\n";
    let faults = format!("{restored}{}", others.collect::<String>());
    assert_eq!(ledgers_behind(&faults, 1), 1);
}

#[test]
fn what_a_guarantee_does_not_cover_is_refused_with_the_reason() {
    let rule = |rule: &str| format!("[aggregation]\n{rule}\n[training]");
    for (change, key, words) in [
        (
            (
                "local_steps = 1\nlocal_epochs = 0",
                "local_epochs = 1".to_owned(),
            ),
            "training.local_epochs",
            "how many rows",
        ),
        (
            (
                "local_epochs = 0",
                "local_epochs = 0\nclip_norm = 1.0".to_owned(),
            ),
            "training.clip_norm",
            "each row",
        ),
        (
            ("[training]", rule("rule = \"ubar\"\nbyzantine = 1")),
            "aggregation.rule",
            "own rows",
        ),
        (
            (
                "[training]",
                rule("weighting = \"samples\"\nsample_cap = 9"),
            ),
            "aggregation.weighting",
            "how many rows",
        ),
        (
            (
                "[training]",
                "[round]\nselection = \"power-of-choice\"\n[training]".to_owned(),
            ),
            "round.selection",
            "own rows",
        ),
        (
            ("batch_size = 190", "batch_size = 5000".to_owned()),
            "privacy.mechanism",
            "4096",
        ),
        (
            ("example-level", "row-level".to_owned()),
            "privacy.mechanism",
            "known: none, example-level",
        ),
        (
            (
                "noise_multiplier = 6.8",
                "noise_multiplier = 0.1".to_owned(),
            ),
            "privacy.noise_multiplier",
            "0.2",
        ),
        (
            ("noise_multiplier = 6.8", "noise_multiplier = -1".to_owned()),
            "privacy.noise_multiplier",
            "0.2",
        ),
        (
            ("sampling_rate = 1.0", "sampling_rate = 1.5".to_owned()),
            "privacy.sampling_rate",
            "at most 1",
        ),
        (
            ("sampling_rate = 1.0", "sampling_rate = 0".to_owned()),
            "privacy.sampling_rate",
            "above 0",
        ),
        (
            ("delta = 1e-5", "delta = 1.0".to_owned()),
            "privacy.delta",
            "below 1",
        ),
        (
            ("delta = 1e-5", "delta = 0".to_owned()),
            "privacy.delta",
            "above 0",
        ),
        (
            ("clip_norm = 1.0", "clip_norm = 0".to_owned()),
            "privacy.clip_norm",
            "clip norm",
        ),
        (
            ("epsilon_budget = 4", "epsilon_budget = 0".to_owned()),
            "privacy.epsilon_budget",
            "permits no release",
        ),
        (
            ("epsilon_budget = 4", "epsilon_budget = 0.01".to_owned()),
            "privacy.epsilon_budget",
            "",
        ),
        (
            ("delta = 1e-5\n", String::new()),
            "privacy.delta",
            "missing",
        ),
    ] {
        refused(&text(4.0, 6.8, "").replace(change.0, &change.1), key, words);
    }
}

#[test]
fn a_peer_with_too_many_rows_or_too_few_is_refused_before_anything_runs() {
    for (change, words) in [
        (
            ("batch_size = 190", "batch_size = 100"),
            "more than the lot size 100",
        ),
        (
            ("sampling_rate = 1.0", "sampling_rate = 0.001"),
            "at least one unit",
        ),
    ] {
        let text = text(4.0, 6.8, "").replace(change.0, change.1);
        let experiment = Experiment::parse(&text, &[]).unwrap();
        let error = experiment.run(0, &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

// --- what leaves a peer ---

/// Every packet that leaves a peer, what else it tells, and what in it names or is a model.
#[derive(Default)]
struct Outgoing {
    packets: Vec<(usize, Packet)>,
    told: Vec<String>,
    /// Bytes of released models, their hashes, and the hashes of payloads that hold them.
    models: Vec<Vec<u8>>,
}

impl Observer for Outgoing {
    fn event(&mut self, _: &Moment<'_>, event: &Event) {
        // What status, metrics and logs show of the rows, apart from models and their evaluation.
        if let Event::Trained { .. } = event {
            self.told.push(format!("{event:?}"));
        }
    }

    fn effect(&mut self, moment: &Moment<'_>, effect: &Effect) {
        match effect {
            Effect::Send { bytes, .. } | Effect::Announce { bytes } => {
                self.packets.push((moment.member, bytes.clone()));
            }
            Effect::Persist(Record::Intent(intent)) => {
                let body = intent.own.iter().flat_map(|value| value.to_le_bytes());
                let header = intent.announcement.claimed_header().expect("our own");
                self.models.push(body.collect());
                self.models.push(header.state.0.to_vec());
                self.models.push(header.payload.0.to_vec());
            }
            _ => {}
        }
    }
}

impl Outgoing {
    /// The bytes of a packet without models and their hashes.
    fn masked(&self, packet: &Packet) -> Vec<u8> {
        let mut bytes = packet.to_vec();
        for part in &self.models {
            while let Some(at) = bytes.windows(part.len()).position(|window| window == part) {
                bytes[at..at + part.len()].fill(0);
                if part.iter().all(|byte| *byte == 0) {
                    break;
                }
            }
        }
        bytes
    }
}

const SIGNATURE_BYTES: usize = 64;

/// Bytes that differ outside models, their hashes and signatures.
fn differences(left: &Outgoing, right: &Outgoing) -> Vec<String> {
    let mut found = Vec::new();
    if left.packets.len() != right.packets.len() || left.told != right.told {
        found.push("another number of messages, or another event".to_owned());
    }
    for ((member, one), (_, other)) in left.packets.iter().zip(&right.packets) {
        let (one, other) = (left.masked(one), right.masked(other));
        if one.len() != other.len() {
            found.push(format!(
                "peer {member} sends {} and {} bytes",
                one.len(),
                other.len()
            ));
            continue;
        }
        let differ: Vec<usize> = (0..one.len()).filter(|at| one[*at] != other[*at]).collect();
        let (Some(first), Some(last)) = (differ.first(), differ.last()) else {
            continue;
        };
        // A message has one signature, and a neighbour's header that is shown another.
        let rest = differ.iter().filter(|at| **at >= first + SIGNATURE_BYTES);
        let second = rest.clone().next();
        let is_signatures = second.is_none_or(|second| last - second < SIGNATURE_BYTES);
        if !is_signatures || differ.len() > 2 * SIGNATURE_BYTES {
            found.push(format!(
                "peer {member} differs at {first} to {last} of {}",
                one.len()
            ));
        }
    }
    found
}

fn section<T>(text: &str, name: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
    Document::parse(text).expect("toml").section(name, read)
}

/// Two peers train for three rounds; the first has these rows.
fn outgoing(guarded: bool, rows: Dataset) -> Outgoing {
    let key = |index: u8| Authenticator::from_secret(&[index + 1; 32]);
    let privacy = "[privacy]\nmechanism = \"example-level\"\nclip_norm = 1.0\nnoise_multiplier = 1.0\nsampling_rate = 0.5\n\
                   delta = 1e-5\nepsilon_budget = 50.0\n";
    let mut text = DATASETS
        .get("digits")
        .expect("they fit")
        .new
        .defaults
        .replace(
            "local_epochs = 2",
            "local_steps = 2\nmomentum_scope = \"run\"",
        );
    text.push_str("[federation]\nname = \"two\"\nrounds = 3\n[topology]\nkind = \"complete\"\n");
    text = text.replace("batch_size = 16", "batch_size = 60");
    if guarded {
        text.push_str(privacy);
    }
    for index in 0..2 {
        let member = key(index).peer();
        text.push_str(&format!(
            "[[membership.member]]\nname = \"p{index}\"\nkey = \"{member}\"\n"
        ));
    }
    let task = Task::new(
        section(&text, "data", Schema::read),
        section(&text, "model", ModelSection::read),
        section(&text, "training", TrainingSection::read),
    )
    .expect("they fit");
    let mut skip = |section: &mut Section<'_>, _: &mut Declared| {
        let _ = Schema::read(section);
    };
    let mut model = |section: &mut Section<'_>, _: &mut Declared| {
        let _ = ModelSection::read(section);
    };
    let mut training = |section: &mut Section<'_>, declared: &mut Declared| {
        TrainingSection::read(section).declare(declared);
    };
    let charter = Charter::resolve(
        &text,
        &mut [
            ("data", &mut skip),
            ("model", &mut model),
            ("training", &mut training),
        ],
    );
    let charter = Arc::new(charter.unwrap_or_else(|problems| panic!("{problems:?}")));
    let matrices = task.layout().matrices().into_iter().map(TensorShape::from);
    let federation = Federation::new(
        Arc::clone(&charter),
        Digest::of(b"layout"),
        task.initial_parameters(),
        matrices,
    );
    let others = rows.select(&(0..80).collect::<Vec<_>>());
    let participants = [rows, others].into_iter().enumerate().map(|(index, rows)| {
        let seed = Seed::from_number(index as u64);
        let learner = Learner::new(&task, rows, seed, None).expect("they fit");
        let learner = learner
            .under(&charter, seed.child("keys"))
            .expect("they fit");
        let (federation, index) = (federation.clone(), index as u8);
        let setup = move || Setup {
            seed,
            ..federation.peer(key(index))
        };
        Participant::new(setup, learner)
    });
    let mut simulation = Simulation::new(
        participants.collect(),
        Meeting::Everyone,
        Links::clear(),
        0,
        Outgoing::default(),
    );
    assert_eq!(simulation.run(Duration::from_secs(3600)), Ended::Stopped);
    simulation.observer
}

/// The last line of what a guarantee promises: of two data sets that differ by one row, with the
/// same key for the noise, every outgoing byte that is not a model is equal.
#[test]
fn what_leaves_a_peer_besides_its_models_does_not_depend_on_a_row() {
    let loaded = (DATASETS.get("digits").expect("they fit").new.load)(&DatasetOptions::default())
        .expect("they fit");
    let text = DATASETS.get("digits").expect("they fit").new.defaults;
    let schema = section(text, "data", Schema::read);
    let all = loaded.dataset(&schema).expect("they fit");
    let rows = |count: usize| all.select(&(0..count).collect::<Vec<_>>());
    let (with, without) = (outgoing(true, rows(101)), outgoing(true, rows(100)));
    assert_eq!(differences(&with, &without), Vec::<String>::new());
    assert!(
        with.models != without.models,
        "the row matters to the models"
    );
    assert!(with.packets.len() > 6, "{}", with.packets.len());
    // Without a guarantee the number of rows and the loss are told.
    let (with, without) = (outgoing(false, rows(101)), outgoing(false, rows(100)));
    assert_ne!(differences(&with, &without), Vec::<String>::new());
}
