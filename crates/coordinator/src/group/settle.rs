//! What happens when the records of a change are stored, or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use records::Offset;

use super::{Answer, Env, Group, HeldJoin, Outcome, StoreFailure, Ticket, Token};
use crate::{Committed, GroupError, JoinRequest, PartitionResults, State};

/// A change that waits for its records.
#[derive(Debug)]
pub(super) enum Change {
    /// The leader's assignment of a generation.
    Assign { generation: i32, assignments: BTreeMap<Arc<str>, Bytes>, value: Option<Bytes> },
    /// The last member went.
    Emptied { value: Option<Bytes> },
    /// A static member of a stable group came back with a new id.
    Replace { token: Token, request: Box<JoinRequest>, old: Arc<str>, new: Arc<str>, value: Option<Bytes> },
    /// Offsets.
    Commit { token: Token, items: Vec<(Arc<str>, i32, Committed)>, results: PartitionResults },
    /// Offsets that go.
    Forget { answer: Option<(Token, Answer)>, items: Vec<(Arc<str>, i32)>, expired: bool },
    /// The record of a group in which nobody was for long.
    RemoveRecord,
    /// The whole group.
    Delete { token: Token },
    /// Live records once more, so that the log before them can go.
    Refresh { items: Vec<(Arc<str>, i32)>, metadata: bool },
}

fn error(failure: StoreFailure) -> GroupError {
    match failure {
        StoreFailure::Unavailable => GroupError::CoordinatorNotAvailable,
        StoreFailure::TooLarge => GroupError::UnknownServerError,
    }
}

impl Group {
    /// The oldest change that waits is settled.
    pub(crate) fn settle(&mut self, env: &mut Env<'_>, ticket: Ticket, outcome: Outcome) {
        let (expected, change) = self.changes.pop_front().expect("only changes under way are settled");
        assert_eq!(expected, ticket, "the changes of a group are settled in order");
        match outcome {
            Outcome::Stored(offset) => self.stored(env, change, offset),
            Outcome::Failed(failure) => self.failed(env, change, failure),
        }
        if self.metadata.in_flight == 0 {
            // The first of them may store again, and then the others wait on.
            for HeldJoin { token, request, id } in std::mem::take(&mut self.held) {
                self.join_static(env, token, request, id);
            }
        }
        self.delete_when_settled(env);
    }

    fn stored(&mut self, env: &mut Env<'_>, change: Change, offset: Offset) {
        match change {
            Change::Assign { generation, mut assignments, value } => {
                self.metadata_stored(value, offset);
                if self.state != State::CompletingRebalance || self.generation != generation {
                    // A rebalance began meanwhile, and those who waited were told.
                    return;
                }
                self.set_state(env, State::Stable);
                let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
                for id in ids {
                    let member = self.members.get_mut(&id).expect("the id is a member's");
                    member.assignment = assignments.remove(&id).unwrap_or_default();
                    if let Some(token) = member.syncing.take() {
                        env.out.answer(token, self.synced(&id));
                        self.refresh_session(&id, env.now.monotonic);
                    }
                }
            }
            Change::Emptied { value } => self.metadata_stored(value, offset),
            Change::Replace { token, request, old, new, value } => {
                self.metadata_stored(value, offset);
                self.replace_stored(env, token, *request, &old, new);
            }
            Change::Commit { token, items, results } => {
                for (topic, partition, committed) in items {
                    self.offsets.end(&self.id, &topic, partition, Some((Some(committed), offset)));
                }
                env.out.answer(token, Answer::Partitions(results));
            }
            Change::Forget { answer, items, expired } => {
                for (topic, partition) in items {
                    self.offsets.end(&self.id, &topic, partition, Some((None, offset)));
                }
                if let Some((token, answer)) = answer {
                    env.out.answer(token, answer);
                }
                if expired {
                    self.remove_record_if_unused(env);
                }
            }
            Change::RemoveRecord => self.metadata_stored(None, offset),
            Change::Delete { token } => {
                self.offsets.clear();
                self.metadata.value = None;
                self.gone = true;
                env.out.answer(token, Answer::Done);
            }
            Change::Refresh { items, metadata } => {
                for (topic, partition) in items {
                    self.offsets.refreshed(&self.id, &topic, partition, Some(offset));
                }
                if metadata {
                    self.metadata.in_flight -= 1;
                    self.metadata.offset = offset;
                }
            }
        }
    }

    fn failed(&mut self, env: &mut Env<'_>, change: Change, failure: StoreFailure) {
        let error = error(failure);
        match change {
            Change::Assign { generation, .. } => {
                self.metadata.in_flight -= 1;
                if self.state == State::CompletingRebalance && self.generation == generation {
                    self.refuse_syncs(env, error);
                    self.begin_rebalance(env, "the assignment could not be stored");
                    self.advance(env);
                }
            }
            Change::Emptied { .. } => {
                // In memory the group is empty all the same. A start before the next change would read its last members,
                // whose sessions then end.
                self.metadata.in_flight -= 1;
                tracing::warn!(group = %self.id, "could not store that the group is empty");
            }
            Change::RemoveRecord => self.metadata.in_flight -= 1,
            Change::Replace { token, .. } => {
                self.metadata.in_flight -= 1;
                env.out.refuse_join(token, error, "");
            }
            Change::Commit { token, items, .. } => {
                for (topic, partition, _) in items {
                    self.offsets.end(&self.id, &topic, partition, None);
                }
                let error = if failure == StoreFailure::TooLarge { GroupError::InvalidCommitOffsetSize } else { error };
                env.out.refuse(token, error);
            }
            Change::Forget { answer, items, .. } => {
                for (topic, partition) in items {
                    self.offsets.end(&self.id, &topic, partition, None);
                }
                if let Some((token, _)) = answer {
                    env.out.refuse(token, error);
                }
            }
            Change::Delete { token } => {
                self.deleting = None;
                env.out.refuse(token, error);
            }
            Change::Refresh { items, metadata } => {
                for (topic, partition) in items {
                    self.offsets.refreshed(&self.id, &topic, partition, None);
                }
                if metadata {
                    self.metadata.in_flight -= 1;
                }
            }
        }
    }

    fn metadata_stored(&mut self, value: Option<Bytes>, offset: Offset) {
        self.metadata.value = value;
        self.metadata.offset = offset;
        self.metadata.in_flight -= 1;
    }

    /// The new id of a static member is stored: it takes effect if the group is still as it was.
    fn replace_stored(&mut self, env: &mut Env<'_>, token: Token, request: JoinRequest, old: &Arc<str>, new: Arc<str>) {
        let instance = request.instance_id.as_ref().expect("only static members are replaced");
        if self.state != State::Stable || self.static_members.get(instance) != Some(old) {
            // Members changed meanwhile: it takes part in the rebalance that this brought.
            return self.join_static(env, token, request, new);
        }
        let leader_before = self.leader.clone().unwrap_or_default();
        self.replace_member(env, old, &new);
        self.set_protocols(&new, &request);
        self.members.get_mut(&new).expect("it was just put there").update(&request);
        self.update_subscribed();
        self.refresh_session(&new, env.now.monotonic);
        let mut joined = self.joined(&new);
        if request.skip_assignment {
            joined.skip_assignment = joined.leader == new;
        } else {
            // An older client that learns that it leads would assign, and a stable group would ignore that. With the
            // leader's old id it does not recognise itself.
            joined.leader = leader_before;
            joined.members = Vec::new();
        }
        env.out.answer(token, Answer::Join(Ok(Box::new(joined))));
    }
}
