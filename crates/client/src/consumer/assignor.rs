//! How the leader of a group divides partitions among its members. Same input, same outcome, on every client.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::protocol::Subscription;
use crate::TopicPartition;

/// A way to divide partitions. All members of a group must know one in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Assignor {
    /// Each topic by itself: the first members get one partition more. As Kafka's `range`.
    Range,
    /// All partitions dealt out one by one. As Kafka's `roundrobin`.
    RoundRobin,
    /// Even, and members keep what they have; only what moves is given up, and reading of the rest goes on. As Kafka's
    /// `cooperative-sticky`.
    CooperativeSticky,
}

/// Who gets what, by member id.
pub(super) type Assignment = BTreeMap<String, Vec<TopicPartition>>;

impl Assignor {
    /// Its name in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin, Self::CooperativeSticky].into_iter().find(|known| known.name() == name)
    }

    /// Divides the partitions of the topics, given with their number of partitions. `members` are by id; static members
    /// are given in the order of their instance names by `order`.
    pub(super) fn assign(
        self,
        members: &BTreeMap<String, Subscription>,
        order: &[String],
        counts: &HashMap<Arc<str>, i32>,
    ) -> Assignment {
        match self {
            Self::Range => range(members, order, counts),
            Self::RoundRobin => round_robin(members, order, counts),
            Self::CooperativeSticky => sticky(members, order, counts),
        }
    }
}

fn subscribers<'a>(members: &BTreeMap<String, Subscription>, order: &'a [String], topic: &str) -> Vec<&'a String> {
    let wants = |id: &&String| members.get(*id).is_some_and(|member| member.topics.iter().any(|name| **name == *topic));
    order.iter().filter(wants).collect()
}

fn empty(members: &BTreeMap<String, Subscription>) -> Assignment {
    members.keys().map(|id| (id.clone(), vec![])).collect()
}

fn sorted(counts: &HashMap<Arc<str>, i32>) -> BTreeMap<&Arc<str>, i32> {
    counts.iter().map(|(topic, count)| (topic, *count)).collect()
}

fn range(members: &BTreeMap<String, Subscription>, order: &[String], counts: &HashMap<Arc<str>, i32>) -> Assignment {
    let mut assignment = empty(members);
    for (topic, count) in sorted(counts) {
        let takers = subscribers(members, order, topic);
        let Ok(takers_len @ 1..) = i32::try_from(takers.len()) else { continue };
        let (each, more) = (count / takers_len, count % takers_len);
        let mut next = 0;
        for (id, at) in takers.into_iter().zip(0..) {
            let share = each + i32::from(at < more);
            let partitions = (next..next + share).map(|partition| TopicPartition::new(topic.clone(), partition));
            assignment.entry(id.clone()).or_default().extend(partitions);
            next += share;
        }
    }
    assignment
}

fn round_robin(
    members: &BTreeMap<String, Subscription>,
    order: &[String],
    counts: &HashMap<Arc<str>, i32>,
) -> Assignment {
    let mut assignment = empty(members);
    let mut next = 0;
    for (topic, count) in sorted(counts) {
        let takers: BTreeSet<_> = subscribers(members, order, topic).into_iter().collect();
        if takers.is_empty() {
            continue;
        }
        for partition in 0..count {
            while !takers.contains(&order[next % order.len()]) {
                next += 1;
            }
            let id = &order[next % order.len()];
            next += 1;
            assignment.entry(id.clone()).or_default().push(TopicPartition::new(topic.clone(), partition));
        }
    }
    assignment
}

/// Members keep what they have up to their fair share; the rest goes to whoever has least. What one still has and another
/// is to get is given to nobody this time: its owner gives it up, everybody joins again, and then it is free.
fn sticky(members: &BTreeMap<String, Subscription>, order: &[String], counts: &HashMap<Arc<str>, i32>) -> Assignment {
    let mut claims: HashMap<&TopicPartition, &String> = HashMap::new();
    for id in order {
        let member = &members[id];
        for partition in &member.owned {
            let newer = claims.get(partition).is_none_or(|other| members[*other].generation < member.generation);
            if newer {
                claims.insert(partition, id);
            }
        }
    }
    let all: BTreeSet<TopicPartition> = counts
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(|partition| TopicPartition::new(topic.clone(), partition)))
        .collect();
    let wants = |id: &String, partition: &TopicPartition| members[id].topics.contains(&partition.topic);
    let mut assignment = empty(members);
    let mut free = Vec::new();
    for partition in &all {
        match claims.get(partition).filter(|id| wants(id, partition)) {
            Some(id) => assignment.entry((*id).clone()).or_default().push(partition.clone()),
            None => free.push(partition.clone()),
        }
    }
    let least = |assignment: &Assignment, partition: &TopicPartition| {
        order.iter().filter(|id| wants(id, partition)).min_by_key(|id| assignment[*id].len()).cloned()
    };
    for partition in free {
        if let Some(id) = least(&assignment, &partition) {
            assignment.entry(id).or_default().push(partition);
        }
    }
    // Move from those with most to those with least while that makes it more even.
    loop {
        let mut moved = false;
        for partition in &all {
            let Some(owner) = order.iter().find(|id| assignment[*id].contains(partition)).cloned() else { continue };
            let Some(taker) = least(&assignment, partition) else { continue };
            if assignment[&owner].len() > assignment[&taker].len() + 1 {
                assignment.entry(owner).or_default().retain(|other| other != partition);
                assignment.entry(taker).or_default().push(partition.clone());
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    for (id, partitions) in &mut assignment {
        partitions.retain(|partition| claims.get(partition).is_none_or(|owner| *owner == id));
        partitions.sort();
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(list: &[(&str, &[&str])]) -> (BTreeMap<String, Subscription>, Vec<String>) {
        let members: BTreeMap<_, _> = list
            .iter()
            .map(|(id, topics)| {
                let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
                ((*id).to_owned(), Subscription { topics, owned: vec![], generation: -1 })
            })
            .collect();
        let order = members.keys().cloned().collect();
        (members, order)
    }

    fn numbers(assignment: &Assignment, id: &str) -> Vec<String> {
        assignment[id].iter().map(ToString::to_string).collect()
    }

    #[test]
    fn range_gives_the_first_members_more() {
        let (members, order) = members(&[("a", &["s", "t"]), ("b", &["t"])]);
        let counts = HashMap::from([("s".into(), 2), ("t".into(), 3), ("unused".into(), 1)]);
        let assignment = Assignor::Range.assign(&members, &order, &counts);
        assert_eq!(numbers(&assignment, "a"), ["s/0", "s/1", "t/0", "t/1"]);
        assert_eq!(numbers(&assignment, "b"), ["t/2"]);
    }

    #[test]
    fn round_robin_deals_over_topics() {
        let (members, order) = members(&[("a", &["s", "t"]), ("b", &["s", "t"])]);
        let counts = HashMap::from([("s".into(), 3), ("t".into(), 2)]);
        let assignment = Assignor::RoundRobin.assign(&members, &order, &counts);
        assert_eq!(numbers(&assignment, "a"), ["s/0", "s/2", "t/1"]);
        assert_eq!(numbers(&assignment, "b"), ["s/1", "t/0"]);
    }

    #[test]
    fn sticky_moves_little_and_in_two_steps() {
        let (mut members, order) = members(&[("a", &["t"]), ("b", &["t"])]);
        let counts = HashMap::from([("t".into(), 4)]);
        members.get_mut("a").unwrap().owned = (0..4).map(|at| TopicPartition::new("t", at)).collect();
        let first = Assignor::CooperativeSticky.assign(&members, &order, &counts);
        assert_eq!(first["a"].len(), 2);
        assert!(first["b"].is_empty(), "what a still reads is given to nobody");
        members.get_mut("a").unwrap().owned = first["a"].clone();
        let second = Assignor::CooperativeSticky.assign(&members, &order, &counts);
        assert_eq!(second["a"], first["a"]);
        assert_eq!(second["b"].len(), 2);
    }

    #[test]
    fn every_partition_has_exactly_one_reader() {
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
            for member_count in 1..5 {
                let ids: Vec<String> = (0..member_count).map(|at| format!("m{at}")).collect();
                let list: Vec<(&str, &[&str])> = ids.iter().map(|id| (id.as_str(), &["s", "t"][..])).collect();
                let (members, order) = members(&list);
                let counts = HashMap::from([("s".into(), 5), ("t".into(), 2)]);
                let assignment = assignor.assign(&members, &order, &counts);
                let mut all: Vec<_> = assignment.values().flatten().cloned().collect();
                all.sort();
                let len = all.len();
                all.dedup();
                assert_eq!((all.len(), len), (7, 7), "{assignor:?} {member_count}");
            }
        }
    }
}
