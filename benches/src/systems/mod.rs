//! The systems that are measured: each a process of its own in a temporary folder, on free ports, with a plain and a TLS
//! listener that show certificates of the same kind.

mod kafka;
mod weir;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub(crate) use self::kafka::Kafka;
pub(crate) use self::weir::Weir;

/// Which system, in the words of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Weir, which syncs before it answers.
    Weir,
    /// Apache Kafka as it comes: what it has acknowledged lies in the page cache.
    KafkaCache,
    /// Apache Kafka that syncs each append before it answers: three syncs, of the log and of two indexes.
    KafkaSync,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Weir, Self::KafkaCache, Self::KafkaSync];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Weir => "Weir",
            Self::KafkaCache => "Kafka, page cache",
            Self::KafkaSync => "Kafka, sync",
        }
    }
}

/// How a client reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Tls,
    /// Weir only.
    Quic,
}

impl Transport {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "TLS",
            Self::Quic => "QUIC",
        }
    }
}

/// A running system.
#[derive(Debug)]
pub(crate) enum System {
    Weir(Weir),
    Kafka(Kafka),
}

impl System {
    /// Starts one that keeps its objects, if it has any, in a folder.
    pub(crate) fn start(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Weir => Self::Weir(Weir::start(weir::Options::default())?),
            Kind::KafkaCache => Self::Kafka(Kafka::start(false)?),
            Kind::KafkaSync => Self::Kafka(Kafka::start(true)?),
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Weir(_) => Kind::Weir,
            Self::Kafka(kafka) => kafka.kind(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.kind().name()
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        match self {
            Self::Weir(weir) => weir.broker.pid().context("the broker runs"),
            Self::Kafka(kafka) => Ok(kafka.pid()),
        }
    }

    /// `HOST:PORT` for the Java tools.
    pub(crate) fn bootstrap(&self, transport: Transport) -> String {
        match (self, transport) {
            (Self::Weir(weir), Transport::Tls) => weir.broker.tls(),
            (Self::Weir(weir), _) => weir.broker.bootstrap(),
            (Self::Kafka(kafka), Transport::Tls) => kafka.tls(),
            (Self::Kafka(kafka), _) => kafka.plain(),
        }
    }

    /// The URL for `weir bench`.
    pub(crate) fn url(&self, transport: Transport) -> String {
        let scheme = match transport {
            Transport::Plain => "kafka",
            Transport::Tls => "kafkas",
            Transport::Quic => "quic",
        };
        format!("{scheme}://{}", self.bootstrap(transport))
    }

    pub(crate) fn ca(&self) -> PathBuf {
        match self {
            Self::Weir(weir) => weir.broker.ca(),
            Self::Kafka(kafka) => kafka.ca().to_owned(),
        }
    }

    /// Waits until it has done what a load left to do: Weir uploads, and that belongs to what the load cost it.
    pub(crate) fn settle(&self) -> Result<()> {
        match self {
            Self::Weir(weir) => weir.uploaded(),
            Self::Kafka(_) => Ok(()),
        }
    }

    /// Ends it; Weir has to end well and without an error in its log.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::Weir(weir) => weir.broker.finish(),
            Self::Kafka(_) => Ok(()),
        }
    }
}

pub(crate) use self::weir::Options as WeirOptions;

/// What is installed for Kafka.
pub(crate) fn kafka_jars() -> Result<PathBuf> {
    harness::places::installed("kafka/lib")
}

/// A class path of all of them, and of one folder more.
pub(crate) fn class_path(more: &Path) -> Result<String> {
    Ok(format!("{}/*:{}", kafka_jars()?.display(), more.display()))
}
