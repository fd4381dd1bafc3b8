//! Reference results of attacks, from the folder named by `KITH_KNOWN_ANSWERS` or the copy in the repository.
//!
//! The reference attacks act on the honest peers' vectors from an origin of zero. Here an attacker knows its own start and
//! result and its neighbours' vectors, so each case is put as: start 0, the first honest row is its own result, the others
//! are its neighbours' (for the sign flip, which knows nothing but itself, its own result is the honest mean).

use kith_consensus::topology::Graph;
use kith_consensus::{PeerId, Seed};
use kith_gossip::{Conduct, Publication, View};
use kith_simulations::attack::{Attacker, attack_from_text};
use serde_json::Value;

/// Kinds of the file that no attack here has yet.
const PENDING: [&str; 7] =
    ["mimic_fixed", "alie_zmax", "dissensus", "mimic_heuristic", "label_flip", "backdoor_patch", "model_replacement"];

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

fn publish(attack: &str, rows: &[Vec<f32>]) -> Vec<f32> {
    let start = vec![0.0; rows[0].len()];
    let neighbours: Vec<(PeerId, &[f32])> =
        rows[1..].iter().enumerate().map(|(index, row)| (PeerId([index as u8; 32]), row.as_slice())).collect();
    let graph = Graph::new_undirected(1, []).expect("a graph of one");
    let own = PeerId([255; 32]);
    let (trained, roster) = (rows[0].as_slice(), [own]);
    let view = View { own, round: 0, start: &start, trained, neighbours: &neighbours, roster: &roster, graph: &graph };
    let mut conduct = Attacker::new(attack_from_text(attack).expect("a known attack"), None);
    match conduct.publish(&view, &mut Seed::from_number(0).stream("test")) {
        Publication::Same(vector) => vector,
        other => panic!("it publishes one vector, not {other:?}"),
    }
}

#[test]
fn known_answers_attacks() {
    let folder =
        std::env::var("KITH_KNOWN_ANSWERS").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/known-answers").into());
    let text = std::fs::read_to_string(format!("{folder}/attacks.json")).expect("the file of known answers");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let mut run = 0;
    for case in file["cases"].as_array().expect("cases") {
        let (id, kind, params) = (case["id"].as_str().expect("id"), case["attack"].as_str().expect("kind"), &case["params"]);
        if PENDING.contains(&kind) {
            continue;
        }
        let rows: Vec<Vec<f32>> = case["honest"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| numbers(row).iter().map(|value| *value as f32).collect())
            .collect();
        let mean: Vec<f32> = (0..rows[0].len())
            .map(|column| (rows.iter().map(|row| f64::from(row[column])).sum::<f64>() / rows.len() as f64) as f32)
            .collect();
        let found = match kind {
            "sign_flip" => publish("sign-flip:1", &[mean]),
            "zero" => publish("free-rider", &rows),
            "ipm" => publish(&format!("ipm:{}", params["epsilon"]), &rows),
            "alie" => {
                let sign = if params["sign"] == "plus" { -1.0 } else { 1.0 };
                publish(&format!("alie:{}", sign * params["z"].as_f64().expect("z")), &rows)
            }
            unknown => panic!("{id}: unknown attack {unknown:?}"),
        };
        for (found, expected) in found.iter().zip(numbers(&case["expected"]["vector"])) {
            assert!(
                (f64::from(*found) - expected).abs() <= 1e-6 + 1e-6 * expected.abs(),
                "{id}: {found} where {expected} is known"
            );
        }
        run += 1;
    }
    assert!(run > 0, "the file holds no case that can be run");
    println!("attacks: {run} cases; pending: {}", PENDING.join(", "));
}
