//! What every entry of `RULES`, alone and after every pre-aggregator, and of `TOPOLOGIES` must hold
//! to. A new entry is tested as soon as it is listed.

#![allow(clippy::unwrap_used)] // helpers of tests count as tests

use std::sync::Arc;

use kith_consensus::aggregate::{
    Aggregate, AggregateError, Context, Contribution, PRE_AGGREGATORS, RULES, Rule, rule_from_text,
};
use kith_consensus::section::Document;
use kith_consensus::topology::{
    Graph, PeriodAnalysis, TOPOLOGIES, Topology, TopologyError, TopologySection, connected_together,
};
use kith_consensus::{Charter, PeerId, Seed, Stream};
use proptest::prelude::*;

/// Every rule alone, after every pre-aggregator, and a few after two.
fn names() -> Vec<String> {
    let alone = RULES.iter().map(|entry| entry.name.to_owned());
    let after = |pre: &'static str| {
        RULES
            .iter()
            .map(move |entry| format!("{pre}+{}", entry.name))
    };
    let twice = [
        "arc+nnm+trimmed-mean",
        "bucketing+nnm+krum",
        "nnm+bucketing+nna",
    ]
    .map(str::to_owned);
    alone
        .chain(PRE_AGGREGATORS.iter().flat_map(|entry| after(entry.name)))
        .chain(twice)
        .collect()
}

/// The rule's own name, without what prepares its models.
fn last(name: &str) -> &str {
    name.rsplit('+').next().unwrap()
}

fn has_part(name: &str, part: &str) -> bool {
    name.split('+').any(|other| other == part)
}

/// Rules that promise nothing against arbitrary models: the controls that show that a test can
/// fail.
fn is_average(name: &str) -> bool {
    ["mean", "weighted-mean", "choco"].contains(&last(name))
}

/// Rules that trust the own model, and so need no majority around it.
fn trusts_itself(name: &str) -> bool {
    ["clipped-gossip", "balance", "fltrust", "ubar"].contains(&last(name))
}

/// Parts that shorten what they get.
fn clips(name: &str) -> bool {
    has_part(name, "static-clip") || has_part(name, "arc")
}

/// Mixed models differ by differences of models, of which some are the same: ties, which rounding
/// then decides.
fn is_tied_by_mixing(name: &str) -> bool {
    has_part(name, "nnm") && ["bulyan", "mda", "meamed"].contains(&last(name))
}

/// The length in keys that have one (`tau`, `clip_norm`).
const LENGTH: f64 = 10.0;

fn rule(name: &str, byzantine: usize, models: usize) -> Box<dyn Rule> {
    rule_of_length(name, byzantine, models, LENGTH)
}

fn rule_of_length(name: &str, byzantine: usize, models: usize, length: f64) -> Box<dyn Rule> {
    let mut parameters = Vec::new();
    let mut give = |part: &str, key: &str, value: String| {
        if has_part(name, part) {
            parameters.push((key.to_owned(), value));
        }
    };
    let rows = if has_part(name, "bucketing") {
        models.div_ceil(2)
    } else {
        models
    };
    give("weighted-mean", "weights", format!("{:?}", vec![1.0; rows]));
    give("centered-clipping", "tau", format!("{length:?}"));
    give("static-clip", "clip_norm", format!("{length:?}"));
    rule_from_text(name, byzantine, &parameters).unwrap()
}

/// Enough models for this rule, and some more.
fn models(name: &str, byzantine: usize, more: usize) -> usize {
    rule(name, byzantine, 1).minimum().max(2 * byzantine + 3) + more
}

fn sender(index: usize) -> PeerId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(index as u64).to_be_bytes());
    PeerId(key)
}

fn contributions(rows: &[Vec<f32>]) -> Vec<Contribution<'_>> {
    rows.iter()
        .enumerate()
        .map(|(index, row)| Contribution::of(sender(index), row))
        .collect()
}

/// What a peer knows beside the models. All of it moves and grows with them: the last aggregate is
/// their coordinate-wise median, and a loss is the square of the distance to it.
struct Known {
    own: usize,
    last_aggregate: Vec<f32>,
    losses: Vec<f64>,
}

impl Known {
    fn of(rows: &[Vec<f32>], own: usize) -> Known {
        let middle = |coordinate: usize| {
            let mut column: Vec<f32> = rows.iter().map(|row| row[coordinate]).collect();
            column.sort_by(f32::total_cmp);
            column[(column.len() - 1) / 2]
        };
        let last_aggregate: Vec<f32> = (0..rows[0].len()).map(middle).collect();
        let loss = |row: &Vec<f32>| {
            row.iter()
                .zip(&last_aggregate)
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum::<f64>()
        };
        let losses = rows.iter().map(loss).collect();
        Known {
            own,
            last_aggregate,
            losses,
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            own: Some(self.own),
            last_aggregate: Some(&self.last_aggregate),
            losses: Some(&self.losses),
            round: 3,
            rounds: 9,
            ..Context::offline()
        }
    }
}

/// At the peer that sent the first of the models.
fn aggregate(rule: &dyn Rule, rows: &[Vec<f32>]) -> Result<Aggregate, AggregateError> {
    aggregate_at(0, rule, rows)
}

fn aggregate_at(
    own: usize,
    rule: &dyn Rule,
    rows: &[Vec<f32>],
) -> Result<Aggregate, AggregateError> {
    rule.aggregate(&Known::of(rows, own).context(), &contributions(rows))
}

/// Rows within ±16 on a grid of 2⁻¹², so that moving them by whole numbers below 64 is exact in
/// f32.
fn grid_rows(models: usize, values: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut stream = Seed::from_number(seed).stream("rows");
    let mut value = || stream.bounded(1 << 17) as f32 / 4096.0 - 16.0;
    (0..models)
        .map(|_| (0..values).map(|_| value()).collect())
        .collect()
}

fn spread(rows: &[Vec<f32>]) -> f32 {
    let distance = |a: &Vec<f32>, b: &Vec<f32>| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f32>()
            .sqrt()
    };
    rows.iter()
        .flat_map(|a| rows.iter().map(move |b| distance(a, b)))
        .fold(0.0, f32::max)
}

fn hull(rows: &[Vec<f32>], coordinate: usize) -> (f32, f32) {
    let column = || rows.iter().map(|row| row[coordinate]);
    (
        column().fold(f32::INFINITY, f32::min),
        column().fold(f32::NEG_INFINITY, f32::max),
    )
}

fn is_in_hull(point: &[f32], rows: &[Vec<f32>]) -> bool {
    point.iter().enumerate().all(|(coordinate, value)| {
        let (low, high) = hull(rows, coordinate);
        (low..=high).contains(value)
    })
}

fn is_close(left: &[f32], right: &[f32], tolerance: f32) -> bool {
    left.iter()
        .zip(right)
        .all(|(left, right)| (left - right).abs() <= tolerance)
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// Whether in some coordinate the last value that counts and the first that does not are equally
/// far from the median.
fn has_tie_around_median(rows: &[Vec<f32>], byzantine: usize) -> bool {
    (0..rows[0].len()).any(|coordinate| {
        let mut column: Vec<f64> = rows.iter().map(|row| f64::from(row[coordinate])).collect();
        column.sort_by(f64::total_cmp);
        let median = (column[(column.len() - 1) / 2] + column[column.len() / 2]) / 2.0;
        let mut distances: Vec<f64> = column.iter().map(|value| (value - median).abs()).collect();
        distances.sort_by(f64::total_cmp);
        byzantine > 0
            && distances[column.len() - byzantine - 1] == distances[column.len() - byzantine]
    })
}

/// Whether rounding may decide which model has the best score. Distances between rows on a grid are
/// exact, and distances between averages are not.
fn has_equal_scores(name: &str, scores: &[f64]) -> bool {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let is_mixed = has_part(name, "nnm") || has_part(name, "bucketing");
    let equal = if is_mixed { 1e-5 } else { 1e-9 };
    sorted
        .windows(2)
        .any(|pair| pair[1] - pair[0] <= equal * pair[1])
}

/// What two runs of a rule on equal or moved rows may differ by. Results of magnitude below 128 are
/// rounded once or, after mixing, twice, by half of 2⁻¹⁷ each, in both runs. The geometric median
/// may stop a step earlier in one of the two, a step being 10⁻⁶ of the spread then.
fn tolerance(name: &str, rows: &[Vec<f32>]) -> f32 {
    let rounding = 2.0 * 2f32.powi(-17);
    match last(name) {
        "geometric-median" => rounding + 4e-6 * spread(rows),
        // One value of it can be as large as the own norm, up to 16 √300.
        "fltrust" => 4.0 * rounding,
        _ => rounding,
    }
}

/// (models beyond what a rule needs, byzantine, values).
fn sizes() -> impl Strategy<Value = (usize, usize, usize)> {
    (0usize..=6, 0usize..=3, 1usize..=300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_of_arrival_changes_no_bit((more, byzantine, values) in sizes(), seed: u64) {
        for name in names() {
            let models = models(&name, byzantine, more);
            let rows = grid_rows(models, values, seed);
            let mut arrived = contributions(&rows);
            Seed::from_number(seed).stream("arrival").shuffle(&mut arrived);
            arrived.sort_by_key(|contribution| contribution.sender);
            let rule = rule(&name, byzantine, models);
            let known = Known::of(&rows, 0);
            let (first, second) = (aggregate(&*rule, &rows).unwrap(), rule.aggregate(&known.context(), &arrived).unwrap());
            prop_assert_eq!(first, second, "{}", name);
        }
    }

    #[test]
    fn who_sent_which_model_does_not_matter((more, byzantine, values) in sizes(), seed: u64) {
        for name in names() {
            // Buckets are filled by number. The picks of Bulyan and the subsets of MDA are tied as
            // soon as two models are each other's nearest, or two subsets hold the same farthest
            // pair; then the lower sender wins, as it should.
            if has_part(&name, "bucketing") || ["bulyan", "mda"].contains(&last(&name)) {
                continue;
            }
            // What was clipped to one length is tied in length, and a single value in all.
            let is_tied = match last(&name) {
                "cge" => clips(&name),
                "ubar" => clips(&name) && values == 1,
                _ => false,
            };
            if is_tied || is_tied_by_mixing(&name) {
                continue;
            }
            let models = models(&name, byzantine, more);
            let rows = grid_rows(models, values, seed);
            let mut order: Vec<usize> = (0..models).collect();
            Seed::from_number(seed).stream("senders").shuffle(&mut order);
            let exchanged: Vec<Vec<f32>> = order.iter().map(|index| rows[*index].clone()).collect();
            let own = order.iter().position(|index| *index == 0).unwrap();
            let rule = rule(&name, byzantine, models);
            let (first, second) = (aggregate(&*rule, &rows).unwrap(), aggregate_at(own, &*rule, &exchanged).unwrap());
            if last(&name).ends_with("krum") && has_equal_scores(&name, &first.scores) {
                continue;
            }
            if last(&name) == "meamed" && has_tie_around_median(&rows, byzantine) {
                continue;
            }
            prop_assert!(is_close(&first.parameters, &second.parameters, tolerance(&name, &rows)), "{}", name);
            // Equal values in a coordinate count for the lower sender: a place in one of `values`
            // coordinates, seldom two.
            let ties = 2.5 / values as f64;
            for (place, index) in order.iter().enumerate() {
                prop_assert!((second.influence[place] - first.influence[*index]).abs() < 1e-3 + ties, "{}: influence", name);
            }
        }
    }

    #[test]
    fn moving_all_models_moves_the_result((more, byzantine, values) in sizes(), seed: u64, shift in -63i16..=63) {
        for name in names() {
            // These measure from zero.
            if clips(&name) || ["cge", "fltrust", "balance"].contains(&last(&name)) {
                continue;
            }
            if is_tied_by_mixing(&name) {
                continue;
            }
            let models = models(&name, byzantine, more);
            let rows = grid_rows(models, values, seed);
            let shift = f32::from(shift);
            let moved: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| value + shift).collect()).collect();
            let rule = rule(&name, byzantine, models);
            let first = aggregate(&*rule, &rows).unwrap();
            if last(&name).ends_with("krum") && has_equal_scores(&name, &first.scores) {
                continue;
            }
            let back: Vec<f32> = aggregate(&*rule, &moved).unwrap().parameters.iter().map(|value| value - shift).collect();
            prop_assert!(is_close(&first.parameters, &back, tolerance(&name, &rows)), "{}", name);
        }
    }

    /// Powers of two scale every intermediate value exactly, so there is no tolerance. Lengths
    /// among the parameters grow too.
    #[test]
    fn scaling_all_models_scales_the_result((more, byzantine, values) in sizes(), seed: u64, exponent in -20i32..=20) {
        for name in names() {
            let models = models(&name, byzantine, more);
            let rows = grid_rows(models, values, seed);
            let factor = 2f32.powi(exponent);
            let scaled: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| value * factor).collect()).collect();
            let grown = rule_of_length(&name, byzantine, models, LENGTH * f64::from(factor));
            let first = aggregate(&*rule(&name, byzantine, models), &rows).unwrap();
            let second = aggregate(&*grown, &scaled).unwrap();
            let first: Vec<f32> = first.parameters.iter().map(|value| value * factor).collect();
            prop_assert_eq!(first, second.parameters, "{}", name);
        }
    }

    #[test]
    fn results_stay_between_the_models((more, byzantine, values) in sizes(), seed: u64) {
        for name in names() {
            let models = models(&name, byzantine, more);
            let mut rows = grid_rows(models, values, seed);
            let result = aggregate(&*rule(&name, byzantine, models), &rows).unwrap();
            if last(&name) == "fltrust" {
                let longest = rows.iter().map(|row| norm(row)).fold(0.0, f32::max);
                prop_assert!(norm(&result.parameters) <= longest * 1.001, "{}", name);
                continue;
            }
            if clips(&name) {
                rows.push(vec![0.0; values]);
            }
            prop_assert!(is_in_hull(&result.parameters, &rows), "{}", name);
        }
    }

    #[test]
    fn who_says_so_stays_in_the_honest_range_whatever_the_others_are(
        (more, byzantine, values) in sizes(), seed: u64, reach in 0.5f32..4.0,
    ) {
        for name in names() {
            let models = models(&name, byzantine, more);
            let rule = rule(&name, byzantine, models);
            prop_assert_eq!(rule.stays_in_honest_range(), ["median", "trimmed-mean", "bridge"].contains(&name.as_str()), "{}", name);
            if !rule.stays_in_honest_range() {
                continue;
            }
            // Just within the honest spread, just beyond it, or far.
            let mut rows = grid_rows(models, values, seed);
            let mut order: Vec<usize> = (0..models).collect();
            Seed::from_number(seed).stream("attack").shuffle(&mut order);
            order[..byzantine].iter().for_each(|attacker| rows[*attacker].iter_mut().for_each(|value| *value *= reach));
            let honest: Vec<Vec<f32>> = order[byzantine..].iter().map(|index| rows[*index].clone()).collect();
            let result = aggregate_at(order[byzantine], &*rule, &rows).unwrap();
            prop_assert!(is_in_hull(&result.parameters, &honest), "{}", name);
        }
    }

    #[test]
    fn far_models_do_not_pull_a_robust_rule_and_do_pull_an_average(
        (more, byzantine, values) in sizes().prop_filter("attackers", |(_, byzantine, _)| *byzantine > 0),
        seed: u64,
    ) {
        for name in names() {
            let models = models(&name, byzantine, more);
            let mut rows = grid_rows(models, values, seed);
            let mut stream = Seed::from_number(seed).stream("attack");
            let mut order: Vec<usize> = (0..models).collect();
            stream.shuffle(&mut order);
            let far = if stream.bounded(2) == 0 { 1e9 } else { -1e9 };
            let (attackers, own) = (&order[..byzantine], order[byzantine]);
            attackers.iter().for_each(|attacker| rows[*attacker].fill(far));
            let honest: Vec<Vec<f32>> = order[byzantine..].iter().map(|index| rows[*index].clone()).collect();
            let result = aggregate_at(own, &*rule(&name, byzantine, models), &rows).unwrap();
            let share = byzantine as f32 / models as f32;
            let longest = honest.iter().map(|row| norm(row)).fold(0.0, f32::max);
            if clips(&name) || last(&name) == "fltrust" {
                // Nobody is longer than the longest honest model or than a given length, and what is
                // made of them no longer than that; centered clipping starts from a median, whose norm
                // is at most that of all coordinates' largest values.
                let reach = if has_part(&name, "static-clip") { longest.max(LENGTH as f32) } else { longest };
                let reach = if last(&name) == "centered-clipping" { 16.0 * (values as f32).sqrt() } else { reach };
                prop_assert!(norm(&result.parameters) <= reach * 1.001, "{}: {}", name, norm(&result.parameters));
                continue;
            }
            if is_average(&name) {
                prop_assert!(!is_in_hull(&result.parameters, &honest), "{} should be pulled away", name);
                continue;
            }
            let beyond = match last(&name) {
                // Each of three steps takes f models in, none farther than tau / n.
                "centered-clipping" => Some(3.0 * LENGTH as f32 * byzantine as f32 / models.div_ceil(2) as f32),
                // Nobody pulls farther than the farthest honest neighbour.
                "clipped-gossip" => Some(2.0 * share * spread(&honest)),
                _ => None,
            };
            if last(&name) == "geometric-median" && !has_part(&name, "nnm") {
                // Lopuhaä and Rousseeuw 1991: within 2(1 − α)/(1 − 2α) radii of any honest point, α
                // the share of bad rows.
                let rows = if has_part(&name, "bucketing") { models.div_ceil(2) } else { models };
                let share = byzantine as f32 / rows as f32;
                let reach = 2.0 * (1.0 - share) / (1.0 - 2.0 * share) * spread(&honest);
                let distance = result.parameters.iter().zip(&honest[0]).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
                prop_assert!(distance <= reach, "{}: {} beyond {}", name, distance, reach);
            } else if let Some(beyond) = beyond {
                let is_near = result.parameters.iter().enumerate().all(|(coordinate, value)| {
                    let (low, high) = hull(&honest, coordinate);
                    (low - beyond..=high + beyond).contains(value)
                });
                prop_assert!(is_near, "{}: {:?} is more than {} beyond", name, result.parameters, beyond);
            } else {
                prop_assert!(is_in_hull(&result.parameters, &honest), "{}", name);
            }
            if !name.contains('+') {
                prop_assert!(attackers.iter().all(|attacker| result.dropped().contains(attacker)), "{}: {:?}", name, result.influence);
            }
        }
    }

    #[test]
    fn influence_is_a_share_and_splits_contributions_into_kept_and_dropped((more, byzantine, values) in sizes(), seed: u64) {
        for name in names() {
            let models = models(&name, byzantine, more);
            let rows = grid_rows(models, values, seed);
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

    /// Arbitrary bits as values, lengths that may differ, any number of models: an answer or a
    /// refusal, never a panic.
    #[test]
    fn nothing_that_peers_send_makes_a_rule_panic(
        bits in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..4), 0..9),
        same_length: bool,
        byzantine in 0usize..4,
    ) {
        let shortest = bits.iter().map(Vec::len).min().unwrap_or(0);
        let length = |row: &Vec<u32>| if same_length { shortest } else { row.len() };
        let rows: Vec<Vec<f32>> = bits.iter().map(|row| row[..length(row)].iter().map(|bits| f32::from_bits(*bits)).collect()).collect();
        let losses: Vec<f64> = rows.iter().map(|row| row.first().map_or(0.0, |value| f64::from(*value))).collect();
        let at_a_peer = Context { own: Some(0), losses: Some(&losses), ..Context::offline() };
        for name in names() {
            for context in [Context::offline(), at_a_peer] {
                if let Ok(result) = rule(&name, byzantine, rows.len()).aggregate(&context, &contributions(&rows)) {
                    prop_assert!(result.parameters.iter().all(|value| value.is_finite()), "{}: {:?}", name, result.parameters);
                    prop_assert!((result.influence.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{}: {:?}", name, result.influence);
                }
            }
        }
    }
}

#[test]
fn fewer_models_than_the_minimum_are_refused_by_every_rule() {
    for name in names() {
        for byzantine in 0..4 {
            let minimum = rule(&name, byzantine, 1).minimum();
            let majority = minimum > 2 * byzantine || (trusts_itself(&name) && minimum > byzantine);
            assert!(majority || is_average(&name), "{name}");
            for models in 1..minimum {
                let rows = grid_rows(models, 3, 1);
                let error = aggregate(&*rule(&name, byzantine, models), &rows).unwrap_err();
                let expected = AggregateError::TooManyByzantine {
                    rule: name.clone(),
                    byzantine,
                    needed: minimum,
                    found: models,
                };
                assert_eq!(error, expected);
            }
            assert!(
                aggregate(&*rule(&name, byzantine, minimum), &grid_rows(minimum, 3, 1)).is_ok(),
                "{name}"
            );
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
    let mut document =
        Document::parse("[aggregation]\nrule = \"trimmed-mean\"\nbyzantine = 1").unwrap();
    let rule = document
        .section("aggregation", kith_consensus::aggregate::rule_from_section)
        .unwrap();
    let mut rows = grid_rows(4, 2, 1);
    rows[2][1] = f32::NAN;
    let result = aggregate(&*rule, &rows).unwrap();
    assert_eq!((result.influence.len(), result.influence[2]), (4, 0.0));
    rows[0][0] = f32::INFINITY;
    assert_eq!(
        aggregate(&*rule, &rows).unwrap_err().code(),
        "too_many_byzantine"
    );
}

#[test]
fn parameters_given_by_hand_are_checked_like_a_charters() {
    let parameters = |key: &str, value: &str| [(key.to_owned(), value.to_owned())];
    assert!(rule_from_text("krum", 1, &parameters("variant", "blanchard")).is_ok());
    let refused = |rule: &str, key: &str, value: &str| {
        rule_from_text(rule, 1, &parameters(key, value)).unwrap_err()[0].to_string()
    };
    assert_eq!(
        refused("median", "m", "3"),
        "aggregation.m: unknown key \"m\"; known: byzantine, rule"
    );
    assert_eq!(
        refused("multi-krum", "m", "many"),
        "aggregation.m: expected an integer from 0 to 65535, found \"many\""
    );
    // A value stays one value.
    assert!(refused("krum", "variant", "'blanchard'\nm = 0").contains("unknown variant"));
}

#[test]
fn a_rule_without_what_it_needs_says_so() {
    let rows = grid_rows(9, 3, 1);
    let known = Known::of(&rows, 0);
    for name in names() {
        let rule = rule(&name, 1, 9);
        let code = |context: Context<'_>| {
            rule.aggregate(&context, &contributions(&rows))
                .map(|_| ())
                .map_err(|error| error.code())
        };
        let expected = |needed: bool, found: Result<(), &'static str>| match (needed, found) {
            (true, Err("missing")) | (false, Ok(())) => {}
            // Nine models are too few for it.
            (_, Err("too_many_byzantine")) => assert!(rule.minimum() > 9, "{name}"),
            other => panic!("{name}: {other:?}"),
        };
        expected(
            rule.needs_own(),
            code(Context {
                own: None,
                ..known.context()
            }),
        );
        expected(
            rule.needs_losses(),
            code(Context {
                losses: None,
                ..known.context()
            }),
        );
        expected(false, code(known.context()));
    }
    // An own model that is not finite is none.
    let mut broken = rows.clone();
    broken[0][1] = f32::NAN;
    assert_eq!(
        aggregate(&*rule("nna", 1, 9), &broken).unwrap_err().code(),
        "missing"
    );
}

#[test]
fn what_a_rule_needs_is_told_through_everything_before_it() {
    let needs = |name: &str| {
        let rule = rule(name, 0, 5);
        (
            rule.needs_own(),
            rule.needs_losses(),
            rule.needs_updates(),
            rule.needs_models(),
            rule.uses_weights(),
        )
    };
    assert_eq!(
        needs("nnm+bucketing+mean"),
        (false, false, false, false, true)
    );
    assert_eq!(
        needs("nnm+clipped-gossip"),
        (true, false, false, false, true)
    );
    assert_eq!(needs("bucketing+ubar"), (true, true, false, true, false));
    assert_eq!(
        needs("arc+nnm+trimmed-mean"),
        (false, false, true, false, false)
    );
    assert_eq!(
        needs("nnm+static-clip+median"),
        (false, false, true, false, false)
    );
    assert_eq!(needs("nnm+fltrust"), (true, false, true, false, false));
    assert_eq!(needs("bucketing+cge"), (false, false, true, false, false));
    assert_eq!(needs("nnm+balance"), (true, false, false, true, false));
}

/// The longest update is clipped to the longest of the others, which is nothing.
#[test]
fn an_update_clipped_to_nothing_still_has_a_share() {
    for name in [
        "arc+mean",
        "nnm+arc+mean",
        "arc+nnm+mean",
        "arc+clipped-gossip",
    ] {
        let result = aggregate(&*rule(name, 1, 3), &[vec![0.0f32], vec![0.0], vec![5.0]]).unwrap();
        assert!(
            (result.influence.iter().sum::<f64>() - 1.0).abs() < 1e-12,
            "{name}: {:?}",
            result.influence
        );
        assert!(result.parameters[0].abs() <= 2.5, "{name}");
    }
}

#[test]
fn buckets_are_drawn_anew_each_round_and_leave_the_own_model_alone() {
    let rows: Vec<Vec<f32>> = (0..9).map(|row| vec![2f32.powi(row)]).collect();
    let entry = PRE_AGGREGATORS
        .iter()
        .find(|entry| entry.name == "bucketing")
        .unwrap();
    let pre = Document::parse("")
        .unwrap()
        .section("aggregation", |section| (entry.new)(section, 1));
    let made = |round, own| {
        pre.apply(
            &Context {
                round,
                own,
                ..Context::offline()
            },
            &contributions(&rows),
        )
        .unwrap()
    };
    assert_eq!(made(1, None).len(), 5);
    assert_eq!(made(1, None), made(1, None));
    assert_ne!(made(1, None), made(2, None));
    let at_a_peer = made(1, Some(4));
    assert_eq!((at_a_peer.len(), &at_a_peer[0]), (5, &rows[4]));
    // The sizes of the buckets times their means are all models.
    let total: f32 = at_a_peer[0][0] + at_a_peer[1..].iter().map(|mean| 2.0 * mean[0]).sum::<f32>();
    assert_eq!(total, 511.0);
    // The rule knows its own model among the buckets: it and one of two zeros.
    let result = aggregate_at(
        4,
        &*rule("bucketing+nna", 1, 5),
        &[vec![0.0f32], vec![0.0], vec![0.0], vec![0.0], vec![100.0]],
    )
    .unwrap();
    assert_eq!((result.parameters[0], result.influence[4]), (50.0, 0.5));
    // Ten models make five buckets of two, enough for f = 2 but not for f = 3.
    assert_eq!(rule("bucketing+median", 2, 9).minimum(), 9);
}

#[test]
fn choco_steps_among_replicas_from_the_exact_model() {
    let rows = [vec![1.0f32, 0.0], vec![3.0, 4.0], vec![5.0, -4.0]];
    let step = |own_public| {
        let rule =
            rule_from_text("choco", 0, &[("step_size".to_owned(), "0.5".to_owned())]).unwrap();
        let context = Context {
            own: Some(0),
            own_public,
            ..Context::offline()
        };
        rule.aggregate(&context, &contributions(&rows)).unwrap()
    };
    // x + ½ · ((3, 4) + (5, −4) − 2 x̂) / 3
    assert!(is_close(&step(None).parameters, &[2.0, 0.0], 1e-6));
    assert!(is_close(
        &step(Some(&[4.0, 3.0])).parameters,
        &[1.0, -1.0],
        1e-6
    ));
    assert_eq!(
        step(None)
            .influence
            .iter()
            .map(|share| (share * 6.0).round())
            .collect::<Vec<_>>(),
        [4.0, 1.0, 1.0]
    );
}

#[test]
fn adaptive_clipped_gossip_lets_one_honest_neighbour_pull_in_full() {
    let rows = [vec![0.0f32], vec![1.0], vec![4.0], vec![1000.0]];
    let result = aggregate(&*rule("clipped-gossip", 1, 4), &rows).unwrap();
    // tau is the second largest distance, 4: a quarter of 1 + 4 + 4.
    assert!(
        is_close(&result.parameters, &[2.25], 1e-6),
        "{:?}",
        result.parameters
    );
}

#[test]
fn nearest_neighbour_averaging_never_leaves_the_own_model_out() {
    let result = aggregate_at(
        2,
        &*rule("nna", 1, 3),
        &[vec![5.0f32], vec![5.0], vec![5.0]],
    )
    .unwrap();
    assert_eq!(result.influence, [0.5, 0.0, 0.5]);
}

#[test]
fn ubar_keeps_what_does_no_worse_on_own_data_or_the_nearest() {
    let rows = [vec![0.0f32], vec![1.0], vec![2.0], vec![100.0]];
    let result = |losses: [f64; 4]| {
        let context = Context {
            own: Some(0),
            losses: Some(&losses),
            ..Context::offline()
        };
        rule("ubar", 1, 4)
            .aggregate(&context, &contributions(&rows))
            .unwrap()
            .parameters
    };
    // The far one is not on the shortlist, the first does worse.
    assert_eq!(result([0.5, 0.6, 0.5, 0.0]), [1.0]);
    assert_eq!(result([0.5, 0.6, f64::NAN, 0.0]), [0.5]); // nobody is good: the nearest
}

#[test]
fn trimming_nothing_is_the_mean() {
    let rows = grid_rows(7, 500, 3);
    let (trimmed, mean) = (
        aggregate(&*rule("trimmed-mean", 0, 7), &rows).unwrap(),
        aggregate(&*rule("mean", 0, 7), &rows).unwrap(),
    );
    assert!(is_close(
        &trimmed.parameters,
        &mean.parameters,
        2f32.powi(-19)
    ));
}

/// ‖F − mean(S)‖² over the mean of ‖xᵢ − mean(S)‖² for the worst S of size n − f.
fn yardstick(result: &[f32], rows: &[Vec<f32>], byzantine: usize) -> f64 {
    let n = rows.len();
    let subsets = (0..1u32 << n).filter(|bits| bits.count_ones() as usize == n - byzantine);
    let ratio = |bits: u32| {
        let members: Vec<&Vec<f32>> = (0..n)
            .filter(|row| bits >> row & 1 == 1)
            .map(|row| &rows[row])
            .collect();
        let mean: Vec<f64> = (0..result.len())
            .map(|k| {
                members.iter().map(|row| f64::from(row[k])).sum::<f64>() / members.len() as f64
            })
            .collect();
        let square = |row: &[f32]| {
            row.iter()
                .zip(&mean)
                .map(|(a, b)| (f64::from(*a) - b).powi(2))
                .sum::<f64>()
        };
        let variance = members.iter().map(|row| square(row)).sum::<f64>() / members.len() as f64;
        // Equal honest models leave nothing to divide by; rounding to f32 does not count as
        // robbery.
        square(result) / variance.max(1e-9)
    };
    subsets.map(ratio).fold(0.0, f64::max)
}

/// A change of one row that may make things worse: a random, a far or another's value; a little
/// aside; as far from the mean as the others' spread hides (ALIE); against the mean (inner
/// product); or onward from where the result was pulled already.
fn changed_row(rows: &[Vec<f32>], row: usize, result: &[f32], stream: &mut Stream) -> Vec<f32> {
    let normal_row = |scale: f64, stream: &mut Stream| {
        (0..result.len())
            .map(|_| (scale * stream.normal()) as f32)
            .collect::<Vec<f32>>()
    };
    let column = |k: usize| rows.iter().map(move |row| f64::from(row[k]));
    let mean = |k: usize| column(k).sum::<f64>() / rows.len() as f64;
    let deviation = |k: usize| {
        (column(k)
            .map(|value| (value - mean(k)).powi(2))
            .sum::<f64>()
            / rows.len() as f64)
            .sqrt()
    };
    let strength = 4.0 * stream.unit() - 2.0;
    let of = |value: &dyn Fn(usize) -> f64| (0..result.len()).map(|k| value(k) as f32).collect();
    match stream.bounded(7) {
        0 => normal_row(1.0, stream),
        1 => normal_row(10f64.powf(4.0 * stream.unit()), stream),
        2 => rows[stream.bounded(rows.len() as u64) as usize].clone(),
        3 => rows[row]
            .iter()
            .zip(normal_row(0.1, stream))
            .map(|(a, b)| a + b)
            .collect(),
        4 => of(&|k| mean(k) + strength * deviation(k)),
        5 => of(&|k| -strength * mean(k)),
        _ => of(&|k| f64::from(result[k]) + strength * (f64::from(result[k]) - mean(k))),
    }
}

/// Random search for rows that break a rule: random starts, then changes of one row that are kept
/// when they make things worse. In every other start the honest rows stay as they are and
/// `byzantine` rows alone are changed.
fn worst_yardstick(name: &str, models: usize, byzantine: usize, seed: u64) -> f64 {
    let rule = rule(name, byzantine, models);
    let result = |rows: &[Vec<f32>]| aggregate(&*rule, rows).unwrap().parameters;
    let mut stream = Seed::from_number(seed).stream("search");
    let mut worst: f64 = 0.0;
    for start in 0..10 {
        let mut rows: Vec<Vec<f32>> = (0..models)
            .map(|_| (0..3).map(|_| stream.normal() as f32).collect())
            .collect();
        let mut pulled = result(&rows);
        let mut best = yardstick(&pulled, &rows, byzantine);
        let corrupted = if start % 2 == 0 { models } else { byzantine };
        for _ in 0..120 {
            let row = stream.bounded(corrupted as u64) as usize;
            let mut changed = rows.clone();
            changed[row] = changed_row(&rows, row, &pulled, &mut stream);
            let point = result(&changed);
            let found = yardstick(&point, &changed, byzantine);
            if found > best {
                (rows, pulled, best) = (changed, point, found);
            }
        }
        worst = worst.max(best);
    }
    worst
}

/// Allouah et al. 2023, arXiv 2302.01772: table 1 for the rules alone, lemma 1 (8f/(n − f) · (κ +
/// 1)) after mixing. No rule is better than f/(n − 2f); a search that does not get near that for
/// any of them would be too weak.
#[test]
fn search_does_not_break_the_published_robustness_and_breaks_the_mean() {
    for (models, byzantine) in [(5, 1), (7, 2), (9, 3)] {
        let ratio = byzantine as f64 / (models - 2 * byzantine) as f64;
        let alone = [
            ("trimmed-mean", 6.0 * ratio * (1.0 + ratio)),
            ("krum", 6.0 * (1.0 + ratio)),
            ("median", 4.0 * (1.0 + ratio).powi(2)),
            ("geometric-median", 4.0 * (1.0 + ratio).powi(2)),
        ];
        for (name, kappa) in alone {
            let found = worst_yardstick(name, models, byzantine, 1);
            assert!(
                found <= kappa,
                "{name} with n = {models}, f = {byzantine}: {found} is beyond {kappa}"
            );
            assert!(
                found >= 0.5 * ratio,
                "{name} with n = {models}, f = {byzantine}: the search only reaches {found} of {ratio}"
            );
            let mixed = 8.0 * byzantine as f64 / (models - byzantine) as f64 * (kappa + 1.0);
            let found = worst_yardstick(&format!("nnm+{name}"), models, byzantine, 1);
            assert!(
                found <= mixed,
                "nnm+{name} with n = {models}, f = {byzantine}: {found} is beyond {mixed}"
            );
            assert!(
                found >= 0.5 * ratio,
                "nnm+{name} with n = {models}, f = {byzantine}: the search only reaches {found} of {ratio}"
            );
        }
        let found = worst_yardstick("mean", models, byzantine, 1);
        assert!(
            found > 1000.0,
            "the search is too weak: the mean only reaches {found}"
        );
    }
}

/// Keys without which an entry makes no sense: a path over so many peers, where edges are listed.
fn keys_for(name: &str, peers: usize) -> String {
    match name {
        "edges" => format!(
            "edges = {:?}",
            (1..peers).map(|peer| [peer - 1, peer]).collect::<Vec<_>>()
        ),
        _ => String::new(),
    }
}

fn topology(name: &str, keys: &str) -> Box<dyn Topology> {
    let entry = TOPOLOGIES.iter().find(|entry| entry.name == name).unwrap();
    let mut document = Document::parse(&format!("[topology]\n{keys}")).unwrap();
    let kind = document.section("topology", |section| (entry.new)(section));
    document.finish().unwrap();
    kind
}

/// Every kind, for so many peers.
fn topologies(peers: usize) -> impl Iterator<Item = Box<dyn Topology>> {
    TOPOLOGIES
        .iter()
        .map(move |entry| topology(entry.name, &keys_for(entry.name, peers)))
}

fn period(kind: &dyn Topology, peers: usize, seed: &Seed) -> Result<Vec<Graph>, TopologyError> {
    (0..kind.period(peers))
        .map(|round| kind.graph(peers, round, seed))
        .collect()
}

fn check_graph(graph: &Graph, kind: &dyn Topology) {
    let (name, peers) = (kind.name(), graph.peers());
    let matrix = graph.mixing_matrix();
    for (peer, row) in matrix.iter().enumerate() {
        let column: f64 = matrix.iter().map(|row| row[peer]).sum();
        assert!(
            (row.iter().sum::<f64>() - 1.0).abs() < 1e-12,
            "{name} over {peers}: row {peer}"
        );
        assert!(
            (column - 1.0).abs() < 1e-12 || !kind.doubly_stochastic(),
            "{name} over {peers}: column {peer}"
        );
        assert!(
            row.iter().all(|weight| *weight >= 0.0),
            "{name} over {peers}: row {peer}"
        );
        for (other, weight) in row.iter().enumerate().filter(|(other, _)| *other != peer) {
            // W holds the first of alternatives; each of them has its weight.
            let counts = graph.mixing_weight(peer, other);
            assert_eq!(
                counts > 0.0,
                graph.receives_from(peer).contains(&other),
                "{name} over {peers}"
            );
            assert_eq!(
                counts > 0.0,
                graph.sends_to(other).contains(&peer),
                "{name} over {peers}"
            );
            assert_eq!(
                *weight,
                if graph.rank(peer, other) == 0 {
                    counts
                } else {
                    0.0
                },
                "{name} over {peers}"
            );
            assert!(
                graph.is_directed() || *weight == matrix[other][peer],
                "{name} over {peers}: not symmetric"
            );
        }
    }
    assert_eq!(
        graph.edge_ends(),
        (0..peers)
            .map(|peer| graph.receives_from(peer).len())
            .sum::<usize>()
    );
}

/// Rows sum to 1 for every kind; columns too, unless a kind says that its definition forbids it.
#[test]
fn mixing_matrices_are_stochastic_and_the_same_for_everyone() {
    for entry in &TOPOLOGIES {
        let mut existing = 0;
        for peers in 1..=33 {
            let kind = topology(entry.name, &keys_for(entry.name, peers));
            let seed = Seed::from_number(peers as u64);
            let Ok(graphs) = period(&*kind, peers, &seed) else {
                continue;
            };
            existing += 1;
            graphs.iter().for_each(|graph| check_graph(graph, &*kind));
            assert!(connected_together(&graphs), "{} over {peers}", kind.name());
            assert_eq!(graphs[0], kind.graph(peers, 0, &seed).unwrap());
            let next_period = kind.graph(peers, kind.period(peers), &seed).unwrap();
            assert!(
                kind.is_random() || graphs[0] == next_period,
                "{} over {peers}",
                kind.name()
            );
            assert!(
                kind.changes() || kind.period(peers) == 1,
                "{} over {peers}",
                kind.name()
            );
            for round in (0..3 * kind.period(peers)).filter(|_| kind.changes()) {
                let first = kind.first_alike(peers, round);
                assert!(first <= round, "{} over {peers}", kind.name());
                let (alike, graph) = (
                    kind.graph(peers, first, &seed),
                    kind.graph(peers, round, &seed),
                );
                assert_eq!(
                    alike,
                    graph,
                    "{} over {peers}: rounds {first} and {round}",
                    kind.name()
                );
            }
        }
        assert!(
            existing > 15,
            "{} exists for {existing} sizes only",
            entry.name
        );
    }
}

/// Who says that columns need not sum to 1 must mean it.
#[test]
fn kinds_that_do_not_keep_the_mean_say_so() {
    for kind in topologies(24).filter(|kind| !kind.doubly_stochastic()) {
        let graphs = period(&*kind, 24, &Seed::from_number(1)).unwrap();
        assert!(
            graphs
                .iter()
                .any(|graph| !graph.analyse().column_stochastic),
            "{}",
            kind.name()
        );
    }
}

#[test]
fn a_period_of_the_base_k_graph_averages_exactly_with_at_most_k_neighbours() {
    for degree in 1..=4 {
        let kind = topology("base-k", &format!("k = {degree}"));
        for peers in 2..=40 {
            let graphs = period(&*kind, peers, &Seed::from_number(0)).unwrap();
            let most = graphs
                .iter()
                .flat_map(|graph| (0..peers).map(|peer| graph.receives_from(peer).len()))
                .max()
                .unwrap();
            assert!(
                most <= degree,
                "k = {degree} over {peers}: {most} neighbours"
            );
            let mut product: Vec<Vec<f64>> = (0..peers)
                .map(|row| {
                    (0..peers)
                        .map(|column| f64::from(u8::from(row == column)))
                        .collect()
                })
                .collect();
            for graph in &graphs {
                let matrix = graph.mixing_matrix();
                let entry = |row: usize, column: usize| {
                    (0..peers)
                        .map(|k| matrix[row][k] * product[k][column])
                        .sum()
                };
                product = (0..peers)
                    .map(|row| (0..peers).map(|column| entry(row, column)).collect())
                    .collect();
            }
            let off = product
                .iter()
                .flatten()
                .map(|value| (value - 1.0 / peers as f64).abs())
                .fold(0.0, f64::max);
            assert!(
                off < 1e-12,
                "k = {degree} over {peers}: off by {off} after {} rounds",
                graphs.len()
            );
            let bound = 2.0 * (peers as f64).ln() / (degree as f64 + 1.0).ln() + 2.0;
            assert!(
                graphs.len() as f64 <= bound,
                "k = {degree} over {peers}: {} rounds",
                graphs.len()
            );
        }
    }
}

#[test]
fn hierarchical_rounds_are_clusters_then_heads_then_back() {
    let kind = topology("hierarchical", "clusters = 3\nlocal_rounds = 2\nheads = 1");
    let graph = |round| kind.graph(10, round, &Seed::from_number(5)).unwrap();
    assert_eq!(kind.period(10), 4);
    assert_eq!(graph(0), graph(1));
    // Clusters 0..3, 3..6, 6..10.
    assert_eq!(
        (graph(0).receives_from(4), graph(0).receives_from(9)),
        (&[3, 5][..], &[6, 7, 8][..])
    );
    assert_eq!(
        (graph(0).mixing_weight(4, 4), graph(0).mixing_weight(9, 6)),
        (1.0 / 3.0, 0.25)
    );
    let heads = |period: u64| -> Vec<usize> {
        (0..10)
            .filter(|peer| !graph(4 * period + 2).receives_from(*peer).is_empty())
            .collect()
    };
    for period in 0..20 {
        let (heads, back) = (heads(period), graph(4 * period + 3));
        assert!(
            heads.len() == 3 && heads[0] < 3 && (3..6).contains(&heads[1]) && heads[2] >= 6,
            "{heads:?}"
        );
        assert_eq!(back.receives_from(heads[0]), [] as [usize; 0]);
        let member = (6..10).find(|peer| *peer != heads[2]).unwrap();
        assert_eq!(
            (
                back.receives_from(member),
                back.mixing_weight(member, heads[2])
            ),
            (&heads[2..], 1.0)
        );
        assert_eq!(back.mixing_weight(member, member), 0.0);
    }
    assert!((1..20).any(|period| heads(period) != heads(0)));
}

#[test]
fn heads_of_a_cluster_are_ranked_and_one_of_each_counts() {
    let (one, two) = (
        topology("hierarchical", "clusters = 3\nheads = 1"),
        topology("hierarchical", "clusters = 3\nheads = 2"),
    );
    let seed = Seed::from_number(5);
    let cluster = |peer: usize| usize::from(peer >= 3) + usize::from(peer >= 6);
    for period in 0..20 {
        let graph =
            |kind: &dyn Topology, round: u64| kind.graph(10, 3 * period + round, &seed).unwrap();
        assert_eq!(
            (
                two.trains(3 * period),
                two.trains(3 * period + 1),
                two.trains(3 * period + 2)
            ),
            (true, false, false)
        );
        let (alone, among, back) = (graph(&*one, 1), graph(&*two, 1), graph(&*two, 2));
        let first: Vec<usize> = (0..10)
            .filter(|peer| !alone.receives_from(*peer).is_empty())
            .collect();
        let all: Vec<usize> = (0..10)
            .filter(|peer| !among.receives_from(*peer).is_empty())
            .collect();
        assert_eq!((first.len(), all.len()), (3, 6));
        for head in &all {
            // The other clusters' heads, the best of each first: never two models of one cluster.
            let groups = among.alternatives(*head);
            assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
            for group in &groups {
                assert!(
                    first.contains(&group[0])
                        && all.contains(&group[1])
                        && cluster(group[0]) == cluster(group[1])
                );
                assert_ne!(cluster(group[0]), cluster(*head));
                assert_eq!(
                    (among.rank(*head, group[0]), among.rank(*head, group[1])),
                    (0, 1)
                );
                let weights =
                    [group[0], group[1], *head].map(|from| among.mixing_weight(*head, from));
                assert!(
                    weights
                        .iter()
                        .all(|weight| (weight - 1.0 / 3.0).abs() < 1e-12),
                    "{weights:?}"
                );
                assert_eq!(among.entry(*head, group[1]), 0.0);
            }
            assert!(!among.adopts(*head) && among.models_received(*head) == 2);
        }
        for peer in 0..10 {
            let head = *first
                .iter()
                .find(|head| cluster(**head) == cluster(peer))
                .unwrap();
            let deputy = *all
                .iter()
                .find(|other| cluster(**other) == cluster(peer) && **other != head)
                .unwrap();
            let groups = back.alternatives(peer);
            match () {
                () if peer == head => assert!(groups.is_empty() && !back.adopts(peer)),
                () if peer == deputy => assert!(groups == [[head]] && back.adopts(peer)),
                () => assert!(groups == [[head, deputy]] && back.adopts(peer)),
            }
            assert_eq!(back.entry(peer, head), 1.0);
        }
    }
    let error = topology("hierarchical", "clusters = 4\nheads = 3")
        .graph(10, 0, &seed)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("heads = 3 needs clusters of as many; the smallest of 4 has 2"),
        "{error}"
    );
}

/// Where weights do not keep the mean, peers agree on something beside it: the one distance goes to
/// nothing, the other does not.
#[test]
fn what_peers_disagree_by_is_not_how_far_they_are_from_the_mean() {
    let seed = Seed::from_number(3);
    let analysis = |kind: &dyn Topology, rounds: u64| {
        let graphs: Vec<Graph> = (0..rounds)
            .map(|round| kind.graph(16, round, &seed).unwrap())
            .collect();
        PeriodAnalysis::of(&graphs)
    };
    let pushed = analysis(&*topology("epidemic-local", "s = 3"), 60);
    let (apart, aside) = (
        pushed.disagreement_two_norm_after_each_round,
        pushed.residual_two_norm_after_each_round,
    );
    assert!(
        apart
            .iter()
            .zip(&aside)
            .all(|(apart, aside)| apart <= aside),
        "{apart:?} {aside:?}"
    );
    assert!(
        apart[59] < 1e-9 && aside[59] > 1e-2,
        "{} {}",
        apart[59],
        aside[59]
    );
    let kept = analysis(&*topology("one-peer-exponential", ""), 4);
    assert_eq!(
        kept.disagreement_two_norm_after_each_round,
        kept.residual_two_norm_after_each_round
    );
}

#[test]
fn a_centralised_period_is_an_exact_average_that_everybody_holds() {
    let kind = topology("centralised", "");
    for peers in [2, 5, 16] {
        let graphs = period(&*kind, peers, &Seed::from_number(0)).unwrap();
        assert_eq!(
            (kind.trains(0), kind.trains(1), kind.trains(4)),
            (true, false, true)
        );
        assert!(
            PeriodAnalysis::of(&graphs).exact_average_after_period,
            "{peers}"
        );
        assert!(
            (1..peers)
                .all(|leaf| graphs[1].adopts(leaf) && graphs[0].receives_from(leaf).is_empty())
        );
        assert!(!graphs[0].adopts(0) || peers == 1);
    }
}

#[test]
fn epidemic_learning_sends_to_s_and_averages_what_came() {
    let kind = topology("epidemic-local", "s = 3");
    let mut received = [0usize; 9];
    for round in 0..300 {
        let graph = kind.graph(9, round, &Seed::from_number(1)).unwrap();
        for (peer, received) in received.iter_mut().enumerate() {
            assert_eq!(graph.sends_to(peer).len(), 3);
            *received += graph.receives_from(peer).len();
            let equal = 1.0 / (1 + graph.receives_from(peer).len()) as f64;
            assert!(
                graph
                    .receives_from(peer)
                    .iter()
                    .all(|from| graph.mixing_weight(peer, *from) == equal)
            );
            assert!((graph.mixing_weight(peer, peer) - equal).abs() < 1e-12);
        }
    }
    // 900 expected each, standard deviation √(2400 · 3/8 · 5/8) = 24.
    assert!(
        received.iter().all(|count| count.abs_diff(900) < 120),
        "{received:?}"
    );
    let (other, same) = (
        kind.graph(9, 7, &Seed::from_number(2)).unwrap(),
        kind.graph(9, 7, &Seed::from_number(1)).unwrap(),
    );
    assert_ne!(other, same);
}

#[test]
fn drawn_graphs_have_what_their_keys_ask_for() {
    let seed = Seed::from_number(3);
    // Erdős–Rényi: 2000 · 1999 / 2 pairs, a hundredth of them: 19 990, standard deviation 141.
    let graph = topology("erdos-renyi", "probability = 0.01")
        .graph(2000, 0, &seed)
        .unwrap();
    assert!(
        (graph.edges().count() as f64 - 19_990.0).abs() < 5.0 * 141.0,
        "{}",
        graph.edges().count()
    );
    assert_eq!(
        topology("erdos-renyi", "probability = 1")
            .graph(7, 0, &seed)
            .unwrap()
            .edges()
            .count(),
        21
    );
    let error = topology("erdos-renyi", "probability = 0.0001")
        .graph(2000, 0, &seed)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no connected graph of probability 0.0001 in 100 draws; expected a probability above 0.007"),
        "{error}"
    );
    // Small world: rewiring keeps the number of edges and changes about a tenth of them.
    let ring = topology("small-world", "rewire = 0")
        .graph(2000, 0, &seed)
        .unwrap();
    let rewired = topology("small-world", "rewire = 0.1")
        .graph(2000, 0, &seed)
        .unwrap();
    assert_eq!(
        (ring.edges().count(), rewired.edges().count()),
        (4000, 4000)
    );
    assert_eq!(ring.receives_from(5), [3, 4, 6, 7]);
    let kept = rewired
        .edges()
        .filter(|(a, b)| ring.mixing_weight(*a, *b) > 0.0)
        .count();
    assert!((kept as f64 - 3600.0).abs() < 5.0 * 19.0, "{kept}");
    for seed in 0..50 {
        let graph = topology("small-world", "rewire = 0.5")
            .graph(12, 0, &Seed::from_number(seed))
            .unwrap();
        assert_eq!(graph.edges().count(), 24, "seed {seed}");
    }
    // Scale-free: attach edges for each newcomer, and hubs far above the average of four.
    let graph = topology("scale-free", "attach = 2")
        .graph(2000, 0, &seed)
        .unwrap();
    assert_eq!(graph.edges().count(), 2 + 2 * 1997);
    let most = (0..2000)
        .map(|peer| graph.receives_from(peer).len())
        .max()
        .unwrap();
    assert!(most > 40, "{most}");
    // Who came later is chosen as well.
    let popular = (3..2000)
        .filter(|peer| graph.receives_from(*peer).len() > 5)
        .count();
    assert!(popular > 100, "{popular}");
    // The dumbbell's bridges join the first to the last.
    let graph = topology("dumbbell", "bridges = 2")
        .graph(9, 0, &seed)
        .unwrap();
    let between: Vec<(usize, usize)> = graph.edges().filter(|(a, b)| *a < 5 && *b >= 5).collect();
    assert_eq!(
        (between, graph.edges().count()),
        (vec![(0, 8), (1, 7)], 10 + 6 + 2)
    );
    assert!(
        topology("dumbbell", "bridges = 5")
            .graph(9, 0, &seed)
            .is_err()
    );
    let cycle = topology(
        "edges",
        "edges = [[0, 1], [1, 2], [2, 3], [3, 0], [1, 0]]\ndirected = true",
    );
    check_graph(&cycle.graph(4, 0, &seed).unwrap(), &*cycle);
    assert!(
        !cycle.doubly_stochastic()
            && !cycle
                .graph(4, 0, &seed)
                .unwrap()
                .analyse()
                .column_stochastic
    );
    let error = topology("edges", "edges = [[0, 4]]")
        .graph(4, 0, &seed)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "edge from 0 to 4: it leaves 0..4");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_regular_graphs_are_simple_connected_and_regular_or_refused_with_a_reason(peers in 1usize..60, degree in 1usize..60, seed: u64) {
        let kind = topology("random-regular", &format!("degree = {degree}"));
        let possible = degree < peers && peers * degree % 2 == 0 && (degree > 1 || peers == 2);
        match kind.graph(peers, 3, &Seed::from_number(seed)) {
            Ok(graph) => {
                prop_assert!(possible);
                check_graph(&graph, &*kind);
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
    let kind = topology("random-regular", "degree = 2");
    for seed in 0..20 {
        let graph = kind.graph(30, 0, &Seed::from_number(seed)).unwrap();
        assert!(
            connected_together(std::slice::from_ref(&graph)),
            "seed {seed}"
        );
    }
}

/// Vertex connectivity by its definition: the smallest set of peers without which some other peer
/// cannot reach another.
fn smallest_separator(graph: &Graph) -> usize {
    let n = graph.peers();
    let separates = |gone: u32| {
        let alive: Vec<usize> = (0..n).filter(|peer| gone >> peer & 1 == 0).collect();
        let place = |peer: &usize| alive.iter().position(|other| other == peer);
        let out_edges = |peer: &usize| {
            graph
                .sends_to(*peer)
                .iter()
                .filter_map(place)
                .map(|to| (to, 0.01))
                .collect()
        };
        let rest = Graph::new_directed(&alive.iter().map(out_edges).collect::<Vec<_>>()).unwrap();
        !connected_together(std::slice::from_ref(&rest))
    };
    let sizes = (0..1u32 << n)
        .filter(|gone| gone.count_ones() + 2 <= n as u32 && separates(*gone))
        .map(u32::count_ones);
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
        let out_edges = |from| {
            pairs
                .iter()
                .filter(|pair| pair.0 == from)
                .map(|pair| (pair.1, 0.1))
                .collect()
        };
        let directed = Graph::new_directed(&(0..peers).map(out_edges).collect::<Vec<_>>()).unwrap();
        for graph in [undirected, directed] {
            assert_eq!(
                graph.analyse().vertex_connectivity,
                smallest_separator(&graph),
                "seed {seed}: {graph:?}"
            );
        }
    }
}

#[test]
fn redrawn_graphs_differ_and_fixed_ones_do_not() {
    for kind in topologies(30).filter(|kind| kind.is_random()) {
        let graph = |round, seed| kind.graph(30, round, &Seed::from_number(seed)).unwrap();
        let period = kind.period(30);
        let graphs = |start: u64, seed| {
            (start..start + period)
                .map(|round| graph(round, seed))
                .collect::<Vec<Graph>>()
        };
        assert_ne!(graphs(0, 1), graphs(period, 1), "{}", kind.name());
        assert_ne!(graphs(0, 1), graphs(0, 2), "{}", kind.name());
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
    assert!(Arc::ptr_eq(
        &ring.graph(9, 0).unwrap(),
        &ring.graph(9, 1_000_000).unwrap()
    ));
    assert_eq!(ring.graph(5, 0).unwrap().peers(), 5);
    assert!(
        Arc::ptr_eq(&ring.graph(9, 0).unwrap(), &ring.graph(9, 7).unwrap()),
        "another size in between"
    );
    let hops = topology_section("kind = \"one-peer-exponential\"");
    assert!(Arc::ptr_eq(
        &hops.graph(8, 1).unwrap(),
        &hops.graph(8, 4).unwrap()
    ));
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
    // Complete graphs are quadratic by definition. For the others a quadratic step would take
    // minutes here.
    for kind in topologies(1 << 16).filter(|kind| !["complete", "dumbbell"].contains(&kind.name()))
    {
        let graph = kind
            .graph(1 << 16, 0, &Seed::from_number(1))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(graph.peers(), 1 << 16, "{}", kind.name());
    }
    let open = "[federation]\nname = \"many\"\n[membership]\nmode = \"open\"\npeers = 20000\n[topology]\nkind = \"random-regular\"\n";
    let charter = Charter::resolve(&format!("{open}redraw_every = 1\nseed = 3"), &mut []).unwrap();
    assert_eq!(
        charter.topology.graph(20_000, 5).unwrap().edge_ends(),
        80_000
    );
}

#[test]
fn graphs_beyond_any_memory_are_refused() {
    let dense = [
        "complete",
        "random-regular",
        "dumbbell",
        "erdos-renyi",
        "small-world",
        "scale-free",
        "epidemic-local",
    ];
    for kind in topologies(1).filter(|kind| dense.contains(&kind.name())) {
        let error = kind
            .graph(10_000_000, 0, &Seed::from_number(0))
            .unwrap_err();
        assert!(error.to_string().contains("edge ends; at most"), "{error}");
    }
}

#[test]
fn a_graph_in_two_parts_is_told() {
    let parts = Graph::new_undirected(4, [(0, 1), (2, 3)]).unwrap();
    assert!(!connected_together(std::slice::from_ref(&parts)));
    let analysis = parts.analyse();
    assert_eq!(
        (
            analysis.components,
            analysis.vertex_connectivity,
            analysis.diameter
        ),
        (2, 0, None)
    );
    assert_eq!(
        (analysis.spectral_gap, analysis.rounds_to_consensus),
        (0.0, None)
    );
    assert_eq!(Graph::new_undirected(0, []).unwrap().analyse().n, 0);
    // One way is not enough: nothing comes back from peer 1.
    let one_way = Graph::new_directed(&[vec![(1, 0.5)], vec![]]).unwrap();
    assert!(!connected_together(std::slice::from_ref(&one_way)));
    assert!(
        Graph::new_undirected(2, [(0, 2)]).is_err() && Graph::new_undirected(2, [(1, 1)]).is_err()
    );
    assert!(Graph::new_directed(&[vec![(1, 0.7)], vec![], vec![(1, 0.7)]]).is_err());
}

#[test]
fn the_spread_is_the_distance_to_the_mean_also_where_models_are_nearly_equal_and_longer_than_a_block()
 {
    use kith_consensus::aggregate::spread;
    assert_eq!(spread(&[]), 0.0);
    for (dimension, offset) in [(1, 0.0f32), (1023, 0.0), (2500, 1000.0)] {
        let value =
            |row: usize, column: usize| offset + ((row * 31 + column * 7) % 13) as f32 / 8.0;
        let rows: Vec<Vec<f32>> = (0..5)
            .map(|row| (0..dimension).map(|column| value(row, column)).collect())
            .collect();
        let contributions: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(peer, row)| Contribution::of(PeerId([peer as u8; 32]), row))
            .collect();
        let mean = |column: usize| rows.iter().map(|row| f64::from(row[column])).sum::<f64>() / 5.0;
        let square = |column: usize| {
            rows.iter()
                .map(|row| (f64::from(row[column]) - mean(column)).powi(2))
                .sum::<f64>()
        };
        let expected = ((0..dimension).map(square).sum::<f64>() / 5.0).sqrt();
        let found = spread(&contributions);
        assert!(
            (found - expected).abs() < 1e-9 * expected,
            "{dimension}: {found}, expected {expected}"
        );
    }
}

/// Peers whose rows of the mixing matrix agree but for rounding mix the same models: then they must
/// hold the same bits, which a certificate of a common model needs.
#[test]
fn peers_that_mix_the_same_models_by_the_same_weights_come_to_equal_bits() {
    let mut pairs = 0;
    let names: Vec<&str> = TOPOLOGIES.iter().map(|entry| entry.name).collect();
    for (peers, name) in (2..=24).flat_map(|peers| names.iter().map(move |name| (peers, name))) {
        let kind = topology(name, &keys_for(name, peers));
        let Ok(graph) = kind.graph(peers, 0, &Seed::from_number(3)) else {
            continue;
        };
        let rows = graph.mixing_matrix();
        let near = |a: usize, b: usize| {
            rows[a]
                .iter()
                .zip(&rows[b])
                .all(|(left, right)| (left - right).abs() < 1e-9)
        };
        for (a, b) in (0..peers)
            .flat_map(|a| (a + 1..peers).map(move |b| (a, b)))
            .filter(|(a, b)| near(*a, *b))
        {
            assert_eq!(rows[a], rows[b], "{name} over {peers}: peers {a} and {b}");
            pairs += 1;
        }
    }
    assert!(pairs > 1000, "complete graphs alone have more: {pairs}");
}
