//! The page and the tables of a sweep: mean and standard deviation over seeds, for each cell of the
//! grid.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use kith_consensus::Digest;
use maud::{Markup, html};
use serde::Serialize;

use super::table::Table;
use super::{bytes_text, keep, page as whole, spread_text};
use crate::experiment::{Outcome, Range};
use crate::plot::{Axis, Plot, Scale, Series, Unit};
use crate::sweep::manifest::{Entry, Manifest};

/// One measured value of a run: name, title, and where in the outcome it is.
struct Metric {
    name: &'static str,
    title: &'static str,
    of: fn(&Outcome) -> Option<f64>,
    better: Better,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq)]
enum Better {
    High,
    Low,
}

const METRICS: &[Metric] = &[
    metric("accuracy", "accuracy", Better::High, |outcome| {
        known(outcome.accuracy, |range| range.mean)
    }),
    metric(
        "accuracy_min",
        "accuracy of the worst peer",
        Better::High,
        |outcome| known(outcome.accuracy, |range| range.min),
    ),
    metric("loss", "loss", Better::Low, |outcome| {
        known(outcome.loss, |range| range.mean)
    }),
    metric(
        "optimum_distance",
        "distance to the optimum",
        Better::Low,
        |outcome| known(outcome.optimum_distance, |range| range.mean),
    ),
    metric(
        "consensus_distance",
        "consensus distance",
        Better::Low,
        |outcome| outcome.consensus_distance,
    ),
    Metric {
        unit: Unit::Bytes,
        ..metric(
            "body_bytes",
            "bodies and keyframes",
            Better::Low,
            |outcome| Some(outcome.bytes.payload as f64 + outcome.bytes.keyframes as f64),
        )
    },
    Metric {
        unit: Unit::Bytes,
        ..metric("wire_bytes", "on the wire", Better::Low, |outcome| {
            Some(outcome.bytes.wire as f64)
        })
    },
    metric(
        "virtual_seconds",
        "virtual seconds",
        Better::Low,
        |outcome| Some(outcome.virtual_seconds),
    ),
    metric(
        "mixing_skipped",
        "rounds with too few models",
        Better::Low,
        |outcome| Some(outcome.mixing_skipped as f64),
    ),
];

const fn metric(
    name: &'static str,
    title: &'static str,
    better: Better,
    of: fn(&Outcome) -> Option<f64>,
) -> Metric {
    Metric {
        name,
        title,
        of,
        better,
        unit: Unit::Number,
    }
}

/// A part of a range; `None` if it could not be written.
fn known(range: Option<Range>, part: fn(Range) -> f64) -> Option<f64> {
    range.map(part).filter(|value| !value.is_nan())
}

/// Columns of a run's `rounds.csv` that are drawn, for rounds that somebody completed.
const CURVE_COLUMNS: [&str; 5] = [
    "round",
    "peers",
    "accuracy",
    "optimum_distance",
    "consensus_distance",
];

/// Most plots of curves: one for each combination of the other axes' values.
const CURVES_MAX: usize = 24;

/// Mean and sample standard deviation; a single value has no deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    #[serde(rename = "sd")]
    pub deviation: Option<f64>,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Spread> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        // Rounding errors of equal values are no deviation.
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
    /// The outcome of each run, if there is one.
    outcomes: Vec<Option<Outcome>>,
    cells: Vec<Cell>,
}

fn read(folder: &Path) -> io::Result<Read> {
    let manifest = Manifest::read(folder)?;
    let outcomes: Vec<Option<Outcome>> = manifest
        .runs
        .iter()
        .map(|run| super::read(&folder.join("cells").join(&run.slug)).ok())
        .collect();
    let mut cells: BTreeMap<usize, Vec<(&Entry, Option<&Outcome>)>> = BTreeMap::new();
    for (run, outcome) in manifest.runs.iter().zip(&outcomes) {
        let runs = cells.entry(run.cell).or_default();
        runs.push((run, outcome.as_ref()));
    }
    Ok(Read {
        cells: cells.values().map(|runs| Cell::of(runs)).collect(),
        manifest,
        outcomes,
    })
}

impl Cell {
    fn of(runs: &[(&Entry, Option<&Outcome>)]) -> Cell {
        let spread = |metric: &Metric| {
            let values = runs
                .iter()
                .filter_map(|(_, outcome)| (metric.of)(outcome.as_ref()?));
            Spread::of(&values.collect::<Vec<f64>>())
        };
        Cell {
            values: runs[0].0.values.clone(),
            runs: runs.len(),
            failed: runs.iter().filter(|(run, _)| run.failure.is_some()).count(),
            spreads: METRICS.iter().map(spread).collect(),
        }
    }
}

/// Summary of one cell of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Its value on each axis.
    pub axes: BTreeMap<String, String>,
    /// How often it was run.
    pub runs: usize,
    /// How many of these runs failed.
    pub failed: usize,
    /// The measured values, by the metric's name.
    #[serde(flatten)]
    pub metrics: BTreeMap<&'static str, Option<Spread>>,
}

/// The summary of a sweep's folder, cell by cell.
///
/// # Errors
/// When the folder holds no sweep.
pub fn summary(folder: &Path) -> io::Result<Vec<Summary>> {
    let read = read(folder)?;
    let row = |cell: &Cell| Summary {
        axes: read
            .manifest
            .axes
            .iter()
            .cloned()
            .zip(cell.values.iter().cloned())
            .collect(),
        runs: cell.runs,
        failed: cell.failed,
        metrics: METRICS
            .iter()
            .zip(&cell.spreads)
            .map(|(metric, spread)| (metric.name, *spread))
            .collect(),
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
    let failed: Vec<&Entry> = manifest
        .runs
        .iter()
        .filter(|run| run.failure.is_some())
        .collect();
    let plots = plots(folder, &read)?;
    let shown = ["accuracy", "accuracy_min", "optimum_distance"];
    let has_no_result = !read.has("accuracy") && !read.has("optimum_distance");
    let instead = has_no_result.then_some("consensus_distance");
    let body = html! {
        p {
            (read.cells.len()) " cells, " (manifest.runs.len()) " runs with seeds " (seeds_text(&manifest.seeds)) "; "
            (failed.len()) " failed. Numbers are mean ± standard deviation over seeds; the best of a row is "
            strong { "bold" } "."
        }
        @for metric in shown.into_iter().chain(instead) { (tables(&read, metric)) }
        h2 { "Plots" }
        div.plots { @for plot in plots { (plot) } }
        h2 { "All cells" }
        (all_cells(&read))
        (what_failed(&failed))
        h2 { "Make it again" }
        pre { (manifest.command) }
        p { "A run's own report: " code { "kith sim report cells/NAME" } "." }
        @if let Ok(text) = std::fs::read_to_string(folder.join("sweep.toml")) {
            details { summary { "The experiment's file" } pre { (text) } }
        }
    };
    std::fs::write(
        folder.join("report.html"),
        whole(&format!("{}: a sweep", manifest.name), &body),
    )
}

fn plots(folder: &Path, read: &Read) -> io::Result<Vec<Markup>> {
    let plots = pareto(read).into_iter().chain(curves(folder, read)?);
    let drawn = plots.filter_map(|(name, plot)| Some((name, plot.svg()?)));
    let folder = folder.join("plots");
    drawn.map(|(name, svg)| keep(&folder, &name, svg)).collect()
}

fn what_failed(failed: &[&Entry]) -> Markup {
    html! {
        @if !failed.is_empty() {
            h2 { "What failed" }
            table {
                tr { th { "run" } th { "why" } th { "again" } }
                @for run in failed {
                    tr {
                        td { (run.slug) }
                        td.broken { (run.failure.as_deref().unwrap_or_default()) }
                        td { code { (run.command) } }
                    }
                }
            }
        }
    }
}

impl Read {
    /// Whether some cell has this metric.
    fn has(&self, name: &str) -> bool {
        let place = place(name);
        self.cells.iter().any(|cell| cell.spreads[place].is_some())
    }
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
        let outcome = outcome.as_ref();
        let value = |metric: &Metric| outcome.and_then(metric.of);
        record.extend(
            METRICS
                .iter()
                .map(|metric| value(metric).map_or(String::new(), |value| value.to_string())),
        );
        let digest = |of: fn(&Outcome) -> Digest| {
            outcome.map_or(String::new(), |outcome| of(outcome).to_string())
        };
        record.extend([
            run.seed.to_string(),
            run.failure.clone().unwrap_or_default(),
            digest(|outcome| outcome.trace),
            digest(|outcome| outcome.experiment),
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
    match (metric.unit, spread.deviation) {
        (Unit::Bytes, Some(deviation)) => {
            format!("{} ± {}", bytes_text(spread.mean), bytes_text(deviation))
        }
        (Unit::Bytes, None) => bytes_text(spread.mean),
        (_, deviation) => spread_text(spread.mean, deviation),
    }
}

/// How the axes are laid out: two of them in each table, and a table for each combination of the
/// others' values.
struct Layout {
    rows: Option<usize>,
    columns: Option<usize>,
    others: Vec<usize>,
}

impl Layout {
    /// The axes with most values are rows and columns.
    fn of(axes: &[Vec<String>]) -> Layout {
        let mut order: Vec<usize> = (0..axes.len()).collect();
        order.sort_by_key(|axis| std::cmp::Reverse(axes[*axis].len()));
        // A single axis is the columns, so that its best value stands out.
        let (rows, columns) = match order[..] {
            [] => (None, None),
            [only] => (None, Some(only)),
            // The compared axis comes first in the file: its values stand side by side, and the
            // best of a row is among them.
            [first, second, ..] => (Some(first.max(second)), Some(first.min(second))),
        };
        Layout {
            rows,
            columns,
            others: (0..axes.len())
                .filter(|axis| Some(*axis) != rows && Some(*axis) != columns)
                .collect(),
        }
    }

    /// The cell in a row and a column of the table of these values of the other axes.
    fn cell<'a>(
        &self,
        cells: &'a [Cell],
        [row, column]: [&str; 2],
        fixed: &[String],
    ) -> Option<&'a Cell> {
        let at = |cell: &Cell, axis: Option<usize>, label: &str| {
            axis.is_none_or(|axis| cell.values[axis] == label)
        };
        cells.iter().find(|cell| {
            at(cell, self.rows, row)
                && at(cell, self.columns, column)
                && fits(&cell.values, &self.others, fixed)
        })
    }
}

/// Whether a cell has these values on these axes.
fn fits(values: &[String], axes: &[usize], fixed: &[String]) -> bool {
    axes.iter()
        .zip(fixed)
        .all(|(axis, value)| values[*axis] == *value)
}

/// One metric, in as many tables as its layout takes.
fn tables(read: &Read, name: &str) -> Markup {
    if !read.has(name) {
        return Markup::default();
    }
    let metric = &METRICS[place(name)];
    let layout = Layout::of(&read.manifest.values);
    html! {
        h2 { (capital(metric.title)) }
        @for fixed in combinations(read, &layout.others) {
            @if !fixed.is_empty() { h3 { (named(read, &layout.others, &fixed)) } }
            (table(read, metric, &layout, &fixed))
        }
    }
}

fn table(read: &Read, metric: &Metric, layout: &Layout, fixed: &[String]) -> Markup {
    let manifest = &read.manifest;
    let labels = |axis: Option<usize>| match axis {
        Some(axis) => manifest.values[axis].clone(),
        None => vec![String::new()],
    };
    let title = |axis: Option<usize>| axis.map_or("", |axis| manifest.axes[axis].as_str());
    let columns = labels(layout.columns);
    let row = |row: &str| -> Vec<Option<&Cell>> {
        let cell = |column| layout.cell(&read.cells, [row, column], fixed);
        columns.iter().map(|column| cell(column)).collect()
    };
    html! {
        table {
            tr {
                th {
                    @if layout.rows.is_some() && layout.columns.is_some() { (title(layout.rows)) " \\ " }
                    (title(layout.columns))
                }
                @for label in &columns { th.n { (label) } }
            }
            @for label in labels(layout.rows) { tr { th { (label) } (numbers(&row(&label), metric)) } }
        }
    }
}

/// The cells of one row, the best of them marked.
fn numbers(row: &[Option<&Cell>], metric: &Metric) -> Markup {
    let place = place(metric.name);
    let means = row
        .iter()
        .flatten()
        .filter_map(|cell| Some(cell.spreads[place]?.mean));
    let best = means
        .filter(|mean| mean.is_finite())
        .reduce(match metric.better {
            Better::High => f64::max,
            Better::Low => f64::min,
        })
        .filter(|_| row.len() > 1);
    html! {
        @for cell in row {
            td.n { @if let Some(cell) = cell { (number(cell, metric, place, best)) } @else { "–" } }
        }
    }
}

fn number(cell: &Cell, metric: &Metric, place: usize, best: Option<f64>) -> Markup {
    let spread = cell.spreads[place];
    let is_best = spread.is_some_and(|spread| Some(spread.mean) == best);
    let text = spread.map(|spread| of_metric(metric, spread));
    html! {
        @match (text, cell.failed) {
            (None, 0) => "–",
            (None, _) => "failed",
            (Some(text), failed) => {
                @if is_best { strong { (text) } } @else { (text) }
                @if failed == cell.runs { " (failed)" }
                @else if failed > 0 { " (" (failed) " of " (cell.runs) " failed)" }
            }
        }
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

fn all_cells(read: &Read) -> Markup {
    let shown: Vec<usize> = (0..METRICS.len())
        .filter(|place| read.cells.iter().any(|cell| cell.spreads[*place].is_some()))
        .collect();
    let text = |cell: &Cell, place: usize| {
        cell.spreads[place].map_or("–".to_owned(), |spread| {
            of_metric(&METRICS[place], spread)
        })
    };
    html! {
        table {
            tr {
                @for axis in &read.manifest.axes { th { (axis) } }
                th.n { "runs" }
                th.n { "failed" }
                @for place in &shown { th.n { (METRICS[*place].title) } }
            }
            @for cell in &read.cells {
                tr {
                    @for value in &cell.values { td { (value) } }
                    td.n { (cell.runs) }
                    td.n { (cell.failed) }
                    @for place in &shown { td.n { (text(cell, *place)) } }
                }
            }
        }
    }
}

/// The cost of updates against their result, if the codec is on an axis.
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
    .find(|(name, _)| read.has(name))?;
    let (value, better) = (place(name), METRICS[place(name)].better);
    let bytes = place("body_bytes");
    let point = |cell: &Cell| Some((cell.spreads[bytes]?.mean, cell.spreads[value]?.mean));
    let marks = |label: &String| {
        let cells = read.cells.iter();
        let cells = cells.filter(|cell| cell.values[axis] == *label);
        Series {
            marks_only: true,
            ..Series::line(label, cells.filter_map(point).collect())
        }
    };
    let labels = &read.manifest.values[axis];
    let mut series: Vec<Series> = labels.iter().map(marks).collect();
    let frontier = frontier(read.cells.iter().filter_map(point).collect(), better);
    if frontier.len() > 1 {
        series.push(Series::line("best for its bytes", frontier));
    }
    let y = match better {
        Better::High => Axis::linear(title, Unit::Number),
        Better::Low => Axis::log(title, Unit::Number),
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

/// The points that no other one surpasses for fewer bytes.
fn frontier(mut points: Vec<(f64, f64)>, better: Better) -> Vec<(f64, f64)> {
    points.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut frontier: Vec<(f64, f64)> = Vec::new();
    for (bytes, value) in points {
        let surpasses = |best: f64| match better {
            Better::High => value > best,
            Better::Low => value < best,
        };
        if frontier.last().is_none_or(|(_, best)| surpasses(*best)) {
            frontier.push((bytes, value));
        }
    }
    frontier
}

/// Means over seeds, round by round, one line for each value of the first axis, with bands of one
/// standard deviation.
fn curves(folder: &Path, read: &Read) -> io::Result<Vec<(String, Plot)>> {
    let tables = round_tables(folder, read)?;
    let axes = &read.manifest.axes;
    let others: Vec<usize> = (1..axes.len()).collect();
    let combinations = combinations(read, &others);
    let by = axes
        .first()
        .map_or(String::new(), |key| format!(" by {key}"));
    let mut found = Vec::new();
    for (column, title, scale) in [
        ("accuracy", "accuracy (share)", Scale::Linear),
        ("optimum_distance", "distance to the optimum", Scale::Log),
        ("consensus_distance", "consensus distance", Scale::Log),
    ] {
        for (number, fixed) in combinations.iter().take(CURVES_MAX).enumerate() {
            let series = lines(read, &tables, (&others, fixed), column, scale);
            if series.iter().all(|series| series.points.is_empty()) {
                continue;
            }
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
            let name = match combinations.len() {
                0 | 1 => name,
                _ => format!("{name}-{number}"),
            };
            found.push((name, plot));
        }
    }
    Ok(found)
}

/// The rounds of each run, empty for one that left nothing.
fn round_tables(folder: &Path, read: &Read) -> io::Result<Vec<Table>> {
    let runs = read.manifest.runs.iter().zip(&read.outcomes);
    runs.map(|(run, outcome)| {
        if outcome.is_none() {
            return Ok(Table::default());
        }
        let path = folder.join("cells").join(&run.slug).join("rounds.csv");
        Ok(Table::read(&path, &CURVE_COLUMNS)?.above_zero("peers"))
    })
    .collect()
}

/// One line for each value of the first axis, of the runs that have these values on the others.
fn lines(
    read: &Read,
    tables: &[Table],
    (others, fixed): (&[usize], &[String]),
    column: &str,
    scale: Scale,
) -> Vec<Series> {
    let Manifest { values, runs, .. } = &read.manifest;
    let labels = match values.first() {
        Some(labels) => labels.clone(),
        None => vec![String::new()],
    };
    let line = |label: &String| {
        let of_line = |values: &[String]| {
            values.first().is_none_or(|value| value == label) && fits(values, others, fixed)
        };
        let runs = runs.iter().zip(tables);
        let runs = runs.filter(|(run, _)| of_line(&run.values));
        curve(
            label,
            runs.map(|(_, table)| table.pairs("round", column)),
            scale,
        )
    };
    labels.iter().map(line).collect()
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
            // On a logarithmic axis a band cannot reach 0 or below: it ends at the least value
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
