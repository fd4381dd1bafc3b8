//! The results of a run as files: tables as CSV, the outcome as JSON, plots as SVG, and a page that
//! holds all of it.
//!
//! [`write()`] leaves a run's measurements in a folder; [`run::page`] and [`sweep::page`] make a
//! page from those files, so that a report can be made again without running anything. A page
//! needs no network and no script, and follows its reader's choice of light or dark.

use std::io;
use std::path::Path;

use kith_consensus::Digest;
use kith_models::SkewReport;
use kith_models::skew::label_skew;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::{Deserialize, Serialize};

use crate::experiment::{Experiment, Outcome};
use crate::plot::STYLE;
use crate::replace::replace;

#[cfg(feature = "parquet")]
mod parquet;
pub mod run;
pub mod sweep;
mod table;

/// Writes `experiment.toml` (the resolved experiment, `command` in its first line), `rounds.csv`,
/// `peers.csv` for worlds that keep it and if `peers` asks for it, `skew.csv` if rows were dealt,
/// and in the end `outcome.json` into an existing folder. If `outcome.json` is there, the rest is
/// too.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    folder: &Path,
    experiment: &Experiment,
    outcome: &Outcome,
    command: &str,
    peers: bool,
) -> io::Result<()> {
    let command: String = command
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    std::fs::write(
        folder.join("experiment.toml"),
        format!("{COMMAND}{command}\n{}", experiment.to_toml()),
    )?;
    table_file(&folder.join("rounds.csv"), &outcome.round_rows)?;
    if peers && !outcome.peer_rows.is_empty() {
        table_file(&folder.join("peers.csv"), &outcome.peer_rows)?;
    }
    if let Some(skew) = outcome
        .skew
        .as_ref()
        .filter(|skew| peers && !skew.class_counts.is_empty())
    {
        skew_file(&folder.join("skew.csv"), skew)?;
    }
    let json = serde_json::to_vec_pretty(outcome).map_err(io::Error::other)?;
    replace(&folder.join("outcome.json"), &json)
}

/// The contents of a folder that is to hold results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Nothing at all; perhaps there is no such folder.
    Nothing,
    /// The files of [`write()`], complete or begun, and files made from them.
    Run {
        /// The experiment's digest, [`Experiment::digest`].
        experiment: String,
        /// Its seed, if the run was completed.
        seed: Option<u64>,
    },
    /// At least this file, which no run leaves.
    Other(String),
}

/// Looks at a folder before anything is written to it.
///
/// # Errors
/// When it cannot be read, or is a file.
pub fn contents(folder: &Path) -> io::Result<Contents> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contents::Nothing),
        Err(error) => return Err(error),
    };
    let names: io::Result<Vec<String>> = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect();
    let mut names = names?;
    names.sort_unstable();
    let Some(first) = names.first() else {
        return Ok(Contents::Nothing);
    };
    if let Some(other) = names.iter().find(|name| !is_left_by_a_run(name)) {
        return Ok(Contents::Other(other.clone()));
    }
    // The resolved experiment is the first file that is written.
    let text = std::fs::read_to_string(folder.join("experiment.toml")).unwrap_or_default();
    let Some((_, resolved)) = text
        .split_once('\n')
        .filter(|(command, _)| command.starts_with(COMMAND))
    else {
        return Ok(Contents::Other(first.clone()));
    };
    let outcome = std::fs::read(folder.join("outcome.json")).ok();
    let outcome: Option<Seeded> = outcome.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(Contents::Run {
        experiment: Digest::of(resolved.as_bytes()).to_string(),
        seed: outcome.and_then(|outcome| outcome.seed),
    })
}

/// The seed alone of an outcome.
#[derive(Deserialize)]
struct Seeded {
    seed: Option<u64>,
}

/// Reads the outcome that [`write()`] left in a folder.
///
/// # Errors
/// When there is none, or it is not one of ours.
pub fn read(folder: &Path) -> io::Result<Outcome> {
    let bytes = std::fs::read(folder.join("outcome.json"))?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

fn is_left_by_a_run(name: &str) -> bool {
    const FILES: [&str; 5] = [
        "experiment.toml",
        "outcome.json",
        "outcome.json.partial",
        "report.html",
        "plots",
    ];
    let table = name
        .strip_suffix(".csv")
        .or_else(|| name.strip_suffix(".parquet"));
    FILES.contains(&name) || table.is_some_and(|table| ["rounds", "peers", "skew"].contains(&table))
}

/// Begins the first line of a resolved experiment's file.
const COMMAND: &str = "# ";

/// How to build the program with Parquet, for messages.
pub const PARQUET_BUILD: &str = "build it with `cargo build --release --features parquet`";

/// Whether this program was built with Parquet.
pub const PARQUET: bool = cfg!(feature = "parquet");

/// Writes each table of a run's or a sweep's folder, and of the cells in it, once more as Parquet,
/// with the same columns: `rounds.parquet` next to `rounds.csv`.
///
/// # Errors
/// When a table cannot be read or a file cannot be written, or if this program was built without
/// Parquet.
pub fn write_parquet(folder: &Path) -> io::Result<()> {
    let cells = std::fs::read_dir(folder.join("cells"))
        .into_iter()
        .flatten();
    let cells: io::Result<Vec<std::path::PathBuf>> = cells.map(|cell| Ok(cell?.path())).collect();
    for folder in cells?
        .iter()
        .map(std::path::PathBuf::as_path)
        .chain([folder])
    {
        for table in ["rounds", "peers", "skew", "sweep", "summary"]
            .map(|name| folder.join(name).with_extension("csv"))
        {
            if table.exists() {
                parquet_beside(&table)?;
            }
        }
    }
    Ok(())
}

#[cfg(feature = "parquet")]
use parquet::beside as parquet_beside;

#[cfg(not(feature = "parquet"))]
fn parquet_beside(_table: &Path) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("this program was built without Parquet; {PARQUET_BUILD}"),
    ))
}

/// A row for every peer: its rows, how far its labels are from everybody's, and its rows of each
/// class.
fn skew_file(path: &Path, skew: &SkewReport) -> io::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    let classes =
        (0..skew.class_counts.first().map_or(0, Vec::len)).map(|class| format!("class_{class}"));
    let names = [
        "peer",
        "rows",
        "l1",
        "hellinger",
        "js_divergence",
        "entropy",
    ]
    .map(str::to_owned);
    writer.write_record(names.into_iter().chain(classes))?;
    for (peer, (counts, skew)) in skew
        .class_counts
        .iter()
        .zip(label_skew(&skew.class_counts))
        .enumerate()
    {
        let numbers = [skew.l1, skew.hellinger, skew.js_divergence, skew.entropy]
            .map(|value| value.to_string());
        let whole = [peer as u64, counts.iter().sum()].map(|value| value.to_string());
        writer.write_record(
            whole
                .into_iter()
                .chain(numbers)
                .chain(counts.iter().map(u64::to_string)),
        )?;
    }
    writer.flush()
}

fn table_file<T: Serialize>(path: &Path, rows: &[T]) -> io::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    writer.flush()
}

/// A page of its own with this title and body.
fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en-GB" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(PAGE_STYLE)) (PreEscaped(STYLE)) }
            }
            body { h1 { (title) } (body) }
        }
    };
    page.into_string()
}

const PAGE_STYLE: &str = "\
body{font:15px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;max-width:1400px;margin:1.5rem auto;padding:0 1rem;\
color:#222;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}a{color:#0072b2}\
table{border-collapse:collapse;margin:.5rem 0 1rem;display:block;overflow-x:auto}\
th,td{padding:.2rem .7rem;border-bottom:1px solid #8884;text-align:left;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
.broken{font-weight:700}.note{color:#555}\
pre{background:#8881;padding:.7rem;overflow-x:auto;font-size:13px}code{font-size:13px}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));gap:1rem}\
.plots svg{max-width:100%;height:auto;border:1px solid #8884}\
@media (prefers-color-scheme:dark){body{color:#ddd;background:#101114}a{color:#4fa3e0}.note{color:#aaa}}";

/// A plot's file in a folder of plots, and its place in a page.
fn keep(plots: &Path, name: &str, svg: String) -> io::Result<Markup> {
    std::fs::create_dir_all(plots)?;
    std::fs::write(
        plots.join(format!("{name}.svg")),
        crate::plot::standalone(&svg),
    )?;
    Ok(PreEscaped(svg))
}

/// A number of bytes as text for people.
fn bytes_text(count: f64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let fitting = units.into_iter().find(|(size, _)| count >= *size);
    fitting.map_or_else(
        || format!("{count:.0} B"),
        |(size, unit)| format!("{:.1} {unit}", count / size),
    )
}

/// A number for people: some five digits, with a power of ten if it is very large or small.
pub fn number_text(value: f64) -> String {
    match decimals(value) {
        _ if value == 0.0 => "0".to_owned(),
        Some(decimals) => format!("{value:.decimals$}"),
        None => format!("{value:.3e}"),
    }
}

/// A mean with its standard deviation, if there is one, both with the same decimals.
pub fn spread_text(mean: f64, deviation: Option<f64>) -> String {
    let mean_text = number_text(mean);
    match (deviation, decimals(mean)) {
        (None, _) => mean_text,
        (Some(0.0), None) => format!("{mean_text} ± 0"),
        (Some(deviation), Some(decimals)) if deviation < 1e5 => {
            format!("{mean_text} ± {deviation:.decimals$}")
        }
        (Some(deviation), _) => format!("{mean_text} ± {deviation:.1e}"),
    }
}

/// Decimals of a number that needs no power of ten.
fn decimals(value: f64) -> Option<usize> {
    match value.abs() {
        size if (1e-3..1e1).contains(&size) => Some(4),
        size if (1e1..1e3).contains(&size) => Some(2),
        size if (1e3..1e5).contains(&size) => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_run_s_only_where_nothing_else_lies_in_it() {
        let folder = std::env::temp_dir().join(format!("kith-contents-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder); // there may be none
        let found = || contents(&folder).expect("it can be read");
        let put = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).expect("it can be written")
        };
        assert_eq!(found(), Contents::Nothing, "there is no folder");
        std::fs::create_dir(&folder).expect("a folder");
        assert_eq!(found(), Contents::Nothing);
        put("report.html", "my own page");
        assert_eq!(
            found(),
            Contents::Other("report.html".into()),
            "a name alone proves nothing"
        );
        put("experiment.toml", "# kith sim run e.toml\n[federation]\n");
        let experiment = Digest::of(b"[federation]\n").to_string();
        assert_eq!(
            found(),
            Contents::Run {
                experiment: experiment.clone(),
                seed: None
            },
            "it was begun"
        );
        put("outcome.json", "{\"seed\": 7}");
        put("peers.csv", "");
        assert_eq!(
            found(),
            Contents::Run {
                experiment,
                seed: Some(7)
            }
        );
        put("notes.txt", "mine");
        assert_eq!(found(), Contents::Other("notes.txt".into()));
        std::fs::remove_dir_all(&folder).expect("it was there");
        std::fs::write(&folder, "a file").expect("a file");
        assert!(contents(&folder).is_err());
        std::fs::remove_file(&folder).expect("it was there");
    }

    #[test]
    fn numbers_are_told_in_few_digits() {
        let told: Vec<String> = [0.0, 0.90441, 86528.52, 18.752, 3.142e6, 2e-5]
            .map(number_text)
            .to_vec();
        assert_eq!(
            told,
            ["0", "0.9044", "86528.5", "18.75", "3.142e6", "2.000e-5"]
        );
        assert_eq!(spread_text(0.9, Some(1.2e-4)), "0.9000 ± 0.0001");
        assert_eq!(spread_text(0.0, Some(0.0)), "0 ± 0");
        assert_eq!(spread_text(2e-5, Some(1e-6)), "2.000e-5 ± 1.0e-6");
        assert_eq!(
            (spread_text(7.0, None).as_str(), bytes_text(2.5e6).as_str()),
            ("7.0000", "2.5 MB")
        );
    }
}
