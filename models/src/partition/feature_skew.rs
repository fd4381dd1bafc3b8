//! Feature skew: rows are dealt IID, then peer i of n (from 1) adds Gaussian noise of standard
//! deviation σ·i / n to every feature, as if its instrument were that much worse. The unit is that
//! of normalised features.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Place, Rows, equal_sizes, shuffled};
use crate::data::Dataset;

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "feature-skew",
    help: "IID rows, but peer i of n adds noise of deviation sigma · i / n to its features: feature-skew:0.5",
    source: "Li, Diao, Chen and He, arXiv 2102.02079; sigma is a deviation here",
    main_key: Some("sigma"),
    // 0.1: the paper's.
    new: |section| {
        Arc::new(FeatureSkew {
            sigma: section.number("sigma", Some(0.1), 0.0..=1e3),
        })
    },
};

#[derive(Debug)]
struct FeatureSkew {
    sigma: f64,
}

impl Partitioner for FeatureSkew {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        shuffled(
            rows.labels.len(),
            &equal_sizes(rows.labels.len(), peers, 0)?,
            stream,
        )
    }

    fn changes_rows(&self) -> bool {
        true
    }

    fn transform(&self, place: &Place<'_>, data: &Dataset) -> Dataset {
        let deviation = self.sigma * (place.peer + 1) as f64 / place.peers as f64;
        let mut stream =
            Stream::derive("kith.v1 feature skew", place.seed, 0, place.peer as u64, 0);
        data.changed(|_, features| {
            features
                .iter_mut()
                .for_each(|value| *value += (deviation * stream.normal()) as f32);
        })
    }
}
