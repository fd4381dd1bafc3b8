//! Which peers this peer cannot reach, and why: one line for each address and cause, however often
//! it tries.

use std::collections::BTreeMap;
use std::time::Duration;

use kith_consensus::PeerId;
use kith_gossip::net::Obstacle;
use serde::{Deserialize, Serialize};

/// How long an obstacle must last before it is reported: peers that start together miss each other
/// for a moment (guess).
const REPORT_AFTER: Duration = Duration::from_secs(1);
/// Most addresses that are remembered; further ones are not reported.
const ADDRESSES_MAX: usize = 256;

/// What is dialled: a member, an address, or both.
type Target = (Option<PeerId>, Option<String>);

/// Current obstacles between this peer and others.
#[derive(Debug, Default)]
pub(super) struct Reach {
    troubles: BTreeMap<Target, Trouble>,
}

#[derive(Clone, Debug)]
struct Trouble {
    obstacle: Obstacle,
    since: Duration,
    time: String,
    reported: bool,
}

/// A peer that cannot be reached, as status shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unreached {
    /// Its name in the charter, or the end of its id; empty if only an address is known.
    pub name: String,
    /// Address at which it was dialled.
    pub address: Option<String>,
    /// Why it does not answer, for people.
    pub why: String,
    /// Since when, in UTC.
    pub since: String,
}

impl Reach {
    /// Notes a dial that failed at `now`, which is `time` of day; returns whether it is to be
    /// reported now.
    pub(super) fn failed(
        &mut self,
        target: Target,
        obstacle: Obstacle,
        now: Duration,
        time: impl FnOnce() -> String,
    ) -> bool {
        if let Some(trouble) = self
            .troubles
            .get_mut(&target)
            .filter(|trouble| trouble.obstacle == obstacle)
        {
            let report = !trouble.reported && now >= trouble.since + REPORT_AFTER;
            trouble.reported |= report;
            return report;
        }
        if self.troubles.len() < ADDRESSES_MAX || self.troubles.contains_key(&target) {
            self.troubles.insert(
                target,
                Trouble {
                    obstacle,
                    since: now,
                    time: time(),
                    reported: false,
                },
            );
        }
        false
    }

    /// A peer is connected: the obstacle is gone.
    pub(super) fn reached(&mut self, peer: &PeerId, addresses: &[String]) {
        let is_there = |(of, at): &Target| {
            of.as_ref() == Some(peer)
                || at
                    .as_ref()
                    .is_some_and(|at| addresses.iter().any(|address| at.starts_with(address)))
        };
        self.troubles.retain(|target, _| !is_there(target));
    }

    /// Everything that has lasted long enough to be reported.
    pub(super) fn unreached(&self, name: impl Fn(&PeerId) -> String) -> Vec<Unreached> {
        let reported = self.troubles.iter().filter(|(_, trouble)| trouble.reported);
        reported
            .map(|((peer, address), trouble)| Unreached {
                name: peer.as_ref().map(&name).unwrap_or_default(),
                address: address.clone(),
                why: trouble.obstacle.to_string(),
                since: trouble.time.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_reported_once_when_it_lasts_and_gone_when_the_peer_is_there() {
        let (bob, at) = (PeerId([2; 32]), "/ip4/10.0.0.2/tcp/1".to_owned());
        let mut reach = Reach::default();
        let fail = |reach: &mut Reach, obstacle: Obstacle, millis: u64| {
            let target = (Some(bob), Some(at.clone()));
            reach.failed(target, obstacle, Duration::from_millis(millis), || {
                "noon".to_owned()
            })
        };
        let reported: Vec<bool> = (0..20)
            .map(|tenth| fail(&mut reach, Obstacle::Refused, tenth * 100))
            .collect();
        assert_eq!(
            reported.iter().filter(|reported| **reported).count(),
            1,
            "{reported:?}"
        );
        assert!(!reported[9] && reported[10]);
        assert!(
            !fail(&mut reach, Obstacle::Silence, 5000) && fail(&mut reach, Obstacle::Silence, 6000),
            "another cause is news"
        );
        let shown = reach.unreached(|_| "bob".to_owned());
        assert_eq!((shown.len(), &shown[0].name[..]), (1, "bob"));
        assert!(shown[0].why.contains("firewall"), "{shown:?}");
        reach.reached(&bob, &[]);
        assert!(reach.unreached(|_| String::new()).is_empty());
    }
}
