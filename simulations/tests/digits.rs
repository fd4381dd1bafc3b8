//! The main job without sockets: eight peers, two of them lying, on the embedded digits, in four
//! cells over five seeds.

use kith_simulations::experiment::{Experiment, Outcome};
use kith_simulations::simulator::Ended;

fn run(seed: u64, attacked: bool, defended: bool) -> Outcome {
    let rule = if defended {
        "rule = \"nnm+trimmed-mean\"\nbyzantine = 2"
    } else {
        "rule = \"mean\""
    };
    let adversaries = if attacked { 2 } else { 0 };
    let text = format!(
        "[federation]\nname = \"digits\"\nrounds = 30\n[topology]\nkind = \"random-regular\"\ndegree = 5\n[aggregation]\n{rule}\n\
         [codec]\nkind = \"top-k\"\nshare = 0.06\n[world]\npeers = 8\nseed = {seed}\ndataset = \"digits\"\n\
         partition = \"dirichlet:1.0\"\nadversaries = {adversaries}\nattack = \"sign-flip:10\"\n"
    );
    let experiment = Experiment::parse(&text, &[]).expect("a good experiment");
    let outcome = experiment.run(0, &mut |_, _| {}).expect("it runs");
    assert_eq!(outcome.checks.failed, [], "seed {seed}");
    assert_eq!(outcome.ended, Ended::Stopped, "everyone finishes");
    outcome
}

/// Payload and keyframe bytes over the bytes of the same deliveries uncompressed.
fn share_of_dense(outcome: &Outcome) -> f64 {
    (outcome.bytes.payload + outcome.bytes.keyframes) as f64 / outcome.bytes.dense_equivalent as f64
}

#[test]
fn liars_break_the_mean_and_the_defence_holds_in_four_cells_over_five_seeds() {
    println!("seed   mean   defence   mean, liars   defence, liars (min)   bytes of dense");
    let seeds = 0..5;
    let mut totals = [0.0; 4];
    let mut worst = 1.0f64;
    for seed in seeds.clone() {
        let cells = [
            run(seed, false, false),
            run(seed, false, true),
            run(seed, true, false),
            run(seed, true, true),
        ];
        let accuracy = |cell: &Outcome| cell.accuracy.expect("evaluated after the last round");
        let [clean, cost, broken, saved] = [0, 1, 2, 3].map(|cell| accuracy(&cells[cell]));
        let share = share_of_dense(&cells[3]);
        println!(
            "{seed}      {:.3}  {:.3}     {:.3}         {:.3} ({:.3})          {:.3}",
            clean.mean, cost.mean, broken.mean, saved.mean, saved.min, share
        );
        totals
            .iter_mut()
            .zip(&cells)
            .for_each(|(total, cell)| *total += accuracy(cell).mean / 5.0);
        worst = worst.min(saved.min);
        assert!(
            broken.mean < 0.5,
            "seed {seed}: the attack works against the plain mean"
        );
        assert!(share <= 0.1, "seed {seed}: bytes with keyframes");
    }
    let [clean, cost, broken, saved] = totals;
    println!("mean   {clean:.3}  {cost:.3}     {broken:.3}         {saved:.3} ({worst:.3})");
    assert!(saved >= 0.92, "the defence holds: {saved:.3}");
    assert!(worst >= 0.88, "for every honest peer: {worst:.3}");
    assert!(
        clean - cost <= 0.03,
        "and costs little without liars: {clean:.3} and {cost:.3}"
    );
}
