//! Configurations of topics and brokers.

use wire::{ErrorCode, Text, describe_configs, incremental_alter_configs};

use super::Admin;
use crate::Error;

/// What has a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// One broker, or with `None` the defaults of all.
    Broker(Option<i32>),
    /// A consumer group.
    Group(String),
}

impl Resource {
    fn wire(&self) -> (i8, Text) {
        match self {
            Self::Topic(name) => (2, Text::from(name)),
            Self::Broker(id) => (4, id.map(|id| Text::from(id.to_string())).unwrap_or_default()),
            Self::Group(name) => (32, Text::from(name)),
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Topic(name) => format!("the configuration of topic {name}"),
            Self::Broker(Some(id)) => format!("the configuration of broker {id}"),
            Self::Broker(None) => "the configuration of all brokers".into(),
            Self::Group(name) => format!("the configuration of group {name}"),
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for the broker while running.
    Broker,
    /// Set for all brokers while running.
    AllBrokers,
    /// The broker's configuration file.
    File,
    /// The default.
    Default,
    /// Set for the group.
    Group,
    /// Something newer than this client.
    Other(i8),
}

impl ConfigSource {
    fn from_wire(number: i8) -> Self {
        match number {
            1 => Self::Topic,
            2 => Self::Broker,
            3 => Self::AllBrokers,
            4 => Self::File,
            5 => Self::Default,
            8 => Self::Group,
            other => Self::Other(other),
        }
    }
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Its value; none for a secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// Whether its value is a secret.
    pub sensitive: bool,
    /// What it means.
    pub documentation: Option<String>,
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets the value.
    Set(String, String),
    /// Goes back to the default.
    Delete(String),
    /// Adds an item to a list.
    Append(String, String),
    /// Takes an item from a list.
    Subtract(String, String),
}

impl Admin {
    /// All settings of a resource, by name.
    ///
    /// # Errors
    /// It does not exist, or the cluster cannot be reached.
    pub async fn configs(&self, resource: &Resource) -> Result<Vec<Config>, Error> {
        let (resource_type, resource_name) = resource.wire();
        let request = describe_configs::Request {
            resources: vec![describe_configs::DescribeConfigsResource {
                resource_type,
                resource_name,
                configuration_keys: None,
                ..Default::default()
            }],
            include_documentation: true,
            ..Default::default()
        };
        let what = || format!("reading {}", resource.what());
        let answer = self
            .retry(|| async {
                let response = self.call_for(resource, &request).await?;
                let answer = response.results.into_iter().next();
                answer.ok_or_else(|| Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, what()))
            })
            .await?;
        crate::error::check(answer.error_code, what)
            .map_err(|error| error.with_message(answer.error_message.as_ref()))?;
        let config = |config: describe_configs::DescribeConfigsResourceResult| Config {
            name: config.name.into(),
            value: config.value.map(Into::into),
            source: ConfigSource::from_wire(config.config_source),
            read_only: config.read_only,
            sensitive: config.is_sensitive,
            documentation: config.documentation.map(Into::into),
        };
        let mut configs: Vec<_> = answer.configs.into_iter().map(config).collect();
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(configs)
    }

    /// Changes settings of a resource, all or none of them.
    ///
    /// # Errors
    /// The resource or a setting does not exist, a value is not legal, or the cluster cannot be reached.
    pub async fn alter_configs(
        &self,
        resource: &Resource,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), Error> {
        let (resource_type, resource_name) = resource.wire();
        let change = |change: &ConfigChange| {
            let (config_operation, name, value) = match change {
                ConfigChange::Set(name, value) => (0, name, Some(value)),
                ConfigChange::Delete(name) => (1, name, None),
                ConfigChange::Append(name, value) => (2, name, Some(value)),
                ConfigChange::Subtract(name, value) => (3, name, Some(value)),
            };
            incremental_alter_configs::AlterableConfig {
                name: Text::from(name),
                config_operation,
                value: value.map(Text::from),
                ..Default::default()
            }
        };
        let request = incremental_alter_configs::Request {
            resources: vec![incremental_alter_configs::AlterConfigsResource {
                resource_type,
                resource_name,
                configs: changes.iter().map(change).collect(),
                ..Default::default()
            }],
            validate_only,
            ..Default::default()
        };
        let what = || format!("changing {}", resource.what());
        let answer = self
            .retry(|| async {
                let response = self.call_for(resource, &request).await?;
                let answer = response.responses.into_iter().next();
                answer.ok_or_else(|| Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, what()))
            })
            .await?;
        crate::error::check(answer.error_code, what).map_err(|error| error.with_message(answer.error_message.as_ref()))
    }

    /// A broker's own configuration is asked of that broker, the rest of any.
    async fn call_for<C: wire::Call>(&self, resource: &Resource, request: &C) -> Result<C::Response, Error> {
        match resource {
            Resource::Broker(Some(id)) => {
                if !self.cluster.metadata().brokers.contains_key(id) {
                    self.cluster.refresh().await?;
                }
                self.cluster.call(*id, crate::cluster::Lane::CONTROL, i16::MAX, request).await
            }
            _ => self.cluster.call_any(request).await,
        }
    }
}
