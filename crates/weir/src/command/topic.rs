//! `weir topic`: make, list, describe, change and delete topics.

use std::collections::HashMap;
use std::fmt::Write as _;

use client::{
    Admin, Client, ConfigChange, ConfigSource, ErrorKind, NewTopic, Offset, OffsetSpec, Resource, TopicPartition,
};
use serde::Serialize;

use crate::connection::ConnectionArgs;
use crate::exit::{Failure, Outcome};
use crate::output::{self, OutputArgs, Row};

/// Make, list, describe, change and delete topics.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TopicCommand {
    /// Make a topic.
    #[command(after_help = "Example:\n  weir topic create orders --partitions 8 --config retention.ms=86400000")]
    Create {
        /// The topic's name.
        topic: String,
        /// How many partitions; by default what the cluster is configured to.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How many replicas; by default what the cluster is configured to.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A setting of the topic; may be given several times.
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = pair)]
        configs: Vec<(String, String)>,
        /// Do nothing when the topic is there already.
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// List all topics.
    #[command(after_help = "Example:\n  weir topic list -o json")]
    List {
        /// List the topics too that the cluster keeps for itself.
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Show a topic's partitions, offsets and settings.
    #[command(after_help = "Example:\n  weir topic describe orders")]
    Describe {
        /// The topic's name.
        topic: String,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Change a topic's settings or give it more partitions.
    #[command(
        after_help = "Example:\n  weir topic alter orders --partitions 16 --set retention.ms=3600000 --unset cleanup.policy"
    )]
    #[group(required = true, multiple = true, id = "change", args = ["partitions", "set", "unset"])]
    Alter {
        /// The topic's name.
        topic: String,
        /// How many partitions it is to have; more than now.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Give a setting this value; may be given several times.
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
        /// Give a setting its default back; may be given several times.
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Delete topics and all their records.
    #[command(after_help = "Example:\n  weir topic delete orders")]
    Delete {
        /// The topics' names.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the command.
pub(crate) async fn run(command: TopicCommand) -> Outcome {
    match command {
        TopicCommand::Create { topic, partitions, replication_factor, configs, if_not_exists, connection } => {
            let new = NewTopic {
                partitions: partitions.unwrap_or(-1),
                replication: replication_factor.unwrap_or(-1),
                configs: configs.into_iter().collect(),
                ..NewTopic::named(topic)
            };
            let client = connection.client().await?;
            create(&client.admin(), &new, if_not_exists).await?;
            client.close().await;
        }
        TopicCommand::List { internal, output, connection } => {
            let client = connection.client().await?;
            let listed = list(&client.admin(), internal).await?;
            client.close().await;
            output::rows(output.output, &listed)?;
        }
        TopicCommand::Describe { topic, output, connection } => {
            let client = connection.client().await?;
            let described = describe(&client.admin(), &topic).await?;
            client.close().await;
            output::description(output.output, &described, &described.table())?;
        }
        TopicCommand::Alter { topic, partitions, set, unset, connection } => {
            let client = connection.client().await?;
            alter(&client.admin(), &topic, partitions, set, unset).await?;
            client.close().await;
        }
        TopicCommand::Delete { topics, connection } => {
            let client = connection.client().await?;
            for topic in topics {
                client.admin().delete_topic(&topic).await?;
                output::text(&format!("deleted {topic}"))?;
            }
            client.close().await;
        }
    }
    Ok(())
}

async fn create(admin: &Admin, new: &NewTopic, if_not_exists: bool) -> Outcome {
    match admin.create_topic(new).await {
        Ok(created) => {
            let which = if created.partitions == 1 { "partition" } else { "partitions" };
            match created.partitions {
                -1 => output::text(&format!("created {}", new.name)),
                count => output::text(&format!("created {} with {count} {which}", new.name)),
            }
        }
        Err(error) if if_not_exists && exists(&error) => output::text(&format!("{} is there already", new.name)),
        Err(error) => Err(error.into()),
    }
}

fn exists(error: &client::Error) -> bool {
    error.code() == Some(wire::ErrorCode::TOPIC_ALREADY_EXISTS)
}

/// A topic in the list.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    partitions: usize,
    internal: bool,
}

impl Row for Listed {
    const COLUMNS: &'static [&'static str] = &["topic", "partitions", "internal"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.partitions.to_string(), if self.internal { "yes" } else { "no" }.to_owned()]
    }
}

async fn list(admin: &Admin, internal: bool) -> Result<Vec<Listed>, Failure> {
    let topics = admin.topics().await?.into_iter().filter(|topic| internal || !topic.internal);
    Ok(topics
        .map(|topic| Listed {
            name: topic.name.to_string(),
            partitions: topic.partitions.len(),
            internal: topic.internal,
        })
        .collect())
}

/// A topic in full.
#[derive(Debug, Serialize)]
struct Described {
    name: String,
    id: String,
    internal: bool,
    partitions: Vec<DescribedPartition>,
    configs: Vec<DescribedConfig>,
    /// What a person should know of these settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct DescribedPartition {
    partition: i32,
    leader: i32,
    leader_epoch: i32,
    start: i64,
    end: i64,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
}

#[derive(Debug, Serialize)]
struct DescribedConfig {
    key: String,
    value: Option<String>,
    source: &'static str,
}

impl Described {
    fn table(&self) -> String {
        let mut out = format!("Topic {} (id {})\n\n", self.name, self.id);
        for note in &self.notes {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "Note: {note}\n");
        }
        let joined = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let partitions = self.partitions.iter().map(|one| {
            let mut row: Vec<String> =
                [one.partition, one.leader, one.leader_epoch].map(|number| number.to_string()).into();
            row.extend([one.start, one.end, one.end - one.start].map(|number| number.to_string()));
            row.extend([joined(&one.replicas), joined(&one.in_sync)]);
            row
        });
        let columns = ["partition", "leader", "epoch", "start", "end", "records", "replicas", "in sync"];
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}\n", output::table(&columns, partitions));
        let configs = self.configs.iter().map(|one| {
            vec![one.key.clone(), one.value.clone().unwrap_or_else(|| "-".to_owned()), one.source.to_owned()]
        });
        out.push_str(&output::table(&["setting", "value", "source"], configs));
        out
    }
}

async fn describe(admin: &Admin, topic: &str) -> Result<Described, Failure> {
    let described = admin.topic(topic).await?;
    let partitions: Vec<TopicPartition> = (0..)
        .take(described.partitions.len())
        .map(|partition| TopicPartition::new(described.name.clone(), partition))
        .collect();
    let starts = offsets(admin, &partitions, OffsetSpec::Start).await?;
    let ends = offsets(admin, &partitions, OffsetSpec::End).await?;
    let configs = admin.configs(&Resource::Topic(topic.to_owned())).await?;
    let policy =
        configs.iter().find(|config| config.name == "cleanup.policy").and_then(|config| config.value.as_deref());
    let notes = note(policy.unwrap_or_default()).into_iter().collect();
    let at = |known: &HashMap<TopicPartition, Offset>, partition| known.get(partition).map_or(-1, |offset| offset.0);
    Ok(Described {
        name: described.name.to_string(),
        id: described.id.to_string(),
        internal: described.internal,
        partitions: described
            .partitions
            .into_iter()
            .zip(&partitions)
            .map(|(one, partition)| DescribedPartition {
                partition: partition.partition,
                leader: one.leader,
                leader_epoch: one.leader_epoch,
                start: at(&starts, partition),
                end: at(&ends, partition),
                replicas: one.replicas,
                in_sync: one.in_sync,
            })
            .collect(),
        configs: configs
            .into_iter()
            .map(|config| DescribedConfig {
                source: source(config.source),
                value: if config.sensitive { None } else { config.value },
                key: config.name,
            })
            .collect(),
        notes,
    })
}

/// What a person should know of a cleanup policy.
fn note(policy: &str) -> Option<&'static str> {
    let has = |word: &str| policy.split(',').any(|one| one.trim() == word);
    match (has("compact"), has("delete")) {
        (true, false) => Some("compaction is not carried out yet: nothing is deleted from this topic"),
        (true, true) => Some("compaction is not carried out yet: records go by retention.ms and retention.bytes only"),
        _ => None,
    }
}

fn source(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "topic",
        ConfigSource::Broker => "broker",
        ConfigSource::AllBrokers => "all brokers",
        ConfigSource::File => "file",
        ConfigSource::Default => "default",
        ConfigSource::Group => "group",
        ConfigSource::Other(_) => "other",
    }
}

async fn alter(
    admin: &Admin,
    topic: &str,
    partitions: Option<i32>,
    set: Vec<(String, String)>,
    unset: Vec<String>,
) -> Outcome {
    let set = set.into_iter().map(|(key, value)| ConfigChange::Set(key, value));
    let changes: Vec<ConfigChange> = set.chain(unset.into_iter().map(ConfigChange::Delete)).collect();
    let resource = Resource::Topic(topic.to_owned());
    if !changes.is_empty() && partitions.is_some() {
        // What cannot be done is found out before anything is done.
        admin.alter_configs(&resource, &changes, true).await?;
    }
    if let Some(total) = partitions {
        admin.create_partitions(topic, total, false).await?;
    }
    if !changes.is_empty() {
        admin.alter_configs(&resource, &changes, false).await?;
    }
    output::text(&format!("altered {topic}"))
}

/// Makes the topic where it is missing, and gives the number of its partitions.
pub(crate) async fn ensure(client: &Client, topic: &str, partitions: i32) -> Result<i32, Failure> {
    let admin = client.admin();
    match admin.topic(topic).await {
        Ok(found) => return Ok(i32::try_from(found.partitions.len()).unwrap_or(i32::MAX)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    match admin.create_topic(&NewTopic::named(topic).partitions(partitions)).await {
        Ok(_) => {}
        Err(error) if exists(&error) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(i32::try_from(admin.topic(topic).await?.partitions.len()).unwrap_or(i32::MAX))
}

/// The chosen partitions of a topic, all of them where none is chosen.
pub(crate) async fn partitions(client: &Client, topic: &str, chosen: &[i32]) -> Result<Vec<TopicPartition>, Failure> {
    let count = client.admin().topic(topic).await?.partitions.len();
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    if let Some(missing) = chosen.iter().find(|partition| **partition >= count) {
        return Err(Failure::not_found(format!("the topic {topic} has no partition {missing}: it has {count}")));
    }
    let numbers: Vec<i32> = if chosen.is_empty() { (0..count).collect() } else { chosen.to_vec() };
    Ok(numbers.into_iter().map(|partition| TopicPartition::new(topic, partition)).collect())
}

/// Where partitions end now.
pub(crate) async fn ends(
    client: &Client,
    partitions: &[TopicPartition],
) -> Result<HashMap<TopicPartition, Offset>, Failure> {
    offsets(&client.admin(), partitions, OffsetSpec::End).await
}

/// The same place in several partitions.
pub(super) async fn offsets(
    admin: &Admin,
    partitions: &[TopicPartition],
    place: OffsetSpec,
) -> Result<HashMap<TopicPartition, Offset>, Failure> {
    let wanted: Vec<_> = partitions.iter().map(|partition| (partition.clone(), place)).collect();
    Ok(admin.offsets(&wanted).await?)
}

#[cfg(test)]
mod tests {
    use super::note;

    #[test]
    fn a_policy_that_is_not_carried_out_is_said_to_be_so() {
        assert!(note("compact").is_some_and(|note| note.contains("nothing is deleted")));
        assert!(note("compact, delete").is_some_and(|note| note.contains("retention.ms")));
        assert_eq!((note("delete"), note("")), (None, None));
    }
}
