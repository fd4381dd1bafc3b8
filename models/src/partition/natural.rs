//! The sites the rows really come from: one peer per hospital, writer or device.

use std::sync::Arc;

use kith_consensus::Stream;

use super::{PartitionEntry, PartitionError, Partitioner, Rows};

pub(super) const ENTRY: PartitionEntry = PartitionEntry {
    name: "natural",
    help: "one peer per real site of the data set (heart: four hospitals)",
    source: "Caldas et al., LEAF, arXiv 1812.01097",
    main_key: None,
    new: |_| Arc::new(Natural),
};

#[derive(Debug)]
struct Natural;

impl Partitioner for Natural {
    fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        _: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        let Some(sites) = rows.sites else {
            return Err(PartitionError::Sites(
                "the data set does not know its rows' sites; \"natural\" needs them".to_owned(),
            ));
        };
        if sites.len() != peers {
            let names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
            let what = format!(
                "\"natural\" has one peer per site: expected {} ({}), found {peers}",
                sites.len(),
                names.join(", ")
            );
            return Err(PartitionError::Sites(what));
        }
        Ok(sites.iter().map(|site| site.rows.clone()).collect())
    }
}
