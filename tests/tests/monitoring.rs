//! What operators watch a peer with: the reference page of metrics.
//!
//! The page's table is made from `METRICS`; `KITH_REFERENCE=write` writes it anew.

mod common;

use std::path::{Path, PathBuf};

use common::text_of;
use kith_node::telemetry::METRICS;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

#[test]
fn the_reference_page_has_the_table() {
    let page = root().join("docs/reference/metrics.md");
    let text = text_of(&page);
    let heading = "## The table\n\n";
    let (before, found) = text.split_once(heading).expect("the heading of the table");
    let mut table =
        String::from("| metric | kind | labels | meaning | from |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        table += &format!(
            "| `{}` | {} | {} | {} | {} |\n",
            metric.name,
            metric.kind.name(),
            metric.labels.join(", "),
            metric.help,
            metric.source
        );
    }
    if std::env::var("KITH_REFERENCE").is_ok_and(|what| what == "write") {
        std::fs::write(&page, format!("{before}{heading}{table}")).expect("written");
        return;
    }
    assert_eq!(
        found, table,
        "KITH_REFERENCE=write cargo test -p kith-tests --test monitoring"
    );
}
