//! Quantity skew: peers differ in how many rows they have, and in nothing else. Sizes follow a
//! power law, (i + 1)^−a for peer i, a log-normal draw, exp(σ·z), or a Dirichlet draw, Dir(α, …,
//! α); whole by largest remainder. Every peer gets one row beforehand.

use std::sync::Arc;

use kith_consensus::{Section, Stream};

use super::{
    PartitionEntry, PartitionError, Partitioner, Rows, cut, draw_proportions, largest_remainder,
};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "quantity",
    help: "unequal sizes, IID rows: quantity:1.2 (power law), quantity:log_normal=1 or quantity:dirichlet=0.5",
    source: "Li, Diao, Chen and He, arXiv 2102.02079 (Dirichlet); the other two laws are ours",
    main_key: Some("power"),
    new: |section| {
        Arc::new(Quantity {
            law: Law::read(section),
        })
    },
};

#[derive(Debug)]
struct Quantity {
    law: Law,
}

#[derive(Debug)]
enum Law {
    Power(f64),
    LogNormal(f64),
    Dirichlet(f64),
}

impl Law {
    fn read(section: &mut Section<'_>) -> Law {
        let given: Vec<&str> = ["power", "log_normal", "dirichlet"]
            .into_iter()
            .filter(|key| section.has(key))
            .collect();
        let law = match given.first() {
            Some(&"log_normal") => Law::LogNormal(section.number("log_normal", None, 0.0..=10.0)),
            Some(&"dirichlet") => Law::Dirichlet(section.number("dirichlet", None, 1e-4..=1e6)),
            // 1.0, Zipf's law: a guess.
            _ => Law::Power(section.number("power", Some(1.0), 0.0..=10.0)),
        };
        if given.len() > 1 {
            section.note(
                given[1],
                format!("expected one law of sizes, found {}", given.join(" and ")),
            );
        }
        law
    }

    fn weights(&self, peers: usize, stream: &mut Stream) -> Vec<f64> {
        match self {
            Law::Power(exponent) => (0..peers)
                .map(|peer| ((peer + 1) as f64).powf(-exponent))
                .collect(),
            Law::LogNormal(deviation) => (0..peers)
                .map(|_| (deviation * stream.normal()).exp())
                .collect(),
            Law::Dirichlet(alpha) => draw_proportions(*alpha, peers, stream),
        }
    }
}

impl Partitioner for Quantity {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let weights = self.law.weights(peers, stream);
        let sizes: Vec<usize> = largest_remainder(rows.labels.len() - peers, &weights)
            .into_iter()
            .map(|size| size + 1)
            .collect();
        let mut order: Vec<usize> = (0..rows.labels.len()).collect();
        stream.shuffle(&mut order);
        Ok(cut(&order, &sizes))
    }
}
