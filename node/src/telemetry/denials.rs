//! Refused connections, reported without letting strangers fill the log: every one is counted. Of
//! those with one address and one reason only the first of each [`REPORT_AGAIN`] is a line, which
//! says how many it stands for.

use std::collections::BTreeMap;
use std::time::Duration;

use kith_consensus::PeerId;

/// How long further denials of one address and reason are only counted.
const REPORT_AGAIN: Duration = Duration::from_secs(60);
/// Addresses and reasons that are told apart at a time; all others are reported as one.
const APART_MAX: usize = 32;

/// Address and reason; `None` stands for all that are not told apart.
type Key = Option<(String, String)>;

/// Denials counted and not reported yet.
#[derive(Debug, Default)]
pub(super) struct Denials {
    recent: BTreeMap<Key, Recent>,
}

#[derive(Debug)]
struct Recent {
    reported: Duration,
    unreported: u64,
    last: Denial,
}

/// A connection that was refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Denial {
    pub(super) peer: Option<PeerId>,
    pub(super) address: Option<String>,
    pub(super) why: String,
    /// How many this one stands for, itself included.
    pub(super) count: u64,
}

impl Denials {
    /// Notes a denial at `now` (since the start); returns the denial to report.
    pub(super) fn note(&mut self, now: Duration, denial: Denial) -> Option<Denial> {
        self.recent
            .retain(|_, recent| recent.unreported > 0 || now < recent.reported + REPORT_AGAIN);
        let key = Some((host(denial.address.as_deref()), denial.why.clone()));
        let key = if self.recent.contains_key(&key) || self.recent.len() < APART_MAX {
            key
        } else {
            None
        };
        let Some(recent) = self.recent.get_mut(&key) else {
            self.recent.insert(
                key,
                Recent {
                    reported: now,
                    unreported: 0,
                    last: denial.clone(),
                },
            );
            return Some(denial);
        };
        recent.unreported += denial.count;
        recent.last = denial;
        if now < recent.reported + REPORT_AGAIN {
            return None;
        }
        recent.reported = now;
        recent.take()
    }

    /// All denials counted and not reported.
    pub(super) fn rest(&mut self) -> Vec<Denial> {
        self.recent.values_mut().filter_map(Recent::take).collect()
    }
}

impl Recent {
    fn take(&mut self) -> Option<Denial> {
        let count = std::mem::take(&mut self.unreported);
        (count > 0).then(|| Denial {
            count,
            ..self.last.clone()
        })
    }
}

/// An address without its port, which differs with every connection.
fn host(address: Option<&str>) -> String {
    let parts = address
        .unwrap_or_default()
        .split('/')
        .filter(|part| !part.is_empty());
    parts.take(2).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(port: u16) -> Denial {
        let address = Some(format!("/ip4/192.0.2.7/tcp/{port}"));
        Denial {
            peer: Some(PeerId([port as u8; 32])),
            address,
            why: "not a member".to_owned(),
            count: 1,
        }
    }

    #[test]
    fn a_flood_is_counted_and_reported_in_a_few_lines() {
        let mut denials = Denials::default();
        let mut reported = Vec::new();
        for index in 0..10_000u16 {
            reported
                .extend(denials.note(Duration::from_millis(u64::from(index) * 10), denial(index)));
        }
        reported.extend(denials.rest());
        assert_eq!(
            reported.iter().map(|denial| denial.count).sum::<u64>(),
            10_000,
            "none is lost"
        );
        assert_eq!(
            reported.len(),
            3,
            "the first, one after a minute, the rest: {reported:?}"
        );
        assert!(denials.rest().is_empty());
    }

    #[test]
    fn strangers_of_many_addresses_do_not_fill_memory() {
        let mut denials = Denials::default();
        let mut reported = 0;
        for index in 0..10_000u32 {
            let address = Some(format!(
                "/ip4/198.51.{}.{}/tcp/1",
                index / 256 % 256,
                index % 256
            ));
            reported += u64::from(
                denials
                    .note(
                        Duration::from_secs(1),
                        Denial {
                            address,
                            ..denial(1)
                        },
                    )
                    .is_some(),
            );
        }
        assert!(reported <= APART_MAX as u64 + 1, "{reported}");
        assert!(denials.recent.len() <= APART_MAX + 1);
        // Later there is room for others again.
        assert!(denials.note(Duration::from_secs(120), denial(2)).is_some());
    }
}
