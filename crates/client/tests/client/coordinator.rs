//! The fake brokers' groups: joins wait until every member has joined, syncs until the leader has assigned.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use wire::{ErrorCode, Text, heartbeat, join_group, leave_group, offset_commit, sync_group};

/// How long a rebalance waits for members that are known and do not come.
const REBALANCE_MAX: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Groups {
    groups: Mutex<HashMap<String, Group>>,
    changed: Notify,
}

#[derive(Default)]
struct Group {
    generation: i32,
    next_member: u32,
    /// By id; in a rebalance only those with a subscription have come.
    members: BTreeMap<String, Member>,
    rebalancing: Option<Instant>,
    protocol: String,
    leader: String,
    assignments: Option<HashMap<String, Bytes>>,
}

#[derive(Default)]
struct Member {
    joined: bool,
    protocols: Vec<(String, Bytes)>,
}

impl Groups {
    pub(crate) fn expel(&self, group: &str) {
        self.groups.lock().entry(group.into()).or_default().members.clear();
        self.changed.notify_waiters();
    }

    pub(crate) fn members(&self, group: &str) -> usize {
        self.groups.lock().get(group).map_or(0, |group| group.members.len())
    }

    pub(crate) async fn join(&self, request: join_group::Request) -> join_group::Response {
        let name = request.group_id.to_string();
        let id = {
            let mut groups = self.groups.lock();
            let group = groups.entry(name.clone()).or_default();
            let refuse = |error_code: ErrorCode, member_id: &str| join_group::Response {
                error_code: error_code.code(),
                member_id: Text::from(member_id),
                ..Default::default()
            };
            let id = request.member_id.to_string();
            if id.is_empty() {
                group.next_member += 1;
                let id = format!("member-{}", group.next_member);
                group.members.insert(id.clone(), Member::default());
                return refuse(ErrorCode::MEMBER_ID_REQUIRED, &id);
            }
            let Some(member) = group.members.get_mut(&id) else { return refuse(ErrorCode::UNKNOWN_MEMBER_ID, &id) };
            member.joined = true;
            member.protocols = request
                .protocols
                .iter()
                .map(|protocol| (protocol.name.to_string(), protocol.metadata.clone()))
                .collect();
            if group.rebalancing.is_none() {
                group.rebalancing = Some(Instant::now());
                group.members.iter_mut().filter(|(other, _)| **other != id).for_each(|(_, other)| other.joined = false);
            }
            group.finish_rebalance();
            id
        };
        self.changed.notify_waiters();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(response) = self.joined(&name, &id) {
                self.changed.notify_waiters();
                return response;
            }
            let _ = timeout(Duration::from_millis(50), changed).await;
        }
    }

    fn joined(&self, name: &str, id: &str) -> Option<join_group::Response> {
        let mut groups = self.groups.lock();
        let group = groups.get_mut(name).unwrap();
        if group.rebalancing.is_some_and(|since| since.elapsed() > REBALANCE_MAX) {
            group.members.retain(|_, member| member.joined);
            group.finish_rebalance();
        }
        if !group.members.contains_key(id) {
            return Some(join_group::Response {
                error_code: ErrorCode::UNKNOWN_MEMBER_ID.code(),
                member_id: Text::from(id),
                ..Default::default()
            });
        }
        if group.rebalancing.is_some() {
            return None;
        }
        let members = group.members.iter().map(|(id, member)| {
            let (_, metadata) = member.protocols.iter().find(|(name, _)| *name == group.protocol).unwrap();
            join_group::JoinGroupResponseMember {
                member_id: Text::from(id),
                metadata: metadata.clone(),
                ..Default::default()
            }
        });
        let members = if group.leader == id { members.collect() } else { vec![] };
        Some(join_group::Response {
            generation_id: group.generation,
            protocol_type: Some(Text::from_static("consumer")),
            protocol_name: Some(Text::from(&group.protocol)),
            leader: Text::from(&group.leader),
            member_id: Text::from(id),
            members,
            ..Default::default()
        })
    }

    pub(crate) async fn sync(&self, request: sync_group::Request) -> sync_group::Response {
        let refuse = |code: ErrorCode| sync_group::Response { error_code: code.code(), ..Default::default() };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut groups = self.groups.lock();
                let group = groups.get_mut(&*request.group_id).unwrap();
                if !group.members.contains_key(&*request.member_id) {
                    return refuse(ErrorCode::UNKNOWN_MEMBER_ID);
                }
                if group.rebalancing.is_some() {
                    return refuse(ErrorCode::REBALANCE_IN_PROGRESS);
                }
                if group.generation != request.generation_id {
                    return refuse(ErrorCode::ILLEGAL_GENERATION);
                }
                if group.leader == *request.member_id && group.assignments.is_none() {
                    let assignments = request.assignments.iter();
                    let assignments = assignments.map(|one| (one.member_id.to_string(), one.assignment.clone()));
                    group.assignments = Some(assignments.collect());
                    self.changed.notify_waiters();
                }
                if let Some(assignments) = &group.assignments {
                    return sync_group::Response {
                        assignment: assignments.get(&*request.member_id).cloned().unwrap_or_default(),
                        ..Default::default()
                    };
                }
            }
            changed.await;
        }
    }

    pub(crate) fn heartbeat(&self, request: &heartbeat::Request, refuse: Option<ErrorCode>) -> heartbeat::Response {
        let groups = self.groups.lock();
        let code = match groups.get(&*request.group_id) {
            _ if refuse.is_some() => refuse.unwrap(),
            Some(group) if !group.members.contains_key(&*request.member_id) => ErrorCode::UNKNOWN_MEMBER_ID,
            Some(group) if group.rebalancing.is_some() => ErrorCode::REBALANCE_IN_PROGRESS,
            Some(group) if group.generation != request.generation_id => ErrorCode::ILLEGAL_GENERATION,
            Some(_) => ErrorCode::NONE,
            None => ErrorCode::UNKNOWN_MEMBER_ID,
        };
        heartbeat::Response { error_code: code.code(), ..Default::default() }
    }

    pub(crate) fn leave(&self, request: &leave_group::Request) -> leave_group::Response {
        let mut groups = self.groups.lock();
        let group = groups.get_mut(&*request.group_id).unwrap();
        for member in &request.members {
            group.members.remove(&*member.member_id);
        }
        group.members.values_mut().for_each(|member| member.joined = false);
        if !group.members.is_empty() {
            group.rebalancing = Some(Instant::now());
        }
        drop(groups);
        self.changed.notify_waiters();
        leave_group::Response::default()
    }

    pub(crate) fn may_commit(&self, request: &offset_commit::Request) -> Result<(), ErrorCode> {
        let groups = self.groups.lock();
        let Some(group) = groups.get(&*request.group_id) else { return Ok(()) };
        if request.generation_id_or_member_epoch < 0 && group.members.is_empty() {
            return Ok(());
        }
        if !group.members.contains_key(&*request.member_id) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if group.generation != request.generation_id_or_member_epoch {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(())
    }
}

impl Group {
    fn finish_rebalance(&mut self) {
        if self.rebalancing.is_none() || self.members.is_empty() || self.members.values().any(|member| !member.joined) {
            return;
        }
        self.rebalancing = None;
        self.generation += 1;
        self.assignments = None;
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().unwrap().clone();
        }
        self.protocol = self.members.values().next().unwrap().protocols[0].0.clone();
    }
}
