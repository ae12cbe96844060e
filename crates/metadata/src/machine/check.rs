//! The rules, command by command: which changes a command comes down to, or why it is refused.

use std::sync::Arc;

use records::{BrokerId, Incarnation, ProducerId, Timestamp};

use super::change::NextIds;
use super::command::{Command, Refusal, Reply};
use super::image::{Broker, Counters, Endpoint, Image, JournalState};
use super::{Change, check_journals, check_topics};

/// What a command that is not refused comes down to.
pub(super) type Checked = Result<(Reply, Vec<Change>), Refusal>;

/// How many producer ids one command may allocate.
const PRODUCER_IDS_MAX: u32 = 1_000_000;
/// The longest name, zone, host or listener name of a broker.
const TEXT_LEN_MAX: usize = 255;
/// How many endpoints a broker may have.
const ENDPOINTS_MAX: usize = 64;

/// Decides about one command. The answer's changes are to be applied to the same image that was asked.
///
/// # Errors
/// A [`Refusal`], which tells the caller what to do; nothing changes then.
pub fn check(image: &Image, command: &Command) -> Checked {
    match command {
        Command::RegisterBroker { name, zone, endpoints, at } => register_broker(image, name, zone, endpoints, *at),
        Command::FenceBroker { broker, incarnation, fenced } => fence_broker(image, *broker, *incarnation, *fenced),
        Command::OpenJournal { owner, incarnation, members, ack_quorum, at } => {
            check_journals::open(image, *owner, *incarnation, members, *ack_quorum, *at)
        }
        Command::RecoverJournal { journal, by } => check_journals::recover(image, *journal, *by),
        Command::SealJournal { journal, epoch, end, successor, partitions, at } => check_journals::Seal {
            journal: *journal,
            epoch: *epoch,
            end: *end,
            successor: *successor,
            partitions,
            at: *at,
        }
        .check(image),
        Command::CloseJournal { journal, end } => check_journals::close(image, *journal, *end),
        Command::AbandonJournal { journal, at } => check_journals::abandon(image, *journal, *at),
        Command::CommitObject { journal, from, to, object, extents, newest_append, durable_seen, at } => {
            check_journals::Commit {
                journal: *journal,
                from: *from,
                to: *to,
                object,
                extents,
                newest_append: *newest_append,
                durable_seen: *durable_seen,
                at: *at,
            }
            .check(image)
        }
        Command::CreateTopic { name, id, partitions, configs, at } => {
            check_topics::create(image, name, *id, *partitions, configs, *at)
        }
        Command::DeleteTopic { id, at } => check_topics::delete(image, *id, *at),
        Command::CreatePartitions { topic, total } => check_topics::create_partitions(image, *topic, *total),
        Command::AlterTopicConfigs { topic, changes, replace } => {
            check_topics::alter_configs(image, *topic, changes, *replace)
        }
        Command::AlterBrokerConfigs { broker, changes, replace } => {
            check_topics::alter_broker_configs(image, *broker, changes, *replace)
        }
        Command::SetLogStart { topic_partition, offset } => {
            check_topics::set_log_start(image, *topic_partition, *offset)
        }
        Command::AllocateProducerIds { count } => allocate_producer_ids(image, *count),
    }
}

pub(super) fn invalid<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(why.into()))
}

fn register_broker(image: &Image, name: &str, zone: &str, endpoints: &[Endpoint], at: Timestamp) -> Checked {
    let short = |text: &str| text.len() <= TEXT_LEN_MAX;
    if name.is_empty() || !short(name) || !short(zone) {
        return invalid(format!("a broker's name has 1 to {TEXT_LEN_MAX} bytes, its zone up to {TEXT_LEN_MAX}"));
    }
    if endpoints.len() > ENDPOINTS_MAX || !endpoints.iter().all(|at| short(&at.listener) && short(&at.host)) {
        return invalid(format!("a broker has up to {ENDPOINTS_MAX} endpoints with names up to {TEXT_LEN_MAX} bytes"));
    }
    let mut changes = Vec::new();
    let (id, incarnation) = match image.broker(name) {
        Some(known) => {
            let next = known.incarnation.0.checked_add(1).expect("a broker does not start 2^64 times");
            // Its drained journals have told everybody by now.
            changes.extend(forgettable(image, known.id, known.incarnation));
            (known.id, Incarnation(next))
        }
        None if image.brokers.len() >= image.limits.brokers_max => {
            return Err(Refusal::LimitReached { what: "brokers", limit: image.limits.brokers_max });
        }
        None => {
            let id = image.counters.broker;
            let next = BrokerId(id.0.checked_add(1).expect("fewer brokers than brokers_max"));
            changes.push(Change::PutCounters(NextIds(Counters { broker: next, ..image.counters })));
            (id, Incarnation(1))
        }
    };
    changes.push(Change::PutBroker(Arc::new(Broker {
        id,
        name: name.into(),
        zone: zone.to_owned(),
        endpoints: endpoints.to_vec(),
        incarnation,
        registered_at: at,
        fenced: false,
    })));
    Ok((Reply::Registered { broker: id, incarnation }, changes))
}

fn fence_broker(image: &Image, broker: BrokerId, incarnation: Incarnation, fenced: bool) -> Checked {
    let known = image.brokers.get(&broker).ok_or(Refusal::UnknownBroker(broker))?;
    if known.incarnation != incarnation {
        return Err(Refusal::StaleIncarnation { broker, current: known.incarnation });
    }
    if known.fenced == fenced {
        return Ok((Reply::Done, Vec::new()));
    }
    Ok((Reply::Done, vec![Change::PutBroker(Arc::new(Broker { fenced, ..(**known).clone() }))]))
}

/// Drained journals of `owner`'s incarnations below `below`: nobody needs to hear about them any more.
pub(super) fn forgettable(image: &Image, owner: BrokerId, below: Incarnation) -> impl Iterator<Item = Change> {
    image
        .journals
        .values()
        .filter(move |journal| {
            journal.owner == owner && journal.incarnation < below && journal.state == JournalState::Drained
        })
        .map(|journal| Change::ForgetJournal(journal.id))
}

fn allocate_producer_ids(image: &Image, count: u32) -> Checked {
    if count == 0 || count > PRODUCER_IDS_MAX {
        return invalid(format!("1 to {PRODUCER_IDS_MAX} producer ids can be allocated at once"));
    }
    let first = image.counters.producer;
    let next = first.0.checked_add(i64::from(count)).expect("producer ids stay below 2^63");
    let counters = Counters { producer: ProducerId(next), ..image.counters };
    Ok((Reply::ProducerIds { first, count }, vec![Change::PutCounters(NextIds(counters))]))
}
