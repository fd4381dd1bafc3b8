//! Attacks on what is released, each with and without the guarantee, over several seeds: without it
//! they have to succeed.
#![allow(clippy::unwrap_used)]

mod common;

use kith_consensus::Seed;
use kith_consensus::privacy::noise::NoiseScale;
use kith_consensus::privacy::sampling::PoissonSampling;
use kith_consensus::privacy::{Delta, Phase, pld};
use kith_consensus::section::Document;
use kith_models::audit::Subject;
use kith_models::audit::inversion::inversion;
use kith_models::audit::membership::membership;
use kith_models::audit::one_run::one_run;
use kith_models::{Dataset, ModelSection, PrivateTraining, Schema, Task, TrainingSection};

/// A task on the digits, with other training.
fn digits(model: &str, training: &str) -> (Task, Dataset) {
    let (_, usual, train, _) = common::loaded("digits");
    let text = format!("[model]\n{model}\n[training]\n{training}\n");
    let mut document = Document::parse(&text).unwrap();
    let model = document.section("model", ModelSection::read);
    let training = document.section("training", TrainingSection::read);
    document.finish().unwrap();
    let task = Task::new(usual.schema().clone(), model, training).unwrap();
    (task, train)
}

fn noise(sigma: f64, rate: f64, lot: usize, steps: u64) -> PrivateTraining {
    let scale = NoiseScale::new(sigma, 1.0).unwrap();
    PrivateTraining::new(scale, PoissonSampling::new(rate).unwrap(), lot, steps).unwrap()
}

const MLP: &str = "kind = \"mlp\"\nhidden = [32]";

#[test]
fn a_row_is_read_out_of_its_update_unless_that_is_noised() {
    let training =
        "learning_rate = 0.1\nmomentum = 0.0\nlocal_epochs = 0\nlocal_steps = 1\nbatch_size = 1";
    let (task, rows) = digits(MLP, training);
    for seed in 0..5 {
        let rows = rows.select(&(50 * seed..50 * seed + 50).collect::<Vec<usize>>());
        let private = noise(1.0, 0.01, 8, 1).for_one_unit().unwrap();
        let attack = |private: Option<&PrivateTraining>| {
            let (task, rounds) = (&task, 1);
            let subject = Subject {
                task,
                private,
                rounds,
            };
            inversion(subject, &rows, &Seed::from_number(seed as u64))
                .unwrap()
                .unwrap()
        };
        let (bare, noised) = (attack(None), attack(Some(&private)));
        println!("inversion, seed {seed}: {bare:?}; with noise {noised:?}");
        assert_eq!((bare.recovered, noised.recovered), (50, 0));
        // Vectors of 64 values that have nothing to do with each other: 0.100 on average.
        assert!(bare.correlation > 0.999 && noised.correlation < 0.2);
    }
}

#[test]
fn members_are_told_from_others_unless_training_is_noised() {
    let training =
        "learning_rate = 0.2\nmomentum = 0.9\nlocal_epochs = 0\nlocal_steps = 20\nbatch_size = 32";
    let (task, rows) = digits(MLP, training);
    let pool = rows.select(&(0..400).collect::<Vec<usize>>());
    // About 200 of the 400 rows, 100 steps.
    let private = noise(1.5, 0.12, 32, 20);
    let all = Phase::new(private.phase().unwrap().mechanism(), 100).unwrap();
    let epsilon = pld::epsilon(&[all], Delta::new(1e-3).unwrap()).unwrap();
    println!("membership: epsilon {epsilon:.2} at delta 1e-3");
    for seed in 0..5 {
        let attack = |private: Option<&PrivateTraining>| {
            let (task, rounds) = (&task, 5);
            let subject = Subject {
                task,
                private,
                rounds,
            };
            membership(subject, &pool, 64, &Seed::from_number(seed)).unwrap()
        };
        let (bare, noised) = (attack(None), attack(Some(&private)));
        println!("membership, seed {seed}: {bare:?}; with noise {noised:?}");
        assert!(bare.auc > 0.6 && bare.at[0].between.0 > 0.02, "{bare:?}");
        assert!(
            noised.auc < 0.58 && noised.at[0].true_positive < 0.03,
            "{noised:?}"
        );
        assert!(noised.auc < bare.auc && noised.at[0].true_positive < bare.at[0].true_positive);
    }
}

/// Canaries with the same feature, each with a label of its own.
const LABELS: usize = 3;

/// Rows with a single feature each, so that their gradients hardly touch each other: the canaries
/// that show most. Larger features would make the first predictions sure, and gradients alike.
fn canaries(features: usize) -> (Task, Dataset) {
    let text = format!(
        "[data]\nshape = [{features}]\nclasses = 10\n[model]\nkind = \"softmax\"\n[training]\nlearning_rate = 1.0\nmomentum = 0.0\n\
         local_epochs = 0\nlocal_steps = 1\nbatch_size = 4096\n"
    );
    let mut document = Document::parse(&text).unwrap();
    let schema = document.section("data", Schema::read);
    let model = document.section("model", ModelSection::read);
    let training = document.section("training", TrainingSection::read);
    document.finish().unwrap();
    let task = Task::new(schema, model, training).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canaries.csv");
    let mut text: String = (0..features)
        .map(|feature| format!("f{feature},"))
        .collect();
    text.push_str("label\n");
    for row in 0..LABELS * features {
        let mut cells = vec!["0"; features];
        cells[row % features] = "20";
        text.push_str(&format!("{},{}\n", cells.join(","), 3 * (row / features)));
    }
    std::fs::write(&path, text).unwrap();
    let rows = kith_models::open(&path, task.schema()).unwrap();
    (task, rows)
}

/// One step with σ = 1 is audited at 10,000 canaries, about half of which take part: more than a charter's
/// largest lot bears. With a quarter of the noise the audit shows more than what the full noise
/// guarantees.
#[test]
fn an_audit_shows_noise_that_is_too_small_and_passes_what_is_right() {
    let (task, rows) = canaries(3334);
    let rows = rows.select(&(0..10_000).collect::<Vec<usize>>());
    let delta = Delta::new(1e-5).unwrap();
    // Six deviations of as many coins above the half.
    let of_half = |sigma| noise(sigma, 1.0, 4096, 1).for_units(5300).unwrap();
    let right = of_half(1.0);
    let claimed = pld::epsilon(&[right.phase().unwrap()], delta).unwrap();
    for seed in 0..5 {
        let audit = |private: &PrivateTraining| {
            let subject = Subject {
                task: &task,
                private: Some(private),
                rounds: 1,
            };
            one_run(subject, &rows, 1000, delta, &Seed::from_number(seed)).unwrap()
        };
        let (right, wrong) = (audit(&right), audit(&of_half(0.25)));
        println!(
            "audit, seed {seed}: claimed {claimed:.2}, {right:?}; a quarter of the noise {wrong:?}"
        );
        assert!(
            right.epsilon_low < claimed && right.epsilon_low > 0.5,
            "{right:?}"
        );
        assert!(wrong.epsilon_low > claimed, "{wrong:?}");
    }
}
