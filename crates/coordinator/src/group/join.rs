//! JoinGroup.

use std::sync::Arc;

use super::member::{Member, detached, timeout};
use super::settle::Change;
use super::{Answer, Env, Group, HeldJoin, NAME_BYTES_MAX, Token};
use crate::subscription::{self, CONSUMER};
use crate::{GroupError, JoinRequest, Joined, JoinedMember, State};

impl Group {
    /// A member joins. `random` makes its id where it has none.
    pub(crate) fn join(&mut self, env: &mut Env<'_>, token: Token, request: JoinRequest, random: u128) {
        if let Err(error) = self.check_alive() {
            return env.out.refuse_join(token, error, &request.member_id);
        }
        if !self.has_room_for(env, &request.member_id) {
            if self.members.contains_key(&request.member_id) {
                self.remove_member(env, &request.member_id);
                self.advance(env);
            }
            return env.out.refuse_join(token, GroupError::GroupMaxSizeReached, "");
        }
        if let Err(error) = check_size(env, &request) {
            return env.out.refuse_join(token, error, &request.member_id);
        }
        if !self.speaks_with(&request) {
            return env.out.refuse_join(token, GroupError::InconsistentGroupProtocol, &request.member_id);
        }
        let reason = request.reason.as_deref().unwrap_or("not given");
        tracing::debug!(group = %self.id, member = %request.member_id, reason, "member joins");
        if request.member_id.is_empty() {
            let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
            let uuid = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
            let id: Arc<str> = format!("{prefix}-{uuid}").into();
            if request.instance_id.is_some() {
                self.join_static(env, token, request, id);
            } else if request.member_id_required {
                self.reserve_member_id(env, token, &request, id);
            } else {
                self.add_member(env, token, &request, id);
            }
        } else if self.pending_members.contains_key(&request.member_id) {
            if request.instance_id.is_some() {
                // The id was given to a dynamic member.
                return env.out.refuse_join(token, GroupError::UnknownMemberId, &request.member_id);
            }
            let id = Arc::clone(&request.member_id);
            self.add_member(env, token, &request, id);
        } else {
            self.rejoin(env, token, request);
        }
    }

    /// A static member that comes without a member id: it is new, or it replaces the one before it.
    pub(super) fn join_static(&mut self, env: &mut Env<'_>, token: Token, request: JoinRequest, id: Arc<str>) {
        // It may have waited for a record, and meanwhile everyone went and someone deletes the group.
        if let Err(error) = self.check_alive() {
            return env.out.refuse_join(token, error, "");
        }
        let instance = request.instance_id.as_ref().expect("a static member has an instance id");
        let Some(old) = self.static_members.get(instance).cloned() else {
            return self.add_member(env, token, &request, id);
        };
        match self.state {
            State::Stable if self.keeps_assignment(&old, &request) => {
                if self.metadata.in_flight > 0 {
                    // Its record must be built on the one that is being stored.
                    if self.held.len() >= env.config.group_size_max {
                        return env.out.refuse_join(token, GroupError::CoordinatorNotAvailable, "");
                    }
                    return self.held.push_back(HeldJoin { token, request, id });
                }
                self.metadata.in_flight += 1;
                let entry = self.replacement_entry(&old, &id, &request);
                let value = entry.value.clone();
                self.store(
                    env,
                    Change::Replace { token, request: Box::new(request), old, new: id, value },
                    vec![entry],
                );
            }
            State::Empty | State::Dead => unreachable!("a static member that is known is in a group with members"),
            _ => {
                self.replace_member(env, &old, &id);
                self.update_and_rebalance(env, token, &request, &id, "a static member was replaced");
            }
        }
    }

    /// Gives out an id to join with: so a client that never comes back leaves no member behind.
    fn reserve_member_id(&mut self, env: &mut Env<'_>, token: Token, request: &JoinRequest, id: Arc<str>) {
        if self.pending_members.len() >= env.config.pending_members_max {
            return env.out.refuse_join(token, GroupError::GroupMaxSizeReached, "");
        }
        let at = env.now.monotonic + timeout(request.session_timeout_ms);
        self.pending_members.insert(Arc::clone(&id), at);
        self.note_deadline(at);
        env.out.refuse_join(token, GroupError::MemberIdRequired, &id);
    }

    fn add_member(&mut self, env: &mut Env<'_>, token: Token, request: &JoinRequest, id: Arc<str>) {
        self.pending_members.remove(&id);
        let mut member = Member::new(request, self.next_order);
        self.next_order += 1;
        member.joining = Some(token);
        let at = env.now.monotonic + env.config.new_member_join_timeout;
        member.deadline = Some(at);
        self.note_deadline(at);
        self.joining += 1;
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::clone(&request.protocol_type));
        }
        self.count_protocols(&member.protocols);
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(Arc::clone(instance), Arc::clone(&id));
        }
        self.leader.get_or_insert_with(|| Arc::clone(&id));
        self.members.insert(id, member);
        if let Some(initial) = self.join_deadline.as_mut().and_then(|deadline| deadline.initial.as_mut()) {
            initial.joined_meanwhile = true;
        }
        self.begin_rebalance(env, "a member joined");
        self.advance(env);
    }

    /// A member as the log has it.
    pub(super) fn restore_member(&mut self, request: &JoinRequest, assignment: bytes::Bytes) {
        let mut member = Member::new(request, self.next_order);
        self.next_order += 1;
        member.is_new = false;
        // Both are slices of the group's record, which is kept as it is stored.
        member.protocols.clone_from(&request.protocols);
        member.assignment = assignment;
        let id = Arc::clone(&request.member_id);
        if self.members.contains_key(&id) {
            return;
        }
        self.count_protocols(&member.protocols);
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(Arc::clone(instance), Arc::clone(&id));
        }
        self.members.insert(id, member);
    }

    /// A member that the group knows by its id joins again.
    fn rejoin(&mut self, env: &mut Env<'_>, token: Token, request: JoinRequest) {
        let id = Arc::clone(&request.member_id);
        if let Err(error) = self.check_member(&id, request.instance_id.as_deref()) {
            return env.out.refuse_join(token, error, &id);
        }
        let same = self.members[&id].protocols == request.protocols;
        let leads = self.leader.as_ref() == Some(&id);
        match self.state {
            // It lost the answer to its join: the generation stands.
            State::CompletingRebalance if same => {}
            // A leader joins again because something changed that only it sees; a follower because it lost an answer.
            State::Stable if same && !leads => {}
            State::Empty | State::Dead => return env.out.refuse_join(token, GroupError::UnknownMemberId, &id),
            _ => return self.update_and_rebalance(env, token, &request, &id, "a member joined again"),
        }
        self.refresh_session(&id, env.now.monotonic);
        let joined = self.joined(&id);
        env.out.answer(token, Answer::Join(Ok(Box::new(joined))));
    }

    /// A member takes part in the next generation.
    fn update_and_rebalance(
        &mut self,
        env: &mut Env<'_>,
        token: Token,
        request: &JoinRequest,
        id: &Arc<str>,
        reason: &str,
    ) {
        self.set_protocols(id, request);
        let member = self.members.get_mut(id).expect("the member was found before");
        member.update(request);
        // Members that wait for the group do not time out, but new ones do.
        if !member.is_new {
            member.deadline = None;
        }
        let syncing = member.syncing.take();
        match member.joining.replace(token) {
            // Its client has given that one up.
            Some(earlier) => env.out.refuse_join(earlier, GroupError::RebalanceInProgress, id),
            None => self.joining += 1,
        }
        if let Some(syncing) = syncing {
            env.out.refuse(syncing, GroupError::RebalanceInProgress);
        }
        self.begin_rebalance(env, reason);
        self.advance(env);
    }

    pub(super) fn set_protocols(&mut self, id: &Arc<str>, request: &JoinRequest) {
        let member = self.members.get_mut(id).expect("the member was found before");
        if member.protocols == request.protocols {
            return;
        }
        let old = std::mem::replace(&mut member.protocols, detached(&request.protocols));
        let new = member.protocols.clone();
        self.uncount_protocols(&old);
        self.count_protocols(&new);
    }

    /// Whether the group may have this member too.
    fn has_room_for(&self, env: &Env<'_>, member_id: &str) -> bool {
        let max = env.config.group_size_max;
        let known = self.members.get(member_id);
        match self.state {
            State::Empty | State::Dead => max > 0,
            // Those that do not join again will be gone, so only those that wait count.
            State::PreparingRebalance => known.is_some_and(|member| member.joining.is_some()) || self.joining < max,
            State::CompletingRebalance | State::Stable => known.is_some() || self.members.len() < max,
        }
    }

    /// Whether a protocol remains that everyone speaks.
    fn speaks_with(&self, request: &JoinRequest) -> bool {
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return false;
        }
        if self.state == State::Empty {
            return true;
        }
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|(name, _)| self.speakers(name) == self.members.len())
    }

    pub(super) fn speakers(&self, protocol: &str) -> usize {
        self.protocol_counts.get(protocol).copied().unwrap_or(0)
    }

    fn count_protocols(&mut self, protocols: &[(Arc<str>, bytes::Bytes)]) {
        for (index, (name, _)) in protocols.iter().enumerate() {
            // A name that a member gives twice counts once.
            if protocols.iter().take(index).all(|(earlier, _)| earlier != name) {
                *self.protocol_counts.entry(Arc::clone(name)).or_default() += 1;
            }
        }
    }

    pub(super) fn uncount_protocols(&mut self, protocols: &[(Arc<str>, bytes::Bytes)]) {
        for (index, (name, _)) in protocols.iter().enumerate() {
            if protocols.iter().take(index).all(|(earlier, _)| earlier != name) {
                let count = self.protocol_counts.get_mut(name).expect("it was counted when the member came");
                *count -= 1;
                if *count == 0 {
                    self.protocol_counts.remove(name);
                }
            }
        }
    }

    /// Whether a static member of a stable group can be replaced without a rebalance: the group would choose the same
    /// protocol, and the member reads the same topics. (Kafka looks at the protocol only, and then a new subscription
    /// waits for the next rebalance.)
    fn keeps_assignment(&self, old: &Arc<str>, request: &JoinRequest) -> bool {
        let protocol = self.protocol.as_deref();
        if self.elected_protocol(Some((old, &request.protocols))).as_deref() != protocol {
            return false;
        }
        let new = request.protocols.iter().find(|(name, _)| Some(&**name) == protocol);
        new.is_some_and(|(_, metadata)| {
            self.protocol_type.as_deref() != Some(CONSUMER)
                || subscription::same_topics(&self.members[old].metadata(protocol), metadata)
        })
    }

    /// The answer to a member's join.
    pub(super) fn joined(&self, id: &Arc<str>) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: if leader == *id { self.joined_members() } else { Vec::new() },
            leader,
            skip_assignment: false,
            member_id: Arc::clone(id),
        }
    }

    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let member = |(id, member): (&Arc<str>, &Member)| JoinedMember {
            member_id: Arc::clone(id),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
        };
        self.members.iter().map(member).collect()
    }
}

fn check_size(env: &Env<'_>, request: &JoinRequest) -> Result<(), GroupError> {
    let names = [&request.member_id, &request.client_id, &request.client_host, &request.protocol_type];
    let names = names.into_iter().chain(&request.instance_id).chain(request.protocols.iter().map(|(name, _)| name));
    let mut bytes: usize = request.protocols.iter().map(|(_, metadata)| metadata.len()).sum();
    for name in names {
        if name.len() > NAME_BYTES_MAX {
            return Err(GroupError::InvalidRequest);
        }
        bytes += name.len();
    }
    if bytes > env.config.member_bytes_max { Err(GroupError::InvalidRequest) } else { Ok(()) }
}
