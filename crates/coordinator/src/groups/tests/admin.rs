//! Deleting, expiring, describing, listing.

use std::time::Duration;

use super::bench::*;
use crate::group::{Answer, StoreFailure, Token};
use crate::{CommitRequest, GroupError, JoinRequest, ListFilter, State, TopicPartitions};

const HOUR: u64 = 3_600_000;

fn bench() -> Bench {
    Bench::with(|config| config.offsets_retention = Duration::from_millis(HOUR))
}

fn delete_offsets(bench: &mut Bench, topic: &str) -> Token {
    let token = bench.token();
    let wanted = [TopicPartitions { topic: topic.into(), partitions: vec![0] }];
    bench.run(|groups, now, out| groups.delete_offsets(now, out, token, "g", &wanted));
    token
}

fn delete(bench: &mut Bench) -> Token {
    let token = bench.token();
    bench.run(|groups, now, out| groups.delete(now, out, token, "g"));
    token
}

fn delete_topic(bench: &mut Bench, topic: &str) {
    let mut given = Vec::new();
    for _ in 0..3 {
        given.push(bench.token());
    }
    bench.run(|groups, now, out| groups.topic_deleted(now, out, topic, || given.pop().unwrap()));
}

#[test]
fn offsets_of_an_empty_group_are_deleted() {
    let mut bench = bench();
    bench.commit_simple("g", "t", 0, 5);
    bench.commit_simple("g", "u", 0, 5);
    let token = delete_offsets(&mut bench, "t");
    assert_eq!(bench.partitions(token), [Ok(())]);
    assert_eq!((bench.committed("g", "t", 0), bench.committed("g", "u", 0)), (None, Some(5)));
    assert_eq!(bench.reload().committed("g", "t", 0), None);
    let token = delete_offsets(&mut bench, "none");
    assert_eq!(bench.partitions(token), [Ok(())], "what is not there is deleted");
}

#[test]
fn offsets_of_topics_that_the_group_reads_are_not_deleted() {
    let mut bench = bench();
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    bench.commit("g", &commit(&ids[0], generation, "t", 0, 5));
    bench.commit("g", &commit(&ids[0], generation, "u", 0, 5));
    let token = delete_offsets(&mut bench, "t");
    assert_eq!(bench.partitions(token), [Err(GroupError::GroupSubscribedToTopic)]);
    let token = delete_offsets(&mut bench, "u");
    assert_eq!(bench.partitions(token), [Ok(())]);
    assert_eq!((bench.committed("g", "t", 0), bench.committed("g", "u", 0)), (Some(5), None));
}

#[test]
fn where_what_members_read_is_unknown_nothing_is_deleted() {
    let mut bench = bench();
    bench.stable("g", vec![JoinRequest { protocols: vec![("range".into(), b"?".to_vec().into())], ..member("a") }]);
    let token = delete_offsets(&mut bench, "u");
    assert_eq!(bench.partitions(token), [Err(GroupError::GroupSubscribedToTopic)]);
}

#[test]
fn offsets_of_a_group_of_another_kind_are_not_deleted_while_it_has_members() {
    let mut bench = bench();
    let token = delete_offsets(&mut bench, "t");
    assert_eq!(bench.refused(token), GroupError::GroupIdNotFound);
    bench.stable("g", vec![JoinRequest { protocol_type: "connect".into(), ..member("a") }]);
    let token = delete_offsets(&mut bench, "t");
    assert_eq!(bench.refused(token), GroupError::NonEmptyGroup);
}

#[test]
fn a_commit_that_is_being_stored_is_deleted_too() {
    let mut bench = bench();
    bench.storing = false;
    bench.commit_simple("g", "t", 0, 5);
    delete_offsets(&mut bench, "t");
    let later = bench.commit_simple("g", "t", 0, 6);
    bench.store_next();
    assert_eq!(bench.committed("g", "t", 0), Some(5));
    bench.store_next();
    assert_eq!(bench.committed("g", "t", 0), None);
    bench.store_next();
    assert_eq!(bench.partitions(later), [Ok(())]);
    assert_eq!(bench.committed("g", "t", 0), Some(6), "and one that came after is not");
    assert_eq!(bench.reload().committed("g", "t", 0), Some(6));
}

#[test]
fn a_group_is_deleted_when_nobody_is_in_it() {
    let mut bench = bench();
    let token = delete(&mut bench);
    assert_eq!(bench.refused(token), GroupError::GroupIdNotFound);
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    bench.commit("g", &commit(&ids[0], generation, "t", 0, 5));
    let token = delete(&mut bench);
    assert_eq!(bench.refused(token), GroupError::NonEmptyGroup);
    bench.leave("g", &[leaving(&ids[0])]);
    let token = delete(&mut bench);
    assert_eq!(bench.answers[&token], Answer::Done);
    for bench in [&bench, &bench.reload()] {
        assert_eq!((bench.state("g"), bench.committed("g", "t", 0)), (None, None));
        assert_eq!(bench.groups.live_bytes(), 0);
    }
}

#[test]
fn deleting_a_group_takes_the_commits_that_are_being_stored_with_it() {
    let mut bench = bench();
    bench.storing = false;
    let committed = bench.commit_simple("g", "t", 0, 5);
    let token = delete(&mut bench);
    assert_eq!(bench.state("g"), Some(State::Dead));
    let refused = bench.commit_simple("g", "t", 0, 6);
    assert_eq!(bench.refused(refused), GroupError::CoordinatorNotAvailable, "nothing new is taken");
    let refused = bench.join("g", member("a"));
    assert_eq!(bench.refused(refused), GroupError::CoordinatorNotAvailable);
    bench.store_next();
    assert_eq!(bench.partitions(committed), [Ok(())]);
    assert!(bench.waits(token));
    bench.store_next();
    assert_eq!(bench.answers[&token], Answer::Done);
    assert_eq!(bench.reload().state("g"), None);
}

#[test]
fn a_deletion_that_cannot_be_stored_leaves_the_group_as_it_was() {
    let mut bench = bench();
    bench.commit_simple("g", "t", 0, 5);
    bench.storing = false;
    let token = delete(&mut bench);
    bench.fail_next(StoreFailure::Unavailable);
    assert_eq!(bench.refused(token), GroupError::CoordinatorNotAvailable);
    assert_eq!((bench.state("g"), bench.committed("g", "t", 0)), (Some(State::Empty), Some(5)));
    let token = delete_offsets(&mut bench, "t");
    bench.fail_next(StoreFailure::Unavailable);
    assert_eq!(bench.refused(token), GroupError::CoordinatorNotAvailable);
    assert_eq!(bench.committed("g", "t", 0), Some(5));
}

#[test]
fn a_topics_offsets_go_with_it() {
    let mut bench = bench();
    for group in ["g", "h"] {
        bench.commit_simple(group, "t", 0, 5);
        bench.commit_simple(group, "t", 1, 5);
        bench.commit_simple(group, "u", 0, 5);
    }
    delete_topic(&mut bench, "t");
    for bench in [&bench, &bench.reload()] {
        for group in ["g", "h"] {
            assert_eq!(bench.committed(group, "t", 0), None);
            assert_eq!(bench.committed(group, "t", 1), None);
            assert_eq!(bench.committed(group, "u", 0), Some(5));
        }
    }
}

#[test]
fn offsets_of_a_simple_consumer_expire_after_their_commit() {
    let mut bench = bench();
    bench.commit_simple("g", "t", 0, 5);
    bench.pass(HOUR / 2);
    bench.commit_simple("g", "t", 1, 5);
    bench.pass(HOUR / 2);
    assert_eq!((bench.committed("g", "t", 0), bench.committed("g", "t", 1)), (None, Some(5)));
    bench.pass(HOUR);
    assert_eq!(bench.state("g"), None, "and the group with the last of them");
    assert_eq!(bench.reload().state("g"), None);
}

#[test]
fn offsets_of_members_are_kept_as_long_as_there_are_any_and_then_so_long() {
    let mut bench = bench();
    let (ids, generation) = bench.stable("g", vec![JoinRequest { session_timeout_ms: 1_800_000, ..member("a") }]);
    bench.commit("g", &commit(&ids[0], generation, "t", 0, 5));
    for _ in 0..10 {
        bench.pass(HOUR / 4);
        bench.heartbeat("g", &ids[0], generation).unwrap();
    }
    assert_eq!(bench.committed("g", "t", 0), Some(5));
    bench.leave("g", &[leaving(&ids[0])]);
    bench.pass(HOUR - 1);
    assert_eq!(bench.committed("g", "t", 0), Some(5), "its commit is old, but the group was left only now");
    let mut reloaded = bench.reload();
    for bench in [&mut bench, &mut reloaded] {
        bench.pass(700_000);
        assert_eq!(bench.committed("g", "t", 0), None);
        assert_eq!(bench.state("g"), None, "nothing is left of it");
        assert_eq!(bench.reload().state("g"), None);
    }
}

#[test]
fn offsets_of_topics_that_a_group_does_not_read_any_more_expire() {
    let mut bench = bench();
    let (ids, generation) = bench.stable("g", vec![JoinRequest { session_timeout_ms: 1_800_000, ..member("a") }]);
    bench.commit("g", &commit(&ids[0], generation, "t", 0, 5));
    bench.commit("g", &commit(&ids[0], generation, "u", 0, 5));
    for _ in 0..5 {
        bench.pass(HOUR / 4);
        bench.heartbeat("g", &ids[0], generation).unwrap();
    }
    assert_eq!((bench.committed("g", "t", 0), bench.committed("g", "u", 0)), (Some(5), None));
}

#[test]
fn a_commit_can_say_itself_when_it_expires() {
    let mut bench = bench();
    let request = |ms| CommitRequest { retention_ms: Some(ms), ..commit("", -1, "t", 0, 5) };
    let long = i64::try_from(10 * HOUR).unwrap();
    bench.commit("g", &request(long));
    bench.pass(9 * HOUR);
    assert_eq!(bench.reload().committed("g", "t", 0), Some(5), "and the log keeps it");
    bench.pass(2 * HOUR);
    assert_eq!(bench.committed("g", "t", 0), None);
    bench.commit("g", &request(-1));
    bench.pass(2 * HOUR);
    assert_eq!(bench.committed("g", "t", 0), None, "-1 is the broker's retention");
}

#[test]
fn an_offset_that_is_being_committed_does_not_expire() {
    let mut bench = bench();
    bench.commit_simple("g", "t", 0, 5);
    bench.pass(HOUR - 1);
    bench.storing = false;
    bench.commit_simple("g", "t", 0, 6);
    bench.pass(HOUR / 2);
    bench.storing = true;
    while bench.store_next() {}
    assert_eq!(bench.committed("g", "t", 0), Some(6));
    assert_eq!(bench.reload().committed("g", "t", 0), Some(6));
}

#[test]
fn a_description_shows_assignments_only_when_they_hold() {
    let mut bench = bench();
    assert_eq!(bench.groups.describe("g"), Err(GroupError::GroupIdNotFound));
    let (ids, _) = bench.stable("g", vec![fixed("one")]);
    let group = bench.groups.describe("g").unwrap();
    assert_eq!((group.state, &*group.protocol_type, &*group.protocol), (State::Stable, "consumer", "range"));
    let shown = &group.members[0];
    assert_eq!((&shown.member_id, shown.instance_id.as_deref()), (&ids[0], Some("one")));
    assert_eq!((&*shown.client_id, &*shown.client_host), ("one", "/127.0.0.1"));
    assert_eq!((&*shown.assignment, &shown.metadata), (ids[0].as_bytes(), &subscription(&["t"])));
    bench.join("g", member("b"));
    let group = bench.groups.describe("g").unwrap();
    assert_eq!((group.state, &*group.protocol, group.members.len()), (State::PreparingRebalance, "", 2));
    assert!(group.members.iter().all(|member| member.assignment.is_empty() && member.metadata.is_empty()));
}

#[test]
fn a_list_is_filtered_by_state_and_type() {
    let mut bench = bench();
    bench.stable("stable", vec![member("a")]);
    bench.commit_simple("empty", "t", 0, 1);
    let list = |states: &[&str], types: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut listed = Vec::new();
        bench.groups.list(&ListFilter { states: names(states), types: names(types) }, &mut listed);
        listed
            .iter()
            .map(|listing| (listing.group_id.to_string(), listing.protocol_type.to_string()))
            .collect::<Vec<_>>()
    };
    let (empty, stable) = (("empty".to_owned(), String::new()), ("stable".to_owned(), "consumer".to_owned()));
    assert_eq!(list(&[], &[]), [empty.clone(), stable.clone()]);
    assert_eq!(list(&["stable"], &[]), std::slice::from_ref(&stable));
    assert_eq!(list(&["Empty", "Dead"], &["Classic"]), std::slice::from_ref(&empty));
    assert_eq!(list(&[], &["consumer"]), []);
}
