//! What a journal that ended holds. Its segments are scanned once, their index is made again, and everything that was
//! found is durable before anyone is told: a process that was killed may have left bytes that only the page cache had, so
//! the last segment is written anew.
//!
//! A journal is never appended to again: the next incarnation opens a new one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use records::{Header, JournalId, Position, TopicPartition};

use crate::disk::BLOCK_BYTES;
use crate::footer::{self, Known};
use crate::frame::{self, FRAME_HEADER_LEN, FrameError};
use crate::segment::{ReadError, SEGMENT_HEADER_LEN, Segment};
use crate::staging::{MARKER, Staging};

/// Why a journal cannot be recovered from this disk.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// This disk does not hold the journal: it says nothing about what the journal held (J4).
    #[error("{0} has no marker: this disk does not hold the journal")]
    Lost(PathBuf),
    /// A segment cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk refused.
    #[error("recovering {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// The readable log ended before the bytes did.
#[derive(Debug)]
pub struct TornTail {
    /// The segment it happened in.
    pub path: PathBuf,
    /// Where the readable log ends.
    pub position: Position,
    /// What was found there.
    pub reason: String,
}

/// What was found.
#[derive(Debug)]
pub struct Recovered {
    /// Its segments, oldest first, sealed and durable; none of them empty.
    pub segments: Vec<Arc<Segment>>,
    /// Where the readable log ends.
    pub end: Position,
    /// Something behind that end could not be read: after a crash, the write that was cut off.
    pub torn: Option<TornTail>,
    /// How far the journal was durable for sure, as frames say that were written later. Beyond `end` the disk lost what it
    /// had.
    pub durable: Position,
}

/// How closely a journal is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Sealed segments are known by their footers; what their disk lost since is found out when they are read.
    Footers,
    /// Every batch is read.
    Batches,
}

/// Reads what a journal holds from `uploaded` on; older segments are deleted. `visit` sees every batch's header that is not
/// uploaded yet, in the order of the appends. `end` is the journal's end where one was written down, when it was closed or
/// sealed: nothing behind it is looked at, and what was cut off there goes (R2), so that the next start need not read it
/// again. Blocks on the disk.
///
/// # Errors
/// [`RecoverError`]; nothing was changed that a second try would miss.
pub fn recover(
    staging: &Staging,
    journal: JournalId,
    uploaded: Position,
    end: Option<Position>,
    depth: Depth,
    visit: &mut dyn FnMut(TopicPartition, &Header),
) -> Result<Recovered, RecoverError> {
    let folder = staging.folder(journal);
    match staging.disk().open(&folder.join(MARKER)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(RecoverError::Lost(folder)),
        Err(source) => return Err(RecoverError::Io { path: folder.join(MARKER), source }),
    }
    let mut recovered = Recovered { segments: Vec::new(), end: uploaded, torn: None, durable: uploaded };
    let paths = segment_paths(staging, &folder).map_err(|source| RecoverError::Io { path: folder.clone(), source })?;
    for (index, (first, path)) in paths.iter().enumerate() {
        let io = |source| RecoverError::Io { path: path.clone(), source };
        let next_first = paths.get(index + 1).map(|(first, _)| *first);
        if next_first.is_some_and(|next| next <= uploaded) {
            staging.disk().remove(path).map_err(io)?;
            continue;
        }
        if end.is_some_and(|end| *first >= end) {
            continue;
        }
        if recovered.torn.is_some() {
            // Behind the end of the readable log: left where it is, for a person to look at.
            continue;
        }
        if *first > recovered.end {
            recovered.torn = Some(TornTail {
                path: path.clone(),
                position: recovered.end,
                reason: format!("the next segment begins at {first}"),
            });
            continue;
        }
        let segment = match Segment::open(staging.disk(), path.clone(), journal) {
            Ok(segment) => segment,
            // Killed between making the file and syncing its header: nothing in it was ever acknowledged.
            Err(error @ ReadError::Header { .. }) => {
                recovered.torn =
                    Some(TornTail { path: path.clone(), position: recovered.end, reason: error.to_string() });
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let footer = (depth == Depth::Footers).then(|| Scan::of_footer(&segment)).flatten();
        let footer = footer.filter(|scan| end.is_none_or(|end| scan.end <= end));
        let has_footer = footer.is_some();
        let scan = footer.map_or_else(|| Scan::of(&segment, end), Ok).map_err(io)?;
        // Another segment is begun, an end written down, after everything before was durable. A disk that lost what was
        // durable is not written to: the next try must see the same.
        let is_durable = has_footer || end.is_some() || next_first.is_some() || scan.durable > scan.end;
        let segment = if is_durable { segment } else { rewrite(staging, &segment, &scan)? };
        recovered.torn = scan.torn(segment.path());
        recovered.durable = recovered.durable.max(scan.durable);
        for frame in scan.frames.iter().filter(|frame| frame.position >= uploaded) {
            visit(frame.topic_partition, &frame.header);
        }
        segment.index(scan.frames.iter().map(|frame| (frame.topic_partition, frame.position, &frame.header)));
        segment.publish(scan.end);
        if has_footer {
            segment.mark_sealed();
        } else {
            // Bytes that could not be read stay where they are, for a person to look at.
            let cut = recovered.torn.is_none() && !scan.ends_in_footer;
            segment.seal(cut.then_some(0)).map_err(io)?;
        }
        if segment.is_empty() || segment.end() <= uploaded {
            staging.disk().remove(path).map_err(io)?;
        } else {
            recovered.end = segment.end();
            recovered.segments.push(Arc::new(segment));
        }
    }
    Ok(recovered)
}

/// What a segment file holds.
struct Scan {
    /// The file, as far as it was looked at.
    bytes: Bytes,
    frames: Vec<Known>,
    /// Position after the last frame that can be read.
    end: Position,
    /// Where in the bytes that is.
    at: usize,
    /// Why the next frame cannot be read, if something is there.
    reason: Option<String>,
    /// Behind the frames stands a footer, or what was one.
    ends_in_footer: bool,
    /// How far everything was durable for sure, as the frames say, also those behind one that cannot be read.
    durable: Position,
}

impl Scan {
    /// What the footer says of a segment that has one: it was sealed, and durable before.
    fn of_footer(segment: &Segment) -> Option<Self> {
        let file = segment.file();
        let size = file.size().ok()?;
        let frames = footer::read(size, SEGMENT_HEADER_LEN, segment.first(), |bytes, at| file.read_at(bytes, at))?;
        let end = frames
            .last()
            .map_or(segment.first(), |last| last.position.after((FRAME_HEADER_LEN + last.header.len()) as u64));
        Some(Self { bytes: Bytes::new(), frames, end, at: 0, reason: None, ends_in_footer: true, durable: end })
    }

    /// Reads a segment's frames, up to the journal's end where that is known.
    fn of(segment: &Segment, journal_end: Option<Position>) -> io::Result<Self> {
        let mut len = segment.file().size()?;
        if let Some(end) = journal_end {
            len = len.min(SEGMENT_HEADER_LEN + (end.0 - segment.first().0));
        }
        let bytes = read_what_can_be(segment, usize::try_from(len).map_err(io::Error::other)?)?;
        let mut at = usize::try_from(SEGMENT_HEADER_LEN).expect("a small constant").min(bytes.len());
        let ends_in_footer = |at: usize| bytes[at..].starts_with(footer::MARK);
        let (mut end, mut durable) = (segment.first(), segment.first());
        let mut frames = Vec::new();
        let reason = loop {
            if at == bytes.len() || ends_in_footer(at) {
                break None;
            }
            match frame::decode(&bytes.slice(at..), end) {
                Ok(frame) => {
                    let header = frame.batch.header().clone();
                    frames.push(Known { topic_partition: frame.topic_partition, position: end, header });
                    at += frame.len;
                    durable = durable.max(frame.durable);
                    end = end.after(frame.len as u64);
                }
                // The preallocated rest, as it should be.
                Err(FrameError::Empty) if bytes[at..].iter().all(|byte| *byte == 0) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        if reason.is_some() {
            durable = durable.max(frame::durable_behind(&bytes.slice(at..), end).unwrap_or_default());
        }
        let ends_in_footer = ends_in_footer(at);
        Ok(Self { bytes, frames, end, at, reason, ends_in_footer, durable })
    }

    fn torn(&self, path: &Path) -> Option<TornTail> {
        let reason = self.reason.clone()?;
        Some(TornTail { path: path.to_owned(), position: self.end, reason })
    }
}

/// The first `len` bytes of a segment's file. Where a sector cannot be read, something stands that is no frame.
fn read_what_can_be(segment: &Segment, len: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; len];
    let Err(error) = segment.file().read_at(&mut bytes, 0) else { return Ok(bytes.into()) };
    let mut any = false;
    for (block, bytes) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
        match segment.file().read_at(bytes, (block * BLOCK_BYTES) as u64) {
            Ok(()) => any = true,
            Err(_) => bytes.fill(u8::MAX),
        }
    }
    // A disk that gives nothing at all may give it later.
    if any { Ok(bytes.into()) } else { Err(error) }
}

/// Writes what was read of a journal's last segment into a new file, in its place. Its last sync may have failed, or never
/// have happened: what reads back may then lie in memory only, and a sync of the same file says nothing about it (a failed
/// sync may mark lost pages clean). What cannot be read is kept beside it.
fn rewrite(staging: &Staging, segment: &Segment, scan: &Scan) -> Result<Segment, RecoverError> {
    let path = segment.path();
    let io = |source| RecoverError::Io { path: path.to_owned(), source };
    if scan.reason.is_some() {
        let written = scan.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        staging.disk().write(&path.with_extension("torn"), &scan.bytes[scan.at..written.max(scan.at)]).map_err(io)?;
    }
    staging.disk().write(path, &scan.bytes[..scan.at]).map_err(io)?;
    Ok(Segment::open(staging.disk(), path.to_owned(), segment.journal())?)
}

/// First position and path of each segment file, in order. Files of other names are not ours.
fn segment_paths(staging: &Staging, folder: &Path) -> io::Result<Vec<(Position, PathBuf)>> {
    let mut paths: Vec<_> = staging
        .disk()
        .list(folder)?
        .iter()
        .filter_map(|name| Some((Position(name.strip_suffix(".seg")?.parse().ok()?), folder.join(name))))
        .collect();
    paths.sort_unstable();
    Ok(paths)
}
