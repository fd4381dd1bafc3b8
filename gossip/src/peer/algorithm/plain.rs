//! `plain`: models alone. One local step is D-PSGD (Lian et al. 2017, arXiv 1705.09056), more are
//! FedAvg among neighbours.
//!
//! Where data are unlike, peers settle around the optimum rather than in it, the further off the
//! more local steps they take.

use super::Algorithm;

#[derive(Debug)]
pub(super) struct Plain;

impl Algorithm for Plain {}
