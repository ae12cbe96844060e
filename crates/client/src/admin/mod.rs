//! Administration: topics, configurations, groups, offsets, the cluster. Each operation is repeated while it fails for a
//! reason that passes, up to [`ClientConfig::operation_timeout`](crate::ClientConfig::operation_timeout).
//!
//! All of it is safe to cancel in the sense that nothing of the client breaks; whether the cluster has carried out an
//! operation that was cancelled, or whose answer was lost, is found out by looking.

mod configs;
mod groups;
mod topics;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use records::Offset;

pub use self::configs::{Config, ConfigChange, ConfigSource, Resource};
pub use self::groups::{GroupDescription, GroupListing, GroupMember};
pub use self::topics::{CreatedTopic, NewTopic, PartitionDescription, TopicDescription};
use crate::cluster::Cluster;
use crate::{Address, Error, OffsetSpec, TopicPartition, offsets};

/// Administers a cluster.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use client::NewTopic;
///
/// let admin = client.admin();
/// admin.create_topic(&NewTopic::named("greetings").partitions(3).config("retention.ms", "60000")).await?;
/// for topic in admin.topics().await? {
///     println!("{} has {} partitions", topic.name, topic.partitions.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Admin {
    cluster: Arc<Cluster>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerDescription {
    /// Its number.
    pub id: i32,
    /// The address that it gives to clients.
    pub address: Address,
    /// Its zone.
    pub rack: Option<String>,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id.
    pub id: String,
    /// The broker that is the controller; −1 when there is none.
    pub controller: i32,
    /// Its brokers, by id.
    pub brokers: Vec<BrokerDescription>,
}

impl Admin {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    async fn retry<T, F: Future<Output = Result<T, Error>>>(&self, operation: impl FnMut() -> F) -> Result<T, Error> {
        self.cluster.retry(self.cluster.config.operation_timeout, operation).await
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.cluster.config.request_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// The cluster and its brokers.
    ///
    /// # Errors
    /// The cluster cannot be reached, or does not permit it.
    pub async fn cluster(&self) -> Result<ClusterDescription, Error> {
        let request = wire::describe_cluster::Request::default();
        let response = self.retry(|| self.cluster.call_any(&request)).await?;
        crate::error::check(response.error_code, || "describing the cluster".into())
            .map_err(|error| error.with_message(response.error_message.as_ref()))?;
        let broker = |broker: wire::describe_cluster::DescribeClusterBroker| BrokerDescription {
            id: broker.broker_id,
            address: Address { host: broker.host.into(), port: u16::try_from(broker.port).unwrap_or(0) },
            rack: broker.rack.map(Into::into),
        };
        let mut brokers: Vec<_> = response.brokers.into_iter().map(broker).collect();
        brokers.sort_by_key(|broker| broker.id);
        Ok(ClusterDescription { id: response.cluster_id.into(), controller: response.controller_id, brokers })
    }

    /// Offsets of partitions: their ends, or places in time.
    ///
    /// # Errors
    /// A partition does not exist, or the cluster cannot be reached.
    pub async fn offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
    ) -> Result<HashMap<TopicPartition, Offset>, Error> {
        self.retry(|| offsets::list(&self.cluster, wanted, false)).await
    }

    /// Deletes the records before an offset in each partition. Gives each partition's first offset afterwards.
    ///
    /// # Errors
    /// A partition does not exist or ends before the offset, or the cluster cannot be reached.
    pub async fn delete_records(
        &self,
        before: &HashMap<TopicPartition, Offset>,
    ) -> Result<HashMap<TopicPartition, Offset>, Error> {
        let mut starts = HashMap::new();
        for (partition, offset) in before {
            let start = self.retry(|| self.delete_before(partition, *offset)).await?;
            starts.insert(partition.clone(), start);
        }
        Ok(starts)
    }

    async fn delete_before(&self, partition: &TopicPartition, offset: Offset) -> Result<Offset, Error> {
        use wire::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic, Request};
        let (leader, _) = self.cluster.leader(&partition.topic, partition.partition).await?;
        let request = Request {
            topics: vec![DeleteRecordsTopic {
                name: wire::Text::from(&partition.topic),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: partition.partition,
                    offset: offset.0,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        let lane = crate::cluster::Lane::CONTROL;
        let response = self.cluster.call(leader, lane, i16::MAX, &request).await?;
        let answer = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let answer = answer.ok_or_else(|| {
            Error::broker(wire::ErrorCode::UNKNOWN_SERVER_ERROR, format!("deleting records of {partition}"))
        })?;
        let checked = crate::error::check(answer.error_code, || format!("deleting records of {partition}"));
        checked.inspect_err(|_| self.cluster.forget(&partition.topic))?;
        Ok(Offset(answer.low_watermark))
    }
}
