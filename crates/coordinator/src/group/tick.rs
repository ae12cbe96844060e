//! Time passes: sessions end, and phases do.

use std::sync::Arc;

use super::{Env, Group};
use crate::State;

impl Group {
    /// Does what is due. Call it at `next_deadline`; more often does no harm.
    pub(crate) fn tick(&mut self, env: &mut Env<'_>) {
        let now = env.now.monotonic;
        if self.next_deadline.is_none_or(|at| now < at) {
            return;
        }
        self.pending_members.retain(|_, at| now < *at);
        let due = |at: Option<std::time::Duration>| at.is_some_and(|at| at <= now);
        let mut late: Vec<Arc<str>> = Vec::new();
        late.extend(self.members.iter().filter(|(_, member)| due(member.deadline)).map(|(id, _)| Arc::clone(id)));
        if due(self.sync_deadline) {
            self.sync_deadline = None;
            if matches!(self.state, State::CompletingRebalance | State::Stable) {
                late.extend(self.members.iter().filter(|(_, member)| member.owes_sync).map(|(id, _)| Arc::clone(id)));
            }
        }
        for id in &late {
            tracing::debug!(group = %self.id, member = %id, "member was silent for too long");
            self.remove_member(env, id);
        }
        if late.is_empty() {
            self.advance(env)
        } else {
            self.after_removal(env, "a member was silent for too long")
        }
        self.next_deadline = (self.members.values().filter_map(|member| member.deadline))
            .chain(self.pending_members.values().copied())
            .chain(self.join_deadline.map(|deadline| deadline.at))
            .chain(self.sync_deadline)
            .min();
    }
}
