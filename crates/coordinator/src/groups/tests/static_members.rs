//! Static members (`group.instance.id`).

use super::bench::*;
use crate::group::{Answer, StoreFailure};
use crate::{GroupError, HeartbeatRequest, JoinRequest, State, SyncRequest};

fn heartbeat(bench: &mut Bench, member_id: &str, instance: &str, generation: i32) -> Result<(), GroupError> {
    let request = HeartbeatRequest { member_id, instance_id: Some(instance), generation };
    bench.run(|groups, now, out| groups.heartbeat(now, out, "g", request))
}

#[test]
fn a_restarted_static_member_takes_its_place_without_a_rebalance() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![fixed("one"), fixed("two")]);
    let old = ids[1].clone();
    let instance = if old.starts_with("one") { "one" } else { "two" };
    let token = bench.join("g", fixed(instance));
    let joined = bench.joined(token);
    assert_eq!((joined.generation, joined.members.len(), &joined.leader), (generation, 0, &ids[0]));
    assert_ne!(joined.member_id, old);
    assert_eq!(bench.state("g"), Some(State::Stable));
    let token = bench.sync("g", &follower(&joined.member_id, generation));
    assert_eq!(bench.synced(token), old.as_bytes(), "it has the assignment of the one before it");
    assert_eq!(heartbeat(&mut bench, &old, instance, generation), Err(GroupError::FencedInstanceId));
    assert_eq!(heartbeat(&mut bench, &joined.member_id, instance, generation), Ok(()));
    assert_eq!(bench.heartbeat("g", &old, generation), Err(GroupError::UnknownMemberId));
}

#[test]
fn the_new_id_of_a_static_member_is_stored_before_it_is_told() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![fixed("one")]);
    bench.storing = false;
    let token = bench.join("g", fixed("one"));
    assert!(bench.waits(token));
    assert_eq!(heartbeat(&mut bench, &ids[0], "one", generation), Ok(()), "the old one is not fenced before");
    bench.store_next();
    let new = bench.joined(token).member_id;
    let mut after = bench.reload();
    assert_eq!(heartbeat(&mut after, &new, "one", generation), Ok(()));
    assert_eq!(heartbeat(&mut after, &ids[0], "one", generation), Err(GroupError::FencedInstanceId));
    let token = after.sync("g", &follower(&new, generation));
    assert_eq!(after.synced(token), ids[0].as_bytes());
}

#[test]
fn a_new_id_that_cannot_be_stored_changes_nothing() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![fixed("one")]);
    bench.storing = false;
    let token = bench.join("g", fixed("one"));
    bench.fail_next(StoreFailure::Unavailable);
    assert_eq!(bench.refused(token), GroupError::CoordinatorNotAvailable);
    assert_eq!(heartbeat(&mut bench, &ids[0], "one", generation), Ok(()));
}

#[test]
fn two_replacements_at_once_are_stored_one_after_the_other() {
    let mut bench = Bench::new();
    let (_, generation) = bench.stable("g", vec![fixed("one"), fixed("two")]);
    bench.storing = false;
    let (one, two) = (bench.join("g", fixed("one")), bench.join("g", fixed("two")));
    assert_eq!(bench.stores.len(), 1, "the second record must contain the first's change");
    bench.store_next();
    bench.store_next();
    let (one, two) = (bench.joined(one).member_id, bench.joined(two).member_id);
    let mut after = bench.reload();
    assert_eq!(heartbeat(&mut after, &one, "one", generation), Ok(()));
    assert_eq!(heartbeat(&mut after, &two, "two", generation), Ok(()));
}

#[test]
fn a_replacement_stored_after_a_rebalance_began_takes_part_in_it() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![fixed("one"), member("b")]);
    let other = ids.iter().find(|id| id.starts_with("b-")).unwrap();
    bench.storing = false;
    let token = bench.join("g", fixed("one"));
    let first = bench.join(
        "g",
        JoinRequest { protocols: vec![("range".into(), subscription(&["u"]))], ..again(other, member("b")) },
    );
    assert_eq!(bench.state("g"), Some(State::PreparingRebalance));
    bench.store_next();
    assert_eq!(bench.joined(token).generation, 2);
    assert_eq!(bench.joined(first).generation, 2);
}

#[test]
fn a_static_member_that_reads_other_topics_begins_a_rebalance() {
    let mut bench = Bench::new();
    bench.stable("g", vec![fixed("one"), fixed("two")]);
    let request = JoinRequest { protocols: vec![("range".into(), subscription(&["t", "u"]))], ..fixed("two") };
    let token = bench.join("g", request);
    assert!(bench.waits(token));
    assert_eq!(bench.state("g"), Some(State::PreparingRebalance));
}

#[test]
fn a_static_member_that_changes_the_protocol_begins_a_rebalance() {
    let mut bench = Bench::new();
    let both = |first: &str, second: &str| JoinRequest {
        protocols: vec![(first.into(), subscription(&["t"])), (second.into(), subscription(&["t"]))],
        ..fixed("one")
    };
    bench.stable("g", vec![both("range", "sticky")]);
    let token = bench.join("g", both("sticky", "range"));
    assert_eq!(bench.joined(token).protocol.as_deref(), Some("sticky"));
    assert_eq!(bench.joined(token).generation, 2);
}

#[test]
fn an_old_client_that_restarts_as_leader_does_not_learn_that_it_leads() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![fixed("one"), fixed("two")]);
    let instance = &ids[0][..3];
    let token = bench.join("g", fixed(instance));
    let joined = bench.joined(token);
    assert_eq!((&joined.leader, joined.members.len(), joined.skip_assignment), (&ids[0], 0, false));
    // It leads all the same: when it joins again, the group rebalances.
    let token = bench
        .join("g", JoinRequest { instance_id: Some(instance.into()), ..again(&joined.member_id, fixed(instance)) });
    assert!(bench.waits(token));
    assert_eq!(bench.heartbeat("g", &ids[1], generation), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_newer_client_that_restarts_as_leader_is_told_to_skip_the_assignment() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![fixed("one"), fixed("two")]);
    for id in &ids {
        let leads = *id == ids[0];
        let token = bench.join("g", JoinRequest { skip_assignment: true, ..fixed(&id[..3]) });
        let joined = bench.joined(token);
        assert_eq!(joined.skip_assignment, leads);
        assert_eq!(joined.leader == joined.member_id, leads);
        assert_eq!(joined.members.len(), if leads { 2 } else { 0 });
    }
}

#[test]
fn a_static_member_replaced_while_the_group_joins_fences_the_one_before() {
    let mut bench = Bench::new();
    let first = bench.join("g", fixed("one"));
    let second = bench.join("g", fixed("one"));
    assert_eq!(bench.refused(first), GroupError::FencedInstanceId);
    bench.pass(2 * DELAY);
    assert_eq!(bench.joined(second).members.len(), 1);
}

#[test]
fn a_static_member_replaced_while_the_leader_assigns_makes_everyone_join_again() {
    let mut bench = Bench::new();
    let (one, two) = (bench.join("g", fixed("one")), bench.join("g", fixed("two")));
    bench.pass(2 * DELAY);
    let (one, two) = (bench.joined(one), bench.joined(two));
    let waiting = bench.sync("g", &follower(&two.member_id, 1));
    let token = bench.join("g", fixed("two"));
    assert_eq!(bench.refused(waiting), GroupError::FencedInstanceId);
    let leads = bench.sync("g", &follower(&one.member_id, 1));
    assert_eq!(bench.refused(leads), GroupError::RebalanceInProgress);
    bench.join("g", JoinRequest { instance_id: Some("one".into()), ..again(&one.member_id, fixed("one")) });
    assert_eq!(bench.joined(token).generation, 2);
}

#[test]
fn an_instance_id_must_belong_to_the_member() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![fixed("one"), fixed("two")]);
    let id = ids.iter().find(|id| id.starts_with("one")).unwrap().clone();
    for (instance, error) in [("two", GroupError::FencedInstanceId), ("none", GroupError::UnknownMemberId)] {
        assert_eq!(heartbeat(&mut bench, &id, instance, generation), Err(error));
        let token = bench.sync("g", &SyncRequest { instance_id: Some(instance.into()), ..follower(&id, generation) });
        assert_eq!(bench.refused(token), error);
        let token = bench.join("g", JoinRequest { instance_id: Some(instance.into()), ..again(&id, fixed("one")) });
        assert_eq!(bench.refused(token), error);
        let mut request = commit(&id, generation, "t", 0, 1);
        request.instance_id = Some(instance.into());
        let token = bench.commit("g", &request);
        assert_eq!(bench.refused(token), error);
    }
}

#[test]
fn a_static_member_that_stays_away_keeps_its_place_until_its_session_ends() {
    let mut bench = Bench::new();
    let lasting = JoinRequest { session_timeout_ms: 300_000, ..fixed("one") };
    let (ids, _) = bench.stable("g", vec![member("a"), lasting]);
    let token = bench.join("g", again(&ids[0], member("a")));
    bench.pass(REBALANCE);
    let joined = bench.joined(token);
    assert_eq!(joined.members.len(), 2, "the leader still plans with it");
    bench.sync_all("g", &ids[..1], joined.generation);
    for _ in 0..29 {
        bench.pass(8_000);
        let state = bench.state("g");
        if bench.heartbeat("g", &ids[0], joined.generation).is_err() {
            panic!("rebalanced at {} in {state:?}", bench.ms);
        }
    }
    bench.pass(8_000);
    assert_eq!(bench.heartbeat("g", &ids[0], joined.generation), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_group_whose_static_members_all_stay_away_waits_for_their_sessions() {
    let mut bench = Bench::new();
    let lasting = |name| JoinRequest { session_timeout_ms: 300_000, rebalance_timeout_ms: 0, ..fixed(name) };
    let (ids, _) = bench.stable("g", vec![lasting("one"), member("b")]);
    let other = ids.iter().find(|id| id.starts_with("b-")).unwrap();
    bench.leave("g", &[leaving(other)]);
    bench.pass(200_000);
    assert_eq!(bench.state("g"), Some(State::PreparingRebalance));
    bench.pass(200_000);
    assert_eq!(bench.state("g"), Some(State::Empty));
}

#[test]
fn a_replacement_stored_while_the_group_is_deleted_is_refused() {
    let mut bench = Bench::new();
    bench.stable("g", vec![fixed("one")]);
    bench.storing = false;
    let replaced = bench.join("g", fixed("one"));
    bench.pass(SESSION);
    assert_eq!(bench.state("g"), Some(State::Empty), "its predecessor was silent for too long");
    let deleted = bench.token();
    bench.run(|groups, now, out| groups.delete(now, out, deleted, "g"));
    while bench.store_next() {}
    assert_eq!(bench.refused(replaced), GroupError::CoordinatorNotAvailable);
    assert_eq!(bench.answers[&deleted], Answer::Done);
    assert_eq!((bench.state("g"), bench.reload().state("g")), (None, None));
}
