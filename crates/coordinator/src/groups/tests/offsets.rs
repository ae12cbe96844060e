//! OffsetCommit and OffsetFetch.

use records::{LeaderEpoch, Offset, Timestamp};

use super::bench::*;
use crate::group::StoreFailure;
use crate::{CommitPartition, CommitRequest, CommitTopic, Committed, GroupError, State};

#[test]
fn what_was_committed_is_fetched_as_it_was() {
    let mut bench = Bench::new();
    let partition = CommitPartition {
        partition: 7,
        offset: Offset(1 << 40),
        leader_epoch: LeaderEpoch(3),
        metadata: "note".into(),
    };
    let request = CommitRequest {
        topics: vec![CommitTopic { topic: "t".into(), partitions: vec![partition] }],
        ..commit("", -1, "t", 7, 0)
    };
    bench.commit("g", &request);
    let expected = Committed {
        offset: Offset(1 << 40),
        leader_epoch: LeaderEpoch(3),
        metadata: "note".into(),
        commit_timestamp: Timestamp(EPOCH),
        expire_timestamp: None,
    };
    for bench in [&bench, &bench.reload()] {
        let all = bench.groups.fetch_offsets("g", None);
        assert_eq!((all.len(), &*all[0].topic), (1, "t"));
        assert_eq!(all[0].partitions, [(7, Some(expected.clone()))]);
    }
}

#[test]
fn a_simple_consumer_commits_to_a_group_in_which_nobody_is() {
    let mut bench = Bench::new();
    let token = bench.commit_simple("g", "t", 0, 5);
    assert_eq!(bench.partitions(token), [Ok(())]);
    assert_eq!(bench.state("g"), Some(State::Empty));
    let token = bench.commit("", &commit("", -1, "t", 0, 5));
    assert_eq!(bench.partitions(token), [Ok(())], "even the group without a name");
    // As Kafka: a member id without a generation is as good as none while the group is empty.
    let token = bench.commit("g", &commit("someone", -1, "t", 0, 6));
    assert_eq!(bench.partitions(token), [Ok(())]);
}

#[test]
fn a_simple_consumer_does_not_commit_where_members_are() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    let token = bench.commit_simple("g", "t", 0, 5);
    assert_eq!(bench.refused(token), GroupError::UnknownMemberId);
    bench.leave("g", &[leaving(&ids[0])]);
    let token = bench.commit_simple("g", "t", 0, 5);
    assert_eq!(bench.partitions(token), [Ok(())], "but once they are gone");
    let token = bench.commit("g", &commit(&ids[0], generation, "t", 0, 9));
    assert_eq!(bench.refused(token), GroupError::UnknownMemberId, "and then its members do not");
}

#[test]
fn a_commit_is_checked() {
    let mut bench = Bench::new();
    let token = bench.commit("g", &commit("m", 1, "t", 0, 5));
    assert_eq!(bench.refused(token), GroupError::IllegalGeneration, "no such group");
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    for (request, error) in [
        (commit("nobody", generation, "t", 0, 1), GroupError::UnknownMemberId),
        (commit(&ids[0], generation - 1, "t", 0, 1), GroupError::IllegalGeneration),
        (commit(&ids[0], generation + 1, "t", 0, 1), GroupError::IllegalGeneration),
        (commit(&ids[0], -1, "t", 0, 1), GroupError::IllegalGeneration),
    ] {
        let token = bench.commit("g", &request);
        assert_eq!(bench.refused(token), error);
    }
    let token = bench.commit("g", &commit(&ids[0], generation, "t", 0, 1));
    assert_eq!(bench.partitions(token), [Ok(())]);
}

#[test]
fn an_offset_takes_effect_when_it_is_stored() {
    let mut bench = Bench::new();
    bench.commit_simple("g", "t", 0, 5);
    bench.storing = false;
    let token = bench.commit_simple("g", "t", 0, 6);
    assert!(bench.waits(token));
    assert_eq!(bench.committed("g", "t", 0), Some(5));
    bench.store_next();
    assert_eq!(bench.partitions(token), [Ok(())]);
    assert_eq!(bench.committed("g", "t", 0), Some(6));
}

#[test]
fn an_offset_that_cannot_be_stored_is_not_committed() {
    let mut bench = Bench::new();
    bench.storing = false;
    let (first, second) = (bench.commit_simple("g", "t", 0, 5), bench.commit_simple("g", "t", 0, 6));
    bench.fail_next(StoreFailure::Unavailable);
    assert_eq!(bench.refused(first), GroupError::CoordinatorNotAvailable);
    bench.fail_next(StoreFailure::TooLarge);
    assert_eq!(bench.refused(second), GroupError::InvalidCommitOffsetSize);
    assert_eq!(bench.committed("g", "t", 0), None);
    assert_eq!(bench.state("g"), None, "and nothing is left of the group");
}

#[test]
fn metadata_is_limited_per_partition() {
    let mut bench = Bench::new();
    let partition = |partition, bytes: usize| CommitPartition {
        partition,
        offset: Offset(1),
        leader_epoch: LeaderEpoch(-1),
        metadata: "x".repeat(bytes).into(),
    };
    let partitions = vec![partition(0, 4096), partition(1, 4097), partition(2, 0)];
    let topics = vec![CommitTopic { topic: "t".into(), partitions }];
    let token = bench.commit("g", &CommitRequest { topics, ..commit("", -1, "t", 0, 0) });
    assert_eq!(bench.partitions(token), [Ok(()), Err(GroupError::OffsetMetadataTooLarge), Ok(())]);
    assert_eq!(bench.committed("g", "t", 1), None);
    assert_eq!(bench.committed("g", "t", 2), Some(1));
    let topics = vec![CommitTopic { topic: "t".into(), partitions: vec![partition(1, 4097)] }];
    let token = bench.commit("h", &CommitRequest { topics, ..commit("", -1, "t", 0, 0) });
    assert_eq!(bench.partitions(token), [Err(GroupError::OffsetMetadataTooLarge)]);
    assert_eq!(bench.state("h"), None);
}

#[test]
fn the_offsets_of_a_group_are_limited() {
    let mut bench = Bench::with(|config| config.offsets_per_group_max = 2);
    bench.commit_simple("g", "t", 0, 1);
    bench.commit_simple("g", "t", 1, 1);
    let token = bench.commit_simple("g", "t", 2, 1);
    assert_eq!(bench.partitions(token), [Err(GroupError::InvalidCommitOffsetSize)]);
    let token = bench.commit_simple("g", "t", 1, 2);
    assert_eq!(bench.partitions(token), [Ok(())], "but known ones go on");
    let token = bench.commit_simple("h", &"t".repeat(40_000), 1, 2);
    assert_eq!(bench.partitions(token), [Err(GroupError::InvalidCommitOffsetSize)], "names have to fit a record");
}

#[test]
fn an_unknown_group_has_no_offsets_and_no_error() {
    let bench = Bench::new();
    assert_eq!(bench.committed("nowhere", "t", 0), None);
    assert_eq!(bench.groups.fetch_offsets("nowhere", None), []);
}

#[test]
fn the_last_of_several_commits_counts_also_after_a_reload() {
    let mut bench = Bench::new();
    bench.storing = false;
    for offset in 0..5 {
        bench.commit_simple("g", "t", 0, offset);
    }
    bench.store_next();
    bench.fail_next(StoreFailure::Unavailable);
    while bench.store_next() {}
    assert_eq!(bench.committed("g", "t", 0), Some(4));
    assert_eq!(bench.reload().committed("g", "t", 0), Some(4));
}
