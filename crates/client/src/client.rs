//! The handle from which producers, consumers and administration are made.

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::{Admin, ClientConfig, Consumer, ConsumerConfig, Error, Producer, ProducerConfig, Target};

/// A client of one cluster. Clones share its connections and what it knows of the cluster. Nothing is sent before it is
/// used.
#[derive(Clone)]
pub struct Client {
    cluster: Arc<Cluster>,
}

impl Client {
    /// A client; reads the certificates, if the target needs any.
    ///
    /// # Errors
    /// [`Error::Tls`] or [`Error::Config`] when the certificates cannot be used.
    pub fn new(config: ClientConfig) -> Result<Self, Error> {
        Ok(Self { cluster: Arc::new(Cluster::new(config)?) })
    }

    /// Where the cluster is.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.cluster.config.target
    }

    /// Connects to any broker, to find out whether one can be reached, in one attempt. Safe to cancel.
    ///
    /// # Errors
    /// [`Error::Unreachable`] for the last address that was tried.
    pub async fn ping(&self) -> Result<(), Error> {
        self.cluster.refresh().await
    }

    /// The cluster's id, once the client has spoken with it.
    #[must_use]
    pub fn cluster_id(&self) -> Option<String> {
        self.cluster.metadata().cluster_id.clone()
    }

    /// A producer. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Config`] when the settings cannot work together.
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer, Error> {
        Producer::start(&self.cluster, config)
    }

    /// A consumer. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Config`] when the settings cannot work together.
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer, Error> {
        Consumer::start(&self.cluster, config)
    }

    /// Administration.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.cluster.clone())
    }

    /// Closes the connections and says farewell to the brokers. Close producers and consumers first.
    pub async fn close(&self) {
        self.cluster.close().await;
    }
}
