//! SyncGroup: the leader brings the assignment, everyone takes theirs once it is stored. And Heartbeat.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::settle::Change;
use super::{Answer, Env, Group, Token};
use crate::{GroupError, HeartbeatRequest, State, SyncRequest, Synced};

impl Group {
    /// A member asks for its assignment; the leader brings everyone's.
    pub(crate) fn sync(&mut self, env: &mut Env<'_>, token: Token, request: &SyncRequest) {
        if let Err(error) = self.check_sync(request) {
            return env.out.refuse(token, error);
        }
        let id = &request.member_id;
        match self.state {
            State::Empty | State::Dead => env.out.refuse(token, GroupError::UnknownMemberId),
            State::PreparingRebalance => env.out.refuse(token, GroupError::RebalanceInProgress),
            State::CompletingRebalance => {
                let member = self.members.get_mut(id).expect("checked above");
                member.owes_sync = false;
                member.deadline = None;
                if let Some(earlier) = member.syncing.replace(token) {
                    // Its client has given that one up.
                    env.out.refuse(earlier, GroupError::RebalanceInProgress);
                }
                if self.leader.as_ref() == Some(id) && !self.is_assigning() {
                    self.assign(env, request);
                }
            }
            State::Stable => {
                self.members.get_mut(id).expect("checked above").owes_sync = false;
                self.refresh_session(id, env.now.monotonic);
                env.out.answer(token, self.synced(id));
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        self.check_alive()?;
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        self.check_generation(request.generation)?;
        let differs = |theirs: &Option<Arc<str>>, ours| theirs.is_some() && theirs != ours;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// Whether the assignment of this generation is being stored.
    fn is_assigning(&self) -> bool {
        self.changes
            .iter()
            .any(|(_, change)| matches!(change, Change::Assign { generation, .. } if *generation == self.generation))
    }

    /// The leader's assignment goes to the log; members that it forgot get none.
    fn assign(&mut self, env: &mut Env<'_>, request: &SyncRequest) {
        let assignments: BTreeMap<Arc<str>, Bytes> = (request.assignments.iter())
            .filter(|(id, _)| self.members.contains_key(id))
            .map(|(id, assignment)| (Arc::clone(id), Bytes::copy_from_slice(assignment)))
            .collect();
        self.metadata.in_flight += 1;
        let entry = self.metadata_entry(env, &assignments);
        let value = entry.value.clone();
        self.store(env, Change::Assign { generation: self.generation, assignments, value }, vec![entry]);
    }

    pub(super) fn synced(&self, id: &str) -> Answer {
        Answer::Sync(Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        })
    }

    /// Everyone who waits for an assignment is told this; what was assigned counts no more.
    pub(super) fn refuse_syncs(&mut self, env: &mut Env<'_>, error: GroupError) {
        let now = env.now.monotonic;
        let mut first = None;
        for member in self.members.values_mut() {
            member.owes_sync = false;
            if let Some(token) = member.syncing.take() {
                env.out.refuse(token, error);
                let at = now + member.session_timeout;
                member.deadline = Some(at);
                first = Some(first.map_or(at, |first: std::time::Duration| first.min(at)));
            }
        }
        if let Some(first) = first {
            self.note_deadline(first);
        }
    }

    /// A member says that it lives, and learns whether it must join again.
    pub(crate) fn heartbeat(&mut self, env: &mut Env<'_>, request: HeartbeatRequest<'_>) -> Result<(), GroupError> {
        self.check_alive()?;
        self.check_member(request.member_id, request.instance_id)?;
        self.check_generation(request.generation)?;
        self.refresh_session(request.member_id, env.now.monotonic);
        match self.state {
            State::Empty | State::Dead => Err(GroupError::UnknownMemberId),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }
}
