//! Heartbeats, sessions, leaving.

use super::bench::*;
use crate::{GroupError, LeavingMember, State};

#[test]
fn a_silent_member_is_out_after_its_session_time_out() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    bench.pass(SESSION - 1);
    assert_eq!(bench.heartbeat("g", &ids[0], generation), Ok(()));
    assert_eq!(bench.state("g"), Some(State::Stable));
    bench.pass(1);
    assert_eq!(bench.state("g"), Some(State::PreparingRebalance));
    assert_eq!(bench.heartbeat("g", &ids[1], generation), Err(GroupError::UnknownMemberId));
    assert_eq!(bench.heartbeat("g", &ids[0], generation), Err(GroupError::RebalanceInProgress));
}

#[test]
fn commits_and_syncs_keep_a_session_alive() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    for _ in 0..3 {
        bench.pass(SESSION - 1);
        bench.commit("g", &commit(&ids[0], generation, "t", 0, 1));
        bench.pass(SESSION - 1);
        bench.sync("g", &follower(&ids[0], generation));
    }
    assert_eq!(bench.heartbeat("g", &ids[0], generation), Ok(()));
}

#[test]
fn members_that_wait_for_the_group_do_not_time_out() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    let waiting = bench.join("g", again(&ids[0], member("a")));
    for _ in 0..11 {
        bench.pass(REBALANCE / 12);
        bench.heartbeat("g", &ids[1], generation).unwrap_err();
    }
    bench.join("g", again(&ids[1], member("b")));
    assert_eq!(bench.joined(waiting).members.len(), 2);
    // Nor those that wait for the leader's assignment, as long as the leader lives.
    let follows = bench.sync("g", &follower(&ids[1], generation + 1));
    for _ in 0..11 {
        bench.pass(REBALANCE / 12);
        bench.heartbeat("g", &ids[0], generation + 1).unwrap();
    }
    assert!(bench.waits(follows));
    bench.sync_all("g", &ids, generation + 1);
}

#[test]
fn a_new_member_waits_for_its_first_generation_only_so_long() {
    let mut bench = Bench::with(|config| config.new_member_join_timeout = std::time::Duration::from_secs(20));
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    let new = bench.join("g", member("b"));
    for _ in 0..4 {
        assert!(bench.waits(new));
        bench.pass(5_000);
        bench.heartbeat("g", &ids[0], generation).unwrap_err();
    }
    assert_eq!(bench.refused(new), GroupError::UnknownMemberId);
}

#[test]
fn a_heartbeat_is_checked() {
    let mut bench = Bench::new();
    assert_eq!(bench.heartbeat("g", "m", 1), Err(GroupError::UnknownMemberId));
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    assert_eq!(bench.heartbeat("g", "nobody", generation), Err(GroupError::UnknownMemberId));
    assert_eq!(bench.heartbeat("g", &ids[0], generation + 1), Err(GroupError::IllegalGeneration));
    assert_eq!(bench.heartbeat("g", &ids[0], generation), Ok(()));
    bench.leave("g", &[leaving(&ids[0])]);
    assert_eq!(bench.heartbeat("g", &ids[0], generation), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_heartbeat_while_the_leader_assigns_is_fine() {
    let mut bench = Bench::new();
    let token = bench.join("g", member("a"));
    bench.pass(DELAY);
    let joined = bench.joined(token);
    assert_eq!(bench.state("g"), Some(State::CompletingRebalance));
    assert_eq!(bench.heartbeat("g", &joined.member_id, joined.generation), Ok(()));
}

#[test]
fn leaving_makes_the_others_share() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    assert_eq!(bench.leave("g", &[leaving(&ids[0])]), [Ok(())]);
    assert_eq!(bench.heartbeat("g", &ids[1], generation), Err(GroupError::RebalanceInProgress));
    let token = bench.join("g", again(&ids[1], member("b")));
    let joined = bench.joined(token);
    assert_eq!((&joined.leader, joined.generation), (&ids[1], generation + 1));
}

#[test]
fn the_last_member_leaves_an_empty_group() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![member("a")]);
    bench.leave("g", &[leaving(&ids[0])]);
    assert_eq!(bench.state("g"), Some(State::Empty));
    assert_eq!(bench.reload().state("g"), Some(State::Empty), "and the log knows");
}

#[test]
fn several_members_leave_at_once_each_with_its_result() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![fixed("one"), fixed("two"), member("c")]);
    let one = LeavingMember { member_id: "", instance_id: Some("one"), reason: None };
    let none = LeavingMember { member_id: "", instance_id: Some("none"), reason: Some("because") };
    let other = ids.iter().find(|id| id.starts_with("one-")).unwrap();
    let fenced = LeavingMember { member_id: other, instance_id: Some("two"), reason: None };
    assert_eq!(
        bench.leave("g", &[one, none, fenced, leaving("nobody")]),
        [Ok(()), Err(GroupError::UnknownMemberId), Err(GroupError::FencedInstanceId), Err(GroupError::UnknownMemberId)]
    );
    assert_eq!(bench.groups.describe("g").unwrap().members.len(), 2);
    assert_eq!(bench.leave("nowhere", &[leaving("m")]), [Err(GroupError::UnknownMemberId)]);
}

#[test]
fn a_member_that_waits_for_its_generation_can_leave() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![member("a"), member("b")]);
    let waiting = bench.join("g", again(&ids[0], member("a")));
    assert_eq!(bench.leave("g", &[leaving(&ids[0])]), [Ok(())]);
    assert_eq!(bench.refused(waiting), GroupError::UnknownMemberId);
    assert_eq!(bench.state("g"), Some(State::PreparingRebalance), "and the group waits for the other");
}

#[test]
fn an_id_given_out_can_be_given_back() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![member("a")]);
    let token = bench.join("g", crate::JoinRequest { member_id_required: true, ..member("b") });
    let crate::group::Answer::Join(Err(refused)) = bench.answers[&token].clone() else { panic!() };
    let waiting = bench.join("g", again(&ids[0], member("a")));
    assert_eq!(bench.leave("g", &[leaving(&refused.member_id)]), [Ok(())]);
    assert_eq!(bench.joined(waiting).generation, 2, "nobody waits for it any more");
}
