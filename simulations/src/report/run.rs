//! The page of one run.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::table::Table;
use super::{COMMAND, bytes_text, keep, number_text, page as whole};
use crate::experiment::Experiment;
use crate::plot::{Axis, Plot, Series, Unit, escape, graph};

/// Columns of `rounds.csv` that are drawn, for rounds that somebody completed.
const ROUND_COLUMNS: [&str; 14] = [
    "round",
    "peers",
    "virtual_seconds",
    "train_loss",
    "loss",
    "accuracy",
    "accuracy_min",
    "accuracy_max",
    "consensus_distance",
    "optimum_distance",
    "filtered_liars",
    "filtered_honest",
    "update_bytes",
    "spectral_gap",
];

/// Largest world whose graph is drawn.
const GRAPH_PEERS_MAX: usize = 64;

/// Makes `report.html` and `plots/` of the files that [`super::write()`] left in a folder.
///
/// # Errors
/// When a file cannot be read or written.
pub fn page(folder: &Path) -> io::Result<()> {
    let outcome: Value = serde_json::from_slice(&std::fs::read(folder.join("outcome.json"))?)
        .map_err(io::Error::other)?;
    let text = std::fs::read_to_string(folder.join("experiment.toml"))?;
    let rounds = Table::read(&folder.join("rounds.csv"), &ROUND_COLUMNS)?.above_zero("peers");
    let peers = Table::read(
        &folder.join("peers.csv"),
        &["round", "lies", "loss", "virtual_seconds"],
    )?;
    let (command, resolved) = match text.split_once('\n') {
        Some((first, rest)) if first.starts_with(COMMAND) => {
            (first.trim_start_matches(COMMAND), rest)
        }
        _ => ("kith sim run experiment.toml", text.as_str()),
    };
    let mut body = promises(&outcome, command);
    body.push_str("<h2>Outcome</h2>\n");
    body.push_str(&outcome_table(&outcome));
    body.push_str(&skew_table(&outcome["skew"]["class_counts"]));
    body.push_str(
        "<h2>Plots</h2>\n<p class=\"note\">Honest peers only. Each plot is also a file in <code>plots/</code>; the numbers \
                   are in <code>rounds.csv</code> and <code>peers.csv</code>.</p>\n<div class=\"plots\">\n",
    );
    let folder_of_plots = folder.join("plots");
    for (name, plot) in plots(&rounds, &peers) {
        if let Some(svg) = plot.svg() {
            keep(&folder_of_plots, name, &svg, &mut body)?;
        }
    }
    if let Some(svg) = drawing(resolved) {
        keep(&folder_of_plots, "graph", &svg, &mut body)?;
    }
    body.push_str("</div>\n<h2>Make it again</h2>\n");
    body.push_str(&format!(
        "<pre>{}</pre>\n<p>or, from the resolved experiment of this folder,</p>\n<pre>kith sim run experiment.toml</pre>\n",
        escape(command)
    ));
    body.push_str(&format!(
        "<p>Trace <code>{}</code>: the same seed and program give the same trace.</p>\n",
        escape(outcome["trace"].as_str().unwrap_or_default())
    ));
    body.push_str(&format!(
        "<details><summary>The resolved experiment</summary><pre>{}</pre></details>\n",
        escape(resolved)
    ));
    let title = format!(
        "{}, seed {}",
        outcome["name"].as_str().unwrap_or("experiment"),
        outcome["seed"]
    );
    std::fs::write(folder.join("report.html"), whole(&title, &body))
}

fn promises(outcome: &Value, command: &str) -> String {
    let failed = outcome["checks"]["failed"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let kept = outcome["checks"]["passed"].as_u64().unwrap_or(0);
    let mut text = format!("<p>Promises: {kept} kept, {} broken.</p>\n", failed.len());
    let late = outcome["faults_not_felt"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let late: Vec<&str> = late.iter().filter_map(Value::as_str).collect();
    if !late.is_empty() {
        text.push_str(&format!(
            "<p>Not felt, since the run was over before: {}.</p>\n",
            escape(&late.join(", "))
        ));
    }
    if failed.is_empty() {
        return text;
    }
    text.push_str(
        "<table><tr><th>broken promise</th><th>peer</th><th class=\"n\">virtual seconds</th><th>what happened</th></tr>\n",
    );
    for failure in failed {
        text.push_str(&format!(
            "<tr><td class=\"broken\">{}</td><td>{}</td><td class=\"n\">{:.6}</td><td>{}</td></tr>\n",
            escape(failure["check"].as_str().unwrap_or_default()),
            failure["peer"].as_u64().map_or("the run".to_owned(), |peer| peer.to_string()),
            failure["virtual_seconds"].as_f64().unwrap_or(0.0),
            escape(failure["what"].as_str().unwrap_or_default()),
        ));
    }
    text.push_str(&format!(
        "</table>\n<p>Replay it: <code>{}</code></p>\n",
        escape(command)
    ));
    text
}

/// Which peer has how many rows of which class, for worlds of a size that can be looked at.
fn skew_table(counts: &Value) -> String {
    let Some(peers) = counts
        .as_array()
        .filter(|peers| (1..=GRAPH_PEERS_MAX).contains(&peers.len()))
    else {
        return String::new();
    };
    let numbers = |counts: &Value| {
        counts.as_array().map_or(Vec::new(), |list| {
            list.iter().filter_map(Value::as_u64).collect()
        })
    };
    let peers: Vec<Vec<u64>> = peers.iter().map(numbers).collect();
    let largest = peers.iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
    let classes: String = (0..peers[0].len())
        .map(|class| format!("<th class=\"n\">{class}</th>"))
        .collect();
    let mut text = format!(
        "<details><summary>Rows by peer and class</summary>\n<table><tr><th>peer</th>{classes}</tr>\n"
    );
    for (peer, counts) in peers.iter().enumerate() {
        // Darker for more; the number says the same.
        let shade = |count: u64| {
            format!(
                "background:rgba(0,114,178,{:.2})",
                0.6 * count as f64 / largest
            )
        };
        let cell =
            |count: &u64| format!("<td class=\"n\" style=\"{}\">{count}</td>", shade(*count));
        text.push_str(&format!(
            "<tr><td>{peer}</td>{}</tr>\n",
            counts.iter().map(cell).collect::<String>()
        ));
    }
    text.push_str("</table></details>\n");
    text
}

fn outcome_table(outcome: &Value) -> String {
    let mut text = "<table>\n".to_owned();
    let mut line = |name: &str, value: String| {
        text.push_str(&format!(
            "<tr><th>{name}</th><td>{}</td></tr>\n",
            escape(&value)
        ));
    };
    let range = |key: &str| {
        let part = |part: &str| outcome[key][part].as_f64().map(number_text);
        Some(format!(
            "{} (from {} to {})",
            part("mean")?,
            part("min")?,
            part("max")?
        ))
    };
    let names = |list: &Value| {
        list.as_array().map_or(String::new(), |list| {
            list.iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        })
    };
    let counts = |key: &str, between: &str| {
        let counts = outcome[key]
            .as_object()
            .filter(|counts| !counts.is_empty())?;
        Some(
            counts
                .iter()
                .map(|(name, count)| format!("{name}{between}{count}"))
                .collect::<Vec<_>>()
                .join(", "),
        )
    };
    line(
        "peers",
        format!(
            "{}, of which {} lie",
            outcome["peers"], outcome["adversaries"]
        ),
    );
    if outcome["adversaries"] != 0 {
        line("liars", names(&outcome["liars"]));
    }
    line("rounds", outcome["rounds"].to_string());
    let skew = |key: &str| outcome["skew"][key].as_f64().map(number_text);
    if let (Some(l1), Some(hellinger), Some(jensen_shannon)) =
        (skew("l1"), skew("hellinger"), skew("jensen_shannon"))
    {
        let text = format!(
            "L1 {l1} of 2, Hellinger {hellinger} of 1, Jensen–Shannon {jensen_shannon} of 0.833"
        );
        line("distance of a peer's classes from everybody's, mean", text);
    }
    for (key, name) in [
        ("accuracy", "accuracy"),
        ("loss", "loss"),
        ("optimum_distance", "distance to the optimum"),
    ] {
        range(key).into_iter().for_each(|value| line(name, value));
    }
    outcome["consensus_distance"]
        .as_f64()
        .into_iter()
        .for_each(|value| line("consensus distance", number_text(value)));
    let bytes = |key: &str| outcome["bytes"][key].as_f64().unwrap_or(0.0);
    let share =
        100.0 * (bytes("payload") + bytes("keyframes")) / bytes("dense_equivalent").max(1.0);
    let bodies = format!(
        "{} and {} of keyframes",
        bytes_text(bytes("payload")),
        bytes_text(bytes("keyframes"))
    );
    line(
        "bodies of updates",
        format!("{bodies}: {share:.1} % of the same uncompressed"),
    );
    line("on the wire", bytes_text(bytes("wire")));
    outcome["bytes"]["retransmitted"]
        .as_f64()
        .into_iter()
        .for_each(|bytes| line("sent once more", bytes_text(bytes)));
    line(
        "rounds closed by the deadline",
        outcome["rounds_by_deadline"].to_string(),
    );
    line(
        "rounds with too few models to mix",
        outcome["mixing_skipped"].to_string(),
    );
    for (key, name, between) in [
        ("refused", "updates refused", ": "),
        ("suspected", "suspected peers, by how many", " by "),
        ("convicted", "convicted peers, by how many", " by "),
    ] {
        counts(key, between)
            .into_iter()
            .for_each(|value| line(name, value));
    }
    line(
        "virtual time",
        format!(
            "{} s",
            number_text(outcome["virtual_seconds"].as_f64().unwrap_or(0.0))
        ),
    );
    let rate = outcome["peer_rounds_per_second"].as_f64().unwrap_or(0.0);
    let signatures = outcome["signatures"].as_str().unwrap_or_default();
    let wall = outcome["wall_seconds"].as_f64().unwrap_or(0.0);
    line(
        "took",
        format!("{wall:.2} s; {rate:.0} peer-rounds a second; signatures: {signatures}"),
    );
    text.push_str("</table>\n");
    text
}

/// Mean, least and most of a column of `peers.csv` among honest peers, by rounds completed.
fn spans(peers: &Table, column: &str) -> BTreeMap<u64, (f64, f64)> {
    let mut found: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for [round, lies, value] in peers.each(["round", "lies", column]) {
        if lies == 0.0 {
            let span = found.entry(round as u64).or_insert((value, value));
            *span = (span.0.min(value), span.1.max(value));
        }
    }
    found
}

fn plots(rounds: &Table, peers: &Table) -> Vec<(&'static str, Plot)> {
    let round = || Axis::linear("rounds completed", Unit::Count);
    let plot = |title: &str, y: Axis, series: Vec<Series>| Plot {
        title: title.to_owned(),
        subtitle: String::new(),
        x: round(),
        y,
        series,
    };
    let band = |column: &str| {
        spans(peers, column)
            .into_iter()
            .map(|(round, (low, high))| (round as f64, low, high))
            .collect()
    };
    let line = |name: &str, column: &str| Series::line(name, rounds.pairs("round", column));
    let held_out = !rounds.pairs("round", "loss").is_empty();
    let accuracy_band = rounds
        .each(["round", "accuracy_min", "accuracy_max"])
        .map(|[round, low, high]| (round, low, high));
    let mut found = vec![
        (
            "accuracy",
            plot(
                "Accuracy on held-out rows: mean, and from worst to best peer",
                Axis::linear("accuracy (share)", Unit::Number),
                vec![line("", "accuracy").with_band(accuracy_band.collect())],
            ),
        ),
        (
            "loss",
            plot(
                if held_out {
                    "Loss: mean, and from best to worst peer on held-out rows"
                } else {
                    "Training loss: mean"
                },
                wide(rounds, &["loss", "train_loss"], "loss"),
                vec![
                    line("held out", "loss").with_band(band("loss")),
                    line(if held_out { "training" } else { "" }, "train_loss"),
                ],
            ),
        ),
        (
            "consensus-distance",
            plot(
                "Distance of the peers from each other",
                Axis::log("consensus distance", Unit::Number),
                vec![line("", "consensus_distance")],
            ),
        ),
        (
            "spectral-gap",
            plot(
                "Spectral gap of the mixing in force",
                Axis::linear("spectral gap", Unit::Number),
                vec![line("", "spectral_gap")],
            ),
        ),
        (
            "optimum-distance",
            plot(
                "Distance of the peers from the optimum",
                Axis::log("distance to the optimum", Unit::Number),
                vec![line("", "optimum_distance")],
            ),
        ),
        (
            "bytes",
            plot(
                "Updates received by all honest peers",
                Axis::linear("received so far", Unit::Bytes),
                vec![cumulated(rounds)],
            ),
        ),
        (
            "filtered",
            plot(
                "What the rule left out of its neighbours' contributions",
                Axis::linear("share left out", Unit::Number),
                vec![
                    line("of honest", "filtered_honest"),
                    line("of liars", "filtered_liars"),
                ],
            ),
        ),
        (
            "closing-time",
            plot(
                "When rounds closed: from the first honest peer to the last",
                Axis::linear("virtual seconds", Unit::Number),
                vec![line("", "virtual_seconds").with_band(band("virtual_seconds"))],
            ),
        ),
    ];
    for (_, plot) in &mut found {
        // Where there is one kind of line only, the title says enough.
        plot.series.retain(|series| !series.points.is_empty());
    }
    found
}

/// A logarithmic axis where values differ by more than three powers of ten.
fn wide(rounds: &Table, columns: &[&str], title: &str) -> Axis {
    let values = || {
        columns
            .iter()
            .flat_map(|column| rounds.pairs("round", column))
            .map(|(_, value)| value)
    };
    let (least, most) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    if least > 0.0 && most > 1e3 * least {
        Axis::log(title, Unit::Number)
    } else {
        Axis::linear(title, Unit::Number)
    }
}

fn cumulated(rounds: &Table) -> Series {
    let mut sum = 0.0;
    let points = rounds
        .pairs("round", "update_bytes")
        .into_iter()
        .map(|(round, bytes)| {
            sum += bytes;
            (round, sum)
        });
    Series::line("", points.collect())
}

/// The graph of round 0 with the liars marked, for worlds of a size that can be looked at.
fn drawing(text: &str) -> Option<String> {
    let experiment = Experiment::parse(text, &[]).ok()?;
    let peers = experiment.peers();
    if peers > GRAPH_PEERS_MAX {
        return None;
    }
    let topology = &experiment.charter.topology;
    let drawn = topology.graph(peers, 0).ok()?;
    let mut lies = vec![false; peers];
    experiment
        .world
        .adversaries_among(peers)
        .into_iter()
        .for_each(|liar| lies[liar] = true);
    let kind = topology.kind.name();
    let title = format!(
        "Who exchanges with whom{}: {kind}",
        if topology.changes() {
            " in round 0"
        } else {
            ""
        }
    );
    Some(graph::svg(&title, kind, &drawn, &lies))
}
