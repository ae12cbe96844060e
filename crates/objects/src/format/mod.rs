//! What a data object looks like inside. Pure: bytes in, bytes out; only [`Footer::read`] asks a store.
//!
//! ```text
//! extent, extent, …              record batches as they came in; sorted by topic id and partition
//! producer state of each extent  what the crate `log` gave
//! index of each extent           prost `Index`: about every 64 KiB a batch; aborted transactions
//! footer                         prost `Footer`: every extent, and where its index and its producer state lie
//! tail (20 bytes)                footer length, CRC-32C, format version (u32 each, little-endian), magic `weirdata`
//! ```
//!
//! The CRC covers the footer, its length and the version; the footer holds the CRC of everything else. Whatever is wrong
//! with an object is an error that says what: no input panics. The indexes lie beside the footer, so that the one GET of
//! the tail brings both, for most objects.

mod builder;
mod footer;
mod index;
#[cfg(test)]
mod tests;

pub use builder::{BuildError, Built, ExtentSource, ObjectBuilder};
pub use footer::{Block, Extent, Footer, FooterError, TAIL_GUESS_LEN};
pub use index::{Aborted, Index, Place};

use records::BatchError;

/// About how many bytes of an extent one index entry covers.
pub const INDEX_INTERVAL_BYTES: u64 = 64 * 1024;

pub(crate) const MAGIC: [u8; 8] = *b"weirdata";
pub(crate) const VERSION: u32 = 1;
pub(crate) const TAIL_LEN: usize = 20;

/// What is wrong with the bytes of an object. None of it goes away by trying again with the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The object cannot even hold a tail.
    #[error("it is cut short: {len} bytes do not hold {what}")]
    Short {
        /// What does not fit.
        what: &'static str,
        /// How many bytes there are.
        len: u64,
    },
    /// The object does not end with the magic.
    #[error("it does not end as a data object does")]
    Magic,
    /// A newer Weir wrote the object.
    #[error("its format version {0} is newer than this Weir knows ({VERSION}): upgrade this broker")]
    Version(u32),
    /// Bytes are not those that were written.
    #[error("the checksum of its {what} is wrong")]
    Crc {
        /// Which part.
        what: &'static str,
    },
    /// A record batch is damaged.
    #[error("a record batch is damaged: {0}")]
    Batch(#[from] BatchError),
    /// Bytes with a right checksum that say something impossible.
    #[error("its {what} is impossible: {why}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What about it.
        why: &'static str,
    },
}

pub(crate) fn check_crc(what: &'static str, expected: u32, bytes: &[u8]) -> Result<(), FormatError> {
    if crc32c::crc32c(bytes) == expected { Ok(()) } else { Err(FormatError::Crc { what }) }
}
