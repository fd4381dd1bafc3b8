//! What `kith check` finds, for people.

use super::document::{
    Agreement, Data, Document, Expected, File, LargeValue, Neighbourhood, Privacy,
};
use crate::cli::output::{bytes, table};

/// Most names of columns in a line.
const NAMES_SHOWN: usize = 8;

type Line = (&'static str, String);

/// The document as lines with names, a table of neighbourhoods and notes.
pub(super) fn text(document: &Document) -> String {
    let mut lines: Vec<Line> = Vec::new();
    if let Some(identity) = &document.identity {
        let peer = identity.peer_id.as_deref().unwrap_or("–");
        lines.push(("peer", format!("{} {peer}", identity.name)));
    }
    lines.extend(document.agreement.iter().flat_map(agreement_lines));
    lines.extend(document.data.iter().flat_map(data_lines));
    lines.extend(document.expected.iter().flat_map(expected_lines));
    lines.extend(document.privacy.iter().flat_map(privacy_lines));
    let lines = lines
        .into_iter()
        .map(|(name, value)| format!("{name:<16}{value}\n"));
    let mut text: String = lines.collect();
    let neighbourhoods = document
        .agreement
        .as_ref()
        .and_then(|agreement| agreement.neighbourhoods.as_ref());
    if let Some(neighbourhoods) = neighbourhoods {
        text.push_str(&neighbourhood_table(neighbourhoods));
    }
    for note in document.notes.iter().flatten() {
        text.push_str(&format!("note: {note}\n"));
    }
    if document.ok {
        text.push_str("everything fits; `kith run` can start\n");
    }
    text
}

fn agreement_lines(agreement: &Agreement) -> [Line; 3] {
    let Agreement {
        federation,
        model,
        rule,
        ..
    } = agreement;
    [
        (
            "federation",
            format!(
                "{} ({}), {} rounds",
                federation.name, federation.id, federation.rounds
            ),
        ),
        (
            "model",
            format!("{}, {} parameters", model.kind, model.parameters),
        ),
        (
            "rule",
            format!(
                "{}, byzantine = {}, needs {} models",
                rule.name, rule.byzantine, rule.models_needed
            ),
        ),
    ]
}

fn data_lines(data: &Data) -> Vec<Line> {
    let held_out = data
        .held_out_rows
        .map_or("–".to_owned(), |rows| rows.to_string());
    let mut lines = vec![
        (
            "rows",
            format!(
                "{} to train on, {held_out} held out, {} features",
                data.rows, data.features
            ),
        ),
        ("of each class", list(&data.class_counts)),
    ];
    if let Some(counts) = &data.held_out_class_counts {
        lines.push(("held out", list(counts)));
    }
    if let Some(count) = data.rows_in_both.filter(|count| *count > 0) {
        lines.push((
            "in both",
            format!(
                "{count} of the held-out rows are trained on as well; what they show is no test"
            ),
        ));
    }
    for file in &data.files {
        let of = if data.files.len() > 1 {
            format!(" in {}", file.path)
        } else {
            String::new()
        };
        let of_file = file_lines(file).into_iter();
        lines.extend(of_file.map(|(name, text)| (name, format!("{text}{of}"))));
    }
    lines
}

fn list(counts: &[u64]) -> String {
    let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
    format!("[{}]", counts.join(","))
}

/// What was done to a file's rows by default, and what people should check.
fn file_lines(file: &File) -> Vec<Line> {
    let missing = file.missing.iter().map(|missing| {
        let text = format!("{} cells of {}", missing.cells, missing.column);
        ("missing", text)
    });
    let mut lines: Vec<Line> = missing.collect();
    if !file.unused_columns.is_empty() {
        let unused = some_of(&file.unused_columns);
        lines.push(("not used", format!("the columns {unused}")));
    }
    if !file.columns_in_file_order.is_empty() {
        let advice = "the charter names no columns, so every member must have them in this order";
        let columns = some_of(&file.columns_in_file_order);
        lines.push(("columns", format!("{columns}: {advice}")));
    }
    lines.extend(file.axes.iter().map(|axes| ("axes", axes.clone())));
    let large = file.large_values.iter();
    lines.extend(large.map(|large| ("large value", large_value(large))));
    lines
}

fn some_of(names: &[String]) -> String {
    let more = if names.len() > NAMES_SHOWN {
        format!(", … ({} in all)", names.len())
    } else {
        String::new()
    };
    format!("{}{more}", names[..names.len().min(NAMES_SHOWN)].join(", "))
}

fn large_value(large: &LargeValue) -> String {
    let place = match large.line {
        Some(line) => format!("line {line}"),
        None => format!("row {} (from 0)", large.row),
    };
    let [value, median] = [large.value, large.median].map(short_number);
    let why = format!("the column's median is {median}; training may fail on it, is it a mistake?");
    format!("{place}, column {}: {value}, but {why}", large.column)
}

fn short_number(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value.abs()) {
        format!("{value:.3}")
    } else {
        format!("{value:.3e}")
    }
}

fn expected_lines(expected: &Expected) -> Vec<Line> {
    let mut lines = vec![
        ("memory", format!("about {}", bytes(expected.memory_bytes))),
        (
            "a round",
            format!(
                "{} local steps; at most {} out and {} in ({} uncompressed)",
                expected.local_steps_per_round,
                bytes(expected.bytes_out_per_round),
                bytes(expected.bytes_in_per_round),
                bytes(expected.dense_bytes_per_round),
            ),
        ),
    ];
    if let (Some(keyframe), true) = (expected.keyframe_bytes, expected.graph_changes) {
        let keyframe = bytes(keyframe);
        let cost = format!("costs missed updates or a keyframe of {keyframe}");
        lines.push(("a new edge", cost));
    }
    lines
}

fn privacy_lines(privacy: &Privacy) -> [Line; 3] {
    let Privacy {
        rounds_affordable,
        rounds_planned,
        ..
    } = privacy;
    [
        (
            "privacy",
            format!(
                "each {}, epsilon {} at delta {:e}; {:.4} is spent, {}",
                privacy.unit,
                privacy.epsilon_budget,
                privacy.delta,
                privacy.epsilon_spent,
                privacy.ledger
            ),
        ),
        (
            "of the plan",
            format!(
                "epsilon {:.4} for {rounds_planned} rounds; the budget pays for {rounds_affordable} more",
                privacy.epsilon_planned
            ),
        ),
        ("noise", noise_words(privacy)),
    ]
}

fn noise_words(privacy: &Privacy) -> String {
    let Privacy {
        noise_multiplier,
        clip_norm,
        noise_per_coordinate,
        ..
    } = privacy;
    match &privacy.sampling {
        Some(sampling) => format!(
            "{noise_multiplier} times the clip norm {clip_norm} on each sum: {noise_per_coordinate:.2e} on every coordinate of a mean \
             gradient; lots of about {:.0} rows, divided by {}",
            sampling.expected_lot, sampling.lot
        ),
        None => format!(
            "{noise_multiplier} times the clip norm {clip_norm} on each round's update: {noise_per_coordinate:.2e} on every coordinate"
        ),
    }
}

fn neighbourhood_table(neighbourhoods: &[Neighbourhood]) -> String {
    let mut shown = table(&["member", "receives from", "models", "liars tolerated"]);
    for one in neighbourhoods {
        shown.add_row([
            one.name.clone(),
            one.neighbours.join(", "),
            one.models.to_string(),
            one.byzantine.to_string(),
        ]);
    }
    format!("{shown}\n")
}
