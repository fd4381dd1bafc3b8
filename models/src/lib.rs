//! Learning: models, data sets and their partitions, local training and evaluation.
//!
//! A peer's work is a [`Task`] (schema, model and training, all from the charter) over its own
//! [`Dataset`]. The parameters are one `Vec<f32>`, in the order of the sorted tensor names
//! ([`Layout`]); everything else in Kith sees only that vector.
//!
//! This crate knows no network, no clock and no task runtime; it draws randomness only from the
//! seeds that it gets. Training a model that is a [`model::Network`], as all listed ones are, gives
//! the same bits for any number of threads and any width of registers. Results of candle repeat on
//! one machine with `RAYON_NUM_THREADS=1`.
//!
//! Start reading at [`task`]. The tables [`MODELS`], [`DATASETS`], [`PARTITIONS`] and
//! [`OBJECTIVES`] list the choices.

pub mod audit;
pub mod data;
pub mod dataset;
pub mod evaluation;
pub mod far;
pub mod file;
pub mod holdout;
mod loss;
pub mod model;
pub mod partition;
pub mod poison;
pub mod schema;
mod site;
pub mod skew;
pub mod source;
pub mod task;
pub mod trainer;
pub mod training;

pub use data::Dataset;
pub use dataset::{DATASETS, DatasetEntry, DatasetOptions, Loaded, Site, Split, TestSize};
pub use evaluation::{ClassReport, Evaluation, auc};
pub use far::{FarValue, far_values};
pub use file::{Inspection, Tensors, inspect, model_header, read_model, read_tensors, write_model};
pub use holdout::{hold_out, rows_in_both};
pub use model::{Layout, MODELS, ModelEntry, ModelSection, Operation, TensorSpec};
pub use partition::{PARTITIONS, Partition, PartitionEntry, PartitionError, Place, Rows};
pub use poison::{Corner, Patch, PoisonError, flip_labels};
pub use schema::{Column, ColumnKind, Schema};
pub use skew::{LabelSkew, SkewReport};
pub use source::{
    DataError, Images, Opening, RawTable, Reading, Source, open, open_as, open_idx,
    open_unlabelled, write_csv, write_idx,
};
pub use task::{ModelError, Task};
pub use trainer::{
    PrivateError, PrivateTraining, PrivatelyTrained, Request, Trained, Trainer, Units,
    fresh_release_key,
};
pub use training::{
    Local, MOMENTUM_SCOPES, MomentumEntry, MomentumScope, OBJECTIVES, Objective, ObjectiveEntry,
    TrainingSection,
};
