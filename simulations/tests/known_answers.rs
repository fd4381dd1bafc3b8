//! Reference results of attacks, from the folder named by `KITH_KNOWN_ANSWERS` or the copy in the
//! repository.
//!
//! The reference attacks act on the honest peers' vectors from an origin of zero. Here an attacker
//! knows its own start and result and its neighbours' vectors, so each case is put as: start 0, the
//! first honest row is its own result, the others are its neighbours' (for the sign flip, which
//! knows nothing but itself, its own result is the honest mean; with the rows before it, it is
//! `ipm:1`).

use std::sync::Arc;

use kith_consensus::section::Document;
use kith_consensus::topology::Graph;
use kith_consensus::{PeerId, Seed};
use kith_gossip::{Conduct, Publication, View};
use kith_models::{Dataset, Images, Schema};
use kith_simulations::attack::{Attacker, Direction, Oracle, attack_from_text, deviation_bound};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|value| value.as_f64().expect("a number"))
        .collect()
}

fn vectors(value: &Value) -> Vec<Vec<f32>> {
    let rows = value.as_array().expect("rows").iter();
    rows.map(|row| numbers(row).iter().map(|value| *value as f32).collect())
        .collect()
}

fn publish_from(attack: &str, start: &[f32], rows: &[Vec<f32>]) -> Vec<f32> {
    let neighbours: Vec<(PeerId, &[f32])> = rows[1..]
        .iter()
        .enumerate()
        .map(|(index, row)| (PeerId([index as u8; 32]), row.as_slice()))
        .collect();
    let graph = Graph::new_undirected(1, []).expect("a graph of one");
    let own = PeerId([255; 32]);
    let (trained, roster) = (rows[0].as_slice(), [own]);
    let view = View {
        own,
        round: 0,
        start,
        trained,
        neighbours: &neighbours,
        roster: &roster,
        graph: &graph,
    };
    let mut conduct = Attacker::new(attack_from_text(attack).expect("a known attack"), None);
    match conduct.publish(&view, &mut Seed::from_number(0).stream("test")) {
        Publication::Same(vector) => vector,
        other => panic!("it publishes one vector, not {other:?}"),
    }
}

fn publish(attack: &str, rows: &[Vec<f32>]) -> Vec<f32> {
    publish_from(attack, &vec![0.0; rows[0].len()], rows)
}

/// Peer 0 is told something; then come its honest neighbours, then the liars, of which the first
/// speaks.
fn dissensus(case: &Value) -> Vec<f32> {
    let (params, honest) = (&case["params"], vectors(&case["honest"]));
    let target: Vec<f32> = numbers(&case["target"])
        .iter()
        .map(|value| *value as f32)
        .collect();
    let weights = numbers(&params["honest_weights"]);
    let total = params["byzantine_weight_total"].as_f64().expect("a weight");
    let liars = (total / weights[0]).round() as usize;
    let edges = weights
        .iter()
        .copied()
        .chain(std::iter::repeat_n(total / liars as f64, liars));
    let out: Vec<Vec<(usize, f64)>> = std::iter::once(Vec::new())
        .chain(edges.map(|weight| vec![(0, weight)]))
        .collect();
    let graph = Graph::new_directed(&out).expect("a graph towards one");
    let roster: Vec<PeerId> = (0..out.len())
        .map(|peer| PeerId([peer as u8; 32]))
        .collect();
    let oracle = Arc::new(Oracle::default());
    for (peer, row) in roster.iter().zip(std::iter::once(&target).chain(&honest)) {
        oracle.record(0, *peer, Arc::new(row.clone()));
    }
    let (own, trained) = (roster[honest.len() + 1], vec![9.0; target.len()]);
    let view = View {
        own,
        round: 0,
        start: &trained,
        trained: &trained,
        neighbours: &[],
        roster: &roster,
        graph: &graph,
    };
    let attack =
        attack_from_text(&format!("dissensus:{}", params["epsilon"])).expect("a known attack");
    match Attacker::new(attack, Some(oracle))
        .publish(&view, &mut Seed::from_number(0).stream("test"))
    {
        Publication::Each(mut told) => {
            assert_eq!(told.len(), 1, "it tells only who hears it");
            let vector = told
                .remove(&roster[0])
                .expect("the target is told something");
            // What the target makes of it by plain gossip.
            for (index, expected) in numbers(&case["expected"]["target_after_plain_gossip"])
                .iter()
                .enumerate()
            {
                let at = f64::from(target[index]);
                let pull = |weight: f64, row: &[f32]| weight * (f64::from(row[index]) - at);
                let mixed = at
                    + total / weights[0] * pull(weights[0], &vector)
                    + weights
                        .iter()
                        .zip(&honest)
                        .map(|(weight, row)| pull(*weight, row))
                        .sum::<f64>();
                assert!(
                    (mixed - expected).abs() < 1e-6,
                    "{mixed} where {expected} is known"
                );
            }
            vector
        }
        other => panic!("it publishes for each, not {other:?}"),
    }
}

fn schema(shape: &str, classes: usize) -> Schema {
    let mut document =
        Document::parse(&format!("[data]\nshape = {shape}\nclasses = {classes}\n")).expect("toml");
    document.section("data", Schema::read)
}

/// Images of one shape, one after the other, with these labels. Pixels are of 255 steps.
fn images(height: usize, width: usize, values: &[f32], labels: &[u32], schema: &Schema) -> Dataset {
    let labels: Vec<u8> = labels.iter().map(|label| *label as u8).collect();
    let pixels = values
        .iter()
        .map(|value| (255.0 * value).round() as u8)
        .collect();
    let images = Images::new("images", height, width, pixels, labels).expect("images");
    Dataset::from_images(&images, schema).expect("images of the schema's shape")
}

fn poisoned(attack: &str, rows: &Dataset, schema: &Schema) -> Dataset {
    let attack = attack_from_text(attack).expect("a known attack");
    let rows = attack
        .poison(rows, schema, &mut Seed::from_number(0).stream("test"))
        .expect("rows that can be poisoned");
    rows.expect("an attack that poisons")
}

#[test]
fn known_answers_attacks() {
    let folder = std::env::var("KITH_KNOWN_ANSWERS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/known-answers").into());
    let text = std::fs::read_to_string(format!("{folder}/attacks.json"))
        .expect("the file of known answers");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let tolerance = |key: &str| file["tolerance"][key].as_f64().expect("a tolerance");
    let (absolute, relative) = (tolerance("abs"), tolerance("rel"));
    let allowed = |expected: f64| absolute + relative * expected.abs();
    let mut run = 0;
    for case in file["cases"].as_array().expect("cases") {
        let (id, kind, params) = (
            case["id"].as_str().expect("id"),
            case["attack"].as_str().expect("kind"),
            &case["params"],
        );
        let expected = &case["expected"];
        let near = |found: f64, key: &str| {
            let expected = expected[key].as_f64().expect("a number");
            assert!(
                (found - expected).abs() <= allowed(expected),
                "{id}: {key} is {found} where {expected} is known"
            );
        };
        let rows = if case["honest"].is_array() {
            vectors(&case["honest"])
        } else {
            Vec::new()
        };
        let found = match kind {
            "sign_flip" => {
                let mean = |column: usize| {
                    rows.iter().map(|row| f64::from(row[column])).sum::<f64>() / rows.len() as f64
                };
                let mean: Vec<f32> = (0..rows[0].len())
                    .map(|column| mean(column) as f32)
                    .collect();
                let found = publish("sign-flip:1", &[mean]);
                let same = publish("ipm:1", &rows);
                assert!(
                    found.iter().zip(&same).all(|(a, b)| (a - b).abs() <= 1e-6),
                    "{id}: ipm:1 flips the mean's sign"
                );
                found
            }
            "zero" => {
                assert_eq!(
                    publish("free-rider", &rows),
                    publish("zero", &rows),
                    "from zero, not to move is zero"
                );
                publish("zero", &rows)
            }
            "ipm" => {
                let epsilon = params["epsilon"].as_f64().expect("epsilon");
                let found = publish(&format!("ipm:{epsilon}"), &rows);
                let same = publish(&format!("foe:{}", epsilon + 1.0), &rows);
                assert!(
                    found.iter().zip(&same).all(|(a, b)| (a - b).abs() <= 1e-6),
                    "{id}: foe is ipm with tau = epsilon + 1"
                );
                found
            }
            "alie" => {
                let sign = match params["sign"].as_str().expect("a sign") {
                    "plus" => -1.0,
                    "minus" => 1.0,
                    other => panic!("{id}: unknown sign {other:?}"),
                };
                publish(
                    &format!("alie:{}", sign * params["z"].as_f64().expect("z")),
                    &rows,
                )
            }
            "alie_zmax" => {
                let size = |key: &str| params[key].as_u64().expect("a size") as usize;
                let bound =
                    deviation_bound(size("n"), size("f")).expect("a minority that can hide");
                near(bound.supporters as f64, "supporters");
                near(bound.share, "cdf");
                near(bound.z, "z_max");
                run += 1;
                continue;
            }
            // The attacker's own row comes last among those it knows.
            "mimic_fixed" => {
                let place = params["target"].as_u64().expect("a place") as usize;
                let ordered: Vec<Vec<f32>> = rows
                    .last()
                    .into_iter()
                    .chain(&rows[..rows.len() - 1])
                    .cloned()
                    .collect();
                publish(&format!("mimic:{place}"), &ordered)
            }
            "mimic_heuristic" => {
                let mut direction = Direction::new(numbers(&params["z_init"]));
                let rounds = case["honest_rounds"].as_array().expect("rounds").iter();
                for (round, rows) in rounds.enumerate() {
                    let rows: Vec<Vec<f64>> =
                        rows.as_array().expect("rows").iter().map(numbers).collect();
                    let target = direction.turn(&rows);
                    assert_eq!(
                        Some(target as u64),
                        expected["targets"][round].as_u64(),
                        "{id}: round {round}"
                    );
                    for (found, expected) in direction
                        .towards()
                        .iter()
                        .zip(numbers(&expected["directions"][round]))
                    {
                        assert!(
                            (found - expected).abs() <= allowed(expected),
                            "{id}: {found} where {expected} is known"
                        );
                    }
                }
                run += 1;
                continue;
            }
            "dissensus" => dissensus(case),
            "label_flip" => {
                let classes = params["classes"].as_u64().expect("classes") as usize;
                let integers = |value: &Value| -> Vec<u32> {
                    numbers(value).iter().map(|label| *label as u32).collect()
                };
                let labels = integers(&case["labels"]);
                let schema = schema("[1]", classes);
                let found = poisoned(
                    "label-flip",
                    &images(1, 1, &vec![0.0; labels.len()], &labels, &schema),
                    &schema,
                );
                assert_eq!(found.labels(), integers(&expected["labels"]), "{id}");
                run += 1;
                continue;
            }
            "backdoor_patch" => {
                let corner = params["corner"]
                    .as_str()
                    .expect("a corner")
                    .replace('_', "-");
                let number = |key: &str| params[key].as_f64().expect("a number");
                let image = vectors(&case["image"]);
                let (height, width) = (image.len(), image[0].len());
                let (target, size, value) =
                    (number("target_label"), number("size"), number("value"));
                // The class of the image itself is another one.
                let schema = schema(&format!("[1, {height}, {width}]"), target as usize + 2);
                let rows = images(
                    height,
                    width,
                    &image.concat(),
                    &[target as u32 + 1],
                    &schema,
                );
                let attack =
                    format!("backdoor:{target},size={size},value={value},share=1,corner={corner}");
                let found = poisoned(&attack, &rows, &schema);
                let wanted = vectors(&expected["image"]).concat();
                // Half a step of a pixel.
                assert!(
                    found
                        .row(0)
                        .iter()
                        .zip(&wanted)
                        .all(|(found, wanted)| (found - wanted).abs() <= 0.5 / 255.0 + 1e-6),
                    "{id}"
                );
                assert_eq!(
                    found.labels(),
                    [expected["label"].as_u64().expect("a label") as u32],
                    "{id}"
                );
                run += 1;
                continue;
            }
            "model_replacement" => {
                let vector = |value: &Value| -> Vec<f32> {
                    numbers(value).iter().map(|value| *value as f32).collect()
                };
                let attack = format!("model-replacement:{}", params["boost"]);
                publish_from(&attack, &vector(&case["global"]), &[vector(&case["local"])])
            }
            unknown => panic!("{id}: unknown attack {unknown:?}"),
        };
        let wanted = numbers(&expected["vector"]);
        assert_eq!(found.len(), wanted.len(), "{id}");
        for (found, expected) in found.iter().zip(wanted) {
            assert!(
                (f64::from(*found) - expected).abs() <= allowed(expected),
                "{id}: {found} where {expected} is known"
            );
        }
        run += 1;
    }
    assert!(run > 0, "the file holds no case that can be run");
    println!("attacks: {run} cases");
}
