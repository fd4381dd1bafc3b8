//! `plain`: models alone. One local step is D-PSGD (Lian et al. 2017, arXiv 1705.09056), more are
//! FedAvg among neighbours.
//!
//! If data are unlike, peers settle around the optimum rather than in it. The more local steps they
//! take, the further off they settle.

use super::Algorithm;

#[derive(Debug)]
pub(super) struct Plain;

impl Algorithm for Plain {}
