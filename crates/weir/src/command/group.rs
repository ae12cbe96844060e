//! `weir group`: list, describe, reset and delete consumer groups.

use std::collections::{BTreeMap, HashMap};

use client::{Admin, Client, GroupDescription, Offset, OffsetSpec, TopicPartition};
use serde::Serialize;

use crate::command::topic;
use crate::connection::ConnectionArgs;
use crate::exit::{Failure, Outcome};
use crate::output::{self, OutputArgs, Row};
use crate::place::Place;

/// List, describe, reset and delete consumer groups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum GroupCommand {
    /// List all groups.
    #[command(after_help = "Example:\n  weir group list -o json")]
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Show a group's members, what it has committed, and how far it is behind.
    #[command(after_help = "Example:\n  weir group describe billing")]
    Describe {
        /// The group's name.
        group: String,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Move a group to another place in its topics; shows what it would do until --execute.
    #[command(
        after_help = "Example:\n  weir group reset billing --topic orders --from 2026-01-31T12:00:00Z --execute\n\n\
        The group must have no members while it is moved."
    )]
    Reset(ResetArgs),
    /// Delete groups and what they have committed; they must have no members.
    #[command(after_help = "Example:\n  weir group delete billing")]
    Delete {
        /// The groups' names.
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

/// Which group to move where.
#[derive(Debug, clap::Args)]
pub(crate) struct ResetArgs {
    /// The group's name.
    group: String,
    /// The topic, or TOPIC:PARTITION,PARTITION…; may be given several times. By default all that the group has committed.
    #[arg(long = "topic", value_name = "TOPIC[:PARTITIONS]", value_parser = chosen)]
    topics: Vec<Chosen>,
    /// Where it is to go on: start, end, an offset, @MILLISECONDS since 1970, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "PLACE", required_unless_present = "by", conflicts_with = "by")]
    from: Option<Place>,
    /// Go on so many records later, or earlier where the number is negative.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    by: Option<i64>,
    /// Do it.
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// A topic and some of its partitions; none means all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chosen {
    topic: String,
    partitions: Vec<i32>,
}

fn chosen(text: &str) -> Result<Chosen, String> {
    let (topic, list) = text.split_once(':').map_or((text, None), |(topic, list)| (topic, Some(list)));
    let number = |text: &str| text.parse().ok().filter(|number: &i32| *number >= 0);
    let partitions: Option<Vec<i32>> = list.map_or(Some(Vec::new()), |list| list.split(',').map(number).collect());
    match partitions {
        Some(partitions) if !topic.is_empty() => Ok(Chosen { topic: topic.to_owned(), partitions }),
        _ => Err("must be TOPIC or TOPIC:0,1,2".to_owned()),
    }
}

/// Runs the command.
pub(crate) async fn run(command: GroupCommand) -> Outcome {
    match command {
        GroupCommand::List { output, connection } => {
            let client = connection.client().await?;
            let listed = list(&client.admin()).await?;
            client.close().await;
            output::rows(output.output, &listed)
        }
        GroupCommand::Describe { group, output, connection } => {
            let client = connection.client().await?;
            let described = describe(&client.admin(), &group).await?;
            client.close().await;
            output::description(output.output, &described, &described.table())
        }
        GroupCommand::Reset(args) => reset(args).await,
        GroupCommand::Delete { groups, connection } => {
            let client = connection.client().await?;
            for group in groups {
                client.admin().delete_group(&group).await?;
                output::text(&format!("deleted {group}"))?;
            }
            client.close().await;
            Ok(())
        }
    }
}

/// A group in the list.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    state: String,
    protocol_type: String,
}

impl Row for Listed {
    const COLUMNS: &'static [&'static str] = &["group", "state", "protocol"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.state.clone(), self.protocol_type.clone()]
    }
}

async fn list(admin: &Admin) -> Result<Vec<Listed>, Failure> {
    let groups = admin.groups().await?.into_iter();
    Ok(groups
        .map(|group| Listed { name: group.name, state: group.state, protocol_type: group.protocol_type })
        .collect())
}

/// A group in full.
#[derive(Debug, Serialize)]
struct Described {
    name: String,
    state: String,
    protocol_type: String,
    assignor: String,
    coordinator: i32,
    members: Vec<DescribedMember>,
    offsets: Vec<DescribedOffset>,
}

#[derive(Debug, Serialize)]
struct DescribedMember {
    id: String,
    instance: Option<String>,
    client_id: String,
    host: String,
    partitions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct DescribedOffset {
    topic: String,
    partition: i32,
    /// Nothing when a member has the partition and nothing is committed.
    committed: Option<i64>,
    start: i64,
    end: i64,
    lag: i64,
    /// Which member reads it.
    member: Option<String>,
}

impl Described {
    fn table(&self) -> String {
        let mut out = format!(
            "Group {}: {}, coordinated by broker {}{}\n",
            self.name,
            self.state,
            self.coordinator,
            if self.assignor.is_empty() { String::new() } else { format!(", divided by {}", self.assignor) },
        );
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        if !self.members.is_empty() {
            let rows = self.members.iter().map(|one| {
                vec![
                    one.id.clone(),
                    dash(&one.instance),
                    one.client_id.clone(),
                    one.host.clone(),
                    one.partitions.join(" "),
                ]
            });
            let columns = ["member", "instance", "client", "host", "partitions"];
            out.push_str(&format!("\n{}\n", output::table(&columns, rows)));
        }
        if !self.offsets.is_empty() {
            let rows = self.offsets.iter().map(|one| {
                let mut row = vec![one.topic.clone(), one.partition.to_string()];
                row.push(dash(&one.committed.map(|offset| offset.to_string())));
                row.extend([one.end, one.lag].map(|number| number.to_string()));
                row.push(dash(&one.member));
                row
            });
            let columns = ["topic", "partition", "committed", "end", "lag", "member"];
            out.push_str(&format!("\n{}", output::table(&columns, rows)));
        }
        out
    }
}

async fn describe(admin: &Admin, name: &str) -> Result<Described, Failure> {
    let group = admin.group(name).await?;
    let committed = admin.group_offsets(name).await?;
    let readers: BTreeMap<TopicPartition, String> = readers(&group);
    let mut partitions: Vec<TopicPartition> = committed.keys().chain(readers.keys()).cloned().collect();
    partitions.sort();
    partitions.dedup();
    // Topics that are gone have no ends; what was committed for them is left out.
    let partitions = existing(admin, partitions).await?;
    let starts = topic::offsets(admin, &partitions, OffsetSpec::Start).await?;
    let ends = topic::offsets(admin, &partitions, OffsetSpec::End).await?;
    let offsets = partitions.iter().map(|partition| {
        let committed = committed.get(partition).map(|committed| committed.offset.0);
        let start = starts.get(partition).map_or(0, |offset| offset.0);
        let end = ends.get(partition).map_or(0, |offset| offset.0);
        DescribedOffset {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            committed,
            start,
            end,
            lag: lag(committed, start, end),
            member: readers.get(partition).cloned(),
        }
    });
    Ok(Described {
        offsets: offsets.collect(),
        members: group
            .members
            .into_iter()
            .map(|member| DescribedMember {
                id: member.id,
                instance: member.instance,
                client_id: member.client_id,
                host: member.host,
                partitions: member.partitions.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        name: group.name,
        state: group.state,
        protocol_type: group.protocol_type,
        assignor: group.assignor,
        coordinator: group.coordinator,
    })
}

/// Records that are there and not read yet. Before the first commit that is all that there is.
fn lag(committed: Option<i64>, start: i64, end: i64) -> i64 {
    (end - committed.unwrap_or(start).max(start)).max(0)
}

/// Which member reads which partition.
fn readers(group: &GroupDescription) -> BTreeMap<TopicPartition, String> {
    let of = |member: &client::GroupMember| {
        let id = member.id.clone();
        member.partitions.clone().into_iter().map(move |partition| (partition, id.clone())).collect::<Vec<_>>()
    };
    group.members.iter().flat_map(of).collect()
}

/// Those of the partitions that exist.
async fn existing(admin: &Admin, mut partitions: Vec<TopicPartition>) -> Result<Vec<TopicPartition>, Failure> {
    let counts: HashMap<_, _> =
        admin.topics().await?.into_iter().map(|topic| (topic.name, topic.partitions.len())).collect();
    partitions.retain(|partition| {
        let number = usize::try_from(partition.partition).ok();
        number.zip(counts.get(&partition.topic)).is_some_and(|(number, count)| number < *count)
    });
    Ok(partitions)
}

/// One move of a group.
#[derive(Debug, Serialize)]
struct Move {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: i64,
    done: bool,
}

impl Row for Move {
    const COLUMNS: &'static [&'static str] = &["topic", "partition", "from", "to"];

    fn cells(&self) -> Vec<String> {
        let from = self.from.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        vec![self.topic.clone(), self.partition.to_string(), from, self.to.to_string()]
    }
}

async fn reset(args: ResetArgs) -> Outcome {
    let client = args.connection.client().await?;
    let admin = client.admin();
    let committed: HashMap<TopicPartition, Offset> = admin
        .group_offsets(&args.group)
        .await?
        .into_iter()
        .map(|(partition, known)| (partition, known.offset))
        .collect();
    let partitions = reset_partitions(&client, &args, &committed).await?;
    if partitions.is_empty() {
        let told = format!("the group {} has committed nothing; name a topic with --topic", args.group);
        return Err(Failure::not_found(told));
    }
    let starts = topic::offsets(&admin, &partitions, OffsetSpec::Start).await?;
    let ends = topic::offsets(&admin, &partitions, OffsetSpec::End).await?;
    let wanted: HashMap<TopicPartition, Offset> = match (args.from, args.by) {
        (Some(place), _) => topic::offsets(&admin, &partitions, place.spec()).await?,
        (None, by) => {
            let moved = |partition: &TopicPartition| {
                let from = committed.get(partition).or(starts.get(partition)).copied().unwrap_or(Offset(0));
                (partition.clone(), Offset(from.0.saturating_add(by.unwrap_or(0))))
            };
            partitions.iter().map(moved).collect()
        }
    };
    let mut offsets = HashMap::new();
    let mut moves = Vec::new();
    for partition in &partitions {
        let bound = |known: &HashMap<TopicPartition, Offset>| known.get(partition).map_or(0, |offset| offset.0);
        let (start, end) = (bound(&starts), bound(&ends));
        let to = wanted.get(partition).map_or(end, |offset| offset.0).clamp(start, end);
        offsets.insert(partition.clone(), Offset(to));
        let from = committed.get(partition).map(|offset| offset.0);
        moves.push(Move {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            from,
            to,
            done: args.execute,
        });
    }
    if args.execute {
        refuse_with_members(&admin, &args.group).await?;
        admin.set_group_offsets(&args.group, &offsets).await?;
    }
    client.close().await;
    output::rows(args.output.output, &moves)?;
    if !args.execute {
        // Nothing can be done when standard error is closed.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"nothing was changed: add --execute to do it\n");
    }
    Ok(())
}

/// The partitions to move: those that were named, or all that have a commit and still exist.
async fn reset_partitions(
    client: &Client,
    args: &ResetArgs,
    committed: &HashMap<TopicPartition, Offset>,
) -> Result<Vec<TopicPartition>, Failure> {
    let mut all = Vec::new();
    for chosen in &args.topics {
        all.extend(topic::partitions(client, &chosen.topic, &chosen.partitions).await?);
    }
    if args.topics.is_empty() {
        all = existing(&client.admin(), committed.keys().cloned().collect()).await?;
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// The coordinator would refuse too; this says why and what to do. A group that does not exist yet may be given a place.
async fn refuse_with_members(admin: &Admin, group: &str) -> Outcome {
    match admin.group(group).await {
        Ok(described) if !described.members.is_empty() => {
            let count = described.members.len();
            let which = if count == 1 { "member" } else { "members" };
            Err(anyhow::anyhow!("the group {group} has {count} {which}; stop them, then reset it").into())
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == client::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Chosen, chosen, lag};

    #[test]
    fn topics_and_partitions_are_read() {
        let expected = |partitions: &[i32]| Ok(Chosen { topic: "t".to_owned(), partitions: partitions.to_vec() });
        assert_eq!(chosen("t"), expected(&[]));
        assert_eq!(chosen("t:0,12"), expected(&[0, 12]));
        for wrong in ["", ":1", "t:", "t:x", "t:-1"] {
            assert!(chosen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lag_counts_records_that_are_there() {
        assert_eq!(lag(Some(4), 0, 10), 6);
        assert_eq!(lag(None, 3, 10), 7);
        // Committed below what retention has left.
        assert_eq!(lag(Some(1), 3, 10), 7);
        assert_eq!(lag(Some(12), 0, 10), 0);
    }
}
