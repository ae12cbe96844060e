//! LeaveGroup.

use std::sync::Arc;

use super::{Env, Group};
use crate::{GroupError, LeavingMember};

impl Group {
    /// Members leave: one result for each.
    pub(crate) fn leave(
        &mut self,
        env: &mut Env<'_>,
        members: &[LeavingMember<'_>],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.check_alive()?;
        Ok(members.iter().map(|member| self.leave_one(env, *member)).collect())
    }

    fn leave_one(&mut self, env: &mut Env<'_>, leaving: LeavingMember<'_>) -> Result<(), GroupError> {
        let id: Arc<str> = match leaving.instance_id {
            // An administrator removes a static member without knowing its id.
            Some(instance_id) if leaving.member_id.is_empty() => {
                Arc::clone(self.static_members.get(instance_id).ok_or(GroupError::UnknownMemberId)?)
            }
            _ => leaving.member_id.into(),
        };
        tracing::debug!(group = %self.id, member = %id, reason = leaving.reason.unwrap_or("not given"), "member leaves");
        if self.pending_members.remove(&id).is_some() {
            self.advance(env);
            return Ok(());
        }
        self.check_member(&id, leaving.instance_id)?;
        self.remove_member(env, &id);
        self.after_removal(env, "a member left");
        Ok(())
    }
}
