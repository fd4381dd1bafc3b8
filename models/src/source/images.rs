//! Images of one size, before the schema is applied, and how their sides compare with its shape.

use std::path::{Path, PathBuf};

use super::error::DataError;
use crate::data::Dataset;
use crate::schema::Schema;

/// Grey images of one size with their labels, as an IDX pair holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pub(crate) name: PathBuf,
    /// Rows of pixels in an image.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Image after image, row after row.
    pub pixels: Vec<u8>,
    /// One label per image.
    pub labels: Vec<u8>,
}

impl Images {
    /// Images from bytes; `name` is what errors call them.
    ///
    /// # Errors
    /// When there are not `labels × height × width` pixels.
    pub fn new(
        name: &str,
        height: usize,
        width: usize,
        pixels: Vec<u8>,
        labels: Vec<u8>,
    ) -> Result<Images, DataError> {
        let images = Images {
            name: name.into(),
            height,
            width,
            pixels,
            labels,
        };
        let expected = images.labels.len() * height * width;
        if images.pixels.len() != expected {
            let (expected, found) = (expected as u64, images.pixels.len() as u64);
            return Err(DataError::Length {
                path: images.name,
                expected,
                found,
            });
        }
        Ok(images)
    }

    /// How these images are rows of the schema, see [`compare_axes`].
    pub(crate) fn axes(&self, schema: &Schema) -> Result<Option<String>, DataError> {
        let found = format!("images of {}×{} pixels", self.height, self.width);
        compare_axes(&self.name, &[self.height, self.width], schema, found)
    }

    pub(super) fn classes(&self, schema: &Schema) -> Result<Vec<u32>, DataError> {
        self.axes(schema)?;
        let class = |(row, label): (usize, &u8)| {
            schema
                .class(u64::from(*label))
                .ok_or_else(|| DataError::Label {
                    path: self.name.clone(),
                    row,
                    found: label.to_string(),
                    classes: schema.classes,
                })
        };
        self.labels.iter().enumerate().map(class).collect()
    }

    pub(super) fn select(&self, rows: &[usize]) -> Images {
        Images {
            name: self.name.clone(),
            height: self.height,
            width: self.width,
            pixels: gather(&self.pixels, rows, self.height * self.width),
            labels: rows.iter().map(|row| self.labels[*row]).collect(),
        }
    }
}

impl Dataset {
    /// The rows of images, normalised by the schema.
    ///
    /// # Errors
    /// When the images have another size than the schema's shape, or a label is not one of its
    /// classes.
    pub fn from_images(images: &Images, schema: &Schema) -> Result<Dataset, DataError> {
        let labels = images.classes(schema)?;
        Ok(Dataset::from_bytes(images.pixels.clone(), labels, schema))
    }
}

fn gather<T: Copy>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
    rows.iter()
        .flat_map(|row| values[row * width..(row + 1) * width].iter().copied())
        .collect()
}

/// Whether rows with these sides are rows of the schema: the same sides in the same order, sides of
/// 1 aside, or one of the two flat. `Ok` says how flat and shaped rows were matched; the order of
/// the values is the file's.
///
/// # Errors
/// [`DataError::Shape`], in which `found` is the file's shape.
pub(crate) fn compare_axes(
    path: &Path,
    sides: &[usize],
    schema: &Schema,
    found: String,
) -> Result<Option<String>, DataError> {
    let long = |sides: &[usize]| {
        sides
            .iter()
            .copied()
            .filter(|side| *side != 1)
            .collect::<Vec<_>>()
    };
    let (theirs, ours) = (long(sides), long(&schema.shape));
    if theirs == ours {
        return Ok(None);
    }
    let product = sides
        .iter()
        .try_fold(1usize, |product, side| product.checked_mul(*side));
    if product == Some(schema.features()) && (theirs.len() == 1 || ours.len() == 1) {
        return Ok(Some(format!(
            "rows of {sides:?} are read as {:?} (data.shape), the last axis running fastest",
            schema.shape
        )));
    }
    let sorted = |mut sides: Vec<usize>| {
        sides.sort_unstable();
        sides
    };
    let turned = if sorted(theirs) == sorted(ours) {
        "; the axes are in another order, channels come first"
    } else {
        ""
    };
    let path = path.to_owned();
    Err(DataError::Shape {
        path,
        expected: schema.shape.clone(),
        found: format!("{found}{turned}"),
    })
}
