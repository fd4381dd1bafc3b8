//! What the service manager is told (systemd, or another that sets `NOTIFY_SOCKET`): that the peer
//! has started, what it waits for, and that it stops.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::broadcast::error::RecvError;

use super::super::status::named;
use crate::telemetry::{Status, Telemetry};

/// The line of status is brought up to date this often: it is for people, and rounds may be short
/// (guess).
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Reports to the service manager until the process ends; returns at once if there is none.
///
/// The peer counts as started when it listens. It must not be when the first round begins: members
/// start at different times, and a service manager ends a service that takes long to start.
pub(super) async fn report(telemetry: Arc<Telemetry>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() || !listens(&telemetry).await {
        return;
    }
    let mut told = line(&telemetry.status());
    if !tell(&[NotifyState::Ready, NotifyState::Status(&told)]) {
        return;
    }
    let mut ticks = tokio::time::interval(STATUS_EVERY);
    loop {
        ticks.tick().await;
        let now = line(&telemetry.status());
        if now != told && !tell(&[NotifyState::Status(&now)]) {
            return;
        }
        told = now;
    }
}

/// Tells the service manager, if there is one, that the peer stops.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Waits until the peer listens; `false` if it ended before.
async fn listens(telemetry: &Telemetry) -> bool {
    let mut lines = telemetry.subscribe();
    while telemetry.known().listening.is_empty() {
        // Lines missed by lagging are in what is known.
        if let Err(RecvError::Closed) = lines.recv().await {
            return false;
        }
    }
    true
}

/// A manager that cannot be told is no reason to stop.
fn tell(state: &[NotifyState<'_>]) -> bool {
    sd_notify::notify(state)
        .inspect_err(|error| tracing::warn!("the service manager cannot be told: {error}"))
        .is_ok()
}

/// What the peer does and waits for, in one line for people.
fn line(status: &Status) -> String {
    let (round, rounds) = (status.round, status.rounds);
    let waits = match status.missing.is_empty() {
        true => String::new(),
        false => format!(", waiting for {}", named(status, &status.missing)),
    };
    match (status.finished, status.ready) {
        (true, _) => format!("finished {rounds} rounds"),
        (false, true) => format!("round {round} of {rounds}{waits}"),
        (false, false) => format!("before round {round} of {rounds}{waits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_where_the_peer_is_and_whom_it_waits_for() {
        let mut status = Status {
            rounds: 9,
            missing: vec!["12D3".to_owned()],
            names: [("12D3".to_owned(), "bob".to_owned())].into(),
            ..Status::default()
        };
        assert_eq!(line(&status), "before round 0 of 9, waiting for bob");
        (status.ready, status.round) = (true, 4);
        assert_eq!(line(&status), "round 4 of 9, waiting for bob");
        status.missing.clear();
        assert_eq!(line(&status), "round 4 of 9");
        status.finished = true;
        assert_eq!(line(&status), "finished 9 rounds");
    }
}
