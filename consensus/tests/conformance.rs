//! What every entry of `RULES`, alone and after every pre-aggregator, and of `TOPOLOGIES` must hold to. A new entry is tested
//! as soon as it is listed.

#![allow(clippy::unwrap_used)] // helpers of tests count as tests

use std::sync::Arc;

use kith_consensus::aggregate::{Aggregate, AggregateError, Context, Contribution, PRE_AGGREGATORS, RULES, Rule, rule_from_text};
use kith_consensus::section::Document;
use kith_consensus::topology::{Graph, TOPOLOGIES, Topology, TopologySection, connected_together};
use kith_consensus::{Charter, PeerId, Seed, Stream};
use proptest::prelude::*;

/// Every rule alone and after every pre-aggregator.
fn names() -> Vec<String> {
    let alone = RULES.iter().map(|entry| entry.name.to_owned());
    let after = |pre: &'static str| RULES.iter().map(move |entry| format!("{pre}+{}", entry.name));
    alone.chain(PRE_AGGREGATORS.iter().flat_map(|entry| after(entry.name))).collect()
}

/// Rules that promise nothing against arbitrary models: the controls that show that a test can fail.
fn is_average(name: &str) -> bool {
    name.ends_with("mean") && !name.ends_with("trimmed-mean")
}

fn rule(name: &str, byzantine: usize, models: usize) -> Box<dyn Rule> {
    let weights = ("weights".to_owned(), format!("{:?}", vec![1.0; models]));
    let parameters = if name.ends_with("weighted-mean") { vec![weights] } else { Vec::new() };
    rule_from_text(name, byzantine, &parameters).unwrap()
}

fn sender(index: usize) -> PeerId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(index as u64).to_be_bytes());
    PeerId(key)
}

fn contributions(rows: &[Vec<f32>]) -> Vec<Contribution<'_>> {
    rows.iter().enumerate().map(|(index, row)| Contribution::of(sender(index), row)).collect()
}

fn aggregate(rule: &dyn Rule, rows: &[Vec<f32>]) -> Result<Aggregate, AggregateError> {
    rule.aggregate(&Context::offline(), &contributions(rows))
}

/// Rows within ±16 on a grid of 2⁻¹², so that moving them by whole numbers below 64 is exact in f32.
fn grid_rows(models: usize, values: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut stream = Seed::from_number(seed).stream("rows");
    let mut value = || stream.bounded(1 << 17) as f32 / 4096.0 - 16.0;
    (0..models).map(|_| (0..values).map(|_| value()).collect()).collect()
}

fn spread(rows: &[Vec<f32>]) -> f32 {
    let distance = |a: &Vec<f32>, b: &Vec<f32>| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
    rows.iter().flat_map(|a| rows.iter().map(move |b| distance(a, b))).fold(0.0, f32::max)
}

fn hull(rows: &[Vec<f32>], coordinate: usize) -> (f32, f32) {
    let column = || rows.iter().map(|row| row[coordinate]);
    (column().fold(f32::INFINITY, f32::min), column().fold(f32::NEG_INFINITY, f32::max))
}

fn is_in_hull(point: &[f32], rows: &[Vec<f32>]) -> bool {
    point.iter().enumerate().all(|(coordinate, value)| {
        let (low, high) = hull(rows, coordinate);
        (low..=high).contains(value)
    })
}

fn is_close(left: &[f32], right: &[f32], tolerance: f32) -> bool {
    left.iter().zip(right).all(|(left, right)| (left - right).abs() <= tolerance)
}

fn has_equal_scores(scores: &[f64]) -> bool {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.windows(2).any(|pair| pair[1] - pair[0] <= 1e-9 * pair[1])
}

/// What two runs of a rule on equal or moved rows may differ by. Results of magnitude below 128 are rounded once or, after
/// mixing, twice, by half of 2⁻¹⁷ each, in both runs. The geometric median may stop a step earlier in one of the two, a step
/// being 10⁻⁶ of the spread then.
fn tolerance(name: &str, rows: &[Vec<f32>]) -> f32 {
    let rounding = 2.0 * 2f32.powi(-17);
    if name.ends_with("geometric-median") { rounding + 4e-6 * spread(rows) } else { rounding }
}

/// (models, byzantine, values): enough models for every rule.
fn sizes() -> impl Strategy<Value = (usize, usize, usize)> {
    (0usize..=3, 0usize..=6, 1usize..=300).prop_map(|(byzantine, more, values)| (2 * byzantine + 3 + more, byzantine, values))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_of_arrival_changes_no_bit((models, byzantine, values) in sizes(), seed: u64) {
        let rows = grid_rows(models, values, seed);
        let mut arrived = contributions(&rows);
        Seed::from_number(seed).stream("arrival").shuffle(&mut arrived);
        arrived.sort_by_key(|contribution| contribution.sender);
        for name in names() {
            let rule = rule(&name, byzantine, models);
            let (first, second) = (aggregate(&*rule, &rows).unwrap(), rule.aggregate(&Context::offline(), &arrived).unwrap());
            prop_assert_eq!(first, second, "{}", name);
        }
    }

    #[test]
    fn who_sent_which_model_does_not_matter((models, byzantine, values) in sizes(), seed: u64) {
        let rows = grid_rows(models, values, seed);
        let mut order: Vec<usize> = (0..models).collect();
        Seed::from_number(seed).stream("senders").shuffle(&mut order);
        let exchanged: Vec<Vec<f32>> = order.iter().map(|index| rows[*index].clone()).collect();
        for name in names() {
            let rule = rule(&name, byzantine, models);
            let (first, second) = (aggregate(&*rule, &rows).unwrap(), aggregate(&*rule, &exchanged).unwrap());
            // Two models that are each other's nearest can have equal scores; then the lower sender wins, as it should.
            if name.ends_with("krum") && has_equal_scores(&first.scores) {
                continue;
            }
            prop_assert!(is_close(&first.parameters, &second.parameters, tolerance(&name, &rows)), "{}", name);
            // Equal values in a coordinate count for the lower sender: a place in one of `values` coordinates, seldom two.
            let ties = 2.5 / values as f64;
            for (place, index) in order.iter().enumerate() {
                prop_assert!((second.influence[place] - first.influence[*index]).abs() < 1e-3 + ties, "{}: influence", name);
            }
        }
    }

    #[test]
    fn moving_all_models_moves_the_result((models, byzantine, values) in sizes(), seed: u64, shift in -63i16..=63) {
        let rows = grid_rows(models, values, seed);
        let shift = f32::from(shift);
        let moved: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| value + shift).collect()).collect();
        for name in names() {
            let rule = rule(&name, byzantine, models);
            let first = aggregate(&*rule, &rows).unwrap();
            let back: Vec<f32> = aggregate(&*rule, &moved).unwrap().parameters.iter().map(|value| value - shift).collect();
            prop_assert!(is_close(&first.parameters, &back, tolerance(&name, &rows)), "{}", name);
        }
    }

    /// Powers of two scale every intermediate value exactly, so there is no tolerance.
    #[test]
    fn scaling_all_models_scales_the_result((models, byzantine, values) in sizes(), seed: u64, exponent in -20i32..=20) {
        let rows = grid_rows(models, values, seed);
        let factor = 2f32.powi(exponent);
        let scaled: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| value * factor).collect()).collect();
        for name in names() {
            let rule = rule(&name, byzantine, models);
            let (first, second) = (aggregate(&*rule, &rows).unwrap(), aggregate(&*rule, &scaled).unwrap());
            let first: Vec<f32> = first.parameters.iter().map(|value| value * factor).collect();
            prop_assert_eq!(first, second.parameters, "{}", name);
        }
    }

    #[test]
    fn results_stay_between_the_models((models, byzantine, values) in sizes(), seed: u64) {
        let rows = grid_rows(models, values, seed);
        for name in names() {
            let result = aggregate(&*rule(&name, byzantine, models), &rows).unwrap();
            prop_assert!(is_in_hull(&result.parameters, &rows), "{}", name);
        }
    }

    #[test]
    fn far_models_do_not_pull_a_robust_rule_and_do_pull_an_average(
        (models, byzantine, values) in sizes().prop_filter("attackers", |(_, byzantine, _)| *byzantine > 0),
        seed: u64,
    ) {
        let mut rows = grid_rows(models, values, seed);
        let mut stream = Seed::from_number(seed).stream("attack");
        let mut order: Vec<usize> = (0..models).collect();
        stream.shuffle(&mut order);
        let far = if stream.bounded(2) == 0 { 1e9 } else { -1e9 };
        let attackers = &order[..byzantine];
        attackers.iter().for_each(|attacker| rows[*attacker].fill(far));
        let honest: Vec<Vec<f32>> = order[byzantine..].iter().map(|index| rows[*index].clone()).collect();
        for name in names() {
            let result = aggregate(&*rule(&name, byzantine, models), &rows).unwrap();
            if is_average(&name) {
                prop_assert!(!is_in_hull(&result.parameters, &honest), "{} should be pulled away", name);
                continue;
            }
            if name == "geometric-median" {
                // Lopuhaä and Rousseeuw 1991: within 2(1 − α)/(1 − 2α) radii of any honest point, α = f/n.
                let share = byzantine as f32 / models as f32;
                let reach = 2.0 * (1.0 - share) / (1.0 - 2.0 * share) * spread(&honest);
                let distance = result.parameters.iter().zip(&honest[0]).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
                prop_assert!(distance <= reach, "{}: {} beyond {}", name, distance, reach);
            } else {
                prop_assert!(is_in_hull(&result.parameters, &honest), "{}", name);
            }
            if !name.contains('+') {
                prop_assert!(attackers.iter().all(|attacker| result.dropped().contains(attacker)), "{}: {:?}", name, result.influence);
            }
        }
    }

    #[test]
    fn influence_is_a_share_and_splits_contributions_into_kept_and_dropped((models, byzantine, values) in sizes(), seed: u64) {
        let rows = grid_rows(models, values, seed);
        for name in names() {
            let result = aggregate(&*rule(&name, byzantine, models), &rows).unwrap();
            prop_assert_eq!(result.influence.len(), models);
            prop_assert!((result.influence.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{}", name);
            prop_assert!(result.influence.iter().all(|share| *share >= 0.0), "{}", name);
            let mut all = [result.kept(), result.dropped()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..models).collect::<Vec<_>>());
            prop_assert!((0..models).all(|index| (0.0..=1.0).contains(&result.dropped_share(index))));
        }
    }

    /// Arbitrary bits as values, lengths that may differ, any number of models: an answer or a refusal, never a panic.
    #[test]
    fn nothing_that_peers_send_makes_a_rule_panic(
        bits in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..4), 0..9),
        same_length: bool,
        byzantine in 0usize..4,
    ) {
        let shortest = bits.iter().map(Vec::len).min().unwrap_or(0);
        let length = |row: &Vec<u32>| if same_length { shortest } else { row.len() };
        let rows: Vec<Vec<f32>> = bits.iter().map(|row| row[..length(row)].iter().map(|bits| f32::from_bits(*bits)).collect()).collect();
        for name in names() {
            if let Ok(result) = aggregate(&*rule(&name, byzantine, rows.len()), &rows) {
                prop_assert!(result.parameters.iter().all(|value| value.is_finite()), "{}: {:?}", name, result.parameters);
                prop_assert!((result.influence.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{}: {:?}", name, result.influence);
            }
        }
    }
}

#[test]
fn fewer_models_than_the_minimum_are_refused_by_every_rule() {
    for name in names() {
        for byzantine in 0..4 {
            let minimum = rule(&name, byzantine, 1).minimum();
            assert!(minimum > 2 * byzantine || (is_average(&name) && !name.contains('+')), "{name}");
            for models in 1..minimum {
                let rows = grid_rows(models, 3, 1);
                let error = aggregate(&*rule(&name, byzantine, models), &rows).unwrap_err();
                let expected = AggregateError::TooManyByzantine { rule: name.clone(), byzantine, needed: minimum, found: models };
                assert_eq!(error, expected);
            }
            assert!(aggregate(&*rule(&name, byzantine, minimum), &grid_rows(minimum, 3, 1)).is_ok(), "{name}");
        }
    }
}

#[test]
#[should_panic(expected = "strict order of their senders")]
fn contributions_out_of_order_are_our_own_error() {
    let rows = grid_rows(2, 3, 1);
    let mut unordered = contributions(&rows);
    unordered.swap(0, 1);
    let _ = rule("mean", 0, 2).aggregate(&Context::offline(), &unordered);
}

#[test]
fn a_charters_rule_leaves_broken_models_out_without_lowering_byzantine() {
    let mut document = Document::parse("[aggregation]\nrule = \"trimmed-mean\"\nbyzantine = 1").unwrap();
    let rule = document.section("aggregation", kith_consensus::aggregate::rule_from_section).unwrap();
    let mut rows = grid_rows(4, 2, 1);
    rows[2][1] = f32::NAN;
    let result = aggregate(&*rule, &rows).unwrap();
    assert_eq!((result.influence.len(), result.influence[2]), (4, 0.0));
    rows[0][0] = f32::INFINITY;
    assert_eq!(aggregate(&*rule, &rows).unwrap_err().code(), "too_many_byzantine");
}

#[test]
fn parameters_given_by_hand_are_checked_like_a_charters() {
    let parameters = |key: &str, value: &str| [(key.to_owned(), value.to_owned())];
    assert!(rule_from_text("krum", 1, &parameters("variant", "blanchard")).is_ok());
    let refused =
        |rule: &str, key: &str, value: &str| rule_from_text(rule, 1, &parameters(key, value)).unwrap_err()[0].to_string();
    assert_eq!(refused("median", "m", "3"), "aggregation.m: unknown key \"m\"; known: byzantine, rule");
    assert_eq!(refused("multi-krum", "m", "many"), "aggregation.m: expected an integer from 0 to 65535, found \"many\"");
    // A value stays one value.
    assert!(refused("krum", "variant", "'blanchard'\nm = 0").contains("unknown variant"));
}

#[test]
fn trimming_nothing_is_the_mean() {
    let rows = grid_rows(7, 500, 3);
    let (trimmed, mean) =
        (aggregate(&*rule("trimmed-mean", 0, 7), &rows).unwrap(), aggregate(&*rule("mean", 0, 7), &rows).unwrap());
    assert!(is_close(&trimmed.parameters, &mean.parameters, 2f32.powi(-19)));
}

/// ‖F − mean(S)‖² over the mean of ‖xᵢ − mean(S)‖² for the worst S of size n − f.
fn yardstick(result: &[f32], rows: &[Vec<f32>], byzantine: usize) -> f64 {
    let n = rows.len();
    let subsets = (0..1u32 << n).filter(|bits| bits.count_ones() as usize == n - byzantine);
    let ratio = |bits: u32| {
        let members: Vec<&Vec<f32>> = (0..n).filter(|row| bits >> row & 1 == 1).map(|row| &rows[row]).collect();
        let mean: Vec<f64> =
            (0..result.len()).map(|k| members.iter().map(|row| f64::from(row[k])).sum::<f64>() / members.len() as f64).collect();
        let square = |row: &[f32]| row.iter().zip(&mean).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>();
        let variance = members.iter().map(|row| square(row)).sum::<f64>() / members.len() as f64;
        // Equal honest models leave nothing to divide by; rounding to f32 does not count as robbery.
        square(result) / variance.max(1e-9)
    };
    subsets.map(ratio).fold(0.0, f64::max)
}

/// Random search for rows that break a rule: random starts, then the best change of one row to a random, a far or another's
/// value, kept when it makes things worse.
fn worst_yardstick(name: &str, models: usize, byzantine: usize, seed: u64) -> f64 {
    let rule = rule(name, byzantine, models);
    let score = |rows: &[Vec<f32>]| yardstick(&aggregate(&*rule, rows).unwrap().parameters, rows, byzantine);
    let mut stream = Seed::from_number(seed).stream("search");
    let normal_row = |scale: f64, stream: &mut Stream| (0..3).map(|_| (scale * stream.normal()) as f32).collect::<Vec<f32>>();
    let mut worst: f64 = 0.0;
    for _ in 0..10 {
        let mut rows: Vec<Vec<f32>> = (0..models).map(|_| normal_row(1.0, &mut stream)).collect();
        let mut best = score(&rows);
        for _ in 0..120 {
            let mut changed = rows.clone();
            let row = stream.bounded(models as u64) as usize;
            changed[row] = match stream.bounded(4) {
                0 => normal_row(1.0, &mut stream),
                1 => normal_row(10f64.powf(4.0 * stream.unit()), &mut stream),
                2 => rows[stream.bounded(models as u64) as usize].clone(),
                _ => rows[row].iter().zip(normal_row(0.1, &mut stream)).map(|(a, b)| a + b).collect(),
            };
            let found = score(&changed);
            if found > best {
                (rows, best) = (changed, found);
            }
        }
        worst = worst.max(best);
    }
    worst
}

/// Allouah et al. 2023, arXiv 2302.01772: table 1 for the rules alone, lemma 1 (8f/(n − f) · (κ + 1)) after mixing.
#[test]
fn random_search_does_not_break_the_published_robustness_and_breaks_the_mean() {
    for (models, byzantine) in [(5, 1), (7, 2)] {
        let ratio = byzantine as f64 / (models - 2 * byzantine) as f64;
        let alone = [
            ("trimmed-mean", 6.0 * ratio * (1.0 + ratio)),
            ("krum", 6.0 * (1.0 + ratio)),
            ("median", 4.0 * (1.0 + ratio).powi(2)),
            ("geometric-median", 4.0 * (1.0 + ratio).powi(2)),
        ];
        for (name, kappa) in alone {
            let found = worst_yardstick(name, models, byzantine, 1);
            assert!(found <= kappa, "{name} with n = {models}, f = {byzantine}: {found} is beyond {kappa}");
            let mixed = 8.0 * byzantine as f64 / (models - byzantine) as f64 * (kappa + 1.0);
            let found = worst_yardstick(&format!("nnm+{name}"), models, byzantine, 1);
            assert!(found <= mixed, "nnm+{name} with n = {models}, f = {byzantine}: {found} is beyond {mixed}");
        }
        let found = worst_yardstick("mean", models, byzantine, 1);
        assert!(found > 1000.0, "the search is too weak: the mean only reaches {found}");
    }
}

fn topologies() -> impl Iterator<Item = Box<dyn Topology>> {
    TOPOLOGIES.iter().map(|entry| Document::parse("").unwrap().section("topology", |section| (entry.new)(section)))
}

fn check_graph(graph: &Graph, kind: &str) {
    let peers = graph.peers();
    let matrix = graph.mixing_matrix();
    for (peer, row) in matrix.iter().enumerate() {
        let column: f64 = matrix.iter().map(|row| row[peer]).sum();
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{kind} over {peers}: row {peer}");
        assert!((column - 1.0).abs() < 1e-12, "{kind} over {peers}: column {peer}");
        assert!(row.iter().all(|weight| *weight >= 0.0), "{kind} over {peers}: row {peer}");
        for (other, weight) in row.iter().enumerate().filter(|(other, _)| *other != peer) {
            assert_eq!(*weight > 0.0, graph.receives_from(peer).contains(&other), "{kind} over {peers}");
            assert_eq!(*weight > 0.0, graph.sends_to(other).contains(&peer), "{kind} over {peers}");
            assert!(graph.is_directed() || *weight == matrix[other][peer], "{kind} over {peers}: not symmetric");
        }
    }
}

#[test]
fn mixing_matrices_are_doubly_stochastic_and_the_same_for_everyone() {
    for kind in topologies() {
        let mut existing = 0;
        for peers in 1..=33 {
            let seed = Seed::from_number(peers as u64);
            let graphs: Result<Vec<Graph>, _> = (0..kind.period(peers)).map(|round| kind.graph(peers, round, &seed)).collect();
            let Ok(graphs) = graphs else { continue };
            existing += 1;
            graphs.iter().for_each(|graph| check_graph(graph, kind.name()));
            assert!(connected_together(&graphs), "{} over {peers}", kind.name());
            assert_eq!(graphs[0], kind.graph(peers, 0, &seed).unwrap());
            let next_period = kind.graph(peers, kind.period(peers), &seed).unwrap();
            assert!(kind.is_random() || graphs[0] == next_period, "{} over {peers}", kind.name());
        }
        assert!(existing > 15, "{} exists for {existing} sizes only", kind.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_regular_graphs_are_simple_connected_and_regular_or_refused_with_a_reason(peers in 1usize..60, degree in 1usize..60, seed: u64) {
        let mut document = Document::parse(&format!("[topology]\ndegree = {degree}")).unwrap();
        let entry = TOPOLOGIES.iter().find(|entry| entry.name == "random-regular").unwrap();
        let kind = document.section("topology", |section| (entry.new)(section));
        let possible = degree < peers && peers * degree % 2 == 0 && (degree > 1 || peers == 2);
        match kind.graph(peers, 3, &Seed::from_number(seed)) {
            Ok(graph) => {
                prop_assert!(possible);
                check_graph(&graph, "random-regular");
                prop_assert!((0..peers).all(|peer| graph.sends_to(peer).len() == degree));
                prop_assert!(connected_together(std::slice::from_ref(&graph)));
                prop_assert_eq!(&graph, &kind.graph(peers, 3, &Seed::from_number(seed)).unwrap());
            }
            Err(error) => prop_assert!(!possible, "{}", error),
        }
    }
}

/// Two thirds of the draws of degree 2 fall into several cycles; those must be drawn again.
#[test]
fn random_graphs_of_degree_two_are_one_cycle() {
    let mut document = Document::parse("[topology]\ndegree = 2").unwrap();
    let entry = TOPOLOGIES.iter().find(|entry| entry.name == "random-regular").unwrap();
    let kind = document.section("topology", |section| (entry.new)(section));
    for seed in 0..20 {
        let graph = kind.graph(30, 0, &Seed::from_number(seed)).unwrap();
        assert!(connected_together(std::slice::from_ref(&graph)), "seed {seed}");
    }
}

/// Vertex connectivity by its definition: the smallest set of peers without which some other peer cannot reach another.
fn smallest_separator(graph: &Graph) -> usize {
    let n = graph.peers();
    let separates = |gone: u32| {
        let alive: Vec<usize> = (0..n).filter(|peer| gone >> peer & 1 == 0).collect();
        let place = |peer: &usize| alive.iter().position(|other| other == peer);
        let out_edges = |peer: &usize| graph.sends_to(*peer).iter().filter_map(place).map(|to| (to, 0.01)).collect();
        let rest = Graph::new_directed(&alive.iter().map(out_edges).collect::<Vec<_>>()).unwrap();
        !connected_together(std::slice::from_ref(&rest))
    };
    let sizes = (0..1u32 << n).filter(|gone| gone.count_ones() + 2 <= n as u32 && separates(*gone)).map(u32::count_ones);
    sizes.min().map_or(n - 1, |size| size as usize)
}

#[test]
fn vertex_connectivity_is_the_smallest_separator() {
    for seed in 0..200 {
        let mut stream = Seed::from_number(seed).stream("graph");
        let (peers, density) = (2 + stream.bounded(5) as usize, stream.unit().sqrt());
        let pairs: Vec<(usize, usize)> = (0..peers)
            .flat_map(|from| (0..peers).map(move |to| (from, to)))
            .filter(|(from, to)| from != to && stream.unit() < density)
            .collect();
        let undirected = Graph::new_undirected(peers, pairs.iter().copied()).unwrap();
        let out_edges = |from| pairs.iter().filter(|pair| pair.0 == from).map(|pair| (pair.1, 0.1)).collect();
        let directed = Graph::new_directed(&(0..peers).map(out_edges).collect::<Vec<_>>()).unwrap();
        for graph in [undirected, directed] {
            assert_eq!(graph.analyse().vertex_connectivity, smallest_separator(&graph), "seed {seed}: {graph:?}");
        }
    }
}

#[test]
fn redrawn_graphs_differ_and_fixed_ones_do_not() {
    for kind in topologies().filter(|kind| kind.is_random()) {
        let graph = |round, seed| kind.graph(30, round, &Seed::from_number(seed)).unwrap();
        assert_ne!(graph(0, 1), graph(1, 1), "{}", kind.name());
        assert_ne!(graph(0, 1), graph(0, 2), "{}", kind.name());
    }
}

fn topology_section(keys: &str) -> TopologySection {
    let mut document = Document::parse(&format!("[topology]\n{keys}")).unwrap();
    let section = document.section("topology", TopologySection::read);
    document.finish().unwrap();
    section
}

#[test]
fn rounds_with_the_same_graph_share_it() {
    let ring = topology_section("");
    assert!(Arc::ptr_eq(&ring.graph(9, 0).unwrap(), &ring.graph(9, 1_000_000).unwrap()));
    assert_eq!(ring.graph(5, 0).unwrap().peers(), 5);
    assert!(Arc::ptr_eq(&ring.graph(9, 0).unwrap(), &ring.graph(9, 7).unwrap()), "another size in between");
    let hops = topology_section("kind = \"one-peer-exponential\"");
    assert!(Arc::ptr_eq(&hops.graph(8, 1).unwrap(), &hops.graph(8, 4).unwrap()));
    assert_ne!(hops.graph(8, 1).unwrap(), hops.graph(8, 2).unwrap());
    let drawn = topology_section("kind = \"random-regular\"\nredraw_every = 2");
    let first = drawn.graph(10, 0).unwrap();
    assert!(Arc::ptr_eq(&first, &drawn.graph(10, 1).unwrap()));
    assert_ne!(first, drawn.graph(10, 2).unwrap());
    // What was forgotten is drawn again, equal.
    (0..200).for_each(|round| drop(drawn.graph(10, round).unwrap()));
    let again = drawn.graph(10, 0).unwrap();
    assert!(!Arc::ptr_eq(&first, &again));
    assert_eq!(first, again);
}

#[test]
fn topologies_of_many_peers_are_made_without_quadratic_work() {
    for kind in topologies().filter(|kind| kind.name() != "complete") {
        // Sizes that also the torus and the powers of two have; a quadratic step would take minutes here.
        let graph = kind.graph(1 << 16, 0, &Seed::from_number(1)).unwrap();
        assert_eq!(graph.peers(), 1 << 16, "{}", kind.name());
    }
    let open =
        "[federation]\nname = \"many\"\n[membership]\nmode = \"open\"\npeers = 20000\n[topology]\nkind = \"random-regular\"\n";
    let charter = Charter::resolve(&format!("{open}redraw_every = 1\nseed = 3"), &mut []).unwrap();
    assert_eq!(charter.topology.graph(20_000, 5).unwrap().edge_ends(), 80_000);
}

#[test]
fn graphs_beyond_any_memory_are_refused() {
    for kind in topologies().filter(|kind| ["complete", "random-regular"].contains(&kind.name())) {
        let error = kind.graph(10_000_000, 0, &Seed::from_number(0)).unwrap_err();
        assert!(error.to_string().contains("edge ends; at most"), "{error}");
    }
}

#[test]
fn a_graph_in_two_parts_is_told() {
    let parts = Graph::new_undirected(4, [(0, 1), (2, 3)]).unwrap();
    assert!(!connected_together(std::slice::from_ref(&parts)));
    let analysis = parts.analyse();
    assert_eq!((analysis.components, analysis.vertex_connectivity, analysis.diameter), (2, 0, None));
    assert_eq!((analysis.spectral_gap, analysis.rounds_to_consensus), (0.0, None));
    assert_eq!(Graph::new_undirected(0, []).unwrap().analyse().n, 0);
    // One way is not enough: nothing comes back from peer 1.
    let one_way = Graph::new_directed(&[vec![(1, 0.5)], vec![]]).unwrap();
    assert!(!connected_together(std::slice::from_ref(&one_way)));
    assert!(Graph::new_undirected(2, [(0, 2)]).is_err() && Graph::new_undirected(2, [(1, 1)]).is_err());
    assert!(Graph::new_directed(&[vec![(1, 0.7)], vec![], vec![(1, 0.7)]]).is_err());
}
