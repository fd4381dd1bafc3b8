//! The lines that logs hold and the words of refusals, written down: moving code about changes
//! neither.

use std::collections::BTreeSet;

use kith_gossip::{Event, Refusal};
use serde_json::Value;

/// One sample of each event. A line is read and written again, key by key.
#[test]
fn every_event_has_its_keys() {
    let mut names = BTreeSet::new();
    for line in include_str!("unchanged/events.jsonl").lines() {
        let sample: Value = serde_json::from_str(line).expect("JSON");
        let event: Event =
            serde_json::from_value(sample.clone()).unwrap_or_else(|why| panic!("{line}: {why}"));
        assert_eq!(serde_json::to_value(&event).expect("JSON"), sample);
        names.insert(sample["event"].as_str().expect("a name").to_owned());
    }
    assert_eq!(names.len(), 34, "one sample of each event");
}

/// Two lines for each refusal: what logs hold, and what people read.
#[test]
fn every_refusal_has_its_words() {
    let lines: Vec<&str> = include_str!("unchanged/refusals.txt").lines().collect();
    let mut names = BTreeSet::new();
    for pair in lines.chunks(2) {
        let sample: Value = serde_json::from_str(pair[0]).expect("JSON");
        let refusal: Refusal = serde_json::from_value(sample.clone())
            .unwrap_or_else(|why| panic!("{}: {why}", pair[0]));
        assert_eq!(serde_json::to_value(&refusal).expect("JSON"), sample);
        assert_eq!(refusal.to_string(), pair[1]);
        assert_eq!(refusal.name(), sample["refused"].as_str().expect("a name"));
        names.insert(refusal.name());
    }
    assert_eq!(names.len(), 25, "one sample of each refusal");
}
