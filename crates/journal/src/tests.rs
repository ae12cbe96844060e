use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use records::{
    Batch, Builder, Codec, Headers, JournalId, LeaderEpoch, Offset, Partition, Position, Timestamp, TopicPartition,
};

use crate::memory::{Call, Memory};
use crate::segment::SEGMENT_HEADER_LEN;
use crate::{
    AppendError, Catalog, Committed, Depth, Entry, Options, Pool, ReadError, RecoverError, Segment, Staging, Stats,
    Tracker, Writer,
};

const JOURNAL: JournalId = JournalId(7);

fn partition(number: i32) -> TopicPartition {
    TopicPartition { partition: Partition(number), ..TopicPartition::default() }
}

fn batch(base_offset: i64, value: &[u8]) -> Batch {
    let mut builder = Builder::new(Codec::None);
    builder.push(Timestamp(1000 + base_offset), None, Some(value), &Headers::NONE).unwrap();
    let mut batch = builder.build();
    batch.assign(Offset(base_offset), LeaderEpoch(3));
    batch
}

/// What the journal told, in order.
#[derive(Debug, PartialEq)]
enum Event {
    Committed(u64),
    Sealed(Position),
    Failed,
}

struct Told(mpsc::SyncSender<Event>);

impl Committed<u64> for Told {
    fn committed(&mut self, tokens: &mut dyn Iterator<Item = u64>) {
        for token in tokens {
            self.0.send(Event::Committed(token)).unwrap();
        }
    }

    fn sealed(&mut self, segment: Arc<Segment>) {
        self.0.send(Event::Sealed(segment.first())).unwrap();
    }

    fn synced(&mut self, _: Stats) {}

    fn failed(&mut self, _: &io::Error) {
        self.0.send(Event::Failed).unwrap();
    }
}

impl From<&Path> for Staging {
    fn from(path: &Path) -> Self {
        Self::new(path)
    }
}

impl From<&Memory> for Staging {
    fn from(disk: &Memory) -> Self {
        Self::on(Arc::new(disk.clone()), "/staging")
    }
}

struct Running {
    writer: Writer<u64>,
    catalog: Arc<Catalog>,
    told: mpsc::Receiver<Event>,
}

fn start(staging: impl Into<Staging>, segment_bytes: u64, seal_interval: Duration) -> Running {
    let staging = staging.into();
    let folder = staging.create(JOURNAL).unwrap();
    let (sender, told) = mpsc::sync_channel(10_000);
    let catalog = Arc::new(Catalog::default());
    let disk = staging.disk().clone();
    let options = Options { disk, folder, journal: JOURNAL, segment_bytes, seal_interval, queue_bytes_max: 1 << 20 };
    let writer = Writer::start(options, catalog.clone(), Told(sender)).unwrap();
    Running { writer, catalog, told }
}

impl Running {
    fn next(&self) -> Event {
        self.told.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    /// Appends `count` batches to partition 0 and waits until they are committed.
    fn fill(&self, count: i64) {
        for offset in 0..count {
            self.writer.append(partition(0), batch(offset, b"value"), offset.cast_unsigned()).unwrap();
        }
        let mut committed = 0;
        while committed < count {
            if let Event::Committed(token) = self.next() {
                assert_eq!(token, committed.cast_unsigned());
                committed += 1;
            }
        }
    }
}

fn recover(staging: impl Into<Staging>, uploaded: Position) -> (crate::Recovered, Vec<(i32, Offset)>) {
    recover_up_to(staging, uploaded, None)
}

fn recover_up_to(
    staging: impl Into<Staging>,
    uploaded: Position,
    end: Option<Position>,
) -> (crate::Recovered, Vec<(i32, Offset)>) {
    let mut seen = Vec::new();
    let recovered = crate::recover(&staging.into(), JOURNAL, uploaded, end, Depth::Batches, &mut |id, header| {
        seen.push((id.partition.0, header.base_offset));
    });
    (recovered.unwrap(), seen)
}

fn read(segment: &Segment, id: TopicPartition, from: i64) -> Vec<Batch> {
    segment.read(&segment.locate(id, Offset(from), usize::MAX)).unwrap()
}

#[test]
fn what_is_committed_can_be_read_and_comes_in_order() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 1 << 20, Duration::from_secs(60));
    for token in 0..100_u64 {
        let id = partition(i32::try_from(token % 3).unwrap());
        let offset = (token / 3).cast_signed();
        running.writer.append(id, batch(offset, &[7; 50]), token).unwrap();
    }
    for token in 0..100 {
        assert_eq!(running.next(), Event::Committed(token));
    }
    assert_eq!(running.writer.committed(), running.writer.next_position());
    let located = running.catalog.locate(partition(1), Offset(10), 1).unwrap();
    assert_eq!(located.entries.len(), 1, "at least one batch, whatever the limit");
    let batches = read(&located.segment, partition(1), 10);
    assert_eq!(batches.iter().map(Batch::base_offset).collect::<Vec<_>>(), (10..33).map(Offset).collect::<Vec<_>>());
    assert!(batches.iter().all(|batch| batch.check_crc().is_ok()));
    assert_eq!(batches[0].to_bytes(), self::batch(10, &[7; 50]).to_bytes());
}

#[test]
fn segments_are_sealed_by_size_and_follow_each_other() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 1000, Duration::from_secs(60));
    running.fill(50);
    running.writer.close();
    let segments = running.catalog.segments();
    assert!(segments.len() > 5);
    for pair in segments.windows(2) {
        assert_eq!(pair[0].end(), pair[1].first());
    }
    for segment in &segments {
        assert!(segment.is_sealed() && segment.len() <= 1000);
        let on_disk = segment.path().metadata().unwrap().len();
        let footer = 20 + 117 * segment.entries();
        assert_eq!(on_disk, SEGMENT_HEADER_LEN + segment.len() + footer, "the preallocated rest is given back");
    }
    assert_eq!(running.writer.append(partition(0), batch(50, b"late"), 50), Err(AppendError::Ended));
}

#[test]
fn a_segment_is_sealed_by_age() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 1 << 20, Duration::from_millis(50));
    running.writer.append(partition(0), batch(0, b"first"), 0).unwrap();
    assert_eq!(running.next(), Event::Committed(0));
    assert_eq!(running.next(), Event::Sealed(Position(0)));
}

#[test]
fn a_batch_larger_than_a_segment_has_one_of_its_own() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 1000, Duration::from_secs(60));
    for (token, size) in [(0, 10), (1, 5000), (2, 10)] {
        running.writer.append(partition(0), batch(token, &vec![1; size]), token.cast_unsigned()).unwrap();
    }
    running.writer.close();
    assert_eq!(running.catalog.segments().len(), 3);
    assert_eq!(recover(staging.path(), Position(0)).1.len(), 3);
}

#[test]
fn a_full_queue_refuses_and_loses_nothing() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 1 << 30, Duration::from_secs(60));
    let (mut appended, mut refused) = (0, 0);
    while refused == 0 {
        match running.writer.append(partition(0), batch(appended, &vec![0; 200_000]), appended.cast_unsigned()) {
            Ok(_) => appended += 1,
            Err(AppendError::Full) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    for token in 0..appended {
        assert_eq!(running.next(), Event::Committed(token.cast_unsigned()));
    }
}

#[test]
fn recovery_finds_every_committed_batch() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 2000, Duration::from_secs(60));
    running.fill(100);
    let end = running.writer.committed();
    // Killed: nothing is closed or sealed.
    std::mem::forget(running);
    let (recovered, seen) = recover(staging.path(), Position(0));
    assert_eq!(recovered.end, end);
    assert!(recovered.torn.is_none());
    assert_eq!(seen, (0..100).map(|offset| (0, Offset(offset))).collect::<Vec<_>>());
    let all: Vec<Batch> = recovered.segments.iter().flat_map(|segment| read(segment, partition(0), 0)).collect();
    assert_eq!(all.len(), 100);
    // Twice is as once (R3).
    let (again, _) = recover(staging.path(), Position(0));
    assert_eq!(again.end, end);
}

#[test]
fn recovery_ends_at_a_torn_frame_and_keeps_what_is_before() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 1 << 20, Duration::from_secs(60));
    running.fill(10);
    let end = running.writer.committed();
    let segment = running.catalog.segments().remove(0);
    std::mem::forget(running);
    // The write that was under way when the power went: some of it reached the disk.
    let torn = crate::frame::encode_head(end, end, partition(0), &batch(10, b"never acknowledged"));
    segment.file().write_all_at(&torn[..70], SEGMENT_HEADER_LEN + end.0).unwrap();
    let (recovered, seen) = recover(staging.path(), Position(0));
    assert_eq!((recovered.end, seen.len()), (end, 10));
    assert_eq!(recovered.torn.unwrap().position, end);
    // Once its end is written down, what lies behind it goes, and is not read again.
    let (recovered, seen) = recover_up_to(staging.path(), Position(0), Some(end));
    assert_eq!((recovered.end, seen.len()), (end, 10));
    assert!(recovered.torn.is_none());
    assert_eq!(std::fs::metadata(segment.path()).unwrap().len(), SEGMENT_HEADER_LEN + end.0);
    let (recovered, _) = recover_up_to(staging.path(), Position(0), Some(Position(end.0 + 1)));
    assert_eq!(recovered.end, end, "shorter than it should be: its owner sees that");
}

#[test]
fn recovery_starts_at_what_is_uploaded() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 1000, Duration::from_secs(60));
    running.fill(50);
    running.writer.close();
    let segments = running.catalog.segments();
    let uploaded = segments[2].first();
    let (recovered, seen) = recover(staging.path(), uploaded);
    assert_eq!(recovered.segments[0].first(), uploaded);
    assert_eq!(seen.first(), segments[2].offsets(partition(0)).map(|(first, _)| (0, first)).as_ref());
    assert!(!segments[0].path().exists() && segments[2].path().exists(), "what is uploaded is deleted");
}

#[test]
fn a_wiped_disk_is_not_an_empty_journal() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 1000, Duration::from_secs(60));
    running.fill(5);
    running.writer.close();
    std::fs::remove_dir_all(Staging::new(staging.path()).folder(JOURNAL)).unwrap();
    std::fs::create_dir(Staging::new(staging.path()).folder(JOURNAL)).unwrap();
    let lost =
        crate::recover(&Staging::new(staging.path()), JOURNAL, Position(0), None, Depth::Footers, &mut |_, _| {});
    assert!(matches!(lost, Err(RecoverError::Lost(_))), "J4: {lost:?}");
}

#[test]
fn footers_tell_what_the_frames_tell() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 2000, Duration::from_secs(60));
    running.fill(50);
    running.writer.close();
    let recovered = |depth| {
        let mut seen = Vec::new();
        let staging = Staging::new(staging.path());
        let recovered = crate::recover(&staging, JOURNAL, Position(500), None, depth, &mut |id, header| {
            seen.push((id, header.clone()));
        });
        let recovered = recovered.unwrap();
        let entries = |segment: &Arc<Segment>| segment.locate(partition(0), Offset(0), usize::MAX);
        let segments: Vec<_> = recovered.segments.iter().map(|one| (one.first(), one.end(), entries(one))).collect();
        assert!(recovered.segments.iter().all(|one| one.is_sealed() && read(one, partition(0), 0).len() > 1));
        (segments, seen, recovered.end, recovered.durable)
    };
    let by_frames = recovered(Depth::Batches);
    assert_eq!(recovered(Depth::Footers), by_frames);
    assert_eq!(recovered(Depth::Batches), by_frames, "the footers are still there, and in nobody's way");
    // A body that nobody reads may be damaged; a footer that is, is done without.
    let segments = crate::recover(&staging.path().into(), JOURNAL, Position(500), None, Depth::Footers, &mut |_, _| {});
    let segment = &segments.unwrap().segments[1];
    let flip = |at: u64| {
        let mut byte = [0];
        segment.file().read_at(&mut byte, at).unwrap();
        segment.file().write_all_at(&[byte[0] ^ 4], at).unwrap();
    };
    let body = SEGMENT_HEADER_LEN + segment.len() - 1;
    flip(body);
    assert_eq!(recovered_ends(staging.path(), Depth::Footers), (by_frames.2, false));
    assert!(recovered_ends(staging.path(), Depth::Batches).0 < by_frames.2);
    flip(body);
    flip(SEGMENT_HEADER_LEN + segment.len() + 50);
    assert_eq!(recovered_ends(staging.path(), Depth::Footers), (by_frames.2, false));
}

/// Where the journal ends, and whether something behind that could not be read.
fn recovered_ends(staging: &Path, depth: Depth) -> (Position, bool) {
    let recovered = crate::recover(&staging.into(), JOURNAL, Position(500), None, depth, &mut |_, _| {}).unwrap();
    (recovered.end, recovered.torn.is_some())
}

#[test]
fn a_segment_is_sealed_in_time_also_where_appends_never_cease() {
    let disk = Memory::new();
    let interval = Duration::from_millis(300);
    let running = start(&disk, 1 << 20, interval);
    let append =
        |offset: i64| running.writer.append(partition(0), batch(offset, b"v"), offset.cast_unsigned()).unwrap();
    append(0);
    assert_eq!(running.next(), Event::Committed(0));
    disk.hang(Call::Sync);
    append(1);
    while disk.hanging() == 0 {
        std::thread::yield_now();
    }
    append(2);
    std::thread::sleep(interval);
    disk.heal();
    let told: Vec<_> = (0..3).map(|_| running.next()).collect();
    assert_eq!(told, [Event::Committed(1), Event::Sealed(Position(0)), Event::Committed(2)]);
}

#[test]
fn a_flipped_bit_is_found_before_it_is_served() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 1 << 20, Duration::from_secs(60));
    running.fill(10);
    let segment = running.catalog.segments().remove(0);
    let at = SEGMENT_HEADER_LEN + segment.len() / 2;
    let mut byte = [0];
    segment.file().read_at(&mut byte, at).unwrap();
    segment.file().write_all_at(&[byte[0] ^ 4], at).unwrap();
    assert!(matches!(segment.read_all(|_, _| None, &Pool::new()), Err(ReadError::Damaged { .. })));
    let all: Vec<Entry> = segment.locate(partition(0), Offset(0), usize::MAX);
    assert!(matches!(segment.read(&all), Err(ReadError::Damaged { .. })));
    // What is known from elsewhere is not read: here, all but the second, the third and the ninth batch.
    let known = |_, entry: &Entry| {
        let offset = entry.base_offset.0;
        (![1, 2, 8].contains(&offset)).then(|| batch(offset, b"value"))
    };
    let rest = segment.read_all(known, &Pool::new());
    let offsets: Vec<_> = rest.unwrap().iter().map(|(_, batch)| batch.base_offset().0).collect();
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
}

#[test]
fn what_lies_beside_a_sector_that_cannot_be_read_is_read() {
    let disk = Memory::new();
    let running = start(&disk, 1 << 20, Duration::from_secs(60));
    for offset in 0..10 {
        running.writer.append(partition(0), batch(offset, &[7; 4000]), 0).unwrap();
        assert_eq!(running.next(), Event::Committed(0));
    }
    let segment = running.catalog.segments().remove(0);
    disk.spoil(segment.path(), 5);
    let known = |_, entry: &Entry| {
        let offset = entry.base_offset.0;
        (3..7).contains(&offset).then(|| batch(offset, &[7; 4000]))
    };
    let read = segment.read_all(known, &Pool::new()).unwrap();
    let offsets: Vec<_> = read.iter().map(|(_, batch)| batch.base_offset().0).collect();
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
    assert!(segment.read_all(|_, _| None, &Pool::new()).is_err());
}

#[test]
fn damage_below_what_was_durable_is_told_from_a_write_that_was_cut_off() {
    // Killed; then a bit of the sixth frame flips, or a sector that holds parts of the fifth and the sixth is gone.
    for (is_flip, readable) in [(true, 5), (false, 4)] {
        let disk = Memory::new();
        let running = start(&disk, 1 << 20, Duration::from_secs(60));
        for offset in 0..10 {
            running.writer.append(partition(0), batch(offset, &[7; 4000]), 0).unwrap();
            assert_eq!(running.next(), Event::Committed(0));
        }
        let segment = running.catalog.segments().remove(0);
        let frame = segment.len() / 10;
        if is_flip {
            disk.flip(segment.path(), usize::try_from(SEGMENT_HEADER_LEN + 5 * frame + 100).unwrap(), 3);
        } else {
            disk.spoil(segment.path(), 5);
        }
        disk.cut_power();
        drop(running);
        // Tried again, it finds the same (R3).
        for _ in 0..2 {
            let (recovered, seen) = recover(&disk, Position(0));
            assert_eq!((recovered.end, seen.len()), (Position(readable * frame), usize::try_from(readable).unwrap()));
            assert_eq!(recovered.durable, Position(9 * frame), "the last frame knew that");
        }
    }
    // A disk that gives nothing is tried again later.
    let disk = Memory::new();
    start(&disk, 1 << 20, Duration::from_secs(60)).fill(3);
    disk.fail(Call::Read, io::ErrorKind::Other, usize::MAX);
    let given = crate::recover(&Staging::from(&disk), JOURNAL, Position(0), None, Depth::Footers, &mut |_, _| {});
    assert!(matches!(given, Err(RecoverError::Io { .. } | RecoverError::Read(_))), "{given:?}");
}

#[test]
fn a_disk_that_fails_ends_the_journal_and_commits_nothing_more() {
    let staging = tempfile::tempdir().unwrap();
    let running = start(staging.path(), 100, Duration::from_secs(60));
    running.fill(2);
    // The next segment cannot be made.
    std::fs::remove_dir_all(Staging::new(staging.path()).folder(JOURNAL)).unwrap();
    running.writer.append(partition(0), batch(2, b"lost"), 2).unwrap();
    loop {
        match running.next() {
            Event::Failed => break,
            Event::Committed(token) => panic!("{token} was committed"),
            Event::Sealed(_) => {}
        }
    }
    assert!(!running.writer.is_open());
    assert_eq!(running.writer.append(partition(0), batch(3, b"late"), 3), Err(AppendError::Ended));
}

/// The appends that were committed before the journal failed.
fn until_failed(running: &Running) -> u64 {
    let mut committed = 0;
    loop {
        match running.next() {
            Event::Failed => return committed,
            Event::Committed(token) => committed = token + 1,
            Event::Sealed(_) => {}
        }
    }
}

#[test]
fn nothing_is_committed_after_a_call_to_the_disk_failed() {
    for (call, error) in [
        (Call::Create, io::ErrorKind::Other),
        (Call::Allocate, io::ErrorKind::StorageFull),
        (Call::Write, io::ErrorKind::StorageFull),
        (Call::Write, io::ErrorKind::Other),
        (Call::Sync, io::ErrorKind::Other),
        (Call::SyncFolder, io::ErrorKind::Other),
    ] {
        let disk = Memory::new();
        let running = start(&disk, 300, Duration::from_secs(60));
        running.fill(5);
        disk.fail(call, error, 1);
        for offset in 5..40 {
            let _ = running.writer.append(partition(0), batch(offset, b"value"), offset.cast_unsigned());
        }
        let committed = until_failed(&running);
        assert!(!running.writer.is_open(), "{call:?}");
        // Also when the power goes: all that was committed is there, and the journal ends with it or soon after.
        let end = running.writer.committed();
        disk.cut_power();
        let (recovered, seen) = recover(&disk, Position(0));
        assert!(recovered.end >= end && seen.len() as u64 >= committed.max(5), "{call:?}: {}", seen.len());
        // Once it is written down where it ended, nothing above it is served.
        let (recovered, seen) = recover_up_to(&disk, Position(0), Some(end));
        assert_eq!((recovered.end, seen.len() as u64), (end, committed.max(5)), "{call:?}");
    }
}

#[test]
fn what_a_failed_sync_left_in_memory_is_durable_when_it_was_recovered() {
    let disk = Memory::new();
    let running = start(&disk, 1 << 20, Duration::from_secs(60));
    running.fill(3);
    disk.fail(Call::Sync, io::ErrorKind::Other, 1);
    running.writer.append(partition(0), batch(3, b"unknown"), 3).unwrap();
    assert_eq!(until_failed(&running), 0, "nothing after the three");
    // The process is started again: the fourth batch reads back, and its pages are marked clean.
    let (recovered, seen) = recover(&disk, Position(0));
    assert_eq!(seen.len(), 4);
    let end = recovered.end;
    // It was taken for part of the log, so it must stay one.
    disk.cut_power();
    let (recovered, seen) = recover(&disk, Position(0));
    assert_eq!((recovered.end, seen.len()), (end, 4));
}

#[test]
fn a_power_cut_at_any_write_of_a_recovery_loses_nothing() {
    for calls in 0..12 {
        let disk = Memory::new();
        let running = start(&disk, 400, Duration::from_secs(60));
        running.fill(7);
        let end = running.writer.committed();
        std::mem::forget(running);
        disk.fail(Call::Sync, io::ErrorKind::Other, usize::from(calls % 4 == 3));
        disk.fail(Call::Write, io::ErrorKind::Other, usize::from(calls % 4 == 2));
        disk.fail(Call::SyncFolder, io::ErrorKind::Other, usize::from(calls % 4 == 1));
        let _ = crate::recover(&Staging::from(&disk), JOURNAL, Position(0), None, Depth::Footers, &mut |_, _| {});
        disk.heal();
        disk.cut_power();
        let (recovered, seen) = recover(&disk, Position(0));
        assert_eq!((recovered.end, seen.len()), (end, 7), "{calls}");
    }
}

#[test]
fn a_sync_that_hangs_commits_nothing_and_goes_on_when_it_returns() {
    let disk = Memory::new();
    let running = start(&disk, 1 << 20, Duration::from_secs(60));
    running.fill(1);
    disk.hang(Call::Sync);
    running.writer.append(partition(0), batch(1, b"value"), 1).unwrap();
    while disk.hanging() == 0 {
        std::thread::yield_now();
    }
    assert!(running.told.try_recv().is_err(), "nothing is committed");
    assert!(running.writer.waits_for() > Duration::ZERO);
    disk.heal();
    assert!(matches!(running.next(), Event::Committed(1)));
}

#[test]
fn a_segment_of_a_newer_version_is_refused_and_not_taken_for_a_torn_one() {
    let disk = Memory::new();
    let running = start(&disk, 1 << 20, Duration::from_secs(60));
    running.fill(2);
    let path = running.catalog.segments()[0].path().to_owned();
    std::mem::forget(running);
    let staging = Staging::from(&disk);
    let mut bytes = staging.disk().read(&path).unwrap();
    bytes[11] += 1;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_be_bytes());
    staging.disk().write(&path, &bytes).unwrap();
    let refused = crate::recover(&staging, JOURNAL, Position(0), None, Depth::Footers, &mut |_, _| {});
    assert!(matches!(refused, Err(RecoverError::Read(ReadError::Foreign { .. }))), "{refused:?}");
}

#[test]
fn a_quorum_commits_what_enough_members_have() {
    let mut tracker = Tracker::new(3, 2, Position(0));
    tracker.durable(0, Position(10));
    assert_eq!(tracker.committed(), Position(0));
    tracker.durable(2, Position(7));
    assert_eq!(tracker.committed(), Position(7));
    tracker.durable(2, Position(5));
    assert_eq!(tracker.committed(), Position(7), "late answers change nothing");
    tracker.durable(1, Position(20));
    tracker.durable(2, Position(20));
    assert_eq!(tracker.committed(), Position(10), "not above what the owner has");
    tracker.durable(0, Position(12));
    tracker.uploaded(Position(12));
    assert_eq!(tracker.committed(), Position(12));
}

#[test]
#[should_panic(expected = "J1")]
fn what_is_not_uploaded_is_not_trimmed() {
    let mut tracker = Tracker::new(1, 1, Position(0));
    tracker.durable(0, Position(10));
    tracker.uploaded(Position(5));
    tracker.trimmed(Position(6));
}

proptest! {
    #[test]
    fn frames_read_back_as_they_were_written(value in proptest::collection::vec(any::<u8>(), 0..300), at in any::<u32>()) {
        let batch = batch(5, &value);
        let at = Position(u64::from(at));
        let mut bytes = crate::frame::encode_head(at, at, partition(9), &batch).to_vec();
        bytes.extend_from_slice(batch.body());
        let frame = crate::frame::decode(&Bytes::from(bytes), at).unwrap();
        prop_assert_eq!(frame.topic_partition, partition(9));
        prop_assert_eq!(frame.batch.to_bytes(), batch.to_bytes());
    }

    #[test]
    fn no_changed_frame_is_taken_for_one(flip in any::<proptest::sample::Index>(), bit in 0..8_u8) {
        let batch = batch(5, b"some value");
        let mut bytes = crate::frame::encode_head(Position(64), Position(8), partition(9), &batch).to_vec();
        bytes.extend_from_slice(batch.body());
        let at = flip.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(crate::frame::decode(&Bytes::from(bytes), Position(64)).is_err());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<u64>()) {
        prop_assert!(crate::frame::decode(&Bytes::from(bytes), Position(at)).is_err());
    }
}
