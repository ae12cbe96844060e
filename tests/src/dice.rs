//! Random choices that one seed repeats (SplitMix64).

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// A generator of random numbers.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed in the environment variable, or a fresh one.
    ///
    /// # Panics
    /// When the variable is not a number.
    #[must_use]
    pub fn seed_from(variable: &str) -> u64 {
        match std::env::var(variable) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")),
            Err(_) => RandomState::new().hash_one(std::process::id()),
        }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn of(&mut self, range: Range<u64>) -> u64 {
        assert!(!range.is_empty(), "dice need a side");
        range.start + self.bits() % (range.end - range.start)
    }

    /// An independent generator.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.bits())
    }

    /// Random bytes, the first of them not zero.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len).map(|_| self.bits().to_le_bytes()[0]).collect();
        if let Some(first) = bytes.first_mut() {
            *first |= 1;
        }
        bytes
    }
}
