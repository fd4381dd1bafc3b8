//! Handwritten digits, 8×8 (Alpaydin and Kaynak 1998, CC BY 4.0), compiled in: the data set that always works.

use super::{DatasetEntry, Loaded, TestSize};
use crate::data::Source;
use crate::source::images_from_csv;

pub(super) const ENTRY: DatasetEntry = DatasetEntry {
    name: "digits",
    help: "1,797 handwritten digits of 8×8 pixels, 10 classes; compiled in",
    load: |_| {
        let source = Source::Images(images_from_csv("digits", include_bytes!("../../data/digits.csv.gz"), 8, 8)?);
        // 360 is a fifth, the customary share; the file is the test part of the original, without a split of its own.
        Ok(Loaded { source, official: None, test: TestSize::Rows(360), sites: None })
    },
    // Pixels go from 0 to 16. Learning rate and size measured: models/tests/accuracy.rs.
    defaults: r#"[data]
shape = [64]
classes = 10
mean = [0.0]
deviation = [16.0]

[model]
kind = "mlp"
hidden = [32]

[training]
learning_rate = 0.05
momentum = 0.9
batch_size = 32
local_epochs = 2
"#,
};
