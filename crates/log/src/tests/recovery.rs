//! What is left after a kill: with the disk, without it, with a part of it.

use journal::Depth;
use metadata::{JournalState, OFFSET_RESERVE};
use records::Offset;

use super::cluster::{Cluster, Puts, batch, options, segment_files, within};
use crate::AppendError;

#[tokio::test]
async fn acked_records_survive_a_kill_at_their_offsets_under_a_new_epoch() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 2).await;
    let mut zero = cluster.append_values(t[0], &["a", "b"]).await;
    let one = cluster.append_values(t[1], &["x"]).await;
    let epoch = cluster.partition(t[0]).leader_epoch();
    cluster.restart().await;
    assert!(cluster.partition(t[0]).leader_epoch() > epoch, "another leader");
    assert_eq!(cluster.read(t[0]).await, zero);
    assert_eq!(cluster.read(t[1]).await, one);
    zero.extend(cluster.append_values(t[0], &["c"]).await);
    assert_eq!(zero.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [0, 1, 2], "without a gap");
    cluster.upload().await;
    assert_eq!(cluster.read(t[0]).await, zero);
    assert_eq!(cluster.metrics.get().lost_journals.get(), 0);
}

#[tokio::test]
async fn acked_records_survive_a_kill_after_some_were_uploaded() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let mut all = cluster.append_values(t, &["a", "b"]).await;
    cluster.upload().await;
    all.extend(cluster.append_values(t, &["c"]).await);
    cluster.store.puts(Puts::Blocked);
    cluster.log().seal();
    cluster.tried(2).await;
    all.extend(cluster.append_values(t, &["d"]).await);
    cluster.restart().await;
    assert_eq!(cluster.read(t).await, all);
    all.extend(cluster.append_values(t, &["e"]).await);
    cluster.store.puts(Puts::Pass);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, all);
    assert_eq!(cluster.state(t).frontier, Offset(5));
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_ignored() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let mut all = cluster.append_values(t, &["a", "b"]).await;
    cluster.kill().await;
    let [file] = &segment_files(cluster.staging())[..] else { panic!("one segment") };
    let mut bytes = std::fs::read(file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let frame = bytes[64..164].to_vec();
    bytes[end + 1..end + 1 + frame.len()].copy_from_slice(&frame);
    std::fs::write(file, bytes).unwrap();
    cluster.start().await;
    all.extend(cluster.append_values(t, &["c"]).await);
    assert_eq!(cluster.read(t).await, all);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, all);
    assert_eq!(all.last().unwrap().0, 2);
}

#[tokio::test]
async fn a_lost_disk_loses_what_was_not_uploaded_says_so_and_uses_no_offset_twice() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let mut kept = cluster.append_values(t, &["a", "b"]).await;
    cluster.upload().await;
    cluster.append_values(t, &["lost", "lost too"]).await;
    cluster.restart_without_disk().await;
    assert_eq!(cluster.metrics.get().lost_journals.get(), 1, "the loss is reported");
    let next = cluster.append_values(t, &["c"]).await;
    assert_eq!(next[0].0, 2 + OFFSET_RESERVE, "beyond everything that may have been read");
    kept.extend(next);
    assert_eq!(cluster.read(t).await, kept);
    // A reader in the middle of what is lost goes on behind it.
    assert_eq!(cluster.read_from(t, Offset(3)).await, kept[2..]);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, kept);
    assert_eq!(cluster.read_from(t, Offset(3)).await, kept[2..]);
    // Once more, with nothing uploaded in between.
    cluster.append_values(t, &["lost"]).await;
    cluster.restart_without_disk().await;
    kept.extend(cluster.append_values(t, &["d"]).await);
    assert_eq!(kept[3].0, 3 + 2 * OFFSET_RESERVE);
    assert_eq!(cluster.read(t).await, kept);
}

#[tokio::test]
async fn two_journals_that_wait_are_uploaded_in_order_and_without_a_gap() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 2).await;
    cluster.store.puts(Puts::Blocked);
    let mut all = Vec::new();
    for value in ["a", "b", "c"] {
        all.extend(cluster.append_values(t[0], &[value, value]).await);
        cluster.restart().await;
    }
    let idle = cluster.append_values(t[1], &["x"]).await;
    assert_eq!(cluster.read(t[0]).await, all, "before any upload");
    let waiting = cluster.image().journals.values().filter(|j| matches!(j.state, JournalState::Sealed { .. })).count();
    assert_eq!(waiting, 3);
    cluster.store.puts(Puts::Pass);
    cluster.upload().await;
    assert_eq!(cluster.read(t[0]).await, all);
    assert_eq!(cluster.read(t[1]).await, idle);
    let extents = cluster.metadata.extents(t[0], Offset(0), 10).await.unwrap();
    let ranges: Vec<_> = extents.iter().map(|e| (e.extent.base_offset.0, e.extent.end_offset.0)).collect();
    assert_eq!(ranges, [(0, 2), (2, 4), (4, 6)]);
    let folders = std::fs::read_dir(cluster.staging().join("journals")).unwrap().count();
    assert_eq!(folders, 1, "drained journals leave nothing on the disk");
}

#[tokio::test]
async fn a_sealed_journal_whose_disk_is_lost_is_given_up_and_uploads_go_on() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let mut kept = cluster.append_values(t, &["a"]).await;
    cluster.upload().await;
    cluster.store.puts(Puts::Blocked);
    cluster.append_values(t, &["lost"]).await;
    cluster.restart().await;
    cluster.append_values(t, &["lost too"]).await;
    let last = cluster.partition(t).high_watermark();
    cluster.restart_without_disk().await;
    cluster.store.puts(Puts::Pass);
    kept.extend(cluster.append_values(t, &["b"]).await);
    assert!(kept[1].0 >= last.0 && kept[1].0 >= OFFSET_RESERVE, "no offset twice");
    assert_eq!(cluster.read(t).await, kept);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, kept);
    assert!(cluster.image().journals.values().all(|j| !matches!(j.state, JournalState::Sealed { .. })));
}

#[tokio::test]
async fn a_damaged_disk_is_lost_in_part_and_uses_no_offset_twice() {
    let depth = Depth::Batches;
    let mut cluster = Cluster::new(super::cluster::Options { segment_bytes: 4096, depth, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    let value = "v".repeat(1000);
    let all = cluster.append_values(t, &[value.as_str(); 12]).await;
    cluster.kill().await;
    let files = segment_files(cluster.staging());
    assert!(files.len() >= 3);
    // In the second of several segments: all of it was durable.
    let mut bytes = std::fs::read(&files[1]).unwrap();
    bytes[64 + 1500] ^= 1;
    std::fs::write(&files[1], bytes).unwrap();
    cluster.start().await;
    assert_eq!(cluster.metrics.get().lost_journals.get(), 1, "the loss is reported");
    let mut kept = cluster.read(t).await;
    assert!(!kept.is_empty() && kept.len() < 12 && kept[..] == all[..kept.len()], "what can be read is");
    // No offset is free until what can be read is safe and the rest is given up.
    assert!(matches!(cluster.send(t, batch(&["early"])).await, Err(AppendError::Busy)));
    cluster.store.puts(Puts::Pass);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, kept);
    let next = cluster.append_values(t, &["next"]).await;
    assert!(next[0].0 >= 12, "offset {} was used before", next[0].0);
    kept.extend(next);
    assert_eq!(cluster.read(t).await, kept);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, kept);
    cluster.restart().await;
    assert_eq!(cluster.read(t).await, kept);
    kept.extend(cluster.append_values(t, &["after"]).await);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, kept);
}

#[tokio::test]
async fn damage_that_a_start_did_not_see_is_found_before_the_upload_and_uses_no_offset_twice() {
    let mut cluster = Cluster::new(super::cluster::Options { segment_bytes: 4096, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    let value = "v".repeat(1000);
    let mut all = cluster.append_values(t, &[value.as_str(); 12]).await;
    cluster.kill().await;
    let files = segment_files(cluster.staging());
    let mut bytes = std::fs::read(&files[1]).unwrap();
    bytes[64 + 1500] ^= 1;
    std::fs::write(&files[1], bytes).unwrap();
    // Its segments say what they hold, and nobody reads the rest.
    cluster.start().await;
    assert_eq!(cluster.metrics.get().lost_journals.get(), 0);
    all.extend(cluster.append_values(t, &["meanwhile"]).await);
    assert_eq!(all[12].0, 12);
    cluster.store.puts(Puts::Pass);
    within("the log ends", cluster.log().failed()).await;
    // As the broker does it: everything is opened anew, and nothing of this disk is believed.
    cluster.close(std::time::Duration::ZERO).await;
    cluster.options.depth = Depth::Batches;
    cluster.start().await;
    assert_eq!(cluster.metrics.get().lost_journals.get(), 1, "the loss is reported");
    cluster.upload().await;
    let lost = 4..12;
    let mut kept: Vec<_> = all.iter().filter(|(offset, _)| !lost.contains(offset)).cloned().collect();
    assert_eq!(cluster.read(t).await, kept);
    kept.extend(cluster.append_values(t, &["next"]).await);
    assert_eq!(kept.last().unwrap().0, 13);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, kept);
    cluster.restart().await;
    assert_eq!(cluster.read(t).await, kept);
}

#[tokio::test]
async fn damage_in_the_segment_that_was_being_written_is_no_write_that_was_cut_off() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    let value = "v".repeat(1000);
    let all = cluster.append_values(t, &[value.as_str(); 12]).await;
    cluster.kill().await;
    let files = segment_files(cluster.staging());
    let mut bytes = std::fs::read(&files[0]).unwrap();
    bytes[64 + 4800] ^= 1;
    std::fs::write(&files[0], bytes).unwrap();
    cluster.start().await;
    assert_eq!(cluster.metrics.get().lost_journals.get(), 1, "the loss is reported");
    // And again, before anything else happened (R3).
    cluster.restart().await;
    cluster.store.puts(Puts::Pass);
    cluster.upload().await;
    let mut kept = all[..4].to_vec();
    assert_eq!(cluster.read(t).await, kept, "what can be read is");
    kept.extend(cluster.append_values(t, &["next"]).await);
    assert!(kept[4].0 >= 12, "offset {} was used before", kept[4].0);
    assert_eq!(cluster.read(t).await, kept);
}

#[tokio::test]
async fn a_sealed_journal_that_is_cut_short_is_given_up_from_there() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    let all = cluster.append_values(t, &["a", "b", "c"]).await;
    cluster.restart().await;
    let mut kept = cluster.append_values(t, &["d"]).await;
    cluster.kill().await;
    // The last frame of the sealed journal is damaged.
    let files = segment_files(cluster.staging());
    let mut bytes = std::fs::read(&files[0]).unwrap();
    let end = bytes.len();
    bytes[end - 1] ^= 1;
    std::fs::write(&files[0], bytes).unwrap();
    cluster.start().await;
    kept.extend(cluster.append_values(t, &["e"]).await);
    cluster.store.puts(Puts::Pass);
    cluster.upload().await;
    let expected: Vec<_> = all[..2].iter().cloned().chain(kept).collect();
    assert_eq!(cluster.read(t).await, expected);
    assert_eq!(expected.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [0, 1, 3, 4]);
}

#[tokio::test]
async fn starting_again_and_again_without_appends_leaves_nothing_behind() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let all = cluster.append_values(t, &["a"]).await;
    cluster.upload().await;
    for _ in 0..5 {
        cluster.restart().await;
    }
    assert_eq!(std::fs::read_dir(cluster.staging().join("journals")).unwrap().count(), 1);
    assert!(cluster.image().journals.len() <= 3);
    assert_eq!(cluster.state(t).epochs.len(), 2, "epochs in which nothing was written are left out");
    assert_eq!(cluster.read(t).await, all);
}

#[tokio::test]
async fn a_clean_close_leaves_nothing_on_the_disk_and_refuses_what_comes_later() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let all = cluster.append_values(t, &["a", "b"]).await;
    let log = cluster.log().clone();
    let partition = cluster.partition(t);
    assert_eq!(cluster.close(super::cluster::DEADLINE).await, 0);
    assert!(log.partition(t).is_err(), "not opened again, with another high watermark");
    let permit = log.admit(100).await.unwrap();
    assert!(log.append(&partition, batch(&["late"]), None, permit).is_err());
    drop((log, partition));
    cluster.start().await;
    assert_eq!(cluster.read(t).await, all);
    assert!(cluster.store.gets.load(std::sync::atomic::Ordering::SeqCst) > 0, "from the store");
    cluster.stop_controller().await;
}

#[tokio::test]
async fn a_disk_that_is_lost_after_a_clean_close_loses_nothing_and_skips_no_offset() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 2).await;
    let mut all = cluster.append_values(t[0], &["a", "b"]).await;
    cluster.close(super::cluster::DEADLINE).await;
    cluster.lose_disk();
    cluster.start().await;
    assert_eq!(cluster.metrics.get().lost_journals.get(), 0);
    all.extend(cluster.append_values(t[0], &["c"]).await);
    assert_eq!(all[2].0, 2, "nothing is skipped");
    assert_eq!(cluster.append_values(t[1], &["x"]).await[0].0, 0);
    assert_eq!(cluster.read(t[0]).await, all);
    cluster.upload().await;
    assert_eq!(cluster.read(t[0]).await, all);
}

#[tokio::test]
async fn a_disk_that_is_lost_after_a_close_that_could_not_upload_is_a_loss() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    cluster.append_values(t, &["lost"]).await;
    assert!(cluster.close(std::time::Duration::from_millis(50)).await > 0);
    cluster.lose_disk();
    cluster.start().await;
    assert_eq!(cluster.metrics.get().lost_journals.get(), 1, "the loss is reported");
    assert_eq!(cluster.append_values(t, &["a"]).await[0].0, OFFSET_RESERVE, "no offset twice");
}

#[tokio::test]
async fn a_closed_journal_that_is_cut_short_is_a_loss() {
    let mut cluster = Cluster::new(super::cluster::Options { depth: Depth::Batches, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    let all = cluster.append_values(t, &["a", "b"]).await;
    assert!(cluster.close(std::time::Duration::from_millis(50)).await > 0);
    // Without the close, this could be a write that was cut off.
    let [file] = &segment_files(cluster.staging())[..] else { panic!("one segment") };
    let mut bytes = std::fs::read(file).unwrap();
    // The last byte of the last frame: behind it is a footer of two heads.
    let last = bytes.len() - (8 + 2 * 117 + 12) - 1;
    bytes[last] ^= 1;
    std::fs::write(file, bytes).unwrap();
    cluster.start().await;
    assert_eq!(cluster.metrics.get().lost_journals.get(), 1, "the loss is reported");
    cluster.store.puts(Puts::Pass);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, all[..1]);
}

#[tokio::test]
async fn a_folder_of_another_cluster_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.append_values(t, &["a"]).await;
    cluster.kill().await;
    let files = segment_files(cluster.staging());
    let name = cluster.staging().join("cluster");
    let other = uuid::Uuid::from_u128(7).to_string();
    let own = std::fs::read_to_string(&name).unwrap();
    std::fs::write(&name, &other).unwrap();
    let refused = cluster.try_start_on(cluster.staging()).await.err().unwrap().to_string();
    assert!(refused.contains(&format!("belongs to cluster {other}")), "{refused}");
    // Also where the metadata were put back to what they once were.
    std::fs::write(&name, own).unwrap();
    let journals = cluster.staging().join("journals");
    std::fs::create_dir(journals.join("00000000000000ff")).unwrap();
    let refused = cluster.try_start_on(cluster.staging()).await.err().unwrap().to_string();
    assert!(refused.contains("know a journal 255"), "{refused}");
    assert_eq!(segment_files(cluster.staging()), files);
    std::fs::remove_dir(journals.join("00000000000000ff")).unwrap();
    cluster.start().await;
    assert_eq!(cluster.read(t).await.len(), 1);
}

#[tokio::test]
async fn a_close_while_the_store_is_away_ends_in_time_and_keeps_the_rest_on_the_disk() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    let all = cluster.append_values(t, &["a", "b"]).await;
    assert!(cluster.close(std::time::Duration::from_millis(50)).await > 0);
    cluster.start().await;
    assert_eq!(cluster.read(t).await, all);
}

#[tokio::test]
async fn a_log_that_is_dropped_ends_its_tasks() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.append_values(t, &["a"]).await;
    let log = cluster.log().clone();
    let (inner, tasks) = (std::sync::Arc::downgrade(&log.inner), log.inner.tasks.clone());
    drop(log);
    drop(cluster.take());
    tasks.close();
    super::cluster::within("its tasks end", tasks.wait()).await;
    cluster.until("it is gone", || inner.strong_count() == 0).await;
}
