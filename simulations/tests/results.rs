//! Plots of the pages in `docs/results` that are drawn from tables beside them. Each has to be what its
//! tables give; `KITH_RESULTS=write` draws it anew.

use std::path::PathBuf;

use kith_simulations::plot::{Axis, Plot, Series, Unit, standalone};

fn results(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results")).join(name)
}

/// A cell of a sweep: its model or other setting, its privacy, and accuracy with its deviation.
struct Cell {
    first: String,
    epsilon: Option<f64>,
    accuracy: f64,
    deviation: f64,
}

fn cells(name: &str) -> Vec<Cell> {
    let mut reader = csv::Reader::from_path(results(name)).expect("a table");
    let headers = reader.headers().expect("a head").clone();
    let column = |name: &str| headers.iter().position(|found| found == name).expect("it");
    let [privacy, mean, deviation] = ["privacy", "accuracy_mean", "accuracy_sd"].map(column);
    let cell = |row: Result<csv::StringRecord, csv::Error>| {
        let row = row.expect("a row");
        let number = |at: usize| row[at].parse().expect("a number");
        let budget = row[privacy]
            .split(',')
            .find_map(|part| part.strip_prefix("epsilon_budget="));
        Cell {
            first: row[0].to_owned(),
            epsilon: budget.map(|text| text.parse().expect("a number")),
            accuracy: number(mean),
            deviation: number(deviation),
        }
    };
    reader.records().map(cell).collect()
}

/// A line over ε with a band of one deviation.
fn line(name: &str, cells: &[Cell], of: impl Fn(&Cell) -> bool) -> Series {
    let with = |cell: &&Cell| of(cell) && cell.epsilon.is_some();
    let of = cells.iter().filter(with);
    let points = of.map(|cell| {
        (
            cell.epsilon.unwrap_or_default(),
            cell.accuracy,
            cell.deviation,
        )
    });
    let points: Vec<(f64, f64, f64)> = points.collect();
    assert!(points.len() >= 4, "{name}: {} points", points.len());
    let band = points.iter().map(|(x, y, by)| (*x, y - by, y + by));
    Series::line(name, points.iter().map(|(x, y, _)| (*x, *y)).collect()).with_band(band.collect())
}

fn without(name: &str, cells: &[Cell], of: impl Fn(&Cell) -> bool) -> Series {
    let cell = cells.iter().find(|cell| of(cell) && cell.epsilon.is_none());
    let accuracy = cell.expect("a run without a guarantee").accuracy;
    Series::line(name, vec![(1.0, accuracy), (8.0, accuracy)])
}

#[test]
fn accuracy_against_epsilon_is_what_its_tables_say() {
    let [rows, central, peers] = [
        "privacy-rows.csv",
        "privacy-central.csv",
        "privacy-peers.csv",
    ]
    .map(cells);
    let is = |name: &'static str| move |cell: &Cell| cell.first.contains(name);
    let plot = Plot {
        title: "Accuracy against ε".to_owned(),
        subtitle: "Fashion-MNIST, 16 peers, δ = 1e-5; mean of three seeds, bands of one deviation"
            .to_owned(),
        x: Axis::log("ε", Unit::Number),
        y: Axis::linear("accuracy", Unit::Number),
        series: vec![
            line("each row, softmax", &rows, is("softmax")),
            line("each row, MLP", &rows, is("mlp")),
            line("one party, softmax", &central, |_| true),
            line("whole peers, softmax", &peers, |_| true),
            without("no guarantee, softmax", &rows, is("softmax")),
            without("no guarantee, MLP", &rows, is("mlp")),
        ],
    };
    let drawn = standalone(&plot.svg().expect("something to draw"));
    let path = results("privacy.svg");
    if std::env::var_os("KITH_RESULTS").is_some_and(|value| value == "write") {
        std::fs::write(&path, &drawn).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == drawn,
        "docs/results/privacy.svg is not what its tables give; `KITH_RESULTS=write cargo test -p kith-simulations --test results` \
         draws it anew"
    );
}
