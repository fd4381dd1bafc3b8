//! Private training beside the obvious loops over rows, units and values.

use std::ops::Range;

use kith_consensus::privacy::update::release_update;
use kith_consensus::section::Document;
use kith_consensus::{Seed, Stream};

use super::*;
use crate::data::Dataset;
use crate::model::ModelSection;
use crate::schema::Schema;
use crate::task::Task;
use crate::training::TrainingSection;

const MODELS: [&str; 6] = [
    "kind = \"softmax\"",
    "kind = \"mlp\"\nhidden = [20, 13]",
    "kind = \"mlp\"\nhidden = []",
    "kind = \"cnn\"\nkernel = 3\nchannels = [3, 9]\nhidden = [13]\n",
    "kind = \"cnn\"\nkernel = 5\nchannels = [9]\nhidden = []\n",
    "kind = \"cnn\"\nkernel = 1\nchannels = [5, 5]\nhidden = [7]\n",
];

fn task(model: &str, training: &str) -> Task {
    let text = format!(
        "[data]\nshape = [1, 8, 8]\nclasses = 5\nmean = [100]\ndeviation = [80]\n[model]\n{model}\n[training]\n{training}\n"
    );
    let mut document = Document::parse(&text).unwrap();
    let schema = document.section("data", Schema::read);
    let model = document.section("model", ModelSection::read);
    let training = document.section("training", TrainingSection::read);
    document.finish().unwrap();
    Task::new(schema, model, training).unwrap()
}

/// A step is the gradient itself.
const BARE: &str = "learning_rate = 1.0\nmomentum = 0.0";

fn stream() -> Stream {
    Seed::from_number(5).stream("test private")
}

fn numbers(task: &Task, rows: usize) -> Dataset {
    let mut stream = stream();
    let values = (0..rows * 64).map(|_| stream.normal() as f32).collect();
    let labels = (0..rows).map(|_| stream.bounded(5) as u32).collect();
    Dataset::from_numbers(values, labels, task.schema().features())
}

fn trainer(task: &Task, data: &Dataset) -> Trainer {
    task.trainer(data.clone(), Seed::from_number(0)).unwrap()
}

fn parameters(task: &Task) -> Vec<f32> {
    let initial = task.initial_parameters();
    initial.iter().map(|value| value + 0.01).collect()
}

/// The gradient of one row's loss, by the plain way.
fn gradient(task: &Task, data: &Dataset, parameters: &[f32], row: usize) -> Vec<f64> {
    let (mut parameters, mut found) = (parameters.to_vec(), vec![0.0; parameters.len()]);
    let mut keep = |range: Range<usize>, _: &mut [f32], part: &mut [f32]| {
        for (found, value) in found[range].iter_mut().zip(part) {
            *found = f64::from(*value);
        }
    };
    task.descend(
        &mut parameters,
        data,
        &[row],
        &mut Workspace::default(),
        &mut keep,
    )
    .unwrap();
    found
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Σ min(1, C / ‖g‖) g over units, by a loop; a unit's norm is the sum of its rows'.
fn clipped(
    task: &Task,
    data: &Dataset,
    parameters: &[f32],
    units: &[Vec<usize>],
    clip: f64,
) -> Vec<f64> {
    let mut sums = vec![0.0; parameters.len()];
    for unit in units {
        let gradients: Vec<Vec<f64>> = unit
            .iter()
            .map(|row| gradient(task, data, parameters, *row))
            .collect();
        let length: f64 = gradients.iter().map(|gradient| norm(gradient)).sum();
        let factor = (clip / length).min(1.0);
        for (sum, value) in gradients.iter().flat_map(|gradient| (0..).zip(gradient)) {
            sums[sum as usize] += factor * value;
        }
    }
    sums
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    let difference: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    let (apart, length) = (norm(&difference), norm(expected));
    assert!(length > 0.0, "{what}: the comparison is empty");
    assert!(apart <= 1e-5 * length, "{what}: {apart} of {length}");
}

fn lots<'a>(trainer: &'a Trainer, clip: f64) -> Lots<'a> {
    let network = trainer.task.network().unwrap();
    Lots::new(trainer, network, clip, trainer.task.layout().dimension)
}

#[test]
fn clipped_sums_are_those_of_a_loop_over_rows() {
    for model in MODELS {
        let task = task(model, BARE);
        let (data, parameters) = (numbers(&task, 150), parameters(&task));
        let (trainer, units) = (trainer(&task, &data), Units::rows(150));
        // Norms are about 5: the first keeps every gradient, the last clips every one.
        for clip in [1e9, 5.0, 0.01] {
            let mut lots = lots(&trainer, clip);
            for lot in [vec![3], (0..17).collect::<Vec<usize>>(), (5..150).collect()] {
                let alone: Vec<Vec<usize>> = lot.iter().map(|row| vec![*row]).collect();
                let expected = clipped(&task, &data, &parameters, &alone, clip);
                let found = lots.sums(&parameters, &units, &lot);
                assert_close(found, &expected, &format!("{model}, {clip}, {lot:?}"));
                assert!(
                    lot.len() > 1 || norm(found) <= clip * (1.0 + 2e-5),
                    "{model}, {clip}"
                );
            }
            assert_eq!(
                lots.sums(&parameters, &units, &[]),
                vec![0.0; parameters.len()]
            );
        }
    }
}

#[test]
fn a_row_has_one_norm_to_the_bit_wherever_it_stands() {
    for model in MODELS {
        let task = task(model, BARE);
        let (data, parameters) = (numbers(&task, 40), parameters(&task));
        let (trainer, units) = (trainer(&task, &data), Units::rows(40));
        let mut lots = lots(&trainer, 1.0);
        let most = lots.network.rows_clipped().min(29);
        lots.sums(&parameters, &units, &[7]);
        let alone = lots.clipping.norms()[0];
        for place in [1, 5, most - 1] {
            // Seven others before it, or some, and others behind.
            let lot: Vec<usize> = (8..8 + place)
                .chain([7])
                .chain(37..37 + most - 1 - place)
                .collect();
            let lot: Vec<usize> = lot.into_iter().map(|row| row % 40).take(most).collect();
            lots.sums(&parameters, &units, &lot);
            let found = lots.clipping.norms()[place];
            assert_eq!(found.to_bits(), alone.to_bits(), "{model}, place {place}");
        }
        let expected = norm(&gradient(&task, &data, &parameters, 7));
        assert!(
            (alone / expected - 1.0).abs() < 1e-5,
            "{model}: {alone} {expected}"
        );
    }
}

#[test]
fn a_row_whose_gradient_is_not_finite_counts_as_none() {
    for model in MODELS {
        let task = task(model, BARE);
        let parameters = parameters(&task);
        let good = numbers(&task, 20);
        for broken in [f32::NAN, f32::INFINITY, 3e38, 1e20] {
            let data = good.changed(|row, values| {
                if row == 4 {
                    values.fill(broken);
                }
            });
            let trainer = trainer(&task, &data);
            let (units, lot) = (Units::rows(20), (0..20).collect::<Vec<usize>>());
            let mut lots = lots(&trainer, 1.0);
            let found = lots.sums(&parameters, &units, &lot);
            let others: Vec<Vec<usize>> = (0..20)
                .filter(|row| *row != 4)
                .map(|row| vec![row])
                .collect();
            let expected = clipped(&task, &good, &parameters, &others, 1.0);
            if broken.is_finite() {
                // A gradient may be finite even here; then it is clipped like any other.
                let apart: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
                assert!(
                    norm(&apart) <= 1.0 + 1e-4,
                    "{model}, {broken}: {}",
                    norm(&apart)
                );
            } else {
                assert_close(found, &expected, &format!("{model}, {broken}"));
            }
        }
        let trainer = trainer(&task, &good);
        let broken = vec![f32::NAN; parameters.len()];
        let mut lots = lots(&trainer, 1.0);
        let found = lots.sums(&broken, &Units::rows(20), &[0, 1]);
        assert_eq!(found, vec![0.0; parameters.len()], "{model}");
    }
}

#[test]
fn a_group_counts_as_one_and_only_its_first_rows_are_used() {
    let task = task(MODELS[3], BARE);
    let (data, parameters) = (numbers(&task, 30), parameters(&task));
    let trainer = trainer(&task, &data);
    // Rows 0, 10 and 20 are one group, and so on.
    let groups: Vec<u64> = (0..30).map(|row| row % 10).collect();
    let units = Units::groups(&groups, 2).unwrap();
    assert_eq!((units.len(), units.is_empty()), (10, false));
    let members: Vec<Vec<usize>> = (0..10).map(|group| vec![group, group + 10]).collect();
    let mut lots = lots(&trainer, 0.5);
    let lot: Vec<usize> = (0..10).collect();
    let found = lots.sums(&parameters, &units, &lot).to_vec();
    assert_close(
        &found,
        &clipped(&task, &data, &parameters, &members, 0.5),
        "groups",
    );
    for group in 0..10 {
        let found = norm(lots.sums(&parameters, &units, &[group]));
        assert!(found <= 0.5 * (1.0 + 2e-5), "{found}");
    }
    for found in [0, GROUP_MAX + 1] {
        let refused = Units::groups(&groups, found);
        assert!(
            matches!(refused, Err(PrivateError::GroupCap { .. })),
            "{refused:?}"
        );
    }
}

fn private(sigma: f64, clip: f64, rate: f64, lot: usize, steps: u64) -> PrivateTraining {
    let scale = NoiseScale::new(sigma, clip).unwrap();
    PrivateTraining::new(scale, PoissonSampling::new(rate).unwrap(), lot, steps).unwrap()
}

fn key(number: u8) -> ReleaseKey {
    ReleaseKey::new([number; 32])
}

/// Every step: a Poisson lot, clipped sums, noise of a stream of its own, the constant divisor.
#[test]
fn private_training_is_what_its_definition_says() {
    let task = task(MODELS[1], BARE);
    let (data, start) = (numbers(&task, 60), parameters(&task));
    let trainer = trainer(&task, &data);
    let (private, units) = (private(0.3, 0.7, 0.2, 50, 4), Units::rows(60));
    let request = Request::new(&start, 3);
    let found = trainer
        .train_privately(&request, &private, &units, key(1))
        .unwrap();
    let mut expected = start.clone();
    let sampling = PoissonSampling::new(0.2).unwrap();
    for step in 0..4 {
        let mut lot = Vec::new();
        sampling.draw(&key(1), step, 60, &mut lot);
        let alone: Vec<Vec<usize>> = lot.iter().map(|row| vec![*row]).collect();
        let sums = clipped(&task, &data, &expected, &alone, 0.7);
        let mut noised = vec![0.0; sums.len()];
        // In blocks, each of which has its own part of the stream.
        let mut noise = Noise::new(&key(1), step, private.scale);
        for (sums, noised) in sums.chunks(BLOCK).zip(noised.chunks_mut(BLOCK)) {
            noise.release(sums, noised);
        }
        for (parameter, noised) in expected.iter_mut().zip(&noised) {
            *parameter -= noised / 50.0;
        }
    }
    let apart = |(found, expected): (&f32, &f32)| f64::from(found - expected).abs();
    let largest = found
        .parameters
        .iter()
        .zip(&expected)
        .map(apart)
        .fold(0.0, f64::max);
    // Sums that round to another cell of the grid, and clipping by 10⁻⁴ less.
    assert!(
        largest < 3.0 * private.scale.grid() / 50.0 + 1e-4 / 50.0,
        "{largest}"
    );
    assert_eq!(
        (found.local_steps, found.rate, &found.memory),
        (4, 1.0, &None)
    );
    let other = trainer
        .train_privately(&request, &private, &units, key(2))
        .unwrap();
    assert_ne!(found, other);
}

#[test]
fn an_empty_lot_still_takes_its_step_of_noise_in_every_value() {
    let task = task(MODELS[3], BARE);
    let (data, start) = (numbers(&task, 3), parameters(&task));
    let trainer = trainer(&task, &data);
    let private = private(2.0, 0.5, 1e-9, 4, 1);
    let trained = trainer
        .train_privately(&Request::new(&start, 0), &private, &Units::rows(3), key(1))
        .unwrap();
    let moved: Vec<f64> = trained
        .parameters
        .iter()
        .zip(&start)
        .map(|(after, before)| f64::from(after - before))
        .collect();
    let deviation = norm(&moved) / (moved.len() as f64).sqrt();
    let expected = 2.0 * 0.5 / 4.0;
    assert!(
        (deviation / expected - 1.0).abs() < 5.0 / (moved.len() as f64).sqrt(),
        "{deviation}"
    );
    // Each tensor by itself: none is left without noise.
    for tensor in &task.layout().tensors {
        let part = &moved[tensor.range()];
        let deviation = norm(part) / (part.len() as f64).sqrt();
        assert!(deviation > expected / 4.0, "{}: {deviation}", tensor.name);
    }
}

/// A divisor that is the number of rows, or of rows in the lot, would tell of them without noise. Rows
/// that are not finite count as none, so that lots of any size have the same sums: none at all.
#[test]
fn the_divisor_depends_neither_on_the_rows_nor_on_those_in_the_lot() {
    let task = task(MODELS[1], BARE);
    let start = parameters(&task);
    let private = private(2.0, 0.5, 0.5, 150, 2);
    let moved = [3, 30, 300].map(|rows| {
        let broken = numbers(&task, rows).changed(|_, values| values.fill(f32::NAN));
        let trainer = trainer(&task, &broken);
        let request = Request::new(&start, 0);
        let trained = trainer.train_privately(&request, &private, &Units::rows(rows), key(1));
        trained.unwrap().parameters
    });
    assert_eq!(moved[0], moved[1]);
    assert_eq!(moved[0], moved[2]);
}

/// The same key and one row more: what is not a parameter is the same, and the parameters differ by
/// one clipped gradient and the grid's rounding.
#[test]
fn neighbouring_data_differ_by_one_clipped_gradient_and_in_nothing_else() {
    for model in MODELS {
        let task = task(model, BARE);
        let (all, start) = (numbers(&task, 60), parameters(&task));
        let less = all.select(&(0..59).collect::<Vec<usize>>());
        let private = private(0.2, 0.4, 1.0, 60, 1);
        let train = |data: &Dataset| {
            let units = Units::rows(data.len());
            let trainer = trainer(&task, data);
            trainer
                .train_privately(&Request::new(&start, 0), &private, &units, key(1))
                .unwrap()
        };
        let (with, without) = (train(&all), train(&less));
        assert_eq!(
            (with.local_steps, with.rate),
            (without.local_steps, without.rate)
        );
        assert_eq!(with.memory, without.memory);
        let apart: Vec<f64> = with
            .parameters
            .iter()
            .zip(&without.parameters)
            .map(|(a, b)| f64::from(*a) - f64::from(*b))
            .collect();
        let rounding = private.scale.grid() / 60.0 * (apart.len() as f64).sqrt();
        let found = norm(&apart);
        assert!(
            found > 0.3 / 60.0 && found < 0.4 / 60.0 + rounding,
            "{model}: {found}"
        );
    }
}

/// A divergence does not show: broken parameters give a step of noise, not an error.
#[test]
fn broken_parameters_are_trained_like_any_others() {
    let task = task(MODELS[0], BARE);
    let data = numbers(&task, 10);
    let start = vec![f32::MAX; task.layout().dimension];
    let trained = trainer(&task, &data).train_privately(
        &Request::new(&start, 0),
        &private(1.0, 1.0, 0.5, 5, 2),
        &Units::rows(10),
        key(1),
    );
    assert_eq!(trained.unwrap().local_steps, 2);
}

#[test]
fn momentum_follows_released_values_and_continues() {
    let task = task(
        MODELS[0],
        "learning_rate = 0.5\nmomentum = 0.9\nmomentum_scope = \"run\"",
    );
    let (data, start) = (numbers(&task, 10), parameters(&task));
    let trainer = trainer(&task, &data);
    let (private, units) = (private(1.0, 1.0, 1e-9, 5, 1), Units::rows(10));
    let first = trainer
        .train_privately(&Request::new(&start, 0), &private, &units, key(1))
        .unwrap();
    let memory = first.memory.unwrap();
    let request = Request {
        memory: Some(&memory),
        ..Request::new(&first.parameters, 1)
    };
    let second = trainer
        .train_privately(&request, &private, &units, key(2))
        .unwrap();
    let still = trainer
        .train_privately(
            &Request::new(&first.parameters, 1),
            &private,
            &units,
            key(2),
        )
        .unwrap();
    for (index, memory) in memory.iter().enumerate() {
        let carried = still.parameters[index] - second.parameters[index];
        assert!(
            (carried - 0.5 * 0.9 * memory).abs() < 1e-5,
            "{index}: {carried} {memory}"
        );
    }
}

#[test]
fn what_cannot_be_private_is_refused_by_name() {
    let task = task(MODELS[0], BARE);
    let (data, start) = (numbers(&task, 10), parameters(&task));
    let trainer = trainer(&task, &data);
    let refused = |private: PrivateTraining, units: &Units, trainer: &Trainer, start: &[f32]| {
        trainer
            .train_privately(&Request::new(start, 0), &private, units, key(1))
            .unwrap_err()
            .to_string()
    };
    let usual = private(1.0, 1.0, 0.5, 5, 1);
    let said = refused(
        private(1.0, 1.0, 0.6, 5, 1),
        &Units::rows(10),
        &trainer,
        &start,
    );
    assert!(
        said.contains("lots of 6.0, more than the lot size 5"),
        "{said}"
    );
    let said = refused(usual, &Units::rows(9), &trainer, &start);
    assert!(said.contains("9 rows, and the trainer has 10"), "{said}");
    let said = refused(usual, &Units::rows(10), &trainer, &start[1..]);
    assert!(said.contains("parameters"), "{said}");
    let clipping = self::task(MODELS[0], "clip_norm = 2.0");
    let said = refused(
        usual,
        &Units::rows(10),
        &self::trainer(&clipping, &data),
        &start,
    );
    assert!(said.contains("training.clip_norm is 2"), "{said}");
    let (scale, sampling) = (usual.scale, PoissonSampling::new(0.01).unwrap());
    for lot in [0, LOT_MAX + 1] {
        let refused = PrivateTraining::new(scale, sampling, lot, 1);
        assert!(
            matches!(refused, Err(PrivateError::LotSize { .. })),
            "{refused:?}"
        );
    }
    assert!(PrivateTraining::new(scale, sampling, 5, 0).is_err());
    let refused = usual.for_units(2 * AUDITED_LOT_MAX + 2);
    assert!(
        matches!(refused, Err(PrivateError::AuditedLot { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_peer_takes_part_with_lots_from_one_row_up_to_the_lot_size() {
    let private = private(1.0, 1.0, 0.01, 5, 1);
    assert!(
        [100, 500]
            .iter()
            .all(|units| private.check_units(*units).is_ok())
    );
    let few = private.check_units(99).unwrap_err().to_string();
    assert!(
        few.contains("99 units") && few.contains("at least one"),
        "{few}"
    );
    let many = private.check_units(501).unwrap_err().to_string();
    assert!(
        many.contains("501 units") && many.contains("lot size 5"),
        "{many}"
    );
}

/// The cut-off lots and the rounding stay small.
#[test]
fn the_slack_is_small_and_the_clip_norm_hardly_lower() {
    for lot in [1, 32, 256, LOT_MAX] {
        let private = private(1.0, 1.0, 0.01, lot, 1000);
        let Slack { epsilon, delta } = private.slack(110_000);
        assert!(epsilon < 3e-6 && delta < 1e-10, "{lot}: {epsilon} {delta}");
        assert!(
            (0.99..1.0).contains(&clip(private.scale, lot)),
            "{lot}: {}",
            clip(private.scale, lot)
        );
        assert_eq!(private.phase().unwrap().steps(), 1000);
    }
    let audited = private(1.0, 1.0, 1.0, LOT_MAX, 1).for_units(AUDITED_LOT_MAX);
    let audited = audited.unwrap();
    assert!((0.87..0.88).contains(&clip(audited.scale, AUDITED_LOT_MAX)));
    assert!(audited.slack(110_000).delta < 1e-10);
}

#[test]
fn keys_of_the_operating_system_differ() {
    let task = task(MODELS[0], BARE);
    let (data, start) = (numbers(&task, 3), parameters(&task));
    let trainer = trainer(&task, &data);
    let private = private(1.0, 1.0, 0.5, 5, 1);
    let train = || {
        let key = fresh_release_key().unwrap();
        trainer
            .train_privately(&Request::new(&start, 0), &private, &Units::rows(3), key)
            .unwrap()
    };
    assert_ne!(train(), train());
}

/// What the same steps change without a guarantee, clipped and noised as one vector.
#[test]
fn an_update_is_released_as_one_vector_with_nothing_beside_it() {
    let task = task(
        MODELS[1],
        "learning_rate = 0.3\nmomentum = 0.9\nlocal_steps = 6\nlocal_epochs = 0",
    );
    let (data, start) = (numbers(&task, 40), parameters(&task));
    let (trainer, units) = (trainer(&task, &data), Units::rows(40));
    let scale = NoiseScale::new(0.5, 0.2).unwrap();
    let private = PrivateTraining::of_updates(scale, 6).unwrap();
    let request = Request::new(&start, 3);
    let released = |trainer: &Trainer| {
        trainer
            .train_privately(&request, &private, &units, key(1))
            .unwrap()
    };
    let found = released(&trainer);
    let bare = trainer.train(&request).unwrap().parameters;
    let expected = release_update(&start, &bare, scale, key(1));
    assert_eq!(found.parameters, expected);
    let found = found.trained(&private);
    assert_eq!(
        (found.samples, found.local_steps, found.memory),
        (1, 6, None)
    );
    assert!(found.loss.is_nan());
    // Rows on which training fails are released like those that change nothing.
    let broken = data.changed(|_, values| values.fill(f32::INFINITY));
    let found = released(&task.trainer(broken, Seed::from_number(0)).unwrap());
    assert_eq!(
        found.parameters,
        release_update(&start, &start, scale, key(1))
    );
}
