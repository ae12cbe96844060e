//! JoinGroup: who may join, and with what.

use super::bench::*;
use crate::group::Answer;
use crate::{GroupError, JoinRefused, JoinRequest, State};

#[test]
fn a_dynamic_member_is_told_its_id_and_joins_with_it() {
    let mut bench = Bench::new();
    let token = bench.join("g", JoinRequest { member_id_required: true, ..member("c") });
    let Some(Answer::Join(Err(JoinRefused { error, member_id }))) = bench.answers.get(&token).cloned() else {
        panic!()
    };
    assert_eq!(error, GroupError::MemberIdRequired);
    assert!(member_id.starts_with("c-") && member_id.len() == 2 + 36, "{member_id}");
    assert_eq!(bench.state("g"), Some(State::Empty));
    let token = bench.join("g", JoinRequest { member_id_required: true, ..again(&member_id, member("c")) });
    bench.pass(DELAY);
    assert_eq!(bench.joined(token).member_id, member_id);
}

#[test]
fn a_static_member_joins_without_being_told_an_id() {
    let mut bench = Bench::new();
    let token = bench.join("g", JoinRequest { member_id_required: true, ..fixed("one") });
    bench.pass(DELAY);
    let joined = bench.joined(token);
    assert!(joined.member_id.starts_with("one-"));
    assert_eq!(joined.members[0].instance_id.as_deref(), Some("one"));
}

#[test]
fn an_id_given_out_and_not_used_is_forgotten_after_the_session_time_out() {
    let mut bench = Bench::new();
    let token = bench.join("g", JoinRequest { member_id_required: true, ..member("c") });
    let Some(Answer::Join(Err(JoinRefused { member_id, .. }))) = bench.answers.get(&token).cloned() else { panic!() };
    bench.pass(SESSION);
    assert_eq!(bench.state("g"), None, "a group in which nobody ever was leaves nothing");
    let token = bench.join("g", again(&member_id, member("c")));
    assert_eq!(bench.refused(token), GroupError::UnknownMemberId);
}

#[test]
fn ids_given_out_are_limited() {
    let mut bench = Bench::with(|config| config.pending_members_max = 2);
    for expected in [GroupError::MemberIdRequired, GroupError::MemberIdRequired, GroupError::GroupMaxSizeReached] {
        let token = bench.join("g", JoinRequest { member_id_required: true, ..member("c") });
        assert_eq!(bench.refused(token), expected);
    }
}

#[test]
fn an_id_given_to_a_dynamic_member_is_not_for_a_static_one() {
    let mut bench = Bench::new();
    let token = bench.join("g", JoinRequest { member_id_required: true, ..member("c") });
    let Some(Answer::Join(Err(JoinRefused { member_id, .. }))) = bench.answers.get(&token).cloned() else { panic!() };
    let token = bench.join("g", again(&member_id, fixed("one")));
    assert_eq!(bench.refused(token), GroupError::UnknownMemberId);
}

#[test]
fn a_made_up_member_id_is_unknown() {
    let mut bench = Bench::new();
    let token = bench.join("g", again(&"nobody".into(), member("c")));
    assert_eq!(bench.refused(token), GroupError::UnknownMemberId);
    assert_eq!(bench.state("g"), None, "and makes no group");
    bench.stable("g", vec![member("c")]);
    let token = bench.join("g", again(&"nobody".into(), member("c")));
    assert_eq!(bench.refused(token), GroupError::UnknownMemberId);
}

#[test]
fn the_session_time_out_has_limits() {
    let mut bench = Bench::new();
    for session_timeout_ms in [-1, 0, 5_999, 1_800_001] {
        let token = bench.join("g", JoinRequest { session_timeout_ms, ..member("c") });
        assert_eq!(bench.refused(token), GroupError::InvalidSessionTimeout);
    }
    for session_timeout_ms in [6_000, 1_800_000] {
        let token = bench.join("g", JoinRequest { session_timeout_ms, ..member("c") });
        assert!(bench.waits(token));
    }
}

#[test]
fn the_group_id_is_not_empty() {
    let mut bench = Bench::new();
    let token = bench.join("", member("c"));
    assert_eq!(bench.refused(token), GroupError::InvalidGroupId);
    let token = bench.sync("", &follower(&"m".into(), 1));
    assert_eq!(bench.refused(token), GroupError::InvalidGroupId);
    assert_eq!(bench.heartbeat("", "m", 1), Err(GroupError::InvalidGroupId));
    assert_eq!(bench.run(|groups, now, out| groups.leave(now, out, "", &[])), Err(GroupError::InvalidGroupId));
    let token = bench.join(&"g".repeat(40_000), member("c"));
    assert_eq!(bench.refused(token), GroupError::InvalidGroupId, "nor longer than a record can say");
}

#[test]
fn protocols_must_be_given_and_of_the_groups_type() {
    let mut bench = Bench::new();
    for request in
        [JoinRequest { protocol_type: "".into(), ..member("c") }, JoinRequest { protocols: vec![], ..member("c") }]
    {
        let token = bench.join("g", request);
        assert_eq!(bench.refused(token), GroupError::InconsistentGroupProtocol);
        assert_eq!(bench.state("g"), None, "and no group is made");
    }
    bench.stable("g", vec![member("c")]);
    let token = bench.join("g", JoinRequest { protocol_type: "connect".into(), ..member("c") });
    assert_eq!(bench.refused(token), GroupError::InconsistentGroupProtocol);
}

#[test]
fn a_member_that_shares_no_protocol_with_everyone_is_refused() {
    let mut bench = Bench::new();
    bench.stable("g", vec![member("a"), member("b")]);
    let token =
        bench.join("g", JoinRequest { protocols: vec![("sticky".into(), subscription(&["t"]))], ..member("c") });
    assert_eq!(bench.refused(token), GroupError::InconsistentGroupProtocol);
    assert_eq!(bench.state("g"), Some(State::Stable), "and disturbs nobody");
}

#[test]
fn an_empty_group_takes_another_protocol_type() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![member("c")]);
    bench.leave("g", &[leaving(&ids[0])]);
    let token = bench.join("g", JoinRequest { protocol_type: "connect".into(), ..member("c") });
    bench.pass(DELAY);
    assert_eq!(bench.joined(token).protocol_type.as_deref(), Some("connect"));
}

#[test]
fn a_full_group_takes_nobody_but_its_members() {
    let mut bench = Bench::with(|config| config.group_size_max = 2);
    let (ids, _) = bench.stable("g", vec![member("a"), member("b")]);
    let token = bench.join("g", member("c"));
    assert_eq!(bench.refused(token), GroupError::GroupMaxSizeReached);
    assert_eq!(bench.state("g"), Some(State::Stable));
    let token = bench.join("g", again(&ids[0], member("a")));
    assert!(bench.waits(token), "the leader begins a rebalance");
    // While the group waits, those that wait count: the place of one that stays away can be taken.
    let other = bench.join("g", member("c"));
    assert!(bench.waits(other));
    let late = bench.join("g", again(&ids[1], member("b")));
    assert_eq!(bench.refused(late), GroupError::GroupMaxSizeReached);
    assert_eq!(bench.joined(token).members.len(), 2);
    assert_eq!(bench.joined(other).generation, 2);
}

#[test]
fn the_number_of_groups_is_limited() {
    let mut bench = Bench::with(|config| config.groups_max = 1);
    bench.stable("g", vec![member("c")]);
    let token = bench.join("h", member("c"));
    assert_eq!(bench.refused(token), GroupError::PolicyViolation);
    let token = bench.commit_simple("h", "t", 0, 1);
    assert_eq!(bench.refused(token), GroupError::PolicyViolation);
    let token = bench.commit_simple("g", "t", 0, 1);
    assert_eq!(bench.refused(token), GroupError::UnknownMemberId, "but known ones are served");
}

#[test]
fn a_member_larger_than_allowed_is_refused() {
    let mut bench = Bench::with(|config| config.member_bytes_max = 1000);
    let large = vec![("range".into(), vec![0; 1000].into())];
    let token = bench.join("g", JoinRequest { protocols: large, ..member("c") });
    assert_eq!(bench.refused(token), GroupError::InvalidRequest);
    let token = bench.join("g", JoinRequest { client_id: "c".repeat(40_000).into(), ..member("c") });
    assert_eq!(bench.refused(token), GroupError::InvalidRequest);
    assert_eq!(bench.state("g"), None);
}

#[test]
fn joining_twice_answers_the_first_request_too() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![member("a"), member("b")]);
    let first = bench.join("g", again(&ids[0], member("a")));
    let second = bench.join("g", again(&ids[0], member("a")));
    assert_eq!(bench.refused(first), GroupError::RebalanceInProgress);
    assert!(bench.waits(second));
    bench.join("g", again(&ids[1], member("b")));
    assert_eq!(bench.joined(second).generation, 2);
}
