//! How much an update counts that is some rounds old.
//!
//! Xie, Koyejo and Gupta 2019 (FedAsync), arXiv 1903.03934. The mixing weight α of an update is
//! multiplied by s(t), t its staleness in rounds: constant 1; polynomial (t + 1)^(−a); hinge 1 up
//! to t = b, then 1 / (a (t − b) + 1).

use crate::arithmetic::power;
use crate::registry::{Entry, Registry};
use crate::section::Section;

/// A weight as a function of staleness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StalenessWeight {
    /// Old updates count like new ones.
    Constant,
    /// (t + 1)^(−exponent)
    Polynomial {
        /// a ≥ 0
        exponent: f64,
    },
    /// 1 while t ≤ threshold, then 1 / (slope · (t − threshold) + 1).
    Hinge {
        /// a ≥ 0
        slope: f64,
        /// b
        threshold: u64,
    },
}

/// A weight in the table; `new` reads its keys of `[round]`.
pub type StalenessEntry = Entry<fn(&mut Section<'_>) -> StalenessWeight>;

/// Every weight; the paper's three, with its numbers as defaults.
pub static STALENESS_WEIGHTS: Registry<fn(&mut Section<'_>) -> StalenessWeight> = Registry::new(
    "staleness_weight",
    &[
        StalenessEntry {
            name: "constant",
            help: "old updates count like new ones",
            source: SOURCE,
            main_key: None,
            new: |_| StalenessWeight::Constant,
        },
        StalenessEntry {
            name: "polynomial",
            help: "(t + 1)^(−staleness_exponent) for an update t rounds old",
            source: SOURCE,
            main_key: None,
            new: |section| StalenessWeight::Polynomial {
                exponent: section.number("staleness_exponent", Some(0.5), 0.0..=100.0),
            },
        },
        StalenessEntry {
            name: "hinge",
            help: "1 up to staleness_threshold rounds, then 1 / (staleness_slope · (t − staleness_threshold) + 1)",
            source: SOURCE,
            main_key: None,
            new: |section| StalenessWeight::Hinge {
                slope: section.number("staleness_slope", Some(10.0), 0.0..=1e6),
                threshold: section.integer("staleness_threshold", Some(4), 0..=1_000_000),
            },
        },
    ],
);

const SOURCE: &str = "Xie, Koyejo and Gupta 2019 (FedAsync), arXiv 1903.03934";

/// The default of a charter: it needs no threshold to be chosen.
const DEFAULT: &str = "polynomial";

impl StalenessWeight {
    /// Reads key `staleness_weight` and those of the one it names.
    pub fn read(section: &mut Section<'_>) -> StalenessWeight {
        let chosen = STALENESS_WEIGHTS.choose(section, "staleness_weight", Some(DEFAULT));
        let default = || {
            STALENESS_WEIGHTS
                .get(DEFAULT)
                .expect("the default is in the table")
        };
        (chosen.unwrap_or_else(default).new)(section)
    }

    /// s(t) in (0, 1], 1 for what is fresh; never grows with `staleness`.
    pub fn factor(&self, staleness: u64) -> f64 {
        match *self {
            StalenessWeight::Constant => 1.0,
            StalenessWeight::Polynomial { exponent } => power(staleness as f64 + 1.0, -exponent),
            StalenessWeight::Hinge { slope, threshold } => {
                1.0 / (slope * staleness.saturating_sub(threshold) as f64 + 1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Document;

    #[test]
    fn each_is_read_with_its_own_keys_and_never_grows() {
        let read = |text: &str| {
            let mut document = Document::parse(&format!("[round]\n{text}")).unwrap();
            let weight = document.section("round", StalenessWeight::read);
            document
                .finish()
                .map(|_| weight)
                .map_err(|problems| problems[0].to_string())
        };
        let polynomial = StalenessWeight::Polynomial { exponent: 0.5 };
        assert_eq!(read(""), Ok(polynomial));
        let hinge = read("staleness_weight = \"hinge\"\nstaleness_threshold = 2").unwrap();
        assert_eq!(
            hinge,
            StalenessWeight::Hinge {
                slope: 10.0,
                threshold: 2
            }
        );
        assert_eq!((hinge.factor(2), hinge.factor(3)), (1.0, 1.0 / 11.0));
        assert!(
            read("staleness_weight = \"constant\"\nstaleness_slope = 2")
                .unwrap_err()
                .contains("unknown key")
        );
        for weight in [StalenessWeight::Constant, polynomial, hinge] {
            assert_eq!(weight.factor(0), 1.0);
            assert!(
                (0..50).all(|staleness| weight.factor(staleness) >= weight.factor(staleness + 1)),
                "{weight:?}"
            );
            assert!(weight.factor(u64::MAX) > 0.0, "{weight:?}");
        }
    }
}
