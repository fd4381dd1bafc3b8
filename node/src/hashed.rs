//! A file whose bytes are hashed while they are written and still in the cache.

use std::fs::File;
use std::io::{self, Write};

use kith_consensus::Digest;

/// Values turned into bytes at a time.
const CHUNK_VALUES: usize = 64 << 10;

/// A file and the hash of what was written to it.
pub(crate) struct Hashed {
    file: File,
    hasher: blake3::Hasher,
}

impl Hashed {
    /// A file to which nothing has been written.
    pub(crate) fn new(file: File) -> Hashed {
        Hashed {
            file,
            hasher: blake3::Hasher::new(),
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(4 * CHUNK_VALUES) {
            self.hasher.update(chunk);
            self.file.write_all(chunk)?;
        }
        Ok(())
    }

    /// Writes values as little-endian bytes, without all of them in memory a second time.
    pub(crate) fn values(&mut self, values: &[f32]) -> io::Result<()> {
        let mut buffer = vec![0u8; 4 * CHUNK_VALUES.min(values.len())];
        for chunk in values.chunks(CHUNK_VALUES) {
            let bytes = &mut buffer[..4 * chunk.len()];
            for (place, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(chunk) {
                *place = value.to_le_bytes();
            }
            self.hasher.update(bytes);
            self.file.write_all(bytes)?;
        }
        Ok(())
    }

    /// Makes it durable; returns the hash of all its bytes.
    pub(crate) fn finish(self) -> io::Result<Digest> {
        self.file.sync_all()?;
        Ok(Digest(*self.hasher.finalize().as_bytes()))
    }
}
