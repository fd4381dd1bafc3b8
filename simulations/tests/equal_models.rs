//! Peers that mixed the same models hold the same model, to the bit.

mod running;

use running::run;

const WORLD: &str = r#"
[federation]
name = "equal"
rounds = 6
[topology]
kind = "complete"
[aggregation]
rule = "mean"
[world]
[world.trainer]
kind = "quadratic"
dimension = 33
learning_rate = 0.3
"#;

/// A distance of exactly 0: the measure subtracts one of the models, so equal bits cancel and
/// unequal ones do not.
fn assert_equal_after_each_round(settings: &[&str]) {
    let outcome = run(WORLD, settings);
    assert_eq!(outcome.round_rows.len(), 6, "{settings:?}");
    for row in &outcome.round_rows {
        assert_eq!(
            row.consensus_distance,
            Some(0.0),
            "round {} with {settings:?}",
            row.round
        );
    }
}

#[test]
fn in_a_complete_graph_everybody_holds_the_same_model_after_each_round() {
    for peers in 2..=16 {
        assert_equal_after_each_round(&[&format!("world.peers={peers}")]);
    }
}

#[test]
fn the_same_holds_for_other_rules_and_for_methods_and_weights_of_equal_samples() {
    let others = [
        "aggregation.rule=median",
        "aggregation.method=scaffold",
        "aggregation.method=gradient-tracking",
    ];
    let sampled = ["aggregation.weighting=samples", "aggregation.sample_cap=1"];
    for peers in ["world.peers=5", "world.peers=6", "world.peers=7"] {
        others
            .iter()
            .for_each(|other| assert_equal_after_each_round(&[peers, other]));
        assert_equal_after_each_round(&[peers, sampled[0], sampled[1]]);
    }
}
