//! Topics: create, delete, list, describe, widen.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::{ErrorCode, Text, Uuid, create_partitions, create_topics, delete_topics};

use super::Admin;
use crate::Error;
use crate::metadata::Topic;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; −1 leaves it to the cluster.
    pub partitions: i32,
    /// How many replicas of each; −1 leaves it to the cluster.
    pub replication: i16,
    /// Its configuration.
    pub configs: BTreeMap<String, String>,
    /// Check, but create nothing.
    pub validate_only: bool,
}

impl NewTopic {
    /// A topic with the cluster's defaults.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: -1, replication: -1, configs: BTreeMap::new(), validate_only: false }
    }

    /// With so many partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// With so many replicas.
    #[must_use]
    pub fn replication(mut self, replication: i16) -> Self {
        self.replication = replication;
        self
    }

    /// With this setting.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }
}

/// What was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// The topic's id; nil where the cluster does not tell.
    pub id: Uuid,
    /// How many partitions it got; −1 where the cluster does not tell.
    pub partitions: i32,
    /// How many replicas of each; −1 where the cluster does not tell.
    pub replication: i16,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: Uuid,
    /// Whether the cluster keeps it for itself.
    pub internal: bool,
    /// Its partitions; the place in the list is the number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its leader; −1 when it has none.
    pub leader: i32,
    /// The leader's epoch; −1 when it is not known.
    pub leader_epoch: i32,
    /// Brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that are up to date.
    pub in_sync: Vec<i32>,
}

impl Admin {
    /// Creates a topic.
    ///
    /// # Errors
    /// It exists (TOPIC_ALREADY_EXISTS; also when an earlier attempt of this call succeeded and its answer was lost), its
    /// name or settings are not legal, or the cluster cannot be reached.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, Error> {
        let config = |(name, value): (&String, &String)| create_topics::CreatableTopicConfig {
            name: Text::from(name),
            value: Some(Text::from(value)),
            ..Default::default()
        };
        let request = create_topics::Request {
            topics: vec![create_topics::CreatableTopic {
                name: Text::from(&topic.name),
                num_partitions: topic.partitions,
                replication_factor: topic.replication,
                configs: topic.configs.iter().map(config).collect(),
                ..Default::default()
            }],
            timeout_ms: self.timeout_ms(),
            validate_only: topic.validate_only,
            ..Default::default()
        };
        let what = || format!("creating topic {}", topic.name);
        self.retry(|| async {
            let response = self.cluster.call_controller(&request).await?;
            let answer = response.topics.into_iter().next();
            let answer = answer.ok_or_else(|| Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, what()))?;
            self.check_controller(answer.error_code, answer.error_message.as_ref(), what).await?;
            self.cluster.forget(&topic.name);
            Ok(CreatedTopic {
                id: answer.topic_id,
                partitions: answer.num_partitions,
                replication: answer.replication_factor,
            })
        })
        .await
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// It does not exist, or the cluster cannot be reached.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let request = delete_topics::Request {
            topics: vec![delete_topics::DeleteTopicState { name: Some(Text::from(name)), ..Default::default() }],
            timeout_ms: self.timeout_ms(),
            ..Default::default()
        };
        let what = || format!("deleting topic {name}");
        self.retry(|| async {
            let response = self.cluster.call_controller(&request).await?;
            let answer = response.responses.into_iter().next();
            let answer = answer.ok_or_else(|| Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, what()))?;
            // Elsewhere this passes; here it is the answer.
            if answer.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code() {
                return Ok(Err(Error::broker(answer.error_code, what())));
            }
            self.check_controller(answer.error_code, answer.error_message.as_ref(), what).await?;
            self.cluster.forget(name);
            Ok(Ok(()))
        })
        .await?
    }

    /// Gives a topic more partitions, `total` in all. Records with keys may then go to other partitions than before.
    ///
    /// # Errors
    /// It does not exist or has that many already, or the cluster cannot be reached.
    pub async fn create_partitions(&self, topic: &str, total: i32, validate_only: bool) -> Result<(), Error> {
        let request = create_partitions::Request {
            topics: vec![create_partitions::CreatePartitionsTopic {
                name: Text::from(topic),
                count: total,
                assignments: None,
                ..Default::default()
            }],
            timeout_ms: self.timeout_ms(),
            validate_only,
            ..Default::default()
        };
        let what = || format!("adding partitions to topic {topic}");
        self.retry(|| async {
            let response = self.cluster.call_controller(&request).await?;
            let answer = response.results.into_iter().next();
            let answer = answer.ok_or_else(|| Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, what()))?;
            if answer.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code() {
                return Ok(Err(Error::broker(answer.error_code, what())));
            }
            self.check_controller(answer.error_code, answer.error_message.as_ref(), what).await?;
            self.cluster.forget(topic);
            Ok(Ok(()))
        })
        .await?
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// The cluster cannot be reached.
    pub async fn topics(&self) -> Result<Vec<TopicDescription>, Error> {
        self.cluster.forget_leaders();
        self.retry(|| self.cluster.ask(None, false)).await?;
        let metadata = self.cluster.metadata();
        let mut topics: Vec<_> = metadata.topics.iter().map(|(name, topic)| describe(name, topic)).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic.
    ///
    /// # Errors
    /// It does not exist, or the cluster cannot be reached.
    pub async fn topic(&self, name: &str) -> Result<TopicDescription, Error> {
        self.retry(|| async {
            self.cluster.forget(name);
            match self.cluster.topic(name, false).await {
                // Elsewhere this passes; here it is the answer.
                Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(Err(error)),
                Err(error) => Err(error),
                Ok(topic) => Ok(Ok(describe(&name.into(), &topic))),
            }
        })
        .await?
    }

    /// Checks an answer of the controller; asks anew who that is when it is another one now.
    async fn check_controller(
        &self,
        code: i16,
        message: Option<&Text>,
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if code == ErrorCode::NOT_CONTROLLER.code() {
            self.cluster.refresh().await?;
        }
        crate::error::check(code, what).map_err(|error| error.with_message(message))
    }
}

fn describe(name: &Arc<str>, topic: &Topic) -> TopicDescription {
    let partition = |partition: &crate::metadata::Partition| PartitionDescription {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        replicas: partition.replicas.clone(),
        in_sync: partition.in_sync.clone(),
    };
    TopicDescription {
        name: name.clone(),
        id: topic.id,
        internal: topic.internal,
        partitions: topic.partitions.iter().map(partition).collect(),
    }
}
