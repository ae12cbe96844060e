//! What the tests drive groups with.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use records::{LeaderEpoch, Offset, Timestamp};

use crate::group::{Answer, Effects, Outcome, Store, StoreFailure, Token};
use crate::groups::{Groups, Room};
use crate::storage::StoredEntry;
use crate::types::*;
use crate::{Config, GroupError};

pub(super) const DELAY: u64 = 3_000;
pub(super) const SESSION: u64 = 10_000;
pub(super) const REBALANCE: u64 = 60_000;
/// The wall clock when a test begins.
pub(super) const EPOCH: i64 = 1_700_000_000_000;

pub(super) struct Bench {
    pub(super) groups: Groups,
    pub(super) config: Arc<Config>,
    pub(super) ms: u64,
    pub(super) answers: BTreeMap<Token, Answer>,
    pub(super) stores: VecDeque<Store>,
    pub(super) log: Vec<StoredEntry>,
    /// Stores are settled at once.
    pub(super) storing: bool,
    next_token: u64,
    /// So that no random number comes twice.
    reloads: u128,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(set: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        set(&mut config);
        Self::over(Arc::new(config), 0, Vec::new(), 0)
    }

    fn over(config: Arc<Config>, ms: u64, log: Vec<StoredEntry>, reloads: u128) -> Self {
        let room = Arc::new(Room::new(config.groups_max));
        let groups = Groups::new(Arc::clone(&config), room);
        let mut bench = Self {
            groups,
            config,
            ms,
            answers: BTreeMap::new(),
            stores: VecDeque::new(),
            log,
            storing: true,
            next_token: 0,
            reloads,
        };
        let now = bench.now();
        for stored in &bench.log {
            bench.groups.replay(now, stored).unwrap();
        }
        bench.run(|groups, now, out| groups.loaded(now, out));
        bench
    }

    /// A coordinator that takes over with what the log has.
    pub(super) fn reload(&self) -> Self {
        Self::over(Arc::clone(&self.config), self.ms, self.log.clone(), self.reloads + 1)
    }

    pub(super) fn now(&self) -> Now {
        let wall = EPOCH + i64::try_from(self.ms).unwrap();
        Now { monotonic: Duration::from_millis(self.ms), wall: Timestamp(wall) }
    }

    pub(super) fn run<T>(&mut self, input: impl FnOnce(&mut Groups, Now, &mut Effects) -> T) -> T {
        let mut out = Effects::default();
        let now = self.now();
        let result = input(&mut self.groups, now, &mut out);
        self.take_in(out);
        while self.storing && self.store_next() {}
        result
    }

    fn take_in(&mut self, out: Effects) {
        for (token, answer) in out.answers {
            assert!(token.0 < self.next_token, "an answer to a request that was never made");
            let before = self.answers.insert(token, answer);
            assert_eq!(before, None, "{token:?} is answered twice");
        }
        self.stores.extend(out.stores);
    }

    fn settle(&mut self, store: &Store, outcome: Outcome) {
        let mut out = Effects::default();
        let now = self.now();
        self.groups.settle(now, &mut out, &store.group, store.ticket, outcome);
        self.take_in(out);
    }

    /// The oldest store succeeds; false when there is none.
    pub(super) fn store_next(&mut self) -> bool {
        let Some(store) = self.stores.pop_front() else { return false };
        let base = self.end();
        for (index, entry) in store.entries.iter().cloned().enumerate() {
            self.log.push(StoredEntry { offset: base.after(i64::try_from(index).unwrap()), entry });
        }
        self.settle(&store, Outcome::Stored(base));
        true
    }

    pub(super) fn end(&self) -> Offset {
        self.log.last().map_or(Offset(0), |stored| stored.offset.after(1))
    }

    /// The oldest store fails.
    pub(super) fn fail_next(&mut self, failure: StoreFailure) {
        let store = self.stores.pop_front().expect("something is to be stored");
        self.settle(&store, Outcome::Failed(failure));
    }

    pub(super) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token - 1)
    }

    pub(super) fn tokens(&self) -> u64 {
        self.next_token
    }

    /// Time passes, and everything that is due on the way is done.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.ms + ms;
        for _ in 0..10_000 {
            let Some(next) = self.groups.next_deadline().map(|at| u64::try_from(at.as_millis()).unwrap()) else {
                break;
            };
            if next > end {
                break;
            }
            self.ms = self.ms.max(next);
            self.run(|groups, now, out| groups.tick(now, out));
        }
        self.ms = end;
        let late = self.groups.next_deadline().is_some_and(|at| at <= Duration::from_millis(end));
        assert!(!late, "a tick leaves something due");
    }

    pub(super) fn join(&mut self, group: &str, request: JoinRequest) -> Token {
        let token = self.token();
        let random = self.reloads << 96 | u128::from(token.0) << 64 | 0xABCD;
        self.run(|groups, now, out| groups.join(now, out, token, group, request, random));
        token
    }

    pub(super) fn joined(&mut self, token: Token) -> Joined {
        match self.answers.get(&token).cloned() {
            Some(Answer::Join(Ok(joined))) => *joined,
            other => panic!("{token:?} is not joined: {other:?}"),
        }
    }

    pub(super) fn refused(&mut self, token: Token) -> GroupError {
        match self.answers.get(&token).cloned() {
            Some(Answer::Join(Err(JoinRefused { error, .. })) | Answer::Refused(error)) => error,
            other => panic!("{token:?} is not refused: {other:?}"),
        }
    }

    pub(super) fn waits(&self, token: Token) -> bool {
        !self.answers.contains_key(&token)
    }

    pub(super) fn sync(&mut self, group: &str, request: &SyncRequest) -> Token {
        let token = self.token();
        self.run(|groups, now, out| groups.sync(now, out, token, group, request));
        token
    }

    pub(super) fn synced(&mut self, token: Token) -> Bytes {
        match self.answers.get(&token).cloned() {
            Some(Answer::Sync(synced)) => synced.assignment,
            other => panic!("{token:?} is not synced: {other:?}"),
        }
    }

    pub(super) fn heartbeat(&mut self, group: &str, member_id: &str, generation: i32) -> Result<(), GroupError> {
        let request = HeartbeatRequest { member_id, instance_id: None, generation };
        self.run(|groups, now, out| groups.heartbeat(now, out, group, request))
    }

    pub(super) fn leave(&mut self, group: &str, members: &[LeavingMember<'_>]) -> Vec<Result<(), GroupError>> {
        self.run(|groups, now, out| groups.leave(now, out, group, members)).unwrap()
    }

    pub(super) fn commit(&mut self, group: &str, request: &CommitRequest) -> Token {
        let token = self.token();
        self.run(|groups, now, out| groups.commit(now, out, token, group, request));
        token
    }

    pub(super) fn partitions(&mut self, token: Token) -> Vec<Result<(), GroupError>> {
        match self.answers.get(&token).cloned() {
            Some(Answer::Partitions(topics)) => {
                topics.into_iter().flat_map(|topic| topic.partitions).map(|(_, result)| result).collect()
            }
            other => panic!("{token:?} has no results: {other:?}"),
        }
    }

    /// Commits one offset of a simple consumer.
    pub(super) fn commit_simple(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> Token {
        self.commit(group, &commit("", -1, topic, partition, offset))
    }

    pub(super) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let wanted = [TopicPartitions { topic: topic.into(), partitions: vec![partition] }];
        let fetched = self.groups.fetch_offsets(group, Some(&wanted));
        assert_eq!((fetched.len(), fetched[0].partitions[0].0), (1, partition));
        fetched[0].partitions[0].1.as_ref().map(|committed| committed.offset.0)
    }

    pub(super) fn state(&self, group: &str) -> Option<State> {
        self.groups.describe(group).ok().map(|group| group.state)
    }

    /// A stable group of these members; gives their ids, the leader's first, and the generation.
    pub(super) fn stable(&mut self, group: &str, members: Vec<JoinRequest>) -> (Vec<Arc<str>>, i32) {
        let tokens: Vec<Token> = members.into_iter().map(|member| self.join(group, member)).collect();
        self.pass(2 * DELAY);
        let joined: Vec<Joined> = tokens.into_iter().map(|token| self.joined(token)).collect();
        let mut ids: Vec<Arc<str>> = joined.iter().map(|joined| Arc::clone(&joined.member_id)).collect();
        let (leader, generation) = (Arc::clone(&joined[0].leader), joined[0].generation);
        ids.sort_by_key(|id| *id != leader);
        self.sync_all(group, &ids, generation);
        assert_eq!(self.state(group), Some(State::Stable));
        (ids, generation)
    }

    /// Everyone syncs, the leader (the first) last; an assignment is the member's id.
    pub(super) fn sync_all(&mut self, group: &str, ids: &[Arc<str>], generation: i32) {
        let assignments = ids.iter().map(|id| (Arc::clone(id), Bytes::copy_from_slice(id.as_bytes()))).collect();
        let mut tokens: Vec<Token> = ids[1..].iter().map(|id| self.sync(group, &follower(id, generation))).collect();
        tokens.push(self.sync(group, &SyncRequest { assignments, ..follower(&ids[0], generation) }));
        for (token, id) in tokens.into_iter().zip(ids[1..].iter().chain(&ids[..1])) {
            assert_eq!(self.synced(token), id.as_bytes(), "everyone gets the assignment made for it");
        }
    }
}

/// Metadata of a consumer that reads these topics.
pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend([0xFF; 4]);
    bytes.into()
}

/// The first join of a dynamic member, before version 4.
pub(super) fn member(client: &str) -> JoinRequest {
    JoinRequest {
        member_id: "".into(),
        instance_id: None,
        client_id: client.into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: i32::try_from(SESSION).unwrap(),
        rebalance_timeout_ms: i32::try_from(REBALANCE).unwrap(),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription(&["t"]))],
        member_id_required: false,
        skip_assignment: false,
        reason: None,
    }
}

/// The same of a static member.
pub(super) fn fixed(instance: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.into()), ..member(instance) }
}

/// A member with an id joins again.
pub(super) fn again(id: &Arc<str>, request: JoinRequest) -> JoinRequest {
    JoinRequest { member_id: Arc::clone(id), ..request }
}

/// The sync of a member that brings no assignment.
pub(super) fn follower(id: &Arc<str>, generation: i32) -> SyncRequest {
    SyncRequest {
        member_id: Arc::clone(id),
        instance_id: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    }
}

pub(super) fn commit(member_id: &str, generation: i32, topic: &str, partition: i32, offset: i64) -> CommitRequest {
    let partition =
        CommitPartition { partition, offset: Offset(offset), leader_epoch: LeaderEpoch(-1), metadata: "".into() };
    CommitRequest {
        member_id: member_id.into(),
        instance_id: None,
        generation,
        retention_ms: None,
        topics: vec![CommitTopic { topic: topic.into(), partitions: vec![partition] }],
    }
}

pub(super) fn leaving(member_id: &str) -> LeavingMember<'_> {
    LeavingMember { member_id, instance_id: None, reason: None }
}
