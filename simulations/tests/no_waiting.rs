//! Rounds in which nobody waits: where they lead as the learning rate falls, and whom they hear.

mod running;

use kith_simulations::experiment::Outcome;
use running::run;

const WORLD: &str = r#"
[federation]
name = "bias"
rounds = 4000
[topology]
kind = "complete"
[world]
peers = 8
[world.trainer]
kind = "quadratic"
dimension = 7
learning_rate = 0.002
"#;

const JITTER: &str = "world.devices={ jitter = 0.3, step_ms = 50 }";

/// Mean distance of the peers' mean from the optimum over the last 500 rounds.
fn bias(outcome: &Outcome) -> f64 {
    let rows: Vec<_> = outcome.round_rows.iter().rev().take(500).collect();
    let squares = |distance: Option<f64>| distance.expect("it is measured").powi(2);
    let of_mean = rows.iter().map(|row| {
        (squares(row.optimum_distance) - squares(row.consensus_distance))
            .max(0.0)
            .sqrt()
    });
    of_mean.sum::<f64>() / rows.len() as f64
}

#[test]
fn peers_that_wait_for_nobody_settle_at_the_common_optimum() {
    for mode in ["round.mode=asynchronous", "round.mode=pairwise"] {
        for seed in ["world.seed=1", "world.seed=2"] {
            for more in [&[][..], &[JITTER]] {
                let settings: Vec<&str> = [mode, seed]
                    .into_iter()
                    .chain(more.iter().copied())
                    .collect();
                let outcome = run(WORLD, &settings);
                let found = bias(&outcome);
                println!(
                    "{settings:?}: {found:.3}, refused {:?}, finished {}",
                    outcome.refused, outcome.virtual_seconds
                );
                assert!(
                    found < 0.05,
                    "{settings:?}: {found}, refused {:?}",
                    outcome.refused
                );
            }
        }
    }
}
