//! `power-sgd`: every matrix of the model as a product of two thin ones.
//!
//! Paper: Vogels, Karimireddy, Jaggi, "PowerSGD" (NeurIPS 2019). Subspace iteration for a matrix M
//! of m × n values and rank r: P = MQ, orthonormalised (modified Gram–Schmidt), Q = MᵀP; decoded as
//! PQᵀ. Biased; with orthonormal P the error is ‖M‖² − ‖PᵀM‖², never more than ‖M‖². A vector that
//! stands still is reached in rank(M)/r rounds, so the default is a replica codec;
//! `replica = false` is for experiments. No warm start: the paper keeps Q from step to step, but
//! encoding keeps no state here. Each update starts from numbers of the sender's own stream and
//! takes `iterations` rounds of the iteration. Decoding draws nothing. Cost: 2 · iterations · r · m
//! · n multiplications to encode, r · m · n to decode. Payload: the vector from front to back, each
//! matrix as P and Q column by column in 32-bit floats, 4r(m+n) bytes. All else is dense: vectors,
//! and matrices that this would not make smaller. Without [`Codec::shape`] (or with shapes that do
//! not fit) the vector is taken as one matrix of ⌊√d⌋ rows, which finds less structure than the
//! model's own matrices have.

use kith_consensus::{Section, Stream};

use super::sums::dot;
use super::{Codec, CodecError, Form, Randomness, TensorShape, form, identity, unit_of};

/// Share of a column's length below which the rest that orthogonalisation leaves is rounding noise.
const NOISE: f64 = 1e-7;

#[derive(Debug)]
struct PowerSgd {
    form: Form,
    rank: usize,
    iterations: u64,
    tensors: Vec<TensorShape>,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    // Rank 2: the paper's for ResNet-18 (section 5). Two iterations instead of its one, because
    // there is no warm start (guess).
    let rank = section.integer("rank", Some(2), 1..=256) as usize;
    let iterations = section.integer("iterations", Some(2), 1..=16);
    Box::new(PowerSgd {
        form: form(section, Form::Replica),
        rank,
        iterations,
        tensors: Vec::new(),
    })
}

/// Columns of equal length, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) length: usize,
    pub(super) values: Vec<f64>,
}

impl Columns {
    fn zeros(length: usize, count: usize) -> Columns {
        Columns {
            length,
            values: vec![0.0; length * count],
        }
    }

    fn iter(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.length)
    }

    fn iter_mut(&mut self) -> std::slice::ChunksExactMut<'_, f64> {
        self.values.chunks_exact_mut(self.length)
    }

    /// Modified Gram–Schmidt; a column that depends on those before it becomes zero.
    fn orthonormalise(&mut self) {
        let norm = |column: &[f64]| dot(column, column).sqrt();
        for index in 0..self.values.len() / self.length {
            let (before, from) = self.values.split_at_mut(index * self.length);
            let column = &mut from[..self.length];
            let length = norm(column);
            for other in before.chunks_exact(self.length) {
                let share = dot(column, other);
                column
                    .iter_mut()
                    .zip(other)
                    .for_each(|(value, other)| *value -= share * other);
            }
            let left = norm(column);
            let factor = if left > NOISE * length {
                1.0 / left
            } else {
                0.0
            };
            column.iter_mut().for_each(|value| *value *= factor);
        }
    }

    /// Rounds the values to 32 bits, as they will be sent.
    fn round(&mut self) {
        self.values
            .iter_mut()
            .for_each(|value| *value = f64::from(*value as f32));
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        self.values
            .iter()
            .for_each(|value| bytes.extend_from_slice(&(*value as f32).to_le_bytes()));
    }
}

/// MQ for a matrix given row by row.
fn times(matrix: &[f32], q: &Columns) -> Columns {
    let rows = matrix.len() / q.length;
    let mut p = Columns::zeros(rows, q.values.len() / q.length);
    for (column, q) in p.iter_mut().zip(q.iter()) {
        column
            .iter_mut()
            .zip(matrix.chunks_exact(q.len()))
            .for_each(|(value, row)| *value = dot(row, q));
    }
    p
}

/// MᵀP for a matrix given row by row.
fn transposed_times(matrix: &[f32], p: &Columns) -> Columns {
    let columns = matrix.len() / p.length;
    let mut q = Columns::zeros(columns, p.values.len() / p.length);
    for (column, p) in q.iter_mut().zip(p.iter()) {
        for (row, factor) in matrix.chunks_exact(columns).zip(p) {
            column
                .iter_mut()
                .zip(row)
                .for_each(|(sum, value)| *sum += f64::from(*value) * factor);
        }
    }
    q
}

/// P and Q after `iterations` iterations from a given Q. P is rounded to the bits that will be sent
/// before the last Q is computed from it.
pub(super) fn factorise(matrix: &[f32], mut q: Columns, iterations: u64) -> (Columns, Columns) {
    let mut p = Columns::zeros(matrix.len() / q.length, q.values.len() / q.length);
    for iteration in 1..=iterations {
        p = times(matrix, &q);
        p.orthonormalise();
        if iteration == iterations {
            p.round();
        }
        q = transposed_times(matrix, &p);
    }
    (p, q)
}

/// PQᵀ row by row: sums over the rank in order, rounded once.
pub(super) fn product(p: &[f32], q: &[f32], rank: usize, matrix: &mut [f32]) {
    let (rows, columns) = (p.len() / rank, q.len() / rank);
    let mut sums = vec![0f64; columns];
    for (index, row) in matrix.chunks_exact_mut(columns).enumerate() {
        sums.fill(0.0);
        for (p, q) in p.chunks_exact(rows).zip(q.chunks_exact(columns)) {
            let factor = f64::from(p[index]);
            sums.iter_mut()
                .zip(q)
                .for_each(|(sum, value)| *sum += factor * f64::from(*value));
        }
        row.iter_mut()
            .zip(&sums)
            .for_each(|(value, sum)| *value = *sum as f32);
    }
}

impl PowerSgd {
    /// The matrices to factorise in a vector of `dimension` values, from front to back.
    fn matrices(&self, dimension: usize) -> Vec<TensorShape> {
        let fits = self
            .tensors
            .last()
            .is_some_and(|last| last.end() <= dimension);
        let root = dimension.isqrt().max(1);
        let square = [TensorShape {
            offset: 0,
            rows: root,
            columns: dimension / root,
        }];
        let tensors = if fits { &self.tensors[..] } else { &square };
        tensors
            .iter()
            .copied()
            .filter(|shape| self.floats(shape) < shape.rows * shape.columns)
            .collect()
    }

    fn floats(&self, shape: &TensorShape) -> usize {
        self.rank * (shape.rows + shape.columns)
    }

    fn start(&self, columns: usize, stream: &mut Stream) -> Columns {
        let mut words = vec![0; columns * self.rank];
        stream.fill(&mut words);
        Columns {
            length: columns,
            values: words
                .into_iter()
                .map(|word| 2.0 * unit_of(word) - 1.0)
                .collect(),
        }
    }
}

impl Codec for PowerSgd {
    fn name(&self) -> &'static str {
        "power-sgd"
    }
    fn form(&self) -> Form {
        self.form
    }
    fn shape(&mut self, tensors: &[TensorShape]) {
        self.tensors = tensors
            .iter()
            .copied()
            .filter(|shape| shape.rows > 0 && shape.columns > 0)
            .collect();
        self.tensors.sort_by_key(|shape| shape.offset);
        let apart = self
            .tensors
            .windows(2)
            .all(|pair| pair[0].end() <= pair[1].offset);
        assert!(apart, "the matrices of a model do not overlap");
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        let saved = |shape: &TensorShape| shape.rows * shape.columns - self.floats(shape);
        4 * (dimension - self.matrices(dimension).iter().map(saved).sum::<usize>())
    }
    fn encode(&self, values: &[f32], random: &mut Randomness) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes_max(values.len()));
        let mut done = 0;
        for shape in self.matrices(values.len()) {
            bytes.extend_from_slice(&identity::to_bytes(&values[done..shape.offset]));
            done = shape.end();
            let start = self.start(shape.columns, &mut random.own);
            let (p, q) = factorise(&values[shape.offset..done], start, self.iterations);
            p.write(&mut bytes);
            q.write(&mut bytes);
        }
        bytes.extend_from_slice(&identity::to_bytes(&values[done..]));
        bytes
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        let floats = identity::from_bytes(bytes, self.bytes_max(dimension) / 4)?;
        let mut rest = &floats[..];
        let mut values = vec![0f32; dimension];
        let mut done = 0;
        for shape in self.matrices(dimension) {
            let (dense, after) = rest.split_at(shape.offset - done);
            values[done..shape.offset].copy_from_slice(dense);
            let (p, after) = after.split_at(self.rank * shape.rows);
            let (q, after) = after.split_at(self.rank * shape.columns);
            done = shape.end();
            product(p, q, self.rank, &mut values[shape.offset..done]);
            rest = after;
        }
        values[done..].copy_from_slice(rest);
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use kith_consensus::Seed;

    use super::*;

    fn codec(rank: usize, tensors: &[TensorShape]) -> PowerSgd {
        let mut codec = PowerSgd {
            form: Form::Replica,
            rank,
            iterations: 2,
            tensors: Vec::new(),
        };
        codec.shape(tensors);
        codec
    }

    fn random(seed: u64) -> Randomness {
        Randomness {
            own: Seed::from_number(seed).stream("own"),
            shared: Seed::from_number(1).stream("shared"),
        }
    }

    /// Products of two vectors of short numbers each, of rank 1 to the last bit, at offsets 3 and
    /// 40, and numbers without structure around them.
    fn values() -> (Vec<f32>, [TensorShape; 2]) {
        let shapes = [
            TensorShape {
                offset: 40,
                rows: 5,
                columns: 9,
            },
            TensorShape {
                offset: 3,
                rows: 6,
                columns: 6,
            },
        ];
        let mut stream = Seed::from_number(4).stream("test");
        let mut values: Vec<f32> = (0..100).map(|_| stream.normal() as f32).collect();
        for shape in shapes {
            let mut whole = || stream.bounded(9) as f64 - 3.5;
            let (left, right): (Vec<f64>, Vec<f64>) = (0..9).map(|_| (whole(), whole())).unzip();
            for index in 0..shape.rows * shape.columns {
                values[shape.offset + index] =
                    (left[index / shape.columns] * right[index % shape.columns]) as f32;
            }
        }
        (values, shapes)
    }

    #[test]
    fn matrices_of_low_rank_come_back_and_all_else_is_exact() {
        let (values, shapes) = values();
        let codec = codec(1, &shapes);
        let bytes = codec.encode(&values, &mut random(1));
        assert_eq!(bytes.len(), 4 * (100 - 36 - 45 + 12 + 14));
        let decoded = codec.decode(&bytes, 100).expect("its own encoding");
        for (index, (found, value)) in decoded.iter().zip(&values).enumerate() {
            let inside = (3..39).contains(&index) || (40..85).contains(&index);
            assert!(
                if inside {
                    (found - value).abs() < 1e-5
                } else {
                    found == value
                },
                "{index}: {found} for {value}"
            );
        }
    }

    #[test]
    fn a_rank_beyond_the_matrix_is_harmless() {
        let (values, shapes) = values();
        // Rank 2 of a matrix of rank 1: the second column is nothing. Rank 4: the factors would be
        // larger than the matrix.
        for (rank, seed) in [2, 4]
            .into_iter()
            .flat_map(|rank| (0..100).map(move |seed| (rank, seed)))
        {
            let codec = codec(rank, &shapes);
            let decoded = codec
                .decode(&codec.encode(&values, &mut random(seed)), 100)
                .expect("its own encoding");
            let near = decoded
                .iter()
                .zip(&values)
                .all(|(found, value)| (found - value).abs() < 1e-5);
            assert!(near, "rank {rank}, seed {seed}");
        }
        assert_eq!(codec(4, &shapes).bytes_max(100), 400);
    }

    #[test]
    fn shapes_that_do_not_fit_are_not_used() {
        let (_, shapes) = values();
        assert_eq!(codec(1, &shapes).bytes_max(84), codec(1, &[]).bytes_max(84));
        assert_eq!(codec(1, &[]).bytes_max(84), 4 * (9 + 9 + 3));
    }
}
