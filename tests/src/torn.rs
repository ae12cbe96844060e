//! Injects what a power cut leaves behind: bytes after the last whole frame of a journal that are no frame. Whole
//! frames are never touched, for each of them may have been acknowledged.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::dice::Dice;

/// Bytes of a segment file before its frames (`journal::segment`).
const SEGMENT_HEADER: u64 = 64;
/// Bytes of a frame before its batch (`journal::frame`): length, CRC, position and so on.
const FRAME_HEADER: u64 = 48;

/// What was done to a journal.
#[derive(Debug)]
pub enum Injury {
    /// Random bytes after the last frame.
    Garbage(usize),
    /// A copy of an earlier frame with the right position, cut off.
    CutFrame(usize),
    /// An earlier frame whole, with the right position, and a bit turned over in its batch.
    DamagedFrame(usize),
    /// Nothing: there was no segment, or chance wanted it so.
    None,
}

/// Harms the tail of the segment that was written to last.
///
/// # Errors
/// The files cannot be read or written.
pub fn inject(staging: &Path, dice: &mut Dice) -> Result<Injury> {
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    newest_segment(staging, &mut newest)?;
    let Some((_, path)) = newest else { return Ok(Injury::None) };
    let file = File::options().read(true).write(true).open(&path)?;
    let len = file.metadata()?.len();
    let frames = frames(&file, len).with_context(|| format!("{}", path.display()))?;
    let end = frames.last().map_or(SEGMENT_HEADER, |(at, len)| at + u64::from(*len));
    let some_frame = |dice: &mut Dice| -> Result<Option<Vec<u8>>> {
        let Some(last) = frames.len().checked_sub(1) else { return Ok(None) };
        let (at, len) = frames[usize::try_from(dice.of(0..last as u64 + 1))?];
        let mut frame = vec![0; len as usize];
        file.read_exact_at(&mut frame, at)?;
        // Its position is that of the first frame and what lies between.
        let mut first = [0; 8];
        file.read_exact_at(&mut first, frames[0].0 + 8)?;
        let position = u64::from_be_bytes(first) + (end - frames[0].0);
        frame[8..16].copy_from_slice(&position.to_be_bytes());
        Ok(Some(frame))
    };
    let (bytes, injury) = match dice.of(0..4) {
        0 => {
            let len = usize::try_from(dice.of(1..5000))?;
            (dice.bytes(len), Injury::Garbage(len))
        }
        1 => match some_frame(dice)? {
            Some(mut frame) => {
                // The first bytes of a length are zero, as the rest of the file is.
                frame.truncate(usize::try_from(dice.of(4..frame.len() as u64))?);
                let len = frame.len();
                (frame, Injury::CutFrame(len))
            }
            None => return Ok(Injury::None),
        },
        2 => match some_frame(dice)? {
            Some(mut frame) => {
                let at = usize::try_from(dice.of(FRAME_HEADER..frame.len() as u64))?;
                frame[at] ^= 1 << dice.of(0..8);
                let len = frame.len();
                (frame, Injury::DamagedFrame(len))
            }
            None => return Ok(Injury::None),
        },
        _ => return Ok(Injury::None),
    };
    file.write_all_at(&bytes, end)?;
    Ok(injury)
}

fn newest_segment(folder: &Path, newest: &mut Option<(SystemTime, PathBuf)>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            newest_segment(&path, newest)?;
        } else if path.extension().is_some_and(|extension| extension == "seg") {
            let changed = fs::metadata(&path)?.modified()?;
            if newest.as_ref().is_none_or(|(before, _)| *before <= changed) {
                *newest = Some((changed, path));
            }
        }
    }
    Ok(())
}

/// Where the frames of a segment lie: offsets in the file and lengths. Ends at the first that is not there; a last one
/// that was cut off counts as there, which keeps it from being harmed further.
fn frames(file: &File, file_len: u64) -> Result<Vec<(u64, u32)>> {
    let mut frames = vec![];
    let mut at = SEGMENT_HEADER;
    while at + FRAME_HEADER <= file_len {
        let mut length = [0; 4];
        file.read_exact_at(&mut length, at)?;
        let length = u32::from_be_bytes(length);
        if u64::from(length) < FRAME_HEADER || at + u64::from(length) > file_len {
            break;
        }
        frames.push((at, length));
        at += u64::from(length);
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of the given frame lengths and some preallocated zeros.
    fn segment(folder: &Path, lengths: &[u32]) -> Vec<u8> {
        let mut bytes = vec![7; usize::try_from(SEGMENT_HEADER).unwrap()];
        let mut position = 1000_u64;
        for (number, length) in lengths.iter().enumerate() {
            bytes.extend(length.to_be_bytes());
            bytes.extend([9; 4]);
            bytes.extend(position.to_be_bytes());
            bytes.extend(vec![u8::try_from(number).unwrap(); *length as usize - 16]);
            position += u64::from(*length);
        }
        bytes.extend([0; 100_000]);
        fs::write(folder.join("0.seg"), &bytes).unwrap();
        bytes
    }

    #[test]
    fn whole_frames_are_never_touched() {
        let mut kinds = [0; 4];
        for seed in 0..200 {
            let folder = tempfile::tempdir().unwrap();
            let before = segment(folder.path(), &[60, 200, 49, 1000]);
            let injury = inject(folder.path(), &mut Dice::new(seed)).unwrap();
            let after = fs::read(folder.path().join("0.seg")).unwrap();
            let end = 64 + 60 + 200 + 49 + 1000;
            assert_eq!(before[..end], after[..end], "seed {seed}: {injury:?}");
            let changed = before != after;
            let kind = match injury {
                Injury::Garbage(_) => 0,
                Injury::CutFrame(_) => 1,
                Injury::DamagedFrame(_) => 2,
                Injury::None => 3,
            };
            assert_eq!(changed, kind != 3, "seed {seed}");
            if kind == 2 {
                assert_eq!(after[end + 8..end + 16], (1000_u64 + 1309).to_be_bytes(), "the position fits");
            }
            kinds[kind] += 1;
        }
        assert!(kinds.iter().all(|count| *count > 20), "{kinds:?}");
    }
}
