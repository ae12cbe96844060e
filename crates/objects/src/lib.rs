//! Everything between Weir and its object store.
//!
//! - [`open`] makes a [`Store`] of a URL; [`preflight`] proves that the store keeps the promises that safety rests on.
//! - [`conditional`] decides who won a conditional write, also when the store's answer was lost.
//! - [`keys`] says where objects lie; [`mod@format`] is what a data object looks like inside; both are pure.
//! - [`bucket`] is the bucket itself, where it is one of S3: its settings, its clock, and making it.
//! - [`verify`] looks at whole data objects, and says what is damaged.
//! - [`cache`] reads data objects in chunks, each fetched once whoever asks; [`ExtentReader`] reads record batches through it.
//! - [`Lane`] is where the work for readers runs, so that it stands in nobody's way.
//!
//! **Invariant O1**, as far as this crate carries it: a data object is written once, under a key that is never used again,
//! and never changed. What refers to it, and when it may be deleted, is decided above.

pub mod bucket;
pub mod cache;
pub mod conditional;
mod extent;
#[cfg(test)]
mod faulty;
pub mod format;
pub mod keys;
mod lane;
mod local;
pub mod preflight;
mod profile;
mod store;
pub mod verify;
mod watched;

pub use bucket::{Bucket, BucketError, Setting};
pub use cache::{Object, ReadAhead, ReadError, Reader};
pub use extent::ExtentReader;
pub use format::Extent;
pub use lane::Lane;
pub use object_store::{ObjectStore, path::Path};
pub use store::{OpenError, Store, open};
