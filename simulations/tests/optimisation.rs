//! How peers optimise: gradient tracking against plain mixing, rounds without waiting, momentum over rounds.

use kith_simulations::experiment::{Experiment, Outcome};

fn run(text: &str, settings: &[&str]) -> Outcome {
    let settings: Vec<_> =
        settings.iter().map(|text| kith_simulations::experiment::setting(text).expect("a good setting")).collect();
    let experiment = Experiment::parse(text, &settings).unwrap_or_else(|problems| panic!("{problems:?}"));
    let outcome = experiment.run(0, &mut |_, _| {}).expect("it runs");
    assert_eq!(outcome.checks.failed, []);
    assert_eq!(outcome.ended, "stopped");
    outcome
}

const RING: &str = r#"
[federation]
name = "ring"
rounds = 400
[topology]
kind = "ring"
[aggregation]
rule = "mean"
[world]
peers = 8
[world.trainer]
kind = "logistic"
spread = 2.0
learning_rate = 0.3
"#;

/// Largest distance of a peer from the optimum.
fn distance(outcome: &Outcome) -> f64 {
    outcome.optimum_distance.expect("the optimum is known").max
}

#[test]
fn gradient_tracking_reaches_the_optimum_where_plain_mixing_stops_short_of_it() {
    for seed in 0..3 {
        let seed = format!("world.seed={seed}");
        let plain = run(RING, &[&seed]);
        let tracked = run(RING, &[&seed, "aggregation.method=gradient-tracking"]);
        println!("{seed}: plain {:.2e}, tracked {:.2e}", distance(&plain), distance(&tracked));
        assert!(distance(&plain) > 1e-2, "unlike data hold plain mixing off the optimum");
        assert!(distance(&tracked) < 1e-5, "to the precision of 32-bit floats");
        // Several local steps drift apart, and the correction undoes that as well.
        let steps = ["world.trainer.local_steps=4", "world.trainer.learning_rate=0.1"];
        let plain = run(RING, &[&seed, steps[0], steps[1]]);
        let tracked = run(RING, &[&seed, steps[0], steps[1], "aggregation.method=gradient-tracking"]);
        assert!(distance(&plain) > 1e-2 && distance(&tracked) < 1e-5, "{} and {}", distance(&plain), distance(&tracked));
    }
}

/// A lost update is asked for again; one that never comes shifts the corrections' mean for good, which the method's header says.
#[test]
fn repetition_delay_and_reordering_do_not_disturb_tracking() {
    let bad =
        ["world.links.duplication=0.2", "world.links.jitter=uniform", "world.links.jitter_ms=40", "world.links.reordering=true"];
    let tracked = run(RING, &[bad[0], bad[1], bad[2], bad[3], "aggregation.method=gradient-tracking"]);
    assert!(distance(&tracked) < 1e-5, "{}", distance(&tracked));
}

#[test]
fn nobody_waits_for_a_slow_peer_in_asynchronous_rounds() {
    let slow = "[[world.special]]\npeers = [3]\nslowness = 20.0\n";
    let text = format!("{}{slow}", RING.replace("spread = 2.0", "spread = 1.0"));
    // At fewer rounds, since one peer takes twenty times as long.
    let synchronous = run(&text, &["federation.rounds=100", "round.patience=1000000"]);
    let asynchronous = run(&text, &["federation.rounds=100", "round.mode=asynchronous"]);
    let last_of = |outcome: &Outcome| -> Vec<f64> {
        let last = outcome.peer_rows.iter().filter(|row| row.round == 99);
        let mut seconds: Vec<(usize, f64)> = last.map(|row| (row.peer, row.virtual_seconds)).collect();
        seconds.sort_by_key(|(peer, _)| *peer);
        seconds.into_iter().map(|(_, seconds)| seconds).collect()
    };
    let (waited, free) = (last_of(&synchronous), last_of(&asynchronous));
    assert!(free[0] < 0.1 * waited[0], "peer 0 is done after {} s, in step after {} s", free[0], waited[0]);
    assert!(distance(&asynchronous) < 1.0 && asynchronous.consensus_distance.expect("models") < 1.0);
    let constant = run(&text, &["federation.rounds=100", "round.mode=asynchronous", "round.staleness_weight=constant"]);
    assert_ne!(constant.trace, asynchronous.trace, "staleness has a weight");
}

#[test]
fn momentum_over_rounds_gets_there_faster() {
    let settings = ["federation.rounds=15", "world.trainer.learning_rate=0.05", "world.trainer.spread=0.5"];
    let plain = run(RING, &settings);
    let carried = run(RING, &[settings[0], settings[1], settings[2], "aggregation.momentum=0.6"]);
    assert!(distance(&carried) < 0.8 * distance(&plain), "{} and {}", distance(&carried), distance(&plain));
}

#[test]
fn what_does_not_go_together_is_refused_with_what_would() {
    let told = |settings: &[&str]| {
        let settings: Vec<_> =
            settings.iter().map(|text| kith_simulations::experiment::setting(text).expect("a good setting")).collect();
        Experiment::parse(RING, &settings).expect_err("refused").iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(told(&["aggregation.method=gradient-tracking", "round.mode=asynchronous"]).contains("expected round.mode"));
    assert!(told(&["round.mode=asynchronous", "aggregation.rule=median"]).contains("for example \"mean\""));
    assert!(told(&["aggregation.method=gradient-trekking"]).contains("did you mean \"gradient-tracking\"?"));
    assert!(told(&["world.adversaries=8"]).contains("8 of 8 peers lie"));
}
