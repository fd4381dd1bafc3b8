//! What a run's tables say of mixing and of repeated sending, in worlds small enough to know it
//! beforehand.

mod running;

use kith_consensus::topology::Graph;
use kith_simulations::experiment::Outcome;
use running::run;

const RING: &str = r#"
[federation]
name = "measured"
rounds = 8
[topology]
kind = "ring"
[aggregation]
rule = "mean"
[world]
peers = 6
[world.trainer]
kind = "quadratic"
dimension = 4
"#;

fn gaps(outcome: &Outcome) -> Vec<f64> {
    outcome
        .round_rows
        .iter()
        .filter(|row| row.peers > 0)
        .map(|row| row.spectral_gap.expect("a small world's gap"))
        .collect()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// A path's own gap, with the weights that its edges have in the ring: what is left when one of six
/// is away.
fn broken_ring(peers: usize) -> f64 {
    let third = 1.0 / 3.0;
    let edges: Vec<Vec<(usize, f64)>> = (0..peers)
        .map(|from| {
            [from.wrapping_sub(1), from + 1]
                .into_iter()
                .filter(|to| *to < peers)
                .map(|to| (to, third))
                .collect()
        })
        .collect();
    Graph::new_directed(&edges)
        .expect("a path")
        .analyse()
        .spectral_gap
}

#[test]
fn a_round_in_which_everything_came_has_the_gap_of_its_graph() {
    let ring = Graph::new_undirected(6, (0..6).map(|peer| (peer, (peer + 1) % 6)))
        .unwrap()
        .analyse()
        .spectral_gap;
    let outcome = run(RING, &[]);
    assert_eq!(gaps(&outcome).len(), 8);
    assert!(
        gaps(&outcome).iter().all(|gap| close(*gap, ring)),
        "{:?}, expected {ring}",
        gaps(&outcome)
    );
    // The exponential graph whose edges take turns: each is a perfect matching of pairs, which
    // leaves the pairs apart.
    let turns = run(
        RING,
        &["topology.kind=one-peer-exponential", "world.peers=4"],
    );
    let graph = |hop: usize| {
        let edges: Vec<Vec<(usize, f64)>> =
            (0..4).map(|peer| vec![((peer + hop) % 4, 0.5)]).collect();
        Graph::new_directed(&edges).unwrap().analyse().spectral_gap
    };
    for (round, gap) in gaps(&turns).into_iter().enumerate() {
        assert!(close(gap, graph(1 << (round % 2))), "round {round}: {gap}");
    }
}

#[test]
fn who_is_away_and_what_a_rule_leaves_out_make_the_gap_smaller() {
    let complete = ["topology.kind=complete"];
    assert!(
        gaps(&run(RING, &complete))
            .iter()
            .all(|gap| close(*gap, 1.0))
    );
    let away = run(
        &format!(
            "{RING}[[world.fault]]\nkind = \"crash\"\npeer = 2\nforever = true\nat_seconds = 0.0\n"
        ),
        &complete,
    );
    // Everybody keeps the sixth of the one who is away.
    assert!(
        gaps(&away).iter().all(|gap| close(*gap, 5.0 / 6.0)),
        "{:?}",
        gaps(&away)
    );
    let (path, ring) = (broken_ring(5), gaps(&run(RING, &[]))[0]);
    // A liar counts no more than an absent peer, whatever the rule makes of it.
    let liar = run(RING, &["world.liars=[2]", "world.attack=sign-flip"]);
    assert!(
        gaps(&liar).iter().all(|gap| close(*gap, path)),
        "{:?}, expected {path}",
        gaps(&liar)
    );
    let krum = run(RING, &["aggregation.rule=krum"]);
    assert!(
        gaps(&krum).iter().all(|gap| *gap < ring),
        "who takes one model of three whole mixes less: {:?}",
        gaps(&krum)
    );
}

#[test]
fn only_what_goes_out_once_more_counts_as_retransmitted() {
    for mode in [
        &[][..],
        &["codec.kind=top-k"],
        // Two peers that dial each other at the same time get two connections, and say on the
        // second what may be lost with the first.
        &[
            "topology.kind=one-peer-exponential",
            "world.carrier.dialling=false",
        ],
    ] {
        let clear = run(RING, mode);
        assert_eq!(clear.bytes.retransmitted, Some(0), "{mode:?}");
        assert!(
            clear
                .peer_rows
                .iter()
                .all(|row| row.retransmitted_bytes == 0),
            "{mode:?}"
        );
    }
    let lossy = run(RING, &["world.links.loss=0.2"]);
    let sum = lossy.bytes.retransmitted.expect("a small world's");
    assert!(
        sum > 0 && sum < lossy.bytes.wire,
        "{sum} of {} bytes",
        lossy.bytes.wire
    );
    let by_round: u64 = lossy
        .round_rows
        .iter()
        .filter_map(|row| row.retransmitted_bytes)
        .sum();
    assert_eq!(by_round, sum);
}

#[test]
fn rounds_are_counted_alike_for_each_peer_and_for_all() {
    let outcome = run(RING, &[]);
    let of_peer: Vec<u64> = outcome
        .peer_rows
        .iter()
        .filter(|row| row.peer == 3)
        .map(|row| row.round)
        .collect();
    assert_eq!(of_peer, (1..=8).collect::<Vec<_>>());
    let of_all: Vec<u64> = outcome
        .round_rows
        .iter()
        .filter(|row| row.peers > 0)
        .map(|row| row.round)
        .collect();
    assert_eq!(of_all, of_peer);
}

#[test]
fn rounds_that_a_peer_left_out_are_counted() {
    let paused =
        "[[world.fault]]\nkind = \"pause\"\npeer = 2\nat_seconds = 0.01\nlasts_seconds = 0.15\n";
    let short = ["federation.rounds=60", "round.deadline_seconds=0.05"];
    let outcome = run(&format!("{RING}{paused}"), &short);
    let done = outcome.peer_rows.len() as u64;
    assert!(
        outcome.rounds_jumped > 0 && done + outcome.rounds_jumped == 6 * 60,
        "{done} and {}",
        outcome.rounds_jumped
    );
    assert_eq!(run(RING, &short).rounds_jumped, 0);
}
