//! The group's own record: made when a generation has its assignment, read back at load.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use records::Offset;

use super::member::{Member, timeout, timeout_ms};
use super::{Env, Group};
use crate::record::{GroupValue, MemberValue, RecordError};
use crate::storage::Entry;
use crate::{JoinRequest, State};

impl Group {
    /// The record of the group as it is, with new assignments.
    pub(super) fn metadata_entry(&self, env: &Env<'_>, assignments: &BTreeMap<Arc<str>, Bytes>) -> Entry {
        let none = Bytes::new();
        let protocol = self.protocol.as_deref();
        let members: Vec<(&Arc<str>, &Member, Bytes, &Bytes)> = (self.members.iter())
            .map(|(id, member)| (id, member, member.metadata(protocol), assignments.get(id).unwrap_or(&none)))
            .collect();
        let members = members.iter().map(|(id, member, subscription, assignment)| MemberValue {
            member_id: id,
            instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            rebalance_timeout: timeout_ms(member.rebalance_timeout),
            session_timeout: timeout_ms(member.session_timeout),
            subscription,
            assignment,
        });
        let value = GroupValue { state_timestamp: env.now.wall, members: members.collect(), ..self.value() };
        Entry { key: self.metadata_key(), value: Some(value.encode()) }
    }

    /// The record of a stable group in which a static member got a new id.
    pub(super) fn replacement_entry(&self, old: &Arc<str>, new: &Arc<str>, request: &JoinRequest) -> Entry {
        let protocol = self.protocol.as_deref();
        let metadata: Vec<Bytes> = self.members.values().map(|member| member.metadata(protocol)).collect();
        let wanted = request.protocols.iter().find(|(name, _)| Some(&**name) == protocol);
        let members = self.members.iter().zip(&metadata).map(|((id, member), subscription)| {
            let kept = MemberValue {
                member_id: id,
                instance_id: member.instance_id.as_deref(),
                client_id: &member.client_id,
                client_host: &member.client_host,
                rebalance_timeout: timeout_ms(member.rebalance_timeout),
                session_timeout: timeout_ms(member.session_timeout),
                subscription,
                assignment: &member.assignment,
            };
            if id != old {
                return kept;
            }
            MemberValue {
                member_id: new,
                client_id: &request.client_id,
                client_host: &request.client_host,
                rebalance_timeout: timeout_ms(timeout(request.rebalance_timeout_ms)),
                session_timeout: timeout_ms(timeout(request.session_timeout_ms)),
                subscription: wanted.map_or(subscription, |(_, metadata)| metadata),
                ..kept
            }
        });
        let leader = self.leader.as_ref().map(|leader| if leader == old { &**new } else { &**leader });
        let value = GroupValue { leader, members: members.collect(), ..self.value() };
        Entry { key: self.metadata_key(), value: Some(value.encode()) }
    }

    /// Everything but the members.
    fn value(&self) -> GroupValue<'_> {
        GroupValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.as_deref(),
            leader: self.leader.as_deref(),
            state_timestamp: self.state_since,
            members: Vec::new(),
        }
    }

    /// The group's record is read while loading; the last one counts, and is understood by `loaded`.
    pub(crate) fn load_metadata(&mut self, value: Option<Bytes>, offset: Offset) {
        self.metadata.value = value;
        self.metadata.offset = offset;
    }

    /// Everything was read: the group is what its record says. Sessions begin anew.
    pub(crate) fn loaded(&mut self, env: &mut Env<'_>) -> Result<(), RecordError> {
        let Some(bytes) = self.metadata.value.clone() else { return Ok(()) };
        let value = GroupValue::decode(&bytes)?;
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type).filter(|name| !name.is_empty()).map(Arc::from);
        self.protocol = value.protocol.map(Arc::from);
        self.state_since = value.state_timestamp;
        let protocol = self.protocol.clone().unwrap_or_default();
        for member in value.members {
            let request = JoinRequest {
                member_id: member.member_id.into(),
                instance_id: member.instance_id.map(Arc::from),
                client_id: member.client_id.into(),
                client_host: member.client_host.into(),
                session_timeout_ms: member.session_timeout,
                rebalance_timeout_ms: member.rebalance_timeout,
                protocol_type: Arc::default(),
                protocols: vec![(Arc::clone(&protocol), bytes.slice_ref(member.subscription))],
                member_id_required: true,
                skip_assignment: false,
                reason: None,
            };
            self.restore_member(&request, bytes.slice_ref(member.assignment));
        }
        if self.members.is_empty() {
            return Ok(());
        }
        let known = value.leader.and_then(|leader| self.members.get_key_value(leader)).map(|(id, _)| id);
        self.leader = known.or_else(|| self.members.keys().next()).cloned();
        self.state = State::Stable;
        self.update_subscribed();
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.refresh_session(&id, env.now.monotonic);
        }
        if self.members.len() > env.config.group_size_max {
            self.begin_rebalance(env, "the group is larger than now allowed");
        }
        Ok(())
    }
}
