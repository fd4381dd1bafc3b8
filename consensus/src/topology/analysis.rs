//! The analysis of a graph: degrees, distances, how many peers must fail before it falls apart, how
//! fast it mixes.
//!
//! With slem = the second largest absolute eigenvalue of W, disagreement shrinks by slem a round on
//! symmetric graphs (Boyd et al. 2006, doi 10.1109/TIT.2006.874516). Cost n³ for the spectrum;
//! everything else is cheap against it.

use std::borrow::Borrow;
use std::collections::VecDeque;

use nalgebra::DMatrix;
use serde::Serialize;

use super::Graph;
use super::graph::{connected_together, reachable};

/// Properties of a graph and its mixing matrix W. A property without meaning for a directed graph
/// is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// Number of peers.
    pub n: usize,
    /// Whether an edge may carry updates one way only.
    pub directed: bool,
    /// Number of edges, as [`Graph::edges`] lists them.
    pub edge_count: usize,
    /// Whether every peer's updates reach every other peer, directly or through others.
    pub connected: bool,
    /// Parts between which no update travels both ways.
    pub components: usize,
    /// Fewest peers that one receives from.
    pub min_degree: usize,
    /// Most peers that one receives from.
    pub max_degree: usize,
    /// Longest shortest path; `None` if disconnected.
    pub diameter: Option<usize>,
    /// Mean over all ordered pairs; `None` if disconnected or alone.
    pub average_shortest_path: Option<f64>,
    /// How many peers must go before the others are disconnected (n − 1 if that cannot happen).
    /// Honest peers stay connected if fewer than this are Byzantine.
    pub vertex_connectivity: usize,
    /// Second largest eigenvalue of W.
    pub lambda_2: Option<f64>,
    /// Smallest eigenvalue of W.
    pub lambda_n: Option<f64>,
    /// Second largest absolute eigenvalue of W.
    pub slem: f64,
    /// 1 − slem.
    pub spectral_gap: f64,
    /// p in ‖WX − mean‖² ≤ (1 − p) ‖X − mean‖²: 1 − ‖W − J/n‖₂², which is 1 − slem² if W is
    /// symmetric.
    pub consensus_p: f64,
    /// ‖W − J/n‖₂.
    pub two_norm_minus_average: f64,
    /// Second smallest eigenvalue of the Laplacian.
    pub algebraic_connectivity: Option<f64>,
    /// Whether every row of W sums to 1 (1e-12).
    pub row_stochastic: bool,
    /// Whether every column of W sums to 1 (1e-12), so that the mean is kept.
    pub column_stochastic: bool,
    /// Expected rounds until disagreement has shrunk by a factor of 1000, from slem; `None` if it
    /// never does.
    pub rounds_to_consensus: Option<u64>,
    /// W, if it is symmetric and small enough to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metropolis_hastings: Option<Vec<Vec<f64>>>,
}

/// How well graphs that follow each other mix together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeriodAnalysis {
    /// Number of rounds after which the graphs begin again.
    pub period: u64,
    /// ‖W_t … W_1 − J/n‖₂ after each round: how far peers can be from the mean of what all began
    /// with.
    pub residual_two_norm_after_each_round: Vec<f64>,
    /// ‖(I − J/n) W_t … W_1‖₂ after each round: how far they can be from each other. The same as
    /// the residual if W keeps the mean.
    pub disagreement_two_norm_after_each_round: Vec<f64>,
    /// Whether everyone holds the exact average (1e-9) at the end of the period.
    pub exact_average_after_period: bool,
}

impl PeriodAnalysis {
    /// The analysis of `graphs`, one per round of the period, over the same peers.
    pub fn of<G: Borrow<Graph>>(graphs: &[G]) -> PeriodAnalysis {
        let n = graphs.first().map_or(0, |graph| graph.borrow().peers());
        let average = DMatrix::from_element(n, n, 1.0 / n.max(1) as f64);
        let mut product = DMatrix::identity(n, n);
        let norms = graphs.iter().map(|graph| {
            product = matrix(graph.borrow()) * &product;
            let residual = two_norm(&(&product - &average));
            let means = product.row_mean();
            if means
                .iter()
                .all(|mean| (mean * n as f64 - 1.0).abs() <= ROUNDING)
            {
                return (residual, residual);
            }
            (
                residual,
                two_norm(&DMatrix::from_fn(n, n, |to, from| {
                    product[(to, from)] - means[from]
                })),
            )
        });
        let (residual_two_norm_after_each_round, disagreement_two_norm_after_each_round) =
            norms.unzip();
        let exact_average_after_period = (&product - &average).amax() <= 1e-9;
        PeriodAnalysis {
            period: graphs.len() as u64,
            residual_two_norm_after_each_round,
            disagreement_two_norm_after_each_round,
            exact_average_after_period,
        }
    }
}

fn matrix(graph: &Graph) -> DMatrix<f64> {
    DMatrix::from_fn(graph.peers(), graph.peers(), |to, from| {
        graph.entry(to, from)
    })
}

/// Largest graph whose matrix is part of its analysis.
const MATRIX_PEERS_MAX: usize = 128;

/// A generous bound on the rounding error of an eigenvalue 0 or of a sum 1.
const ROUNDING: f64 = 1e-12;

/// 1 − the second largest absolute eigenvalue of a matrix whose rows sum to 1, of which nothing
/// else is known: 0 if it leaves parts apart, NaN if its eigenvalues were not found. Takes n³
/// steps.
///
/// # Panics
/// When the rows are not as long as there are rows.
pub fn spectral_gap(rows: &[Vec<f64>]) -> f64 {
    assert!(
        rows.iter().all(|row| row.len() == rows.len()),
        "a mixing matrix is square"
    );
    let matrix = DMatrix::from_fn(rows.len(), rows.len(), |row, column| rows[row][column]);
    if matrix != matrix.transpose() {
        return (1.0 - slem(&matrix)).clamp(0.0, 1.0);
    }
    let values = ascending(matrix);
    let inner = values
        .len()
        .checked_sub(2)
        .map_or(0.0, |second| values[second].abs().max(values[0].abs()));
    (1.0 - inner).clamp(0.0, 1.0)
}

impl Graph {
    /// Degrees, distances, connectivity and the spectrum of the mixing matrix. Takes n³ steps:
    /// seconds for a thousand peers.
    pub fn analyse(&self) -> Analysis {
        let n = self.peers();
        let degrees = || (0..n).map(|peer| self.receives_from(peer).len());
        let connected = connected_together(std::slice::from_ref(self));
        let distances = if connected {
            Some(self.distances())
        } else {
            None
        };
        let matrix = matrix(self);
        let stochastic = |matrix: &DMatrix<f64>| {
            matrix
                .row_iter()
                .all(|row| (row.sum() - 1.0).abs() <= ROUNDING)
        };
        let spectrum = Spectrum::of(self, &matrix);
        let spectral_gap = if connected { 1.0 - spectrum.slem } else { 0.0 };
        Analysis {
            n,
            directed: self.is_directed(),
            edge_count: self.edges().count(),
            connected,
            components: self.components(),
            min_degree: degrees().min().unwrap_or(0),
            max_degree: degrees().max().unwrap_or(0),
            diameter: distances.as_ref().map(|(longest, _)| *longest),
            average_shortest_path: distances
                .filter(|_| n > 1)
                .map(|(_, sum)| sum as f64 / (n * (n - 1)) as f64),
            vertex_connectivity: self.vertex_connectivity(),
            lambda_2: spectrum.lambda_2,
            lambda_n: spectrum.lambda_n,
            slem: spectrum.slem,
            spectral_gap,
            consensus_p: if connected {
                1.0 - spectrum.two_norm.powi(2)
            } else {
                0.0
            },
            two_norm_minus_average: spectrum.two_norm,
            algebraic_connectivity: spectrum.algebraic_connectivity,
            row_stochastic: stochastic(&matrix),
            column_stochastic: stochastic(&matrix.transpose()),
            rounds_to_consensus: rounds_to_consensus(spectrum.slem, connected),
            metropolis_hastings: (!self.is_directed() && n <= MATRIX_PEERS_MAX)
                .then(|| self.mixing_matrix()),
        }
    }

    /// Longest shortest path and the sum of all; every peer is reachable.
    fn distances(&self) -> (usize, usize) {
        let (mut longest, mut sum) = (0, 0);
        for start in 0..self.peers() {
            let mut distance = vec![usize::MAX; self.peers()];
            distance[start] = 0;
            let mut open = VecDeque::from([start]);
            while let Some(peer) = open.pop_front() {
                for next in self.sends_to(peer) {
                    if distance[*next] == usize::MAX {
                        distance[*next] = distance[peer] + 1;
                        open.push_back(*next);
                    }
                }
            }
            longest = distance.iter().copied().fold(longest, usize::max);
            sum += distance.iter().sum::<usize>();
        }
        (longest, sum)
    }

    /// Number of (strongly) connected parts.
    fn components(&self) -> usize {
        let reach = |start, next| reachable(std::slice::from_ref(self), start, next);
        let mut counted = vec![false; self.peers()];
        let mut components = 0;
        for peer in 0..self.peers() {
            if !counted[peer] {
                components += 1;
                let (forward, backward) = (
                    reach(peer, Graph::sends_to),
                    reach(peer, Graph::receives_from),
                );
                (0..self.peers())
                    .filter(|other| forward[*other] && backward[*other])
                    .for_each(|other| counted[other] = true);
            }
        }
        components
    }

    /// The smallest number of peers whose removal leaves some peer unable to reach another: the
    /// minimum over pairs without an edge of the number of paths that share no peer (Menger); n − 1
    /// if every pair has an edge.
    fn vertex_connectivity(&self) -> usize {
        let n = self.peers();
        let mut fewest = n.saturating_sub(1);
        let Some(pivot) = (0..n).min_by_key(|peer| self.receives_from(*peer).len()) else {
            return 0;
        };
        // A smallest separator either misses the pivot, and separates it from somebody, or holds
        // it; then the pivot links two sides, and two of its neighbours are separated (Esfahanian
        // and Hakimi 1984).
        let others = (0..n).filter(|other| *other != pivot).flat_map(|other| {
            let back = self.is_directed().then_some((other, pivot));
            std::iter::once((pivot, other)).chain(back)
        });
        let linked = self
            .receives_from(pivot)
            .iter()
            .flat_map(|from| self.sends_to(pivot).iter().map(|to| (*from, *to)));
        let linked = linked.filter(|(from, to)| {
            if self.is_directed() {
                from != to
            } else {
                from < to
            }
        });
        let mut flow = Flow::through(self);
        for (from, to) in others.chain(linked) {
            if self.sends_to(from).binary_search(&to).is_err() {
                fewest = fewest.min(flow.paths(from, to, fewest));
            }
        }
        fewest
    }
}

/// Maximum flow through a graph whose every peer can be passed once: peer p is entered at 2p and
/// left at 2p + 1.
struct Flow {
    /// Arcs by the place they leave. Arc a and arc a ^ 1 are each other's reverse.
    leaving: Vec<Vec<usize>>,
    head: Vec<usize>,
    free: Vec<bool>,
}

impl Flow {
    fn through(graph: &Graph) -> Flow {
        let mut flow = Flow {
            leaving: vec![Vec::new(); 2 * graph.peers()],
            head: Vec::new(),
            free: Vec::new(),
        };
        for peer in 0..graph.peers() {
            flow.add(2 * peer, 2 * peer + 1);
            graph
                .sends_to(peer)
                .iter()
                .for_each(|next| flow.add(2 * peer + 1, 2 * next));
        }
        flow
    }

    fn add(&mut self, from: usize, to: usize) {
        for (from, to) in [(from, to), (to, from)] {
            self.leaving[from].push(self.head.len());
            self.head.push(to);
        }
    }

    /// Paths from one peer to another that share no peer between them, counted up to `limit`.
    fn paths(&mut self, from: usize, to: usize, limit: usize) -> usize {
        self.free = (0..self.head.len()).map(|arc| arc % 2 == 0).collect();
        (0..limit)
            .take_while(|_| self.augment(2 * from + 1, 2 * to))
            .count()
    }

    /// Finds one more path by breadth-first search and turns its arcs round; false if there is
    /// none.
    fn augment(&mut self, start: usize, end: usize) -> bool {
        let mut arrived: Vec<Option<usize>> = vec![None; self.leaving.len()];
        let mut open = VecDeque::from([start]);
        while let Some(place) = open.pop_front() {
            for arc in &self.leaving[place] {
                let next = self.head[*arc];
                if self.free[*arc] && next != start && arrived[next].is_none() {
                    arrived[next] = Some(*arc);
                    open.push_back(next);
                }
            }
            if arrived[end].is_some() {
                break;
            }
        }
        let mut place = end;
        while let Some(arc) = arrived[place] {
            self.free.swap(arc, arc ^ 1);
            place = self.head[arc ^ 1];
        }
        place == start
    }
}

/// What follows from the eigenvalues and singular values of W.
struct Spectrum {
    lambda_2: Option<f64>,
    lambda_n: Option<f64>,
    slem: f64,
    two_norm: f64,
    algebraic_connectivity: Option<f64>,
}

impl Spectrum {
    fn of(graph: &Graph, matrix: &DMatrix<f64>) -> Spectrum {
        let n = graph.peers();
        let average = DMatrix::from_element(n, n, 1.0 / n as f64);
        if graph.is_directed() {
            let two_norm = two_norm(&(matrix - average));
            return Spectrum {
                lambda_2: None,
                lambda_n: None,
                slem: slem(matrix),
                two_norm,
                algebraic_connectivity: None,
            };
        }
        let values = ascending(matrix.clone());
        let (lambda_2, lambda_n) = if n > 1 {
            (values[n - 2], values[0])
        } else {
            (0.0, 0.0)
        };
        let slem = lambda_2.abs().max(lambda_n.abs());
        let degree = |peer: usize| graph.sends_to(peer).len();
        let algebraic_connectivity = if n <= 1 {
            0.0
        } else if (1..n).all(|peer| degree(peer) == degree(0)) {
            // Every weight is 1 / (1 + degree), so W = I − L / (1 + degree).
            (1 + degree(0)) as f64 * (1.0 - lambda_2)
        } else {
            let laplacian = DMatrix::from_fn(n, n, |row, column| match row == column {
                true => degree(row) as f64,
                false => -f64::from(u8::from(graph.mixing_weight(row, column) > 0.0)),
            });
            ascending(laplacian)[1]
        };
        let algebraic_connectivity = Some(algebraic_connectivity);
        Spectrum {
            lambda_2: Some(lambda_2),
            lambda_n: Some(lambda_n),
            slem,
            two_norm: slem,
            algebraic_connectivity,
        }
    }
}

/// The eigenvalues of a symmetric matrix.
fn ascending(matrix: DMatrix<f64>) -> Vec<f64> {
    if matrix.is_empty() {
        return Vec::new();
    }
    let mut values: Vec<f64> = matrix.symmetric_eigenvalues().iter().copied().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// ‖A‖₂: the root of the largest eigenvalue of AᵀA.
fn two_norm(matrix: &DMatrix<f64>) -> f64 {
    if matrix.is_empty() {
        0.0
    } else {
        matrix.singular_values().max()
    }
}

/// The second largest absolute eigenvalue of a row-stochastic matrix that need not be symmetric.
fn slem(matrix: &DMatrix<f64>) -> f64 {
    /// Steps of the QR iteration per peer before it is given up; it usually takes two or three.
    const STEPS: usize = 100;
    let Some(schur) =
        nalgebra::linalg::Schur::try_new(matrix.clone(), f64::EPSILON, STEPS * matrix.nrows())
    else {
        return f64::NAN;
    };
    let mut values: Vec<f64> = schur
        .complex_eigenvalues()
        .iter()
        .map(|value| value.norm_sqr().sqrt())
        .collect();
    values.sort_by(f64::total_cmp);
    if values.len() > 1 {
        values[values.len() - 2]
    } else {
        0.0
    }
}

fn rounds_to_consensus(slem: f64, connected: bool) -> Option<u64> {
    let rounds = (1e-3f64.ln() / slem.max(ROUNDING).ln()).ceil();
    (connected && slem < 1.0 - ROUNDING).then_some(rounds as u64)
}
