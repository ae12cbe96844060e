//! The queue and the thread that drains it. While the thread syncs one group, the next gathers: one sync serves many
//! appends, throughput grows with load, and latency stays at one sync.
//!
//! The order of `append` calls is the order of positions, of bytes in the file, and of the tokens handed to
//! [`Committed`]. After a write or a sync failed nothing more is written and nothing more is committed: what a failed
//! sync left on the disk cannot be known.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use records::{Batch, JournalId, Position, TopicPartition};

use crate::blocks::{Blocks, Buffer};
use crate::catalog::Catalog;
use crate::disk::Disk;
use crate::footer::Footer;
use crate::frame::{encode_head, frame_len};
use crate::segment::Segment;
use crate::tracker::Tracker;

/// Appends that a group has room for before it grows.
const GROUP_APPENDS: usize = 1024;

/// How a journal is written.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The journal's own folder, made by [`crate::create_folder`].
    pub folder: PathBuf,
    /// Its id.
    pub journal: JournalId,
    /// A segment is sealed before it grows beyond this many bytes of frames.
    pub segment_bytes: u64,
    /// A segment is sealed this long after its first frame.
    pub seal_interval: Duration,
    /// Bytes that may wait to be written; more are refused.
    pub queue_bytes_max: usize,
}

/// Is told what happens to a journal. Called on the journal's own thread: must be quick and must not block.
pub trait Committed<T>: Send + 'static {
    /// These appends are committed, in their order.
    fn committed(&mut self, tokens: &mut dyn Iterator<Item = T>);
    /// Nothing more will be added to this segment.
    fn sealed(&mut self, segment: Arc<Segment>);
    /// One group was written and synced.
    fn synced(&mut self, stats: Stats);
    /// The journal ends here: appends that were not committed never will be by it.
    fn failed(&mut self, error: &io::Error);
}

/// One group commit.
#[derive(Debug, Clone, Copy)]
pub struct Stats {
    /// Appends in the group.
    pub appends: usize,
    /// Bytes of frames written.
    pub bytes: u64,
    /// Time taken to write and sync.
    pub duration: Duration,
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AppendError {
    /// Too much waits to be written: try again later.
    #[error("the journal's queue is full")]
    Full,
    /// The journal was closed or its disk failed: append to another journal.
    #[error("the journal has ended")]
    Ended,
}

/// Appends to one journal.
#[derive(Debug)]
pub struct Writer<T> {
    shared: Arc<Shared<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    wake: Condvar,
    tracker: Mutex<Tracker>,
    /// Since when the thread waits for the disk, while it does.
    waits_since: Mutex<Option<Instant>>,
    queue_bytes_max: usize,
}

#[derive(Debug)]
struct Queue<T> {
    appends: Vec<Append<T>>,
    bytes: usize,
    next: Position,
    roll: bool,
    ended: bool,
}

#[derive(Debug)]
struct Append<T> {
    position: Position,
    topic_partition: TopicPartition,
    batch: Batch,
    token: T,
}

impl<T: Send + 'static> Writer<T> {
    /// Starts the thread. The journal begins at position 0, empty: what an earlier process wrote is another journal.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(options: Options, catalog: Arc<Catalog>, events: impl Committed<T>) -> io::Result<Self> {
        let start = Position(0);
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { appends: Vec::new(), bytes: 0, next: start, roll: false, ended: false }),
            wake: Condvar::new(),
            tracker: Mutex::new(Tracker::new(1, 1, start)),
            waits_since: Mutex::new(None),
            queue_bytes_max: options.queue_bytes_max,
        });
        let thread = Thread {
            shared: shared.clone(),
            options,
            catalog,
            events,
            inflight: VecDeque::new(),
            current: None,
            buffer: None,
        };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || thread.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Appends a batch whose offset and epoch are assigned. Never blocks; what comes of it is told to [`Committed`]
    /// with the token. Returns the position behind it.
    ///
    /// # Errors
    /// [`AppendError`]; the batch is then not in the journal.
    pub fn append(&self, topic_partition: TopicPartition, batch: Batch, token: T) -> Result<Position, AppendError> {
        let len = frame_len(&batch);
        let mut queue = self.shared.queue.lock();
        if queue.ended {
            return Err(AppendError::Ended);
        }
        // One batch always fits an empty queue, whatever its size: sizes are refused at admission.
        if queue.bytes + len > self.shared.queue_bytes_max && !queue.appends.is_empty() {
            return Err(AppendError::Full);
        }
        let position = queue.next;
        queue.next = position.after(len as u64);
        queue.bytes += len;
        queue.appends.push(Append { position, topic_partition, batch, token });
        let end = queue.next;
        let first = queue.appends.len() == 1;
        drop(queue);
        if first {
            self.shared.wake.notify_one();
        }
        Ok(end)
    }

    /// Position after the last append.
    #[must_use]
    pub fn next_position(&self) -> Position {
        self.shared.queue.lock().next
    }

    /// Everything below is committed.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.shared.tracker.lock().committed()
    }

    /// Everything below `position` is in committed objects.
    pub fn uploaded(&self, position: Position) {
        self.shared.tracker.lock().uploaded(position);
    }

    /// Everything below `position` is deleted from this disk.
    pub fn trimmed(&self, position: Position) {
        self.shared.tracker.lock().trimmed(position);
    }

    /// How long the disk has been writing or syncing one group: a disk that hangs shows here.
    #[must_use]
    pub fn waits_for(&self) -> Duration {
        self.shared.waits_since.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether appends are still taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.shared.queue.lock().ended
    }

    /// Seals the current segment as soon as what was appended so far is committed.
    pub fn roll(&self) {
        self.shared.queue.lock().roll = true;
        self.shared.wake.notify_one();
    }

    /// Takes no more appends, commits those it took, seals the last segment, and ends the thread. Blocks.
    pub fn close(&self) {
        {
            let mut queue = self.shared.queue.lock();
            queue.ended = true;
            queue.roll = true;
        }
        self.shared.wake.notify_one();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic of the thread was reported when it happened, and nothing was committed after it.
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.ended = true;
        queue.roll = true;
        drop(queue);
        self.shared.wake.notify_one();
    }
}

struct Thread<T, C> {
    shared: Arc<Shared<T>>,
    options: Options,
    catalog: Arc<Catalog>,
    events: C,
    /// Written, not yet committed: the position behind each append, and its token.
    inflight: VecDeque<(Position, T)>,
    current: Option<Current>,
    /// What the next segment is written from, once the last one is sealed.
    buffer: Option<Buffer>,
}

struct Current {
    segment: Arc<Segment>,
    blocks: Blocks,
    footer: Footer,
    seal_at: Instant,
}

enum Work<T> {
    Write(Vec<Append<T>>),
    Seal,
    End,
}

impl<T: Send + 'static, C: Committed<T>> Thread<T, C> {
    fn run(mut self) {
        loop {
            let work = self.next_work();
            self.touches_disk();
            let result = match work {
                Work::Write(group) => self.write_group(group),
                Work::Seal => self.seal(),
                Work::End => return,
            };
            *self.shared.waits_since.lock() = None;
            if let Err(error) = result {
                self.fail(&error);
                return;
            }
        }
    }

    fn touches_disk(&self) -> Instant {
        let since = now();
        *self.shared.waits_since.lock() = Some(since);
        since
    }

    fn next_work(&mut self) -> Work<T> {
        let mut queue = self.shared.queue.lock();
        loop {
            // Also where appends never cease.
            if self.current.as_ref().is_some_and(|current| current.seal_at <= now()) {
                return Work::Seal;
            }
            if !queue.appends.is_empty() {
                queue.bytes = 0;
                let spare = Vec::with_capacity(queue.appends.len().min(GROUP_APPENDS));
                return Work::Write(std::mem::replace(&mut queue.appends, spare));
            }
            if std::mem::take(&mut queue.roll) {
                if self.current.is_some() {
                    // Ask again: the end, if it was asked for too, comes after the seal.
                    queue.roll = queue.ended;
                    return Work::Seal;
                }
                if queue.ended {
                    return Work::End;
                }
            }
            match &self.current {
                Some(current) => {
                    let seal_at = current.seal_at;
                    self.shared.wake.wait_until(&mut queue, seal_at);
                }
                None => self.shared.wake.wait(&mut queue),
            }
        }
    }

    /// Writes and syncs a group, in as many runs as it needs segments.
    fn write_group(&mut self, group: Vec<Append<T>>) -> io::Result<()> {
        let mut group = group.into_iter().peekable();
        while let Some(first) = group.next() {
            let started = self.touches_disk();
            let mut room = self.room_for(&first)?;
            let mut run = vec![first];
            while let Some(next) = group.next_if(|next| frame_len(&next.batch) as u64 <= room) {
                room -= frame_len(&next.batch) as u64;
                run.push(next);
            }
            let bytes = self.write_run(&run)?;
            let appends = run.len();
            self.commit(run);
            self.events.synced(Stats { appends, bytes, duration: started.elapsed() });
        }
        Ok(())
    }

    /// Makes sure of a segment with room for this append; returns the bytes left after it.
    fn room_for(&mut self, append: &Append<T>) -> io::Result<u64> {
        let len = frame_len(&append.batch) as u64;
        if let Some(current) = &self.current {
            let end = current.segment.end();
            assert_eq!(end, append.position, "appends follow each other without a gap");
            if current.segment.len() + len <= self.options.segment_bytes {
                return Ok(self.options.segment_bytes - current.segment.len() - len);
            }
            self.seal()?;
        }
        let room = self.options.segment_bytes.max(len);
        let folder = &self.options.folder;
        let buffer = self.buffer.take().unwrap_or_else(Buffer::for_blocks);
        let (disk, journal) = (&self.options.disk, self.options.journal);
        let (segment, blocks) = Segment::create(disk, folder, journal, append.position, room, buffer)?;
        let segment = Arc::new(segment);
        self.catalog.add(segment.clone());
        self.current =
            Some(Current { segment, blocks, footer: Footer::new(), seal_at: now() + self.options.seal_interval });
        Ok(room - len)
    }

    /// One write (or a few, where the bytes are many), one sync.
    fn write_run(&mut self, run: &[Append<T>]) -> io::Result<u64> {
        let Current { segment, blocks, footer, .. } = self.current.as_mut().expect("room_for made one");
        let before = segment.end();
        for append in run {
            let head = encode_head(append.position, before, append.topic_partition, &append.batch);
            footer.push(&head);
            blocks.push(&head)?;
            blocks.push(append.batch.body())?;
        }
        blocks.sync()?;
        segment.index(run.iter().map(|append| (append.topic_partition, append.position, append.batch.header())));
        let last = run.last().expect("a run has an append");
        let end = last.position.after(frame_len(&last.batch) as u64);
        segment.publish(end);
        Ok(end.0 - before.0)
    }

    fn commit(&mut self, run: Vec<Append<T>>) {
        for append in run {
            let end = append.position.after(frame_len(&append.batch) as u64);
            self.inflight.push_back((end, append.token));
        }
        let durable = self.inflight.back().expect("a run has an append").0;
        let committed = {
            let mut tracker = self.shared.tracker.lock();
            tracker.durable(0, durable);
            tracker.committed()
        };
        // J2: a token leaves once its last byte is committed, never before.
        let ready = self.inflight.partition_point(|(end, _)| *end <= committed);
        self.events.committed(&mut self.inflight.drain(..ready).map(|(_, token)| token));
    }

    fn seal(&mut self) -> io::Result<()> {
        if let Some(current) = self.current.take() {
            let Current { segment, mut blocks, footer, .. } = current;
            let footer = footer.finish().unwrap_or_default();
            if !footer.is_empty() {
                blocks.push(&footer)?;
                blocks.sync()?;
            }
            segment.seal(Some(footer.len() as u64))?;
            self.buffer = Some(blocks.into_buffer());
            self.events.sealed(segment);
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        let mut queue = self.shared.queue.lock();
        queue.ended = true;
        let dropped = std::mem::take(&mut queue.appends);
        drop(queue);
        self.events.failed(error);
        drop(dropped);
        self.inflight.clear();
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own that waits for the disk: no runtime's clock to ask")]
fn now() -> Instant {
    Instant::now()
}
