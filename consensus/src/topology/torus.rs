//! Torus: peers on a grid whose edges wrap around, four neighbours each (fewer if a side is 2).
//! Diameter (rows + columns) / 2, spectral gap Θ(1/n).

use super::{Graph, Topology, TopologyEntry, TopologyError};
use crate::random::Seed;

pub(super) const ENTRY: TopologyEntry = TopologyEntry {
    name: "torus",
    help: "a grid that wraps around, four neighbours each; keys rows, columns (0: near square)",
    source: "Lian et al. 2017, arXiv 1705.09056",
    main_key: Some("rows"),
    new: |section| {
        Box::new(Torus {
            // 0: the two factors nearest to each other, which mix fastest.
            rows: section.integer("rows", Some(0), 0..=1_000_000) as usize,
            columns: section.integer("columns", Some(0), 0..=1_000_000) as usize,
        })
    },
};

#[derive(Debug)]
struct Torus {
    rows: usize,
    columns: usize,
}

impl Torus {
    fn sides(&self, peers: usize) -> Result<(usize, usize), String> {
        let (rows, columns) = match (self.rows, self.columns) {
            (0, 0) => {
                let root = peers.isqrt();
                let rows = (2..=root).rev().find(|rows| peers.is_multiple_of(*rows));
                let rows = rows.ok_or(
                    "it has no two factors of at least 2; expected for example 4, 6, 8, 9 peers",
                )?;
                (rows, peers / rows)
            }
            (0, columns) => (peers / columns, columns),
            (rows, 0) => (rows, peers / rows),
            sides => sides,
        };
        if rows < 2 || columns < 2 || rows.checked_mul(columns) != Some(peers) {
            return Err(format!(
                "{rows} rows of {columns} are not {peers}; expected rows × columns = {peers}, both at least 2"
            ));
        }
        Ok((rows, columns))
    }
}

impl Topology for Torus {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn graph(&self, peers: usize, _round: u64, _seed: &Seed) -> Result<Graph, TopologyError> {
        let (rows, columns) = self
            .sides(peers)
            .map_err(|reason| TopologyError::Impossible {
                kind: ENTRY.name,
                peers,
                reason,
            })?;
        let edges = (0..peers).flat_map(|peer| {
            let (row, column) = (peer / columns, peer % columns);
            [
                (peer, (row + 1) % rows * columns + column),
                (peer, row * columns + (column + 1) % columns),
            ]
        });
        Graph::new_undirected(peers, edges)
    }
}
