//! Every entry of MODELS: gradients, determinism, divergence, files.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use kith_consensus::Seed;
use kith_models::{Dataset, MODELS, ModelError, Task, inspect, read_model, read_tensors, write_model};

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
    let (task, data) = small(kind, "learning_rate = 1.0\nmomentum = 0.0\nbatch_size = 70\nlocal_steps = 1");
    let trained = task.trainer(data, Seed::from_number(1)).unwrap().train(parameters, 0).unwrap();
    parameters.iter().zip(&trained.parameters).map(|(before, after)| before - after).collect()
}

#[test]
fn every_parameter_of_every_model_gets_a_gradient() {
    for entry in MODELS {
        let (task, _) = small(entry.name, "");
        let gradient = gradient(entry.name, &task.initial_parameters());
        for tensor in &task.layout().tensors {
            let nonzero = gradient[tensor.range()].iter().filter(|value| **value != 0.0).count();
            // A ReLU that is off for every row rightly gives none, so a share and not all.
            assert!(nonzero * 2 > tensor.len(), "{}: {} of {} in {}", entry.name, nonzero, tensor.len(), tensor.name);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for entry in MODELS {
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
            // The loss is a mean over f32 logits: rounding of about 1e-7 over a step of 2e-3 stays below the tolerance.
            let difference = (loss(index, 1e-3) - loss(index, -1e-3)) / 2e-3;
            if (difference - f64::from(exact[index])).abs() > 1e-3 + 0.02 * difference.abs() {
                wrong.push((index, difference, exact[index]));
            }
        }
        // A step that crosses a ReLU's or a maximum's kink is off; a wrong gradient is off nearly everywhere.
        assert!(wrong.len() <= 3, "{}: {wrong:?}", entry.name);
    }
}

#[test]
fn equal_seeds_give_equal_bytes_and_other_rounds_other_ones() {
    for entry in MODELS {
        let (task, data) = small(entry.name, "local_steps = 5\nbatch_size = 16");
        let start = task.initial_parameters();
        let train = |seed: u64, round: u64| {
            task.trainer(data.clone(), Seed::from_number(seed)).unwrap().train(&start, round).unwrap().parameters
        };
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(train(1, 3)), bits(train(1, 3)), "{}", entry.name);
        assert_ne!(train(1, 3), train(1, 4), "{}", entry.name);
        assert_ne!(train(1, 3), train(2, 3), "{}", entry.name);
    }
}

#[test]
fn initial_parameters_never_change() {
    // Peers of two versions of Kith must start from the same parameters: changing these breaks running federations.
    let digests: Vec<String> = MODELS
        .iter()
        .map(|entry| {
            let (task, _) = small(entry.name, "");
            let start = kith_consensus::Digest::of_values(&task.initial_parameters());
            format!("{} {} {}", entry.name, task.layout().digest().short(), start.short())
        })
        .collect();
    assert_eq!(digests, ["softmax c128d57e 4d6ba290", "mlp f336eae6 9555b6a0", "cnn f56cb51a 2ee4211d"]);
}

#[test]
fn the_proximal_term_holds_parameters_near_the_start() {
    let distance = |training: &str| {
        let (task, data) = small("mlp", training);
        let start = task.initial_parameters();
        let end = task.trainer(data, Seed::from_number(1)).unwrap().train(&start, 0).unwrap().parameters;
        start.iter().zip(&end).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let plain = distance("local_epochs = 5");
    assert!(distance("local_epochs = 5\nobjective = \"prox\"\nprox_mu = 1.0") < 0.7 * plain);
    assert_eq!(distance("local_epochs = 5\nobjective = \"prox\"\nprox_mu = 0.0"), plain);
    assert!(distance("local_epochs = 5\nclip_norm = 0.01") < 0.1 * plain);
}

#[test]
fn momentum_and_decay_follow_their_formula() {
    // Full batches of one repeated row keep the gradient a function of the parameters alone; two steps by hand.
    let training = |steps: u32, extra: &str| format!("learning_rate = 0.1\nbatch_size = 70\nlocal_steps = {steps}\n{extra}");
    let train = |training: &str, start: &[f32]| {
        let (task, data) = small("softmax", training);
        task.trainer(data, Seed::from_number(1)).unwrap().train(start, 0).unwrap().parameters
    };
    let (task, _) = small("softmax", "");
    let start = task.initial_parameters();
    let (momentum, decay) = (0.9f32, 0.01f32);
    let first: Vec<f32> = gradient("softmax", &start).iter().zip(&start).map(|(g, x)| g + decay * x).collect();
    let middle: Vec<f32> = start.iter().zip(&first).map(|(x, v)| x - 0.1 * v).collect();
    let second = gradient("softmax", &middle);
    let wanted = middle.iter().zip(&first).zip(&second).map(|((x, v), g)| x - 0.1 * (momentum * v + g + decay * x));
    let found = train(&training(2, "momentum = 0.9\nweight_decay = 0.01"), &start);
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
    }
}

#[test]
fn divergence_names_round_and_step() {
    let (task, data) = small("mlp", "learning_rate = 1000.0\nlocal_epochs = 50");
    let error = task.trainer(data.clone(), Seed::from_number(1)).unwrap().train(&task.initial_parameters(), 8).unwrap_err();
    assert!(matches!(error, ModelError::Diverged { round: 8, .. }), "{error}");
    let mut start = task.initial_parameters();
    start[3] = f32::NAN;
    let error = task.trainer(data, Seed::from_number(1)).unwrap().train(&start, 8).unwrap_err();
    assert!(matches!(error, ModelError::Diverged { round: 8, step: 0 }), "{error}");
}

#[test]
fn rows_and_parameters_of_another_task_are_refused() {
    let (task, data) = small("softmax", "");
    let other = common::task("[data]\nshape = [3]\nclasses = 2\n[model]\nkind = \"softmax\"\n");
    assert!(matches!(other.trainer(data.clone(), Seed::from_number(0)), Err(ModelError::Features { expected: 3, found: 64 })));
    assert!(matches!(task.evaluate(&[0.0], &data), Err(ModelError::Dimension { found: 1, .. })));
    assert!(matches!(task.trainer(data.select(&[]), Seed::from_number(0)), Err(ModelError::NoRows)));
}

#[test]
fn a_cnn_says_what_does_not_fit() {
    let read = |shape: &str, keys: &str| {
        common::read(&format!("[data]\nshape = {shape}\nclasses = 10\n[model]\nkind = \"cnn\"\n{keys}\n")).map(|_| ())
    };
    assert_eq!(read("[1, 28, 28]", ""), Ok(()));
    assert_eq!(read("[3, 32, 32]", ""), Ok(()));
    assert_eq!(read("[1, 8, 8]", "kernel = 3"), Ok(()));
    assert!(
        read("[1, 8, 8]", "").unwrap_err()[0].contains("model.kernel: a kernel of 5 does not fit the 4×4 image at convolution 2")
    );
    assert!(read("[64]", "").unwrap_err()[0].contains("needs images"));
    assert!(read("[1, 28, 28]", "kernel = 4").unwrap_err()[0].contains("odd"));
    let unknown = common::read("[data]\nshape = [4]\nclasses = 2\n[model]\nkind = \"mpl\"\nhidden = [3]\n").unwrap_err();
    assert_eq!(
        unknown,
        ["line 5, column 8: model.kind: unknown model \"mpl\"; known: softmax, mlp, cnn (did you mean \"mlp\"?)"]
    );
}

#[test]
fn evaluation_counts_classes_and_scores_are_probabilities() {
    let (task, data) = small("mlp", "");
    let parameters = task.initial_parameters();
    let evaluation = task.evaluate(&parameters, &data).unwrap();
    let scores = task.scores(&parameters, &data).unwrap();
    assert!(scores.iter().all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    let loss = scores.iter().zip(data.labels()).map(|(row, label)| -f64::from(row[*label as usize]).ln()).sum::<f64>() / 70.0;
    assert!((loss - evaluation.loss).abs() < 1e-5);
    let correct: u64 = evaluation.classes.iter().map(|class| class.correct).sum();
    assert_eq!(evaluation.classes.iter().map(|class| class.samples).sum::<u64>(), 70);
    assert!((evaluation.accuracy - correct as f64 / 70.0).abs() < 1e-12);
}

#[test]
fn auc_counts_ordered_pairs_and_half_of_the_ties() {
    let score = |values: &[f32]| values.iter().map(|value| vec![1.0 - value, *value]).collect::<Vec<_>>();
    assert_eq!(kith_models::auc(&score(&[0.1, 0.4, 0.35, 0.8]), &[0, 0, 1, 1]), Some(0.75));
    assert_eq!(kith_models::auc(&score(&[0.5, 0.5, 0.5]), &[0, 1, 1]), Some(0.5));
    assert_eq!(kith_models::auc(&score(&[0.5, 0.5]), &[1, 1]), None);
}

#[test]
fn model_files_survive_and_foreign_ones_are_refused() {
    let (task, _) = small("mlp", "");
    let parameters = task.initial_parameters();
    let metadata: BTreeMap<String, String> = [("round", "7"), ("note", "\"quoted\"\n")].map(|(k, v)| (k.into(), v.into())).into();
    let bytes = write_model(task.layout(), &parameters, &metadata);
    assert_eq!(read_model(&bytes, task.layout()).unwrap(), parameters);
    let (layout, values, texts) = read_tensors(&bytes).unwrap();
    assert_eq!((&layout, &values, &texts), (task.layout(), &parameters, &metadata));
    assert_eq!(inspect(&bytes).unwrap().tensors[0], ("fc1.bias".to_owned(), "F32".to_owned(), vec![20]));
    assert_eq!(bytes, write_model(task.layout(), &parameters, &metadata));

    let (other, _) = small("softmax", "");
    let error = read_model(&bytes, other.layout()).unwrap_err().to_string();
    assert!(error.contains("\"linear.bias\" is missing"), "{error}");
    for length in [0, 7, 8, 40, bytes.len() - 1] {
        assert!(read_model(&bytes[..length], task.layout()).is_err(), "{length} bytes were accepted");
    }
    let mut broken = parameters.clone();
    broken[5] = f32::INFINITY;
    let broken = write_model(task.layout(), &broken, &BTreeMap::new());
    assert!(read_model(&broken, task.layout()).unwrap_err().to_string().contains("parameter 5 is inf"));
    assert!(read_tensors(&broken).is_ok(), "a robust rule removes such a row itself");
}

proptest::proptest! {
    /// A model file comes from somebody else: any change of its bytes is read or refused, and never a panic.
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
