//! What a journal that ended holds. Its segments are scanned once, their index is made again, and everything that was
//! found is synced before anyone is told: a process that was killed may have left bytes that only the page cache had.
//!
//! A journal is never appended to again: the next incarnation opens a new one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Buf;
use records::{Batch, JournalId, Position, TopicPartition};

use crate::frame::{self, FrameError};
use crate::segment::{ReadError, SEGMENT_HEADER_LEN, Segment};

/// Tells a journal's folder from one that was lost and made again (J4).
const MARKER: &str = "member";

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
}

/// The folder of a journal.
#[must_use]
pub fn folder(staging: &Path, journal: JournalId) -> PathBuf {
    staging.join("journals").join(format!("{:016x}", journal.0))
}

/// The journals that have a folder here, in order.
///
/// # Errors
/// When the disk refuses.
pub fn folders(staging: &Path) -> io::Result<Vec<JournalId>> {
    let entries = match std::fs::read_dir(staging.join("journals")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let id = name.to_str().filter(|name| name.len() == 16).and_then(|name| u64::from_str_radix(name, 16).ok());
        ids.extend(id.map(JournalId));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Renames the folder of a journal that was given up, so that a person can look at it and nobody takes it for a journal.
/// Returns where it is now.
///
/// # Errors
/// When the disk refuses.
pub fn keep_aside(staging: &Path, journal: JournalId) -> io::Result<PathBuf> {
    let aside = folder(staging, journal).with_extension("given-up");
    std::fs::rename(folder(staging, journal), &aside)?;
    Ok(aside)
}

/// Makes a journal's folder and its marker, durably.
///
/// # Errors
/// When the disk refuses, or the folder exists.
pub fn create_folder(staging: &Path, journal: JournalId) -> io::Result<PathBuf> {
    let journals = staging.join("journals");
    std::fs::create_dir_all(&journals)?;
    let folder = folder(staging, journal);
    std::fs::create_dir(&folder)?;
    let mut marker = File::create_new(folder.join(MARKER))?;
    writeln!(marker, "this disk is a member of journal {journal}")?;
    marker.sync_all()?;
    for path in [&folder, &journals, staging] {
        File::open(path)?.sync_all()?;
    }
    Ok(folder)
}

/// All bytes of the disk that holds the staging folder, and those that are free for us.
///
/// # Errors
/// When the system does not tell.
pub fn disk_space(staging: &Path) -> io::Result<(u64, u64)> {
    let disk = rustix::fs::statvfs(staging)?;
    Ok((disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize))
}

/// Deletes a journal's folder, whose bytes are all in committed objects.
///
/// # Errors
/// When the disk refuses.
pub fn remove(staging: &Path, journal: JournalId) -> io::Result<()> {
    match std::fs::remove_dir_all(folder(staging, journal)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reads what a journal holds from `uploaded` on; older segments are deleted. `visit` sees every batch that is not
/// uploaded yet, in the order of the appends. Where the journal is sealed, `end` is its end: nothing behind it is looked
/// at, and what was cut off there goes (R2), so that the next start need not read it again. Blocks on the disk.
///
/// # Errors
/// [`RecoverError`]; nothing was changed that a second try would miss.
pub fn recover(
    staging: &Path,
    journal: JournalId,
    uploaded: Position,
    end: Option<Position>,
    visit: &mut dyn FnMut(TopicPartition, &Batch),
) -> Result<Recovered, RecoverError> {
    let folder = folder(staging, journal);
    if !folder.join(MARKER).exists() {
        return Err(RecoverError::Lost(folder));
    }
    let mut recovered = Recovered { segments: Vec::new(), end: uploaded, torn: None };
    let paths = segment_paths(&folder).map_err(|source| RecoverError::Io { path: folder.clone(), source })?;
    for (index, (first, path)) in paths.iter().enumerate() {
        let io = |source| RecoverError::Io { path: path.clone(), source };
        let next_first = paths.get(index + 1).map(|(first, _)| *first);
        if next_first.is_some_and(|next| next <= uploaded) {
            std::fs::remove_file(path).map_err(io)?;
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
        let segment = match Segment::open(path.clone(), journal) {
            Ok(segment) => segment,
            // Killed between making the file and writing its header: nothing in it was ever acknowledged.
            Err(error @ ReadError::Header { .. }) => {
                recovered.torn =
                    Some(TornTail { path: path.clone(), position: recovered.end, reason: error.to_string() });
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        recovered.torn = scan(&segment, uploaded, end, visit).map_err(io)?;
        // Bytes that could not be read stay where they are, for a person to look at.
        segment.seal(recovered.torn.is_none()).map_err(io)?;
        if segment.end() <= uploaded {
            std::fs::remove_file(path).map_err(io)?;
        } else {
            recovered.end = segment.end();
            recovered.segments.push(Arc::new(segment));
        }
    }
    Ok(recovered)
}

/// Indexes all frames of a segment, up to `end`; returns where and why the readable ones end, if not at the end of the file.
fn scan(
    segment: &Segment,
    uploaded: Position,
    end: Option<Position>,
    visit: &mut dyn FnMut(TopicPartition, &Batch),
) -> io::Result<Option<TornTail>> {
    let frames_len = end.map_or(u64::MAX - SEGMENT_HEADER_LEN, |end| end.0 - segment.first().0);
    let mut bytes = Vec::new();
    segment.file().take(SEGMENT_HEADER_LEN + frames_len).read_to_end(&mut bytes)?;
    let mut bytes = bytes::Bytes::from(bytes);
    bytes.advance(usize::try_from(SEGMENT_HEADER_LEN).expect("a small constant").min(bytes.len()));
    let mut position = segment.first();
    let mut frames = Vec::new();
    let torn = loop {
        if bytes.is_empty() {
            break None;
        }
        match frame::decode(&bytes, position) {
            Ok(frame) => {
                bytes.advance(frame.len);
                if position >= uploaded {
                    visit(frame.topic_partition, &frame.batch);
                }
                frames.push((frame.topic_partition, position, frame.batch));
                position = position.after(frame.len as u64);
            }
            // The preallocated rest, as it should be.
            Err(FrameError::Empty) if bytes.iter().all(|byte| *byte == 0) => break None,
            Err(error) => {
                break Some(TornTail { path: segment.path().to_owned(), position, reason: error.to_string() });
            }
        }
    };
    segment.index(frames.iter().map(|(topic_partition, position, batch)| (*topic_partition, *position, batch)));
    segment.publish(position);
    segment.file().sync_all()?;
    Ok(torn)
}

/// First position and path of each segment file, in order. Files of other names are not ours.
fn segment_paths(folder: &Path) -> io::Result<Vec<(Position, PathBuf)>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let first = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".seg"));
        if let Some(first) = first.and_then(|first| first.parse().ok()) {
            paths.push((Position(first), path));
        }
    }
    paths.sort_unstable();
    Ok(paths)
}
