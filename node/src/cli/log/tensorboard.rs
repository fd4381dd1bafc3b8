//! A peer's event log as a file that TensorBoard reads: `kith log --tensorboard DIR`.
//!
//! Each value is a scalar at the round of its event, at the time of day of its line, under the name
//! of its metric. TensorBoard compares peers if each has a folder of its own under one that it is
//! given.
//!
//! The format is TensorFlow's: records with checksums (`tensorflow/core/lib/io/record_writer.h`),
//! each a protocol buffer `Event` (`tensorflow/core/util/event.proto`). It is written by hand: of
//! it only two messages with five fields are needed.

use std::collections::BTreeMap;

use kith_gossip::Event;

use crate::cli::protobuf::{bytes_field, number_field};
use crate::telemetry::{Line, What, unix_seconds};

/// The first event of a file names the version of the format.
const VERSION: &str = "brain.Event:2";

/// The name of the file that holds these lines. The time in it is that of the first line, so that
/// a later export of the same log takes the place of an earlier one.
pub(super) fn file_name(lines: &[Line]) -> String {
    let first = lines.iter().find_map(|line| unix_seconds(&line.time));
    format!(
        "events.out.tfevents.{:.0}.kith",
        first.unwrap_or(0.0).floor()
    )
}

/// The file's bytes. `names` are those of the charter's members.
pub(super) fn file(lines: &[Line], names: &BTreeMap<String, String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let began = lines.first().map_or(0.0, wall_time);
    record(&mut bytes, &event(began, 0, (3, VERSION.as_bytes())));
    let mut opened = None;
    for line in lines {
        let What::Peer(happened) = &line.what else {
            continue;
        };
        if let Event::RoundOpened { round, .. } = happened {
            opened = Some((*round, line.at_seconds));
        }
        let since = |round: u64| {
            let (_, at_seconds) = opened.filter(|(opened, _)| *opened == round)?;
            Some(line.at_seconds - at_seconds).filter(|seconds| *seconds >= 0.0)
        };
        for (tag, round, value) in scalars(happened, names, since) {
            let summary = summary(&tag, value);
            record(&mut bytes, &event(wall_time(line), round, (5, &summary)));
        }
    }
    bytes
}

fn wall_time(line: &Line) -> f64 {
    unix_seconds(&line.time).unwrap_or(line.at_seconds)
}

/// Tag, round and value of each number that an event has. `since` tells how long a round has been
/// open.
fn scalars(
    event: &Event,
    names: &BTreeMap<String, String>,
    since: impl Fn(u64) -> Option<f64>,
) -> Vec<(String, u64, f64)> {
    let (round, numbers) = numbers(event, since);
    let numbers = numbers.into_iter();
    let mut found: Vec<(String, u64, f64)> = numbers
        .filter_map(|(metric, value)| Some((metric.to_owned(), round, value?)))
        .collect();
    if let Event::Aggregated { dropped, .. } = event {
        found.extend(dropped.iter().map(|dropped| {
            let peer = dropped.peer.to_string();
            let name = names.get(&peer).unwrap_or(&peer);
            (
                format!("kith_dropped_share_ratio/{name}"),
                round,
                dropped.share,
            )
        }));
    }
    found
}

/// An event's round, and its numbers that concern the peer itself.
fn numbers(
    event: &Event,
    since: impl Fn(u64) -> Option<f64>,
) -> (u64, Vec<(&'static str, Option<f64>)>) {
    match *event {
        Event::Trained { round, loss, .. } => (round, vec![("kith_training_loss", loss)]),
        Event::RoundClosed { round, .. } => {
            (round, vec![("kith_round_duration_seconds", since(round))])
        }
        Event::Aggregated { round, spread, .. } => {
            (round, vec![("kith_consensus_distance", Some(spread))])
        }
        Event::Evaluated {
            round,
            loss,
            accuracy,
            ..
        } => {
            let loss = ("kith_held_out_loss", Some(loss));
            (
                round,
                vec![loss, ("kith_held_out_accuracy_ratio", Some(accuracy))],
            )
        }
        Event::PrivacySpent { round, epsilon, .. } => {
            (round, vec![("kith_privacy_epsilon_spent", Some(epsilon))])
        }
        _ => (0, Vec::new()),
    }
}

/// `Event`: wall time (field 1, double), step (field 2, varint), and one more field of bytes.
fn event(wall_time: f64, step: u64, (field, content): (u64, &[u8])) -> Vec<u8> {
    let mut message = vec![1 << 3 | 1];
    message.extend(wall_time.to_le_bytes());
    number_field(&mut message, 2, step);
    bytes_field(&mut message, field, content);
    message
}

/// `Summary` with one `Value` (field 1): tag (field 1, text) and simple value (field 2, float). The
/// largest number, which stands for one that is not finite, becomes infinite.
fn summary(tag: &str, value: f64) -> Vec<u8> {
    let mut inner = Vec::new();
    bytes_field(&mut inner, 1, tag.as_bytes());
    inner.push(2 << 3 | 5);
    inner.extend((value as f32).to_le_bytes());
    let mut message = Vec::new();
    bytes_field(&mut message, 1, &inner);
    message
}

/// Length, checksum of the length, content, checksum of the content.
fn record(bytes: &mut Vec<u8>, content: &[u8]) {
    let length = (content.len() as u64).to_le_bytes();
    bytes.extend(length);
    bytes.extend(masked(crc32c(&length)).to_le_bytes());
    bytes.extend(content);
    bytes.extend(masked(crc32c(content)).to_le_bytes());
}

/// The format's own step, so that the checksum of data that holds its checksum stays useful.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, RFC 3720, appendix B.4), bit by bit: records are short.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    let add = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !bytes.iter().fold(!0, add)
}

#[cfg(test)]
mod tests {
    use kith_consensus::PeerId;

    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, appendix B.4, and the check value of the catalogue of CRC algorithms.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn every_tag_is_a_metric_and_rounds_are_timed() {
        let peer = PeerId([8; 32]);
        let line = |at_seconds, event: &str| {
            let event = event.replace("PEER", &peer.to_string());
            Line {
                time: String::new(),
                at_seconds,
                node: peer,
                what: serde_json::from_str(&event).expect(&event),
            }
        };
        let lines = [
            line(
                1.0,
                r#"{"event":"round-opened","round":3,"neighbours":1,"selected":1}"#,
            ),
            line(
                1.5,
                r#"{"event":"trained","round":3,"loss":0.5,"samples":1,"local_steps":1}"#,
            ),
            line(
                2.5,
                r#"{"event":"round-closed","round":3,"why":"quorum","have":1,"awaited":1,"missing":[]}"#,
            ),
            line(
                3.0,
                r#"{"event":"aggregated","round":3,"state":"ZEROS","models":2,"spread":0.25,
                "dropped":[{"peer":"PEER","share":0.75,"influence":0.5}]}"#
                    .replace("ZEROS", &"00".repeat(32))
                    .as_str(),
            ),
            line(
                3.5,
                r#"{"event":"evaluated","round":4,"loss":1.0,"accuracy":0.5,"samples":1}"#,
            ),
            line(
                4.0,
                r#"{"event":"privacy-spent","round":4,"epsilon":2.0,"budget":8.0}"#,
            ),
        ];
        let names = BTreeMap::from([(peer.to_string(), "bob".to_owned())]);
        let found: Vec<(String, u64, f64)> = lines
            .iter()
            .filter_map(|line| match &line.what {
                What::Peer(event) => Some(scalars(event, &names, |_| Some(1.5))),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(found.len(), 7, "{found:?}");
        for (tag, ..) in &found {
            let name = tag.split('/').next().unwrap();
            let mut metrics = crate::telemetry::METRICS.iter();
            assert!(metrics.any(|metric| metric.name == name), "{tag}");
        }
        assert!(found.contains(&("kith_dropped_share_ratio/bob".to_owned(), 3, 0.75)));
        let text = file(&lines, &names);
        let duration = summary("kith_round_duration_seconds", 1.5);
        assert!(text.windows(duration.len()).any(|part| part == duration));
    }
}
