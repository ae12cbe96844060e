//! SyncGroup.

use super::bench::*;
use crate::group::StoreFailure;
use crate::{GroupError, State, SyncRequest};

fn completing(bench: &mut Bench, members: &[&str]) -> (Vec<std::sync::Arc<str>>, i32) {
    let tokens: Vec<_> = members.iter().map(|client| bench.join("g", member(client))).collect();
    bench.pass(2 * DELAY);
    let joined: Vec<_> = tokens.into_iter().map(|token| bench.joined(token)).collect();
    (joined.iter().map(|joined| joined.member_id.clone()).collect(), joined[0].generation)
}

#[test]
fn followers_wait_for_the_leader_and_only_its_assignment_counts() {
    let mut bench = Bench::new();
    let (ids, generation) = completing(&mut bench, &["a", "b"]);
    let forged = vec![(ids[1].clone(), b"everything".to_vec().into())];
    let follows = bench.sync("g", &SyncRequest { assignments: forged, ..follower(&ids[1], generation) });
    assert!(bench.waits(follows));
    let assignments = vec![(ids[1].clone(), b"half".to_vec().into()), ("stranger".into(), b"x".to_vec().into())];
    let leads = bench.sync("g", &SyncRequest { assignments, ..follower(&ids[0], generation) });
    assert_eq!(bench.synced(follows), &b"half"[..]);
    assert_eq!(bench.synced(leads), &b""[..], "one that the leader forgot gets nothing");
    assert_eq!(bench.state("g"), Some(State::Stable));
}

#[test]
fn an_assignment_is_given_only_when_it_is_stored() {
    let mut bench = Bench::new();
    let (ids, generation) = completing(&mut bench, &["a", "b"]);
    bench.storing = false;
    let follows = bench.sync("g", &follower(&ids[1], generation));
    let leads = bench.sync("g", &follower(&ids[0], generation));
    assert!(bench.waits(follows) && bench.waits(leads));
    assert_eq!(bench.state("g"), Some(State::CompletingRebalance));
    bench.store_next();
    assert!(!bench.waits(follows) && !bench.waits(leads));
    assert_eq!(bench.state("g"), Some(State::Stable));
}

#[test]
fn an_assignment_that_cannot_be_stored_makes_everyone_join_again() {
    for (failure, error) in [
        (StoreFailure::Unavailable, GroupError::CoordinatorNotAvailable),
        (StoreFailure::TooLarge, GroupError::UnknownServerError),
    ] {
        let mut bench = Bench::new();
        let (ids, generation) = completing(&mut bench, &["a", "b"]);
        bench.storing = false;
        let follows = bench.sync("g", &follower(&ids[1], generation));
        let leads = bench.sync("g", &follower(&ids[0], generation));
        bench.fail_next(failure);
        assert_eq!((bench.refused(follows), bench.refused(leads)), (error, error));
        assert_eq!(bench.state("g"), Some(State::PreparingRebalance));
    }
}

#[test]
fn an_assignment_stored_after_a_rebalance_began_is_for_nobody() {
    let mut bench = Bench::new();
    let (ids, generation) = completing(&mut bench, &["a", "b"]);
    bench.storing = false;
    let leads = bench.sync("g", &follower(&ids[0], generation));
    let new = bench.join("g", member("c"));
    assert_eq!(bench.refused(leads), GroupError::RebalanceInProgress);
    bench.store_next();
    assert_eq!(bench.state("g"), Some(State::PreparingRebalance));
    assert!(bench.waits(new));
}

#[test]
fn a_member_can_ask_again_for_its_assignment() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    let token = bench.sync("g", &follower(&ids[1], generation));
    assert_eq!(bench.synced(token), ids[1].as_bytes());
}

#[test]
fn syncing_twice_answers_the_first_request_too() {
    let mut bench = Bench::new();
    let (ids, generation) = completing(&mut bench, &["a", "b"]);
    let first = bench.sync("g", &follower(&ids[1], generation));
    let second = bench.sync("g", &follower(&ids[1], generation));
    assert_eq!(bench.refused(first), GroupError::RebalanceInProgress);
    assert!(bench.waits(second));
}

#[test]
fn a_sync_is_checked() {
    let mut bench = Bench::new();
    let token = bench.sync("g", &follower(&"m".into(), 1));
    assert_eq!(bench.refused(token), GroupError::UnknownMemberId, "no such group");
    let (ids, generation) = bench.stable("g", vec![member("a"), member("b")]);
    let right = follower(&ids[1], generation);
    for (request, error) in [
        (follower(&"nobody".into(), generation), GroupError::UnknownMemberId),
        (follower(&ids[1], generation - 1), GroupError::IllegalGeneration),
        (follower(&ids[1], generation + 1), GroupError::IllegalGeneration),
        (SyncRequest { protocol_type: Some("connect".into()), ..right.clone() }, GroupError::InconsistentGroupProtocol),
        (SyncRequest { protocol: Some("sticky".into()), ..right.clone() }, GroupError::InconsistentGroupProtocol),
    ] {
        let token = bench.sync("g", &request);
        assert_eq!(bench.refused(token), error);
    }
    let token = bench.sync(
        "g",
        &SyncRequest { protocol_type: Some("consumer".into()), protocol: Some("range".into()), ..right.clone() },
    );
    bench.synced(token);
    bench.join("g", again(&ids[0], member("a")));
    let token = bench.sync("g", &right);
    assert_eq!(bench.refused(token), GroupError::RebalanceInProgress);
}

#[test]
fn a_member_that_does_not_sync_in_time_is_out() {
    let mut bench = Bench::new();
    let (ids, generation) = completing(&mut bench, &["a", "b"]);
    let assigned = bench.sync("g", &follower(&ids[0], generation));
    bench.synced(assigned);
    for _ in 0..12 {
        assert_eq!(bench.heartbeat("g", &ids[1], generation), Ok(()));
        bench.heartbeat("g", &ids[0], generation).unwrap();
        bench.pass(REBALANCE / 12);
    }
    assert_eq!(bench.heartbeat("g", &ids[1], generation), Err(GroupError::UnknownMemberId));
    assert_eq!(bench.heartbeat("g", &ids[0], generation), Err(GroupError::RebalanceInProgress));
}

#[test]
fn the_assignment_is_not_given_to_a_member_that_left() {
    let mut bench = Bench::new();
    let (ids, generation) = completing(&mut bench, &["a", "b"]);
    let follows = bench.sync("g", &follower(&ids[1], generation));
    assert_eq!(bench.leave("g", &[leaving(&ids[1])]), [Ok(())]);
    assert_eq!(bench.refused(follows), GroupError::UnknownMemberId);
}
