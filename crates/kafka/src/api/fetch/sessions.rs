//! Fetch sessions (KIP-227): what a client asks for each time is kept here, so that it need only send what changed, and
//! is only told of partitions that have news.
//!
//! A session is found by its id, from whatever connection, as in Kafka; but only for the principal that made it, and ids
//! are random. How many sessions there are, and how many partitions all of them name, is bounded. Where there is no room,
//! the session that has been unused for longest makes some, if it has been unused for two minutes; else the newcomer gets
//! no session, which costs it bytes and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ::records::Random;
use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;
use wire::Text;
use wire::error_code::ErrorCode;
use wire::fetch::{FetchPartition, FetchTopic, ForgottenTopic, PartitionData, Request};

use crate::api::ApiMetrics;

/// The id that stands for no session.
const NO_SESSION: i32 = 0;
/// The epoch of a full request that wants a session; one that it names is closed.
const FIRST_EPOCH: i32 = 0;
/// The epoch of a full request that wants none; one that it names is closed.
const FINAL_EPOCH: i32 = -1;
/// A session that was used within this time is never closed for another.
const UNUSED_AFTER: Duration = Duration::from_secs(120);
/// No topic has a longer name.
const TOPIC_NAME_BYTES_MAX: usize = 249;
/// From this version on topics are given by id.
const TOPIC_IDS_SINCE: i16 = 13;

/// How many sessions a broker keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions; with 0 there are none.
    pub sessions_max: usize,
    /// Partitions in all sessions together.
    pub partitions_max: usize,
}

/// All sessions of a broker.
pub(crate) struct Sessions {
    limits: SessionLimits,
    random: Arc<dyn Random>,
    metrics: ApiMetrics,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_id: HashMap<i32, Session>,
    /// When each was last used, so that the first is the one unused for longest.
    by_use: BTreeSet<(Instant, i32)>,
    partitions: usize,
}

struct Session {
    principal: Arc<str>,
    /// The number that its next request carries.
    epoch: i32,
    used_at: Instant,
    by_topic_id: bool,
    topics: BTreeMap<TopicKey, BTreeMap<i32, Cached>>,
    partitions: usize,
}

/// A topic as the session's requests give it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum TopicKey {
    Name(Text),
    Id(Uuid),
}

/// What the client asks of a partition, and what it was last told.
#[derive(Debug, Clone)]
struct Cached {
    asked: FetchPartition,
    told: Told,
}

/// What of an answer counts as news when it changes, besides records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start_offset: i64,
}

impl Told {
    /// Nothing yet, or an error: whatever comes next is news.
    const NOTHING: Self = Self { high_watermark: -1, log_start_offset: -1 };

    fn of(data: &PartitionData) -> Self {
        if data.error_code != ErrorCode::NONE.code() {
            return Self::NOTHING;
        }
        Self { high_watermark: data.high_watermark, log_start_offset: data.log_start_offset }
    }

    /// Whether the answer says more than the client knows.
    fn is_outdated_by(self, data: &PartitionData) -> bool {
        data.error_code != ErrorCode::NONE.code()
            || data.records.as_ref().is_some_and(|records| !records.is_empty())
            || self != Self::of(data)
    }
}

/// How a request is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It names all its partitions, and is told of all of them.
    Full {
        /// It wants a session from here on.
        wants_session: bool,
    },
    /// It is told of news only.
    Incremental {
        /// The session.
        id: i32,
        /// The number that its next request carries.
        next_epoch: i32,
    },
}

/// One partition of an answer with what was asked.
pub(super) struct Answered<'a> {
    pub(super) topic: &'a Text,
    pub(super) topic_id: Uuid,
    pub(super) asked: &'a FetchPartition,
    pub(super) data: &'a PartitionData,
}

impl Sessions {
    pub(crate) fn new(limits: SessionLimits, random: Arc<dyn Random>, metrics: ApiMetrics) -> Self {
        Self { limits, random, metrics, kept: Mutex::default() }
    }

    /// Takes a request in: one of a session gets all its partitions from it, in `body.topics`.
    pub(super) fn begin(&self, principal: &Arc<str>, version: i16, body: &mut Request) -> Result<Kind, ErrorCode> {
        let mut kept = self.kept.lock();
        let named = body.session_id != NO_SESSION;
        let known = named && kept.by_id.get(&body.session_id).is_some_and(|session| session.principal == *principal);
        if matches!(body.session_epoch, FIRST_EPOCH | FINAL_EPOCH) {
            if known {
                kept.remove(body.session_id);
                self.count(&kept);
            }
            return Ok(Kind::Full { wants_session: body.session_epoch == FIRST_EPOCH });
        }
        let refused = match kept.by_id.get(&body.session_id).filter(|_| known) {
            None => Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
            Some(session) if session.epoch != body.session_epoch => Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH),
            Some(session) if session.by_topic_id != (version >= TOPIC_IDS_SINCE) => {
                Some(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR)
            }
            Some(_) => None,
        };
        let kind = match refused {
            Some(code) => Err(code),
            None => self.update(&mut kept, body),
        };
        self.count(&kept);
        if kind.is_err() {
            self.metrics.fetch_session_refused();
        }
        kind
    }

    /// Carries out what an incremental request changes, and gives it the whole.
    fn update(&self, kept: &mut Kept, body: &mut Request) -> Result<Kind, ErrorCode> {
        let id = body.session_id;
        let Kept { by_id, by_use, partitions } = &mut *kept;
        let session = by_id.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        let before = session.partitions;
        let room = self.limits.partitions_max.saturating_sub(*partitions - before);
        let fits = session.add(std::mem::take(&mut body.topics), room);
        session.forget(std::mem::take(&mut body.forgotten_topics_data));
        *partitions = *partitions - before + session.partitions;
        if !fits {
            // The client asks for everything again, and is not given a session while there is no room.
            kept.remove(id);
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        if session.partitions == 0 {
            kept.remove(id);
            return Ok(Kind::Full { wants_session: false });
        }
        let now = Instant::now();
        by_use.remove(&(session.used_at, id));
        by_use.insert((now, id));
        session.used_at = now;
        session.epoch = after(session.epoch);
        body.topics = session.asked();
        Ok(Kind::Incremental { id, next_epoch: session.epoch })
    }

    /// Keeps what a full request asked for as a session, where there is room. Gives its id, or 0.
    pub(super) fn create<'a>(
        &self,
        principal: &Arc<str>,
        version: i16,
        answered: impl ExactSizeIterator<Item = Answered<'a>>,
    ) -> i32 {
        let mut session = Session {
            principal: principal.clone(),
            epoch: after(FIRST_EPOCH),
            used_at: Instant::now(),
            by_topic_id: version >= TOPIC_IDS_SINCE,
            topics: BTreeMap::new(),
            partitions: 0,
        };
        if answered.len() == 0 || answered.len() > self.limits.partitions_max || self.limits.sessions_max == 0 {
            return NO_SESSION;
        }
        let mut kept = self.kept.lock();
        if !self.make_room(&mut kept, answered.len(), session.used_at) {
            return NO_SESSION;
        }
        for Answered { topic, topic_id, asked, data } in answered {
            let Some(key) = session.key(topic, topic_id) else { return NO_SESSION };
            let cached = Cached { asked: detached(asked.clone()), told: Told::of(data) };
            let partitions = session.topics.entry(key).or_default();
            session.partitions += usize::from(partitions.insert(asked.partition, cached).is_none());
        }
        let id = loop {
            // The low 31 bits: an id is positive.
            let id = (self.random.next() & 0x7fff_ffff).try_into().unwrap_or(NO_SESSION);
            if id != NO_SESSION && !kept.by_id.contains_key(&id) {
                break id;
            }
        };
        kept.partitions += session.partitions;
        kept.by_use.insert((session.used_at, id));
        kept.by_id.insert(id, session);
        self.count(&kept);
        id
    }

    /// Room for one more session of so many partitions; closes what has not been used for long.
    fn make_room(&self, kept: &mut Kept, partitions: usize, now: Instant) -> bool {
        loop {
            let full = kept.by_id.len() >= self.limits.sessions_max
                || kept.partitions + partitions > self.limits.partitions_max;
            if !full {
                return true;
            }
            match kept.by_use.first() {
                Some((used_at, id)) if now.duration_since(*used_at) > UNUSED_AFTER => {
                    let id = *id;
                    kept.remove(id);
                    self.metrics.fetch_session_evicted();
                }
                _ => return false,
            }
        }
    }

    /// Which of the partitions of an incremental answer have news, in their order; notes that the client is told.
    ///
    /// # Errors
    /// The session went on, or ended, while the request waited.
    pub(super) fn news<'a>(
        &self,
        id: i32,
        next_epoch: i32,
        answered: impl Iterator<Item = Answered<'a>>,
    ) -> Result<Vec<bool>, ErrorCode> {
        let mut kept = self.kept.lock();
        let session = kept.by_id.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != next_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        let mut news = Vec::new();
        for Answered { topic, topic_id, asked, data } in answered {
            let cached = session
                .key(topic, topic_id)
                .and_then(|key| session.topics.get_mut(&key))
                .and_then(|partitions| partitions.get_mut(&asked.partition));
            news.push(match cached {
                Some(cached) => {
                    let is_news = cached.told.is_outdated_by(data);
                    cached.told = Told::of(data);
                    is_news
                }
                None => true,
            });
        }
        Ok(news)
    }

    fn count(&self, kept: &Kept) {
        self.metrics.fetch_sessions(kept.by_id.len(), kept.partitions);
    }
}

impl Kept {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.by_id.remove(&id) {
            self.by_use.remove(&(session.used_at, id));
            self.partitions -= session.partitions;
        }
    }
}

impl Session {
    /// `None` for what cannot be a topic: it is not worth keeping.
    fn key(&self, name: &Text, id: Uuid) -> Option<TopicKey> {
        match self.by_topic_id {
            true => Some(TopicKey::Id(id)),
            // The name outlives its request.
            false => (name.len() <= TOPIC_NAME_BYTES_MAX).then(|| TopicKey::Name(name.detach())),
        }
    }

    /// Adds partitions, or changes what is asked of them; false when there is no room for all.
    fn add(&mut self, topics: Vec<FetchTopic>, room: usize) -> bool {
        for topic in topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
            let Some(key) = self.key(&topic.topic, topic.topic_id) else { return false };
            let partitions = self.topics.entry(key).or_default();
            for asked in topic.partitions {
                let asked = detached(asked);
                if let Some(cached) = partitions.get_mut(&asked.partition) {
                    cached.asked = asked;
                    continue;
                }
                if self.partitions >= room {
                    return false;
                }
                partitions.insert(asked.partition, Cached { asked, told: Told::NOTHING });
                self.partitions += 1;
            }
        }
        true
    }

    fn forget(&mut self, topics: Vec<ForgottenTopic>) {
        for topic in topics {
            let Some(key) = self.key(&topic.topic, topic.topic_id) else { continue };
            let Some(partitions) = self.topics.get_mut(&key) else { continue };
            for partition in topic.partitions {
                self.partitions -= usize::from(partitions.remove(&partition).is_some());
            }
            if partitions.is_empty() {
                self.topics.remove(&key);
            }
        }
    }

    /// All of it as a request would say it.
    fn asked(&self) -> Vec<FetchTopic> {
        let topic = |(key, partitions): (&TopicKey, &BTreeMap<i32, Cached>)| {
            let (topic, topic_id) = match key {
                TopicKey::Name(name) => (name.clone(), Uuid::nil()),
                TopicKey::Id(id) => (Text::default(), *id),
            };
            let partitions = partitions.values().map(|cached| cached.asked.clone()).collect();
            FetchTopic { topic, topic_id, partitions, ..FetchTopic::default() }
        };
        self.topics.iter().map(topic).collect()
    }
}

/// Without fields that we do not know, which would keep the whole request in memory.
fn detached(asked: FetchPartition) -> FetchPartition {
    FetchPartition { unknown_tagged_fields: wire::Tags::default(), ..asked }
}

/// The number of the request after this one.
fn after(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests;
