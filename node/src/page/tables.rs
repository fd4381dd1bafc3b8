//! The page as plain tables, for a browser without scripts or without what the scripts need.

use maud::{Markup, html};

use super::recording::Role;
use super::shown::{PeerShown, Snapshot};

/// The snapshot as HTML without a script.
pub(super) fn markup(shown: &Snapshot) -> Markup {
    let peers = [
        "peer", "role", "state", "rounds", "loss", "accuracy", "epsilon", "accepted", "refused",
        "dropped",
    ];
    html! {
        p {
            (shown.completed) " of " (shown.rounds) " rounds, "
            (format_args!("{:.1}", shown.seconds)) " s, mean accuracy " (number(shown.mean.accuracy))
            ", rule " (shown.rule) ", topology " (shown.topology)
        }
        @if let Some(remark) = &shown.remark { p { (remark) } }
        (table("Peers", &peers, shown.peers.iter().map(row)))
        (bytes(shown))
        (pairs(shown))
    }
}

fn bytes(shown: &Snapshot) -> Markup {
    let bytes = &shown.bytes;
    let kinds = [
        ("payload", bytes.payload),
        ("keyframes", bytes.keyframes),
        ("envelopes", bytes.envelope),
        ("on the wire", bytes.wire),
        ("the same uncompressed", bytes.dense_equivalent),
    ];
    let rows = kinds.map(|(kind, bytes)| [kind.to_owned(), bytes.to_string()]);
    table("Bytes", &["kind", "bytes"], rows)
}

/// What receivers left out or refused, by sender.
fn pairs(shown: &Snapshot) -> Markup {
    let name = |peer: usize| shown.peers[peer].name.clone();
    let dropped = shown.dropped.iter().map(|pair| {
        [
            name(pair.to),
            name(pair.from),
            number(Some(pair.share)),
            pair.count.to_string(),
        ]
    });
    let refused = shown.refusals.iter().map(|refusal| {
        [
            name(refusal.to),
            name(refusal.from),
            refusal.words.clone(),
            refusal.count.to_string(),
        ]
    });
    html! {
        (table("Dropped shares", &["receiver", "sender", "mean share", "contributions"], dropped))
        (table("Refusals", &["receiver", "sender", "reason", "count"], refused))
    }
}

fn row(peer: &PeerShown) -> [String; 10] {
    let role = match peer.role {
        Role::Honest => "honest",
        Role::Adversary => "adversary",
        Role::Unknown => "not known",
    };
    let state = serde_json::to_value(peer.state).ok();
    let state = state.and_then(|state| Some(state.as_str()?.to_owned()));
    [
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

fn table<const COLUMNS: usize>(
    caption: &str,
    header: &[&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> Markup {
    html! {
        table {
            caption { (caption) }
            thead { tr { @for cell in header { th scope="col" { (cell) } } } }
            tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
        }
    }
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
        let html = markup(&View::new(header).snapshot(0)).into_string();
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;") && html.contains("a&amp;b"));
        assert!(html.contains("<td>adversary</td>"));
    }
}
