//! The view as JSON: every number that the page draws or lists.

use std::collections::BTreeMap;

use kith_consensus::PeerId;
use kith_gossip::event::Closed;
use serde::Serialize;
use serde_json::Value;

use super::curve::Curve;
use super::recording::Role;
use super::view::{Listed, Refusals, State, Told, View};
use crate::telemetry::{Budget, Bytes, What};

/// A page's content at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) rule: String,
    pub(super) topology: String,
    pub(super) codec: String,
    pub(super) attack: Option<String>,
    pub(super) rounds: u64,
    /// Rounds that every honest peer whose process lives has completed.
    pub(super) completed: u64,
    pub(super) seconds: f64,
    pub(super) over: bool,
    /// The one peer whose lines these are, if it is one peer's log.
    pub(super) seen_by: Option<usize>,
    pub(super) remark: Option<String>,
    /// Peers that are cut off from all others.
    pub(super) apart: Vec<usize>,
    pub(super) peers: Vec<PeerShown>,
    pub(super) links: Vec<LinkShown>,
    /// Means over the honest peers.
    pub(super) mean: Means,
    pub(super) baselines: Option<BaselinesShown>,
    pub(super) bytes: Bytes,
    pub(super) dropped: Vec<DroppedShown>,
    pub(super) refusals: Vec<RefusalShown>,
    pub(super) timeline: Vec<RoundShown>,
    /// Number of the newest event.
    pub(super) listed: u64,
    pub(super) events: Vec<EventShown>,
}

/// A peer: its newest numbers and its curves.
#[derive(Debug, Serialize)]
pub(super) struct PeerShown {
    pub(super) name: String,
    pub(super) peer: String,
    pub(super) role: Role,
    pub(super) state: State,
    pub(super) place: (f64, f64),
    pub(super) completed: u64,
    pub(super) training_loss: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) accuracy: Option<f64>,
    pub(super) spread: Option<f64>,
    pub(super) privacy: Option<Budget>,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    /// Mean share of its contributions that honest peers dropped.
    pub(super) dropped: Option<f64>,
    /// The same of the newest round of each.
    pub(super) dropped_last: Option<f64>,
    /// Peers that have suspected it.
    pub(super) suspected_by: usize,
    pub(super) curves: Curves,
}

/// Values over rounds.
#[derive(Debug, Serialize)]
pub(super) struct Curves {
    training_loss: Curve,
    loss: Curve,
    accuracy: Curve,
}

/// Means over the honest peers: newest, and over rounds.
#[derive(Debug, Serialize)]
pub(super) struct Means {
    pub(super) training_loss: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) accuracy: Option<f64>,
    curves: MeanCurves,
}

#[derive(Debug, Serialize)]
struct MeanCurves {
    training_loss: Vec<(u64, f64)>,
    loss: Vec<(u64, f64)>,
    accuracy: Vec<(u64, f64)>,
}

/// A pair that exchanges updates.
#[derive(Debug, Serialize)]
pub(super) struct LinkShown {
    ends: (usize, usize),
    /// The larger of the two shares that one end's model has in the other's.
    influence: Option<f64>,
    missing: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct BaselinesShown {
    pub(super) local_only: f64,
    pub(super) pooled: f64,
}

/// What a receiver's rule left out of a sender's contributions, on average.
#[derive(Debug, Serialize)]
pub(super) struct DroppedShown {
    pub(super) to: usize,
    pub(super) from: usize,
    pub(super) share: f64,
    pub(super) count: u64,
}

/// What a receiver refused of a sender.
#[derive(Debug, Serialize)]
pub(super) struct RefusalShown {
    pub(super) to: usize,
    pub(super) from: usize,
    pub(super) reason: &'static str,
    pub(super) words: String,
    pub(super) count: u64,
}

/// A round of a peer on the timeline.
#[derive(Debug, Serialize)]
pub(super) struct RoundShown {
    peer: usize,
    round: u64,
    opened: f64,
    closed: Option<f64>,
    why: Option<Closed>,
    missing: Vec<usize>,
}

/// A line of the list of events.
#[derive(Debug, Serialize)]
pub(super) struct EventShown {
    pub(super) number: u64,
    pub(super) seconds: f64,
    pub(super) peer: usize,
    pub(super) event: String,
    /// The event's fields, with peers by name.
    pub(super) text: String,
}

impl View {
    /// Everything at this moment, with the listed events after number `since`.
    pub(super) fn snapshot(&self, since: u64) -> Snapshot {
        let header = &self.header;
        let mut bytes = Bytes::default();
        self.peers.iter().for_each(|seen| bytes += seen.known.bytes);
        Snapshot {
            name: header.name.clone(),
            rule: header.rule.clone(),
            topology: header.topology.clone(),
            codec: header.codec.clone(),
            attack: header.attack.clone(),
            rounds: header.rounds,
            completed: self.completed(),
            seconds: self.seconds,
            over: self.over,
            seen_by: header.seen_by,
            remark: self.remark.clone(),
            apart: self.apart.clone(),
            peers: (0..self.peers.len()).map(|peer| self.peer(peer)).collect(),
            links: header.links.iter().map(|link| self.link(*link)).collect(),
            mean: self.means(),
            baselines: self
                .baselines
                .map(|(local_only, pooled)| BaselinesShown { local_only, pooled }),
            bytes,
            dropped: self.dropped(),
            refusals: self.refusals(),
            timeline: self.timeline(),
            listed: self.listed,
            events: self
                .events
                .iter()
                .filter(|event| event.number > since)
                .map(|event| self.event_shown(event))
                .collect(),
        }
    }

    /// Peers that were not started as liars, as far as it is known.
    fn honest(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.peers.len()).filter(|peer| self.header.peers[*peer].role != Role::Adversary)
    }

    fn completed(&self) -> u64 {
        if let Some(own) = self.header.seen_by {
            return self.peers[own].known.completed;
        }
        let living = self
            .honest()
            .filter(|peer| self.peers[*peer].state != State::Gone);
        living
            .map(|peer| self.peers[peer].known.completed)
            .min()
            .unwrap_or(0)
    }

    fn peer(&self, peer: usize) -> PeerShown {
        let (member, seen) = (&self.header.peers[peer], &self.peers[peer]);
        let known = &seen.known;
        let mut dropped = crate::telemetry::Dropped::default();
        self.honest()
            .filter_map(|receiver| self.peers[receiver].known.dropped.get(&member.peer))
            .for_each(|shares| dropped += *shares);
        PeerShown {
            name: member.name.clone(),
            peer: member.peer.to_string(),
            role: self.role(peer),
            state: seen.state,
            place: member.place,
            completed: known.completed,
            training_loss: known.training_loss,
            loss: known.loss,
            accuracy: known.accuracy,
            spread: known.spread,
            privacy: known.privacy,
            accepted: known.accepted,
            refused: known.refused.values().sum::<u64>() + known.denied,
            dropped: dropped.mean(),
            dropped_last: mean(
                self.honest()
                    .filter_map(|receiver| self.peers[receiver].left_out.get(&peer).copied()),
            ),
            suspected_by: self.suspected_by(peer),
            curves: Curves {
                training_loss: seen.training_loss.clone(),
                loss: seen.loss.clone(),
                accuracy: seen.accuracy.clone(),
            },
        }
    }

    fn link(&self, (a, b): (usize, usize)) -> LinkShown {
        let of = |peer: usize, other: usize| self.peers[peer].influence.get(&other).copied();
        LinkShown {
            ends: (a, b),
            influence: of(a, b).into_iter().chain(of(b, a)).reduce(f64::max),
            missing: self.is_missing((a, b)),
        }
    }

    fn means(&self) -> Means {
        let newest = |value: fn(&crate::telemetry::Known) -> Option<f64>| {
            mean(
                self.honest()
                    .filter_map(|peer| value(&self.peers[peer].known)),
            )
        };
        let curve = |pick: fn(&super::view::Seen) -> &Curve| {
            mean_of_curves(self.honest().map(|peer| pick(&self.peers[peer])))
        };
        Means {
            training_loss: newest(|known| known.training_loss),
            loss: newest(|known| known.loss),
            accuracy: newest(|known| known.accuracy),
            curves: MeanCurves {
                training_loss: curve(|seen| &seen.training_loss),
                loss: curve(|seen| &seen.loss),
                accuracy: curve(|seen| &seen.accuracy),
            },
        }
    }

    fn dropped(&self) -> Vec<DroppedShown> {
        let pairs = self.peers.iter().enumerate().flat_map(|(to, seen)| {
            let shares = seen.known.dropped.iter();
            shares.filter_map(move |(sender, dropped)| {
                Some(DroppedShown {
                    to,
                    from: self.place(sender)?,
                    share: dropped.mean()?,
                    count: dropped.count,
                })
            })
        });
        pairs.collect()
    }

    fn refusals(&self) -> Vec<RefusalShown> {
        let shown =
            |to: usize, (from, reason): (usize, &'static str), refusals: &Refusals| RefusalShown {
                to,
                from,
                reason,
                words: refusals.words.clone(),
                count: refusals.count,
            };
        let pairs = self.peers.iter().enumerate().flat_map(|(to, seen)| {
            let refusals = seen.refusals.iter();
            refusals.map(move |(pair, refusals)| shown(to, *pair, refusals))
        });
        pairs.collect()
    }

    fn timeline(&self) -> Vec<RoundShown> {
        let rounds = self.peers.iter().enumerate().flat_map(|(peer, seen)| {
            seen.rounds.iter().map(move |round| {
                let closed = round.closed.as_ref();
                RoundShown {
                    peer,
                    round: round.round,
                    opened: round.opened,
                    closed: closed.map(|(at, _, _)| *at),
                    why: closed.map(|(_, why, _)| *why),
                    missing: closed.map_or_else(Vec::new, |(_, _, missing)| missing.clone()),
                }
            })
        });
        rounds.collect()
    }

    fn event_shown(&self, listed: &Listed) -> EventShown {
        let (event, text) = match &listed.what {
            Told::Process(what) => ((*what).to_owned(), String::new()),
            Told::Drift(loss) => (
                "drift-suspected".to_owned(),
                format!("its held-out loss, {loss:.4}, has left the others'"),
            ),
            Told::Line(what) => (what.name(), self.fields(what)),
        };
        EventShown {
            number: listed.number,
            seconds: listed.seconds,
            peer: listed.peer,
            event,
            text,
        }
    }

    /// The fields of an event for people.
    fn fields(&self, what: &What) -> String {
        let Ok(Value::Object(fields)) = serde_json::to_value(what) else {
            return String::new();
        };
        let told = fields.iter().filter(|(key, value)| {
            // Hashes and empty lists say nothing to people.
            !["event", "state", "states", "history", "federation"].contains(&key.as_str())
                && !value.is_null()
                && value.as_array().is_none_or(|values| !values.is_empty())
        });
        let told: Vec<String> = told
            .map(|(key, value)| format!("{key} {}", self.words(value)))
            .collect();
        told.join(" · ")
    }

    fn words(&self, value: &Value) -> String {
        match value {
            Value::String(text) => {
                let peer = serde_json::from_value::<PeerId>(value.clone()).ok();
                let place = peer.and_then(|peer| self.place(&peer));
                place.map_or_else(
                    || text.clone(),
                    |place| self.header.peers[place].name.clone(),
                )
            }
            Value::Array(values) => {
                let words: Vec<String> = values.iter().map(|value| self.words(value)).collect();
                words.join(", ")
            }
            Value::Object(fields) => {
                let words: Vec<String> = fields.values().map(|value| self.words(value)).collect();
                words.join(" ")
            }
            Value::Number(number) if number.is_f64() => number
                .as_f64()
                .map_or_else(String::new, |number| format!("{number:.4}")),
            other => other.to_string(),
        }
    }
}

/// The mean; `None` if there are no values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// The mean at every round that all curves have which have reached it.
fn mean_of_curves<'a>(curves: impl Iterator<Item = &'a Curve>) -> Vec<(u64, f64)> {
    let mut sums: BTreeMap<u64, (f64, u64)> = BTreeMap::new();
    for (round, value) in curves.flat_map(Curve::points) {
        let (sum, count) = sums.entry(*round).or_default();
        (*sum, *count) = (*sum + value, *count + 1);
    }
    sums.into_iter()
        .map(|(round, (sum, count))| (round, sum / count as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use kith_gossip::{Event, Refusal};

    use super::super::recording::tests::{entry, header};
    use super::*;

    fn dropped(peer: u8, share: f64) -> kith_gossip::event::DroppedShare {
        kith_gossip::event::DroppedShare {
            peer: PeerId([peer; 32]),
            share,
            influence: (1.0 - share) / 2.0,
        }
    }

    fn view() -> View {
        let mut view = View::new(header());
        for (number, accuracy) in [(1, 0.5), (2, 0.7), (3, 0.1)] {
            let evaluated = Event::Evaluated {
                round: 1,
                loss: 1.0,
                accuracy,
                samples: 10,
            };
            view.add(&entry(1.0, number, evaluated));
        }
        view.add(&entry(
            2.0,
            1,
            Event::Aggregated {
                round: 0,
                state: kith_consensus::Digest::of(b"model").into(),
                models: 3,
                dropped: vec![dropped(2, 0.0), dropped(3, 1.0)],
                spread: 0.1,
            },
        ));
        view.add(&entry(
            2.0,
            2,
            Event::Refused {
                peer: PeerId([3; 32]),
                kind: None,
                round: None,
                reason: Refusal::Signature,
            },
        ));
        view
    }

    #[test]
    fn means_are_over_honest_peers_and_pairs_name_receiver_and_sender() {
        let shown = view().snapshot(0);
        // Of the peers with 0.5, 0.7 and 0.1 the last one lies.
        assert_eq!(shown.mean.accuracy, Some(0.6));
        assert_eq!(shown.mean.curves.accuracy, [(1, 0.6)]);
        let liar = &shown.peers[2];
        assert_eq!((liar.role, liar.dropped), (Role::Adversary, Some(1.0)));
        let pairs: Vec<_> = shown
            .dropped
            .iter()
            .map(|pair| (pair.to, pair.from, pair.share))
            .collect();
        assert_eq!(pairs, [(0, 1, 0.0), (0, 2, 1.0)]);
        let refusal = &shown.refusals[0];
        assert_eq!(
            (refusal.to, refusal.from, refusal.reason),
            (1, 2, "signature")
        );
        assert_eq!(refusal.words, "the signature does not verify");
        let influences: Vec<_> = shown.links.iter().map(|link| link.influence).collect();
        assert_eq!(influences, [Some(0.5), Some(0.0), None]);
    }

    #[test]
    fn a_reader_that_resumes_gets_only_the_events_that_it_has_not_seen() {
        let view = view();
        let all = view.snapshot(0);
        assert_eq!(all.listed, 4, "three evaluations and a refusal");
        let last = all.events.last().unwrap();
        assert_eq!((last.event.as_str(), last.peer), ("refused", 1));
        assert!(last.text.contains("peer peer-3"), "{}", last.text);
        assert_eq!(view.snapshot(3).events.len(), 1);
        assert!(view.snapshot(4).events.is_empty());
    }
}
