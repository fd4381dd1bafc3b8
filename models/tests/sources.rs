//! A peer's own files: what is read, what is refused and with which words; what is written comes
//! back.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};

use kith_consensus::Seed;
use kith_consensus::section::Document;
use kith_models::source::open_idx_rows;
use kith_models::{
    DATASETS, Dataset, DatasetOptions, Opening, Partition, Rows, Schema, Source, TestSize, open,
    open_as, open_idx, open_unlabelled, write_csv,
};

fn schema(text: &str) -> Schema {
    let mut document = Document::parse(&format!("[data]\n{text}\n")).unwrap();
    let schema = document.section("data", Schema::read);
    document.finish().unwrap();
    schema
}

fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Opens `text` as CSV and returns the error without the folder's name.
fn refused(text: &str, schema: &Schema) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "rows.csv", text.as_bytes());
    let error = open(&path, schema).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_wrong_cell_is_told_with_file_line_column_and_value() {
    let plain = schema("shape = [2]\nclasses = 2");
    assert_eq!(
        refused("a,b,label\n1,2,0\n1,x,1\n", &plain),
        "rows.csv, line 3, column \"b\": expected a finite number, found \"x\""
    );
    assert_eq!(
        refused("a,b,label\n1,,0\n", &plain),
        "rows.csv, line 2, column \"b\": expected a finite number, found \"\""
    );
    assert!(refused("a,b,label\n1,NaN,0\n", &plain).contains("found \"NaN\""));
    assert!(refused("a,b,label\n1,inf,0\n", &plain).contains("found \"inf\""));
    assert!(refused("a,b,label\n1,1e300,0\n", &plain).contains("found \"1e300\""));
    assert_eq!(
        refused("a,b,label\n1,2,7\n", &plain),
        "rows.csv, line 2, column \"label\": expected an integer from 0 to 1, found \"7\""
    );
    assert!(refused("a,b,label\n1,2,0.5\n", &plain).contains("expected an integer"));
    assert_eq!(
        refused("a,b,label\n1,2,0\n1,2\n", &plain),
        "rows.csv, line 3: expected 3 cells like the header, found 2"
    );
    assert_eq!(
        refused("a,b,class\n1,2,0\n", &plain),
        "rows.csv: expected the column \"label\" once, found it not at all; the header is: a, b, class"
    );
    assert!(
        refused("a,b,c,label\n1,2,3,0\n", &plain).contains("found 3 columns besides \"label\"")
    );
    assert!(refused("a,b,label\n", &plain).contains("no row"));
    assert!(refused("", &plain).contains("not at all"));
}

#[test]
fn named_columns_are_found_by_name_and_missing_values_imputed() {
    let schema = schema(
        "classes = 2\nlabel = \"sick\"\nclass_names = [\"no\", \"yes\"]\n\
         [[data.column]]\nname = \"chol\"\nmean = 240\ndeviation = 50\nimpute = 240\nmissing = [0]\n\
         [[data.column]]\nname = \"sex\"\nkind = \"category\"\nvalues = [\"f\", \"m\"]",
    );
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{feff}sick,name,sex,chol\nyes,Ada,f,290\nno,\"Bo, B\",m,0\nno,Cy,?,\n";
    for path in [
        file(folder.path(), "a.csv", text.as_bytes()),
        file(folder.path(), "a.csv.gz", &packed(text.as_bytes())),
    ] {
        let data = open(&path, &schema).unwrap();
        assert_eq!(data.labels(), [1, 0, 0]);
        assert_eq!(
            [data.row(0), data.row(1), data.row(2)],
            [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
        );
    }
    assert_eq!(
        refused("sick,sex,chol\nyes,x,1\n", &schema),
        "rows.csv, line 2, column \"sex\": expected one of f, m, found \"x\""
    );
    assert!(refused("sick,sex,chol\nmaybe,f,1\n", &schema).contains("expected one of no, yes"));
}

#[test]
fn rows_without_labels_are_read_and_labels_that_are_there_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let table = |text: &str| file(folder.path(), "rows.csv", text.as_bytes());
    let features = |path: &Path, schema: &Schema| {
        let (rows, reading) = open_unlabelled(path, schema).unwrap();
        assert!(rows.labels().iter().all(|label| *label == 0));
        (
            (0..rows.len()).map(|row| rows.row(row)).collect::<Vec<_>>(),
            reading,
        )
    };
    let named = schema("classes = 2\nlabel = \"sick\"\n[[data.column]]\nname = \"age\"");
    let (rows, reading) = features(&table("name,age\nAda,3\nBo,4\n"), &named);
    assert_eq!(
        (rows, reading.unused),
        (vec![vec![3.0], vec![4.0]], vec!["name".to_owned()])
    );
    let (rows, reading) = features(&table("sick,age\nmaybe,3\n"), &named);
    assert_eq!((rows, reading.unused.len()), (vec![vec![3.0]], 0));

    let plain = schema("shape = [2]\nclasses = 2\nmean = [1]");
    for text in ["a,b\n1,2\n", "a,label,b\n1,?,2\n"] {
        assert_eq!(features(&table(text), &plain).0, [[0.0, 1.0]], "{text}");
    }
    let wide = open_unlabelled(&table("a,b,c\n1,2,3\n"), &plain).unwrap_err();
    assert!(wide.to_string().contains("3 columns"), "{wide}");

    let images = idx(0x0803, &[2, 1, 2], &[1, 2, 3, 4]);
    let array = npy("|u1", "False", "(2, 2)", &[1, 2, 3, 4]);
    for (name, bytes) in [("images-idx3-ubyte", images), ("rows.npy", array)] {
        let path = file(folder.path(), name, &bytes);
        assert_eq!(
            features(&path, &plain).0,
            [[0.0, 1.0], [2.0, 3.0]],
            "{name}"
        );
    }
}

#[test]
fn a_shard_written_and_opened_again_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["digits", "heart"] {
        let (loaded, task, _, _) = common::loaded(name);
        let rows: Vec<usize> = (0..loaded.source.len()).step_by(7).collect();
        let shard = loaded.source.select(&rows);
        let wanted = loaded.dataset(task.schema()).unwrap().select(&rows);
        let path = shard.write(folder.path(), name).unwrap();
        assert_eq!(open(&path, task.schema()).unwrap(), wanted, "{name}");

        let table = folder.path().join(format!("{name}-table.csv"));
        write_csv(&table, &shard, &task.schema().label).unwrap();
        let again = open(&table, task.schema()).unwrap();
        assert_eq!(again.labels(), wanted.labels());
        assert!(
            (0..again.len()).all(|row| again.row(row) == wanted.row(row)),
            "{name}"
        );
    }
}

fn idx(magic: u32, sides: &[u32], values: &[u8]) -> Vec<u8> {
    let words = [magic]
        .into_iter()
        .chain(sides.iter().copied())
        .flat_map(u32::to_be_bytes);
    words.chain(values.iter().copied()).collect()
}

#[test]
fn idx_files_are_read_plain_and_packed_whole_and_in_part() {
    let schema = schema("shape = [1, 2, 2]\nclasses = 3\ndeviation = [2]");
    let folder = tempfile::tempdir().unwrap();
    let pixels: Vec<u8> = (0..20).collect();
    let images = idx(0x803, &[5, 2, 2], &pixels);
    let labels = idx(0x801, &[5], &[0, 1, 2, 1, 0]);
    let path = file(folder.path(), "t-images-idx3-ubyte", &images);
    file(folder.path(), "t-labels-idx1-ubyte.gz", &packed(&labels));
    let data = open(&path, &schema).unwrap();
    assert_eq!(
        (data.labels(), data.row(1)),
        (&[0, 1, 2, 1, 0][..], vec![2.0, 2.5, 3.0, 3.5])
    );
    assert_eq!(data.memory_bytes(), 20 + 20);

    let packed_images = file(folder.path(), "u.gz", &packed(&images));
    let labels = folder.path().join("t-labels-idx1-ubyte.gz");
    assert_eq!(open_idx(&packed_images, &labels, &schema).unwrap(), data);
    assert_eq!(
        open_idx_rows(&path, &labels, &schema, Some(&[1, 4])).unwrap(),
        data.select(&[1, 4])
    );
    for rows in [&[4, 1][..], &[5], &[1, 1]] {
        assert!(
            open_idx_rows(&path, &labels, &schema, Some(rows)).is_err(),
            "{rows:?}"
        );
    }
}

#[test]
fn damaged_idx_files_are_refused_without_taking_their_word() {
    let schema = schema("shape = [4]\nclasses = 3");
    let folder = tempfile::tempdir().unwrap();
    let labels = file(folder.path(), "labels", &idx(0x801, &[2], &[0, 1]));
    for (bytes, part) in [
        (
            idx(0x803, &[2, 2, 2], &[0; 7]),
            "expected 8 bytes of values as announced, found 7",
        ),
        (
            idx(0x803, &[2, 2, 2], &[0; 9]),
            "expected 8 bytes of values as announced, found 9",
        ),
        (
            idx(0x801, &[2, 2, 2], &[0; 8]),
            "expected the magic number 0x00000803, found 0x00000801",
        ),
        (idx(0x803, &[u32::MAX; 3], &[0; 8]), "at most 16 GiB"),
        (
            idx(0x803, &[1 << 30, 2, 2], &[0; 8]),
            "expected 4294967296 bytes",
        ),
        (
            idx(0x803, &[3, 2, 2], &[0; 12]),
            "announces 2 labels for the 3 images",
        ),
        (
            idx(0x803, &[2, 1, 3], &[0; 6]),
            "expected rows of shape [4] (data.shape), found images of 1×3 pixels",
        ),
        (b"\0\0\x08".to_vec(), "expected an IDX header of 16 bytes"),
    ] {
        let images = file(folder.path(), "images", &bytes);
        let error = open_idx(&images, &labels, &schema).unwrap_err().to_string();
        assert!(error.contains(part), "{part:?}: {error}");
    }
    let images = file(folder.path(), "images", &idx(0x803, &[2, 2, 2], &[0; 8]));
    let labels = file(folder.path(), "labels", &idx(0x801, &[2], &[0, 3]));
    assert!(
        open_idx(&images, &labels, &schema)
            .unwrap_err()
            .to_string()
            .contains("row 1 has label 3")
    );
}

fn npy(kind: &str, order: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}").into_bytes();
    while (header.len() + 11) % 64 != 0 {
        header.push(b' ');
    }
    header.push(b'\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header);
    bytes.extend(values);
    bytes
}

#[test]
fn npy_pairs_are_read_and_damaged_ones_refused() {
    let schema = schema("shape = [3]\nclasses = 2\nmean = [1]\ndeviation = [2]");
    let folder = tempfile::tempdir().unwrap();
    let doubles: Vec<u8> = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let path = file(
        folder.path(),
        "ward-x.npy",
        &npy("<f8", "False", "(2, 3)", &doubles),
    );
    file(
        folder.path(),
        "ward-y.npy",
        &npy(
            "<i8",
            "False",
            "(2,)",
            &[[1u8, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat(),
        ),
    );
    let data = open(&path, &schema).unwrap();
    assert_eq!(
        (data.labels(), data.row(1)),
        (&[1, 0][..], vec![1.5, 2.0, 2.5])
    );
    let bytes = file(
        folder.path(),
        "ward-x.npy",
        &npy("|u1", "False", "(2, 3)", &[1, 2, 3, 4, 5, 6]),
    );
    let data = open(&bytes, &schema).unwrap();
    assert_eq!(
        (data.row(1), data.memory_bytes()),
        (vec![1.5, 2.0, 2.5], 6 + 8)
    );

    let nan: Vec<u8> = [f64::NAN; 6]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    for (bytes, part) in [
        (
            npy("<f8", "False", "(2, 3)", &doubles[..40]),
            "expected 48 bytes of values as announced, found 40",
        ),
        (npy("<f8", "True", "(2, 3)", &doubles), "C order"),
        (npy(">f8", "False", "(2, 3)", &doubles), "little-endian"),
        (
            npy("<f8", "False", "(3, 2)", &doubles),
            "found an array of shape [3, 2]",
        ),
        (
            npy("<f8", "False", "(2, 18446744073709551615)", &doubles),
            "at most 16 GiB",
        ),
        (npy("<f8", "False", "(2, -3)", &doubles), "expected a shape"),
        (
            npy("<f8", "False", "(2, 3)", &nan),
            "row 0, feature 0: expected a finite number, found NaN",
        ),
        (
            npy("|u1", "False", "(3, 3)", &[0; 9]),
            "expected shape [3] like the rows, found [2]",
        ),
        (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "little-endian"),
        (b"PK\x03\x04".to_vec(), "expected an NPY file"),
    ] {
        let path = file(folder.path(), "ward-x.npy", &bytes);
        let error = open(&path, &schema).unwrap_err().to_string();
        assert!(error.contains(part), "{part:?}: {error}");
    }
}

#[test]
fn a_name_without_a_format_and_labels_that_are_not_there_are_told() {
    let schema = schema("shape = [4]\nclasses = 2");
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str| {
        open(&file(folder.path(), name, b"x"), &schema)
            .unwrap_err()
            .to_string()
    };
    assert!(error("rows.parquet").contains("expected *.csv"));
    assert!(error("a-images-idx3-ubyte").contains("\"a-labels-idx1-ubyte\" beside it"));
    assert!(
        open(&folder.path().join("none.csv"), &schema)
            .unwrap_err()
            .to_string()
            .contains("none.csv")
    );
}

#[test]
fn every_data_set_loads_with_its_defaults_or_says_how() {
    for entry in &DATASETS {
        let task = common::task(entry.new.defaults);
        match (entry.new.load)(&DatasetOptions::default()) {
            Err(error) => assert!(error.to_string().contains("apt-get install"), "{error}"),
            Ok(loaded) => {
                let split = loaded
                    .split(task.schema(), None, &Seed::from_number(5))
                    .unwrap();
                assert_eq!(
                    split.train.len() + split.test.len(),
                    loaded.source.len(),
                    "{}",
                    entry.name
                );
                assert!(
                    split
                        .test
                        .iter()
                        .all(|row| split.train.binary_search(row).is_err())
                );
                let labels = loaded.source.labels(task.schema()).unwrap();
                for class in 0..task.schema().classes as u32 {
                    let share = |rows: &[usize]| {
                        rows.iter().filter(|row| labels[**row] == class).count() as f64
                            / rows.len() as f64
                    };
                    assert!(
                        (share(&split.train) - share(&split.test)).abs() < 0.01,
                        "{} class {class}",
                        entry.name
                    );
                }
            }
        }
    }
}

#[test]
fn hospitals_are_a_natural_partition_that_survives_the_split() {
    let (loaded, task, train, _) = common::loaded("heart");
    let split = loaded
        .split(task.schema(), None, &Seed::from_number(0))
        .unwrap();
    let sites = loaded.sites_among(&split.train).unwrap();
    let rows = Rows {
        labels: train.labels(),
        classes: 2,
        sites: Some(&sites),
    };
    let natural = Partition::parse("natural").unwrap();
    let parts = natural
        .split(rows, 4, &mut common::stream("natural"))
        .unwrap();
    assert_eq!(
        parts.iter().map(Vec::len).collect::<Vec<_>>(),
        [228, 220, 92, 150]
    );
    let Source::Table(table) = loaded.source.select(&split.train) else {
        panic!("heart is a table")
    };
    let hospitals: Vec<&str> = table.column("dataset").unwrap().collect();
    for (site, part) in sites.iter().zip(&parts) {
        assert!(part.iter().all(|row| hospitals[*row] == site.name));
    }
    let error = natural
        .split(rows, 5, &mut common::stream("natural"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected 4 (Cleveland, Hungary, Switzerland, VA Long Beach), found 5"),
        "{error}"
    );
    assert!(
        loaded
            .split(
                task.schema(),
                Some(TestSize::Rows(920)),
                &Seed::from_number(0)
            )
            .is_err()
    );
}

proptest::proptest! {
    /// Whatever a file holds, it is read or refused.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), start in 0usize..5) {
        let schema = schema("shape = [2]\nclasses = 2");
        let folder = tempfile::tempdir().unwrap();
        let starts: [&[u8]; 5] = [b"", b"\0\0\x08\x03\0\0\0", b"\x93NUMPY\x01\x00", b"\x1f\x8b\x08", b"a,b,label\n"];
        let bytes = [starts[start], &bytes].concat();
        for name in ["r.csv", "r-images-idx3-ubyte", "r-labels-idx1-ubyte", "x.npy", "y.npy"] {
            file(folder.path(), name, &bytes);
        }
        for name in ["r.csv", "r-images-idx3-ubyte", "x.npy"] {
            if let Ok(data) = open(&folder.path().join(name), &schema) {
                proptest::prop_assert!(!data.is_empty() && data.labels().iter().all(|label| *label < 2));
            }
        }
    }
}

#[test]
fn a_quote_that_never_closes_is_refused_where_it_opens() {
    let schema = schema("classes = 2\n[[data.column]]\nname = \"x\"");
    let told = "rows.csv, line 3: a cell opens with a quote here, and no later quote closes it";
    for rest in ["", "3,1,fine\n4,0,fine\n", "3,1,5\"\"\n4,0,6\n"] {
        let error = refused(
            &format!("x,label,note\n1,0,fine\n2,1,\"12 weeks\n{rest}"),
            &schema,
        );
        assert!(error.starts_with(told), "{error}");
    }
    let error = refused("x,label,note\n1,0,fine\n2,1,\"12 weeks", &schema);
    assert!(error.starts_with(told), "{error}");
}

#[test]
fn rows_between_two_stray_quotes_are_not_one_cell() {
    let schema = schema("classes = 2\n[[data.column]]\nname = \"x\"");
    for text in [
        "x,label,note\n1,0,\"at home\n2,1,fine\n3,1,ward 3\"\n",
        "x,label,note\n1,0,\"at home\n2,1,\"ward 3\n",
        "note,x,label\n\"at home,1,0\nward 3\",2,1\n",
        "x,note,label\n1,\"at home,0\n2,fine,1\n3,ward 3\",1\n",
    ] {
        let error = refused(text, &schema);
        assert!(
            error.contains("line 2, column \"note\": this cell holds")
                && error.contains("look like rows"),
            "{error}"
        );
    }
}

#[test]
fn a_cell_may_hold_quotes_commas_and_a_line_break() {
    let schema = schema("classes = 2\n[[data.column]]\nname = \"x\"");
    let folder = tempfile::tempdir().unwrap();
    let text = "x,note,label\n1,\"said \"\"no\"\", twice,\nthen left\",0\n2,12\",1\n3,,1\n";
    let data = open(&file(folder.path(), "rows.csv", text.as_bytes()), &schema).unwrap();
    assert_eq!((data.labels(), data.row(2)), (&[0, 1, 1][..], vec![3.0]));
}

#[test]
fn messages_stay_short_however_wide_the_file() {
    let names: Vec<String> = (0..20_000).map(|gene| format!("ENSG{gene:011}")).collect();
    let header = format!("{},label\n", names.join(","));
    let row = format!("{}1\n", "1,".repeat(20_000));
    let error = refused(
        &format!("{header}{row}"),
        &schema("shape = [20000]\nclasses = 2\nlabel = \"Label\""),
    );
    assert!(
        error.len() < 500 && error.contains("near it: \"label\""),
        "{error}"
    );
    let kinds: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    let many = schema(&format!(
        "classes = 2\n[[data.column]]\nname = \"x\"\nkind = \"category\"\nvalues = [{}]",
        kinds.join(", ")
    ));
    let error = refused("x,label\nENSG0,1\n", &many);
    assert!(error.len() < 500, "{} bytes", error.len());
    let named = schema(&format!(
        "classes = 20000\nclass_names = [{}]\nshape = [1]",
        kinds.join(", ")
    ));
    let error = refused("x,label\n1,ENSG0\n", &named);
    assert!(error.len() < 500, "{} bytes", error.len());
    let folder = tempfile::tempdir().unwrap();
    let wide = npy("<f8", &"False, ".repeat(5000), "(2, 3)", &[]);
    let path = file(folder.path(), "x.npy", &wide);
    file(folder.path(), "y.npy", b"");
    assert!(
        open(&path, &schema("shape = [3]\nclasses = 2"))
            .unwrap_err()
            .to_string()
            .len()
            < 500
    );
}

#[test]
fn axes_are_compared_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let open_as = |shape: &str, sides: &str, count: usize| {
        let schema = schema(&format!("shape = {shape}\nclasses = 2"));
        let path = file(
            folder.path(),
            "x.npy",
            &npy("|u1", "False", sides, &vec![1; count]),
        );
        file(
            folder.path(),
            "y.npy",
            &npy("|u1", "False", "(2,)", &[0, 1]),
        );
        open(&path, &schema)
            .map(|data| data.len())
            .map_err(|error| error.to_string())
    };
    for (shape, sides) in [
        ("[3, 4, 6]", "(2, 4, 6, 3)"),
        ("[1, 4, 6]", "(2, 6, 4)"),
        ("[1, 4, 6]", "(2, 1, 6, 4)"),
        ("[3, 8]", "(2, 4, 6)"),
        ("[1, 4, 6]", "(2, 2, 12)"),
    ] {
        let error =
            open_as(shape, sides, 48 * if shape == "[3, 4, 6]" { 3 } else { 1 }).unwrap_err();
        assert!(
            error.contains(&format!("expected rows of shape {shape}")),
            "{error}"
        );
    }
    for (shape, sides) in [
        ("[1, 4, 6]", "(2, 4, 6)"),
        ("[1, 4, 6]", "(2, 4, 6, 1)"),
        ("[1, 4, 6]", "(2, 24)"),
        ("[24]", "(2, 4, 6)"),
    ] {
        assert_eq!(open_as(shape, sides, 48), Ok(2), "{shape} {sides}");
    }
    let images = file(
        folder.path(),
        "t-images-idx3-ubyte",
        &idx(0x803, &[2, 4, 6], &[1; 48]),
    );
    file(
        folder.path(),
        "t-labels-idx1-ubyte",
        &idx(0x801, &[2], &[0, 1]),
    );
    for (shape, fits) in [
        ("[1, 4, 6]", true),
        ("[4, 6]", true),
        ("[24]", true),
        ("[1, 6, 4]", false),
        ("[4, 3, 2]", false),
    ] {
        assert_eq!(
            open(&images, &schema(&format!("shape = {shape}\nclasses = 2"))).is_ok(),
            fits,
            "{shape}"
        );
    }
}

#[test]
fn texts_that_the_charter_calls_missing_are_missing() {
    let columns = "[[data.column]]\nname = \"x\"\nimpute = 7\n[[data.column]]\nname = \"kind\"\nkind = \"category\"\nvalues = [\"a\", \"null\"]";
    let named = schema(&format!(
        "classes = 2\nmissing = [\"null\", \"-999\"]\n{columns}"
    ));
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        folder.path(),
        "rows.csv",
        b"x,kind,label\nnull,a,0\n-999,null,1\nNA,-999,1\n,?,0\n",
    );
    let data = open(&path, &named).unwrap();
    let rows: Vec<Vec<f32>> = (0..4).map(|row| data.row(row)).collect();
    assert_eq!(
        rows,
        [
            [7.0, 1.0, 0.0],
            [7.0, 0.0, 1.0],
            [7.0, 0.0, 0.0],
            [7.0, 0.0, 0.0]
        ],
        "a value of a category is no gap"
    );
    assert!(
        refused(
            "x,kind,label\nnull,a,0\n",
            &schema(&format!("classes = 2\n{columns}"))
        )
        .contains("found \"null\"")
    );
    assert!(
        refused(
            "x,label\nnull,0\n",
            &schema("classes = 2\nmissing = [\"null\"]\nshape = [1]")
        )
        .contains("found \"null\"")
    );
}

#[test]
fn columns_of_another_file_are_found_by_their_names() {
    let schema = schema("shape = [2]\nclasses = 2");
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, text: &str, columns: &[String]| {
        let path = file(folder.path(), name, text.as_bytes());
        open_as(
            &path,
            &schema,
            Opening {
                columns,
                ..Opening::default()
            },
        )
        .map_err(|error| error.to_string())
    };
    let (train, reading) = read("train.csv", "a,label,b\n1,0,2\n", &[]).unwrap();
    assert_eq!(
        (train.row(0), reading.columns.as_slice()),
        (vec![1.0, 2.0], &["a".to_owned(), "b".to_owned()][..])
    );
    let (test, again) = read("test.csv", "b,a,label\n2,1,0\n", &reading.columns).unwrap();
    assert_eq!((&test, &again.columns), (&train, &reading.columns));
    assert!(
        read("test.csv", "a,c,label\n1,2,0\n", &reading.columns)
            .unwrap_err()
            .contains("expected the column \"b\" once")
    );
    // Names that occur twice lead nowhere, except in the same header.
    let (_, twice) = read("twice.csv", "a,a,label\n1,2,0\n", &[]).unwrap();
    assert!(read("twice.csv", "a,a,label\n1,2,0\n", &twice.columns).is_ok());
    assert!(read("twice.csv", "a,label,a\n1,0,2\n", &twice.columns).is_ok());
    assert!(
        read(
            "once.csv",
            "b,label,a\n1,0,2\n",
            &["a".to_owned(), "c".to_owned()]
        )
        .is_err()
    );
}

#[test]
fn what_reading_a_table_did_is_told_packed_or_not() {
    let schema = schema(
        "classes = 2\n[[data.column]]\nname = \"x\"\nimpute = 0\n[[data.column]]\nname = \"y\"",
    );
    let text = "id,x,label,y,note\n1,?,0,5,\"a\nb\"\n2,,1,5,\n3,1,1,5,\n";
    let folder = tempfile::tempdir().unwrap();
    for path in [
        file(folder.path(), "a.csv", text.as_bytes()),
        file(folder.path(), "b.csv.gz", &packed(text.as_bytes())),
    ] {
        let (rows, reading) = open_as(&path, &schema, Opening::default()).unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!(reading.missing, [("x".to_owned(), 2)]);
        assert_eq!(
            (reading.unused, reading.columns),
            (vec!["id".to_owned(), "note".to_owned()], Vec::new())
        );
        assert_eq!(reading.lines, [2, 4, 5]);
    }
}

#[test]
fn labels_are_named_and_of_the_rows_format() {
    let schema = schema("shape = [3]\nclasses = 2");
    let folder = tempfile::tempdir().unwrap();
    let rows = npy("|u1", "False", "(2, 3)", &[1, 2, 3, 4, 5, 6]);
    let labels = file(
        folder.path(),
        "y_train.npy",
        &npy("|u1", "False", "(2,)", &[0, 1]),
    );
    let images = file(
        folder.path(),
        "train-images.idx3-ubyte.gz",
        &packed(&idx(0x803, &[2, 1, 3], &[1, 2, 3, 4, 5, 6])),
    );
    let image_labels = file(
        folder.path(),
        "train-labels.idx1-ubyte",
        &idx(0x801, &[2], &[0, 1]),
    );
    let table = file(folder.path(), "d.csv", b"a,b,c,label\n1,2,3,0\n");
    let read = |path: &Path, labels: Option<&Path>| {
        open_as(
            path,
            &schema,
            Opening {
                labels,
                ..Opening::default()
            },
        )
        .map(|(rows, _)| rows)
        .map_err(|error| error.to_string())
    };
    let plain = file(folder.path(), "X_train.npy", &rows);
    let gz = file(folder.path(), "X_train.npy.gz", &packed(&rows));
    for path in [&plain, &gz] {
        assert!(read(path, None).unwrap_err().contains("key `labels`"));
        assert_eq!(
            read(path, Some(&labels)).unwrap(),
            read(&images, None).unwrap(),
            "{}",
            path.display()
        );
    }
    for (rows, labels, part) in [
        (&table, &labels, "holds its labels in its column \"label\""),
        (
            &plain,
            &image_labels,
            "expected labels as NPY like the rows, found IDX",
        ),
        (
            &images,
            &labels,
            "expected labels as IDX like the rows, found NPY",
        ),
        (
            &images,
            &table,
            "expected labels as IDX like the rows, found another kind of file",
        ),
    ] {
        let error = read(rows, Some(labels)).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    // The first bytes decide, whatever the name says.
    let unnamed = file(folder.path(), "rows.bin", &rows);
    assert_eq!(read(&unnamed, Some(&labels)).unwrap().len(), 2);
}

#[test]
fn equal_rows_never_stand_on_both_sides_of_a_split() {
    for name in ["heart", "digits"] {
        let (loaded, task, _, _) = common::loaded(name);
        let all = loaded.dataset(task.schema()).unwrap();
        let content = |row: usize| {
            (
                all.row(row)
                    .into_iter()
                    .map(f32::to_bits)
                    .collect::<Vec<_>>(),
                all.labels()[row],
            )
        };
        for seed in 0..40 {
            let split = loaded
                .split(task.schema(), None, &Seed::from_number(seed))
                .unwrap();
            let train: std::collections::BTreeSet<_> =
                split.train.iter().map(|row| content(*row)).collect();
            let both = split
                .test
                .iter()
                .filter(|row| train.contains(&content(**row)))
                .count();
            assert_eq!(both, 0, "{name}, seed {seed}");
            assert_eq!(split.test.len(), if name == "heart" { 230 } else { 360 });
        }
    }
}

/// Rows with equal texts in the group column belong together; the column is no feature.
#[test]
fn a_group_column_tells_which_rows_belong_together() {
    let grouped = schema("shape = [2]\nclasses = 2\ngroup = \"who\"\ngroup_rows = 2");
    let folder = tempfile::tempdir().unwrap();
    let text = "who,a,b,label\nada,1,2,0\nbob,3,4,1\n ada ,5,6,0\n";
    let path = file(folder.path(), "rows.csv", text.as_bytes());
    let rows = open(&path, &grouped).unwrap();
    assert_eq!(rows.row(2), [5.0, 6.0]);
    let groups = rows.groups().unwrap();
    assert!(groups[0] == groups[2] && groups[0] != groups[1]);
    // A part of the rows keeps its groups, and so do parts that are put together again.
    let part = rows.select(&[2, 1]);
    assert_eq!(part.groups().unwrap(), [groups[2], groups[1]]);
    let whole = Dataset::concat(&[part, rows.select(&[0])]);
    assert_eq!(whole.groups().unwrap(), [groups[2], groups[1], groups[0]]);
    assert_eq!(
        refused("who,a,b,label\n,1,2,0\n", &grouped),
        "rows.csv, line 2, column \"who\": expected a value, since each row belongs to somebody, found \"\""
    );
    assert!(refused("a,b,label\n1,2,0\n", &grouped).contains("expected the column \"who\" once"));
    assert!(
        refused("who,a,label\nada,1,0\n", &grouped)
            .contains("1 columns besides \"label\" and \"who\"")
    );
    for (text, words) in [
        ("group = \"label\"\ngroup_rows = 1", "models do not see"),
        ("group = \"who\"\ngroup_rows = 17", "group_rows"),
        ("group = \"who\"", "group_rows"),
    ] {
        let text = format!("[data]\nshape = [2]\nclasses = 2\n{text}\n");
        let mut document = Document::parse(&text).unwrap();
        document.section("data", Schema::read);
        let problems = document.finish().unwrap_err();
        let said = problems
            .iter()
            .any(|problem| problem.to_string().contains(words));
        assert!(said, "{words}: {problems:?}");
    }
}
