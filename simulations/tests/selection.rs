//! Whose updates a round mixes: what each selection does to learning, to waiting, and to liars.

mod running;

use kith_simulations::experiment::Outcome;
use running::run;

/// Peers with unlike rows.
const UNLIKE: &str = r#"
[federation]
name = "unlike"
rounds = 80
[topology]
kind = "complete"
[aggregation]
rule = "mean"
[world]
peers = 24
[world.trainer]
kind = "logistic"
spread = 2.0
learning_rate = 0.3
"#;

const UNIFORM: [&str; 2] = ["round.selection=uniform", "round.count=2"];
const CHOICE: [&str; 3] = [
    "round.selection=power-of-choice",
    "round.candidates=12",
    "round.selected=2",
];

/// Mean over rounds of the honest peers' distance from the optimum.
fn distance(outcome: &Outcome, rounds: std::ops::RangeInclusive<u64>) -> f64 {
    let rows = outcome
        .round_rows
        .iter()
        .filter(|row| rounds.contains(&row.round));
    let distances: Vec<f64> = rows
        .map(|row| row.optimum_distance.expect("the optimum is known"))
        .collect();
    distances.iter().sum::<f64>() / distances.len() as f64
}

/// Cho et al. 2022: faster than a uniform draw of as many at first, and a larger error in the end.
#[test]
fn power_of_choice_is_faster_at_first_and_biased_in_the_end() {
    for seed in 0..4 {
        let seed = format!("world.seed={seed}");
        let uniform = run(UNLIKE, &[&seed, UNIFORM[0], UNIFORM[1]]);
        let choice = run(UNLIKE, &[&seed, CHOICE[0], CHOICE[1], CHOICE[2]]);
        let [first, last] = [3..=7, 40..=80];
        let told = [&uniform, &choice].map(|outcome| {
            (
                distance(outcome, first.clone()),
                distance(outcome, last.clone()),
            )
        });
        println!(
            "{seed}: uniform {:.3} then {:.3}, power of choice {:.3} then {:.3}",
            told[0].0, told[0].1, told[1].0, told[1].1
        );
        assert!(
            told[1].0 < 0.97 * told[0].0,
            "{seed}: faster at first: {told:?}"
        );
        assert!(
            told[1].1 > 1.1 * told[0].1,
            "{seed}: further off in the end: {told:?}"
        );
        for row in &choice.peer_rows {
            assert_eq!(
                (row.awaited, row.have, row.mixed),
                (12, 12, 2),
                "{seed}: {row:?}"
            );
        }
        assert!(
            uniform
                .peer_rows
                .iter()
                .all(|row| (row.awaited, row.have, row.mixed) == (2, 2, 2))
        );
    }
}

/// Eight alike peers, of which one takes ten times as long.
const SLOW: &str = r#"
[federation]
name = "slow"
rounds = 60
[topology]
kind = "complete"
[round]
deadline_seconds = 25
patience = 1000000
[aggregation]
rule = "mean"
[world]
peers = 8
[world.trainer]
kind = "logistic"
[world.devices]
step_ms = 1000
[[world.special]]
peers = [3]
slowness = 10.0
"#;

#[test]
fn a_slow_peer_no_longer_holds_rounds_up_and_is_heard_every_so_many_rounds() {
    let last = |outcome: &Outcome| {
        let rows = outcome.peer_rows.iter().filter(|row| row.peer == 0);
        rows.map(|row| row.virtual_seconds).fold(0.0, f64::max)
    };
    for seed in 0..3 {
        let seed = format!("world.seed={seed}");
        let all = run(SLOW, &[&seed]);
        let kind = [
            "round.selection=deadline",
            "round.late=0.2",
            "round.fairness=6",
        ];
        let chosen = run(SLOW, &[&seed, kind[0], kind[1], kind[2]]);
        println!(
            "{seed}: {} s where everybody is awaited, {} s by deadline",
            last(&all),
            last(&chosen)
        );
        assert!(
            last(&chosen) < 0.45 * last(&all),
            "{} and {}",
            last(&chosen),
            last(&all)
        );
        for peer in (0..8).filter(|peer| *peer != 3) {
            let rows = chosen.peer_rows.iter().filter(|row| row.peer == peer);
            assert!(
                rows.clone().all(|row| !row.by_deadline),
                "where it is awaited it comes"
            );
            let mixed: Vec<usize> = rows.map(|row| row.mixed).collect();
            assert_eq!(mixed.len(), 60);
            assert!(
                mixed.windows(6).all(|rounds| rounds.contains(&7)),
                "peer {peer} hears it: {mixed:?}"
            );
            assert!(
                mixed.iter().filter(|mixed| **mixed == 6).count() > 40,
                "and does not wait for it: {mixed:?}"
            );
        }
    }
}

/// Ten alike peers of which two lie: where, the seed says.
const LIARS: &str = r#"
[federation]
name = "liars"
rounds = 40
[topology]
kind = "complete"
[round]
selection = "power-of-choice"
candidates = 8
selected = 6
[aggregation]
rule = "mean"
[world]
peers = 10
attack = "sign-flip:10"
[world.trainer]
kind = "quadratic"
spread = 0.2
"#;

#[test]
fn liars_claim_the_highest_loss_and_only_a_robust_rule_holds_in_four_cells() {
    for seed in 0..4 {
        let seed = format!("world.seed={seed}");
        for rule in ["krum", "trimmed-mean"] {
            let error = |rule: &str, liars: &str| {
                let keys = [
                    format!("aggregation.rule={rule}"),
                    format!("world.adversaries={liars}"),
                ];
                let mut settings = vec![seed.as_str(), &keys[0], &keys[1]];
                if rule != "mean" {
                    settings.push("aggregation.byzantine=2");
                }
                run(LIARS, &settings)
            };
            let off =
                |outcome: &Outcome| outcome.optimum_distance.expect("the optimum is known").max;
            let (clean, cost, broken, saved) = (
                error("mean", "0"),
                error(rule, "0"),
                error("mean", "2"),
                error(rule, "2"),
            );
            println!(
                "{seed} {rule}: {:.2} {:.2} {:.2} {:.2}",
                off(&clean),
                off(&cost),
                off(&broken),
                off(&saved)
            );
            assert!(
                off(&clean) < 0.5,
                "{seed} {rule}: the mean without liars: {}",
                off(&clean)
            );
            assert!(
                off(&cost) < 1.0,
                "{seed} {rule}: the defence costs little: {}",
                off(&cost)
            );
            assert!(
                off(&broken) > 5.0,
                "{seed} {rule}: the attack works against the mean: {}",
                off(&broken)
            );
            assert!(
                off(&saved) < 1.0,
                "{seed} {rule}: the defence holds: {}",
                off(&saved)
            );
        }
    }
}

/// Bad weather: much is lost, repeated and late, and two peers restart.
const WEATHER: &str = r#"
[federation]
name = "weather"
rounds = 25
[topology]
kind = "random-regular"
degree = 4
[round]
deadline_seconds = 4
[aggregation]
rule = "mean"
[world]
peers = 10
[world.trainer]
kind = "quadratic"
[world.devices]
step_ms = 50
spread = 0.5
[world.links]
loss = 0.1
duplication = 0.2
jitter = "exponential"
jitter_ms = 300
reordering = true
[[world.fault]]
at_seconds = 3
kind = "crash"
peer = 2
lasts_seconds = 2
[[world.fault]]
at_seconds = 7
kind = "crash"
peer = 5
lasts_seconds = 1
keeps_disk = false
"#;

#[test]
fn every_selection_survives_loss_repetition_delay_reordering_and_restarts() {
    let kinds: [&[&str]; 4] = [
        &["round.selection=uniform"],
        &["round.selection=uniform", "round.count=1"],
        &["round.selection=power-of-choice", "round.candidates=3"],
        &[
            "round.selection=deadline",
            "round.late=0.1",
            "round.fairness=4",
        ],
    ];
    for kind in kinds {
        for codec in [
            &["codec.kind=identity"][..],
            &["codec.kind=int8", "codec.replica=true"],
            &["codec.kind=top-k", "codec.share=0.3"],
        ] {
            for seed in 0..4 {
                let seed = format!("world.seed={seed}");
                let settings: Vec<&str> = kind
                    .iter()
                    .chain(codec)
                    .copied()
                    .chain([seed.as_str()])
                    .collect();
                let outcome = run(WEATHER, &settings);
                assert!(
                    !outcome.refused.contains_key("loss"),
                    "{settings:?}: {:?}",
                    outcome.refused
                );
                assert!(outcome.convicted.is_empty(), "{settings:?}");
                assert!(
                    outcome.peer_rows.iter().all(|row| row.mixed <= row.have),
                    "{settings:?}"
                );
            }
        }
    }
}

#[test]
fn the_same_seed_selects_the_same_to_the_bit_and_another_another() {
    let trace = |seed: &str| {
        run(
            WEATHER,
            &[
                "round.selection=power-of-choice",
                "round.candidates=3",
                seed,
            ],
        )
        .trace
    };
    assert_eq!(trace("world.seed=1"), trace("world.seed=1"));
    let everyone = run(WEATHER, &["world.seed=1"]).trace;
    assert_ne!(trace("world.seed=1"), everyone);
}
