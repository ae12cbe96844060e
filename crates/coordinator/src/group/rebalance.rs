//! From one generation to the next: waiting for the members, choosing leader and protocol, telling them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::member::Protocols;
use super::settle::Change;
use super::{Answer, Env, Group, Initial, JoinDeadline};
use crate::subscription::{self, CONSUMER};
use crate::{GroupError, State};

/// How soon a phase of joining to which nobody came is looked at again, at the least.
const RETRY_MIN: Duration = Duration::from_millis(100);

impl Group {
    /// Waits for the members to join the next generation, unless the group does so already.
    pub(super) fn begin_rebalance(&mut self, env: &mut Env<'_>, reason: &str) {
        let now = env.now.monotonic;
        let timeout = self.rebalance_timeout();
        let deadline = match self.state {
            State::PreparingRebalance | State::Dead => return,
            State::Empty => {
                let delay = env.config.initial_rebalance_delay;
                let remaining = timeout.saturating_sub(delay);
                JoinDeadline { at: now + delay, initial: Some(Initial { remaining, joined_meanwhile: false }) }
            }
            State::CompletingRebalance | State::Stable => {
                self.refuse_syncs(env, GroupError::RebalanceInProgress);
                JoinDeadline { at: now + timeout, initial: None }
            }
        };
        tracing::debug!(group = %self.id, generation = self.generation, reason, "group rebalances");
        self.sync_deadline = None;
        self.join_deadline = Some(deadline);
        self.note_deadline(deadline.at);
        self.set_state(env, State::PreparingRebalance);
    }

    /// Ends the phase of joining when everyone is there, or its time is over.
    pub(super) fn advance(&mut self, env: &mut Env<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        let now = env.now.monotonic;
        let deadline = self.join_deadline.expect("the phase of joining has an end");
        match deadline.initial {
            Some(_) if now < deadline.at => {}
            Some(Initial { remaining, joined_meanwhile: true }) if !remaining.is_zero() => {
                let delay = remaining.min(env.config.initial_rebalance_delay);
                let initial = Initial { remaining: remaining - delay, joined_meanwhile: false };
                self.join_deadline = Some(JoinDeadline { at: now + delay, initial: Some(initial) });
                self.note_deadline(now + delay);
                if delay.is_zero() {
                    self.complete_join(env);
                }
            }
            Some(_) => self.complete_join(env),
            None => {
                let all_joined = self.joining == self.members.len() && self.pending_members.is_empty();
                if all_joined || now >= deadline.at {
                    self.complete_join(env);
                }
            }
        }
    }

    fn complete_join(&mut self, env: &mut Env<'_>) {
        let late: Vec<Arc<str>> = (self.members.iter())
            .filter(|(_, member)| member.joining.is_none() && member.instance_id.is_none())
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in late {
            tracing::debug!(group = %self.id, member = %id, "member did not join again in time");
            self.remove_member(env, &id);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Static members only, and none of them is here: wait until they are, or their sessions end.
            let at = env.now.monotonic + self.rebalance_timeout().max(RETRY_MIN);
            self.join_deadline = Some(JoinDeadline { at, initial: None });
            self.note_deadline(at);
            return;
        }
        self.join_deadline = None;
        self.generation = self.generation.checked_add(1).expect("a group does not live for 2^31 rebalances");
        self.protocol = self.elected_protocol(None);
        self.update_subscribed();
        if self.members.is_empty() {
            self.leader = None;
            self.set_state(env, State::Empty);
            self.metadata.in_flight += 1;
            let entry = self.metadata_entry(env, &BTreeMap::new());
            let value = entry.value.clone();
            self.store(env, Change::Emptied { value }, vec![entry]);
            return;
        }
        self.set_state(env, State::CompletingRebalance);
        let now = env.now.monotonic;
        let at = now + self.rebalance_timeout();
        self.sync_deadline = Some(at);
        self.note_deadline(at);
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("the id is a member's");
            // A static member that is away keeps its place until its session ends.
            let Some(token) = member.joining.take() else { continue };
            member.is_new = false;
            member.owes_sync = true;
            self.joining -= 1;
            let joined = self.joined(&id);
            env.out.answer(token, Answer::Join(Ok(Box::new(joined))));
            self.refresh_session(&id, now);
        }
        debug_assert_eq!(self.joining, 0, "every join that waited was answered");
    }

    /// Keeps the leader if it joined, or takes the oldest member that did. False when nobody did.
    fn elect_leader(&mut self) -> bool {
        if let Some(leader) = &self.leader
            && self.members.get(leader).is_some_and(|member| member.joining.is_some())
        {
            return true;
        }
        let oldest =
            (self.members.iter()).filter(|(_, member)| member.joining.is_some()).min_by_key(|(_, member)| member.order);
        let Some((id, _)) = oldest else { return false };
        self.leader = Some(Arc::clone(id));
        true
    }

    /// The protocol that everyone speaks and most want, the first named by the oldest member where votes are equal; none
    /// without members. `instead` is what one member would say.
    pub(super) fn elected_protocol(&self, instead: Option<(&Arc<str>, &Protocols)>) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, (usize, u64)> = BTreeMap::new();
        for (id, member) in &self.members {
            let protocols =
                instead.filter(|(other, _)| *other == id).map_or(&member.protocols, |(_, protocols)| protocols);
            let wanted = protocols.iter().find(|(name, _)| self.speakers(name) == self.members.len());
            if let Some((name, _)) = wanted {
                let (count, oldest) = votes.entry(name).or_insert((0, u64::MAX));
                *count += 1;
                *oldest = member.order.min(*oldest);
            }
        }
        let winner = votes.into_iter().max_by_key(|(_, (count, oldest))| (*count, std::cmp::Reverse(*oldest)));
        winner.map(|(name, _)| Arc::clone(name))
    }

    /// Learns which topics the members of a consumer group read.
    pub(super) fn update_subscribed(&mut self) {
        self.subscribed = None;
        if self.protocol_type.as_deref() == Some(CONSUMER) {
            let protocol = self.protocol.as_deref();
            let metadata: Vec<Bytes> = self.members.values().map(|member| member.metadata(protocol)).collect();
            self.subscribed = subscription::union(metadata.iter().map(|bytes| &**bytes));
        }
    }

    /// The longest of its members' rebalance time-outs.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    pub(super) fn set_state(&mut self, env: &Env<'_>, state: State) {
        self.state = state;
        self.state_since = env.now.wall;
    }

    /// Takes a member out, and answers what it waits for. What follows for the group is the caller's.
    pub(super) fn remove_member(&mut self, env: &mut Env<'_>, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        self.uncount_protocols(&member.protocols);
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        if let Some(token) = member.joining {
            self.joining -= 1;
            env.out.refuse_join(token, GroupError::UnknownMemberId, "");
        }
        if let Some(token) = member.syncing {
            env.out.refuse(token, GroupError::UnknownMemberId);
        }
        if self.leader.as_deref() == Some(id) {
            let oldest = self.members.iter().min_by_key(|(_, member)| member.order);
            self.leader = oldest.map(|(id, _)| Arc::clone(id));
        }
    }

    /// A member went: the others share its partitions.
    pub(super) fn after_removal(&mut self, env: &mut Env<'_>, reason: &str) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.begin_rebalance(env, reason),
            State::Empty | State::PreparingRebalance | State::Dead => {}
        }
        self.advance(env);
    }

    /// Gives a static member a new id, and tells the old one that it is fenced.
    pub(super) fn replace_member(&mut self, env: &mut Env<'_>, old: &Arc<str>, new: &Arc<str>) {
        let mut member = self.members.remove(old).expect("the instance id belongs to a member");
        if let Some(token) = member.joining.take() {
            self.joining -= 1;
            env.out.refuse_join(token, GroupError::FencedInstanceId, old);
        }
        if let Some(token) = member.syncing.take() {
            env.out.refuse(token, GroupError::FencedInstanceId);
        }
        let instance = member.instance_id.as_ref().expect("only static members are replaced");
        self.static_members.insert(Arc::clone(instance), Arc::clone(new));
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(Arc::clone(new));
        }
        self.members.insert(Arc::clone(new), member);
    }
}
