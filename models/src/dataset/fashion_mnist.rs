//! Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747, MIT licence), from the four files of its authors. 30 MB, so it
//! is not compiled in; Debian packages it.

use std::path::{Path, PathBuf};

use super::{DatasetEntry, DatasetOptions, Loaded, Split, TestSize};
use crate::data::{Images, Source};
use crate::source::{DataError, read_idx};

/// Where Debian's package puts the files.
const DEBIAN: &str = "/usr/share/datasets/fashion-mnist";
/// Names the folder with the files.
const VARIABLE: &str = "KITH_FASHION_MNIST";

pub(super) const ENTRY: DatasetEntry = DatasetEntry {
    name: "fashion-mnist",
    help: "60,000 + 10,000 pictures of clothes, 28×28, 10 classes; Debian package dataset-fashion-mnist",
    load,
    // Pixels to [0, 1]. Learning rate: measured best of 0.01, 0.02 and 0.05 for ten IID peers of 600 rows that average for 20
    // rounds (0.811, 0.822, 0.833); one peer with all 60,000 rows does better with 0.02 (0.864 against 0.837, 4 epochs).
    defaults: r#"[data]
shape = [1, 28, 28]
classes = 10
mean = [0.0]
deviation = [255.0]

[model]
kind = "mlp"
hidden = [128, 64]

[training]
learning_rate = 0.05
momentum = 0.9
batch_size = 32
local_epochs = 1
"#,
};

fn load(options: &DatasetOptions) -> Result<Loaded, DataError> {
    let from_environment = std::env::var_os(VARIABLE).map(PathBuf::from);
    let searched: Vec<PathBuf> =
        options.directory.iter().cloned().chain(from_environment).chain([PathBuf::from(DEBIAN)]).collect();
    let Some(directory) = searched.iter().find(|directory| file(directory, "train-images-idx3-ubyte").is_some()) else {
        let places: Vec<String> = searched.iter().map(|directory| directory.display().to_string()).collect();
        let what = format!(
            "train-images-idx3-ubyte[.gz] is in none of: {}; install it with `apt-get install dataset-fashion-mnist`, \
             or name the folder of its four files with the data set's folder option or in {VARIABLE}",
            places.join(", ")
        );
        return Err(DataError::format("fashion-mnist".as_ref(), what));
    };
    let read = |part: &str| {
        let find = |kind: &str| {
            let name = format!("{part}-{kind}-ubyte");
            file(directory, &name).ok_or_else(|| DataError::format(directory, format!("{name}[.gz] is missing")))
        };
        read_idx(&find("images-idx3")?, &find("labels-idx1")?, None)
    };
    let Images { height, width, mut pixels, mut labels, .. } = read("train")?;
    let train = labels.len();
    let test = read("t10k")?;
    pixels.extend(test.pixels);
    labels.extend(test.labels);
    let official = Split { train: (0..train).collect(), test: (train..labels.len()).collect() };
    let images = Images::new("fashion-mnist", height, width, pixels, labels)?;
    Ok(Loaded { source: Source::Images(images), official: Some(official), test: TestSize::Rows(10_000), sites: None })
}

fn file(directory: &Path, name: &str) -> Option<PathBuf> {
    [directory.join(name), directory.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}
