//! The quality of parameters on rows that they were not trained on.

use crate::data::{Dataset, class_counts};
use crate::loss::{cross_entropy, log_sum_exp};
use crate::task::{ModelError, Task};

/// The quality of parameters on rows that they were not trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy, natural logarithm.
    pub loss: f64,
    /// Share of rows whose most probable class is their label.
    pub accuracy: f64,
    /// Number of rows evaluated.
    pub samples: u64,
    /// The same per class.
    pub classes: Vec<ClassReport>,
}

/// One class's part of an [`Evaluation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassReport {
    /// Number of the class, from 0.
    pub class: u32,
    /// Number of its rows.
    pub samples: u64,
    /// Rows of it that were classified correctly.
    pub correct: u64,
}

impl Evaluation {
    /// Mean, over the classes that occur, of the share classified correctly: meaningful even if one
    /// class is frequent.
    pub fn balanced_accuracy(&self) -> f64 {
        let shares: Vec<f64> = self
            .classes
            .iter()
            .filter(|class| class.samples > 0)
            .map(|class| class.correct as f64 / class.samples as f64)
            .collect();
        shares.iter().sum::<f64>() / shares.len() as f64
    }
}

impl Task {
    /// Loss and accuracy of these parameters on these rows.
    ///
    /// # Errors
    /// When parameters or rows do not suit the task. Parameters that are not finite give a loss
    /// that is not finite.
    pub fn evaluate(&self, parameters: &[f32], data: &Dataset) -> Result<Evaluation, ModelError> {
        let classes = self.schema().classes;
        let mut loss = 0.0;
        let mut correct = vec![0; classes];
        self.for_each_row(parameters, data, |row, logits| {
            let label = data.labels()[row] as usize;
            let largest = (0..classes).fold(0, |best, class| {
                if logits[class] > logits[best] {
                    class
                } else {
                    best
                }
            });
            correct[label] +=
                u64::from(largest == label && logits.iter().all(|logit| logit.is_finite()));
            loss += cross_entropy(logits, label);
        })?;
        let samples = data.len() as u64;
        let counts = class_counts(data.labels(), classes);
        Ok(Evaluation {
            loss: loss / samples as f64,
            accuracy: correct.iter().sum::<u64>() as f64 / samples as f64,
            samples,
            classes: (0..classes)
                .map(|class| ClassReport {
                    class: class as u32,
                    samples: counts[class],
                    correct: correct[class],
                })
                .collect(),
        })
    }

    /// The logit of each class, for each row: the model's outputs, whose softmax is
    /// [`Task::scores`].
    ///
    /// # Errors
    /// When parameters or rows do not suit the task.
    pub fn logits(&self, parameters: &[f32], data: &Dataset) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut all = Vec::with_capacity(data.len());
        self.for_each_row(parameters, data, |_, logits| all.push(logits.to_vec()))?;
        Ok(all)
    }

    /// The probability of each class, for each row.
    ///
    /// # Errors
    /// When parameters or rows do not suit the task.
    pub fn scores(&self, parameters: &[f32], data: &Dataset) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut scores = Vec::with_capacity(data.len());
        self.for_each_row(parameters, data, |_, logits| {
            let sum = log_sum_exp(logits);
            scores.push(
                logits
                    .iter()
                    .map(|logit| (f64::from(*logit) - sum).exp() as f32)
                    .collect(),
            );
        })?;
        Ok(scores)
    }
}

/// Area under the ROC curve of two classes: the chance that a row of class 1 has a higher score for
/// class 1 than a row of class 0, ties counted half (Hanley and McNeil 1982). `None` if scores are
/// not of two classes or a class has no row.
pub fn auc(scores: &[Vec<f32>], labels: &[u32]) -> Option<f64> {
    if scores.len() != labels.len()
        || scores.iter().any(|row| row.len() != 2)
        || labels.iter().any(|label| *label > 1)
    {
        return None;
    }
    let mut ranked: Vec<(f32, u32)> = scores
        .iter()
        .zip(labels)
        .map(|(row, label)| (row[1], *label))
        .collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins, mut start) = (0.0, 0.0, 0);
    while start < ranked.len() {
        let tied = ranked[start..]
            .partition_point(|row| row.0 == ranked[start].0)
            .max(1);
        let ones = ranked[start..start + tied]
            .iter()
            .filter(|row| row.1 == 1)
            .count() as f64;
        let zeros = tied as f64 - ones;
        wins += ones * (below + zeros / 2.0);
        below += zeros;
        start += tied;
    }
    let ones = ranked.len() as f64 - below;
    (ones > 0.0 && below > 0.0).then(|| wins / (ones * below))
}
