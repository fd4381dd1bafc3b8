//! Numbers of a few bits each, packed without gaps: the lowest bit first, the last byte filled up
//! with zeros.

/// Appends numbers to bytes.
#[derive(Debug)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    filled: u32,
}

impl BitWriter {
    /// Starts on a byte of its own after `bytes`.
    pub(super) fn after(bytes: Vec<u8>) -> BitWriter {
        BitWriter {
            bytes,
            pending: 0,
            filled: 0,
        }
    }

    /// Appends the lowest `width` bits (at most 32) of a number that has no others.
    #[inline]
    pub(super) fn put(&mut self, value: u64, width: u32) {
        self.pending |= value << self.filled;
        self.filled += width;
        if self.filled >= 32 {
            self.bytes
                .extend_from_slice(&(self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.filled -= 32;
        }
    }

    /// Appends numbers of `width` bits each.
    pub(super) fn put_all(&mut self, values: &[u32], width: u32) {
        if width == 8 && self.filled == 0 {
            return self.bytes.extend(values.iter().map(|value| *value as u8));
        }
        values
            .iter()
            .for_each(|value| self.put(u64::from(*value), width));
    }

    /// Appends `count` zeros and a one.
    pub(super) fn put_unary(&mut self, mut count: u64) {
        while count >= 31 {
            self.put(0, 31);
            count -= 31;
        }
        self.put(1 << count, count as u32 + 1);
    }

    /// All bytes, the started one included.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let started = self.filled.div_ceil(8) as usize;
        self.bytes
            .extend_from_slice(&self.pending.to_le_bytes()[..started]);
        self.bytes
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bytes taken into `pending`, the last perhaps in part.
    taken: usize,
    pending: u64,
    filled: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader {
            bytes,
            taken: 0,
            pending: 0,
            filled: 0,
        }
    }

    /// Fills up to at least 56 bits, or with all that is left.
    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self
            .bytes
            .get(self.taken..)
            .and_then(|rest| rest.first_chunk::<8>())
        {
            self.pending |= u64::from_le_bytes(*word) << self.filled;
            self.taken += (63 - self.filled as usize) / 8;
            self.filled |= 56;
            return;
        }
        while self.filled <= 56 && self.taken < self.bytes.len() {
            self.pending |= u64::from(self.bytes[self.taken]) << self.filled;
            self.taken += 1;
            self.filled += 8;
        }
    }

    /// The next `width` bits (at most 32).
    #[inline]
    pub(super) fn take(&mut self, width: u32) -> Option<u64> {
        if self.filled < width {
            self.refill();
            if self.filled < width {
                return None;
            }
        }
        let value = self.pending & ((1 << width) - 1);
        self.pending >>= width;
        self.filled -= width;
        Some(value)
    }

    /// The number of zeros before the next one, which is taken too.
    pub(super) fn take_unary(&mut self) -> Option<u64> {
        let mut count = 0;
        loop {
            if self.filled == 0 {
                self.refill();
            }
            if self.filled == 0 {
                return None;
            }
            let zeros = self.pending.trailing_zeros();
            if zeros < self.filled {
                // In two steps: all 64 bits at once would be one shift too far.
                self.pending = self.pending >> zeros >> 1;
                self.filled -= zeros + 1;
                return Some(count + u64::from(zeros));
            }
            count += u64::from(self.filled);
            self.pending = self.pending.checked_shr(self.filled).unwrap_or(0);
            self.filled = 0;
        }
    }

    /// The bytes after the started one, unless bits that fill it up are set.
    pub(super) fn finish(self) -> Option<&'a [u8]> {
        let unread = self.filled / 8;
        let padding = self.pending & ((1 << (self.filled % 8)) - 1);
        (padding == 0).then(|| &self.bytes[self.taken - unread as usize..])
    }
}

#[cfg(test)]
mod tests {
    use kith_consensus::Seed;

    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_padding_must_be_zero() {
        let mut stream = Seed::from_number(7).stream("test");
        for _ in 0..300 {
            let numbers: Vec<(u64, u32)> = (0..stream.bounded(90))
                .map(|_| {
                    let width = stream.bounded(34) as u32;
                    (
                        if width == 33 {
                            stream.bounded(300)
                        } else {
                            stream.next_u64() & ((1 << width) - 1)
                        },
                        width,
                    )
                })
                .collect();
            let mut writer = BitWriter::after(vec![9]);
            let same = [1u32, 0, 255, 7, 128];
            let together = stream.bounded(2) == 0;
            let width = 8 + stream.bounded(3) as u32;
            if together {
                writer.put_all(&same, width);
            } else {
                same.iter()
                    .for_each(|value| writer.put(u64::from(*value), width));
            }
            numbers.iter().for_each(|(value, width)| match width {
                33 => writer.put_unary(*value),
                width => writer.put(*value, *width),
            });
            let mut bytes = writer.finish();
            let bits = u64::from(5 * width)
                + numbers
                    .iter()
                    .map(|(value, width)| {
                        if *width == 33 {
                            value + 1
                        } else {
                            u64::from(*width)
                        }
                    })
                    .sum::<u64>();
            assert_eq!(bytes.len() as u64, 1 + bits.div_ceil(8));
            let read = |bytes: &[u8]| {
                let mut reader = BitReader::new(&bytes[1..]);
                same.iter()
                    .for_each(|value| assert_eq!(reader.take(width), Some(u64::from(*value))));
                for (value, width) in &numbers {
                    let found = if *width == 33 {
                        reader.take_unary()
                    } else {
                        reader.take(*width)
                    };
                    assert_eq!(found, Some(*value));
                }
                reader.finish().map(<[u8]>::to_vec)
            };
            let length = bytes.len();
            bytes.extend_from_slice(&[1, 2, 3]);
            assert_eq!(read(&bytes), Some(vec![1, 2, 3]), "what follows is left");
            bytes.truncate(length);
            assert_eq!(read(&bytes), Some(vec![]));
            if !bits.is_multiple_of(8) {
                bytes[length - 1] |= 0x80;
                assert_eq!(read(&bytes), None, "padding is set");
            }
        }
        assert_eq!(BitReader::new(&[0, 0]).take_unary(), None);
        assert_eq!(BitReader::new(&[0]).take(9), None);
    }
}
