//! What of a journal is durable, committed, uploaded and trimmed: a plain state machine, no I/O.
//!
//! A position is committed once `ack_quorum` members have it on stable storage, or once everything below it is in
//! committed objects.

use records::Position;

/// Follows one journal's positions and upholds J1.
#[derive(Debug, Clone)]
pub struct Tracker {
    /// Durable position of each member; the owner comes first.
    durable: Vec<Position>,
    ack_quorum: usize,
    committed: Position,
    uploaded: Position,
    trimmed: Position,
}

impl Tracker {
    /// A journal that begins at `start`, with this many members.
    ///
    /// # Panics
    /// When the quorum is not between one and the number of members.
    #[must_use]
    pub fn new(members: usize, ack_quorum: usize, start: Position) -> Self {
        assert!(ack_quorum >= 1 && ack_quorum <= members, "a quorum of {ack_quorum} out of {members} members");
        Self { durable: vec![start; members], ack_quorum, committed: start, uploaded: start, trimmed: start }
    }

    /// A member (0 is the owner) has everything below `position` on stable storage. Answers are cumulative and may
    /// come late: an older one changes nothing.
    pub fn durable(&mut self, member: usize, position: Position) {
        let known = &mut self.durable[member];
        *known = (*known).max(position);
        self.advance();
    }

    /// Everything below `position` is in committed objects.
    ///
    /// # Panics
    /// When the owner does not have these bytes: they cannot have been uploaded from here (J1).
    pub fn uploaded(&mut self, position: Position) {
        assert!(position <= self.durable[0], "J1: uploaded {position} above durable {}", self.durable[0]);
        self.uploaded = self.uploaded.max(position);
        self.advance();
    }

    /// Everything below `position` was deleted from local storage.
    ///
    /// # Panics
    /// When it was not uploaded before (J1).
    pub fn trimmed(&mut self, position: Position) {
        assert!(position <= self.uploaded, "J1: trimmed {position} above uploaded {}", self.uploaded);
        self.trimmed = self.trimmed.max(position);
    }

    /// Everything below is committed. Never moves back.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.committed
    }

    /// Everything below is in committed objects.
    #[must_use]
    pub fn upload_frontier(&self) -> Position {
        self.uploaded
    }

    fn advance(&mut self) {
        let mut by_rank = self.durable.clone();
        by_rank.sort_unstable_by(|a, b| b.cmp(a));
        // What the owner itself does not have is not committed yet: it could not be served (J1).
        let quorum = by_rank[self.ack_quorum - 1].min(self.durable[0]);
        self.committed = self.committed.max(quorum).max(self.uploaded);
        assert!(self.uploaded <= self.committed && self.committed <= self.durable[0], "J1: {self:?}");
    }
}
