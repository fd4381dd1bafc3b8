//! Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747, MIT licence), from the four files of
//! its authors. 30 MB, so it is not compiled in; Debian packages it.

use std::path::{Path, PathBuf};

use super::{DatasetEntry, DatasetFiles, DatasetOptions, Loaded, Split, TestSize};
use crate::source::{DataError, Images, Source, read_idx};

/// Where Debian's package puts the files.
const DEBIAN: &str = "/usr/share/datasets/fashion-mnist";
/// Names the folder with the files.
const VARIABLE: &str = "KITH_FASHION_MNIST";

pub(super) const ENTRY: DatasetEntry = DatasetEntry {
    name: "fashion-mnist",
    help: "60,000 + 10,000 pictures of clothes, 28×28, 10 classes; Debian package dataset-fashion-mnist",
    source: "Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747",
    main_key: None,
    new: DatasetFiles {
        load,
        // Pixels to [0, 1]. Learning rate: measured best of 0.01, 0.02 and 0.05 for ten IID peers of
        // 600 rows that average for 20 rounds (0.811, 0.822, 0.833); one peer with all 60,000 rows does
        // better with 0.02 (0.864 against 0.837, 4 epochs).
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
    },
};

/// Its four files, each perhaps compressed.
const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

fn load(options: &DatasetOptions) -> Result<Loaded, DataError> {
    // If the user names a folder, only that one is searched: other rows in its place would go
    // unnoticed.
    let searched: Vec<PathBuf> = match &options.directory {
        Some(directory) => vec![directory.clone()],
        None => std::env::var_os(VARIABLE)
            .map(PathBuf::from)
            .into_iter()
            .chain([PathBuf::from(DEBIAN)])
            .collect(),
    };
    if let Some(directory) = &options.directory {
        let missing: Vec<String> = FILES
            .iter()
            .filter(|name| file(directory, name).is_none())
            .map(|name| format!("{name}[.gz]"))
            .collect();
        if !missing.is_empty() {
            return Err(DataError::format(
                directory,
                format!(
                    "expected the four files of Fashion-MNIST there; missing: {}",
                    missing.join(", ")
                ),
            ));
        }
    }
    let Some(directory) = searched
        .iter()
        .find(|directory| file(directory, "train-images-idx3-ubyte").is_some())
    else {
        let places: Vec<String> = searched
            .iter()
            .map(|directory| directory.display().to_string())
            .collect();
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
            file(directory, &name)
                .ok_or_else(|| DataError::format(directory, format!("{name}[.gz] is missing")))
        };
        read_idx(&find("images-idx3")?, &find("labels-idx1")?, None)
    };
    let Images {
        height,
        width,
        mut pixels,
        mut labels,
        ..
    } = read("train")?;
    let train = labels.len();
    let test = read("t10k")?;
    pixels.extend(test.pixels);
    labels.extend(test.labels);
    let official = Split {
        train: (0..train).collect(),
        test: (train..labels.len()).collect(),
    };
    let images = Images::new("fashion-mnist", height, width, pixels, labels)?;
    Ok(Loaded {
        source: Source::Images(images),
        official: Some(official),
        test: TestSize::Rows(10_000),
        sites: None,
    })
}

fn file(directory: &Path, name: &str) -> Option<PathBuf> {
    [directory.join(name), directory.join(format!("{name}.gz"))]
        .into_iter()
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_folder_without_the_files_is_an_error_that_names_both_wherever_else_there_are_some() {
        let folder = std::env::temp_dir().join(format!("kith-fashion-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(FILES[0]), "no images").unwrap();
        let told = load(&DatasetOptions {
            directory: Some(folder.clone()),
        })
        .unwrap_err()
        .to_string();
        assert!(told.contains(&folder.display().to_string()), "{told}");
        assert!(
            !told.contains(FILES[0]) && FILES[1..].iter().all(|name| told.contains(name)),
            "{told}"
        );
        let nowhere = folder.join("nowhere");
        let told = load(&DatasetOptions {
            directory: Some(nowhere.clone()),
        })
        .unwrap_err()
        .to_string();
        assert!(
            told.contains(&nowhere.display().to_string())
                && FILES.iter().all(|name| told.contains(name)),
            "{told}"
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
