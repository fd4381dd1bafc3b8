//! How long it takes to make each topology over 10 000 and 100 000 peers, and to check it as a
//! charter does. Ends in a few seconds.
//!
//! `cargo bench -p kith-consensus --bench graphs` · other sizes: `cargo bench -p kith-consensus
//! --bench graphs -- PEERS…`

use std::hint::black_box;
use std::time::Instant;

use kith_consensus::section::Document;
use kith_consensus::topology::{TOPOLOGIES, TopologySection, connected_together};

fn main() {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let sizes = if sizes.is_empty() {
        vec![10_000, 100_000]
    } else {
        sizes
    };
    println!(
        "{:<22} {:>9} {:>10} {:>9} {:>10}",
        "topology", "peers", "edge ends", "make ms", "connect ms"
    );
    for peers in sizes {
        for entry in &TOPOLOGIES {
            let mut document =
                Document::parse(&format!("[topology]\nkind = \"{}\"", entry.name)).expect("TOML");
            let section = document.section("topology", TopologySection::read);
            let start = Instant::now();
            let graph = section.graph(peers, 0);
            let made = start.elapsed().as_secs_f64() * 1e3;
            let Ok(graph) = graph else {
                println!("{:<22} {peers:>9}  does not exist", entry.name);
                continue;
            };
            let start = Instant::now();
            black_box(connected_together(std::slice::from_ref(&graph)));
            let checked = start.elapsed().as_secs_f64() * 1e3;
            println!(
                "{:<22} {peers:>9} {:>10} {made:>9.1} {checked:>10.1}",
                entry.name,
                graph.edge_ends()
            );
        }
    }
}
