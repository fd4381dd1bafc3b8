//! IDX, the format of MNIST: images of bytes in one file, their labels in another.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use super::error::DataError;
use super::images::Images;
use super::reading::{DATA_BYTES_MAX, PLACEHOLDER, Reading, content, read_values};
use crate::data::Dataset;
use crate::schema::Schema;

const IDX_IMAGES: u32 = 0x0000_0803;
const IDX_LABELS: u32 = 0x0000_0801;

/// The rows of an IDX pair, and how their axes were read. Without a file of labels every row has
/// [`PLACEHOLDER`].
pub(super) fn read(
    images: &Path,
    labels: Option<&Path>,
    schema: &Schema,
) -> Result<(Dataset, Reading), DataError> {
    let images = match labels {
        Some(labels) => read_idx(images, labels, None)?,
        None => {
            let (mut images, count) = read_images(images, None)?;
            images.labels = vec![PLACEHOLDER as u8; count as usize];
            images
        }
    };
    let axes = images.axes(schema)?;
    Ok((
        Dataset::from_images(&images, schema)?,
        Reading {
            axes,
            ..Reading::default()
        },
    ))
}

/// Opens an IDX pair: images (magic 0x0803) and labels (0x0801), gzip or not.
///
/// # Errors
/// A wrong magic number, a wrong length, images of another size than the schema's, labels beyond
/// its classes.
pub fn open_idx(images: &Path, labels: &Path, schema: &Schema) -> Result<Dataset, DataError> {
    open_idx_rows(images, labels, schema, None)
}

/// Opens only some rows of an IDX pair: `rows` are ascending positions, and only their pixels are
/// kept in memory.
///
/// # Errors
/// The errors of [`open_idx`]; also when a row is beyond the last or the order is not ascending.
pub fn open_idx_rows(
    images: &Path,
    labels: &Path,
    schema: &Schema,
    rows: Option<&[usize]>,
) -> Result<Dataset, DataError> {
    Dataset::from_images(&read_idx(images, labels, rows)?, schema)
}

/// Reads an IDX pair, or its rows at these ascending positions.
pub(crate) fn read_idx(
    images: &Path,
    labels: &Path,
    rows: Option<&[usize]>,
) -> Result<Images, DataError> {
    let (mut pair, count) = read_images(images, rows)?;
    let mut reader = content(labels)?;
    let [label_count] = idx_header(labels, &mut reader, IDX_LABELS)?;
    if label_count != count {
        let what = format!(
            "announces {label_count} labels for the {count} images of {}",
            images.display()
        );
        return Err(DataError::format(labels, what));
    }
    pair.labels = read_values(labels, &mut reader, u64::from(count), 1, rows)?;
    Ok(pair)
}

/// Reads images without labels, or those at these ascending positions; and how many the file holds.
fn read_images(images: &Path, rows: Option<&[usize]>) -> Result<(Images, u32), DataError> {
    let mut reader = content(images)?;
    let [count, height, width] = idx_header(images, &mut reader, IDX_IMAGES)?;
    let size = u64::from(height) * u64::from(width);
    if size == 0 || count == 0 || size.saturating_mul(u64::from(count)) > DATA_BYTES_MAX {
        let what = format!(
            "announces {count} images of {height}×{width} pixels; expected at least one and at most 16 GiB"
        );
        return Err(DataError::format(images, what));
    }
    let pixels = read_values(images, &mut reader, u64::from(count), size, rows)?;
    let images = Images {
        name: images.to_owned(),
        height: height as usize,
        width: width as usize,
        pixels,
        labels: Vec::new(),
    };
    Ok((images, count))
}

fn idx_header<const N: usize>(
    path: &Path,
    reader: &mut dyn Read,
    magic: u32,
) -> Result<[u32; N], DataError> {
    let mut word = || {
        let mut bytes = [0; 4];
        reader
            .read_exact(&mut bytes)
            .map(|()| u32::from_be_bytes(bytes))
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => DataError::format(
                    path,
                    format!("expected an IDX header of {} bytes", 4 + 4 * N),
                ),
                _ => DataError::Io {
                    path: path.to_owned(),
                    source,
                },
            })
    };
    let found = word()?;
    if found != magic {
        return Err(DataError::Magic {
            path: path.to_owned(),
            expected: magic,
            found,
        });
    }
    let mut sides = [0; N];
    for side in &mut sides {
        *side = word()?;
    }
    Ok(sides)
}

/// Writes images and labels as an IDX pair.
///
/// # Errors
/// When a file cannot be written.
pub fn write_idx(images_path: &Path, labels_path: &Path, images: &Images) -> Result<(), DataError> {
    let sides = [images.labels.len(), images.height, images.width];
    write_idx_file(images_path, IDX_IMAGES, &sides, &images.pixels)?;
    write_idx_file(labels_path, IDX_LABELS, &sides[..1], &images.labels)
}

fn write_idx_file(
    path: &Path,
    magic: u32,
    sides: &[usize],
    values: &[u8],
) -> Result<(), DataError> {
    let write = || {
        let mut writer = BufWriter::new(File::create(path)?);
        writer.write_all(&magic.to_be_bytes())?;
        for side in sides {
            let side =
                u32::try_from(*side).map_err(|_| io::Error::other("IDX counts end at 2^32"))?;
            writer.write_all(&side.to_be_bytes())?;
        }
        writer.write_all(values)?;
        writer.flush()
    };
    write().map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })
}
