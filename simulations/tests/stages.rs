//! Topologies whose rounds have stages: federated averaging with a server, and clusters with heads
//! that succeed each other.

mod running;

use kith_simulations::experiment::{Experiment, Outcome};
use kith_simulations::metrics::RoundRow;
use kith_simulations::simulator::Ended;
use running::{run, run_on};

/// Ten rounds of training, whatever lies between them.
const TRAINING: u64 = 10;

const BASE: &str = r#"
[federation]
name = "stages"
[world]
peers = 9
[world.trainer]
kind = "logistic"
learning_rate = 0.3
local_steps = 3
"#;

/// Run with `kind` so that peers train [`TRAINING`] times, of each period of `period` rounds in
/// one.
fn trained(kind: &str, period: u64, settings: &[&str]) -> (Outcome, Vec<RoundRow>) {
    let settings: Vec<String> = [
        format!("topology={kind}"),
        format!("federation.rounds={}", TRAINING * period),
    ]
    .into_iter()
    .chain(settings.iter().map(|setting| (*setting).to_owned()))
    .collect();
    let outcome = run(
        BASE,
        &settings.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let rows = outcome
        .round_rows
        .iter()
        .filter(|row| row.round > 0 && row.round % period == 0)
        .cloned()
        .collect();
    (outcome, rows)
}

const CENTRALISED: &str = "{ kind = \"centralised\" }";
const COMPLETE: &str = "{ kind = \"complete\" }";

/// In a complete graph everybody averages all models: what a server would send back.
#[test]
fn centralised_rounds_are_federated_averaging() {
    for settings in [
        &[][..],
        &["aggregation.momentum=0.5"],
        &["aggregation.rule=trimmed-mean", "aggregation.byzantine=2"],
    ] {
        let (central, rounds) = trained(CENTRALISED, 2, settings);
        let (complete, averaged) = trained(COMPLETE, 1, settings);
        assert_eq!((rounds.len(), averaged.len()), (10, 10));
        for (round, averaged) in rounds.iter().zip(&averaged) {
            assert_eq!(
                round.consensus_distance,
                Some(0.0),
                "everybody has the hub's model"
            );
            let (distance, expected) = (
                round.optimum_distance.expect("known"),
                averaged.optimum_distance.expect("known"),
            );
            assert!(
                (distance / expected - 1.0).abs() < 1e-6,
                "{settings:?}: {distance} and {expected}"
            );
        }
        assert_eq!((central.mixing_skipped, central.rounds_by_deadline), (0, 0));
        assert!(
            central.bytes.payload * 4 < complete.bytes.payload,
            "8 models up and 8 down, not 72"
        );
        // Only every other round trains.
        assert_eq!(
            central
                .round_rows
                .iter()
                .filter(|row| row.train_loss.is_some())
                .count(),
            10
        );
    }
}

/// Averaging within three equal clusters and among their heads is averaging over all, where
/// everybody takes the result.
#[test]
fn a_hierarchy_of_equal_clusters_averages_over_all() {
    let (_, rounds) = trained("{ kind = \"hierarchical\" }", 3, &[]);
    let (_, averaged) = trained(COMPLETE, 1, &[]);
    for (round, averaged) in rounds.iter().zip(&averaged) {
        assert_eq!(
            round.consensus_distance.map(|distance| distance < 1e-6),
            Some(true)
        );
        let (distance, expected) = (
            round.optimum_distance.expect("known"),
            averaged.optimum_distance.expect("known"),
        );
        assert!(
            (distance / expected - 1.0).abs() < 1e-5,
            "{distance} and {expected}"
        );
    }
}

#[test]
fn a_liar_among_the_leaves_is_filtered_at_the_hub() {
    let liar = [
        "world.liars=[4]",
        "world.attack=sign-flip:20",
        "world.trainer.spread=0.3",
    ];
    let distance = |rule: &[&str]| {
        let (outcome, _) = trained(CENTRALISED, 2, &[&liar[..], rule].concat());
        outcome.optimum_distance.expect("known").max
    };
    let poisoned = distance(&[]);
    for rule in ["krum", "trimmed-mean", "nnm+trimmed-mean"] {
        let rule = format!("aggregation.rule={rule}");
        let filtered = distance(&[&rule, "aggregation.byzantine=1"]);
        assert!(
            10.0 * filtered < poisoned,
            "{rule}: {filtered}, by the mean {poisoned}"
        );
    }
}

/// The hub may wait a whole deadline for a leaf that is gone; the others wait for the hub no less.
#[test]
fn a_lost_leaf_costs_the_others_nothing_and_a_lost_hub_costs_them_the_others() {
    let crash = "[[world.fault]]\nkind = \"crash\"\nforever = true\nat_seconds = 0.2\n";
    let text =
        |peer: usize| format!("{BASE}[world.devices]\nstep_ms = 100\n{crash}peer = {peer}\n");
    let settings = [
        "topology.kind=centralised",
        "federation.rounds=20",
        "round.deadline_seconds=3",
    ];
    let leaf = run(&text(5), &settings);
    let last = leaf.round_rows.last().expect("rounds");
    assert_eq!((last.peers, last.consensus_distance), (8, Some(0.0)));
    assert!(leaf.rounds_by_deadline >= 1, "the hub waited");
    let after = leaf
        .round_rows
        .iter()
        .filter(|row| row.round > 0 && row.round % 2 == 0);
    assert!(
        after
            .map(|row| row.consensus_distance)
            .all(|apart| apart == Some(0.0)),
        "no leaf has lost a round"
    );
    let hub = run(
        &text(0),
        &[&settings[..], &["round.neighbours_min=0"]].concat(),
    );
    assert!(
        hub.consensus_distance.expect("models") > 0.1,
        "everybody is alone"
    );
}

/// What is not in time is not adopted, and whatever is lost, repeated or late breaks no invariant.
#[test]
fn bad_links_and_restarts_break_no_invariant() {
    let links = [
        "world.links.loss=0.05",
        "world.links.duplication=0.1",
        "world.links.jitter=exponential",
        "world.links.jitter_ms=60",
        "world.links.reordering=true",
        "world.churn.crashes_per_hour=300",
        "world.churn.absence_seconds=3",
        "world.churn.until_seconds=40",
        "world.devices.step_ms=100",
        "round.deadline_seconds=2",
        "federation.rounds=30",
    ];
    for seed in 0..6 {
        let seed = format!("world.seed={seed}");
        for kind in ["centralised", "hierarchical"] {
            let kind = format!("topology.kind={kind}");
            let settings: Vec<&str> = links
                .iter()
                .copied()
                .chain([seed.as_str(), kind.as_str()])
                .collect();
            let first = run_on(0, BASE, &settings);
            assert_eq!(first.checks.failed, [], "{kind} {seed}");
            assert_eq!(
                first.trace,
                run_on(3, BASE, &settings).trace,
                "{kind} {seed}"
            );
        }
    }
}

/// With a replica codec a peer follows a sender only if it hears it in every round. Any other peer
/// pulls the sender's replica, even if the sender is in a later round by then.
#[test]
fn replicas_that_were_not_followed_can_be_had() {
    for kind in ["centralised", "hierarchical"] {
        for codec in [
            "{ kind = \"top-k\", share = 0.3 }",
            "{ kind = \"int8\", replica = true }",
        ] {
            let kind = format!("topology.kind={kind}");
            let codec = format!("codec={codec}");
            let outcome = run(
                BASE,
                &[
                    &kind,
                    &codec,
                    "federation.rounds=36",
                    "world.links.latency_ms=20",
                ],
            );
            assert_eq!(
                (outcome.rounds_by_deadline, outcome.mixing_skipped),
                (0, 0),
                "{kind} {codec}"
            );
            // Between a hub and its leaves nobody misses an update; keyframes are for those who are
            // new to a sender.
            assert_eq!(
                outcome.bytes.keyframes > 0,
                kind.ends_with("hierarchical"),
                "{kind} {codec}"
            );
        }
    }
}

// --- succession ---

const CLUSTERS: &str = r#"
[federation]
name = "succession"
rounds = 18
[topology]
kind = "hierarchical"
clusters = 3
[round]
deadline_seconds = 2
[world]
peers = 12
[world.trainer]
kind = "logistic"
learning_rate = 0.1
[world.devices]
step_ms = 300
[world.links]
latency_ms = 50
"#;

/// Who leads cluster `cluster` of [`CLUSTERS`] in `period`, best first.
fn heads(seed: u64, cluster: usize, period: u64) -> Vec<usize> {
    let settings = [
        kith_simulations::experiment::setting(&format!("world.seed={seed}"))
            .expect("a good setting"),
    ];
    let charter = Experiment::parse(CLUSTERS, &settings)
        .expect("an experiment")
        .charter;
    let back = charter.topology.graph(12, 3 * period + 2).expect("a graph");
    let members = 4 * cluster..4 * cluster + 4;
    let groups = members
        .clone()
        .filter_map(|member| back.alternatives(member).pop());
    groups.max_by_key(Vec::len).expect("a cluster has heads")
}

/// [`CLUSTERS`] with peers that crash at these times, for so long or for good. Their systems reset
/// their connections: a silent death costs others the time until pings show it.
fn with_crashes(seed: u64, crashes: &[(usize, f64)], back: Option<f64>, threads: usize) -> Outcome {
    let stays = back.map_or("forever = true".to_owned(), |seconds| {
        format!("lasts_seconds = {seconds}")
    });
    let crash = |(peer, at): &(usize, f64)| {
        format!("[[world.fault]]\nkind = \"crash\"\n{stays}\nat_seconds = {at}\npeer = {peer}\n")
    };
    let text = format!(
        "{CLUSTERS}{}",
        crashes.iter().map(crash).collect::<String>()
    );
    let settings = [
        format!("world.seed={seed}"),
        "world.carrier.silent_deaths=0".to_owned(),
    ];
    let settings = settings.each_ref().map(String::as_str);
    let outcome = run_on(threads, &text, &settings);
    assert_eq!(outcome.checks.failed, [], "seed {seed}, {crashes:?}");
    outcome
}

/// When each peer's round, counted from 0, closed.
fn closed(outcome: &Outcome, peer: usize, round: u64) -> f64 {
    let row = outcome
        .peer_rows
        .iter()
        .find(|row| (row.peer, row.round) == (peer, round + 1));
    row.expect("it went through it").virtual_seconds
}

/// How far apart those are that completed so many rounds.
fn apart(outcome: &Outcome, rounds: u64) -> f64 {
    outcome
        .round_rows
        .iter()
        .find(|row| row.round == rounds)
        .and_then(|row| row.consensus_distance)
        .expect("somebody did")
}

/// In the second period of several seeds the head of each cluster dies: while it trains; when it
/// has sent its update of round A and nothing else; when it has sent that of round B; that of round
/// C. All others end the period with one model.
#[test]
fn a_head_that_dies_costs_its_cluster_nothing() {
    for seed in 0..4 {
        let whole = with_crashes(seed, &[], None, 0);
        assert!(apart(&whole, 6) < 1e-6 && whole.rounds_by_deadline == 0);
        let cluster = seed as usize % 3;
        let head = heads(seed, cluster, 1)[0];
        let moments = [
            closed(&whole, head, 2) + 0.1,
            closed(&whole, head, 3) - 0.02,
            closed(&whole, head, 4) - 0.02,
            closed(&whole, head, 5) + 0.02,
        ];
        for (moment, at) in moments.into_iter().enumerate() {
            let outcome = with_crashes(seed, &[(head, at)], None, 0);
            let survivors = outcome
                .round_rows
                .iter()
                .find(|row| row.round == 6)
                .expect("a row")
                .peers;
            assert!(survivors >= 11, "seed {seed}, moment {moment}: {survivors}");
            assert!(
                apart(&outcome, 6) < 1e-6,
                "seed {seed}, moment {moment}: {} apart",
                apart(&outcome, 6)
            );
            assert!(
                apart(&outcome, 18) < 1e-6,
                "seed {seed}, moment {moment}: {} apart",
                apart(&outcome, 18)
            );
            assert_eq!(outcome.mixing_skipped, 0);
            // Its connections are down, so that its deputy's word is enough.
            let late = outcome
                .round_rows
                .iter()
                .filter(|row| row.round == 5 || row.round == 6);
            assert_eq!(
                late.map(|row| row.by_deadline).sum::<u64>(),
                0,
                "seed {seed}, moment {moment}"
            );
            let again = with_crashes(seed, &[(head, at)], None, 1);
            assert_eq!(
                (again.trace, again.trace),
                (
                    outcome.trace,
                    with_crashes(seed, &[(head, at)], None, 3).trace
                )
            );
            // It comes back, and is one of them again.
            let back = with_crashes(seed, &[(head, at)], Some(1.0), 0);
            assert_eq!(back.ended, Ended::Stopped);
            assert!(
                apart(&back, 18) < 1e-6,
                "seed {seed}, moment {moment}: {} apart",
                apart(&back, 18)
            );
        }
    }
}

#[test]
fn a_cluster_without_heads_goes_on_alone_and_is_back_in_the_next_period() {
    let mut tried = 0;
    for seed in 0..8 {
        let (now, next) = (heads(seed, 1, 1), heads(seed, 1, 2));
        if next.iter().all(|head| now.contains(head)) {
            continue; // the dead are drawn again
        }
        tried += 1;
        let whole = with_crashes(seed, &[], None, 0);
        let at = closed(&whole, now[0], 3) - 0.02;
        let outcome = with_crashes(seed, &[(now[0], at), (now[1], at)], None, 0);
        assert_eq!(
            outcome.round_rows.last().map(|row| (row.round, row.peers)),
            Some((18, 10))
        );
        assert!(
            apart(&outcome, 6) > 1e-3,
            "seed {seed}: alone, and {} apart",
            apart(&outcome, 6)
        );
        assert!(
            apart(&outcome, 9) < 1e-6,
            "seed {seed}: {} apart",
            apart(&outcome, 9)
        );
    }
    assert!(tried >= 4);
}

/// A head that is slow or cut off without its connections ending is waited for, and then its
/// deputy's model counts.
#[test]
fn a_head_that_says_nothing_is_waited_for_to_the_deadline() {
    for seed in 0..3 {
        let whole = with_crashes(seed, &[], None, 0);
        let head = heads(seed, 1, 1)[0];
        let at = closed(&whole, head, 3) - 0.02;
        let text = format!(
            "{CLUSTERS}[[world.fault]]\nkind = \"pause\"\nlasts_seconds = 30\nat_seconds = {at}\npeer = {head}\n"
        );
        let outcome = run_on(0, &text, &[&format!("world.seed={seed}")]);
        assert_eq!(
            (outcome.checks.failed.as_slice(), outcome.ended),
            (&[][..], Ended::Stopped)
        );
        assert!(outcome.rounds_by_deadline > 0);
        let others: Vec<_> = outcome
            .peer_rows
            .iter()
            .filter(|row| row.round == 6 && row.peer != head)
            .collect();
        assert_eq!(others.len(), 11);
        // Members of its cluster took the deputy's: they have one model with all others.
        let row = outcome
            .round_rows
            .iter()
            .find(|row| row.round == 9)
            .expect("a row");
        assert!(row.peers >= 11 && row.mixing_skipped == 0);
    }
}

/// One of sixteen lies: in its cluster, and, where it is a head, to the other heads.
#[test]
fn liars_are_filtered_within_clusters_and_among_heads() {
    let settings = |rule: &'static str| {
        vec![
            "world.peers=16",
            "topology.clusters=4",
            "federation.rounds=60",
            "world.attack=sign-flip:10",
            "world.trainer.spread=0.2",
            rule,
        ]
    };
    let distance = |settings: &[&str]| {
        run(CLUSTERS, settings)
            .optimum_distance
            .expect("known")
            .mean
    };
    let clean = distance(&settings("aggregation.rule=mean"));
    let mut attacked = settings("aggregation={ rule = \"trimmed-mean\", byzantine = 1 }");
    attacked.push("world.liars=[5]");
    let filtered = distance(&attacked);
    let mut poisoned = settings("aggregation.rule=mean");
    poisoned.push("world.liars=[5]");
    let poisoned = distance(&poisoned);
    println!("without liars {clean}, filtered {filtered}, poisoned {poisoned}");
    assert!(
        filtered < 1.1 * clean && poisoned > 1.2 * filtered,
        "{clean}, {filtered}, {poisoned}"
    );
}
