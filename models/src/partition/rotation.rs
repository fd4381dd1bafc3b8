//! Rotation, a feature skew of images: rows are dealt IID, then each of four groups of consecutive
//! peers sees its images turned by another quarter, as if its camera were mounted that way. The
//! first group sees them unchanged.
//!
//! Ghosh, Chung, Yin and Ramchandran, arXiv 2006.04088 (rotated MNIST), which tells clusters apart
//! by it.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Place, Rows, equal_sizes, shuffled};
use crate::data::Dataset;

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "rotation",
    help: "IID square images, but each group of consecutive peers sees them turned by another quarter: rotation:4",
    source: "Ghosh, Chung, Yin and Ramchandran, arXiv 2006.04088 (rotated MNIST)",
    main_key: Some("groups"),
    // 4: the paper's, every quarter.
    new: |section| {
        Arc::new(Rotation {
            groups: section.integer("groups", Some(4), 1..=4) as usize,
        })
    },
};

#[derive(Debug)]
struct Rotation {
    groups: usize,
}

impl Partitioner for Rotation {
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

    fn fits(&self, features: usize) -> Result<(), PartitionError> {
        let side = features.isqrt();
        let what = || {
            format!(
                "rotation turns square images, and rows of {features} values are none; expected another partition"
            )
        };
        if side * side == features {
            Ok(())
        } else {
            Err(PartitionError::Features(what()))
        }
    }

    fn transform(&self, place: &Place<'_>, data: &Dataset) -> Dataset {
        let quarters = place.peer * self.groups / place.peers;
        let side = data.features().isqrt();
        data.changed(|_, image| {
            for _ in 0..quarters {
                let before = image.to_vec();
                for (at, value) in image.iter_mut().enumerate() {
                    let (row, column) = (at / side, at % side);
                    *value = before[(side - 1 - column) * side + row]; // clockwise
                }
            }
        })
    }
}
