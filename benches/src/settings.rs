//! How much of everything: a full run, and a quick one that only shows that the harness works.

use std::time::Duration;

use crate::Arguments;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
/// The size of a record's value, in bytes.
pub(crate) const RECORD: u64 = 1024;

/// Lengths and amounts of the loads.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    pub(crate) repetitions: u32,
    /// What every leader takes before anything counts, in bytes: a JVM's code is compiled while it runs.
    pub(crate) warm_bytes: u64,
    /// What the Java tools send or read at full speed, in bytes.
    pub(crate) full_bytes: u64,
    /// … and a system that syncs each append, with default batches.
    pub(crate) full_sync_bytes: u64,
    /// How long `weir bench` sends at full speed.
    pub(crate) full: Duration,
    /// How long a load of a fixed rate lasts.
    pub(crate) rate: Duration,
    /// What `cold` and `upload` move, in bytes.
    pub(crate) store_bytes: u64,
    /// The journal of `start`, in bytes.
    pub(crate) start_bytes: u64,
    /// How many partitions `start` and `partitions` make.
    pub(crate) many_partitions: u32,
    /// How long `idle` looks.
    pub(crate) idle: Duration,
}

impl Settings {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let full = Self {
            quick: false,
            repetitions: arguments.repetitions,
            warm_bytes: GIB,
            full_bytes: GIB,
            full_sync_bytes: 64 * MIB,
            full: Duration::from_secs(6),
            rate: Duration::from_secs(30),
            store_bytes: 2 * GIB,
            start_bytes: arguments.start_gib * GIB,
            many_partitions: 10_000,
            idle: Duration::from_secs(300),
        };
        if !arguments.quick {
            return full;
        }
        Self {
            quick: true,
            repetitions: 1,
            warm_bytes: 32 * MIB,
            full_bytes: 64 * MIB,
            full_sync_bytes: 8 * MIB,
            full: Duration::from_secs(2),
            rate: Duration::from_secs(4),
            store_bytes: 192 * MIB,
            start_bytes: 192 * MIB,
            many_partitions: 500,
            idle: Duration::from_secs(5),
        }
    }
}
