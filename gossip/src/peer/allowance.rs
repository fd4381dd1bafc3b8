//! How much a peer may say: a token bucket for each kind of message of which one honest message
//! could be answered, checked or passed on at another's cost.
//!
//! Updates and skips have none. There is one of each for a round. A second one is a duplicate or a
//! contradiction, and is answered and passed on to nobody.

use std::time::Duration;

use crate::envelope::Kind;
use crate::limits::SEND_QUEUE_MAX;
use crate::refusal::Refusal;

/// Messages of one kind that a peer may send at once, besides [`PER_PEER`] for each participant
/// (guess: a peer asks at most four times in a deadline, and greets once for each connection and
/// each address that is news to it).
const AT_ONCE: f32 = 64.0;

/// See [`AT_ONCE`].
const PER_PEER: f32 = 8.0;

/// Bodies that one peer may pull besides [`PULLS_PER_UPDATE`] for each update that was published:
/// those are the ones that it may lack (guess: a body is given up after three pulls, each of which
/// asks twice, and a keyframe after as many).
const PULLS: u64 = 64;

/// See [`PULLS`].
const PULLS_PER_UPDATE: u64 = 12;

/// Changes of a peer's addresses in a deadline that are passed on to its neighbours (guess: it
/// listens at a few, and others reach it at a few more). Fewer than [`PER_PEER`]: a peer that passes
/// on as much of everybody must not become one that greets too often.
const INTRODUCTIONS_MAX: f32 = 6.0;

/// Old headers of others that a peer may hand over at once: a line that was cut holds back what was
/// shown meanwhile (guess: four times a send queue, since a connection's buffers hold some too).
const LATE: f32 = 4.0 * SEND_QUEUE_MAX as f32;

/// A bucket fills up at least once in this time, also where deadlines are hours (guess: a person
/// that restarts a peer a few times does not wait longer).
const PERIOD_MAX: Duration = Duration::from_secs(60);

/// What a peer may still send.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance {
    /// Messages by kind.
    said: [Bucket; 4],
    pulls: u64,
    introduced: Bucket,
    moved: Bucket,
    repeated: Bucket,
    late: Bucket,
}

/// What a peer has used beyond what time has made up for.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    used: f32,
    /// In nanoseconds: there is one of these for each neighbour of each simulated peer.
    since: u64,
}

impl Bucket {
    /// Counts one more at time `now`; false when it is one too many. Time makes up for `most` of
    /// them in `period`, or in [`PERIOD_MAX`] if that is shorter.
    fn take(&mut self, most: f32, now: Duration, period: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let passed = now.saturating_sub(self.since) as f32 * 1e-9;
        let period = period.min(PERIOD_MAX).as_secs_f32().max(1e-3);
        self.since = now;
        self.used = (self.used - most * passed / period).max(0.0);
        let fits = self.used + 1.0 <= most;
        self.used += f32::from(u8::from(fits));
        fits
    }
}

impl Allowance {
    /// Counts a message at time `now` among `peers` participants; `period` is the charter's
    /// deadline.
    ///
    /// # Errors
    /// It is one too many.
    pub(super) fn spend(
        &mut self,
        kind: Kind,
        now: Duration,
        period: Duration,
        peers: usize,
    ) -> Result<(), Refusal> {
        let (place, what) = match kind {
            Kind::Hello => (0, "handshakes"),
            Kind::Want => (1, "requests for updates"),
            Kind::Proof => (2, "proofs"),
            Kind::Goodbye => (3, "goodbyes"),
            Kind::Update | Kind::Skip => return Ok(()),
        };
        let most = AT_ONCE + PER_PEER * peers as f32;
        match self.said[place].take(most, now, period) {
            true => Ok(()),
            false => Err(Refusal::TooMany {
                what: format!("{what} in a deadline"),
                limit: most as usize,
            }),
        }
    }

    /// Counts a change of a peer's addresses that would be passed on at time `now`; false when it is
    /// one too many. Time makes up for all of them once in `period`.
    pub(super) fn introduce(&mut self, now: Duration, period: Duration) -> bool {
        self.introduced.take(INTRODUCTIONS_MAX, now, period)
    }

    /// Counts a change at time `now` of where the peer says that it has reached this one; false when
    /// it is one too many.
    pub(super) fn moves(&mut self, now: Duration, period: Duration) -> bool {
        self.moved.take(INTRODUCTIONS_MAX, now, period)
    }

    /// Counts an old header of another peer's present life that this one hands over at time `now`;
    /// false when it is one too many.
    pub(super) fn show_late(&mut self, now: Duration, period: Duration) -> bool {
        self.late.take(LATE, now, period)
    }

    /// Counts a header of another peer's earlier life that this one hands over at time `now`; false
    /// when it is one too many. (A restarted peer is shown what it had signed by each neighbour once.)
    pub(super) fn repeat(&mut self, now: Duration, period: Duration, peers: usize) -> bool {
        let most = AT_ONCE + PER_PEER * peers as f32;
        self.repeated.take(most, now, period)
    }

    /// Counts a request for a body; false when it is one too many after `published` updates.
    pub(super) fn pull(&mut self, published: u64) -> bool {
        self.pulls += 1;
        self.pulls <= PULLS.saturating_add(PULLS_PER_UPDATE.saturating_mul(published))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_refused_and_time_makes_up_for_it() {
        let mut allowance = Allowance::default();
        let period = Duration::from_secs(10);
        let mut taken = |kind, now| {
            (0..10_000)
                .filter(|_| allowance.spend(kind, now, period, 2).is_ok())
                .count()
        };
        assert_eq!(taken(Kind::Want, Duration::ZERO), 80);
        assert_eq!(
            taken(Kind::Hello, Duration::ZERO),
            80,
            "each kind has its own"
        );
        assert_eq!(taken(Kind::Want, Duration::from_secs(5)), 40);
        assert_eq!(taken(Kind::Want, Duration::from_secs(100)), 80);
        assert_eq!(taken(Kind::Update, Duration::ZERO), 10_000);
    }

    #[test]
    fn bodies_may_be_pulled_as_often_as_there_are_updates() {
        let mut allowance = Allowance::default();
        let taken = (0..1_000).filter(|_| allowance.pull(2)).count();
        assert_eq!(taken, 64 + 2 * 12);
    }

    #[test]
    fn a_bucket_is_full_again_after_a_minute_however_long_a_deadline_is() {
        let mut allowance = Allowance::default();
        let hour = Duration::from_secs(3600);
        let mut taken = |now| {
            (0..1_000)
                .filter(|_| allowance.spend(Kind::Hello, now, hour, 2).is_ok())
                .count()
        };
        assert_eq!(taken(Duration::ZERO), 80);
        assert_eq!(taken(Duration::from_secs(60)), 80);
    }
}
