//! The log of every partition that this broker leads: append, producer state, high watermark, fetch across tiers,
//! upload, recovery.
//!
//! One record's way: [`Log::append`] → [`Partition`] assigns its offset and hands it to the journal → the journal syncs
//! and tells `commit.rs` → the high watermark moves, the producer is answered, readers wake → the segment is sealed and
//! `upload.rs` turns it into a data object → `fetch.rs` reads it from the nearest of memory, SSD and object store.
//!
//! - **J2** is kept here for producers: [`Appended::committed`] resolves at the high watermark, never before.
//! - **R1, R3**: `recover.rs` ends the journals of earlier incarnations before anything is appended.
//! - **O2, O3**: `upload.rs` commits extents in the order of the journal, each from the frontier on.
//! - `retention.rs` gives up what is too old or too much, and only what is uploaded.
//! - No offset is used for two records, even when a disk is lost (`docs/decisions/0001-offset-reserve.md`).
//!
//! Left to others: bytes on disk (`journal`), bytes in objects (`objects`), who leads what (`metadata`), what a request
//! looks like (`kafka`).

mod commit;
mod fetch;
mod metrics;
mod partition;
mod producers;
mod recover;
mod retention;
mod room;
mod snapshot;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod timestamps;
mod upload;
mod waiter;

pub use commit::Token;
pub use fetch::FetchError;
pub use journal::{Depth, Staging};
pub use metrics::Metrics;
pub use partition::{AppendError, Appended, Partition};
pub use producers::{Past, Producer, Producers, SequenceError};
pub use recover::{Environment, OpenError};
pub use store::{Identity, Log, Options, PartitionError};
pub use timestamps::Found;
pub use waiter::Waiter;
