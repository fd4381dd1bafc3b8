//! Orders to a peer of a testnet from the process that started it: JSON lines on stdin.
//!
//! The end of stdin is the end of that process, and the peer leaves. Other peers read stdin for
//! nothing but its end, so no new way leads into them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use kith_consensus::PeerId;
use kith_gossip::Honest;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use crate::testnet::TestnetHandle;

/// Most bytes of a line: the ids of 1000 peers. A longer one is skipped.
const LINE_MAX: u64 = 64 << 10;
/// Orders that wait for the peer; those who give more wait.
const WAITING_MAX: usize = 16;

/// What a testnet's supervisor may ask of a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub(in crate::cli) enum Order {
    /// Behave otherwise from the next update on.
    Behave {
        /// How to lie, for example `sign-flip:10`; `None`: be honest.
        attack: Option<String>,
    },
    /// Neither dial nor answer these peers, and do both for all others.
    KeepApart {
        /// Their ids.
        peers: BTreeSet<PeerId>,
    },
}

impl Order {
    /// One line of JSON with its end.
    pub(in crate::cli) fn to_line(&self) -> String {
        format!("{}\n", serde_json::json!(self))
    }
}

/// Reads stdin to its end, then asks to leave. The peer of a testnet carries out the orders in it.
pub(super) fn follow(testnet: Option<TestnetHandle>, leave: Arc<Notify>) {
    let (sender, mut orders) = mpsc::channel(WAITING_MAX);
    // A thread of its own, since reading stdin cannot be cancelled.
    std::thread::spawn(move || {
        read(std::io::stdin().lock(), &sender);
        leave.notify_one();
    });
    tokio::spawn(async move {
        while let Some(line) = orders.recv().await {
            let carried_out = match &testnet {
                Some(testnet) => carry_out(&line, testnet).await,
                None => Err("only the peers of a testnet take orders".to_owned()),
            };
            if let Err(why) = carried_out {
                tracing::warn!("an order on stdin was not carried out: {why}");
            }
        }
    });
}

/// Hands on each line that is short enough, until the input ends or cannot be read.
fn read(input: impl Read, lines: &mpsc::Sender<Vec<u8>>) {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    let mut skipping = false;
    while let Ok(1..) = (&mut input).take(LINE_MAX).read_until(b'\n', &mut line) {
        let ends = line.last() == Some(&b'\n');
        if ends && !skipping && lines.blocking_send(line.clone()).is_err() {
            return;
        }
        skipping = !ends;
        line.clear();
    }
}

async fn carry_out(line: &[u8], testnet: &TestnetHandle) -> Result<(), String> {
    match serde_json::from_slice(line).map_err(|error| error.to_string())? {
        Order::Behave { attack: None } => testnet.behave(Box::new(Honest)).await,
        Order::Behave { attack: Some(text) } => {
            let conduct = super::attack(&text, testnet.charter())?;
            testnet.behave(conduct).await;
        }
        Order::KeepApart { peers } => testnet.keep_apart(peers).await,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Vec<u8>> {
        let (sender, mut lines) = mpsc::channel(100);
        read(input, &sender);
        drop(sender);
        std::iter::from_fn(|| lines.blocking_recv()).collect()
    }

    #[test]
    fn lines_that_are_too_long_or_have_no_end_are_skipped() {
        let long = vec![b'x'; 3 * LINE_MAX as usize];
        let input = [b"one\n", &long[..], b"\n\ntwo\nthree"].concat();
        assert_eq!(lines(&input), [&b"one\n"[..], b"\n", b"two\n"]);
    }

    #[test]
    fn an_order_is_one_line_that_reads_back() {
        let peers = BTreeSet::from([PeerId([1; 32]), PeerId([2; 32])]);
        let attack = Some("sign-flip:10".to_owned());
        for order in [
            Order::KeepApart { peers },
            Order::Behave { attack },
            Order::Behave { attack: None },
        ] {
            let line = order.to_line();
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
        }
    }
}
