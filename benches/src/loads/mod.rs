//! Loads: other people's tools (`java`), which are neutral and dear, and our own (`weir_bench`), which is cheap, so that on
//! few cores the broker is the limit and not the load. Both drive both systems.

pub(crate) mod java;
pub(crate) mod weir_bench;

use anyhow::{Result, ensure};

use crate::rows::Rows;
use crate::settings::{MIB, RECORD};
use crate::systems::{System, Transport};
use crate::usage::{self, Usage, Used};

/// How producers gather records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batches {
    /// What the Java client does where nothing is said: up to 16 KiB, gathered for 5 ms.
    Default,
    /// Up to 1 MiB, gathered for 10 ms.
    Large,
}

impl Batches {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Default => "16 KiB",
            Self::Large => "1 MiB",
        }
    }

    const fn bytes(self) -> u64 {
        match self {
            Self::Default => 16 << 10,
            // The broker's limit for a batch is 1 MiB and 12 bytes; our client counts records only.
            Self::Large => 1000 << 10,
        }
    }

    const fn linger_ms(self) -> u64 {
        match self {
            Self::Default => 5,
            Self::Large => 10,
        }
    }
}

/// A load of records of 1 KiB, acknowledged by all (`acks=all`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) partitions: u32,
    pub(crate) batches: Batches,
    pub(crate) transport: Transport,
    /// Each record goes to the next partition, so that with many of them batches stay small. Only by `weir bench`.
    pub(crate) spread: bool,
}

impl Load {
    pub(crate) const fn plain(partitions: u32, batches: Batches) -> Self {
        Self { partitions, batches, transport: Transport::Plain, spread: false }
    }

    /// In the words of the tables.
    pub(crate) fn case(&self) -> String {
        let partitions =
            if self.partitions == 1 { "1 partition".into() } else { format!("{} partitions", self.partitions) };
        let transport = match self.transport {
            Transport::Plain => String::new(),
            other => format!(", {}", other.name()),
        };
        let spread = if self.spread { ", spread" } else { "" };
        format!("{partitions}, {}{transport}{spread}", self.batches.name())
    }
}

/// The tool that makes a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Java,
    WeirBench,
}

impl Tool {
    pub(crate) const ALL: [Self; 2] = [Self::WeirBench, Self::Java];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Java => "Java tools",
            Self::WeirBench => "weir bench",
        }
    }
}

/// Latencies, in milliseconds, from when a record was due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// What a tool says of its run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    /// Bytes of values, of the whole run.
    pub(crate) payload: u64,
    pub(crate) mib_per_s: f64,
    pub(crate) latency: Option<Latency>,
}

/// A run, and what it cost the broker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) said: Said,
    pub(crate) used: Used,
}

/// Runs a load against a system and looks at what it cost: until the system has done what the load left to do.
pub(crate) fn measure(system: &System, load: impl FnOnce() -> Result<Said>) -> Result<Measured> {
    // What others left in the page cache would have to be written by the disk during this run.
    rustix::fs::sync();
    let pid = system.pid()?;
    usage::reset_peak(pid)?;
    let before = Usage::of(pid)?;
    let said = load()?;
    ensure!(said.payload > 0, "nothing arrived");
    system.settle()?;
    Ok(Measured { said, used: before.since(pid, said.payload)? })
}

impl Measured {
    /// Everything of it, as rows.
    pub(crate) fn record(&self, rows: &mut Rows, case: &str, load: &str, system: &str) {
        let mut put = |metric, value| rows.record(case, load, system, metric, value);
        put("mib_per_s", self.said.mib_per_s);
        put("cpu_s_per_gib", self.used.cpu_s_per_gib);
        put("peak_mib", self.used.peak_mib);
        put("disk_gib_per_gib", self.used.disk_gib_per_gib);
        put("syscalls_per_mib", self.used.syscalls_per_mib);
        put("waits_per_mib", self.used.waits_per_mib);
        if let Some(latency) = self.said.latency {
            put("p50_ms", latency.p50);
            put("p99_ms", latency.p99);
            put("p999_ms", latency.p999);
            put("max_ms", latency.max);
        }
    }
}

/// Records a second for so many MiB a second.
pub(crate) fn records_per_s(mib_per_s: u64) -> u64 {
    mib_per_s * MIB / RECORD
}
