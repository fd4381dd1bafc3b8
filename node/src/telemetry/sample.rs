//! A metric's numbers, before anything is written.

use super::histogram::{Histogram, Scale};

/// One number of a metric, or one histogram.
#[derive(Debug)]
pub(super) struct Sample {
    /// Values of the metric's labels, in their order.
    pub(super) labels: Vec<String>,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Count(u64),
    Number(f64),
    Histogram { sum: f64, buckets: Vec<(f64, u64)> },
    Text,
}

impl Sample {
    /// A number with values of its labels.
    pub(super) fn number(labels: Vec<String>, number: f64) -> Sample {
        let value = Value::Number(shown(number));
        Sample { labels, value }
    }
}

/// A count without labels.
pub(super) fn counted(count: u64) -> Vec<Sample> {
    let value = Value::Count(count);
    vec![Sample {
        labels: Vec::new(),
        value,
    }]
}

/// Counts by the value of their one label.
pub(super) fn each<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Vec<Sample> {
    let sample = |(label, count): (&str, u64)| Sample {
        labels: vec![label.to_owned()],
        value: Value::Count(count),
    };
    counts.into_iter().map(sample).collect()
}

/// A number without labels, if it is known.
pub(super) fn numbered(number: Option<f64>) -> Vec<Sample> {
    number
        .map(|number| Sample::number(Vec::new(), number))
        .into_iter()
        .collect()
}

/// A histogram, once it has a value.
pub(super) fn histogram<S: Scale>(histogram: &Histogram<S>) -> Vec<Sample> {
    if histogram.count() == 0 {
        return Vec::new();
    }
    let value = Value::Histogram {
        sum: histogram.sum(),
        buckets: histogram.buckets().collect(),
    };
    vec![Sample {
        labels: Vec::new(),
        value,
    }]
}

/// Text in labels.
pub(super) fn text<const N: usize>(labels: [String; N]) -> Vec<Sample> {
    vec![Sample {
        labels: labels.into(),
        value: Value::Text,
    }]
}

/// Lines of the event log write the largest number in place of one that is not finite, since JSON
/// has no infinity. Prometheus has one.
fn shown(number: f64) -> f64 {
    if number == f64::MAX {
        f64::INFINITY
    } else {
        number
    }
}
