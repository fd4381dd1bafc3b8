//! Reference results of compression, from the folder named by `KITH_KNOWN_ANSWERS` or the copy in
//! the repository.

use kith_consensus::section::Document;
use kith_consensus::topology::TopologySection;
use kith_consensus::{Graph, Seed, Stream};
use serde_json::Value;

use super::{
    Codec, Form, Randomness, block_int, codec_from_section, positions, power_sgd, qsgd, random_k,
    top_k,
};

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|value| value.as_f64().expect("a number"))
        .collect()
}

fn floats(value: &Value) -> Vec<f32> {
    numbers(value)
        .into_iter()
        .map(|value| value as f32)
        .collect()
}

fn rows(value: &Value) -> Vec<Vec<f32>> {
    value.as_array().expect("rows").iter().map(floats).collect()
}

fn natural(value: &Value) -> usize {
    value.as_u64().expect("a natural number") as usize
}

/// How far from the file's numbers ours may be, as the file says.
#[derive(Clone, Copy)]
struct Tolerance {
    absolute: f64,
    relative: f64,
}

/// A case and how exact it is.
struct Case<'a> {
    id: &'a str,
    case: &'a Value,
    tolerance: Tolerance,
}

impl std::ops::Index<&str> for Case<'_> {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        &self.case[key]
    }
}

impl Case<'_> {
    fn assert_close(&self, found: &[f64], expected: &[f64]) {
        self.assert_within(found, expected, 1.0);
    }

    /// Within `times` times the file's tolerance.
    fn assert_within(&self, found: &[f64], expected: &[f64], times: f64) {
        let (id, Tolerance { absolute, relative }) = (self.id, self.tolerance);
        assert_eq!(found.len(), expected.len(), "{id}");
        for (found, expected) in found.iter().zip(expected) {
            let allowed = times * (absolute + relative * expected.abs());
            assert!(
                (found - expected).abs() <= allowed,
                "{id}: {found} where {expected} is known"
            );
        }
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn relative_error(values: &[f32], decoded: &[f32]) -> f64 {
    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    let norm: f64 = values.iter().map(|value| square((value, &0.0))).sum();
    values.iter().zip(decoded).map(square).sum::<f64>() / if norm > 0.0 { norm } else { 1.0 }
}

/// The graph of a named topology.
fn graph(kind: &str, peers: usize) -> Graph {
    let mut document = Document::parse(&format!("[topology]\nkind = \"{kind}\"\n")).expect("toml");
    let section = document.section("topology", TopologySection::read);
    document.finish().expect("a known topology");
    Graph::clone(&section.graph(peers, 0).expect("a graph of so many peers"))
}

/// The stream that a case's parameters name.
fn stream(params: &Value) -> Stream {
    let mut seed = [0u8; 32];
    for (byte, digits) in seed
        .iter_mut()
        .zip(params["seed"].as_str().expect("seed").as_bytes().chunks(2))
    {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).expect("ascii"), 16)
            .expect("hexadecimal");
    }
    let number = |key: &str| params[key].as_u64().expect("a coordinate");
    let context = params["context"].as_str().expect("context");
    Stream::derive(
        context,
        &Seed(seed),
        number("round"),
        number("sender"),
        number("tensor"),
    )
}

fn codec(section: &str) -> Box<dyn Codec> {
    let mut document = Document::parse(&format!("[codec]\n{section}\n")).expect("toml");
    let codec = document.section("codec", codec_from_section);
    document.finish().expect("a good section");
    codec
}

/// The top-k codec that keeps `k` of `dimension` values.
fn keeping(k: usize, dimension: usize) -> Box<dyn Codec> {
    // Half a value less, so that rounding up gives k itself.
    codec(&format!(
        "kind = \"top-k\"\nshare = {}",
        (k as f64 - 0.5) / dimension as f64
    ))
}

fn encode(codec: &dyn Codec, values: &[f32], own: Stream) -> Vec<u8> {
    let bytes = codec.encode(
        values,
        &mut Randomness {
            own,
            shared: Seed([0; 32]).stream("unused"),
        },
    );
    assert!(bytes.len() <= codec.bytes_max(values.len()));
    bytes
}

fn unused() -> Stream {
    Seed([0; 32]).stream("unused")
}

/// What a replica codec sends for `values`, decoded, and the replica after it, as the exchange
/// computes them.
fn send(codec: &dyn Codec, values: &[f32], replica: &mut [f32]) -> Vec<f32> {
    assert_eq!(codec.form(), Form::Replica);
    let difference: Vec<f32> = values
        .iter()
        .zip(replica.iter())
        .map(|(value, replica)| value - replica)
        .collect();
    let bytes = encode(codec, &difference, unused());
    let decoded = codec
        .decode(&bytes, values.len())
        .expect("its own encoding");
    replica
        .iter_mut()
        .zip(&decoded)
        .for_each(|(replica, change)| *replica += change);
    decoded
}

fn top_k(case: &Case<'_>) {
    let id = case.id;
    let (input, expected) = (floats(&case["input"]), &case["expected"]);
    let k = natural(&case["params"]["k"]);
    let positions = top_k::largest(&input, k);
    let indices: Vec<f64> = positions
        .iter()
        .map(|position| f64::from(*position))
        .collect();
    assert_eq!(indices, numbers(&expected["indices"]), "{id}");
    let bytes = positions::leb128_gaps_bytes(&positions) + positions.len() * 4;
    assert_eq!(
        bytes,
        natural(&expected["payload_bytes_gap_leb128_f32"]),
        "{id}"
    );
    let codec = keeping(k, input.len());
    let decoded = codec
        .decode(&encode(&*codec, &input, unused()), input.len())
        .expect("its own encoding");
    case.assert_close(&widen(&decoded), &numbers(&expected["dense"]));
    let error = relative_error(&input, &decoded);
    case.assert_close(
        &[error],
        &[expected["relative_error"].as_f64().expect("an error")],
    );
    assert!(
        error <= expected["bound"].as_f64().expect("a bound") + case.tolerance.absolute,
        "{id}"
    );
}

fn block_int(case: &Case<'_>) {
    let id = case.id;
    let (input, expected) = (floats(&case["input"]), &case["expected"]);
    let (bits, block) = (
        natural(&case["params"]["bits"]),
        natural(&case["params"]["block"]),
    );
    let code_max = i8::MAX >> (8 - bits);
    let mut codes = vec![0; input.len()];
    let mut scales = Vec::new();
    for (block, codes) in input.chunks(block).zip(codes.chunks_mut(block)) {
        let scale = block_int::scale_of(block, code_max);
        block_int::round_nearest(block, scale, code_max, codes);
        scales.push(scale);
    }
    case.assert_close(&widen(&scales), &numbers(&expected["scales"]));
    assert_eq!(
        codes
            .iter()
            .map(|code| f64::from(*code))
            .collect::<Vec<_>>(),
        numbers(&expected["codes"]),
        "{id}"
    );
    let codec = codec(&format!("kind = \"int{bits}\"\nblock = {block}"));
    let bytes = encode(&*codec, &input, unused());
    assert_eq!(bytes.len(), natural(&expected["payload_bytes"]), "{id}");
    case.assert_close(
        &widen(&codec.decode(&bytes, input.len()).expect("its own")),
        &numbers(&expected["dense"]),
    );
}

fn qsgd(case: &Case<'_>) {
    let id = case.id;
    let (input, expected, params) = (floats(&case["input"]), &case["expected"], &case["params"]);
    let levels = natural(&params["levels"]) as u32;
    let norm = qsgd::norm_of(&input);
    case.assert_close(
        &[f64::from(norm)],
        &[expected["norm"].as_f64().expect("a norm")],
    );
    let mut codes = vec![0; input.len()];
    qsgd::quantise(&input, norm, levels, &mut stream(params), &mut codes);
    let level = |code: &u32| f64::from(code >> 1) * if code & 1 == 1 { -1.0 } else { 1.0 };
    let found: Vec<f64> = codes.iter().map(level).collect();
    assert_eq!(found, numbers(&expected["levels"]), "{id}");
    let codec = codec(&format!("kind = \"qsgd\"\nlevels = {levels}"));
    let bytes = encode(&*codec, &input, stream(params));
    let width = 1 + (f64::from(levels) + 1.0).log2().ceil() as usize;
    assert_eq!(bytes.len(), 4 + (input.len() * width).div_ceil(8), "{id}");
    case.assert_close(
        &widen(&codec.decode(&bytes, input.len()).expect("its own")),
        &numbers(&expected["dense"]),
    );
}

fn random_k(case: &Case<'_>) {
    let id = case.id;
    let (input, expected, params) = (floats(&case["input"]), &case["expected"], &case["params"]);
    let (k, dimension) = (natural(&params["k"]), natural(&params["d"]));
    let places = random_k::draw(&mut stream(params), k, dimension);
    assert_eq!(
        places
            .iter()
            .map(|place| f64::from(*place))
            .collect::<Vec<_>>(),
        numbers(&expected["indices"]),
        "{id}"
    );
    let factor = random_k::inverse_share(k, dimension);
    let plain: Vec<f64> = places
        .iter()
        .map(|place| f64::from(input[*place as usize]))
        .collect();
    case.assert_close(&plain, &numbers(&expected["values_plain"]));
    let unbiased: Vec<f64> = plain.iter().map(|value| value * factor).collect();
    case.assert_close(&unbiased, &numbers(&expected["values_unbiased"]));
    case.assert_close(
        &[factor - 1.0],
        &[expected["omega_unbiased"].as_f64().expect("a bound")],
    );
}

fn sign(case: &Case<'_>) {
    let id = case.id;
    let (input, expected) = (floats(&case["input"]), &case["expected"]);
    let codec = codec("kind = \"sign\"");
    let bytes = encode(&*codec, &input, unused());
    assert_eq!(bytes.len(), natural(&expected["payload_bytes"]), "{id}");
    let scale = f32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
    case.assert_close(
        &[f64::from(scale)],
        &[expected["scale"].as_f64().expect("a scale")],
    );
    let bits: String = bytes[4..]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        bits,
        expected["bits_lsb_first_hex"].as_str().expect("text"),
        "{id}"
    );
    let decoded = codec.decode(&bytes, input.len()).expect("its own");
    case.assert_close(&widen(&decoded), &numbers(&expected["dense"]));
    case.assert_close(
        &[relative_error(&input, &decoded)],
        &[expected["relative_error"].as_f64().expect("an error")],
    );
}

fn power_sgd(case: &Case<'_>) {
    let id = case.id;
    let (matrix, start, expected) = (
        rows(&case["input"]),
        rows(&case["q_init"]),
        &case["expected"],
    );
    let (rank, iterations) = (
        natural(&case["params"]["rank"]),
        case["params"]["iterations"].as_u64().expect("iterations"),
    );
    // Given row by row, needed column by column.
    let values = (0..rank)
        .flat_map(|column| start.iter().map(move |row| f64::from(row[column])))
        .collect();
    let (p, q) = power_sgd::factorise(
        &matrix.concat(),
        power_sgd::Columns {
            length: start.len(),
            values,
        },
        iterations,
    );
    assert_eq!(
        p.values.len() + q.values.len(),
        natural(&expected["floats_on_wire"]),
        "{id}"
    );
    let narrow = |values: &[f64]| {
        values
            .iter()
            .map(|value| *value as f32)
            .collect::<Vec<f32>>()
    };
    let mut decoded = matrix.concat();
    power_sgd::product(&narrow(&p.values), &narrow(&q.values), rank, &mut decoded);
    let approximation: Vec<f64> = expected["approximation"]
        .as_array()
        .expect("rows")
        .iter()
        .flat_map(numbers)
        .collect();
    case.assert_close(&widen(&decoded), &approximation);
    let error = relative_error(&matrix.concat(), &decoded);
    case.assert_close(
        &[error],
        &[expected["relative_error"].as_f64().expect("an error")],
    );
}

/// Error feedback in the form of 2014 is a replica of the *cumulated* steps. Let x = Σ η g so far
/// and x̂ = Σ sent so far. The memory is the unsent part, e = x − x̂, so p = e + η g is the new x
/// minus the old x̂: the difference that a replica codec sends. Both sides' x̂ is the model that
/// the steps lead to, and sum(sent) + e = sum(η g) holds because it defines e.
fn error_feedback_14(case: &Case<'_>) {
    let (gradients, expected) = (rows(&case["input"]), &case["expected"]);
    let dimension = gradients[0].len();
    let rate = case["params"]["lr"].as_f64().expect("a rate") as f32;
    let codec = keeping(natural(&case["params"]["k"]), dimension);
    let (mut cumulated, mut replica) = (vec![0f32; dimension], vec![0f32; dimension]);
    for (round, gradient) in gradients.iter().enumerate() {
        cumulated
            .iter_mut()
            .zip(gradient)
            .for_each(|(sum, gradient)| *sum += rate * gradient);
        let sent = send(&*codec, &cumulated, &mut replica);
        case.assert_close(&widen(&sent), &numbers(&expected["sent"][round]));
        let memory: Vec<f32> = cumulated
            .iter()
            .zip(&replica)
            .map(|(sum, replica)| sum - replica)
            .collect();
        case.assert_close(&widen(&memory), &numbers(&expected["memory"][round]));
    }
    case.assert_close(
        &widen(&cumulated),
        &numbers(&expected["sum_sent_plus_memory"]),
    );
}

/// EF21 is a replica of the gradient itself: c = C(gradient − g) and g += c at both ends is the
/// definition of the form.
fn error_feedback_21(case: &Case<'_>) {
    let (gradients, expected) = (rows(&case["input"]), &case["expected"]);
    let codec = keeping(natural(&case["params"]["k"]), gradients[0].len());
    let mut replica = vec![0f32; gradients[0].len()];
    for (round, gradient) in gradients.iter().enumerate() {
        let sent = send(&*codec, gradient, &mut replica);
        case.assert_close(&widen(&sent), &numbers(&expected["sent"][round]));
        case.assert_close(&widen(&replica), &numbers(&expected["state"][round]));
    }
}

/// CHOCO-gossip: the replica form under a mixing step, which is computed here: the rule itself
/// lives with the aggregation.
fn choco_gossip(case: &Case<'_>) {
    let id = case.id;
    let (params, expected) = (&case["params"], &case["expected"]);
    let mut models: Vec<Vec<f64>> = case["input"]
        .as_array()
        .expect("rows")
        .iter()
        .map(numbers)
        .collect();
    let (peers, dimension) = (models.len(), models[0].len());
    assert_eq!(natural(&params["n"]), peers, "{id}: a model for each peer");
    let graph = graph(params["graph"].as_str().expect("a topology's name"), peers);
    let gamma = params["gamma"].as_f64().expect("gamma");
    let codec = keeping(natural(&params["k"]), dimension);
    let mut replicas = vec![vec![0f32; dimension]; peers];
    let mean = |models: &[Vec<f64>], column: usize| {
        models.iter().map(|model| model[column]).sum::<f64>() / peers as f64
    };
    let mut errors = Vec::new();
    for _ in 0..natural(&params["rounds"]) {
        for (model, replica) in models.iter().zip(&mut replicas) {
            let model: Vec<f32> = model.iter().map(|value| *value as f32).collect();
            send(&*codec, &model, replica);
        }
        for (index, model) in models.iter_mut().enumerate() {
            let replica = |peer: usize, column: usize| f64::from(replicas[peer][column]);
            for (column, value) in model.iter_mut().enumerate() {
                let pull = |neighbour: &usize| {
                    graph.mixing_weight(index, *neighbour)
                        * (replica(*neighbour, column) - replica(index, column))
                };
                *value += gamma * graph.receives_from(index).iter().map(pull).sum::<f64>();
            }
        }
        let square = |model: &Vec<f64>| {
            (0..dimension)
                .map(|column| (model[column] - mean(&models, column)).powi(2))
                .sum::<f64>()
        };
        errors.push(models.iter().map(square).sum::<f64>());
    }
    // Replicas are 32-bit: each round adds their rounding, a third of the file's tolerance.
    let times = (natural(&params["rounds"]) as f64 / 3.0).max(1.0);
    for (index, model) in models.iter().enumerate() {
        case.assert_within(model, &numbers(&expected["x"][index]), times);
        case.assert_within(
            &widen(&replicas[index]),
            &numbers(&expected["x_hat"][index]),
            times,
        );
    }
    case.assert_within(&errors, &numbers(&expected["consensus_error"]), times);
    let means: Vec<f64> = (0..dimension).map(|column| mean(&models, column)).collect();
    case.assert_close(&means, &numbers(&expected["mean_preserved"]));
}

fn prng(case: &Case<'_>) {
    let id = case.id;
    let expected = &case["expected"];
    let mut stream = stream(&case["params"]);
    for word in expected["first_u64_decimal"].as_array().expect("words") {
        assert_eq!(
            stream.next_u64().to_string(),
            word.as_str().expect("text"),
            "{id}"
        );
    }
    let units = numbers(&expected["then_unit"]);
    case.assert_close(
        &units.iter().map(|_| stream.unit()).collect::<Vec<_>>(),
        &units,
    );
    let bounded = numbers(&expected["then_bounded_10"]);
    assert_eq!(
        bounded
            .iter()
            .map(|_| stream.bounded(10) as f64)
            .collect::<Vec<_>>(),
        bounded,
        "{id}"
    );
}

#[test]
fn known_answers_compression() {
    let folder = std::env::var("KITH_KNOWN_ANSWERS")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/known-answers").into());
    let text = std::fs::read_to_string(format!("{folder}/compression.json"))
        .expect("the file of known answers");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let cases = file["cases"].as_array().expect("cases");
    assert!(!cases.is_empty(), "the file holds no case");
    for case in cases {
        let (id, kind) = (
            case["id"].as_str().expect("id"),
            case["kind"].as_str().expect("kind"),
        );
        let run = match kind {
            "top_k" => top_k,
            "block_int" => block_int,
            "qsgd" => qsgd,
            "random_k" => random_k,
            "sign_mean" => sign,
            "power_sgd" => power_sgd,
            "error_feedback_ef14" => error_feedback_14,
            "error_feedback_ef21" => error_feedback_21,
            "choco_gossip" => choco_gossip,
            "prng" => prng,
            unknown => panic!("{id}: unknown kind {unknown:?}"),
        };
        // The power iteration has its own tolerance.
        let own = if kind == "power_sgd" {
            file["tolerance"]["powersgd_rel"].as_f64()
        } else {
            None
        };
        let number = |key: &str| {
            own.unwrap_or_else(|| file["tolerance"][key].as_f64().expect("a tolerance"))
        };
        run(&Case {
            id,
            case,
            tolerance: Tolerance {
                absolute: number("abs"),
                relative: number("rel"),
            },
        });
    }
    println!("compression: {} cases", cases.len());
}
