//! One file of a journal: a header, then frames that follow each other without a gap. Positions count the bytes of
//! frames only, so a segment's first frame lies at the segment's first position.
//!
//! While a segment is in use, an index in memory says where each partition's batches lie in it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::RwLock;
use records::{Batch, Header, JournalId, Offset, Position, Timestamp, TopicPartition};

use crate::blocks::{Blocks, Buffer};
use crate::disk::{BLOCK_BYTES, Disk, File};
use crate::frame::{self, FRAME_HEADER_LEN, FrameError};
use crate::pool::Pool;

/// Bytes of a segment file before its frames.
pub(crate) const SEGMENT_HEADER_LEN: u64 = HEADER_BYTES as u64;
const HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"weirjrnl";
const FORMAT: u32 = 2;

/// Why a segment could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk refused.
    #[error("reading {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The bytes are not those that were written.
    #[error("{path} is damaged at position {position}: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the journal.
        position: Position,
        /// What is wrong there.
        source: FrameError,
    },
    /// The file's header was not written whole.
    #[error("{path} has no header of a segment: {what}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The header is whole, and the file is no segment of this journal that this version can read.
    #[error("{path} is not a segment of journal {journal}: {what}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The journal it should belong to.
        journal: JournalId,
        /// What is wrong.
        what: &'static str,
    },
}

/// Where one batch lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The batch's first offset.
    pub base_offset: Offset,
    /// The offset after its last.
    pub next_offset: Offset,
    /// The largest timestamp of its records.
    pub max_timestamp: Timestamp,
    /// Where its frame starts, counted from the segment's first position.
    at: u32,
    /// Bytes of its frame.
    len: u32,
}

impl Entry {
    /// What the index keeps of a batch; the segment adds where it lies.
    pub(crate) fn of(header: &Header) -> Self {
        Self {
            base_offset: header.base_offset,
            next_offset: header.next_offset(),
            max_timestamp: header.max_timestamp,
            at: 0,
            len: 0,
        }
    }

    /// Bytes of the batch.
    #[must_use]
    pub fn batch_len(&self) -> usize {
        self.len as usize - FRAME_HEADER_LEN
    }
}

/// One segment: open for reading, and known by its index.
#[derive(Debug)]
pub struct Segment {
    journal: JournalId,
    first: Position,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    /// Everything from `first` to here is durable and indexed.
    end: AtomicU64,
    sealed: AtomicBool,
    uploaded: AtomicBool,
    entries: AtomicU64,
    index: RwLock<HashMap<TopicPartition, Vec<Entry>>>,
}

impl Segment {
    /// Makes the file, with room for `bytes` of frames, and its header, durably. Frames are appended to what comes with it.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        journal: JournalId,
        first: Position,
        bytes: u64,
        buffer: Buffer,
    ) -> io::Result<(Self, Blocks)> {
        let path = folder.join(file_name(first));
        let file = disk.create(&path)?;
        let room = (SEGMENT_HEADER_LEN + bytes).next_multiple_of(BLOCK_BYTES as u64);
        file.allocate(room)?;
        let mut blocks = Blocks::new(disk.open_direct(&path)?, buffer, room);
        blocks.push(&encode_header(journal, first))?;
        blocks.sync()?;
        disk.sync_folder(folder)?;
        Ok((Self::new(journal, first, path, disk.clone(), file), blocks))
    }

    /// Opens a file that an earlier process left. Its index is still empty.
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: PathBuf, journal: JournalId) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: path.clone(), source };
        let wrong = |what| ReadError::Header { path: path.clone(), what };
        let foreign = |what| ReadError::Foreign { path: path.clone(), journal, what };
        let file = disk.open(&path).map_err(io)?;
        let mut header = [0; HEADER_BYTES];
        match file.read_at(&mut header, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(wrong("it is too short")),
            other => other.map_err(io)?,
        }
        let (found, first, is_known) = decode_header(&header).map_err(wrong)?;
        if !is_known {
            return Err(foreign("it has a format that this version does not know: start the version that wrote it"));
        }
        if found != journal {
            return Err(foreign("it belongs to another journal"));
        }
        if path.file_name().is_none_or(|name| name != file_name(first).as_str()) {
            return Err(foreign("its name does not match its first position"));
        }
        Ok(Self::new(journal, first, path, disk.clone(), file))
    }

    fn new(journal: JournalId, first: Position, path: PathBuf, disk: Arc<dyn Disk>, file: Arc<dyn File>) -> Self {
        Self {
            journal,
            first,
            path,
            disk,
            file,
            end: AtomicU64::new(first.0),
            sealed: AtomicBool::new(false),
            uploaded: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            index: RwLock::default(),
        }
    }

    /// The journal it is a part of.
    #[must_use]
    pub fn journal(&self) -> JournalId {
        self.journal
    }

    /// Position of its first frame.
    #[must_use]
    pub fn first(&self) -> Position {
        self.first
    }

    /// Position after its last durable frame.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.end.load(Ordering::Acquire))
    }

    /// Bytes of frames in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end().0 - self.first.0
    }

    /// Whether it holds no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing will be added to it.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Whether all of it is in committed objects, and this is one more copy.
    #[must_use]
    pub fn is_uploaded(&self) -> bool {
        self.uploaded.load(Ordering::Acquire)
    }

    /// All of it is in committed objects.
    pub fn mark_uploaded(&self) {
        self.uploaded.store(true, Ordering::Release);
    }

    /// Batches in its index.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Acquire)
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// Deletes its file. Who reads it now reads on undisturbed.
    pub(crate) fn delete(&self) -> io::Result<()> {
        self.disk.remove(&self.path)
    }

    /// Takes a frame into the index. `end` follows with [`Segment::publish`].
    pub(crate) fn index<'a>(&self, frames: impl Iterator<Item = (TopicPartition, Position, &'a Header)>) {
        let mut index = self.index.write();
        for (topic_partition, position, header) in frames {
            let (entry, len) = (Entry::of(header), FRAME_HEADER_LEN + header.len());
            let at = u32::try_from(position.0 - self.first.0).expect("a segment is under 4 GiB");
            let len = u32::try_from(len).expect("a frame is under 4 GiB");
            let entries = index.entry(topic_partition).or_default();
            debug_assert!(entries.last().is_none_or(|last| last.next_offset <= entry.base_offset));
            entries.push(Entry { at, len, ..entry });
            self.entries.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn publish(&self, end: Position) {
        let before = self.end.swap(end.0, Ordering::AcqRel);
        assert!(before <= end.0, "a segment's end moved back from {before} to {end}");
    }

    /// Nothing more comes, and what is behind `footer` bytes after the last frame goes. Without it, all stays as it is.
    pub(crate) fn seal(&self, footer: Option<u64>) -> io::Result<()> {
        if let Some(footer) = footer {
            self.file.set_len(SEGMENT_HEADER_LEN + self.len() + footer)?;
        }
        self.file.sync()?;
        self.mark_sealed();
        Ok(())
    }

    /// Nothing more comes, and its file is durable as it is.
    pub(crate) fn mark_sealed(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// The partitions that have batches here.
    #[must_use]
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.index.read().keys().copied().collect()
    }

    /// The first and the next offset of a partition's batches here, if it has any.
    #[must_use]
    pub fn offsets(&self, topic_partition: TopicPartition) -> Option<(Offset, Offset)> {
        let index = self.index.read();
        let entries = index.get(&topic_partition)?;
        Some((entries.first()?.base_offset, entries.last()?.next_offset))
    }

    /// The batches from the one that holds `from` (or the next after it), as many as fit `bytes_max`, but at least one.
    #[must_use]
    pub fn locate(&self, topic_partition: TopicPartition, from: Offset, bytes_max: usize) -> Vec<Entry> {
        let index = self.index.read();
        let Some(entries) = index.get(&topic_partition) else { return Vec::new() };
        let start = entries.partition_point(|entry| entry.next_offset <= from);
        let mut bytes = 0;
        entries[start..]
            .iter()
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.batch_len();
                first || bytes <= bytes_max
            })
            .copied()
            .collect()
    }

    /// The first batch, from offset `from` on, that holds a record of this time or a later one.
    #[must_use]
    pub fn locate_timestamp(&self, topic_partition: TopicPartition, at: Timestamp, from: Offset) -> Option<Entry> {
        let index = self.index.read();
        let entries = index.get(&topic_partition)?;
        entries.iter().find(|entry| entry.next_offset > from && entry.max_timestamp >= at).copied()
    }

    /// Bytes of a partition's batches here.
    #[must_use]
    pub fn bytes_of(&self, topic_partition: TopicPartition) -> u64 {
        let index = self.index.read();
        index.get(&topic_partition).map_or(0, |entries| entries.iter().map(|entry| entry.batch_len() as u64).sum())
    }

    /// The largest timestamp of a partition's records here.
    #[must_use]
    pub fn max_timestamp(&self, topic_partition: TopicPartition) -> Option<Timestamp> {
        self.index.read().get(&topic_partition)?.iter().map(|entry| entry.max_timestamp).max()
    }

    /// Reads located batches, which are those of one partition in order, and checks them. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses or the bytes are not those that were written.
    pub fn read(&self, entries: &[Entry]) -> Result<Vec<Batch>, ReadError> {
        let mut batches = Vec::with_capacity(entries.len());
        for run in entries.chunk_by(|a, b| a.at + a.len == b.at) {
            let from = run[0].at;
            let to = run.last().map_or(from, |last| last.at + last.len);
            let mut bytes = self.read_range(u64::from(from), (to - from) as usize)?;
            for entry in run {
                let position = self.first.after(u64::from(entry.at));
                let frame = self.decode(&bytes, position)?;
                bytes.advance(frame.len);
                batches.push(frame.batch);
            }
        }
        Ok(batches)
    }

    /// All batches in their order, checked. Those that `known` has are taken from there. What is read comes past the page
    /// cache into the pool's memory, from the first that is not known to the last; where the disk refuses that, each for
    /// itself. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses or the bytes are not those that were written.
    pub fn read_all(
        &self,
        mut known: impl FnMut(TopicPartition, &Entry) -> Option<Batch>,
        pool: &Pool,
    ) -> Result<Vec<(TopicPartition, Batch)>, ReadError> {
        let entries = self.in_order();
        let found: Vec<_> = entries.iter().map(|(id, entry)| known(*id, entry)).collect();
        let missing = || entries.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|((_, entry), _)| entry);
        let from = missing().next().map_or(0, |first| u64::from(first.at));
        let to = missing().last().map_or(from, |last| u64::from(last.at + last.len));
        let all = self.read_past_the_cache(from, to, pool).ok();
        let read = |entry: &Entry| {
            let bytes = match &all {
                Some(all) => {
                    let at = usize::try_from(u64::from(entry.at) - from).expect("what is missing was read");
                    all.slice(at..at + entry.len as usize)
                }
                None => self.read_range(entry.at.into(), entry.len as usize)?,
            };
            Ok(self.decode(&bytes, self.first.after(entry.at.into()))?.batch)
        };
        let batches = entries.into_iter().zip(found);
        batches.map(|((id, entry), found)| Ok((id, found.map_or_else(|| read(&entry), Ok)?))).collect()
    }

    /// The index, in the order of the frames.
    fn in_order(&self) -> Vec<(TopicPartition, Entry)> {
        let index = self.index.read();
        let mut entries: Vec<_> =
            index.iter().flat_map(|(id, entries)| entries.iter().map(|entry| (*id, *entry))).collect();
        entries.sort_unstable_by_key(|(_, entry)| entry.at);
        entries
    }

    fn decode(&self, bytes: &Bytes, position: Position) -> Result<frame::Frame, ReadError> {
        frame::decode(bytes, position).map_err(|source| ReadError::Damaged {
            path: self.path.clone(),
            position,
            source,
        })
    }

    /// Bytes of frames, `from` and `to` counted from the first position.
    fn read_past_the_cache(&self, from: u64, to: u64, pool: &Pool) -> io::Result<Bytes> {
        if from == to {
            return Ok(Bytes::new());
        }
        let block = BLOCK_BYTES as u64;
        let (from, to) = (SEGMENT_HEADER_LEN + from, SEGMENT_HEADER_LEN + to);
        let begin = from / block * block;
        let within = "a segment fits into memory";
        let len = usize::try_from(to - begin).expect(within);
        // Whole blocks; what the file has of its last one comes by way of the cache.
        let whole = usize::try_from(to.next_multiple_of(block).min(self.file.size()? / block * block) - begin);
        let whole = whole.expect(within);
        let mut buffer = pool.take(len.max(whole));
        self.disk.open_direct(&self.path)?.read_at(&mut buffer.bytes()[..whole], begin)?;
        let read = whole.min(len);
        self.file.read_at(&mut buffer.bytes()[read..len], begin + read as u64)?;
        Ok(pool.lend(buffer, len).slice(usize::try_from(from - begin).expect(within)..))
    }

    fn read_range(&self, from: u64, len: usize) -> Result<Bytes, ReadError> {
        let mut bytes = BytesMut::zeroed(len);
        self.file
            .read_at(&mut bytes, SEGMENT_HEADER_LEN + from)
            .map_err(|source| ReadError::Io { path: self.path.clone(), source })?;
        Ok(bytes.freeze())
    }
}

/// The name of the segment that begins at `first`.
pub(crate) fn file_name(first: Position) -> String {
    format!("{:020}.seg", first.0)
}

fn encode_header(journal: JournalId, first: Position) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut out = &mut header[..];
    out.put_slice(MAGIC);
    out.put_u32(FORMAT);
    out.put_u64(journal.0);
    out.put_u64(first.0);
    let crc = crc32c::crc32c(&header[..28]);
    header[28..32].copy_from_slice(&crc.to_be_bytes());
    header
}

/// Journal and first position, or what is wrong with the bytes; then whether the format is known.
fn decode_header(header: &[u8]) -> Result<(JournalId, Position, bool), &'static str> {
    let mut fields = header;
    let mut magic = [0; 8];
    fields.copy_to_slice(&mut magic);
    if &magic != MAGIC {
        return Err("it does not begin as segments do");
    }
    let (format, journal, first, crc) = (fields.get_u32(), fields.get_u64(), fields.get_u64(), fields.get_u32());
    if crc != crc32c::crc32c(&header[..28]) {
        return Err("its header is damaged");
    }
    Ok((JournalId(journal), Position(first), format == FORMAT))
}
