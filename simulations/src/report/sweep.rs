//! The page and the tables of a sweep: mean and standard deviation over seeds, for each cell of the
//! grid.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::table::Table;
use super::{bytes_text, keep, page as whole, spread_text};
use crate::plot::{Axis, Plot, Scale, Series, Unit, escape};
use crate::sweep::Manifest;

/// What is told of each run: name, title, where in the outcome it is.
struct Metric {
    name: &'static str,
    title: &'static str,
    of: fn(&Value) -> Option<f64>,
    better: Better,
    bytes: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Better {
    High,
    Low,
}

const METRICS: &[Metric] = &[
    metric(
        "accuracy",
        "accuracy",
        |outcome| outcome["accuracy"]["mean"].as_f64(),
        Better::High,
    ),
    metric(
        "accuracy_min",
        "accuracy of the worst peer",
        |outcome| outcome["accuracy"]["min"].as_f64(),
        Better::High,
    ),
    metric(
        "loss",
        "loss",
        |outcome| outcome["loss"]["mean"].as_f64(),
        Better::Low,
    ),
    metric(
        "optimum_distance",
        "distance to the optimum",
        |outcome| outcome["optimum_distance"]["mean"].as_f64(),
        Better::Low,
    ),
    metric(
        "consensus_distance",
        "consensus distance",
        |outcome| outcome["consensus_distance"].as_f64(),
        Better::Low,
    ),
    Metric {
        bytes: true,
        ..metric(
            "body_bytes",
            "bodies and keyframes",
            body_bytes,
            Better::Low,
        )
    },
    Metric {
        bytes: true,
        ..metric(
            "wire_bytes",
            "on the wire",
            |outcome| outcome["bytes"]["wire"].as_f64(),
            Better::Low,
        )
    },
    metric(
        "virtual_seconds",
        "virtual seconds",
        |outcome| outcome["virtual_seconds"].as_f64(),
        Better::Low,
    ),
    metric(
        "mixing_skipped",
        "rounds with too few models",
        |outcome| outcome["mixing_skipped"].as_f64(),
        Better::Low,
    ),
];

const fn metric(
    name: &'static str,
    title: &'static str,
    of: fn(&Value) -> Option<f64>,
    better: Better,
) -> Metric {
    Metric {
        name,
        title,
        of,
        better,
        bytes: false,
    }
}

fn body_bytes(outcome: &Value) -> Option<f64> {
    Some(outcome["bytes"]["payload"].as_f64()? + outcome["bytes"]["keyframes"].as_f64()?)
}

/// Columns of a run's `rounds.csv` that are drawn, for rounds that somebody completed.
const CURVE_COLUMNS: [&str; 5] = [
    "round",
    "peers",
    "accuracy",
    "optimum_distance",
    "consensus_distance",
];

/// Plots of curves at most: one for each combination of the other axes' values.
const CURVES_MAX: usize = 24;

/// Mean and sample standard deviation; no deviation of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    mean: f64,
    deviation: Option<f64>,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Spread> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        // What rounding leaves of equal values is no deviation.
        let deviation = Some((squares / (count - 1.0)).sqrt()).map(|value| {
            if value <= 1e-12 * mean.abs() {
                0.0
            } else {
                value
            }
        });
        (!values.is_empty()).then(|| Spread {
            mean,
            deviation: deviation.filter(|_| values.len() > 1),
        })
    }
}

/// One cell.
struct Cell {
    values: Vec<String>,
    runs: usize,
    failed: usize,
    spreads: Vec<Option<Spread>>,
}

/// A sweep's folder, read.
struct Read {
    manifest: Manifest,
    /// Beside each run what came out of it, if anything did.
    outcomes: Vec<Option<Value>>,
    cells: Vec<Cell>,
}

fn read(folder: &Path) -> io::Result<Read> {
    let manifest = Manifest::read(folder)?;
    let outcome = |slug: &str| {
        let bytes = std::fs::read(folder.join("cells").join(slug).join("outcome.json")).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    let outcomes: Vec<Option<Value>> = manifest.runs.iter().map(|run| outcome(&run.slug)).collect();
    let mut cells = Vec::new();
    for cell in 0..manifest
        .runs
        .iter()
        .map(|run| run.cell + 1)
        .max()
        .unwrap_or(0)
    {
        let runs: Vec<usize> = (0..manifest.runs.len())
            .filter(|run| manifest.runs[*run].cell == cell)
            .collect();
        let Some(first) = runs.first() else { continue };
        let spread = |metric: &Metric| {
            Spread::of(
                &runs
                    .iter()
                    .filter_map(|run| (metric.of)(outcomes[*run].as_ref()?))
                    .collect::<Vec<f64>>(),
            )
        };
        cells.push(Cell {
            values: manifest.runs[*first].values.clone(),
            runs: runs.len(),
            failed: runs
                .iter()
                .filter(|run| manifest.runs[**run].failure.is_some())
                .count(),
            spreads: METRICS.iter().map(spread).collect(),
        });
    }
    Ok(Read {
        manifest,
        outcomes,
        cells,
    })
}

/// The summary of a sweep's folder: one object for each cell.
///
/// # Errors
/// When the folder holds no sweep.
pub fn summary(folder: &Path) -> io::Result<Vec<Value>> {
    let read = read(folder)?;
    let row = |cell: &Cell| {
        let axes: Map<String, Value> = read
            .manifest
            .axes
            .iter()
            .zip(&cell.values)
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        let mut row = Map::from_iter([
            ("axes".to_owned(), Value::Object(axes)),
            ("runs".to_owned(), json!(cell.runs)),
            ("failed".to_owned(), json!(cell.failed)),
        ]);
        for (metric, spread) in METRICS.iter().zip(&cell.spreads) {
            let value = spread.map(|spread| json!({"mean": spread.mean, "sd": spread.deviation}));
            row.insert(metric.name.to_owned(), value.unwrap_or(Value::Null));
        }
        Value::Object(row)
    };
    Ok(read.cells.iter().map(row).collect())
}

/// Makes `report.html`, `plots/`, `sweep.csv` (a line for each run) and `summary.csv` (a line for
/// each cell) of a sweep's folder.
///
/// # Errors
/// When a file cannot be read or written.
pub fn page(folder: &Path) -> io::Result<()> {
    let read = read(folder)?;
    let manifest = &read.manifest;
    write_runs(&folder.join("sweep.csv"), &read)?;
    write_cells(&folder.join("summary.csv"), &read)?;
    let failed: Vec<_> = manifest
        .runs
        .iter()
        .filter(|run| run.failure.is_some())
        .collect();
    let mut body = format!(
        "<p>{} cells, {} runs with seeds {}; {} failed. Numbers are mean ± standard deviation over seeds; the best of a row is \
         <strong>bold</strong>.</p>\n",
        read.cells.len(),
        manifest.runs.len(),
        seeds_text(&manifest.seeds),
        failed.len()
    );
    for metric in ["accuracy", "accuracy_min", "optimum_distance"] {
        tables(&mut body, &read, metric);
    }
    if read.cells.iter().all(|cell| {
        cell.spreads[place("accuracy")].is_none()
            && cell.spreads[place("optimum_distance")].is_none()
    }) {
        tables(&mut body, &read, "consensus_distance");
    }
    body.push_str("<h2>Plots</h2>\n<div class=\"plots\">\n");
    let plots = folder.join("plots");
    for (name, plot) in pareto(&read).into_iter().chain(curves(folder, &read)?) {
        if let Some(svg) = plot.svg() {
            keep(&plots, &name, &svg, &mut body)?;
        }
    }
    body.push_str("</div>\n<h2>All cells</h2>\n");
    all_cells(&mut body, &read);
    if !failed.is_empty() {
        body.push_str(
            "<h2>What failed</h2>\n<table><tr><th>run</th><th>why</th><th>again</th></tr>\n",
        );
        for run in failed {
            body.push_str(&format!(
                "<tr><td>{}</td><td class=\"broken\">{}</td><td><code>{}</code></td></tr>\n",
                escape(&run.slug),
                escape(run.failure.as_deref().unwrap_or_default()),
                escape(&run.command)
            ));
        }
        body.push_str("</table>\n");
    }
    body.push_str(&format!(
        "<h2>Make it again</h2>\n<pre>{}</pre>\n",
        escape(&manifest.command)
    ));
    body.push_str("<p>A run's own report: <code>kith sim report cells/NAME</code>.</p>\n");
    if let Ok(text) = std::fs::read_to_string(folder.join("sweep.toml")) {
        body.push_str(&format!(
            "<details><summary>The experiment's file</summary><pre>{}</pre></details>\n",
            escape(&text)
        ));
    }
    std::fs::write(
        folder.join("report.html"),
        whole(&format!("{}: a sweep", manifest.name), &body),
    )
}

fn place(name: &str) -> usize {
    METRICS
        .iter()
        .position(|metric| metric.name == name)
        .expect("a metric of the table")
}

fn seeds_text(seeds: &[u64]) -> String {
    match seeds {
        [first, .., last]
            if seeds
                .windows(2)
                .all(|pair| pair[1] == pair[0].saturating_add(1)) =>
        {
            format!("{first} to {last}")
        }
        _ => seeds
            .iter()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn write_runs(path: &Path, read: &Read) -> io::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    let axes = read.manifest.axes.iter().map(String::as_str);
    let fixed = ["seed", "failure", "trace", "experiment", "run"];
    writer.write_record(
        axes.chain(METRICS.iter().map(|metric| metric.name))
            .chain(fixed),
    )?;
    for (run, outcome) in read.manifest.runs.iter().zip(&read.outcomes) {
        let mut record = run.values.clone();
        let value = |metric: &Metric| outcome.as_ref().and_then(|outcome| (metric.of)(outcome));
        record.extend(
            METRICS
                .iter()
                .map(|metric| value(metric).map_or(String::new(), |value| value.to_string())),
        );
        let text = |key: &str| {
            outcome
                .as_ref()
                .and_then(|outcome| outcome[key].as_str())
                .unwrap_or_default()
                .to_owned()
        };
        record.extend([
            run.seed.to_string(),
            run.failure.clone().unwrap_or_default(),
            text("trace"),
            text("experiment"),
            run.slug.clone(),
        ]);
        writer.write_record(record)?;
    }
    writer.flush()
}

fn write_cells(path: &Path, read: &Read) -> io::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    let measured = METRICS.iter().flat_map(|metric| {
        [
            format!("{}_mean", metric.name),
            format!("{}_sd", metric.name),
        ]
    });
    let fixed = ["runs".to_owned(), "failed".to_owned()];
    writer.write_record(
        read.manifest
            .axes
            .iter()
            .cloned()
            .chain(fixed)
            .chain(measured),
    )?;
    for cell in &read.cells {
        let mut record = cell.values.clone();
        record.extend([cell.runs.to_string(), cell.failed.to_string()]);
        for spread in &cell.spreads {
            record.push(spread.map_or(String::new(), |spread| spread.mean.to_string()));
            record.push(
                spread
                    .and_then(|spread| spread.deviation)
                    .map_or(String::new(), |deviation| deviation.to_string()),
            );
        }
        writer.write_record(record)?;
    }
    writer.flush()
}

fn of_metric(metric: &Metric, spread: Spread) -> String {
    match (metric.bytes, spread.deviation) {
        (false, deviation) => spread_text(spread.mean, deviation),
        (true, Some(deviation)) => {
            format!("{} ± {}", bytes_text(spread.mean), bytes_text(deviation))
        }
        (true, None) => bytes_text(spread.mean),
    }
}

/// One metric: the axes with most values are rows and columns; each combination of the others'
/// values is a table of its own.
fn tables(body: &mut String, read: &Read, name: &str) {
    let place = place(name);
    let metric = &METRICS[place];
    if read.cells.iter().all(|cell| cell.spreads[place].is_none()) {
        return;
    }
    let axes = &read.manifest.values;
    let mut order: Vec<usize> = (0..axes.len()).collect();
    order.sort_by_key(|axis| std::cmp::Reverse(axes[*axis].len()));
    // A single axis is the columns, so that its best value stands out.
    let (rows, columns) = match order[..] {
        [] => (None, None),
        [only] => (None, Some(only)),
        // What is compared comes first in the file: its values stand side by side, and the best of
        // a row among them.
        [first, second, ..] => (Some(first.max(second)), Some(first.min(second))),
    };
    let others: Vec<usize> = (0..axes.len())
        .filter(|axis| Some(*axis) != rows && Some(*axis) != columns)
        .collect();
    body.push_str(&format!("<h2>{}</h2>\n", capital(metric.title)));
    let labels = |axis: Option<usize>| axis.map_or(vec![String::new()], |axis| axes[axis].clone());
    for fixed in combinations(read, &others) {
        if !fixed.is_empty() {
            body.push_str(&format!(
                "<h3>{}</h3>\n",
                escape(&named(read, &others, &fixed))
            ));
        }
        let title = |axis: Option<usize>| {
            axis.map_or(String::new(), |axis| escape(&read.manifest.axes[axis]))
        };
        let corner = match (rows, columns) {
            (Some(_), Some(_)) => format!("{} \\ {}", title(rows), title(columns)),
            _ => title(columns),
        };
        let heads: String = labels(columns)
            .iter()
            .map(|label| format!("<th class=\"n\">{}</th>", escape(label)))
            .collect();
        body.push_str(&format!("<table><tr><th>{corner}</th>{heads}</tr>\n"));
        for row in labels(rows) {
            let found: Vec<Option<&Cell>> = labels(columns)
                .iter()
                .map(|column| {
                    read.cells.iter().find(|cell| {
                        let at = |axis: Option<usize>, label: &str| {
                            axis.is_none_or(|axis| cell.values[axis] == label)
                        };
                        at(rows, &row)
                            && at(columns, column)
                            && others
                                .iter()
                                .zip(&fixed)
                                .all(|(axis, value)| cell.values[*axis] == *value)
                    })
                })
                .collect();
            let means = found
                .iter()
                .flatten()
                .filter_map(|cell| cell.spreads[place])
                .map(|spread| spread.mean);
            let best =
                means
                    .filter(|mean| mean.is_finite())
                    .reduce(if metric.better == Better::High {
                        f64::max
                    } else {
                        f64::min
                    });
            body.push_str(&format!("<tr><th>{}</th>", escape(&row)));
            for cell in &found {
                let text = cell.map_or("–".to_owned(), |cell| {
                    cell_text(cell, metric, place, best.filter(|_| found.len() > 1))
                });
                body.push_str(&format!("<td class=\"n\">{text}</td>"));
            }
            body.push_str("</tr>\n");
        }
        body.push_str("</table>\n");
    }
}

fn cell_text(cell: &Cell, metric: &Metric, place: usize, best: Option<f64>) -> String {
    let failed = match cell.failed {
        0 => String::new(),
        failed if failed == cell.runs => " (failed)".to_owned(),
        failed => format!(" ({failed} of {} failed)", cell.runs),
    };
    let Some(spread) = cell.spreads[place] else {
        return if cell.failed > 0 {
            "failed".to_owned()
        } else {
            "–".to_owned()
        };
    };
    let text = of_metric(metric, spread);
    if Some(spread.mean) == best {
        format!("<strong>{text}</strong>{failed}")
    } else {
        format!("{text}{failed}")
    }
}

/// Every combination of the values of some axes, in the cells' order.
fn combinations(read: &Read, axes: &[usize]) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for cell in &read.cells {
        let values: Vec<String> = axes.iter().map(|axis| cell.values[*axis].clone()).collect();
        if !found.contains(&values) {
            found.push(values);
        }
    }
    found
}

fn named(read: &Read, axes: &[usize], values: &[String]) -> String {
    let parts = axes
        .iter()
        .zip(values)
        .map(|(axis, value)| format!("{} = {value}", read.manifest.axes[*axis]));
    parts.collect::<Vec<_>>().join(", ")
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

fn all_cells(body: &mut String, read: &Read) {
    let shown: Vec<usize> = (0..METRICS.len())
        .filter(|place| read.cells.iter().any(|cell| cell.spreads[*place].is_some()))
        .collect();
    let heads: String = read
        .manifest
        .axes
        .iter()
        .map(|axis| format!("<th>{}</th>", escape(axis)))
        .collect();
    let measured: String = shown
        .iter()
        .map(|place| format!("<th class=\"n\">{}</th>", METRICS[*place].title))
        .collect();
    body.push_str(&format!(
        "<table><tr>{heads}<th class=\"n\">runs</th><th class=\"n\">failed</th>{measured}</tr>\n"
    ));
    for cell in &read.cells {
        let values: String = cell
            .values
            .iter()
            .map(|value| format!("<td>{}</td>", escape(value)))
            .collect();
        let numbers: String = shown
            .iter()
            .map(|place| {
                cell.spreads[*place].map_or("–".to_owned(), |spread| {
                    of_metric(&METRICS[*place], spread)
                })
            })
            .map(|text| format!("<td class=\"n\">{text}</td>"))
            .collect();
        body.push_str(&format!(
            "<tr>{values}<td class=\"n\">{}</td><td class=\"n\">{}</td>{numbers}</tr>\n",
            cell.runs, cell.failed
        ));
    }
    body.push_str("</table>\n");
}

/// What updates cost against what they achieve, where the codec is on an axis.
fn pareto(read: &Read) -> Option<(String, Plot)> {
    let axis = read
        .manifest
        .axes
        .iter()
        .position(|key| key == "codec" || key.starts_with("codec."))?;
    let (name, title) = [
        ("accuracy", "accuracy (mean over seeds)"),
        (
            "optimum_distance",
            "distance to the optimum (mean over seeds)",
        ),
    ]
    .into_iter()
    .find(|(name, _)| {
        read.cells
            .iter()
            .any(|cell| cell.spreads[place(name)].is_some())
    })?;
    let higher = METRICS[place(name)].better == Better::High;
    let point = |cell: &Cell| {
        Some((
            cell.spreads[place("body_bytes")]?.mean,
            cell.spreads[place(name)]?.mean,
        ))
    };
    let mut series: Vec<Series> = Vec::new();
    for label in &read.manifest.values[axis] {
        let points: Vec<(f64, f64)> = read
            .cells
            .iter()
            .filter(|cell| cell.values[axis] == *label)
            .filter_map(point)
            .collect();
        series.push(Series {
            marks_only: true,
            ..Series::line(label, points)
        });
    }
    let mut all: Vec<(f64, f64)> = read.cells.iter().filter_map(point).collect();
    all.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut frontier: Vec<(f64, f64)> = Vec::new();
    for (bytes, value) in all {
        if frontier
            .last()
            .is_none_or(|(_, best)| if higher { value > *best } else { value < *best })
        {
            frontier.push((bytes, value));
        }
    }
    if frontier.len() > 1 {
        series.push(Series::line("best for its bytes", frontier));
    }
    let y = if higher {
        Axis::linear(title, Unit::Number)
    } else {
        Axis::log(title, Unit::Number)
    };
    let x = Axis::log("bodies and keyframes of a run", Unit::Bytes);
    Some((
        "pareto".to_owned(),
        Plot {
            title: "What updates cost and what they achieve".to_owned(),
            subtitle: String::new(),
            x,
            y,
            series,
        },
    ))
}

/// Means over seeds, round by round, one line for each value of the first axis, with bands of one
/// standard deviation.
fn curves(folder: &Path, read: &Read) -> io::Result<Vec<(String, Plot)>> {
    let manifest = &read.manifest;
    let tables: Vec<Table> = manifest
        .runs
        .iter()
        .zip(&read.outcomes)
        .map(|(run, outcome)| match outcome {
            Some(_) => Table::read(
                &folder.join("cells").join(&run.slug).join("rounds.csv"),
                &CURVE_COLUMNS,
            )
            .map(|table| table.above_zero("peers")),
            None => Ok(Table::default()),
        })
        .collect::<io::Result<_>>()?;
    let others: Vec<usize> = (1..manifest.axes.len()).collect();
    let combinations = combinations(read, &others);
    let mut found = Vec::new();
    for (column, title, scale) in [
        ("accuracy", "accuracy (share)", Scale::Linear),
        ("optimum_distance", "distance to the optimum", Scale::Log),
        ("consensus_distance", "consensus distance", Scale::Log),
    ] {
        for (number, fixed) in combinations.iter().take(CURVES_MAX).enumerate() {
            let labels = manifest
                .values
                .first()
                .cloned()
                .unwrap_or_else(|| vec![String::new()]);
            let series: Vec<Series> = labels
                .iter()
                .map(|label| {
                    let fits = |values: &[String]| {
                        values.first().is_none_or(|value| value == label)
                            && others
                                .iter()
                                .zip(fixed)
                                .all(|(axis, value)| values[*axis] == *value)
                    };
                    let runs = manifest
                        .runs
                        .iter()
                        .zip(&tables)
                        .filter(|(run, _)| fits(&run.values));
                    curve(
                        label,
                        runs.map(|(_, table)| table.pairs("round", column)),
                        scale,
                    )
                })
                .collect();
            if series.iter().all(|series| series.points.is_empty()) {
                continue;
            }
            let by = manifest
                .axes
                .first()
                .map_or(String::new(), |key| format!(" by {key}"));
            let plot = Plot {
                title: format!("{}{by}", capital(title)),
                subtitle: named(read, &others, fixed),
                x: Axis::linear("rounds completed", Unit::Count),
                y: Axis {
                    title: title.to_owned(),
                    scale,
                    unit: Unit::Number,
                },
                series,
            };
            let name = column.replace('_', "-");
            found.push((
                if combinations.len() > 1 {
                    format!("{name}-{number}")
                } else {
                    name
                },
                plot,
            ));
        }
    }
    Ok(found)
}

fn curve(label: &str, runs: impl Iterator<Item = Vec<(f64, f64)>>, scale: Scale) -> Series {
    let mut rounds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (round, value) in runs.flatten() {
        rounds.entry(round as u64).or_default().push(value);
    }
    let mut series = Series::line(label, Vec::new());
    for (round, values) in rounds {
        let Some(spread) = Spread::of(&values) else {
            continue;
        };
        let (round, mean) = (round as f64, spread.mean);
        series.points.push((round, mean));
        if let Some(deviation) = spread.deviation {
            // On a logarithmic axis a band cannot reach below nothing: it ends at the least value
            // there.
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let low = if scale == Scale::Log {
                (mean - deviation).max(least)
            } else {
                mean - deviation
            };
            series.band.push((round, low, mean + deviation));
        }
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_that_of_a_sample() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(
            Spread::of(&[2.0]),
            Some(Spread {
                mean: 2.0,
                deviation: None
            })
        );
        assert_eq!(
            Spread::of(&[1.0, 3.0]),
            Some(Spread {
                mean: 2.0,
                deviation: Some(2f64.sqrt())
            })
        );
    }

    #[test]
    fn seeds_are_told_in_short() {
        assert_eq!(
            (
                seeds_text(&[3, 4, 5]).as_str(),
                seeds_text(&[1, 5]).as_str()
            ),
            ("3 to 5", "1, 5")
        );
    }
}
