//! Carrying changes out, and asserting on the way what must never be otherwise.
//!
//! An assertion that fails here means that a wrong change was about to become, or already is, part of the database:
//! stopping is the only safe answer.

use std::collections::HashMap;
use std::sync::Arc;

use records::{TopicId, TopicPartition};

use super::Change;
use super::image::{Broker, Image, Journal, JournalState, PartitionState, Topic};
use super::names::{flat_name, is_internal};

impl Image {
    /// Carries out changes, in order. Those of rows that only the database has are nothing here.
    ///
    /// # Panics
    /// When a change breaks an invariant: M1, O2, R2 and J1 are assertions here.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply_one(change);
        }
    }

    fn apply_one(&mut self, change: &Change) {
        match change {
            Change::PutBroker(broker) => {
                if let Some(old) = self.brokers.insert(broker.id, broker.clone()) {
                    assert!(old.name == broker.name, "broker {} keeps its name", broker.id);
                    let same = Broker { fenced: old.fenced, ..(**broker).clone() } == *old;
                    assert!(same || old.incarnation < broker.incarnation, "broker {}'s incarnation grows", broker.id);
                }
            }
            Change::PutTopic { id, name, configs, created_at } => {
                if let Some(topic) = self.topics.get_mut(id) {
                    assert!(topic.name == *name, "topic {id} keeps its name");
                    Arc::make_mut(topic).configs = configs.clone();
                    return;
                }
                let topic = Topic {
                    id: *id,
                    name: name.clone(),
                    partitions: Vec::new(),
                    configs: configs.clone(),
                    internal: is_internal(name),
                    created_at: *created_at,
                };
                self.topics.insert(*id, Arc::new(topic));
                assert!(self.by_name.insert(name.clone(), *id).is_none(), "topic '{name}' exists once");
                if let Some(flat) = flat_name(name) {
                    self.by_flat_name.insert(flat, *id);
                }
            }
            Change::PutPartition(of, state) => self.put_partition(*of, state),
            Change::DeleteTopic { id, partitions } => self.delete_topic(*id, *partitions),
            Change::PutDeleted(id, deleted) => {
                self.deleted.insert(*id, *deleted);
            }
            Change::EndDeleted(id) => {
                self.deleted.remove(id);
            }
            Change::PutTrim(of) => {
                self.trims.insert(*of);
            }
            Change::EndTrim(of) => {
                self.trims.remove(of);
            }
            Change::PutJournal(journal) => {
                let old = self.journals.insert(journal.id, journal.clone());
                check_journal(old.as_deref(), journal);
            }
            Change::ForgetJournal(id) => {
                let old = self.journals.remove(id);
                assert!(
                    old.is_some_and(|journal| journal.state == JournalState::Drained),
                    "journal {id} is drained before it is forgotten"
                );
            }
            Change::PutBrokerConfigs(broker, configs) => {
                if configs.is_empty() {
                    self.broker_configs.remove(broker);
                } else {
                    self.broker_configs.insert(*broker, configs.clone());
                }
            }
            Change::PutCounters(next) => {
                let (old, new) = (self.counters, next.0);
                let grows = old.broker <= new.broker && old.journal <= new.journal && old.producer <= new.producer;
                assert!(grows, "no id is given out twice");
                self.counters = new;
            }
            Change::PutExtent(_)
            | Change::DeleteExtent { .. }
            | Change::PutObject { .. }
            | Change::DeleteObject(_)
            | Change::PutGarbage { .. }
            | Change::EndGarbage(_) => {}
        }
    }

    fn put_partition(&mut self, of: TopicPartition, state: &Arc<PartitionState>) {
        check_partition(of, state);
        let topic = self.topics.get_mut(&of.topic).expect("a partition's topic is put before it");
        let topic = Arc::make_mut(topic);
        let at = usize::try_from(of.partition.0).expect("partitions are numbered from 0");
        if let Some(old) = topic.partitions.get_mut(at) {
            assert!(old.frontier <= state.frontier, "{of}: the frontier only grows");
            assert!(old.log_start <= state.log_start, "{of}: the log start only grows");
            assert!(old.leader_epoch <= state.leader_epoch, "{of}: the leader epoch only grows");
            assert!(
                (old.leader_epoch == state.leader_epoch) == (old.journal == state.journal),
                "{of}: another journal is another leader epoch"
            );
            assert!(old.assign_limit() <= state.assign_limit(), "{of}: the reserve only grows");
            *old = state.clone();
        } else {
            assert!(at == topic.partitions.len(), "{of}: partitions are made in order");
            topic.partitions.push(state.clone());
            self.partition_count += 1;
        }
    }

    fn delete_topic(&mut self, id: TopicId, partitions: u32) {
        let topic = self.topics.remove(&id).expect("only a topic that exists is deleted");
        assert!(
            usize::try_from(partitions).is_ok_and(|count| count == topic.partitions.len()),
            "topic {id}: all its partitions are deleted"
        );
        self.partition_count -= topic.partitions.len();
        self.by_name.remove(&topic.name);
        if let Some(flat) = flat_name(&topic.name) {
            remove_if(&mut self.by_flat_name, &flat, id);
        }
    }
}

fn remove_if(names: &mut HashMap<String, TopicId>, name: &str, id: TopicId) {
    if names.get(name) == Some(&id) {
        names.remove(name);
    }
}

fn check_partition(of: TopicPartition, state: &PartitionState) {
    let last = state.epochs.last().expect("a partition has a leader epoch");
    assert!(last.epoch == state.leader_epoch && last.journal == state.journal, "{of}: the last epoch is the leader's");
    assert!(
        state.epochs.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start < pair[1].start),
        "{of}: epochs ascend"
    );
    assert!(state.log_start.0 >= 0 && state.log_start <= state.assign_limit(), "{of}: the log start is inside the log");
    assert!(state.frontier.0 >= 0, "{of}: the frontier is inside the log");
    assert!(last.start <= state.assign_limit(), "{of}: epochs begin below the reserve's end");
}

fn check_journal(old: Option<&Journal>, new: &Journal) {
    let id = new.id;
    assert!(new.end().is_none_or(|end| new.uploaded <= end), "journal {id}: uploaded ≤ end (J1)");
    let Some(old) = old else { return };
    assert!(old.uploaded <= new.uploaded, "journal {id}: the upload frontier only grows (J1)");
    assert!(old.epoch <= new.epoch, "journal {id}: the fencing epoch only grows (R3)");
    assert!(
        old.owner == new.owner && old.incarnation == new.incarnation && old.members == new.members,
        "journal {id}: its members never change"
    );
    if let Some(end) = old.end() {
        assert!(new.end() == Some(end), "journal {id}: its end is written once (R2)");
        assert!(new.uploaded == old.uploaded || old.state != JournalState::Drained, "journal {id}: drained is final");
        assert!(old.successor == new.successor, "journal {id}: its successor is written once");
    }
}
