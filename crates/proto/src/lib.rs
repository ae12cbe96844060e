//! The prost messages of everything that Weir stores, one module per file in `proto/weir`.
//!
//! The schemas only ever grow: a field's number is never reused and never changes its type, so that an older broker reads
//! what a newer one stored and the other way round. What the messages mean, and the checks on them, belong to the crates
//! that own them; here are only shapes.

/// The footer of a data object and the blocks it points at (owned by the crate `objects`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod objects {
    include!(concat!(env!("OUT_DIR"), "/weir.objects.rs"));
}

/// The producers' snapshots in data objects (owned by the crate `log`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod log {
    include!(concat!(env!("OUT_DIR"), "/weir.log.rs"));
}

/// The rows of the metadata database (owned by the crate `metadata`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod metadata {
    include!(concat!(env!("OUT_DIR"), "/weir.metadata.rs"));
}

/// The object that names the controller (owned by the crate `metadata`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod election {
    include!(concat!(env!("OUT_DIR"), "/weir.election.rs"));
}

/// What brokers say to each other (owned by the crate `cluster`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod cluster {
    include!(concat!(env!("OUT_DIR"), "/weir.cluster.rs"));
}

/// How brokers follow the controller and have it carry out commands (owned by the crates `metadata` and `cluster`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod controller {
    include!(concat!(env!("OUT_DIR"), "/weir.controller.rs"));
}
