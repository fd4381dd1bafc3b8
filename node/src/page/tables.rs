//! The page as plain tables, for a browser without scripts or without what the scripts need.

use std::fmt::Write as _;

use super::recording::Role;
use super::shown::{PeerShown, Snapshot};

/// The snapshot as HTML without a script.
pub(super) fn html(shown: &Snapshot) -> String {
    let mut html = String::new();
    let _ = write!(
        html,
        "<p>{} of {} rounds, {:.1} s, mean accuracy {}, rule {}, topology {}</p>",
        shown.completed,
        shown.rounds,
        shown.seconds,
        number(shown.mean.accuracy),
        escaped(&shown.rule),
        escaped(&shown.topology)
    );
    if let Some(remark) = &shown.remark {
        let _ = write!(html, "<p>{}</p>", escaped(remark));
    }
    let header = [
        "peer", "role", "state", "rounds", "loss", "accuracy", "epsilon", "accepted", "refused",
        "dropped",
    ];
    table(&mut html, "Peers", &header, shown.peers.iter().map(row));
    bytes(&mut html, shown);
    pairs(&mut html, shown);
    html
}

fn bytes(html: &mut String, shown: &Snapshot) {
    let bytes = &shown.bytes;
    let kinds = [
        ("payload", bytes.payload),
        ("keyframes", bytes.keyframes),
        ("envelopes", bytes.envelope),
        ("on the wire", bytes.wire),
        ("the same uncompressed", bytes.dense_equivalent),
    ];
    let rows = kinds.map(|(kind, bytes)| vec![kind.to_owned(), bytes.to_string()]);
    table(html, "Bytes", &["kind", "bytes"], rows.into_iter());
}

/// What receivers left out or refused, by sender.
fn pairs(html: &mut String, shown: &Snapshot) {
    let name = |peer: usize| shown.peers[peer].name.clone();
    let rows = shown.dropped.iter().map(|pair| {
        vec![
            name(pair.to),
            name(pair.from),
            number(Some(pair.share)),
            pair.count.to_string(),
        ]
    });
    let header = ["receiver", "sender", "mean share", "contributions"];
    table(html, "Dropped shares", &header, rows);
    let rows = shown.refusals.iter().map(|refusal| {
        vec![
            name(refusal.to),
            name(refusal.from),
            refusal.words.clone(),
            refusal.count.to_string(),
        ]
    });
    let header = ["receiver", "sender", "reason", "count"];
    table(html, "Refusals", &header, rows);
}

fn row(peer: &PeerShown) -> Vec<String> {
    let role = match peer.role {
        Role::Honest => "honest",
        Role::Adversary => "adversary",
        Role::Unknown => "not known",
    };
    let state = serde_json::to_value(peer.state).ok();
    let state = state.and_then(|state| Some(state.as_str()?.to_owned()));
    vec![
        peer.name.clone(),
        role.to_owned(),
        state.unwrap_or_default(),
        peer.completed.to_string(),
        number(peer.loss.or(peer.training_loss)),
        number(peer.accuracy),
        number(peer.privacy.map(|budget| budget.epsilon)),
        peer.accepted.to_string(),
        peer.refused.to_string(),
        number(peer.dropped),
    ]
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.4}"))
}

fn table(
    html: &mut String,
    caption: &str,
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let _ = write!(html, "<table><caption>{caption}</caption><thead><tr>");
    for cell in header {
        let _ = write!(html, "<th scope=\"col\">{cell}</th>");
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escaped(&cell));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>");
}

/// Text that a browser shows as it is: names come from a file.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::recording::tests::header;
    use super::super::view::View;
    use super::*;

    #[test]
    fn names_are_text_and_never_elements() {
        let mut header = header();
        header.peers[0].name = "<script>alert(1)</script>".to_owned();
        header.rule = "a&b".to_owned();
        let html = html(&View::new(header).snapshot(0));
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;") && html.contains("a&amp;b"));
        assert!(html.contains("<td>adversary</td>"));
    }
}
