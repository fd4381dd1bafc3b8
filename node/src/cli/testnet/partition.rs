//! Which peers of a testnet can reach each other while it is partitioned.

use std::collections::BTreeSet;

/// A testnet in two parts; without a partition one of them is empty.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Places of the peers in one part.
    side: BTreeSet<usize>,
}

impl Partition {
    /// Cuts off the peers at these places of `peers`.
    ///
    /// # Errors
    /// When nobody would be left on one side.
    pub(super) fn new(side: BTreeSet<usize>, peers: usize) -> Result<Partition, String> {
        if side.is_empty() || side.len() >= peers {
            return Err(format!(
                "{} of {peers} peers are no part; name at least one peer and at most {}",
                side.len(),
                peers.saturating_sub(1)
            ));
        }
        Ok(Partition { side })
    }

    /// Whether every peer may reach every other.
    pub(super) fn is_whole(&self) -> bool {
        self.side.is_empty()
    }

    /// Whether two peers are in different parts.
    pub(super) fn separates(&self, one: usize, other: usize) -> bool {
        self.side.contains(&one) != self.side.contains(&other)
    }

    /// Places of the peers that were named.
    pub(super) fn side(&self) -> Vec<usize> {
        self.side.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_those_named_and_the_rest() {
        let parted = Partition::new(BTreeSet::from([0, 1]), 4).unwrap();
        let separated: Vec<(usize, usize)> = (0..4)
            .flat_map(|one| (one + 1..4).map(move |other| (one, other)))
            .filter(|(one, other)| parted.separates(*one, *other))
            .collect();
        assert_eq!(separated, [(0, 2), (0, 3), (1, 2), (1, 3)]);
        assert!(!parted.is_whole() && Partition::default().is_whole());
        assert!(!Partition::default().separates(0, 1));
        for nobody_left in [BTreeSet::new(), (0..4).collect()] {
            assert!(Partition::new(nobody_left, 4).is_err());
        }
    }
}
