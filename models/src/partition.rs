//! How rows are dealt to peers in a testnet or a simulation. A partition is a function of (labels, peers, stream).
//!
//! The text form is `kind`, `kind:value` for the kind's own parameter, or `kind:key=value,key=value`.

mod dirichlet;
mod iid;
mod natural;
mod shards;

use std::fmt::Debug;
use std::sync::Arc;

use kith_consensus::section::{Document, unknown};
use kith_consensus::{Section, Stream};

use crate::dataset::Site;

pub use dirichlet::{cut_classes, draw_proportions};
pub use iid::near_equal;
pub use shards::deal_shards;

/// A way to deal rows.
#[derive(Debug)]
pub struct PartitionEntry {
    /// Name before the colon.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The paper or program that defines it.
    pub source: &'static str,
    /// The parameter that `name:value` sets, if there is one.
    pub parameter: Option<&'static str>,
    /// Reads its parameters.
    pub new: fn(&mut Section<'_>) -> Arc<dyn Deal>,
}

/// Every way to deal rows.
pub static PARTITIONS: &[PartitionEntry] = &[iid::ENTRY, dirichlet::ENTRY, shards::ENTRY, natural::ENTRY];

/// The rows to deal.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The class of each row.
    pub labels: &'a [u32],
    /// Number of classes.
    pub classes: usize,
    /// The sites they come from, if known; positions as in `labels`.
    pub sites: Option<&'a [Site]>,
}

/// A way to deal rows with its parameters set.
pub trait Deal: Debug + Send + Sync {
    /// The rows of each peer, ascending; no row twice.
    ///
    /// # Errors
    /// When the rows cannot be dealt so.
    fn split(&self, rows: Rows<'_>, peers: usize, stream: &mut Stream) -> Result<Vec<Vec<usize>>, PartitionError>;
}

/// Rows that cannot be dealt as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// A text that names no partition.
    #[error("partition {text:?}: {what}")]
    Text {
        /// The text.
        text: String,
        /// What is wrong with it.
        what: String,
    },
    /// Fewer rows than needed.
    #[error("{rows} rows cannot be dealt to {peers} peers: {what}")]
    TooFew {
        /// Rows there are.
        rows: usize,
        /// Peers asked for.
        peers: usize,
        /// What was expected.
        what: String,
    },
    /// Sites that are unknown or of another number.
    #[error("{0}")]
    Sites(String),
}

/// A chosen partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Name of the entry in [`PARTITIONS`].
    pub kind: String,
    deal: Arc<dyn Deal>,
}

impl Partition {
    /// Reads `kind` and its parameters from a section.
    pub fn read(section: &mut Section<'_>) -> Partition {
        let names: Vec<&str> = PARTITIONS.iter().map(|entry| entry.name).collect();
        let kind = section.text("kind", None);
        let deal = match PARTITIONS.iter().find(|entry| entry.name == kind) {
            Some(entry) => (entry.new)(section),
            None => {
                if !kind.is_empty() {
                    section.note("kind", unknown("partition", &kind, &names));
                }
                PARTITIONS.iter().map(|entry| (entry.new)(section)).last().expect("PARTITIONS is not empty")
            }
        };
        Partition { kind, deal }
    }

    /// Reads the text form: `iid`, `iid:600`, `dirichlet:0.5`, `dirichlet:alpha=0.5,min_rows=1`, `shards:2`, `natural`.
    ///
    /// # Errors
    /// What is wrong, and what is known.
    pub fn parse(text: &str) -> Result<Partition, PartitionError> {
        let wrong = |what: String| PartitionError::Text { text: text.to_owned(), what };
        let (kind, values) = text.split_once(':').map_or((text, ""), |(kind, values)| (kind, values));
        let names: Vec<&str> = PARTITIONS.iter().map(|entry| entry.name).collect();
        let entry =
            PARTITIONS.iter().find(|entry| entry.name == kind).ok_or_else(|| wrong(unknown("partition", kind, &names)))?;
        let mut toml = format!("[partition]\nkind = \"{kind}\"\n");
        for value in values.split(',').filter(|value| !value.is_empty()) {
            let (key, value) = match (value.split_once('='), entry.parameter) {
                (Some((key, value)), _) => (key, value),
                (None, Some(key)) => (key, value),
                (None, None) => return Err(wrong(format!("{kind:?} takes no parameter"))),
            };
            let word =
                |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            if !word(key) || !word(value) {
                return Err(wrong(format!("expected key=value, found {key:?} = {value:?}")));
            }
            toml.push_str(&format!("{key} = {value}\n"));
        }
        let mut document = Document::parse(&toml).map_err(|_| wrong("expected numbers after the colon".to_owned()))?;
        let partition = document.section("partition", Partition::read);
        let problems = |problems: Vec<kith_consensus::Problem>| {
            problems.iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect::<Vec<_>>().join("; ")
        };
        document.finish().map(|_| partition).map_err(|list| wrong(problems(list)))
    }

    /// The rows of each peer, ascending; no row twice.
    ///
    /// # Errors
    /// When the rows cannot be dealt so.
    pub fn split(&self, rows: Rows<'_>, peers: usize, stream: &mut Stream) -> Result<Vec<Vec<usize>>, PartitionError> {
        if peers == 0 || rows.labels.len() < peers {
            let what = "expected at least one peer and one row for each".to_owned();
            return Err(PartitionError::TooFew { rows: rows.labels.len(), peers, what });
        }
        self.deal.split(rows, peers, stream)
    }
}

/// Cuts `total` in whole parts in proportion to `weights` (not negative, one above 0): floors first, then one more for the
/// largest remainders, ties to the lower index.
///
/// # Panics
/// When the weights are empty, negative, not finite or all 0.
pub fn largest_remainder(total: usize, weights: &[f64]) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    assert!(sum > 0.0 && sum.is_finite() && weights.iter().all(|weight| *weight >= 0.0), "weights: {weights:?}");
    let exact: Vec<f64> = weights.iter().map(|weight| total as f64 * weight / sum).collect();
    let mut sizes: Vec<usize> = exact.iter().map(|size| size.floor() as usize).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| (exact[*b].fract()).total_cmp(&exact[*a].fract()).then(a.cmp(b)));
    let missing = total.saturating_sub(sizes.iter().sum());
    order.iter().cycle().take(missing).for_each(|index| sizes[*index] += 1);
    sizes
}

/// How far one peer's labels are from everybody's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelSkew {
    /// Σ |p − q| over the classes, 0 to 2; half of it is the total variation distance.
    pub l1: f64,
    /// Hellinger distance, 0 to 1.
    pub hellinger: f64,
    /// Jensen–Shannon divergence in nats, 0 to ln 2.
    pub js_divergence: f64,
    /// Entropy of the peer's own labels in nats, 0 for a single class.
    pub entropy: f64,
}

/// The skew of each peer, from its rows of each class, against the classes of all peers together.
pub fn label_skew(counts: &[Vec<usize>]) -> Vec<LabelSkew> {
    let classes = counts.first().map_or(0, Vec::len);
    let all: Vec<usize> = (0..classes).map(|class| counts.iter().map(|peer| peer[class]).sum()).collect();
    let shares = |counts: &[usize]| {
        let sum = counts.iter().sum::<usize>().max(1) as f64;
        counts.iter().map(|count| *count as f64 / sum).collect::<Vec<f64>>()
    };
    // p·ln(p/q), which is 0 where p is.
    let term = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    let q = shares(&all);
    let skew = |peer: &Vec<usize>| {
        let p = shares(peer);
        let pairs = || p.iter().zip(&q).map(|(p, q)| (*p, *q));
        LabelSkew {
            l1: pairs().map(|(p, q)| (p - q).abs()).sum(),
            hellinger: (pairs().map(|(p, q)| (p.sqrt() - q.sqrt()).powi(2)).sum::<f64>() / 2.0).sqrt(),
            js_divergence: pairs().map(|(p, q)| (term(p, (p + q) / 2.0) + term(q, (p + q) / 2.0)) / 2.0).sum(),
            entropy: p.iter().map(|p| -term(*p, 1.0)).sum(),
        }
    };
    counts.iter().map(skew).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::Seed;

    fn split(text: &str, labels: &[u32], peers: usize) -> Result<Vec<Vec<usize>>, PartitionError> {
        let rows = Rows { labels, classes: 10, sites: None };
        Partition::parse(text).unwrap().split(rows, peers, &mut Seed::from_number(3).stream("test partition"))
    }

    #[test]
    fn no_row_is_dealt_twice_and_only_shards_leave_rows_over() {
        let labels: Vec<u32> = (0..1003).map(|row| (row * row % 10) as u32).collect();
        for text in ["iid", "iid:50", "dirichlet", "dirichlet:0.3", "shards", "shards:3"] {
            let parts = split(text, &labels, 7).unwrap();
            let mut all: Vec<usize> = parts.concat();
            assert!(parts.iter().all(|part| part.is_sorted() && !part.is_empty()), "{text}");
            all.sort_unstable();
            assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{text} dealt a row twice");
            let wanted = match text {
                "iid:50" => 350,
                "shards" => 1003 / 14 * 14,
                "shards:3" => 1003 / 21 * 21,
                _ => 1003,
            };
            assert_eq!(all.len(), wanted, "{text}");
            assert_eq!(split(text, &labels, 7).unwrap(), parts, "{text} is not a function of its stream");
        }
    }

    #[test]
    fn tiny_alpha_neither_underflows_nor_loops() {
        let labels: Vec<u32> = (0..1000).map(|row| row % 10).collect();
        let parts = split("dirichlet:alpha=0.001,min_rows=0", &labels, 3).unwrap();
        assert_eq!(parts.concat().len(), 1000);
        let error = split("dirichlet:0.0001", &labels, 50).unwrap_err().to_string();
        assert!(error.contains("lower min_rows"), "{error}");
    }

    #[test]
    fn texts_that_name_no_partition_are_refused_with_what_is_known() {
        for (text, part) in [
            ("dirichet:1", "did you mean \"dirichlet\""),
            ("dirichlet:-1", "expected a number from 0.0001"),
            ("dirichlet:alfa=1", "unknown key \"alfa\""),
            ("natural:2", "takes no parameter"),
            ("shards:2\nx", "expected key=value"),
            ("shards:two", "numbers after the colon"),
            ("", "unknown partition"),
        ] {
            let error = Partition::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(split("natural", &[0, 1], 2).unwrap_err().to_string().contains("does not know"));
        assert!(split("iid:600", &[0, 1], 2).unwrap_err().to_string().contains("need 1200"));
    }
}
