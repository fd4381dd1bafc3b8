//! What each attack does to a federation that averages, and to one that defends itself. Liars are
//! placed at random.
//!
//! Attacks that harm are shown in four cells over five seeds, since a defence that holds against
//! nothing shows nothing. Those that are weak in these settings are shown to be weak. `cargo test
//! -p kith-simulations --test attacks -- --nocapture` prints the numbers.

use kith_consensus::topology::Graph;
use kith_consensus::{PeerId, Seed};
use kith_gossip::{Conduct, Publication, View};
use kith_simulations::attack::{ATTACKS, Attacker, Knowledge, Means, attack_from_text};
use kith_simulations::experiment::{Experiment, Outcome};
use kith_simulations::metrics::PeerRow;
use kith_simulations::simulator::Ended;

const SEEDS: std::ops::Range<u64> = 0..5;
const MEAN: &str = "rule = \"mean\"";
const DEFENCE: &str = "rule = \"nnm+trimmed-mean\"\nbyzantine = 2";

/// Nine peers with a linear model of the digits, everyone hearing everyone.
fn digits(seed: u64, attack: &str, liars: usize, rule: &str, partition: &str) -> Outcome {
    digits_with(
        seed,
        attack,
        liars,
        &format!("{rule}\n[codec]\nkind = \"identity\""),
        partition,
        0,
    )
}

/// The same with the rule and the codec in `how`, evaluated so often.
fn digits_with(
    seed: u64,
    attack: &str,
    liars: usize,
    how: &str,
    partition: &str,
    evaluate_every: u64,
) -> Outcome {
    run(&format!(
        "[federation]\nname = \"digits\"\nrounds = 10\n[topology]\nkind = \"complete\"\n[aggregation]\n{how}\n\
         [model]\nkind = \"softmax\"\n[training]\nlearning_rate = 0.1\nbatch_size = 32\nlocal_epochs = 1\n[round]\n\
         deadline_seconds = {DEADLINE}\n[world]\npeers = 9\nseed = {seed}\ndataset = \"digits\"\npartition = \"{partition}\"\n\
         adversaries = {liars}\nattack = \"{attack}\"\nevaluate_every = {evaluate_every}\n"
    ))
}

const DEADLINE: f64 = 60.0;

/// A world of parabolas with one curvature, their places `spread` apart.
struct Parabolas {
    peers: usize,
    rounds: u64,
    topology: &'static str,
    codec: &'static str,
    spread: f64,
    learning_rate: f64,
}

impl Parabolas {
    fn text(&self, seed: u64, attack: &str, liars: usize, rule: &str) -> String {
        let Parabolas {
            peers,
            rounds,
            topology,
            codec,
            spread,
            learning_rate,
        } = self;
        format!(
            "[federation]\nname = \"parabolas\"\nrounds = {rounds}\n[topology]\n{topology}\n[aggregation]\n{rule}\n[codec]\n{codec}\n\
             [world]\npeers = {peers}\nseed = {seed}\nadversaries = {liars}\nattack = \"{attack}\"\n[world.trainer]\n\
             kind = \"quadratic\"\ncurvature_min = 1.0\ncurvature_max = 1.0\nspread = {spread}\nlearning_rate = {learning_rate}\n"
        )
    }

    fn run(&self, seed: u64, attack: &str, liars: usize, rule: &str) -> Outcome {
        run(&self.text(seed, attack, liars, rule))
    }
}

fn run(text: &str) -> Outcome {
    let experiment =
        Experiment::parse(text, &[]).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    let outcome = experiment.run(0, &mut |_, _| {}).expect("it runs");
    assert_eq!(outcome.checks.failed, [], "{text}");
    assert_eq!(outcome.ended, Ended::Stopped, "everyone finishes\n{text}");
    outcome
}

fn accuracy(outcome: &Outcome) -> f64 {
    outcome
        .accuracy
        .expect("evaluated after the last round")
        .mean
}

fn mean_accuracy(attack: &str, liars: usize, rule: &str, partition: &str) -> f64 {
    SEEDS
        .map(|seed| accuracy(&digits(seed, attack, liars, rule, partition)))
        .sum::<f64>()
        / SEEDS.count() as f64
}

#[test]
fn attacks_that_harm_break_the_mean_and_not_the_defence() {
    // Liars, how rows are dealt, the defence; then for each attack what the plain mean falls below
    // in every seed.
    let even = (2, "iid", DEFENCE);
    let uneven = (
        3,
        "dirichlet:1.0",
        "rule = \"nnm+trimmed-mean\"\nbyzantine = 3",
    );
    let attacks = [
        ("sign-flip:10", even, 0.1),
        ("ipm:10", even, 0.2),
        ("sybil:10", even, 0.2),
        ("gaussian:2", even, 0.75),
        ("random:2", even, 0.75),
        ("optimal-ipm", even, 0.75),
        ("optimal-alie", even, 0.75),
        ("alie:10", uneven, 0.75),
        ("label-flip", uneven, 0.8),
    ];
    let controls = [even, uneven].map(|setting| {
        let (_, partition, rule) = setting;
        let cells = SEEDS.map(|seed| {
            [MEAN, rule].map(|rule| accuracy(&digits(seed, "sign-flip", 0, rule, partition)))
        });
        (setting, cells.collect::<Vec<_>>())
    });
    println!("attack         seed  mean   defence  mean, liars  defence, liars");
    for (attack, setting, harm) in attacks {
        let (liars, partition, rule) = setting;
        let (_, controls) = controls
            .iter()
            .find(|(known, _)| *known == setting)
            .expect("a setting that was run");
        for (seed, [clean, cost]) in SEEDS.zip(controls) {
            let [broken, saved] =
                [MEAN, rule].map(|rule| accuracy(&digits(seed, attack, liars, rule, partition)));
            println!(
                "{attack:14} {seed}     {clean:.3}  {cost:.3}    {broken:.3}        {saved:.3}"
            );
            assert!(
                *clean >= 0.9,
                "{attack}, seed {seed}: the mean learns without liars: {clean}"
            );
            assert!(
                *cost >= clean - 0.07,
                "{attack}, seed {seed}: the defence costs little: {cost} after {clean}"
            );
            assert!(
                broken <= harm,
                "{attack}, seed {seed}: the attack works against the mean: {broken}"
            );
            assert!(
                saved >= cost - 0.03,
                "{attack}, seed {seed}: the defence holds: {saved} after {cost}"
            );
        }
    }
}

#[test]
fn a_backdoor_opens_under_the_mean_unseen_and_stays_shut_under_the_defence() {
    for attack in ["backdoor:7,share=0.3", "model-replacement:5"] {
        for seed in SEEDS {
            let cells = [(0, MEAN), (0, DEFENCE), (2, MEAN), (2, DEFENCE)];
            let cells = cells.map(|(liars, rule)| digits(seed, attack, liars, rule, "iid"));
            let success =
                |cell: &Outcome| cell.attack_success.expect("the attack has a trigger").mean;
            let [clean, cost, broken, saved] = [0, 1, 2, 3].map(|cell| success(&cells[cell]));
            println!("{attack:20} {seed}  {clean:.3}  {cost:.3}  {broken:.3}  {saved:.3}");
            assert!(
                clean <= 0.05 && cost <= 0.05,
                "{attack}, seed {seed}: shut without liars: {clean}, {cost}"
            );
            assert!(
                broken >= 0.8,
                "{attack}, seed {seed}: the mean opens it: {broken}"
            );
            assert!(
                saved <= 0.05,
                "{attack}, seed {seed}: the defence keeps it shut: {saved}"
            );
            let [clean, broken] = [0, 2].map(|cell| accuracy(&cells[cell]));
            let boosted = attack.starts_with("model-replacement"); // a long step shows
            assert!(
                boosted || broken >= clean - 0.06,
                "{attack}, seed {seed}: accuracy does not tell: {broken} after {clean}"
            );
        }
    }
}

#[test]
fn attacks_that_are_weak_here_cost_a_plain_mean_a_few_points_at_most() {
    let clean = mean_accuracy("sign-flip", 0, MEAN, "iid");
    // Two liars of nine, rows dealt evenly.
    for attack in [
        "zero",
        "free-rider",
        "free-rider:0.01,echo=1",
        "alie",
        "alie:0",
        "slow-drift:1",
        "mimic",
        "mimic:2",
        "foe:1",
    ] {
        let attacked = mean_accuracy(attack, 2, MEAN, "iid");
        println!("{attack:24} {attacked:.3} after {clean:.3}");
        assert!(
            attacked >= clean - 0.03,
            "{attack}: {attacked} after {clean}"
        );
    }
}

#[test]
fn a_mimic_misleads_the_median_where_rows_differ_and_hardly_clipping() {
    // The control is mute: what its rows could have taught is missing in both.
    let cells = [
        "rule = \"geometric-median\"\nbyzantine = 2",
        "rule = \"centered-clipping\"",
    ];
    let cells = cells.map(|rule| {
        ["mute", "mimic:0", "mimic"].map(|attack| mean_accuracy(attack, 2, rule, "pathological:2"))
    });
    println!(
        "geometric median, clipping; mute, copying the first, copying the furthest: {cells:.3?}"
    );
    let [[clean, broken, broken_less], [cost, saved, saved_too]] = cells;
    assert!(
        broken <= clean - 0.2,
        "the copies count as a crowd: {broken} after {clean}"
    );
    assert!(
        broken_less <= clean - 0.01,
        "and so, less, do changing ones: {broken_less} after {clean}"
    );
    // A liar that has seen every vector of its round copies the one that is furthest now, which
    // costs half a point more.
    assert!(
        saved >= cost - 0.05 && saved_too >= cost - 0.06,
        "clipping holds: {saved}, {saved_too} after {cost}"
    );
}

#[test]
fn vectors_that_are_not_finite_are_refused_by_name_and_harm_nobody() {
    for attack in ["not-a-number", "infinity"] {
        let attacked = digits(1, attack, 2, MEAN, "iid");
        assert_eq!(
            attacked.refused.keys().collect::<Vec<_>>(),
            [&"not-finite"],
            "{attack}"
        );
        let absent = digits(1, "mute", 2, MEAN, "iid");
        assert_eq!(
            accuracy(&attacked),
            accuracy(&absent),
            "{attack}: it is as if the liars were not there"
        );
    }
}

/// Every peer is drawn to a place of its own, and mixes with two.
const RING: Parabolas = Parabolas {
    peers: 10,
    rounds: 60,
    topology: "kind = \"ring\"",
    codec: "kind = \"identity\"",
    spread: 1.0,
    learning_rate: 0.02,
};

#[test]
fn who_tells_neighbours_different_things_is_convicted_where_they_hear_each_other() {
    let torus = Parabolas {
        peers: 12,
        topology: "kind = \"torus\"\nrows = 3\ncolumns = 4",
        ..RING
    };
    for attack in ["equivocation", "dissensus"] {
        for seed in SEEDS {
            let attacked = digits(seed, attack, 2, MEAN, "iid");
            let absent = digits(seed, "mute", 2, MEAN, "iid");
            let convicted: Vec<(&String, &u64)> = attacked.convicted.iter().collect();
            let wanted: Vec<(&String, &u64)> =
                attacked.liars.iter().map(|liar| (liar, &7)).collect();
            assert_eq!(
                convicted, wanted,
                "{attack}, seed {seed}: each liar by each of the seven honest"
            );
            assert!(
                accuracy(&attacked) >= accuracy(&absent) - 0.02,
                "{attack}, seed {seed}: expelled, it is as if it were not there"
            );
            // In a torus of three rows some of a liar's neighbours are neighbours of each other. The
            // others get the proof from them.
            let outcome = torus.run(seed, attack, 1, MEAN);
            let convicted: Vec<u64> = outcome.convicted.values().copied().collect();
            assert_eq!(
                convicted,
                [11],
                "{attack}, seed {seed}: by all who are honest"
            );
        }
    }
}

#[test]
fn on_a_ring_dissensus_is_not_noticed_drives_the_mean_apart_and_not_clipped_gossip() {
    for seed in SEEDS {
        let cells = [
            (0, MEAN),
            (0, "rule = \"clipped-gossip\"\nbyzantine = 1"),
            (2, MEAN),
            (2, "rule = \"clipped-gossip\"\nbyzantine = 1"),
        ];
        let cells = cells.map(|(liars, rule)| RING.run(seed, "dissensus:8", liars, rule));
        let far = |outcome: &Outcome| outcome.optimum_distance.expect("the optimum is known").mean;
        let [clean, cost, broken, saved] = [0, 1, 2, 3].map(|cell: usize| far(&cells[cell]));
        // Two liars cut a ring in two, whose halves cannot agree whatever they do.
        let absent = far(&RING.run(seed, "mute", 2, "rule = \"clipped-gossip\"\nbyzantine = 1"));
        println!("{seed}  {clean:.3}  {cost:.3}  {broken:.3}  {saved:.3}  {absent:.3}");
        // Two neighbours of one peer never hear each other there: the limit of conviction, not a
        // wish.
        assert!(
            cells.iter().all(|cell| cell.convicted.is_empty()),
            "seed {seed}"
        );
        assert!(
            broken >= 2.0 * clean,
            "seed {seed}: the mean is driven apart: {broken} after {clean}"
        );
        assert!(
            saved <= 1.5 * absent.max(cost),
            "seed {seed}: clipped gossip is not: {saved} after {cost}, {absent}"
        );
        assert!(
            saved <= 0.7 * broken,
            "seed {seed}: and does better than the mean: {saved} and {broken}"
        );
    }
}

/// The rounds of the peers that are not among `liars`, in the order of rounds and peers and without
/// their times: a repetition takes the line for a while.
fn rounds_of_others(outcome: &Outcome, liars: &[usize]) -> Vec<PeerRow> {
    let mut rows: Vec<PeerRow> = outcome
        .peer_rows
        .iter()
        .filter(|row| !liars.contains(&row.peer))
        .cloned()
        .collect();
    rows.iter_mut().for_each(|row| row.virtual_seconds = 0.0);
    rows.sort_by_key(|row| (row.round, row.peer));
    rows
}

#[test]
fn a_replay_is_refused_as_a_repetition_and_changes_no_bit() {
    for codec in ["kind = \"identity\"", "kind = \"top-k\"\nshare = 0.2"] {
        for (seed, attack) in SEEDS.zip(["replay", "replay:2", "replay", "replay:2", "replay"]) {
            let how = format!("{MEAN}\n[codec]\n{codec}");
            let attacked = digits_with(seed, attack, 2, &how, "iid", 1);
            // Who replays publishes the truth beside it, so the control is nobody lying.
            let clean = digits_with(seed, attack, 0, &how, "iid", 1);
            let liars: Vec<usize> = attacked
                .liars
                .iter()
                .map(|name| name.parse().expect("a number"))
                .collect();
            let [with, without] =
                [&attacked, &clean].map(|outcome| rounds_of_others(outcome, &liars));
            assert_eq!(with, without, "{attack}, {codec}, seed {seed}");
            assert!(
                with.len() == 70 && with.iter().all(|row| row.loss.is_some()),
                "there is something to compare"
            );
            assert_eq!(
                attacked.bytes.keyframes, clean.bytes.keyframes,
                "{attack}, {codec}, seed {seed}: nobody pulls anything"
            );
            let known = |name: &String| ["duplicate", "stale-round"].contains(&name.as_str());
            assert!(
                attacked.refused.keys().all(known),
                "{attack}, {codec}, seed {seed}: {:?}",
                attacked.refused
            );
            assert!(
                attacked.refused.values().sum::<u64>() >= 100,
                "{attack}, {codec}, seed {seed}: they are refused"
            );
        }
    }
}

#[test]
fn silence_costs_a_wait_and_nothing_else() {
    let controls: Vec<Outcome> = SEEDS
        .map(|seed| digits(seed, "silence", 0, MEAN, "iid"))
        .collect();
    for attack in ["silence", "silence:1", "mute", "mute:5"] {
        for (seed, clean) in SEEDS.zip(&controls) {
            let attacked = digits(seed, attack, 2, MEAN, "iid");
            assert!(
                attacked.rounds_by_deadline > 0,
                "{attack}, seed {seed}: somebody waited"
            );
            let waited = attacked.virtual_seconds - clean.virtual_seconds;
            assert!(
                waited >= 0.9 * DEADLINE,
                "{attack}, seed {seed}: waited {waited} s"
            );
            // A peer that was missing as often as it may be is not waited for again, so the wait is not
            // one for each round; once it is given half a deadline more.
            assert!(
                waited <= 2.6 * DEADLINE,
                "{attack}, seed {seed}: waited {waited} s"
            );
            // A neighbour that is given more time is asked once more, while its update is on its way.
            let known = |name: &String| name == "duplicate";
            assert!(
                attacked.refused.keys().all(known) && attacked.convicted.is_empty(),
                "{attack}, seed {seed}: it breaks no rule: {:?}",
                attacked.refused
            );
            let [clean, attacked] = [clean, &attacked].map(accuracy);
            assert!(
                attacked >= clean - 0.04,
                "{attack}, seed {seed}: {attacked} after {clean}"
            );
        }
    }
}

#[test]
fn a_slow_drift_is_under_every_clip_radius_and_within_its_bound() {
    // Everyone is drawn to the same place, so that the distance to it is the drift alone. A round
    // of training leaves 0.9 of a distance; of six models at most two are liars'.
    let world = Parabolas {
        topology: "kind = \"random-regular\"\ndegree = 5",
        spread: 0.0,
        learning_rate: 0.1,
        ..RING
    };
    let (step, weight, contraction) = (0.01, 2.0 / 6.0, 0.9);
    let bound = weight * step / (1.0 - contraction);
    for seed in SEEDS {
        let drift = |step: f64, rule: &str| {
            let outcome = world.run(seed, &format!("slow-drift:{step}"), 2, rule);
            outcome.optimum_distance.expect("the optimum is known")
        };
        let plain = drift(step, MEAN);
        println!(
            "{seed}  mean {:.5}, most {:.5} of at most {bound:.5}",
            plain.mean, plain.max
        );
        assert!(
            plain.max <= bound && plain.mean >= 0.3 * bound,
            "seed {seed}: {plain:?}, bound {bound}"
        );
        // Ten times the step as a radius: nothing is clipped.
        for rule in [
            "rule = \"clipped-gossip\"\nbyzantine = 2\ntau = 0.1",
            "rule = \"centered-clipping\"\ntau = 0.1",
        ] {
            let clipped = drift(step, rule);
            assert!(
                (clipped.mean - plain.mean).abs() <= 1e-6,
                "seed {seed}: {rule} does not catch it: {clipped:?}"
            );
            assert!(
                clipped.max <= bound,
                "seed {seed}: {clipped:?}, bound {bound}"
            );
            // A long step is cut to about the radius: then the radius bounds it.
            let long = drift(100.0, rule);
            assert!(
                long.max <= 10.0 * bound,
                "seed {seed}: {rule} catches a long one: {long:?}"
            );
        }
        assert!(
            drift(100.0, MEAN).max >= 100.0,
            "seed {seed}: the mean follows it anywhere"
        );
        assert!(
            drift(step, "rule = \"trimmed-mean\"\nbyzantine = 2").max <= 1e-6,
            "seed {seed}: who trims leaves it out"
        );
    }
}

#[test]
fn under_every_attack_and_codec_the_honest_finish_and_every_invariant_holds() {
    let codecs = [
        "kind = \"identity\"",
        "kind = \"f16\"",
        "kind = \"int8\"",
        "kind = \"top-k\"\nshare = 0.3",
        "kind = \"random-k\"\nshare = 0.3",
    ];
    for entry in ATTACKS
        .iter()
        .filter(|entry| !matches!(entry.new.means, Means::Rows))
    {
        for (seed, codec) in (0..).zip(codecs) {
            let world = Parabolas {
                peers: 7,
                rounds: 6,
                topology: "kind = \"complete\"",
                codec,
                ..RING
            };
            world.run(seed, entry.name, 2, DEFENCE);
        }
    }
}

#[test]
fn rows_cannot_be_poisoned_where_there_are_none() {
    for entry in ATTACKS
        .iter()
        .filter(|entry| matches!(entry.new.means, Means::Rows))
    {
        let problems =
            Experiment::parse(&RING.text(0, entry.name, 1, MEAN), &[]).expect_err("no rows");
        assert_eq!(problems[0].key, "world.attack", "{}", entry.name);
        assert!(
            Experiment::parse(&RING.text(0, entry.name, 0, MEAN), &[]).is_ok(),
            "{}: nobody lies",
            entry.name
        );
    }
}

#[test]
fn an_attack_that_knows_its_own_only_does_not_depend_on_others() {
    let roster: Vec<PeerId> = (0..6).map(|peer| PeerId([peer; 32])).collect();
    let graph = Graph::new_undirected(6, (1..6).flat_map(|a| (0..a).map(move |b| (a, b))))
        .expect("everyone hears everyone");
    let (start, trained) = ([0.5, -0.5, 0.25], [1.0, 2.0, -1.0]);
    for entry in &ATTACKS {
        let told = |others: f32| {
            let rows: Vec<[f32; 3]> = (0..5)
                .map(|peer| [others, peer as f32 * others, 1.0 - others])
                .collect();
            let neighbours: Vec<(PeerId, &[f32])> = roster
                .iter()
                .copied()
                .zip(rows.iter().map(|row| &row[..]))
                .collect();
            let view = View {
                own: roster[5],
                round: 3,
                start: &start,
                trained: &trained,
                neighbours: &neighbours,
                roster: &roster,
                graph: &graph,
            };
            let attack = attack_from_text(entry.name).expect("a listed attack");
            Attacker::new(attack, None).publish(&view, &mut Seed::from_number(1).stream("test"))
        };
        match entry.new.knowledge {
            // Compared as text, since a NaN is not itself.
            Knowledge::Own => assert_eq!(
                format!("{:?}", told(0.5)),
                format!("{:?}", told(3.0)),
                "{}",
                entry.name
            ),
            _ => assert_ne!(told(0.5), told(3.0), "{}", entry.name),
        }
        let fits = |vector: &Vec<f32>| vector.len() == trained.len();
        assert!(
            match told(0.5) {
                Publication::Nothing => true,
                Publication::Same(vector) => fits(&vector),
                Publication::Each(vectors) => vectors.values().all(fits),
            },
            "{}: the model's dimension",
            entry.name
        );
    }
}

/// Four cells: without the attack and with it, without a defence and with one. It is refused by
/// name and never mixed, so that all four are as good as without; the same vector under its true
/// state breaks the mean.
#[test]
fn a_false_state_and_a_wrong_shape_are_refused_by_name_and_never_mixed() {
    let codecs = ["kind = \"identity\"", "kind = \"int8\"\nreplica = true"];
    let frauds = [
        ("false-state", "state-mismatch"),
        ("wrong-shape", "dimension"),
    ];
    for (codec, (attack, refusal)) in codecs
        .into_iter()
        .flat_map(|codec| frauds.map(|fraud| (codec, fraud)))
    {
        let world = Parabolas {
            peers: 9,
            rounds: 12,
            topology: "kind = \"complete\"",
            codec,
            spread: 0.5,
            learning_rate: 0.3,
        };
        for seed in SEEDS {
            for rule in [MEAN, DEFENCE] {
                let (clean, attacked) = (
                    world.run(seed, attack, 0, rule),
                    world.run(seed, attack, 2, rule),
                );
                let off = |outcome: &Outcome| outcome.optimum_distance.expect("known").max;
                assert!(
                    off(&clean) < 1.0 && off(&attacked) < 1.0,
                    "{codec} {seed}: {} and {}",
                    off(&clean),
                    off(&attacked)
                );
                // Seven honest peers refuse both liars' updates, but for those of the last rounds
                // that come when they are done.
                let refused = attacked.refused.get(refusal).copied().unwrap_or(0);
                assert!(
                    refused >= 7 * 2 * 10,
                    "{codec} {seed}: {:?}",
                    attacked.refused
                );
                assert!(clean.refused.is_empty(), "{:?}", clean.refused);
                assert!(
                    attacked
                        .round_rows
                        .iter()
                        .all(|row| row.filtered_liars.is_none()),
                    "{codec} {seed}: a liar was mixed"
                );
                let honest = attacked.peer_rows.iter().filter(|row| !row.lies);
                assert!(
                    honest.clone().all(|row| row.mixed == 6 && !row.by_deadline),
                    "{codec} {seed}: nobody waits for it"
                );
            }
            let told = world
                .run(seed, "sign-flip:10", 2, MEAN)
                .optimum_distance
                .expect("known")
                .max;
            assert!(
                told > 5.0,
                "{codec} {seed}: under its true state it would do harm: {told}"
            );
        }
    }
}

/// Four cells. Nothing that it sends is mixed but its own honest update, nobody is convicted, and
/// it is sent away.
#[test]
fn a_forged_header_convicts_nobody() {
    let codec = "kind = \"identity\"";
    let world = Parabolas {
        peers: 9,
        rounds: 12,
        topology: "kind = \"complete\"",
        codec,
        spread: 0.5,
        learning_rate: 0.3,
    };
    for seed in SEEDS {
        for rule in [MEAN, DEFENCE] {
            let (clean, attacked) = (
                world.run(seed, "forgery", 0, rule),
                world.run(seed, "forgery", 2, rule),
            );
            let off = |outcome: &Outcome| outcome.optimum_distance.expect("known").max;
            assert!(
                off(&clean) < 1.0 && off(&attacked) < 1.0,
                "{seed}: {} and {}",
                off(&clean),
                off(&attacked)
            );
            // Seven honest peers count five forgeries of each liar, then it is sent away.
            let refused = attacked.refused.get("signature").copied().unwrap_or(0);
            assert!(refused >= 7 * 2 * 5, "{seed}: {:?}", attacked.refused);
            assert!(
                clean.refused.is_empty() && attacked.convicted.is_empty(),
                "{:?}",
                attacked.convicted
            );
        }
    }
}

/// A liar that is far ahead of everybody: what is refused at the door before a round opens is not
/// waited for in that round.
#[test]
fn nobody_waits_for_what_was_refused_before_its_round() {
    const LINKS: &str =
        "[world.links]\nlatency_ms = 20\njitter = \"exponential\"\njitter_ms = 30\n";
    let codec = "kind = \"identity\"";
    let world = Parabolas {
        peers: 6,
        rounds: 12,
        topology: "kind = \"complete\"",
        codec,
        spread: 0.5,
        learning_rate: 0.3,
    };
    for seed in SEEDS {
        let text = world
            .text(seed, "wrong-shape", 0, MEAN)
            .replace("adversaries = 0", "liars = [3]");
        let outcome = run(&format!(
            "{text}\n[[world.special]]\npeers = [3]\nslowness = 0.001\n{LINKS}"
        ));
        assert!(
            outcome
                .peer_rows
                .iter()
                .filter(|row| !row.lies)
                .all(|row| !row.by_deadline && row.mixed == 4),
            "seed {seed}"
        );
        assert!(
            outcome.virtual_seconds < 5.0,
            "seed {seed}: {} s",
            outcome.virtual_seconds
        );
    }
}

/// Devices, lines and steps that are anything but alike, and liars so many times as slow as they
/// would be.
fn unlike_devices(slowness: f64, more: &str) -> Outcome {
    run(&format!(
        "[federation]\nname = \"last\"\nrounds = 6\n[topology]\nkind = \"complete\"\n[round]\ndeadline_seconds = 100000.0\n\
         [aggregation]\nrule = \"nnm+trimmed-mean\"\nbyzantine = 2\n[world]\npeers = 9\nliars = [1, 4]\nattack = \"ipm:3\"\n\
         [world.devices]\nspread = 0.7\njitter = 0.7\n[world.links]\njitter = \"exponential\"\njitter_ms = 40\n[world.trainer]\n\
         kind = \"quadratic\"\nlocal_steps = 3\n[[world.special]]\npeers = [1, 4]\nslowness = {slowness:?}\n{more}"
    ))
}

#[test]
fn what_omniscient_liars_know_does_not_depend_on_who_is_fast() {
    let distances = |outcome: &Outcome| {
        outcome
            .round_rows
            .iter()
            .map(|row| row.optimum_distance)
            .collect::<Vec<_>>()
    };
    let slow = unlike_devices(10_000.0, "");
    for slowness in [0.01, 1.0, 3.0] {
        let found = unlike_devices(slowness, "");
        assert_eq!(
            found.known_to_liars,
            Some(1.0),
            "liars {slowness} times as slow"
        );
        assert_eq!(
            distances(&found),
            distances(&slow),
            "liars {slowness} times as slow"
        );
    }
    // Some take more steps, one begins late.
    let unlike = "[[world.special]]\npeers = [0, 8]\nlocal_steps = 40\n[[world.special]]\npeers = [3]\nstarts_seconds = 20.0\n";
    assert_eq!(
        distances(&unlike_devices(1.0, unlike)),
        distances(&unlike_devices(10_000.0, unlike))
    );
    assert_eq!(
        run(&PARABOLAS_OF_ONE.text(0, "sign-flip", 1, MEAN)).known_to_liars,
        None,
        "it knows only itself"
    );
}

const PARABOLAS_OF_ONE: Parabolas = Parabolas {
    peers: 5,
    rounds: 4,
    topology: "kind = \"ring\"",
    codec: "",
    spread: 1.0,
    learning_rate: 0.5,
};

/// Who waits for a peer that does not come must still be heard itself.
#[test]
fn an_omniscient_liar_waits_for_a_straggler_no_longer_than_others_wait_for_it() {
    let outcome = run(
        "[federation]\nname = \"straggler\"\nrounds = 5\n[topology]\nkind = \"complete\"\n[round]\ndeadline_seconds = 10.0\n\
         [aggregation]\nrule = \"mean\"\n[world]\npeers = 5\nliars = [1]\nattack = \"ipm:3\"\n[world.trainer]\nkind = \"quadratic\"\n\
         [[world.special]]\npeers = [0]\nslowness = 100000.0\n",
    );
    let share = outcome.known_to_liars.expect("it is omniscient");
    assert!(
        share < 1.0,
        "the straggler's vectors came too late: {share}"
    );
    for row in outcome.peer_rows.iter().filter(|row| row.peer >= 2) {
        assert!(row.mixed >= 3, "the liar is in: {row:?}");
    }
}
