//! The text in which metrics are served: OpenMetrics 1.0, written by `prometheus-client`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::metrics::{Kind, METRICS, Metric, Seen};
use super::sample::{Sample, Value};

/// The text of every metric that has samples.
pub(super) fn exposed(seen: &Seen<'_>) -> String {
    let mut registry = Registry::default();
    let families = METRICS
        .iter()
        .map(|metric| Family {
            metric,
            samples: (metric.samples)(seen),
        })
        .filter(|family| !family.samples.is_empty());
    registry.register_collector(Box::new(Families(families.collect())));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing into a string does not fail");
    // The library's word for it; OpenMetrics writes the sign and the capital.
    text.replace(" inf\n", " +Inf\n")
}

#[derive(Debug)]
struct Families(Vec<Family>);

struct Family {
    metric: &'static Metric,
    samples: Vec<Sample>,
}

impl std::fmt::Debug for Family {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {:?}", self.metric.name, self.samples)
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0
            .iter()
            .try_for_each(|family| family.encode(&mut encoder))
    }
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Metric {
            name, kind, help, ..
        } = self.metric;
        let (suffix, kind) = match kind {
            Kind::Counter => ("_total", MetricType::Counter),
            Kind::Gauge => ("", MetricType::Gauge),
            Kind::Histogram => ("", MetricType::Histogram),
            Kind::Info => ("_info", MetricType::Info),
        };
        // The library adds the suffix that the kind asks for.
        let name = name.strip_suffix(suffix).unwrap_or(name);
        let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
        self.samples
            .iter()
            .try_for_each(|sample| self.encode_sample(sample, &mut encoder))
    }

    fn encode_sample(
        &self,
        sample: &Sample,
        encoder: &mut MetricEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let names = self.metric.labels.iter().copied();
        let labels: Vec<(&str, &str)> = names
            .zip(sample.labels.iter().map(String::as_str))
            .collect();
        match (&sample.value, labels.is_empty()) {
            (Value::Text, _) => encoder.encode_info(&labels),
            (value, true) => self.encode_value(value, encoder),
            (value, false) => self.encode_value(value, &mut encoder.encode_family(&labels)?),
        }
    }

    fn encode_value(
        &self,
        value: &Value,
        encoder: &mut MetricEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        match value {
            Value::Count(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
            Value::Number(number) if self.metric.kind == Kind::Counter => {
                encoder.encode_counter::<NoLabelSet, _, u64>(number, None)
            }
            Value::Number(number) => encoder.encode_gauge(number),
            Value::Histogram { sum, buckets } => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
            Value::Text => Ok(()),
        }
    }
}
