//! Replies and refusals.

use proto::controller::refusal as wire;
use proto::controller::{Refusal as SentRefusal, Reply as SentReply, SubmitAnswer, reply, submit_answer::Answer};
use records::{BrokerId, Incarnation, JournalId, Offset, Position, ProducerId, TopicId, TopicPartition};

use super::{CodecError, bytes, topic_partition, uuid};
use crate::handle::SubmitError;
use crate::machine::{Refusal, Reply};

/// What became of a command, and the revision from which on the state has it.
#[must_use]
pub fn to_answer(outcome: Result<Reply, SubmitError>, revision: u64) -> SubmitAnswer {
    let answer = match outcome {
        Ok(reply) => Answer::Reply(to_reply(&reply)),
        Err(SubmitError::Refused(refusal)) => Answer::Refusal(to_refusal(&refusal)),
        Err(error) => Answer::Stopped(error.to_string()),
    };
    SubmitAnswer { answer: Some(answer), revision }
}

/// The reply that was sent, or the refusal; nothing when the controller stopped before it could tell.
///
/// # Errors
/// [`CodecError`].
pub fn from_answer(sent: SubmitAnswer) -> Result<Option<Result<Reply, Refusal>>, CodecError> {
    Ok(match sent.answer.ok_or(CodecError("an answer of a newer version"))? {
        Answer::Reply(reply) => Some(Ok(from_reply(reply)?)),
        Answer::Refusal(refusal) => Some(Err(from_refusal(refusal)?)),
        Answer::Stopped(_) => None,
    })
}

fn to_reply(reply: &Reply) -> SentReply {
    use reply::Reply as R;
    let sent = match reply {
        Reply::Registered { broker, incarnation } => {
            R::Registered(reply::Registered { broker: broker.0, incarnation: incarnation.0 })
        }
        Reply::JournalOpened { journal } => R::JournalOpened(journal.0),
        Reply::Recovering { epoch } => R::Recovering(*epoch),
        Reply::JournalSealed { end } => R::JournalSealed(end.0),
        Reply::Committed { uploaded } => R::Committed(uploaded.0),
        Reply::TopicCreated { id } => R::TopicCreated(bytes(id.0)),
        Reply::ProducerIds { first, count } => R::ProducerIds(reply::ProducerIds { first: first.0, count: *count }),
        Reply::Done => R::Done(reply::Done {}),
    };
    SentReply { reply: Some(sent) }
}

fn from_reply(sent: SentReply) -> Result<Reply, CodecError> {
    use reply::Reply as R;
    Ok(match sent.reply.ok_or(CodecError("a reply of a newer version"))? {
        R::Registered(reply::Registered { broker, incarnation }) => {
            Reply::Registered { broker: BrokerId(broker), incarnation: Incarnation(incarnation) }
        }
        R::JournalOpened(journal) => Reply::JournalOpened { journal: JournalId(journal) },
        R::Recovering(epoch) => Reply::Recovering { epoch },
        R::JournalSealed(end) => Reply::JournalSealed { end: Position(end) },
        R::Committed(uploaded) => Reply::Committed { uploaded: Position(uploaded) },
        R::TopicCreated(id) => Reply::TopicCreated { id: TopicId(uuid(&id)?) },
        R::ProducerIds(reply::ProducerIds { first, count }) => Reply::ProducerIds { first: ProducerId(first), count },
        R::Done(reply::Done {}) => Reply::Done,
    })
}

fn to_refusal(refusal: &Refusal) -> SentRefusal {
    use wire::Refusal as R;
    let partition = |of: &TopicPartition, offset: Offset| wire::Partition {
        topic: bytes(of.topic.0),
        partition: of.partition.0,
        offset: offset.0,
    };
    let number = |of: u64, current: u64| wire::Number { of, current };
    let sent = match refusal {
        Refusal::UnknownTopic(id) => R::UnknownTopic(bytes(id.0)),
        Refusal::UnknownPartition(of) => R::UnknownPartition(partition(of, Offset(0))),
        Refusal::UnknownBroker(broker) => R::UnknownBroker(broker.0),
        Refusal::UnknownJournal(journal) => R::UnknownJournal(journal.0),
        Refusal::TopicExists { name, id } => {
            R::TopicExists(wire::Named { name: name.clone(), id: bytes(id.0), existing: String::new() })
        }
        Refusal::TopicCollision { name, existing } => {
            R::TopicCollision(wire::Named { name: name.clone(), id: bytes::Bytes::new(), existing: existing.clone() })
        }
        Refusal::InvalidTopicName(why) => R::InvalidTopicName(why.clone()),
        Refusal::InvalidPartitions(why) => R::InvalidPartitions(why.clone()),
        Refusal::InvalidConfig(why) => R::InvalidConfig(why.clone()),
        Refusal::OffsetOutOfRange { topic_partition, offset } => {
            R::OffsetOutOfRange(partition(topic_partition, *offset))
        }
        Refusal::LimitReached { what, limit } => {
            R::LimitReached(wire::Limit { what: (*what).to_owned(), limit: *limit as u64 })
        }
        Refusal::NoOpenJournal => R::NoOpenJournal(true),
        Refusal::StaleIncarnation { broker, current } => {
            R::StaleIncarnation(number(u64::from(broker.0.cast_unsigned()), current.0))
        }
        Refusal::StaleEpoch { journal, current } => R::StaleEpoch(number(journal.0, *current)),
        Refusal::JournalEnded { journal, end } => R::JournalEnded(number(journal.0, end.0)),
        Refusal::WrongFrontier { journal, uploaded } => R::WrongFrontier(number(journal.0, uploaded.0)),
        Refusal::NotContiguous { topic_partition, frontier } => R::NotContiguous(partition(topic_partition, *frontier)),
        Refusal::Invalid(why) => R::Invalid(why.clone()),
    };
    SentRefusal { refusal: Some(sent) }
}

fn from_refusal(sent: SentRefusal) -> Result<Refusal, CodecError> {
    use wire::Refusal as R;
    let of = |sent: &wire::Partition| topic_partition(&sent.topic, sent.partition);
    Ok(match sent.refusal.ok_or(CodecError("a refusal of a newer version"))? {
        R::UnknownTopic(id) => Refusal::UnknownTopic(TopicId(uuid(&id)?)),
        R::UnknownPartition(sent) => Refusal::UnknownPartition(of(&sent)?),
        R::UnknownBroker(broker) => Refusal::UnknownBroker(BrokerId(broker)),
        R::UnknownJournal(journal) => Refusal::UnknownJournal(JournalId(journal)),
        R::TopicExists(wire::Named { name, id, .. }) => Refusal::TopicExists { name, id: TopicId(uuid(&id)?) },
        R::TopicCollision(wire::Named { name, existing, .. }) => Refusal::TopicCollision { name, existing },
        R::InvalidTopicName(why) => Refusal::InvalidTopicName(why),
        R::InvalidPartitions(why) => Refusal::InvalidPartitions(why),
        R::InvalidConfig(why) => Refusal::InvalidConfig(why),
        R::OffsetOutOfRange(sent) => {
            Refusal::OffsetOutOfRange { topic_partition: of(&sent)?, offset: Offset(sent.offset) }
        }
        R::LimitReached(wire::Limit { what, limit }) => {
            // The names are the machine's own; one of a newer version is not known by name.
            let what = ["topics", "partitions", "brokers", "journals"].into_iter().find(|known| *known == what);
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            Refusal::LimitReached { what: what.unwrap_or("of what was asked for"), limit }
        }
        R::NoOpenJournal(_) => Refusal::NoOpenJournal,
        R::StaleIncarnation(wire::Number { of, current }) => {
            let broker = u32::try_from(of).map_err(|_| CodecError("a broker's id is too large"))?;
            Refusal::StaleIncarnation { broker: BrokerId(broker.cast_signed()), current: Incarnation(current) }
        }
        R::StaleEpoch(wire::Number { of, current }) => Refusal::StaleEpoch { journal: JournalId(of), current },
        R::JournalEnded(wire::Number { of, current }) => {
            Refusal::JournalEnded { journal: JournalId(of), end: Position(current) }
        }
        R::WrongFrontier(wire::Number { of, current }) => {
            Refusal::WrongFrontier { journal: JournalId(of), uploaded: Position(current) }
        }
        R::NotContiguous(sent) => Refusal::NotContiguous { topic_partition: of(&sent)?, frontier: Offset(sent.offset) },
        R::Invalid(why) => Refusal::Invalid(why),
    })
}
