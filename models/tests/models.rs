//! Every entry of MODELS: gradients, determinism, divergence, files.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use kith_consensus::Seed;
use kith_models::{
    Dataset, MODELS, ModelError, Request, Task, inspect, read_model, read_tensors, write_model,
};

fn text(kind: &str, training: &str) -> String {
    let keys = match kind {
        "mlp" => "hidden = [20, 12]",
        "cnn" => "kernel = 3\nchannels = [4, 6]\nhidden = [24, 16]",
        _ => "",
    };
    format!(
        "[data]\nshape = [1, 8, 8]\nclasses = 4\nmean = [100]\ndeviation = [80]\n[model]\nkind = \"{kind}\"\n{keys}\n[training]\n{training}\n"
    )
}

fn small(kind: &str, training: &str) -> (Task, Dataset) {
    let task = common::task(&text(kind, training));
    let data = common::random_images(8, 8, 70, 4, task.schema());
    (task, data)
}

/// The gradient of the mean loss over all rows: minus the change of one full-batch step of rate 1.
fn gradient(kind: &str, parameters: &[f32]) -> Vec<f32> {
    let (task, data) = small(
        kind,
        "learning_rate = 1.0\nmomentum = 0.0\nbatch_size = 70\nlocal_steps = 1",
    );
    let trained = task
        .trainer(data, Seed::from_number(1))
        .unwrap()
        .train(&Request::new(parameters, 0))
        .unwrap();
    parameters
        .iter()
        .zip(&trained.parameters)
        .map(|(before, after)| before - after)
        .collect()
}

#[test]
fn every_parameter_of_every_model_gets_a_gradient() {
    for entry in &MODELS {
        let (task, _) = small(entry.name, "");
        let gradient = gradient(entry.name, &task.initial_parameters());
        for tensor in &task.layout().tensors {
            let nonzero = gradient[tensor.range()]
                .iter()
                .filter(|value| **value != 0.0)
                .count();
            // A ReLU that is off for every row rightly gives none, so a share and not all.
            assert!(
                nonzero * 2 > tensor.len(),
                "{}: {} of {} in {}",
                entry.name,
                nonzero,
                tensor.len(),
                tensor.name
            );
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for entry in &MODELS {
        let (task, data) = small(entry.name, "");
        let parameters = task.initial_parameters();
        let exact = gradient(entry.name, &parameters);
        let loss = |index: usize, by: f32| {
            let mut moved = parameters.clone();
            moved[index] += by;
            task.evaluate(&moved, &data).unwrap().loss
        };
        let mut stream = common::stream("test coordinates");
        let mut wrong = Vec::new();
        for _ in 0..60 {
            let index = stream.bounded(parameters.len() as u64) as usize;
            // The loss is a mean over f32 logits: rounding of about 1e-7 over a step of 2e-3 stays
            // below the tolerance.
            let difference = (loss(index, 1e-3) - loss(index, -1e-3)) / 2e-3;
            if (difference - f64::from(exact[index])).abs() > 1e-3 + 0.02 * difference.abs() {
                wrong.push((index, difference, exact[index]));
            }
        }
        // A step that crosses a ReLU's or a maximum's kink is off; a wrong gradient is off nearly
        // everywhere.
        assert!(wrong.len() <= 3, "{}: {wrong:?}", entry.name);
    }
}

#[test]
fn equal_seeds_give_equal_bytes_and_other_rounds_other_ones() {
    for entry in &MODELS {
        let (task, data) = small(entry.name, "local_steps = 5\nbatch_size = 16");
        let start = task.initial_parameters();
        let train = |seed: u64, round: u64| {
            task.trainer(data.clone(), Seed::from_number(seed))
                .unwrap()
                .train(&Request::new(&start, round))
                .unwrap()
                .parameters
        };
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(train(1, 3)), bits(train(1, 3)), "{}", entry.name);
        assert_ne!(train(1, 3), train(1, 4), "{}", entry.name);
        assert_ne!(train(1, 3), train(2, 3), "{}", entry.name);
    }
}

/// Large enough to be shared by threads, and of sizes that leave each another part.
#[test]
fn the_number_of_threads_changes_no_bit() {
    for model in [
        "kind = \"mlp\"\nhidden = [300, 270]",
        "kind = \"cnn\"\nchannels = [13, 21]\nhidden = [100]",
    ] {
        let data = "[data]\nshape = [1, 28, 28]\nclasses = 10\nmean = [100]\ndeviation = [80]\n";
        let task = common::task(&format!(
            "{data}[model]\n{model}\n[training]\nbatch_size = 48\nlocal_steps = 2\n"
        ));
        let data = common::random_images(28, 28, 96, 10, task.schema());
        let start = task.initial_parameters();
        let train = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let trainer = task.trainer(data.clone(), Seed::from_number(1)).unwrap();
            let trained = pool
                .install(|| trainer.train(&Request::new(&start, 0)))
                .unwrap();
            trained
                .parameters
                .into_iter()
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        };
        let one = train(1);
        assert!(
            [2, 3, 7].iter().all(|threads| train(*threads) == one),
            "{model}"
        );
    }
}

#[test]
fn initial_parameters_never_change() {
    // Peers of two versions of Kith must start from the same parameters: changing these breaks
    // running federations.
    let digests: Vec<String> = MODELS
        .iter()
        .map(|entry| {
            let (task, _) = small(entry.name, "");
            let start = kith_consensus::Digest::of_values(&task.initial_parameters());
            format!(
                "{} {} {}",
                entry.name,
                task.layout().digest().short(),
                start.short()
            )
        })
        .collect();
    assert_eq!(
        digests,
        [
            "softmax c128d57e 4d6ba290",
            "mlp f336eae6 9555b6a0",
            "cnn f56cb51a 2ee4211d"
        ]
    );
}

#[test]
fn the_proximal_term_holds_parameters_near_the_start() {
    let distance = |training: &str| {
        let (task, data) = small("mlp", training);
        let start = task.initial_parameters();
        let end = task
            .trainer(data, Seed::from_number(1))
            .unwrap()
            .train(&Request::new(&start, 0))
            .unwrap()
            .parameters;
        start
            .iter()
            .zip(&end)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let plain = distance("local_epochs = 5");
    assert!(distance("local_epochs = 5\nobjective = \"prox\"\nprox_mu = 1.0") < 0.7 * plain);
    assert_eq!(
        distance("local_epochs = 5\nobjective = \"prox\"\nprox_mu = 0.0"),
        plain
    );
    assert!(distance("local_epochs = 5\nclip_norm = 0.01") < 0.1 * plain);
}

#[test]
fn momentum_and_decay_follow_their_formula() {
    // Full batches of one repeated row keep the gradient a function of the parameters alone; two
    // steps by hand.
    let training = |steps: u32, extra: &str| {
        format!("learning_rate = 0.1\nbatch_size = 70\nlocal_steps = {steps}\n{extra}")
    };
    let train = |training: &str, start: &[f32]| {
        let (task, data) = small("softmax", training);
        task.trainer(data, Seed::from_number(1))
            .unwrap()
            .train(&Request::new(start, 0))
            .unwrap()
            .parameters
    };
    let (task, _) = small("softmax", "");
    let start = task.initial_parameters();
    let (momentum, decay) = (0.9f32, 0.01f32);
    let first: Vec<f32> = gradient("softmax", &start)
        .iter()
        .zip(&start)
        .map(|(g, x)| g + decay * x)
        .collect();
    let middle: Vec<f32> = start.iter().zip(&first).map(|(x, v)| x - 0.1 * v).collect();
    let second = gradient("softmax", &middle);
    let wanted = middle
        .iter()
        .zip(&first)
        .zip(&second)
        .map(|((x, v), g)| x - 0.1 * (momentum * v + g + decay * x));
    let found = train(&training(2, "momentum = 0.9\nweight_decay = 0.01"), &start);
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
    }
}

#[test]
fn dampening_makes_the_velocity_a_running_mean_of_clipped_gradients() {
    let start = small("softmax", "").0.initial_parameters();
    let keys =
        "learning_rate = 0.1\nbatch_size = 70\nmomentum = 0.9\ndampening = 0.9\nclip_norm = 0.05";
    let (task, data) = small("softmax", &format!("{keys}\nlocal_steps = 2"));
    let found = task
        .trainer(data, Seed::from_number(1))
        .unwrap()
        .train(&Request::new(&start, 0))
        .unwrap()
        .parameters;
    let clipped = |at: &[f32]| {
        let gradient = gradient("softmax", at);
        let norm = gradient
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            .sqrt() as f32;
        assert!(norm > 0.05, "nothing is clipped");
        gradient
            .into_iter()
            .map(|value| value * 0.05 / norm)
            .collect::<Vec<f32>>()
    };
    let first: Vec<f32> = clipped(&start)
        .iter()
        .map(|gradient| 0.1 * gradient)
        .collect();
    let middle: Vec<f32> = start.iter().zip(&first).map(|(x, v)| x - 0.1 * v).collect();
    let second = clipped(&middle);
    let wanted = middle
        .iter()
        .zip(&first)
        .zip(&second)
        .map(|((x, v), g)| x - 0.1 * (0.9 * v + 0.1 * g));
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
    }
}

#[test]
fn a_velocity_that_lasts_makes_two_rounds_one() {
    let start = small("softmax", "").0.initial_parameters();
    let train = |keys: &str, start: &[f32], memory: Option<&[f32]>| {
        let (task, data) = small(
            "softmax",
            &format!("batch_size = 70\nmomentum = 0.8\n{keys}"),
        );
        task.trainer(data, Seed::from_number(1))
            .unwrap()
            .train(&Request {
                memory,
                ..Request::new(start, 0)
            })
            .unwrap()
    };
    let whole = train("local_steps = 2", &start, None);
    assert_eq!(whole.memory, None);
    let first = train("local_steps = 1\nmomentum_scope = \"run\"", &start, None);
    let second = train(
        "local_steps = 1\nmomentum_scope = \"run\"",
        &first.parameters,
        first.memory.as_deref(),
    );
    // Full batches in another order: their sums round differently.
    assert!(
        whole
            .parameters
            .iter()
            .zip(&second.parameters)
            .all(|(whole, parts)| (whole - parts).abs() < 1e-6)
    );
    let forgotten = train(
        "local_steps = 1\nmomentum_scope = \"run\"",
        &first.parameters,
        None,
    );
    assert!(
        whole
            .parameters
            .iter()
            .zip(&forgotten.parameters)
            .any(|(whole, parts)| (whole - parts).abs() > 1e-3)
    );
}

#[test]
fn quasi_global_momentum_follows_the_path_of_the_mixed_models() {
    let keys = "batch_size = 70\nlocal_steps = 2\nmomentum = 0.8\nlearning_rate = 0.1\nlearning_rate_decay = 0.5\nmomentum_scope = \"quasi-global\"";
    let (task, data) = small("softmax", keys);
    let trainer = task.trainer(data, Seed::from_number(1)).unwrap();
    let start = task.initial_parameters();
    let first = trainer.train(&Request::new(&start, 0)).unwrap();
    let (mean, before) = first.memory.as_ref().unwrap().split_at(start.len());
    assert!(mean.iter().all(|value| *value == 0.0));
    assert_eq!(before, start);
    // With m̂ = 0 the first round is plain descent of rate 0.1.
    let plain: Vec<f32> = start
        .iter()
        .zip(gradient("softmax", &start))
        .map(|(x, g)| x - 0.1 * g)
        .collect();
    let plain: Vec<f32> = plain
        .iter()
        .zip(gradient("softmax", &plain))
        .map(|(x, g)| x - 0.1 * g)
        .collect();
    assert!(
        first
            .parameters
            .iter()
            .zip(&plain)
            .all(|(found, wanted)| (found - wanted).abs() < 1e-6)
    );

    // Mixing moved the model elsewhere; the path since the first start becomes the direction of the
    // second round.
    let mixed: Vec<f32> = first.parameters.iter().map(|x| x + 0.02).collect();
    let second = trainer
        .train(&Request {
            memory: first.memory.as_deref(),
            ..Request::new(&mixed, 1)
        })
        .unwrap();
    let mean: Vec<f32> = start
        .iter()
        .zip(&mixed)
        .map(|(before, now)| 0.2 * (before - now) / (0.1 * 2.0))
        .collect();
    let step = |x: &[f32]| -> Vec<f32> {
        let gradient = gradient("softmax", x);
        x.iter()
            .zip(&mean)
            .zip(&gradient)
            .map(|((x, mean), g)| x - 0.05 * (0.8 * mean + g))
            .collect()
    };
    let wanted = step(&step(&mixed));
    assert!(
        second
            .parameters
            .iter()
            .zip(&wanted)
            .all(|(found, wanted)| (found - wanted).abs() < 1e-5)
    );
    let memory = second.memory.unwrap();
    assert!(
        memory
            .iter()
            .zip(mean.iter().chain(&mixed))
            .all(|(found, wanted)| (found - wanted).abs() < 1e-5)
    );
}

#[test]
fn a_correction_is_added_to_every_local_gradient_after_clipping() {
    let (task, data) = small(
        "softmax",
        "batch_size = 70\nlocal_steps = 3\nmomentum = 0.0\nlearning_rate = 0.5\nclip_norm = 1e-9",
    );
    let start = task.initial_parameters();
    let correction: Vec<f32> = (0..start.len()).map(|index| index as f32 / 100.0).collect();
    let request = Request {
        correction: Some(&correction),
        ..Request::new(&start, 0)
    };
    let found = task
        .trainer(data, Seed::from_number(1))
        .unwrap()
        .train(&request)
        .unwrap()
        .parameters;
    // The gradient itself is clipped to nothing, so three steps move by three corrections.
    for ((found, start), correction) in found.iter().zip(&start).zip(&correction) {
        assert!((found - (start - 1.5 * correction)).abs() < 1e-5);
    }
}

#[test]
fn memories_and_corrections_of_another_length_are_refused() {
    for (scope, memory) in [("round", 0), ("run", 1), ("quasi-global", 2)] {
        let (task, data) = small("softmax", &format!("momentum_scope = \"{scope}\""));
        let trainer = task.trainer(data, Seed::from_number(1)).unwrap();
        let start = task.initial_parameters();
        let long = vec![0.0; 3 * start.len()];
        let request = Request {
            memory: Some(&long),
            ..Request::new(&start, 0)
        };
        let error = trainer.train(&request).unwrap_err();
        let expected = memory * start.len();
        assert!(
            matches!(error, ModelError::Companion { expected: wanted, .. } if wanted == expected),
            "{scope}: {error}"
        );
        let request = Request {
            correction: Some(&long),
            ..Request::new(&start, 0)
        };
        assert!(
            trainer
                .train(&request)
                .unwrap_err()
                .to_string()
                .contains("correction"),
            "{scope}"
        );
    }
}

#[test]
fn divergence_names_round_and_step() {
    let (task, data) = small("mlp", "learning_rate = 1000.0\nlocal_epochs = 50");
    let error = task
        .trainer(data.clone(), Seed::from_number(1))
        .unwrap()
        .train(&Request::new(&task.initial_parameters(), 8))
        .unwrap_err();
    assert!(
        matches!(error, ModelError::Diverged { round: 8, .. }),
        "{error}"
    );
    let mut start = task.initial_parameters();
    start[3] = f32::NAN;
    let error = task
        .trainer(data, Seed::from_number(1))
        .unwrap()
        .train(&Request::new(&start, 8))
        .unwrap_err();
    assert!(
        matches!(error, ModelError::Diverged { round: 8, step: 0 }),
        "{error}"
    );
}

#[test]
fn parameters_that_are_not_finite_have_no_finite_loss() {
    for kind in ["softmax", "mlp"] {
        let (task, data) = small(kind, "");
        for index in 0..task.layout().tensors.len() {
            let mut parameters = task.initial_parameters();
            parameters[task.layout().tensors[index].offset] = f32::NAN;
            assert!(
                task.evaluate(&parameters, &data).unwrap().loss.is_nan(),
                "{kind}, tensor {index}"
            );
        }
    }
}

#[test]
fn rows_and_parameters_of_another_task_are_refused() {
    let (task, data) = small("softmax", "");
    let other = common::task("[data]\nshape = [3]\nclasses = 2\n[model]\nkind = \"softmax\"\n");
    assert!(matches!(
        other.trainer(data.clone(), Seed::from_number(0)),
        Err(ModelError::Features {
            expected: 3,
            found: 64
        })
    ));
    assert!(matches!(
        task.evaluate(&[0.0], &data),
        Err(ModelError::Dimension { found: 1, .. })
    ));
    assert!(matches!(
        task.trainer(data.select(&[]), Seed::from_number(0)),
        Err(ModelError::NoRows)
    ));
}

#[test]
fn a_cnn_says_what_does_not_fit() {
    let read = |shape: &str, keys: &str| {
        common::read(&format!(
            "[data]\nshape = {shape}\nclasses = 10\n[model]\nkind = \"cnn\"\n{keys}\n"
        ))
        .map(|_| ())
    };
    assert_eq!(read("[1, 28, 28]", ""), Ok(()));
    assert_eq!(read("[3, 32, 32]", ""), Ok(()));
    assert_eq!(read("[1, 8, 8]", "kernel = 3"), Ok(()));
    assert!(
        read("[1, 8, 8]", "").unwrap_err()[0]
            .contains("model.kernel: a kernel of 5 does not fit the 4×4 image at convolution 2")
    );
    assert!(read("[64]", "").unwrap_err()[0].contains("needs images"));
    assert!(read("[1, 28, 28]", "kernel = 4").unwrap_err()[0].contains("odd"));
    let unknown =
        common::read("[data]\nshape = [4]\nclasses = 2\n[model]\nkind = \"mpl\"\nhidden = [3]\n")
            .unwrap_err();
    assert_eq!(
        unknown,
        [
            "line 5, column 8: model.kind: unknown model \"mpl\"; known: softmax, mlp, cnn (did you mean \"mlp\"?)"
        ]
    );
}

#[test]
fn evaluation_counts_classes_and_scores_are_probabilities() {
    let (task, data) = small("mlp", "");
    let parameters = task.initial_parameters();
    let evaluation = task.evaluate(&parameters, &data).unwrap();
    let scores = task.scores(&parameters, &data).unwrap();
    assert!(
        scores
            .iter()
            .all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5)
    );
    let loss = scores
        .iter()
        .zip(data.labels())
        .map(|(row, label)| -f64::from(row[*label as usize]).ln())
        .sum::<f64>()
        / 70.0;
    assert!((loss - evaluation.loss).abs() < 1e-5);
    let correct: u64 = evaluation.classes.iter().map(|class| class.correct).sum();
    assert_eq!(
        evaluation
            .classes
            .iter()
            .map(|class| class.samples)
            .sum::<u64>(),
        70
    );
    assert!((evaluation.accuracy - correct as f64 / 70.0).abs() < 1e-12);
}

#[test]
fn auc_counts_ordered_pairs_and_half_of_the_ties() {
    let score = |values: &[f32]| {
        values
            .iter()
            .map(|value| vec![1.0 - value, *value])
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kith_models::auc(&score(&[0.1, 0.4, 0.35, 0.8]), &[0, 0, 1, 1]),
        Some(0.75)
    );
    assert_eq!(
        kith_models::auc(&score(&[0.5, 0.5, 0.5]), &[0, 1, 1]),
        Some(0.5)
    );
    assert_eq!(kith_models::auc(&score(&[0.5, 0.5]), &[1, 1]), None);
}

#[test]
fn model_files_survive_and_foreign_ones_are_refused() {
    let (task, _) = small("mlp", "");
    let parameters = task.initial_parameters();
    let metadata: BTreeMap<String, String> = [("round", "7"), ("note", "\"quoted\"\n")]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
    let bytes = write_model(task.layout(), &parameters, &metadata);
    assert_eq!(read_model(&bytes, task.layout()).unwrap(), parameters);
    let (layout, values, texts) = read_tensors(&bytes).unwrap();
    assert_eq!(
        (&layout, &values, &texts),
        (task.layout(), &parameters, &metadata)
    );
    assert_eq!(
        inspect(&bytes).unwrap().tensors[0],
        ("fc1.bias".to_owned(), "F32".to_owned(), vec![20])
    );
    assert_eq!(bytes, write_model(task.layout(), &parameters, &metadata));

    let (other, _) = small("softmax", "");
    let error = read_model(&bytes, other.layout()).unwrap_err().to_string();
    assert!(error.contains("\"linear.bias\" is missing"), "{error}");
    for length in [0, 7, 8, 40, bytes.len() - 1] {
        assert!(
            read_model(&bytes[..length], task.layout()).is_err(),
            "{length} bytes were accepted"
        );
    }
    let mut broken = parameters.clone();
    broken[5] = f32::INFINITY;
    let broken = write_model(task.layout(), &broken, &BTreeMap::new());
    assert!(
        read_model(&broken, task.layout())
            .unwrap_err()
            .to_string()
            .contains("parameter 5 is inf")
    );
    assert!(
        read_tensors(&broken).is_ok(),
        "a robust rule removes such a row itself"
    );
}

proptest::proptest! {
    /// A model file comes from somebody else: any change of its bytes is read or refused, and never
    /// a panic.
    #[test]
    fn changed_model_files_are_read_or_refused(at in 0usize..400, byte: u8, length in 0usize..4000) {
        let (task, _) = small("softmax", "");
        let mut bytes = write_model(task.layout(), &task.initial_parameters(), &BTreeMap::new());
        bytes.truncate(length);
        if let Some(target) = bytes.get_mut(at) {
            *target = byte;
        }
        if let Ok(parameters) = read_model(&bytes, task.layout()) {
            proptest::prop_assert_eq!(parameters.len(), task.layout().dimension);
        }
        let _ = inspect(&bytes);
        let _ = read_tensors(&bytes);
    }
}
