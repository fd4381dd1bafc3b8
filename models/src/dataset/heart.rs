//! Heart disease of four hospitals (Janosi, Steinbrunn, Pfisterer and Detrano 1988, CC BY 4.0),
//! compiled in: a naturally federated table with real missing values and real differences between
//! the sites.
//!
//! For demonstration; a model trained on it is not a medical device.

use std::collections::BTreeMap;
use std::path::Path;

use super::{DatasetEntry, DatasetFiles, Loaded, Site, TestSize};
use crate::source::{DataError, RawTable, Source};

pub(super) const ENTRY: DatasetEntry = DatasetEntry {
    name: "heart",
    help: "920 patients of four hospitals, heart disease or not, with missing values; compiled in; has natural sites",
    source: "Janosi, Steinbrunn, Pfisterer and Detrano 1988, UCI, doi 10.24432/C52P4X",
    main_key: None,
    new: DatasetFiles {
        load: |_| {
            let table = RawTable::read(
                Path::new("heart"),
                include_bytes!("../../data/heart_disease_uci.csv").as_slice(),
            )?;
            let hospitals = table
                .column("dataset")
                .ok_or_else(|| DataError::format("heart".as_ref(), "no column dataset"))?;
            let mut sites = BTreeMap::<String, Vec<usize>>::new();
            hospitals.enumerate().for_each(|(row, hospital)| {
                sites.entry(hospital.to_owned()).or_default().push(row)
            });
            let sites = sites
                .into_iter()
                .map(|(name, rows)| Site { name, rows })
                .collect();
            Ok(Loaded {
                source: Source::Table(table),
                official: None,
                test: TestSize::Share(0.25),
                sites: Some(sites),
            })
        },
        defaults: DEFAULTS,
    },
};

/// Means, deviations and stand-ins are round values of the kind a cardiologist would name for
/// middle-aged patients sent for chest pain; none is computed from these rows. So the schema
/// releases nothing about them and no test row leaks into it. A blood pressure or cholesterol of 0
/// was not measured. A missing category is all zeros. Softmax regression, because 690 training rows
/// carry little more; batch and learning rate measured: models/tests/accuracy.rs.
const DEFAULTS: &str = r#"[data]
classes = 2
label = "num"
label_clamp = true

[[data.column]]
name = "age"
mean = 54
deviation = 9
impute = 54

[[data.column]]
name = "sex"
kind = "category"
values = ["Female", "Male"]

[[data.column]]
name = "cp"
kind = "category"
values = ["typical angina", "atypical angina", "non-anginal", "asymptomatic"]

[[data.column]]
name = "trestbps"
mean = 130
deviation = 20
impute = 130
missing = [0]

[[data.column]]
name = "chol"
mean = 240
deviation = 50
impute = 240
missing = [0]

[[data.column]]
name = "fbs"
kind = "category"
values = ["FALSE", "TRUE"]

[[data.column]]
name = "restecg"
kind = "category"
values = ["normal", "st-t abnormality", "lv hypertrophy"]

[[data.column]]
name = "thalch"
mean = 140
deviation = 25
impute = 140

[[data.column]]
name = "exang"
kind = "category"
values = ["FALSE", "TRUE"]

[[data.column]]
name = "oldpeak"
mean = 1
deviation = 1
impute = 1

[[data.column]]
name = "slope"
kind = "category"
values = ["upsloping", "flat", "downsloping"]

[[data.column]]
name = "ca"
kind = "category"
values = ["0", "1", "2", "3"]

[[data.column]]
name = "thal"
kind = "category"
values = ["normal", "fixed defect", "reversable defect"]

[model]
kind = "softmax"

[training]
learning_rate = 0.05
momentum = 0.9
weight_decay = 0.001
batch_size = 32
local_epochs = 1
"#;
