//! Files that somebody else made, from a corpus: models, and rows as tables, IDX and NPY, plain and
//! packed. See `tests/corpus.rs` at the root.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/corpus.rs"]
mod harness;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use harness::{Files, LITTLE, Target, drive};
use kith_consensus::section::Document;
use kith_models::{Layout, Schema, inspect, open, read_model, read_tensors, write_model};

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn schema(text: &str) -> Schema {
    let mut document = Document::parse(&format!("[data]\n{text}\n")).unwrap();
    let schema = document.section("data", Schema::read);
    document.finish().unwrap();
    schema
}

/// A folder for the files of this process.
fn folder() -> &'static std::path::Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    // A new file: some file systems sync one that is cut and written again.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Opens rows; an error is also told.
fn opens(path: &std::path::Path, schema: &Schema) -> bool {
    let opened = open(path, schema);
    opened.inspect_err(|error| drop(error.to_string())).is_ok()
}

// --- models ---

fn layout() -> Layout {
    let shapes = [("a.weight", vec![2, 3]), ("b.bias", vec![2])];
    Layout::new(shapes.map(|(name, shape)| (name.to_owned(), shape)))
}

fn safetensors(bytes: &[u8]) -> bool {
    let _ = inspect(bytes);
    let _ = read_tensors(bytes);
    read_model(bytes, &layout())
        .inspect_err(|error| drop(error.to_string()))
        .is_ok()
}

fn safetensors_files() -> Files {
    let model = |metadata: &BTreeMap<String, String>| write_model(&layout(), &[0.5; 8], metadata);
    let said = BTreeMap::from([("kith.round".to_owned(), "7".to_owned())]);
    let with = |length: u64, header: &str, values: usize| {
        [
            &length.to_le_bytes()[..],
            header.as_bytes(),
            &vec![0; values],
        ]
        .concat()
    };
    let header = |header: &str, values| with(header.len() as u64, header, values);
    // The first tensor as told, the second as it has to be.
    let one = |dtype: &str, shape: &str, offsets: &str, values: usize| {
        let tensor = |name: &str, dtype: &str, shape: &str, offsets: &str| {
            format!(
                "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}"
            )
        };
        let first = tensor("a.weight", dtype, shape, offsets);
        let second = tensor(
            "b.bias",
            "F32",
            "[2]",
            &format!("[{values},{}]", values + 8),
        );
        header(&format!("{{{first},{second}}}"), values + 8)
    };
    vec![
        ("valid-model", model(&BTreeMap::new())),
        ("valid-model-with-metadata", model(&said)),
        ("valid-by-hand", one("F32", "[2,3]", "[0,24]", 24)),
        ("refused-other-shape", one("F32", "[3,2]", "[0,24]", 24)),
        ("refused-half-precision", one("F16", "[2,3]", "[0,12]", 12)),
        ("refused-unknown-type", one("F31", "[2,3]", "[0,24]", 24)),
        (
            "refused-shape-beyond-memory",
            one("F32", "[4294967296,4294967296]", "[0,24]", 24),
        ),
        (
            "refused-shape-beyond-integers",
            one("F32", "[99999999999999999999]", "[0,24]", 24),
        ),
        (
            "refused-offsets-backwards",
            one("F32", "[2,3]", "[24,0]", 24),
        ),
        (
            "refused-offsets-beyond",
            one(
                "F32",
                "[2,3]",
                "[18446744073709551592,18446744073709551615]",
                24,
            ),
        ),
        ("refused-header-length", with(u64::MAX, "{}", 0)),
        ("refused-header-longer-than-file", with(1 << 40, "{}", 0)),
        ("refused-header-deep", header(&"[".repeat(2000), 0)),
        (
            "refused-header-deep-objects",
            header(&"{\"a\":".repeat(1000), 0),
        ),
        ("refused-header-not-text", with(4, "\u{fffd}\u{fffd}", 0)),
        ("refused-no-tensor", header("{}", 0)),
        (
            "refused-metadata-numbers",
            header("{\"__metadata__\":{\"a\":1}}", 0),
        ),
    ]
}

// --- tables ---

fn table(bytes: &[u8]) -> bool {
    let plain = schema("shape = [2]\nclasses = 2");
    let named = schema(
        "classes = 2\nlabel = \"sick\"\nclass_names = [\"no\", \"yes\"]\n\
         [[data.column]]\nname = \"chol\"\nmean = 240\ndeviation = 50\nimpute = 240\nmissing = [0]\n\
         [[data.column]]\nname = \"sex\"\nkind = \"category\"\nvalues = [\"f\", \"m\"]",
    );
    let path = file("rows.csv", bytes);
    opens(&path, &plain) | opens(&path, &named)
}

fn tables() -> Files {
    let plain = b"a,b,label\n1,2,0\n1.5,-2e3,1\n";
    let named = b"\xef\xbb\xbfsick,name,sex,chol\nyes,Ada,f,290\nno,\"Bo, B\",m,0\nno,Cy,?,\n";
    vec![
        ("valid-plain.csv", plain.to_vec()),
        ("valid-named.csv", named.to_vec()),
        ("valid-packed.csv.gz", packed(plain)),
        ("refused-header-alone.csv", b"a,b,label\n".to_vec()),
        ("refused-not-finite.csv", b"a,b,label\n1,inf,0\n".to_vec()),
        (
            "refused-other-class.csv",
            b"a,b,label\n1,2,18446744073709551616\n".to_vec(),
        ),
        (
            "refused-open-quote.csv",
            [b"a,b,label\n1,\"2,0\n", &b"x,".repeat(1000)[..]].concat(),
        ),
        ("refused-quotes.csv", vec![b'"'; 4001]),
        ("refused-many-cells.csv", vec![b','; 2000]),
        (
            "refused-not-text.csv",
            b"a,b,label\n1,\xff\xfe,0\n".to_vec(),
        ),
        ("refused-zeros.csv", vec![0; 2000]),
        ("refused-packed-twice.csv.gz", packed(&packed(plain))),
        (
            "refused-packed-expands.csv.gz",
            packed(&vec![b'1'; 1 << 20]),
        ),
        (
            "refused-packed-expands-to-rows.csv.gz",
            packed(&[&b"a,b,label\n"[..], &b"1,2,0\n".repeat(5000), b"1,2"].concat()),
        ),
    ]
}

// --- IDX ---

fn idx_of(magic: u32, sides: &[u32], values: &[u8]) -> Vec<u8> {
    let words = [magic].into_iter().chain(sides.iter().copied());
    words
        .flat_map(u32::to_be_bytes)
        .chain(values.iter().copied())
        .collect()
}

fn idx_schema() -> Schema {
    schema("shape = [1, 2, 2]\nclasses = 3\ndeviation = [2]")
}

fn idx(bytes: &[u8]) -> bool {
    file(
        "t-labels-idx1-ubyte",
        &idx_of(0x801, &[5], &[0, 1, 2, 1, 0]),
    );
    opens(&file("t-images-idx3-ubyte", bytes), &idx_schema())
}

fn idx_files() -> Files {
    let pixels: Vec<u8> = (0..20).collect();
    let good = idx_of(0x803, &[5, 2, 2], &pixels);
    vec![
        ("valid-images", good.clone()),
        ("valid-images.gz", packed(&good)),
        (
            "refused-count-of-labels",
            idx_of(0x803, &[4, 2, 2], &pixels[..16]),
        ),
        (
            "refused-longer",
            idx_of(0x803, &[5, 2, 2], &[&pixels[..], &[0]].concat()),
        ),
        ("refused-count", idx_of(0x803, &[u32::MAX, 2, 2], &pixels)),
        (
            "refused-count-below-limit",
            idx_of(0x803, &[1 << 30, 2, 2], &pixels),
        ),
        (
            "refused-sides",
            idx_of(0x803, &[5, u32::MAX, u32::MAX], &pixels),
        ),
        ("refused-no-image", idx_of(0x803, &[0, 2, 2], &[])),
        ("refused-no-pixel", idx_of(0x803, &[5, 0, 2], &[])),
        ("refused-floats", idx_of(0xd03, &[5, 2, 2], &pixels)),
        ("refused-four-sides", idx_of(0x804, &[5, 1, 2, 2], &pixels)),
        (
            "refused-expands.gz",
            packed(&idx_of(0x803, &[5, 2, 2], &vec![0; 1 << 20])),
        ),
        (
            "refused-expands-as-told.gz",
            packed(&idx_of(0x803, &[1 << 18, 2, 2], &vec![0; 1 << 20])),
        ),
    ]
}

fn idx_labels(bytes: &[u8]) -> bool {
    let pixels: Vec<u8> = (0..20).collect();
    let images = file("u-images-idx3-ubyte", &idx_of(0x803, &[5, 2, 2], &pixels));
    file("u-labels-idx1-ubyte", bytes);
    opens(&images, &idx_schema())
}

fn idx_label_files() -> Files {
    let good = idx_of(0x801, &[5], &[0, 1, 2, 1, 0]);
    vec![
        ("valid-labels", good.clone()),
        ("valid-labels.gz", packed(&good)),
        ("refused-class", idx_of(0x801, &[5], &[0, 1, 3, 1, 0])),
        ("refused-count", idx_of(0x801, &[u32::MAX], &[0; 5])),
        ("refused-images", idx_of(0x803, &[5, 1, 1], &[0; 5])),
        (
            "refused-expands.gz",
            packed(&idx_of(0x801, &[5], &vec![0; 1 << 20])),
        ),
    ]
}

// --- NPY ---

fn npy_of(version: u8, header: &str, values: &[u8]) -> Vec<u8> {
    let mut header = header.as_bytes().to_vec();
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(b' ');
    }
    header.push(b'\n');
    let mut bytes = [&b"\x93NUMPY"[..], &[version, 0]].concat();
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header);
    bytes.extend(values);
    bytes
}

fn described(kind: &str, order: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}");
    npy_of(1, &header, values)
}

fn npy_schema() -> Schema {
    schema("shape = [3]\nclasses = 2\nmean = [1]\ndeviation = [2]")
}

fn npy_labels_file() -> Vec<u8> {
    described("|u1", "False", "(2,)", &[1, 0])
}

fn npy(bytes: &[u8]) -> bool {
    file("ward-y.npy", &npy_labels_file());
    opens(&file("ward-x.npy", bytes), &npy_schema())
}

fn npy_files() -> Files {
    let doubles: Vec<u8> = (1..=6)
        .flat_map(|value| f64::from(value).to_le_bytes())
        .collect();
    let good = described("<f8", "False", "(2, 3)", &doubles);
    let of = |shape: &str| described("<f8", "False", shape, &doubles);
    let not_finite = [f64::NAN; 6].iter().flat_map(|value| value.to_le_bytes());
    vec![
        ("valid-doubles.npy", good.clone()),
        (
            "valid-bytes.npy",
            described("|u1", "False", "(2, 3)", &[1, 2, 3, 4, 5, 6]),
        ),
        ("valid-packed.npy.gz", packed(&good)),
        (
            "refused-columns-first.npy",
            described("<f8", "True", "(2, 3)", &doubles),
        ),
        (
            "refused-big-endian.npy",
            described(">f8", "False", "(2, 3)", &doubles),
        ),
        (
            "refused-objects.npy",
            described("|O", "False", "(2, 3)", &doubles),
        ),
        (
            "refused-not-finite.npy",
            described("<f8", "False", "(2, 3)", &not_finite.collect::<Vec<u8>>()),
        ),
        ("refused-shape-turned.npy", of("(3, 2)")),
        ("refused-shape-of-nothing.npy", of("()")),
        ("refused-shape-zero.npy", of("(0, 3)")),
        (
            "refused-shape-beyond-memory.npy",
            of("(4294967296, 4294967296, 4294967296)"),
        ),
        ("refused-shape-below-limit.npy", of("(500000000, 3)")),
        (
            "refused-shape-beyond-integers.npy",
            of("(99999999999999999999999, 3)"),
        ),
        ("refused-shape-negative.npy", of("(-2, 3)")),
        (
            "refused-many-axes.npy",
            of(&format!("({})", "1,".repeat(2000))),
        ),
        ("refused-deep.npy", of(&"(".repeat(2000))),
        (
            "refused-header-length.npy",
            [&b"\x93NUMPY\x02\x00"[..], &[0xff; 4], b"{}"].concat(),
        ),
        (
            "refused-header-not-text.npy",
            [&b"\x93NUMPY\x01\x00"[..], &[4, 0], &[0xff; 4]].concat(),
        ),
        (
            "refused-version.npy",
            [&b"\x93NUMPY\x09\x00"[..], &good[8..]].concat(),
        ),
        (
            "refused-expands.npy.gz",
            packed(&[&good[..], &vec![0; 1 << 20]].concat()),
        ),
        (
            "refused-expands-as-told.npy.gz",
            packed(&described(
                "|u1",
                "False",
                "(349525, 3)",
                &vec![0; 349_525 * 3],
            )),
        ),
    ]
}

fn npy_labels(bytes: &[u8]) -> bool {
    let rows = described("|u1", "False", "(2, 3)", &[1, 2, 3, 4, 5, 6]);
    let rows = file("room-x.npy", &rows);
    file("room-y.npy", bytes);
    opens(&rows, &npy_schema())
}

fn npy_label_files() -> Files {
    let long = |label: i64| [label.to_le_bytes(), 0i64.to_le_bytes()].concat();
    vec![
        ("valid-labels.npy", npy_labels_file()),
        (
            "valid-long-labels.npy",
            described("<i8", "False", "(2,)", &long(1)),
        ),
        (
            "refused-class.npy",
            described("<i8", "False", "(2,)", &long(2)),
        ),
        (
            "refused-negative-class.npy",
            described("<i8", "False", "(2,)", &long(-1)),
        ),
        (
            "refused-least-class.npy",
            described("<i8", "False", "(2,)", &long(i64::MIN)),
        ),
        (
            "refused-two-axes.npy",
            described("|u1", "False", "(2, 1)", &[1, 0]),
        ),
        (
            "refused-count.npy",
            described("|u1", "False", "(4000000000,)", &[1, 0]),
        ),
    ]
}

#[test]
fn no_bytes_harm_a_decoder() {
    let targets = [
        (
            "safetensors",
            safetensors as fn(&[u8]) -> bool,
            safetensors_files as fn() -> Files,
        ),
        ("table", table, tables),
        ("idx", idx, idx_files),
        ("idx-labels", idx_labels, idx_label_files),
        ("npy", npy, npy_files),
        ("npy-labels", npy_labels, npy_label_files),
    ]
    .map(|(name, decode, files)| Target {
        name,
        decode,
        files,
        mutations: 150,
        growth_max: LITTLE,
    });
    drive(&targets);
}
