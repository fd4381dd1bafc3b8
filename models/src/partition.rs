//! How rows are dealt to peers in a testnet or a simulation. A partition is a function of (labels,
//! peers, stream).
//!
//! Some also change the rows of each peer (noise, other labels): [`Partition::datasets`] returns
//! each peer's training rows.
//!
//! The text form is `kind`, `kind:value` for the kind's own parameter, or
//! `kind:key=value,key=value`.

mod class_groups;
mod concept_shift;
mod dirichlet;
mod draw;
mod feature_skew;
mod gamma_similarity;
mod iid;
mod inner_dirichlet;
mod natural;
mod partitioner;
mod pathological;
mod quantity;
mod rotation;
mod shards;
mod sizes;

use std::sync::Arc;

use kith_consensus::registry::{Registry, short_form};
use kith_consensus::section::Document;
use kith_consensus::{Section, Seed, Stream};

use crate::data::Dataset;
use crate::site::Site;

pub use dirichlet::{cut_classes, draw_proportions};
pub use partitioner::{NewPartitioner, PartitionEntry, PartitionError, Partitioner, Place, Rows};
pub use shards::assign_shards;
use sizes::{cut, equal_sizes, rows_by_class, shuffled};
pub use sizes::{largest_remainder, near_equal};

/// Every kind of partition.
pub static PARTITIONS: Registry<NewPartitioner> = Registry::new(
    "partition",
    &[
        iid::ENTRY,
        dirichlet::ENTRY,
        inner_dirichlet::ENTRY,
        shards::ENTRY,
        pathological::ENTRY,
        class_groups::ENTRY,
        gamma_similarity::ENTRY,
        quantity::ENTRY,
        draw::ENTRY,
        feature_skew::ENTRY,
        rotation::ENTRY,
        concept_shift::ENTRY,
        natural::ENTRY,
    ],
);

/// A chosen partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Name of the entry in [`PARTITIONS`].
    pub kind: &'static str,
    partitioner: Arc<dyn Partitioner>,
}

impl Partition {
    /// Reads `kind` and its parameters from a section.
    pub fn read(section: &mut Section<'_>) -> Partition {
        let (kind, partitioner) = PARTITIONS.build(section, "kind", None);
        Partition { kind, partitioner }
    }

    /// Reads the text form: `iid`, `iid:600`, `dirichlet:0.5`, `dirichlet:alpha=0.5,min_rows=1`,
    /// `pathological:2`, `natural`, …
    ///
    /// # Errors
    /// What is wrong, and what is known.
    pub fn parse(text: &str) -> Result<Partition, PartitionError> {
        let wrong = |what: String| PartitionError::Text {
            text: text.to_owned(),
            what,
        };
        let (kind, values) = short_form(text);
        let entry = PARTITIONS.find(kind).map_err(wrong)?;
        let mut toml = format!("[partition]\nkind = \"{kind}\"\n");
        for (key, value) in values.filter(|part| *part != (None, "")) {
            let Some(key) = key.or(entry.main_key) else {
                return Err(wrong(format!("{kind:?} takes no parameter")));
            };
            let word = |text: &str| {
                !text.is_empty()
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            };
            if !word(key) || !word(value) {
                return Err(wrong(format!(
                    "expected key=value, found {key:?} = {value:?}"
                )));
            }
            toml.push_str(&format!("{key} = {value}\n"));
        }
        let mut document = Document::parse(&toml)
            .map_err(|_| wrong("expected numbers after the colon".to_owned()))?;
        let partition = document.section("partition", Partition::read);
        let problems = |problems: Vec<kith_consensus::Problem>| {
            problems
                .iter()
                .map(|problem| format!("{}: {}", problem.key, problem.what))
                .collect::<Vec<_>>()
                .join("; ")
        };
        document
            .finish()
            .map(|_| partition)
            .map_err(|list| wrong(problems(list)))
    }

    /// The rows of each peer, ascending; no row twice, unless the partition draws with overlap
    /// (`draw`).
    ///
    /// If [`Partition::changes_rows`], peers see these rows changed: apply [`Partition::transform`]
    /// to each peer's.
    ///
    /// # Errors
    /// When the rows cannot be dealt in this way.
    pub fn split(
        &self,
        rows: Rows<'_>,
        peers: usize,
        stream: &mut Stream,
    ) -> Result<Vec<Vec<usize>>, PartitionError> {
        if peers == 0 || (rows.labels.len() < peers && !self.partitioner.overlaps()) {
            let what = "expected at least one peer and one row for each".to_owned();
            return Err(PartitionError::TooFew {
                rows: rows.labels.len(),
                peers,
                what,
            });
        }
        self.partitioner.split(rows, peers, stream)
    }

    /// Whether peers see rows that differ from the table's.
    pub fn changes_rows(&self) -> bool {
        self.partitioner.changes_rows()
    }

    /// A peer's rows, or its evaluation rows, as this peer sees them.
    pub fn transform(&self, place: &Place<'_>, data: &Dataset) -> Dataset {
        self.partitioner.transform(place, data)
    }

    /// The training rows of each peer: its part of `data`, as it sees it. They are views of one
    /// table if rows are not changed.
    ///
    /// # Errors
    /// When the rows cannot be dealt in this way.
    pub fn datasets(
        &self,
        data: &Dataset,
        classes: usize,
        sites: Option<&[Site]>,
        peers: usize,
        seed: &Seed,
    ) -> Result<Vec<Dataset>, PartitionError> {
        self.partitioner.fits(data.features())?;
        let rows = Rows {
            labels: data.labels(),
            classes,
            sites,
        };
        let parts = self.split(rows, peers, &mut seed.stream("kith.v1 partition"))?;
        let dataset = |(peer, rows): (usize, &Vec<usize>)| {
            self.transform(
                &Place {
                    peer,
                    peers,
                    classes,
                    seed,
                },
                &data.select(rows),
            )
        };
        Ok(parts.iter().enumerate().map(dataset).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::Seed;

    fn split(text: &str, labels: &[u32], peers: usize) -> Result<Vec<Vec<usize>>, PartitionError> {
        let rows = Rows {
            labels,
            classes: 10,
            sites: None,
        };
        Partition::parse(text).unwrap().split(
            rows,
            peers,
            &mut Seed::from_number(3).stream("test partition"),
        )
    }

    #[test]
    fn no_row_is_dealt_twice_and_only_shards_leave_rows_over() {
        let labels: Vec<u32> = (0..1003).map(|row| (row * row / 7 % 10) as u32).collect();
        let texts = [
            "iid",
            "iid:50",
            "dirichlet",
            "dirichlet:0.3",
            "inner-dirichlet:0.1",
            "inner-dirichlet:alpha=0.1,rows_per_peer=50",
            "shards",
            "shards:3",
            "pathological",
            "pathological:10",
            "pathological:1",
            "class-groups",
            "class-groups:3",
            "gamma-similarity:0",
            "gamma-similarity:0.3",
            "gamma-similarity:1",
            "quantity",
            "quantity:log_normal=1",
            "quantity:dirichlet=0.1",
            "feature-skew",
            "rotation",
            "concept-shift:3",
        ];
        for text in texts {
            let parts = split(text, &labels, 7).unwrap();
            let mut all: Vec<usize> = parts.concat();
            assert!(
                parts
                    .iter()
                    .all(|part| part.is_sorted() && !part.is_empty()),
                "{text}"
            );
            all.sort_unstable();
            assert!(
                all.windows(2).all(|pair| pair[0] < pair[1]),
                "{text} dealt a row twice"
            );
            let wanted = match text {
                "iid:50" | "inner-dirichlet:alpha=0.1,rows_per_peer=50" => 350,
                // Seven of the ten classes have a holder.
                "pathological:1" => {
                    let held: Vec<u32> = parts.iter().map(|part| labels[part[0]]).collect();
                    labels.iter().filter(|label| held.contains(label)).count()
                }
                "shards" => 1003 / 14 * 14,
                "shards:3" => 1003 / 21 * 21,
                _ => 1003,
            };
            assert_eq!(all.len(), wanted, "{text}");
            assert_eq!(
                split(text, &labels, 7).unwrap(),
                parts,
                "{text} is not a function of its stream"
            );
        }
    }

    fn classes_of(part: &[usize], labels: &[u32]) -> Vec<u32> {
        let mut classes: Vec<u32> = part.iter().map(|row| labels[*row]).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    #[test]
    fn inner_dirichlet_keeps_sizes_equal_and_labels_apart() {
        let labels: Vec<u32> = (0..1000).map(|row| row % 10).collect();
        // Mean over the peers of the most frequent class's share.
        let largest = |text: &str, size: usize| {
            let parts = split(text, &labels, 8).unwrap();
            assert!(parts.iter().all(|part| part.len() == size), "{text}");
            let share = |part: &Vec<usize>| {
                (0..10)
                    .map(|c| part.iter().filter(|row| labels[**row] == c).count())
                    .max()
            };
            parts
                .iter()
                .map(|part| share(part).unwrap() as f64 / size as f64)
                .sum::<f64>()
                / 8.0
        };
        let few = largest("inner-dirichlet:alpha=0.05,rows_per_peer=20", 20);
        assert!(few > 0.7, "{few}");
        // If all rows are dealt, classes run out and the last peers get the remaining rows.
        let all = largest("inner-dirichlet:0.05", 125);
        assert!(all > 0.4, "{all}");
        let mild = largest("inner-dirichlet:1000", 125);
        assert!(mild < 0.2, "{mild}");
    }

    #[test]
    fn pathological_peers_hold_exactly_their_classes_and_every_class_has_a_holder() {
        let labels: Vec<u32> = (0..1000).map(|row| row % 10).collect();
        for (peers, each) in [(5, 2), (7, 3), (20, 2), (4, 10)] {
            let parts = split(&format!("pathological:{each}"), &labels, peers).unwrap();
            let held: Vec<Vec<u32>> = parts.iter().map(|part| classes_of(part, &labels)).collect();
            assert!(
                held.iter().all(|classes| classes.len() == each),
                "{peers} {each}: {held:?}"
            );
            assert_eq!(parts.concat().len(), 1000);
            for class in 0..10 {
                let counts: Vec<usize> = parts
                    .iter()
                    .map(|part| part.iter().filter(|row| labels[**row] == class).count())
                    .filter(|count| *count > 0)
                    .collect();
                assert!(
                    counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1,
                    "class {class}: {counts:?}"
                );
            }
        }
        assert!(split("pathological:11", &labels, 4).is_err());
        assert!(
            split("pathological:2", &[0, 1, 1, 1, 1], 5)
                .unwrap_err()
                .to_string()
                .contains("holders")
        );
    }

    #[test]
    fn class_groups_share_no_class() {
        let labels: Vec<u32> = (0..1000).map(|row| row % 10).collect();
        let parts = split("class-groups:2", &labels, 20).unwrap();
        for (peer, part) in parts.iter().enumerate() {
            let wanted: Vec<u32> = if peer < 10 {
                (0..5).collect()
            } else {
                (5..10).collect()
            };
            assert_eq!(classes_of(part, &labels), wanted, "peer {peer}");
            assert_eq!(part.len(), 50);
        }
        assert!(split("class-groups:11", &labels, 20).is_err());
    }

    #[test]
    fn gamma_goes_from_sorted_to_iid() {
        let labels: Vec<u32> = (0..1000).map(|row| row % 10).collect();
        let classes = |gamma: &str| {
            let parts = split(&format!("gamma-similarity:{gamma}"), &labels, 10).unwrap();
            assert!(parts.iter().all(|part| part.len() == 100));
            parts
                .iter()
                .map(|part| classes_of(part, &labels).len())
                .collect::<Vec<_>>()
        };
        assert_eq!(classes("0"), [1; 10]);
        assert_eq!(classes("1"), [10; 10]);
        let labels_of_first = split("gamma-similarity:0.5", &labels, 10).unwrap();
        let first = labels_of_first[0]
            .iter()
            .filter(|row| labels[**row] == 0)
            .count();
        assert!((50..70).contains(&first), "{first}");
    }

    #[test]
    fn quantities_follow_their_law() {
        let sizes = |text: &str| {
            split(text, &[0; 1000], 4)
                .unwrap()
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>()
        };
        // 4 rows beforehand, then 996 in proportion to 1, 1/2, 1/3, 1/4: 478.08, 239.04, 159.36,
        // 119.52.
        assert_eq!(sizes("quantity:1"), [479, 240, 160, 121]);
        assert_eq!(sizes("quantity:power=0"), [250; 4]);
        assert_eq!(sizes("quantity:log_normal=0"), [250; 4]);
        assert!(sizes("quantity:dirichlet=0.01").iter().min() < Some(&20));
        let error = Partition::parse("quantity:power=1,dirichlet=1")
            .unwrap_err()
            .to_string();
        assert!(error.contains("one law"), "{error}");
    }

    #[test]
    fn drawn_rows_overlap_between_peers_and_not_within_one() {
        let parts = split("draw:18", &[0; 60], 1000).unwrap();
        assert!(
            parts
                .iter()
                .all(|part| part.len() == 18 && part.windows(2).all(|pair| pair[0] < pair[1]))
        );
        let mut counts = vec![0usize; 60];
        parts.iter().flatten().for_each(|row| counts[*row] += 1);
        // Binomial(1000, 0.3): 300 ± 14.5; six deviations.
        assert!(
            counts.iter().all(|count| (213..=387).contains(count)),
            "{counts:?}"
        );
        assert!(split("draw:61", &[0; 60], 2).is_err());
    }

    fn datasets(text: &str, peers: usize) -> (Dataset, Vec<Dataset>) {
        let labels: Vec<u32> = (0..400).map(|row| row % 5).collect();
        let data = Dataset::from_numbers(vec![1.0; 400 * 10], labels, 10);
        let seed = Seed::from_number(9);
        let parts = Partition::parse(text)
            .unwrap()
            .datasets(&data, 5, None, peers, &seed)
            .unwrap();
        assert_eq!(
            parts,
            Partition::parse(text)
                .unwrap()
                .datasets(&data, 5, None, peers, &seed)
                .unwrap(),
            "{text}"
        );
        (data, parts)
    }

    #[test]
    fn feature_skew_makes_later_peers_noisier() {
        let (_, parts) = datasets("feature-skew:0.8", 4);
        for (peer, part) in parts.iter().enumerate() {
            let values: Vec<f32> = (0..part.len()).flat_map(|row| part.row(row)).collect();
            let deviation = (values
                .iter()
                .map(|value| f64::from(value - 1.0).powi(2))
                .sum::<f64>()
                / values.len() as f64)
                .sqrt();
            let wanted = 0.2 * (peer + 1) as f64;
            // A deviation of 1,000 values is known to 1 / √2000 = 2.2 %.
            assert!(
                (deviation / wanted - 1.0).abs() < 0.12,
                "peer {peer}: {deviation}, expected {wanted}"
            );
        }
        assert_ne!(parts[0].row(0), parts[0].row(1));
    }

    #[test]
    fn rotation_turns_the_images_of_each_group_by_a_quarter_more() {
        // Squares of two by two: 1 2 above 3 4, read line by line.
        let data = Dataset::from_numbers([1.0, 2.0, 3.0, 4.0].repeat(40), vec![0; 40], 4);
        let seed = Seed::from_number(9);
        let deal = |text: &str, data: &Dataset| {
            Partition::parse(text)
                .unwrap()
                .datasets(data, 1, None, 8, &seed)
        };
        let parts = deal("rotation", &data).unwrap();
        let turned = [
            [1.0, 2.0, 3.0, 4.0],
            [3.0, 1.0, 4.0, 2.0],
            [4.0, 3.0, 2.0, 1.0],
            [2.0, 4.0, 1.0, 3.0],
        ];
        for (peer, part) in parts.iter().enumerate() {
            assert_eq!(part.row(0), turned[peer / 2], "peer {peer}");
        }
        assert_eq!(deal("rotation:1", &data).unwrap()[7].row(0), turned[0]);
        let table = Dataset::from_numbers(vec![1.0; 40 * 5], vec![0; 40], 5);
        assert!(
            deal("rotation", &table)
                .unwrap_err()
                .to_string()
                .contains("rows of 5 values")
        );
    }

    #[test]
    fn concept_shift_gives_each_group_its_own_names() {
        let (data, parts) = datasets("concept-shift:2", 4);
        let (_, plain) = datasets("concept-shift:1", 4);
        assert_eq!(&parts[..2], &plain[..2]);
        let names = |peer: usize| -> Vec<u32> {
            (0..5)
                .map(|label| {
                    parts[peer].labels()[plain[peer]
                        .labels()
                        .iter()
                        .position(|l| *l == label)
                        .unwrap()]
                })
                .collect()
        };
        assert_eq!(names(2), names(3));
        assert_ne!(names(2), [0, 1, 2, 3, 4]);
        let renamed = plain[3].relabelled(|label| names(3)[label as usize]);
        assert_eq!(renamed, parts[3]);
        // Rows held out from all can be transformed for a group, and there is still one table.
        assert!(Dataset::memory_bytes_of(&parts) < data.memory_bytes() + 400 * 8);
        let place = Place {
            peer: 3,
            peers: 4,
            classes: 5,
            seed: &Seed::from_number(9),
        };
        let seen = Partition::parse("concept-shift:2")
            .unwrap()
            .transform(&place, &data);
        assert_eq!(seen.labels()[..5], names(3));
        assert!(split("concept-shift:3", &[0, 1, 0, 1], 4).is_ok());
        let rows = Rows {
            labels: &[0, 1, 0, 1],
            classes: 2,
            sites: None,
        };
        let mut stream = Seed::from_number(3).stream("test partition");
        assert!(
            Partition::parse("concept-shift:3")
                .unwrap()
                .split(rows, 4, &mut stream)
                .is_err()
        );
    }

    #[test]
    fn tiny_alpha_neither_underflows_nor_loops() {
        let labels: Vec<u32> = (0..1000).map(|row| row % 10).collect();
        let parts = split("dirichlet:alpha=0.001,min_rows=0", &labels, 3).unwrap();
        assert_eq!(parts.concat().len(), 1000);
        let error = split("dirichlet:0.0001", &labels, 50)
            .unwrap_err()
            .to_string();
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
        assert!(
            split("natural", &[0, 1], 2)
                .unwrap_err()
                .to_string()
                .contains("does not know")
        );
        assert!(
            split("iid:600", &[0, 1], 2)
                .unwrap_err()
                .to_string()
                .contains("need 1200")
        );
    }
}
