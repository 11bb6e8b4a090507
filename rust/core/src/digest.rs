//! A fingerprint of what an array holds, at memory speed.
//!
//! The bytes are cut into chunks of [`CHUNK`] bytes, every chunk is hashed by itself (XXH3, 128
//! bits) in parallel, and the chunk hashes are hashed in order together with the length. Where the
//! cuts fall depends on the content alone, so neither the number of threads nor the pieces in which
//! the bytes arrive change a bit of the result. It detects change, not forgery.

use std::borrow::Cow;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use crate::interrupt::each;

/// Bytes hashed at once: fits a core's second-level cache, and is a multiple of every word.
pub const CHUNK: usize = 1 << 18;

/// What the bytes stand for: a missing value is one value, whatever the payload of its NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Bytes that mean what they are.
    Plain,
    /// Little-endian 32-bit floating-point numbers.
    F32,
    /// Little-endian 64-bit floating-point numbers.
    F64,
}

/// A digest that takes its bytes in pieces.
#[derive(Debug, Clone)]
pub struct ContentDigest {
    words: Words,
    /// Hashes of the full chunks, 16 bytes each.
    chunks: Vec<u8>,
    /// The chunk that is not full yet.
    open: Vec<u8>,
    n_bytes: u64,
}

impl ContentDigest {
    /// Start with nothing.
    pub fn new(words: Words) -> Self {
        Self {
            words,
            chunks: Vec::new(),
            open: Vec::new(),
            n_bytes: 0,
        }
    }

    /// Append bytes; pieces may be cut anywhere between two words.
    pub fn update(&mut self, bytes: &[u8]) {
        self.n_bytes += bytes.len() as u64;
        let mut rest = bytes;
        if !self.open.is_empty() {
            let (head, tail) = rest.split_at(rest.len().min(CHUNK - self.open.len()));
            self.open.extend_from_slice(head);
            rest = tail;
            if self.open.len() == CHUNK {
                self.chunks.extend(hash(&self.open, self.words));
                self.open.clear();
            }
        }
        let whole = rest.par_chunks_exact(CHUNK);
        self.open.extend_from_slice(whole.remainder());
        let words = self.words;
        let hashes: Vec<[u8; 16]> = whole.map(each(|chunk| hash(chunk, words))).collect();
        self.chunks.extend(hashes.as_flattened());
    }

    /// The 128 bits, most significant byte first.
    pub fn finish(mut self) -> [u8; 16] {
        if !self.open.is_empty() {
            self.chunks.extend(hash(&self.open, self.words));
        }
        self.chunks.extend(self.n_bytes.to_le_bytes());
        xxh3_128(&self.chunks).to_be_bytes()
    }
}

fn hash(chunk: &[u8], words: Words) -> [u8; 16] {
    let told = match words {
        Words::Plain => Cow::Borrowed(chunk),
        Words::F32 => one_nan::<4>(chunk, f32::NAN.to_le_bytes(), |word| {
            f32::from_le_bytes(word).is_nan()
        }),
        Words::F64 => one_nan::<8>(chunk, f64::NAN.to_le_bytes(), |word| {
            f64::from_le_bytes(word).is_nan()
        }),
    };
    xxh3_128(&told).to_be_bytes()
}

/// The chunk with every NaN replaced by the same one; not copied when it holds none.
fn one_nan<const W: usize>(
    chunk: &[u8],
    nan: [u8; W],
    is_nan: impl Fn([u8; W]) -> bool,
) -> Cow<'_, [u8]> {
    let (words, _) = chunk.as_chunks::<W>();
    // Not `any`: without a way out the loop is vectorised.
    if !words.iter().fold(false, |seen, &word| seen | is_nan(word)) {
        return Cow::Borrowed(chunk);
    }
    let mut copy = chunk.to_vec();
    for word in copy.as_chunks_mut::<W>().0 {
        *word = if is_nan(*word) { nan } else { *word };
    }
    Cow::Owned(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(words: Words, pieces: &[&[u8]]) -> [u8; 16] {
        let mut digest = ContentDigest::new(words);
        for piece in pieces {
            digest.update(piece);
        }
        digest.finish()
    }

    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * i % 251) as u8).collect()
    }

    #[test]
    fn pieces_do_not_matter() {
        let content = bytes(3 * CHUNK + 40);
        let whole = digest(Words::Plain, &[&content]);
        for cut in [
            0,
            8,
            40,
            CHUNK - 8,
            CHUNK,
            CHUNK + 8,
            3 * CHUNK,
            content.len(),
        ] {
            let (head, tail) = content.split_at(cut);
            assert_eq!(digest(Words::Plain, &[head, tail]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn every_byte_and_the_length_matter() {
        let content = bytes(2 * CHUNK + 16);
        let whole = digest(Words::Plain, &[&content]);
        for at in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 15] {
            let mut changed = content.clone();
            changed[at] ^= 1;
            assert_ne!(digest(Words::Plain, &[&changed]), whole, "byte {at}");
        }
        assert_ne!(
            digest(Words::Plain, &[&content[..content.len() - 1]]),
            whole
        );
        assert_ne!(digest(Words::Plain, &[]), digest(Words::Plain, &[&[0]]));
    }

    #[test]
    fn chunks_do_not_swap() {
        let (a, b) = (vec![1; CHUNK], vec![2; CHUNK]);
        assert_ne!(
            digest(Words::Plain, &[&a, &b]),
            digest(Words::Plain, &[&b, &a])
        );
    }

    #[test]
    fn a_missing_value_is_one_value() {
        let odd = f64::from_bits(f64::NAN.to_bits() | (1 << 63) | 5);
        let told = |x: f64| [1.0, x, -0.0].map(f64::to_le_bytes).concat();
        let same = |words| digest(words, &[&told(odd)]) == digest(words, &[&told(f64::NAN)]);
        assert!(odd.is_nan() && same(Words::F64) && !same(Words::Plain));
        assert_ne!(
            digest(Words::F64, &[&told(f64::INFINITY)]),
            digest(Words::F64, &[&told(f64::NAN)])
        );
    }
}
