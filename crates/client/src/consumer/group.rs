//! Membership in a consumer group (Kafka's classic protocol): a task that joins, keeps the member alive, and joins again
//! when the group changes. It and the consumer meet over two watches: the task says what is to be done, the consumer, when
//! it is polled, says what it has done.
//!
//! A consumer that is not polled for [`max_poll_interval`](super::ConsumerConfig::max_poll_interval) leaves the group, and
//! joins again when it is polled.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use wire::{ErrorCode, Text, heartbeat, join_group, leave_group, sync_group};

use super::ConsumerConfig;
use super::assignor::Assignor;
use super::protocol::{Subscription, decode_assignment, encode_assignment};
use crate::cluster::{Cluster, Lane};
use crate::offsets::{FAREWELL, Member, check_coordinator, coordinator};
use crate::{Error, TopicPartition};

/// How often a leader looks whether topics have more partitions.
const TOPICS_INTERVAL: Duration = Duration::from_secs(30);

/// What the consumer is to do.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// Nothing: the group is being joined.
    Joining,
    /// Give up these partitions (all, if none are named), say so, and go on.
    Revoking {
        round: u64,
        partitions: Option<Vec<TopicPartition>>,
        /// As whom to commit them.
        member: Member,
        /// They are lost already: others may read them, and commits are refused.
        lost: bool,
    },
    /// Read these partitions.
    Stable { round: u64, member: Member, partitions: Vec<TopicPartition> },
    /// The group does not take the member.
    Failed(Error),
}

/// The consumer's end.
pub(super) struct Membership {
    pub(super) phase: watch::Receiver<Phase>,
    /// The last round of [`Phase::Revoking`] that is done.
    done: watch::Sender<u64>,
    polled: watch::Sender<Instant>,
    topics: watch::Sender<Vec<Arc<str>>>,
    leave: CancellationToken,
    /// The task; aborted when the consumer is dropped.
    task: JoinSet<()>,
}

impl Membership {
    pub(super) fn start(
        cluster: Arc<Cluster>,
        lane: Lane,
        group: Text,
        config: ConsumerConfig,
        topics: Vec<Arc<str>>,
    ) -> Self {
        let (phase_sender, phase) = watch::channel(Phase::Joining);
        let (done, done_receiver) = watch::channel(0);
        let (polled, polled_receiver) = watch::channel(Instant::now());
        let (topics, topics_receiver) = watch::channel(topics);
        let leave = CancellationToken::new();
        let cooperative = config.assignors.iter().all(|assignor| *assignor == Assignor::CooperativeSticky);
        let task = Task {
            cluster,
            lane,
            instance: config.instance.as_deref().map(Text::from),
            group,
            config,
            cooperative,
            phase: phase_sender,
            done: done_receiver,
            polled: polled_receiver,
            topics: topics_receiver,
            leave: leave.clone(),
            member_id: Text::default(),
            generation: -1,
            owned: vec![],
            counts: HashMap::new(),
            round: 0,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run());
        Self { phase, done, polled, topics, leave, task: tasks }
    }

    /// Says that the consumer is alive.
    pub(super) fn polled(&self) {
        self.polled.send_replace(Instant::now());
    }

    /// Says that a round of revoking is done.
    pub(super) fn revoked(&self, round: u64) {
        self.done.send_replace(round);
    }

    /// Changes the subscription.
    pub(super) fn subscribe(&self, topics: Vec<Arc<str>>) {
        self.topics.send_replace(topics);
    }

    /// Leaves the group, so that others need not wait for the session to end.
    pub(super) async fn leave(mut self) {
        self.leave.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

/// Why a stable time ended.
enum Ended {
    /// The group changes; what is owned is still owned.
    Rebalance,
    /// The group has gone on without the member.
    Lost,
    /// Close, or the consumer was dropped.
    Leave,
    /// The consumer was not polled for too long.
    Idle,
    /// The group does not take the member.
    Failed(Error),
}

struct Task {
    cluster: Arc<Cluster>,
    lane: Lane,
    group: Text,
    instance: Option<Text>,
    config: ConsumerConfig,
    cooperative: bool,
    phase: watch::Sender<Phase>,
    done: watch::Receiver<u64>,
    polled: watch::Receiver<Instant>,
    topics: watch::Receiver<Vec<Arc<str>>>,
    leave: CancellationToken,
    member_id: Text,
    generation: i32,
    owned: Vec<TopicPartition>,
    /// Partitions by topic as of the last assignment, where this member made it.
    counts: HashMap<Arc<str>, i32>,
    round: u64,
}

impl Task {
    async fn run(mut self) {
        let leave = self.leave.clone();
        loop {
            let ended = tokio::select! {
                ended = self.one_generation() => ended,
                () = leave.cancelled() => Ended::Leave,
            };
            match ended {
                Ended::Rebalance => {}
                Ended::Lost => {
                    self.member_id = if self.instance.is_some() { self.member_id.clone() } else { Text::default() };
                    self.revoke_all(true).await;
                }
                Ended::Idle => {
                    tracing::warn!(group = %self.group, "the consumer was not polled in time and leaves its group");
                    self.say_goodbye().await;
                    self.revoke_all(true).await;
                }
                Ended::Leave => return self.say_goodbye().await,
                Ended::Failed(error) => {
                    self.phase.send_replace(Phase::Failed(error));
                    return;
                }
            }
        }
    }

    /// Joins once, and stays as long as the group does.
    async fn one_generation(&mut self) -> Ended {
        if !self.cooperative
            && !self.owned.is_empty()
            && let Some(ended) = self.give_up(None).await
        {
            return ended;
        }
        self.phase.send_if_modified(|phase| {
            // A cooperative member goes on reading meanwhile.
            let quiet = !self.cooperative && matches!(phase, Phase::Stable { .. });
            if quiet {
                *phase = Phase::Joining;
            }
            quiet
        });
        self.topics.mark_unchanged();
        let assigned = match self.join().await {
            Ok(Some(assigned)) => assigned,
            Ok(None) => return Ended::Rebalance,
            Err(error) => return self.judge(error).await,
        };
        let lost: Vec<_> = self.owned.iter().filter(|partition| !assigned.contains(partition)).cloned().collect();
        if self.cooperative && !lost.is_empty() {
            // Give up what moves, then join again so that its new owner can have it.
            self.owned.retain(|partition| assigned.contains(partition));
            return self.give_up(Some(lost)).await.unwrap_or(Ended::Rebalance);
        }
        self.owned = assigned;
        self.round += 1;
        let member = self.member();
        self.phase.send_replace(Phase::Stable { round: self.round, member, partitions: self.owned.clone() });
        self.stay(None).await
    }

    fn member(&self) -> Member {
        Member { id: self.member_id.clone(), generation: self.generation, instance: self.instance.clone() }
    }

    /// Heartbeats until something ends it, or until the consumer has done `round`.
    async fn stay(&mut self, round: Option<u64>) -> Ended {
        let mut next_beat = Instant::now() + self.config.heartbeat_interval;
        let mut next_look = Instant::now() + TOPICS_INTERVAL;
        let mut last_answer = Instant::now();
        loop {
            if round.is_some_and(|round| *self.done.borrow_and_update() >= round) {
                return Ended::Rebalance;
            }
            let idle_at = *self.polled.borrow_and_update() + self.config.max_poll_interval;
            tokio::select! {
                () = sleep_until(next_beat) => {
                    next_beat = Instant::now() + self.config.heartbeat_interval;
                    match self.beat().await {
                        Ok(()) => last_answer = Instant::now(),
                        // It is changing already: the consumer is about to be ready for it.
                        Err(error) if round.is_some() && error.code() == Some(ErrorCode::REBALANCE_IN_PROGRESS) => {
                            last_answer = Instant::now();
                        }
                        Err(error) if error.is_retriable() => {
                            check_coordinator(&self.cluster, &self.group, &error);
                            if last_answer.elapsed() >= self.config.session_timeout {
                                return Ended::Lost;
                            }
                            next_beat = Instant::now() + self.cluster.backoff(2);
                        }
                        Err(error) => return self.judge(error).await,
                    }
                }
                changed = self.done.changed(), if round.is_some() => {
                    if changed.is_err() {
                        return Ended::Leave;
                    }
                }
                changed = self.topics.changed() => {
                    return if changed.is_err() { Ended::Leave } else if round.is_some() { continue } else { Ended::Rebalance };
                }
                changed = self.polled.changed() => {
                    if changed.is_err() {
                        return Ended::Leave;
                    }
                }
                () = sleep_until(idle_at) => return Ended::Idle,
                () = sleep_until(next_look), if !self.counts.is_empty() && round.is_none() => {
                    next_look = Instant::now() + TOPICS_INTERVAL;
                    if self.topics_changed().await {
                        return Ended::Rebalance;
                    }
                }
            }
        }
    }

    /// What an error of the group means for the member.
    async fn judge(&mut self, error: Error) -> Ended {
        match error.code() {
            Some(ErrorCode::REBALANCE_IN_PROGRESS) => Ended::Rebalance,
            Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION) => Ended::Lost,
            Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) | None if error.is_retriable() => {
                check_coordinator(&self.cluster, &self.group, &error);
                sleep(self.cluster.backoff(3)).await;
                Ended::Rebalance
            }
            Some(_) if error.is_retriable() => {
                check_coordinator(&self.cluster, &self.group, &error);
                sleep(self.cluster.backoff(2)).await;
                Ended::Rebalance
            }
            _ => Ended::Failed(error),
        }
    }

    /// Has the consumer give up partitions (all of them, if none are named), heartbeating meanwhile.
    async fn give_up(&mut self, partitions: Option<Vec<TopicPartition>>) -> Option<Ended> {
        self.round += 1;
        let (all, member) = (partitions.is_none(), self.member());
        self.phase.send_replace(Phase::Revoking { round: self.round, partitions, member, lost: false });
        let ended = self.stay(Some(self.round)).await;
        match ended {
            Ended::Rebalance => {
                if all {
                    self.owned.clear();
                }
                None
            }
            ended => Some(ended),
        }
    }

    /// Has the consumer forget its partitions, and waits until it is polled.
    async fn revoke_all(&mut self, lost: bool) {
        self.generation = -1;
        if std::mem::take(&mut self.owned).is_empty() && matches!(*self.phase.borrow(), Phase::Joining) {
            return;
        }
        self.round += 1;
        let (round, member) = (self.round, self.member());
        self.phase.send_replace(Phase::Revoking { round, partitions: None, member, lost });
        let leave = self.leave.clone();
        tokio::select! {
            // An error means that the consumer is gone; then the next wait for it ends the task.
            _ = self.done.wait_for(|done| *done >= round) => {}
            () = leave.cancelled() => {}
        }
        self.phase.send_replace(Phase::Joining);
    }

    /// Joins and gets an assignment; `None` when the group changed again meanwhile.
    async fn join(&mut self) -> Result<Option<Vec<TopicPartition>>, Error> {
        let response = loop {
            let response = self.join_once().await?;
            match ErrorCode::from(response.error_code) {
                ErrorCode::NONE => break response,
                ErrorCode::MEMBER_ID_REQUIRED => self.member_id = response.member_id.detach(),
                ErrorCode::UNKNOWN_MEMBER_ID if !self.member_id.is_empty() => self.member_id = Text::default(),
                code => return Err(Error::broker(code, format!("joining group {}", self.group))),
            }
        };
        self.member_id = response.member_id.detach();
        self.generation = response.generation_id;
        let protocol = response.protocol_name.clone().unwrap_or_default();
        let leads = response.leader == response.member_id;
        let assignments = if leads { self.assign(&protocol, response).await? } else { vec![] };
        if !leads {
            self.counts.clear();
        }
        let request = sync_group::Request {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: Some(Text::from_static("consumer")),
            protocol_name: Some(protocol),
            assignments,
            ..Default::default()
        };
        let response: sync_group::Response = self.call(&request, self.config.rebalance_timeout()).await?;
        match ErrorCode::from(response.error_code) {
            ErrorCode::NONE => {}
            ErrorCode::REBALANCE_IN_PROGRESS => return Ok(None),
            code => return Err(Error::broker(code, format!("joining group {}", self.group))),
        }
        let assigned = decode_assignment(&response.assignment);
        assigned.map(Some).ok_or_else(|| Error::Config(format!("the leader of group {} assigned nonsense", self.group)))
    }

    async fn join_once(&self) -> Result<join_group::Response, Error> {
        let subscription = Subscription {
            topics: self.topics.borrow().clone(),
            owned: if self.cooperative { self.owned.clone() } else { vec![] },
            generation: self.generation,
        };
        let metadata = subscription.encode();
        let protocol = |assignor: &Assignor| join_group::JoinGroupRequestProtocol {
            name: Text::from_static(assignor.name()),
            metadata: metadata.clone(),
            ..Default::default()
        };
        let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        let request = join_group::Request {
            group_id: self.group.clone(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout()),
            member_id: self.member_id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: Text::from_static("consumer"),
            protocols: self.config.assignors.iter().map(protocol).collect(),
            ..Default::default()
        };
        self.call(&request, self.config.rebalance_timeout()).await
    }

    /// Divides the partitions; this member leads.
    async fn assign(
        &mut self,
        protocol: &str,
        response: join_group::Response,
    ) -> Result<Vec<sync_group::SyncGroupRequestAssignment>, Error> {
        if response.skip_assignment {
            return Ok(vec![]);
        }
        let unknown = || Error::Config(format!("group {} chose the unknown strategy {protocol:?}", self.group));
        let assignor = Assignor::from_name(protocol).ok_or_else(unknown)?;
        let mut members = BTreeMap::new();
        let mut order = Vec::new();
        for member in &response.members {
            let subscription = Subscription::decode(&member.metadata);
            let subscription =
                subscription.ok_or_else(|| Error::Config("a member's subscription is damaged".into()))?;
            members.insert(member.member_id.to_string(), subscription);
            // Static members first, by their names, so that they get the same after a restart.
            let name = member.group_instance_id.as_ref().map(ToString::to_string);
            order.push((name.is_none(), name, member.member_id.to_string()));
        }
        order.sort();
        let order: Vec<String> = order.into_iter().map(|(_, _, id)| id).collect();
        self.counts = self.count(members.values().flat_map(|member| member.topics.iter().cloned())).await?;
        let assignment = assignor.assign(&members, &order, &self.counts);
        let assignment = assignment.into_iter().map(|(id, partitions)| sync_group::SyncGroupRequestAssignment {
            member_id: Text::from(id),
            assignment: encode_assignment(&partitions),
            ..Default::default()
        });
        Ok(assignment.collect())
    }

    /// How many partitions topics have; those that do not exist have none, yet.
    async fn count(&self, topics: impl Iterator<Item = Arc<str>>) -> Result<HashMap<Arc<str>, i32>, Error> {
        let mut counts = HashMap::new();
        for topic in topics {
            if counts.contains_key(&topic) {
                continue;
            }
            let count = match self.cluster.topic(&topic, self.config.create_topics).await {
                Ok(found) => found.count(),
                Err(error) if error.code().is_some() => 0,
                Err(error) => return Err(error),
            };
            counts.insert(topic, count);
        }
        Ok(counts)
    }

    /// Whether topics have another number of partitions than when they were assigned.
    async fn topics_changed(&self) -> bool {
        let topics: Vec<Arc<str>> = self.counts.keys().cloned().collect();
        topics.iter().for_each(|topic| self.cluster.forget(topic));
        let now = self.count(topics.into_iter()).await;
        now.is_ok_and(|now| now != self.counts)
    }

    async fn beat(&self) -> Result<(), Error> {
        let request = heartbeat::Request {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance.clone(),
            ..Default::default()
        };
        let response = timeout(self.config.session_timeout, self.call(&request, Duration::ZERO)).await;
        let late = |_| Error::TimedOut { what: "a heartbeat".into(), after: self.config.session_timeout };
        let response: heartbeat::Response = response.map_err(late)??;
        crate::error::check(response.error_code, || format!("staying in group {}", self.group))
    }

    /// Static members do not leave: they are expected back.
    async fn say_goodbye(&mut self) {
        if self.member_id.is_empty() || self.instance.is_some() {
            return;
        }
        let request = leave_group::Request {
            group_id: self.group.clone(),
            members: vec![leave_group::MemberIdentity { member_id: self.member_id.clone(), ..Default::default() }],
            ..Default::default()
        };
        if !matches!(timeout(FAREWELL, self.call(&request, Duration::ZERO)).await, Ok(Ok(_))) {
            tracing::debug!(group = %self.group, "the group was not told that the member leaves");
        }
        self.member_id = Text::default();
    }

    async fn call<C: wire::Call>(&self, request: &C, wait: Duration) -> Result<C::Response, Error> {
        let broker = coordinator(&self.cluster, &self.group).await?;
        let connection = self.cluster.connect_broker(broker, self.lane).await?;
        let version = connection.version(C::KEY, i16::MAX)?;
        connection.call(request, version, wait).await
    }
}
