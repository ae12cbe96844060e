//! A journal is one broker incarnation's staging log on local SSD: the appends of every partition that the broker
//! leads, in one sequence of bytes, replicated to the journal's members, until they lie in the object store.
//!
//! The invariants, each asserted where it could break:
//!
//! - **J1** `uploaded ≤ committed ≤ durable(owner)` and `trimmed ≤ uploaded`, always; each is monotonic ([`Tracker`]).
//! - **J2** A token is handed out only once its last byte is committed, in the order of the appends ([`Writer`]).
//! - **J3** A member that stored a fence accepts no append below it. (One member, its owner, for now: a journal that is
//!   opened again is only ever read, see [`recover()`].)
//! - **J4** A member that lost its disk says so: a journal's folder carries a marker, and without it the answer is
//!   [`RecoverError::Lost`], never an empty journal.
//!
//! Left to others: which offset a batch gets, what a commit means to a partition, and the upload (crate `log`).
//!
//! | file | is |
//! | --- | --- |
//! | `disk.rs`, `memory.rs` | the file system, and one in memory with faults |
//! | `staging.rs` | the folders of journals, and what tells a lost one |
//! | `blocks.rs` | appending to a file in whole blocks, past the page cache |
//! | `frame.rs` | the bytes of one append, and their checks |
//! | `footer.rs` | the heads of all frames at the end of a sealed segment |
//! | `pool.rs` | memory for reading segments whole |
//! | `segment.rs` | one file: its header, its index, reading |
//! | `catalog.rs` | which segments there are, across journals |
//! | `writer.rs` | the queue and the thread that drains it: group commit |
//! | `tracker.rs` | what is durable, committed, uploaded, trimmed (pure) |
//! | `recover.rs` | what a journal that ended holds |

mod blocks;
mod catalog;
mod disk;
mod footer;
mod frame;
#[cfg(any(test, feature = "faults"))]
pub mod memory;
mod pool;
mod recover;
mod segment;
mod staging;
#[cfg(test)]
mod tests;
mod tracker;
mod writer;

pub use catalog::{Catalog, Located, Usage};
pub use disk::{BLOCK_BYTES, Disk, File, System};
pub use frame::{FRAME_HEADER_LEN, FrameError};
pub use pool::Pool;
pub use recover::{Depth, RecoverError, Recovered, TornTail, recover};
pub use segment::{Entry, ReadError, Segment};
pub use staging::Staging;
pub use tracker::Tracker;
pub use writer::{AppendError, Committed, Options, Stats, Writer};
