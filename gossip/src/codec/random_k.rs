//! `random-k`: k values at places drawn at random, and the number from which every receiver draws
//! the places again.
//!
//! Plain, it is contractive in expectation with δ = k/d and a replica codec by default: unsent
//! values stay in the difference. With `scaled = true` the values are multiplied by d/k, which is
//! unbiased with ω = d/k − 1 and only sensible alone: dividing by 1 + ω for a replica would give
//! the plain form back. With `support = "shared"` all peers of a round choose the same places, so a
//! coordinate-wise rule or a sum of masked vectors gets k values from every peer instead of mostly
//! zeros. The places of coming rounds are then known to all members, liars included. With
//! `support = "own"` each peer draws its own places. A receiver takes the number as it is: a liar
//! may choose other places. Payload: the number (8 bytes), then the values (see `kept_values`): 8 +
//! 4k bytes with `values = "f32"`. Places: the first k of a Fisher–Yates shuffle of 0..d from the
//! front, ascending; O(d) memory at both ends.

use kith_consensus::{Section, Seed, Stream};

use super::{Codec, CodecError, Form, Randomness, form, kept, kept_values};

#[derive(Debug)]
struct RandomK {
    form: Form,
    share: f64,
    scaled: bool,
    shared: bool,
    values: Box<dyn Codec>,
}

pub(super) fn new(section: &mut Section<'_>) -> Box<dyn Codec> {
    // 10 %: a guess; it needs more than top-k for the same error.
    let share = section.number("share", Some(0.1), 1e-6..=1.0);
    let shared = section.choice("support", Some("shared"), &["shared", "own"]) == "shared";
    let values = kept_values::from_section(section);
    let scaled = section.flag("scaled", Some(false));
    let form = form(
        section,
        if scaled {
            Form::Stateless
        } else {
            Form::Replica
        },
    );
    if scaled && form == Form::Replica {
        section.note(
            "scaled",
            "scaled values stand alone: expected replica = false with scaled = true",
        );
    }
    if scaled && matches!(values.name(), "sign" | "int4") {
        let coarse = "scaled values are right on average, which so coarse ones are not: expected f32, f16 or int8 with scaled = true";
        section.note("values", coarse);
    }
    Box::new(RandomK {
        form,
        share,
        scaled,
        shared,
        values,
    })
}

/// `k` of the numbers below `dimension`, ascending.
pub(super) fn draw(stream: &mut Stream, k: usize, dimension: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..dimension as u32).collect();
    for place in 0..k {
        let other = place + stream.bounded((dimension - place) as u64) as usize;
        order.swap(place, other);
    }
    // Marked and read again in order: quicker than sorting, and the long list is freed before the
    // vector is made.
    let mut marks = vec![0u64; dimension.div_ceil(64)];
    order[..k]
        .iter()
        .for_each(|place| marks[*place as usize / 64] |= 1 << (place % 64));
    drop(order);
    let mut places = Vec::with_capacity(k);
    for (index, word) in marks.into_iter().enumerate() {
        let mut left = word;
        while left != 0 {
            places.push(index as u32 * 64 + left.trailing_zeros());
            left &= left - 1;
        }
    }
    places
}

/// The factor that makes plain values right on average.
pub(super) fn inverse_share(k: usize, dimension: usize) -> f64 {
    dimension as f64 / k as f64
}

fn places(number: u64, k: usize, dimension: usize) -> Vec<u32> {
    draw(
        &mut Seed::from_number(number).stream("kith.v1 random-k"),
        k,
        dimension,
    )
}

impl Codec for RandomK {
    fn name(&self) -> &'static str {
        "random-k"
    }
    fn form(&self) -> Form {
        self.form
    }
    fn bytes_max(&self, dimension: usize) -> usize {
        8 + self.values.bytes_max(kept(self.share, dimension))
    }
    fn encode(&self, values: &[f32], random: &mut Randomness) -> Vec<u8> {
        let k = kept(self.share, values.len());
        let number = if self.shared {
            random.shared.next_u64()
        } else {
            random.own.next_u64()
        };
        let factor = if self.scaled {
            inverse_share(k, values.len())
        } else {
            1.0
        };
        let value = |place: &u32| (f64::from(values[*place as usize]) * factor) as f32;
        let chosen: Vec<f32> = places(number, k, values.len()).iter().map(value).collect();
        let mut bytes = Vec::with_capacity(self.bytes_max(values.len()));
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend(self.values.encode(&chosen, random));
        bytes
    }
    fn decode(&self, bytes: &[u8], dimension: usize) -> Result<Vec<f32>, CodecError> {
        let k = kept(self.share, dimension);
        let (number, rest) = bytes
            .split_first_chunk()
            .ok_or_else(|| CodecError("no number to draw places from".into()))?;
        let chosen = self.values.decode(rest, k)?;
        // Places first: the memory used to draw them is free again for the values.
        let places = places(u64::from_le_bytes(*number), k, dimension);
        let mut values = vec![0f32; dimension];
        places
            .iter()
            .zip(chosen)
            .for_each(|(place, value)| values[*place as usize] = value);
        Ok(values)
    }
}
