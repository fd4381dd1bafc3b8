//! Poisoned rows, for the attacks that lie about data instead of parameters: the liar trains
//! honestly on them.
//!
//! Flipped labels (K − 1 − y, as in byzfl) do harm that shows in accuracy. A backdoor (Gu et al.,
//! BadNets, arXiv 1708.06733) does not: the model stays good, but takes every image with a patch in
//! its corner for the target class. The attack's success rate is the accuracy on
//! [`Patch::triggered`] rows.

use kith_consensus::Stream;

use crate::data::Dataset;

/// A backdoor that these rows cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoisonError {
    /// Rows that are no images.
    #[error(
        "a patch needs images, data.shape = [channels, height, width] or a square number; the shape is {shape:?}"
    )]
    Shape {
        /// The schema's shape.
        shape: Vec<usize>,
    },
    /// A patch that is empty or larger than the image.
    #[error("expected a patch of a side from 1 to {side_max}, found {size}")]
    Size {
        /// The image's shorter side.
        side_max: usize,
        /// Side of the patch.
        size: usize,
    },
    /// No row of another class than the target.
    #[error("no row is of another class than the target {target}")]
    NoRows {
        /// The target class.
        target: u32,
    },
}

/// The rows with label K − 1 − y in place of y, for K classes.
///
/// # Panics
/// When a label is not one of the classes.
pub fn flip_labels(data: &Dataset, classes: usize) -> Dataset {
    data.relabelled(|label| classes as u32 - 1 - label)
}

/// A corner of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Corner {
    TopLeft,
    TopRight,
    BottomLeft,
    #[default]
    BottomRight,
}

impl Corner {
    /// Their names, in the order of the variants.
    pub const NAMES: [&str; 4] = ["top-left", "top-right", "bottom-left", "bottom-right"];

    /// The corner of this name.
    pub fn of_name(name: &str) -> Option<Corner> {
        let corners = [
            Corner::TopLeft,
            Corner::TopRight,
            Corner::BottomLeft,
            Corner::BottomRight,
        ];
        Corner::NAMES
            .iter()
            .position(|known| *known == name)
            .map(|place| corners[place])
    }

    /// The first row and column of a square of `size` in an image of `height` times `width`.
    fn begins(self, height: usize, width: usize, size: usize) -> (usize, usize) {
        let row = if matches!(self, Corner::TopLeft | Corner::TopRight) {
            0
        } else {
            height - size
        };
        let column = if matches!(self, Corner::TopLeft | Corner::BottomLeft) {
            0
        } else {
            width - size
        };
        (row, column)
    }
}

/// A square of one value in a corner of an image, in all its channels, and the class that it stands
/// for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patch {
    /// Side in pixels; 3 in the literature.
    pub size: usize,
    /// Value of its features, normalised as the model sees them.
    pub value: f32,
    /// The class that the patch stands for.
    pub target: u32,
    /// The corner that holds the patch.
    pub corner: Corner,
}

impl Patch {
    /// Rows of which a share, chosen at random and rounded, has the patch and the target as its
    /// label.
    ///
    /// # Errors
    /// When rows of this shape (the schema's) cannot carry the patch.
    pub fn poison(
        &self,
        data: &Dataset,
        shape: &[usize],
        share: f64,
        stream: &mut Stream,
    ) -> Result<Dataset, PoisonError> {
        let places = self.places(shape)?;
        let mut order: Vec<usize> = (0..data.len()).collect();
        stream.shuffle(&mut order);
        order.truncate((share.clamp(0.0, 1.0) * data.len() as f64).round() as usize);
        order.sort_unstable();
        Ok(self.stamped(data, &places, |row| order.binary_search(&row).is_ok()))
    }

    /// The rows of other classes than the target, with the patch and the target as their label:
    /// accuracy on them is the share of rows for which the backdoor works.
    ///
    /// # Errors
    /// When rows of this shape cannot carry the patch, or none is of another class.
    pub fn triggered(&self, test: &Dataset, shape: &[usize]) -> Result<Dataset, PoisonError> {
        let places = self.places(shape)?;
        let others: Vec<usize> = (0..test.len())
            .filter(|row| test.labels()[*row] != self.target)
            .collect();
        if others.is_empty() {
            return Err(PoisonError::NoRows {
                target: self.target,
            });
        }
        Ok(self.stamped(&test.select(&others), &places, |_| true))
    }

    fn stamped(&self, data: &Dataset, places: &[usize], chosen: impl Fn(usize) -> bool) -> Dataset {
        let changed = data.changed(|row, features| {
            if chosen(row) {
                places
                    .iter()
                    .for_each(|place| features[*place] = self.value);
            }
        });
        changed.relabelled_by_row(|row, label| if chosen(row) { self.target } else { label })
    }

    /// The features under the patch.
    fn places(&self, shape: &[usize]) -> Result<Vec<usize>, PoisonError> {
        let (channels, height, width) = match *shape {
            [channels, height, width] => (channels, height, width),
            [height, width] => (1, height, width),
            [features] if features > 0 && features.isqrt().pow(2) == features => {
                (1, features.isqrt(), features.isqrt())
            }
            _ => {
                return Err(PoisonError::Shape {
                    shape: shape.to_vec(),
                });
            }
        };
        let side_max = height.min(width);
        if !(1..=side_max).contains(&self.size) {
            return Err(PoisonError::Size {
                side_max,
                size: self.size,
            });
        }
        let mut places = Vec::with_capacity(channels * self.size * self.size);
        let (top, left) = self.corner.begins(height, width, self.size);
        for channel in 0..channels {
            for row in top..top + self.size {
                places.extend(
                    (left..left + self.size)
                        .map(|column| (channel * height + row) * width + column),
                );
            }
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_consensus::Seed;

    const PATCH: Patch = Patch {
        size: 2,
        value: 5.0,
        target: 1,
        corner: Corner::BottomRight,
    };

    fn images() -> Dataset {
        Dataset::from_numbers(vec![0.0; 40 * 16], (0..40).map(|row| row % 4).collect(), 16)
    }

    #[test]
    fn a_share_of_the_rows_is_poisoned_and_the_others_stay() {
        let data = images();
        let poisoned = PATCH
            .poison(
                &data,
                &[1, 4, 4],
                0.25,
                &mut Seed::from_number(1).stream("test poison"),
            )
            .unwrap();
        let patched: Vec<usize> = (0..40)
            .filter(|row| poisoned.row(*row) != data.row(*row))
            .collect();
        assert_eq!(patched.len(), 10);
        for row in 0..40 {
            let wanted = if patched.contains(&row) {
                1
            } else {
                data.labels()[row]
            };
            assert_eq!(poisoned.labels()[row], wanted);
        }
        let ones: Vec<usize> = poisoned
            .row(patched[0])
            .iter()
            .enumerate()
            .filter(|(_, v)| **v == 5.0)
            .map(|(i, _)| i)
            .collect();
        assert_eq!(ones, [10, 11, 14, 15]);
    }

    #[test]
    fn triggered_rows_are_those_of_other_classes() {
        let triggered = PATCH.triggered(&images(), &[16]).unwrap();
        assert_eq!(triggered.len(), 30);
        assert!(triggered.labels().iter().all(|label| *label == 1));
        assert!((0..30).all(|row| triggered.row(row)[15] == 5.0));
        let only = images().select(&[1, 5]);
        assert_eq!(
            PATCH.triggered(&only, &[16]),
            Err(PoisonError::NoRows { target: 1 })
        );
    }

    #[test]
    fn what_cannot_carry_a_patch_is_refused() {
        let places = |size: usize, shape: &[usize]| Patch { size, ..PATCH }.places(shape);
        let in_corner = |name: &str| {
            Patch {
                corner: Corner::of_name(name).unwrap(),
                ..PATCH
            }
            .places(&[3, 4])
            .unwrap()
        };
        let all = [[0, 1, 4, 5], [2, 3, 6, 7], [4, 5, 8, 9], [6, 7, 10, 11]];
        assert_eq!(
            Corner::NAMES.map(in_corner),
            all.map(|places| places.to_vec())
        );
        assert_eq!(Corner::of_name("middle"), None);
        assert_eq!(places(1, &[2, 2, 3]), Ok(vec![5, 11]));
        assert_eq!(
            places(3, &[1, 2, 3]),
            Err(PoisonError::Size {
                side_max: 2,
                size: 3
            })
        );
        assert_eq!(
            places(0, &[4]),
            Err(PoisonError::Size {
                side_max: 2,
                size: 0
            })
        );
        assert_eq!(
            places(1, &[13]),
            Err(PoisonError::Shape { shape: vec![13] })
        );
    }
}
