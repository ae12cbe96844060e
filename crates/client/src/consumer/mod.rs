//! The consumer: reads records of chosen partitions, or shares the partitions of topics with the other members of its
//! group. It reads ahead in the background, within [`ConsumerConfig::buffer_bytes`].

mod assignor;
mod buffer;
mod config;
mod fetcher;
mod group;
mod protocol;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use records::{Offset, RecordHeader, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use wire::Text;

pub use self::assignor::Assignor;
use self::buffer::Buffer;
pub use self::config::{ConsumerConfig, StartAt};
use self::fetcher::Fetcher;
use self::group::{Membership, Phase};
use crate::cluster::{Cluster, Lane, Lanes, Purpose};
use crate::offsets::{self, Committed, FAREWELL, Member, OffsetSpec};
use crate::{Error, TopicPartition};

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its place there.
    pub offset: Offset,
    /// When it was made, or appended; −1 when its producer gave no time.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers, in order; names may repeat.
    pub headers: Vec<RecordHeader>,
}

/// Reads records.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use std::time::Duration;
/// use client::{ConsumerConfig, OffsetSpec, TopicPartition};
///
/// let mut consumer = client.consumer(ConsumerConfig::default())?;
/// let partition = TopicPartition::new("greetings", 0);
/// consumer.assign([partition.clone()]).await?;
/// consumer.seek(&partition, OffsetSpec::Start).await?;
/// for record in consumer.poll(Duration::from_secs(1)).await? {
///     println!("{} {:?}", record.offset, record.value);
/// }
/// consumer.close().await
/// # }
/// ```
pub struct Consumer {
    cluster: Arc<Cluster>,
    config: ConsumerConfig,
    lanes: Lanes,
    buffer: Arc<Buffer>,
    membership: Option<Membership>,
    /// As which member to commit.
    member: Option<Member>,
    /// The last [`Phase`] that was carried out.
    round: u64,
    /// What was committed last, so that nothing is committed twice.
    committed: HashMap<TopicPartition, Offset>,
    next_commit: Option<Instant>,
    /// The fetcher; aborted when the consumer is dropped.
    _fetcher: JoinSet<()>,
}

impl Consumer {
    pub(crate) fn start(cluster: &Arc<Cluster>, config: ConsumerConfig) -> Result<Self, Error> {
        config.check()?;
        let lanes = Lanes::new(cluster);
        let buffer = Arc::new(Buffer::default());
        let mut fetcher = JoinSet::new();
        let lane = lanes.lane(Purpose::Fetch);
        fetcher.spawn(Fetcher::new(cluster.clone(), lane, config.clone(), buffer.clone()).run());
        Ok(Self {
            cluster: cluster.clone(),
            next_commit: config.auto_commit.map(|interval| Instant::now() + interval),
            config,
            lanes,
            buffer,
            membership: None,
            member: None,
            round: 0,
            committed: HashMap::new(),
            _fetcher: fetcher,
        })
    }

    /// Reads these partitions, whatever the group's other members read. Partitions that were assigned before keep their
    /// place. Ends a subscription.
    ///
    /// # Errors
    /// None for partitions that do not exist: they may come to be; [`Consumer::poll`] waits for them.
    pub async fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<(), Error> {
        self.unsubscribe().await;
        let partitions: Vec<_> = partitions.into_iter().collect();
        self.buffer.assign(&partitions);
        Ok(())
    }

    /// Shares the partitions of these topics with the other members of the group. The partitions come with
    /// [`Consumer::poll`], which must be called regularly.
    ///
    /// # Errors
    /// [`Error::Config`] without a group.
    pub async fn subscribe<T: Into<Arc<str>>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let Some(group) = &self.config.group else {
            return Err(Error::Config("a subscription needs a group: set `group`, or assign partitions".into()));
        };
        let topics: Vec<Arc<str>> = topics.into_iter().map(Into::into).collect();
        match &self.membership {
            Some(membership) => membership.subscribe(topics),
            None => {
                self.buffer.assign(&[]);
                self.round = 0;
                let lane = self.group_lane();
                let group = Text::from(group.as_str());
                self.membership =
                    Some(Membership::start(self.cluster.clone(), lane, group, self.config.clone(), topics));
            }
        }
        Ok(())
    }

    /// Leaves the group's rounds, if the consumer was in them, and reads nothing any more.
    pub async fn unsubscribe(&mut self) {
        if let Some(membership) = self.membership.take() {
            membership.leave().await;
            self.buffer.assign(&[]);
            self.member = None;
        }
    }

    fn group_lane(&self) -> Lane {
        self.lanes.lane(Purpose::Group)
    }

    /// The partitions that are read now.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.buffer.partitions()
    }

    /// Records, as soon as there are any; none when there were none within `limit`. At most
    /// [`ConsumerConfig::poll_records`]; those of one partition are in order. Also joins the group, commits where
    /// [`ConsumerConfig::auto_commit`] is set, and finds out where to start.
    ///
    /// Safe to cancel: records are only taken when they are returned.
    ///
    /// # Errors
    /// What cannot be healed by waiting: a partition without an offset to start from, damaged records, a group that does
    /// not take the member, missing permission. Lost connections and moved partitions are retried without end.
    pub async fn poll(&mut self, limit: Duration) -> Result<Vec<Record>, Error> {
        let deadline = Instant::now() + limit;
        let mut attempt = 0;
        loop {
            if let Some(membership) = &self.membership {
                membership.polled();
            }
            let buffer = self.buffer.clone();
            let arrived = buffer.arrived.notified();
            match timeout_at(deadline, self.drive()).await {
                Ok(Ok(())) => attempt = 0,
                Ok(Err(error)) if error.is_retriable() => {
                    tracing::debug!(%error, "the consumer will try again");
                    let pause = Instant::now() + self.cluster.backoff(attempt);
                    attempt += 1;
                    sleep_until(pause.min(deadline)).await;
                    if pause < deadline {
                        continue;
                    }
                }
                Ok(Err(error)) => return Err(error),
                // There may still be records of partitions whose place is known.
                Err(_) => {}
            }
            let taken =
                self.buffer.take(self.config.poll_records, self.config.inflated_bytes, self.config.committed_only)?;
            if !taken.is_empty() || Instant::now() >= deadline {
                return Ok(taken);
            }
            let next_commit = self.next_commit.unwrap_or(deadline).min(deadline);
            tokio::select! {
                () = arrived => {}
                () = phase_changed(&mut self.membership) => {}
                () = sleep_until(next_commit) => {}
            }
        }
    }

    /// Does what the group asks for, commits if it is time, finds out where to start. Safe to cancel: what was not done
    /// is done next time.
    async fn drive(&mut self) -> Result<(), Error> {
        self.follow_group().await?;
        if self.next_commit.is_some_and(|at| at <= Instant::now()) {
            self.next_commit = self.config.auto_commit.map(|interval| Instant::now() + interval);
            // A commit that is refused because the group changes comes again when the partitions are given up.
            if let Err(error) = self.commit_positions().await {
                tracing::debug!(%error, "the automatic commit did not succeed");
            }
        }
        let gone = self.buffer.out_of_range();
        if !gone.is_empty() {
            self.reset(gone).await?;
        }
        let unplaced = self.buffer.unplaced();
        if !unplaced.is_empty() {
            self.start_partitions(unplaced).await?;
        }
        Ok(())
    }

    async fn follow_group(&mut self) -> Result<(), Error> {
        let Some(membership) = &mut self.membership else { return Ok(()) };
        let phase = membership.phase.borrow_and_update().clone();
        match phase {
            Phase::Revoking { round, partitions, member, lost } if round > self.round => {
                // A cooperative member is in a newer generation already.
                self.member = Some(member);
                if !lost && self.config.auto_commit.is_some() {
                    let committed = timeout(FAREWELL, self.commit_positions()).await;
                    if !matches!(committed, Ok(Ok(()))) {
                        tracing::warn!("the offsets of partitions that move to other members could not be committed");
                    }
                }
                let kept = match &partitions {
                    Some(revoked) => {
                        let mut all = self.buffer.partitions();
                        all.retain(|partition| !revoked.contains(partition));
                        all
                    }
                    None => vec![],
                };
                self.buffer.assign(&kept);
                self.committed.retain(|partition, _| kept.contains(partition));
                if partitions.is_none() {
                    self.member = None;
                }
                self.round = round;
                if let Some(membership) = &self.membership {
                    membership.revoked(round);
                }
            }
            Phase::Stable { round, member, partitions } if round > self.round => {
                self.buffer.assign(&partitions);
                self.member = Some(member);
                self.round = round;
            }
            Phase::Failed(error) => return Err(error),
            _ => {}
        }
        Ok(())
    }

    /// Partitions start at their committed offset, or where the configuration says.
    async fn start_partitions(&mut self, partitions: Vec<TopicPartition>) -> Result<(), Error> {
        let mut rest = partitions;
        if let Some(group) = &self.config.group {
            let committed = offsets::committed(&self.cluster, group, Some(&rest)).await?;
            rest.retain(|partition| match committed.get(partition) {
                Some(found) => {
                    self.buffer.place(partition, Some(found.offset));
                    false
                }
                None => true,
            });
        }
        if rest.is_empty() { Ok(()) } else { self.reset(rest).await }
    }

    async fn reset(&mut self, partitions: Vec<TopicPartition>) -> Result<(), Error> {
        let spec = match self.config.start_at {
            StartAt::Earliest => OffsetSpec::Start,
            StartAt::Latest => OffsetSpec::End,
            StartAt::Fail => {
                let first = &partitions[0];
                return Err(Error::NoOffset { topic: first.topic.to_string(), partition: first.partition });
            }
        };
        let wanted: Vec<_> = partitions.into_iter().map(|partition| (partition, spec)).collect();
        let found = offsets::list(&self.cluster, &wanted, self.config.committed_only).await?;
        for (partition, offset) in found {
            self.buffer.place(&partition, Some(offset));
        }
        Ok(())
    }

    /// Goes on reading a partition from another place. Safe to cancel: then nothing has changed.
    ///
    /// # Errors
    /// The partition is not assigned, or the place cannot be found out within the operation time-out.
    pub async fn seek(&mut self, partition: &TopicPartition, to: OffsetSpec) -> Result<(), Error> {
        let not_assigned = || Error::Config(format!("{partition} is not assigned to this consumer"));
        if !self.buffer.partitions().contains(partition) {
            return Err(not_assigned());
        }
        let wanted = [(partition.clone(), to)];
        let committed_only = self.config.committed_only;
        let limit = self.cluster.config.operation_timeout;
        let found = self.cluster.retry(limit, || offsets::list(&self.cluster, &wanted, committed_only)).await?;
        let offset = found.get(partition).copied().ok_or_else(not_assigned)?;
        if self.buffer.place(partition, Some(offset)) { Ok(()) } else { Err(not_assigned()) }
    }

    /// The next offset that [`Consumer::poll`] returns of a partition; `None` while that is not known.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.buffer.position(partition)
    }

    /// The end of a partition, as the last answer of its leader told it.
    #[must_use]
    pub fn known_end(&self, partition: &TopicPartition) -> Option<Offset> {
        self.buffer.end(partition)
    }

    /// Stops reading a partition without giving it up; what was read ahead is dropped.
    ///
    /// # Errors
    /// [`Error::Config`] when it is not assigned.
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.set_paused(partition, true)
    }

    /// Goes on reading a partition.
    ///
    /// # Errors
    /// [`Error::Config`] when it is not assigned.
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.set_paused(partition, false)
    }

    fn set_paused(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), Error> {
        match self.buffer.pause(partition, paused) {
            true => Ok(()),
            false => Err(Error::Config(format!("{partition} is not assigned to this consumer"))),
        }
    }

    /// Commits the place of every partition: after all records that were returned so far.
    ///
    /// If cancelled, the commit may or may not happen.
    ///
    /// # Errors
    /// There is no group, the cluster cannot be reached within the operation time-out, or the partitions went to other
    /// members meanwhile (ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID or REBALANCE_IN_PROGRESS): then go on polling.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let positions = self.buffer.positions().into_iter().collect();
        self.commit_offsets(positions).await
    }

    /// Commits these offsets: each is the next one to read.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_offsets(&mut self, offsets: HashMap<TopicPartition, Offset>) -> Result<(), Error> {
        let group = self.group_name()?.to_owned();
        let (member, lane) = (self.member.clone(), self.group_lane());
        let limit = self.cluster.config.operation_timeout;
        self.cluster.retry(limit, || offsets::commit(&self.cluster, &group, member.as_ref(), lane, &offsets)).await?;
        self.committed.extend(offsets);
        Ok(())
    }

    /// Commits what has changed since the last time, in one attempt.
    async fn commit_positions(&mut self) -> Result<(), Error> {
        let Some(group) = &self.config.group else { return Ok(()) };
        // A subscriber without a membership has nothing that it may commit.
        if self.membership.is_some() && self.member.is_none() {
            return Ok(());
        }
        let mut offsets: HashMap<_, _> = self.buffer.positions().into_iter().collect();
        offsets.retain(|partition, offset| self.committed.get(partition) != Some(offset));
        offsets::commit(&self.cluster, group, self.member.as_ref(), self.group_lane(), &offsets).await?;
        self.committed.extend(offsets);
        Ok(())
    }

    /// What the group has committed for these partitions; those without a commit are left out. Safe to cancel.
    ///
    /// # Errors
    /// There is no group, or the cluster cannot be reached within the operation time-out.
    pub async fn committed(&self, partitions: &[TopicPartition]) -> Result<HashMap<TopicPartition, Committed>, Error> {
        let group = self.group_name()?;
        let limit = self.cluster.config.operation_timeout;
        self.cluster.retry(limit, || offsets::committed(&self.cluster, group, Some(partitions))).await
    }

    fn group_name(&self) -> Result<&str, Error> {
        self.config.group.as_deref().ok_or_else(|| Error::Config("committed offsets need a group: set `group`".into()))
    }

    /// Commits, where that is automatic, and leaves the group. A consumer that is dropped instead leaves the group
    /// waiting until its session ends.
    ///
    /// # Errors
    /// The last commit did not succeed; the consumer is closed all the same.
    pub async fn close(mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        if self.config.auto_commit.is_some() {
            let late = |_| Error::TimedOut { what: "the last commit".into(), after: FAREWELL };
            outcome = timeout(FAREWELL, self.commit_positions()).await.map_err(late).and_then(|outcome| outcome);
        }
        self.unsubscribe().await;
        outcome
    }
}

/// The partitions in a consumer's assignment, as groups are described; none when it is no consumer's.
pub(crate) fn assigned_partitions(assignment: &[u8]) -> Vec<TopicPartition> {
    protocol::decode_assignment(assignment).unwrap_or_default()
}

/// Waits for news of the group; without a group, for ever.
async fn phase_changed(membership: &mut Option<Membership>) {
    if let Some(membership) = membership
        && membership.phase.changed().await.is_ok()
    {
        return;
    }
    // No group, or its task has ended; what it said last is known.
    std::future::pending().await
}
