//! The page of one run.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use maud::{Markup, html};

use super::table::Table;
use super::{COMMAND, bytes_text, keep, number_text, page as whole, read};
use crate::experiment::{Experiment, Outcome, Range};
use crate::plot::{Axis, Plot, Series, Unit, graph};

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

/// Makes `report.html` and `plots/` from the files that [`super::write()`] left in a folder.
///
/// # Errors
/// When a file cannot be read or written.
pub fn page(folder: &Path) -> io::Result<()> {
    let outcome = read(folder)?;
    let text = std::fs::read_to_string(folder.join("experiment.toml"))?;
    let (command, resolved) = match text.split_once('\n') {
        Some((first, rest)) if first.starts_with(COMMAND) => {
            (first.trim_start_matches(COMMAND), rest)
        }
        _ => ("kith sim run experiment.toml", text.as_str()),
    };
    let plots = draw(folder, resolved)?;
    let body = html! {
        (invariants(&outcome, command))
        h2 { "Outcome" }
        (outcome_table(&outcome))
        @if let Some(skew) = &outcome.skew { (skew_table(&skew.class_counts)) }
        h2 { "Plots" }
        p.note {
            "Honest peers only. Each plot is also a file in " code { "plots/" } "; the numbers are in "
            code { "rounds.csv" } " and " code { "peers.csv" } "."
        }
        div.plots { @for plot in plots { (plot) } }
        h2 { "Make it again" }
        pre { (command) }
        p { "or, from the resolved experiment of this folder," }
        pre { "kith sim run experiment.toml" }
        p { "Trace " code { (outcome.trace.to_string()) } ": the same seed and program give the same trace." }
        details { summary { "The resolved experiment" } pre { (resolved) } }
    };
    let title = format!("{}, seed {}", outcome.name, outcome.seed);
    std::fs::write(folder.join("report.html"), whole(&title, &body))
}

/// Every plot that has something to show, and the graph.
fn draw(folder: &Path, resolved: &str) -> io::Result<Vec<Markup>> {
    let rounds = Table::read(&folder.join("rounds.csv"), &ROUND_COLUMNS)?.above_zero("peers");
    let peers = Table::read(
        &folder.join("peers.csv"),
        &["round", "lies", "loss", "virtual_seconds"],
    )?;
    let plots = plots(&rounds, &peers).into_iter();
    let plots = plots.filter_map(|(name, plot)| Some((name, plot.svg()?)));
    let folder = folder.join("plots");
    plots
        .chain(drawing(resolved).map(|svg| ("graph", svg)))
        .map(|(name, svg)| keep(&folder, name, svg))
        .collect()
}

fn invariants(outcome: &Outcome, command: &str) -> Markup {
    let checks = &outcome.checks;
    html! {
        p { "Invariants: " (checks.passed) " held, " (checks.failed.len()) " broken." }
        @if !outcome.faults_not_felt.is_empty() {
            p { "Not felt, since the run was over before: " (outcome.faults_not_felt.join(", ")) "." }
        }
        @if !checks.failed.is_empty() {
            table {
                tr { th { "broken invariant" } th { "peer" } th.n { "virtual seconds" } th { "what happened" } }
                @for failure in &checks.failed {
                    tr {
                        td.broken { (failure.check) }
                        td { @if let Some(peer) = failure.peer { (peer) } @else { "the run" } }
                        td.n { (format_args!("{:.6}", failure.virtual_seconds)) }
                        td { (failure.what) }
                    }
                }
            }
            p { "Replay it: " code { (command) } }
        }
    }
}

/// The number of rows of each class at each peer, for worlds small enough to look at.
fn skew_table(peers: &[Vec<u64>]) -> Markup {
    if !(1..=GRAPH_PEERS_MAX).contains(&peers.len()) {
        return Markup::default();
    }
    let largest = peers.iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
    // Darker for more rows; the number says the same.
    let shade = |count: u64| {
        let share = 0.6 * count as f64 / largest;
        format!("background:rgba(0,114,178,{share:.2})")
    };
    html! {
        details {
            summary { "Rows by peer and class" }
            table {
                tr { th { "peer" } @for class in 0..peers[0].len() { th.n { (class) } } }
                @for (peer, counts) in peers.iter().enumerate() {
                    tr { td { (peer) } @for count in counts { td.n style=(shade(*count)) { (count) } } }
                }
            }
        }
    }
}

fn outcome_table(outcome: &Outcome) -> Markup {
    let lines = [learned(outcome), sent(outcome), went(outcome)];
    html! {
        table { @for (name, value) in lines.into_iter().flatten() { tr { th { (name) } td { (value) } } } }
    }
}

type Line = (&'static str, String);

/// The peers that took part, and what they learned.
fn learned(outcome: &Outcome) -> Vec<Line> {
    let mut lines = vec![(
        "peers",
        format!("{}, of which {} lie", outcome.peers, outcome.adversaries),
    )];
    if outcome.adversaries != 0 {
        lines.push(("liars", outcome.liars.join(", ")));
    }
    lines.push(("rounds", outcome.rounds.to_string()));
    if let Some(skew) = &outcome.skew
        && [skew.l1, skew.hellinger, skew.jensen_shannon]
            .iter()
            .all(|value| !value.is_nan())
    {
        let text = format!(
            "L1 {} of 2, Hellinger {} of 1, Jensen–Shannon {} of 0.833",
            number_text(skew.l1),
            number_text(skew.hellinger),
            number_text(skew.jensen_shannon)
        );
        lines.push(("distance of a peer's classes from everybody's, mean", text));
    }
    for (name, range) in [
        ("accuracy", outcome.accuracy),
        ("loss", outcome.loss),
        ("distance to the optimum", outcome.optimum_distance),
    ] {
        lines.extend(range.and_then(range_text).map(|text| (name, text)));
    }
    let distance = outcome.consensus_distance;
    lines.extend(distance.map(|distance| ("consensus distance", number_text(distance))));
    lines
}

/// `None` if one of its values could not be written.
fn range_text(range: Range) -> Option<String> {
    let Range { mean, min, max } = range;
    let known = ![mean, min, max].iter().any(|value| value.is_nan());
    let [mean, min, max] = [mean, min, max].map(number_text);
    known.then(|| format!("{mean} (from {min} to {max})"))
}

/// The cost of communication.
fn sent(outcome: &Outcome) -> Vec<Line> {
    let bytes = &outcome.bytes;
    let [payload, keyframes] = [bytes.payload as f64, bytes.keyframes as f64];
    let share = 100.0 * (payload + keyframes) / (bytes.dense_equivalent as f64).max(1.0);
    let bodies = format!(
        "{} and {} of keyframes: {share:.1} % of the same uncompressed",
        bytes_text(payload),
        bytes_text(keyframes)
    );
    let again = bytes.retransmitted;
    let mut lines = vec![
        ("bodies of updates", bodies),
        ("on the wire", bytes_text(bytes.wire as f64)),
    ];
    lines.extend(again.map(|again| ("sent once more", bytes_text(again as f64))));
    lines
}

/// How the rounds went.
fn went(outcome: &Outcome) -> Vec<Line> {
    let mut lines = vec![
        (
            "rounds closed by the deadline",
            outcome.rounds_by_deadline.to_string(),
        ),
        (
            "rounds with too few models to mix",
            outcome.mixing_skipped.to_string(),
        ),
    ];
    for (name, counts, between) in [
        ("updates refused", &outcome.refused, ": "),
        ("suspected peers, by how many", &outcome.suspected, " by "),
        ("convicted peers, by how many", &outcome.convicted, " by "),
    ] {
        if !counts.is_empty() {
            let each = counts
                .iter()
                .map(|(name, count)| format!("{name}{between}{count}"));
            lines.push((name, each.collect::<Vec<_>>().join(", ")));
        }
    }
    let time = format!("{} s", number_text(outcome.virtual_seconds));
    lines.push(("virtual time", time));
    let took = format!(
        "{:.2} s; {:.0} peer-rounds a second; signatures: {}",
        outcome.wall_seconds,
        outcome.peer_rounds_per_second,
        outcome.signatures.name()
    );
    lines.push(("took", took));
    lines
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
    let line = |name: &str, column: &str| Series::line(name, rounds.pairs("round", column));
    let (number, bytes) = (Unit::Number, Unit::Bytes);
    let mut found = vec![
        accuracy(rounds),
        loss(rounds, peers),
        plot(
            "consensus-distance",
            "Distance of the peers from each other",
            Axis::log("consensus distance", number),
            vec![line("", "consensus_distance")],
        ),
        plot(
            "spectral-gap",
            "Spectral gap of the mixing in force",
            Axis::linear("spectral gap", number),
            vec![line("", "spectral_gap")],
        ),
        plot(
            "optimum-distance",
            "Distance of the peers from the optimum",
            Axis::log("distance to the optimum", number),
            vec![line("", "optimum_distance")],
        ),
        plot(
            "bytes",
            "Updates received by all honest peers",
            Axis::linear("received so far", bytes),
            vec![cumulated(rounds)],
        ),
        plot(
            "filtered",
            "What the rule left out of its neighbours' contributions",
            Axis::linear("share left out", number),
            vec![
                line("of honest", "filtered_honest"),
                line("of liars", "filtered_liars"),
            ],
        ),
        plot(
            "closing-time",
            "When rounds closed: from the first honest peer to the last",
            Axis::linear("virtual seconds", number),
            vec![line("", "virtual_seconds").with_band(band(peers, "virtual_seconds"))],
        ),
    ];
    for (_, plot) in &mut found {
        // If there is only one kind of line, the title says enough.
        plot.series.retain(|series| !series.points.is_empty());
    }
    found
}

/// A plot over rounds, with the name of its file.
fn plot(name: &'static str, title: &str, y: Axis, series: Vec<Series>) -> (&'static str, Plot) {
    let plot = Plot {
        title: title.to_owned(),
        subtitle: String::new(),
        x: Axis::linear("rounds completed", Unit::Count),
        y,
        series,
    };
    (name, plot)
}

fn accuracy(rounds: &Table) -> (&'static str, Plot) {
    let band = rounds
        .each(["round", "accuracy_min", "accuracy_max"])
        .map(|[round, low, high]| (round, low, high));
    let mean = Series::line("", rounds.pairs("round", "accuracy"));
    plot(
        "accuracy",
        "Accuracy on held-out rows: mean, and from worst to best peer",
        Axis::linear("accuracy (share)", Unit::Number),
        vec![mean.with_band(band.collect())],
    )
}

fn loss(rounds: &Table, peers: &Table) -> (&'static str, Plot) {
    let (held_out, training) = (
        rounds.pairs("round", "loss"),
        rounds.pairs("round", "train_loss"),
    );
    let (title, name) = if held_out.is_empty() {
        ("Training loss: mean", "")
    } else {
        (
            "Loss: mean, and from best to worst peer on held-out rows",
            "training",
        )
    };
    plot(
        "loss",
        title,
        wide(rounds, &["loss", "train_loss"], "loss"),
        vec![
            Series::line("held out", held_out).with_band(band(peers, "loss")),
            Series::line(name, training),
        ],
    )
}

/// From the least to the most of a column of `peers.csv` among honest peers.
fn band(peers: &Table, column: &str) -> Vec<(f64, f64, f64)> {
    spans(peers, column)
        .into_iter()
        .map(|(round, (low, high))| (round as f64, low, high))
        .collect()
}

/// A logarithmic axis if values differ by more than three powers of ten.
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

/// The graph of round 0 with the liars marked, for worlds small enough to look at.
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
