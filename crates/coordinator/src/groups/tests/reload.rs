//! Taking over with what the log has, and rewriting it.

use std::sync::Arc;

use records::Offset;

use super::bench::*;
use crate::group::StoreFailure;
use crate::groups::RewriteStep;
use crate::{GroupError, State};

#[test]
fn a_stable_group_goes_on_after_a_reload() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a"), fixed("two")]);
    let mut after = bench.reload();
    assert_eq!(after.groups.describe("g"), bench.groups.describe("g"));
    for id in &ids {
        assert_eq!(after.heartbeat("g", id, generation), Ok(()));
        let token = after.sync("g", &follower(id, generation));
        assert_eq!(after.synced(token), id.as_bytes());
    }
    let token = after.join("g", again(&ids[0], member("a")));
    assert!(after.waits(token), "the leader still leads");
}

#[test]
fn sessions_begin_anew_with_a_reload() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    bench.pass(SESSION - 1);
    let mut after = bench.reload();
    after.pass(SESSION - 1);
    assert_eq!(after.heartbeat("g", &ids[0], generation), Ok(()));
    after.pass(SESSION);
    assert_eq!(after.state("g"), Some(State::Empty));
}

#[test]
fn a_generation_whose_assignment_was_not_stored_is_unknown_after_a_reload() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    let token = bench.join("g", again(&ids[0], member("a")));
    assert_eq!(bench.joined(token).generation, generation + 1);
    let mut after = bench.reload();
    assert_eq!(after.heartbeat("g", &ids[0], generation + 1), Err(GroupError::IllegalGeneration));
    let token = after.join("g", again(&ids[0], member("a")));
    assert_eq!(after.joined(token).generation, generation + 1, "and it joins again");
}

#[test]
fn a_group_larger_than_now_allowed_rebalances_after_a_reload() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable("g", vec![member("a"), member("b"), member("c")]);
    Arc::make_mut(&mut bench.config).group_size_max = 2;
    let mut after = bench.reload();
    assert_eq!(after.state("g"), Some(State::PreparingRebalance));
    let tokens: Vec<_> = ids.iter().map(|id| after.join("g", again(id, member("x")))).collect();
    assert_eq!(after.refused(tokens[2]), GroupError::GroupMaxSizeReached);
    assert_eq!(after.joined(tokens[0]).members.len(), 2);
}

#[test]
fn records_of_other_kinds_and_tombstones_of_nothing_are_skipped() {
    let mut bench = Bench::new();
    for (key, value) in
        [(&b"\0\x03rest"[..], Some(&b"?"[..])), (b"\0\x02\0\x01g", None), (b"\0\x01\0\x01g\0\x01t\0\0\0\0", None)]
    {
        let entry = crate::storage::Entry { key: key.to_vec().into(), value: value.map(|value| value.to_vec().into()) };
        bench.log.push(crate::storage::StoredEntry { offset: bench.end(), entry });
    }
    assert_eq!(bench.reload().state("g"), None);
}

/// Rewrites everything, and gives what is left of the log.
fn rewrite(bench: &mut Bench, mut meanwhile: impl FnMut(&mut Bench)) -> usize {
    let mut rewrite = bench.groups.rewrite(bench.end());
    for _ in 0..10_000 {
        let step = bench.run(|groups, now, out| groups.rewrite_step(now, out, &mut rewrite));
        if step == RewriteStep::Finished {
            bench.log.retain(|stored| stored.offset >= rewrite.start);
            return bench.log.len();
        }
        meanwhile(bench);
        while bench.store_next() {}
    }
    panic!("the rewriting does not end");
}

#[test]
fn a_rewriting_leaves_one_record_for_everything_that_lives() {
    let mut bench = Bench::with(|config| config.rewrite_chunk_bytes = 300);
    let (ids, generation) = bench.stable("g", vec![member("a")]);
    for offset in 0..100 {
        for partition in 0..10 {
            bench.commit("g", &commit(&ids[0], generation, "t", partition, offset));
            bench.commit_simple(&format!("simple-{partition}"), "t", partition, offset);
        }
    }
    let before = (bench.groups.committed_offsets(), bench.groups.live_bytes());
    assert_eq!(rewrite(&mut bench, |_| {}), 21);
    let after = bench.reload();
    assert_eq!((after.groups.committed_offsets(), after.groups.live_bytes()), before);
    let bytes: usize = bench.log.iter().map(|stored| stored.entry.size()).sum();
    assert_eq!(bytes, after.groups.live_bytes(), "the figure for what lives is what it takes");
    assert_eq!(after.groups.describe("g"), bench.groups.describe("g"));
}

#[test]
fn a_commit_during_a_rewriting_is_not_undone_by_it() {
    let mut bench = Bench::with(|config| config.rewrite_chunk_bytes = 100);
    for partition in 0..20 {
        bench.commit_simple("g", "t", partition, 1);
    }
    bench.storing = false;
    // Under way when it begins.
    bench.commit_simple("g", "t", 3, 2);
    let mut offset = 2;
    rewrite(&mut bench, |bench| {
        offset += 1;
        bench.commit_simple("g", "t", 5, offset);
        bench.commit_simple("g", "t", 6, offset);
        if offset % 2 == 0 {
            bench.fail_next(StoreFailure::Unavailable);
        }
        if offset == 4 {
            bench.commit_simple("g", "new", 0, 1);
        }
    });
    let after = bench.reload();
    assert_eq!(after.groups.committed_offsets(), bench.groups.committed_offsets());
    assert_eq!(after.committed("g", "t", 3), Some(2));
    assert_eq!(after.committed("g", "new", 0), Some(1));
    assert_eq!(after.groups.committed_offsets().len(), 21);
}

#[test]
fn a_group_deleted_during_a_rewriting_stays_deleted() {
    let mut bench = Bench::with(|config| config.rewrite_chunk_bytes = 100);
    for partition in 0..20 {
        bench.commit_simple("g", "t", partition, 1);
        bench.commit_simple("h", "t", partition, 1);
    }
    bench.storing = false;
    let mut steps = 0;
    rewrite(&mut bench, |bench| {
        steps += 1;
        if steps == 2 {
            let token = bench.token();
            bench.run(|groups, now, out| groups.delete(now, out, token, "g"));
        }
    });
    assert!(steps > 2);
    let after = bench.reload();
    assert_eq!(after.state("g"), None);
    assert_eq!(after.groups.committed_offsets().len(), 20);
}

#[test]
fn the_end_of_a_log_is_where_a_rewriting_begins() {
    let mut bench = Bench::new();
    bench.commit_simple("g", "t", 0, 1);
    assert_eq!(bench.end(), Offset(1));
    assert_eq!(rewrite(&mut bench, |_| {}), 1);
    assert_eq!(bench.log[0].offset, Offset(1));
}

#[test]
fn a_chunk_of_a_rewriting_that_fails_is_written_again() {
    for failing in 0..3 {
        let mut bench = Bench::with(|config| config.rewrite_chunk_bytes = 60);
        let (ids, generation) = bench.stable("g", vec![member("a")]);
        for partition in 0..3 {
            bench.commit("g", &commit(&ids[0], generation, "t", partition, 1));
        }
        bench.storing = false;
        let mut chunks = 0;
        rewrite(&mut bench, |bench| {
            if chunks == failing && !bench.stores.is_empty() {
                bench.fail_next(StoreFailure::Unavailable);
            }
            chunks += 1;
        });
        assert!(chunks > failing, "only {chunks} chunks");
        let after = bench.reload();
        assert_eq!(after.groups.committed_offsets(), bench.groups.committed_offsets());
        assert_eq!(after.groups.describe("g"), bench.groups.describe("g"));
    }
}

#[test]
fn a_chunk_that_fails_is_written_again_even_when_nothing_is_left_after_it() {
    let mut bench = Bench::with(|config| config.rewrite_chunk_bytes = 60);
    for partition in 0..2 {
        bench.commit_simple("g", "t", partition, 1);
    }
    bench.storing = false;
    let mut steps = 0;
    rewrite(&mut bench, |bench| {
        steps += 1;
        if steps == 1 {
            bench.fail_next(StoreFailure::Unavailable);
            let token = bench.token();
            let wanted = [crate::TopicPartitions { topic: "t".into(), partitions: vec![1] }];
            bench.run(|groups, now, out| groups.delete_offsets(now, out, token, "g", &wanted));
        }
    });
    assert_eq!(bench.reload().groups.committed_offsets(), bench.groups.committed_offsets());
    assert_eq!(bench.reload().committed("g", "t", 0), Some(1));
}
