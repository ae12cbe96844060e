//! Weir: `weir dev` with its settings as they come, but for a smaller cache of uploaded segments on the disk.

use std::time::Duration;

use anyhow::Result;
use harness::broker;
use harness::clock::Deadline;
use harness::http::metric;

/// Uploading what a load left takes no longer; a segment waits up to 10 s before it is sealed.
const UPLOADED_WITHIN: Duration = Duration::from_secs(180);

/// How it differs from one that is started with nothing said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The URL of the object store; a folder of its own without one.
    pub(crate) store: Option<String>,
    /// `KEY=VALUE` of the configuration.
    pub(crate) sets: Vec<String>,
}

/// A running one.
#[derive(Debug)]
pub(crate) struct Weir {
    pub(crate) broker: broker::Weir,
}

impl Weir {
    pub(crate) fn start(options: Options) -> Result<Self> {
        let mut sets = vec![];
        if !options.sets.iter().any(|set| set.starts_with("staging.bytes_max=")) {
            // The disk of the machine is small.
            sets.push(format!("staging.bytes_max={}", 2_u64 << 30));
        }
        sets.extend(options.sets);
        let options = broker::Options {
            store: options.store,
            sets,
            environment: harness::stores::S3::credentials(),
            ..broker::Options::default()
        };
        Ok(Self { broker: broker::Weir::start_with(options)? })
    }

    /// A figure of `/metrics`, summed over its labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        metric(&self.broker.http(), name)
    }

    /// Waits until everything is in the object store.
    pub(crate) fn uploaded(&self) -> Result<()> {
        Deadline::after(UPLOADED_WITHIN).wait("everything is uploaded", || {
            let staged = self.metric("weir_staged_bytes")?;
            Ok((staged == 0.0).then_some(()))
        })
    }
}
