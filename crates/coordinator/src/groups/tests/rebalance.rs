//! From one generation to the next.

use super::bench::*;
use crate::{GroupError, JoinRequest, State};

#[test]
fn an_empty_group_waits_for_more_members() {
    let mut bench = Bench::new();
    let first = bench.join("g", member("a"));
    bench.pass(DELAY - 1);
    let second = bench.join("g", member("b"));
    bench.pass(1);
    assert!(bench.waits(first), "someone came meanwhile, so it waits once more");
    bench.pass(DELAY);
    assert_eq!(bench.joined(first).generation, 1);
    assert_eq!(bench.joined(second).generation, 1);
}

#[test]
fn the_initial_wait_ends_with_the_rebalance_time_out() {
    let mut bench = Bench::new();
    let request = |client| JoinRequest { rebalance_timeout_ms: 7_000, ..member(client) };
    let first = bench.join("g", request("a"));
    for client in ["b", "c"] {
        bench.pass(DELAY - 1);
        bench.join("g", request(client));
        bench.pass(1);
        assert!(bench.waits(first));
    }
    bench.pass(999);
    assert!(bench.waits(first));
    bench.pass(1);
    assert_eq!(bench.joined(first).generation, 1);
}

#[test]
fn without_an_initial_delay_the_first_member_is_served_at_once() {
    let mut bench = Bench::with(|config| config.initial_rebalance_delay = std::time::Duration::ZERO);
    let token = bench.join("g", member("a"));
    assert_eq!(bench.joined(token).generation, 1);
}

#[test]
fn only_the_leader_gets_the_members() {
    let mut bench = Bench::new();
    let tokens = [bench.join("g", member("a")), bench.join("g", member("b")), bench.join("g", member("c"))];
    bench.pass(2 * DELAY);
    let joined = tokens.map(|token| bench.joined(token));
    let leader = joined[0].leader.clone();
    assert_eq!(leader, joined[0].member_id, "the first leads");
    for joined in joined {
        assert_eq!(joined.leader, leader);
        assert_eq!(joined.members.len(), if joined.member_id == leader { 3 } else { 0 });
        assert_eq!((joined.protocol_type.as_deref(), joined.protocol.as_deref()), (Some("consumer"), Some("range")));
    }
}

#[test]
fn the_protocol_that_most_want_of_those_everyone_speaks_wins() {
    let mut bench = Bench::new();
    let wants = |client, names: &[&str]| {
        let protocols = names.iter().map(|name| ((*name).into(), subscription(&["t"]))).collect();
        JoinRequest { protocols, ..member(client) }
    };
    let token = bench.join("g", wants("a", &["only-a", "range", "sticky"]));
    bench.join("g", wants("b", &["sticky", "range"]));
    bench.join("g", wants("c", &["sticky", "range", "only-c"]));
    bench.pass(2 * DELAY);
    assert_eq!(bench.joined(token).protocol.as_deref(), Some("sticky"));
}

#[test]
fn with_equal_votes_the_oldest_member_decides() {
    for order in [["range", "sticky"], ["sticky", "range"]] {
        let mut bench = Bench::new();
        let wants = |first: &str, second: &str| {
            let protocols = vec![(first.into(), subscription(&["t"])), (second.into(), subscription(&["t"]))];
            JoinRequest { protocols, ..member("c") }
        };
        let token = bench.join("g", wants(order[0], order[1]));
        bench.join("g", wants(order[1], order[0]));
        bench.pass(2 * DELAY);
        assert_eq!(bench.joined(token).protocol.as_deref(), Some(order[0]));
    }
}

#[test]
fn a_new_member_makes_the_others_join_again() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    let new = bench.join("g", member("c"));
    assert_eq!(bench.state("g"), Some(State::PreparingRebalance));
    assert_eq!(bench.heartbeat("g", &ids[1], generation), Err(GroupError::RebalanceInProgress));
    let first = bench.join("g", again(&ids[0], member("a")));
    assert!(bench.waits(new) && bench.waits(first));
    bench.join("g", again(&ids[1], member("b")));
    assert_eq!(bench.joined(new).generation, generation + 1);
    assert_eq!(bench.joined(first).members.len(), 3);
}

#[test]
fn a_member_that_does_not_join_again_in_time_is_out() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    let new = bench.join("g", member("c"));
    // It only sends heartbeats.
    for _ in 0..12 {
        assert!(bench.waits(new));
        bench.pass(REBALANCE / 12);
        bench.heartbeat("g", &ids[0], generation).ok();
        bench.heartbeat("g", &ids[1], generation).ok();
    }
    let joined = bench.joined(new);
    assert_eq!((joined.members.len(), &joined.leader), (1, &joined.member_id), "and another leads");
    assert_eq!(bench.heartbeat("g", &ids[0], generation), Err(GroupError::UnknownMemberId));
}

#[test]
fn the_longest_rebalance_time_out_of_the_members_counts() {
    let mut bench = Bench::new();
    let slow = JoinRequest { rebalance_timeout_ms: 120_000, session_timeout_ms: 1_000_000, ..member("a") };
    let (ids, _) = bench.stable("g", vec![slow, member("b")]);
    let new = bench.join("g", member("c"));
    bench.join("g", again(&ids[1], member("b")));
    bench.pass(119_999);
    assert!(bench.waits(new));
    bench.pass(1);
    assert_eq!(bench.joined(new).generation, 2);
}

#[test]
fn a_rebalance_waits_for_ids_given_out() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![member("a")]);
    bench.join("g", JoinRequest { member_id_required: true, ..member("b") });
    assert_eq!(bench.state("g"), Some(State::Stable), "an id given out disturbs nobody");
    let token = bench.join("g", again(&ids[0], member("a")));
    assert!(bench.waits(token), "it is expected to join");
    bench.pass(SESSION);
    assert_eq!(bench.joined(token).generation, 2);
}

#[test]
fn a_follower_that_lost_its_answer_gets_it_again() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    let token = bench.join("g", again(&ids[1], member("b")));
    let joined = bench.joined(token);
    assert_eq!((joined.generation, joined.members.len()), (generation, 0));
    assert_eq!(bench.state("g"), Some(State::Stable));
}

#[test]
fn a_leader_that_lost_its_answer_gets_the_members_again() {
    let mut bench = Bench::new();
    let first = bench.join("g", member("a"));
    bench.pass(DELAY);
    let joined = bench.joined(first);
    let token = bench.join("g", again(&joined.member_id, member("a")));
    assert_eq!(bench.joined(token), joined);
    assert_eq!(bench.state("g"), Some(State::CompletingRebalance));
}

#[test]
fn a_follower_with_new_metadata_begins_a_rebalance() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    let changed = JoinRequest { protocols: vec![("range".into(), subscription(&["t", "u"]))], ..member("b") };
    let token = bench.join("g", again(&ids[1], changed));
    assert!(bench.waits(token));
    let leader = bench.join("g", again(&ids[0], member("a")));
    let members = bench.joined(leader).members;
    assert!(members.iter().any(|member| member.metadata == subscription(&["t", "u"])), "the leader sees it");
    assert_eq!(bench.joined(token).generation, generation + 1);
}

#[test]
fn a_leader_that_joins_again_begins_a_rebalance() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![member("a"), member("b")]);
    bench.join("g", again(&ids[0], member("a")));
    assert_eq!(bench.state("g"), Some(State::PreparingRebalance));
}

#[test]
fn an_incremental_rebalance_keeps_the_members_and_passes_assignments_on() {
    // Cooperative: partitions are given up in one generation and handed out in the next; the group sees opaque bytes.
    let mut bench = Bench::new();
    let cooperative =
        |client| JoinRequest { protocols: vec![("cooperative-sticky".into(), subscription(&["t"]))], ..member(client) };
    let (mut ids, _) = bench.stable("g", vec![cooperative("a")]);
    let second = bench.join("g", cooperative("b"));
    let first = bench.join("g", again(&ids[0], cooperative("a")));
    let generation = bench.joined(first).generation;
    ids.push(bench.joined(second).member_id);
    bench.sync_all("g", &ids, generation);
    // The leader gave something up and joins again, now owning less.
    let owns_less =
        JoinRequest { protocols: vec![("cooperative-sticky".into(), b"\0\x01owned".to_vec().into())], ..member("a") };
    let first = bench.join("g", again(&ids[0], owns_less));
    let second = bench.join("g", again(&ids[1], cooperative("b")));
    assert_eq!(bench.joined(second).generation, generation + 1);
    assert_eq!(bench.joined(first).members.len(), 2);
    bench.sync_all("g", &ids, generation + 1);
}

#[test]
fn a_commit_is_taken_while_members_join_again_but_not_once_they_wait_for_assignments() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    bench.join("g", again(&ids[0], member("a")));
    let token = bench.commit("g", &commit(&ids[1], generation, "t", 0, 5));
    assert_eq!(bench.partitions(token), [Ok(())]);
    bench.join("g", again(&ids[1], member("b")));
    assert_eq!(bench.state("g"), Some(State::CompletingRebalance));
    let token = bench.commit("g", &commit(&ids[1], generation, "t", 0, 6));
    assert_eq!(bench.refused(token), GroupError::IllegalGeneration);
    let token = bench.commit("g", &commit(&ids[1], generation + 1, "t", 0, 6));
    assert_eq!(bench.refused(token), GroupError::RebalanceInProgress);
    assert_eq!(bench.committed("g", "t", 0), Some(5));
}
