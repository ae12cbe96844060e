//! One consumer group as a state machine without I/O: requests and time come in, answers and records go out.
//!
//! Membership (who is there, who waits for what, the current generation) lives in memory, as in Kafka. What clients
//! rely on after a restart is stored first and takes effect only then: offsets, the assignment of a generation, the new
//! id of a static member. So `stored` and `failed` (in `settle`) end every change that `Effects::stores` began, in order, and
//! an answer that says success is given there.
//!
//! - **Invariant G1** At most one member is leader, and only its sync makes the assignment of a generation.
//! - **Invariant G2** The generation never falls while the group exists.
//! - **Invariant G3** Every token is answered exactly once.
//! - **Invariant G4** An offset that was acknowledged is in the log, and no record after it has an older value of it.
//!
//! Left to others: which groups exist (`Groups`), the log, real time.

mod effects;
mod join;
mod leave;
mod member;
mod metadata;
mod offsets;
mod rebalance;
mod retention;
mod settle;
mod sync;
mod tick;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use records::{Offset, Timestamp};

use crate::record::Key;
use crate::storage::Entry;
use crate::{GroupError, JoinRequest, State};
pub(crate) use effects::Env;
pub(crate) use effects::{Answer, Effects, Outcome, Store, StoreFailure, Ticket, Token};
use member::Member;
use offsets::Offsets;
pub(crate) use retention::{Cursor, Refreshed};
use settle::Change;

/// The longest name (of a group, member, topic, protocol) that is taken: the formats allow a little more.
pub(crate) const NAME_BYTES_MAX: usize = 32_000;

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    id: Arc<str>,
    state: State,
    /// Since when; retention of an empty group counts from here.
    state_since: Timestamp,
    generation: i32,
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Instance id → member id.
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids given out and not used yet, with the time they are forgotten.
    pending_members: BTreeMap<Arc<str>, Duration>,
    /// How many members speak each protocol.
    protocol_counts: BTreeMap<Arc<str>, usize>,
    /// How many members' joins wait.
    joining: usize,
    next_order: u64,
    /// When the phase of joining ends at the latest.
    join_deadline: Option<JoinDeadline>,
    /// When members that still owe their sync are given up.
    sync_deadline: Option<Duration>,
    /// Topics that the members of a consumer group read; none where unknown.
    subscribed: Option<std::collections::BTreeSet<Arc<str>>>,
    offsets: Offsets,
    /// The group's own record.
    metadata: MetadataSlot,
    /// Changes whose records are being stored, oldest first.
    changes: VecDeque<(Ticket, Change)>,
    next_ticket: u64,
    /// Joins of static members that wait until the record before theirs is stored.
    held: VecDeque<HeldJoin>,
    /// Someone deletes the group: it begins when all changes are settled.
    deleting: Option<Token>,
    /// It can be forgotten.
    gone: bool,
    /// No deadline lies before this.
    next_deadline: Option<Duration>,
}

/// When the phase of joining ends.
#[derive(Debug, Clone, Copy)]
struct JoinDeadline {
    at: Duration,
    /// The group was empty: it waits for the whole delay, and again (while this lasts) when someone joined meanwhile.
    initial: Option<Initial>,
}

#[derive(Debug, Clone, Copy)]
struct Initial {
    remaining: Duration,
    joined_meanwhile: bool,
}

/// A join of a static member that waits, with the id it will get.
#[derive(Debug)]
struct HeldJoin {
    token: Token,
    request: JoinRequest,
    id: Arc<str>,
}

/// The group's record as it is stored.
#[derive(Debug, Default)]
struct MetadataSlot {
    value: Option<Bytes>,
    /// No live record of it lies before this.
    offset: Offset,
    in_flight: u32,
}

impl Group {
    pub(crate) fn new(id: Arc<str>, now: Timestamp) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since: now,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            protocol_counts: BTreeMap::new(),
            joining: 0,
            next_order: 0,
            join_deadline: None,
            sync_deadline: None,
            subscribed: None,
            offsets: Offsets::default(),
            metadata: MetadataSlot::default(),
            changes: VecDeque::new(),
            next_ticket: 0,
            held: VecDeque::new(),
            deleting: None,
            gone: false,
            next_deadline: None,
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// No deadline lies before this; `tick` at that time.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.next_deadline
    }

    /// The bytes of its live records.
    pub(crate) fn live_bytes(&self) -> usize {
        let metadata = self.metadata.value.as_ref();
        self.offsets.live_bytes()
            + metadata.map_or(0, |value| crate::storage::entry_size(4 + self.id.len(), value.len()))
    }

    /// Whether nothing is left of it, in memory or in the log.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone || (self.is_idle() && self.metadata.value.is_none() && self.offsets.is_empty())
    }

    /// Whether nobody is in it and nothing is under way.
    fn is_idle(&self) -> bool {
        self.state == State::Empty
            && self.pending_members.is_empty()
            && self.changes.is_empty()
            && self.held.is_empty()
            && self.deleting.is_none()
    }

    fn shown_state(&self) -> State {
        if self.deleting.is_some() { State::Dead } else { self.state }
    }

    /// A deleted group takes nothing while its deletion is being stored.
    fn check_alive(&self) -> Result<(), GroupError> {
        if self.deleting.is_some() { Err(GroupError::CoordinatorNotAvailable) } else { Ok(()) }
    }

    /// Checks that the instance id, where given, belongs to the member, and that the member is in the group.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(owner) if **owner != *member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    fn check_generation(&self, generation: i32) -> Result<(), GroupError> {
        if generation == self.generation { Ok(()) } else { Err(GroupError::IllegalGeneration) }
    }

    /// Asks for records to be stored; the change takes effect when they are.
    fn store(&mut self, env: &mut Env<'_>, change: Change, entries: Vec<Entry>) {
        debug_assert!(!entries.is_empty(), "a change without records takes effect at once");
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.changes.push_back((ticket, change));
        env.out.stores.push(Store { group: Arc::clone(&self.id), ticket, entries });
    }

    fn metadata_key(&self) -> Bytes {
        Key::Group { group: &self.id }.encode()
    }

    /// A deadline came about: remember it when it is the first.
    fn note_deadline(&mut self, at: Duration) {
        self.next_deadline = Some(self.next_deadline.map_or(at, |next| next.min(at)));
    }

    /// The member showed that it lives.
    fn refresh_session(&mut self, member_id: &str, now: Duration) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        if member.joining.is_none() && member.syncing.is_none() {
            let at = now + member.session_timeout;
            member.deadline = Some(at);
            self.note_deadline(at);
        }
    }
}
