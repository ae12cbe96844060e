//! Appending to a file in whole blocks, past the page cache.
//!
//! What is appended gathers in a buffer that begins on a block of the file, and is written from there by direct I/O, the
//! last block filled up with zeros. The part of a block at the end stays in the buffer and is written again with what comes
//! next, as the page cache would do.
//!
//! A block that was written once costs less to sync than one that is only reserved, for which the file system has to write
//! down that it now holds something. So small groups take zeros along, for those that come after them; large ones do not
//! need them (decision 0009 has the figures).

use std::io;
use std::sync::Arc;

use crate::disk::{BLOCK_BYTES, File};

/// The most that is written at once; what is appended before a sync is of any size.
const BUFFER_BYTES: usize = 1 << 20;
/// Zeros are taken along up to this far behind the beginning of a write.
const AHEAD_BYTES: usize = 1 << 20;

/// Memory that begins on a block, as direct I/O wants it.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// At least so many bytes.
    pub(crate) fn new(len: usize) -> Self {
        let memory = vec![0; len.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Self { memory, start }
    }

    /// One to append through.
    pub(crate) fn for_blocks() -> Self {
        Self::new(BUFFER_BYTES)
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.memory.len() - BLOCK_BYTES
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len()]
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let end = self.start + self.len();
        &mut self.memory[self.start..end]
    }
}

/// The end of a file that grows.
#[derive(Debug)]
pub(crate) struct Blocks {
    file: Arc<dyn File>,
    buffer: Buffer,
    /// Where in the file the buffer begins.
    at: u64,
    /// How much of the buffer is filled.
    filled: usize,
    /// Everything below was written once.
    touched: u64,
    /// The file's room: no zeros are written beyond it.
    room: u64,
}

impl Blocks {
    /// An empty file, with room for so many bytes, whole blocks.
    pub(crate) fn new(file: Arc<dyn File>, buffer: Buffer, room: u64) -> Self {
        Self { file, buffer, at: 0, filled: 0, touched: 0, room }
    }

    /// Appends; it is durable once [`Blocks::sync`] has returned.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let some = bytes.len().min(BUFFER_BYTES - self.filled);
            self.buffer.bytes()[self.filled..self.filled + some].copy_from_slice(&bytes[..some]);
            self.filled += some;
            bytes = &bytes[some..];
            if self.filled == BUFFER_BYTES {
                self.write(BUFFER_BYTES)?;
                self.at += BUFFER_BYTES as u64;
                self.filled = 0;
            }
        }
        Ok(())
    }

    /// Makes everything durable that was pushed.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let (filled, whole) = (self.filled, self.filled.next_multiple_of(BLOCK_BYTES));
        let mut to = whole;
        if self.at + whole as u64 > self.touched {
            let room = usize::try_from(self.room.saturating_sub(self.at)).unwrap_or(usize::MAX);
            to = whole.max(AHEAD_BYTES.min(room / BLOCK_BYTES * BLOCK_BYTES));
        }
        self.buffer.bytes()[filled..to].fill(0);
        self.write(to)?;
        self.file.sync()?;
        let full = filled / BLOCK_BYTES * BLOCK_BYTES;
        self.buffer.bytes().copy_within(full..filled, 0);
        self.at += full as u64;
        self.filled = filled - full;
        Ok(())
    }

    /// The buffer, for the next file.
    pub(crate) fn into_buffer(self) -> Buffer {
        self.buffer
    }

    fn write(&mut self, len: usize) -> io::Result<()> {
        self.file.write_all_at(&self.buffer.bytes()[..len], self.at)?;
        self.touched = self.touched.max(self.at + len as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::disk::{Disk, System};
    use crate::memory::{Call, Memory};

    const ROOM: u64 = 4 << 20;

    fn begin(disk: &dyn Disk, path: &Path) -> Blocks {
        disk.make_folder(path.parent().unwrap()).unwrap();
        disk.create(path).unwrap().allocate(ROOM).unwrap();
        disk.sync_folder(path.parent().unwrap()).unwrap();
        Blocks::new(disk.open_direct(path).unwrap(), Buffer::for_blocks(), ROOM)
    }

    fn bytes(len: usize, seed: u8) -> Vec<u8> {
        (0..len).map(|at| seed.wrapping_add(u8::try_from(at % 251).unwrap()) | 1).collect()
    }

    /// What was pushed, then zeros.
    fn check(disk: &dyn Disk, path: &Path, pushed: &[u8]) {
        let found = disk.read(path).unwrap();
        assert!(found.len() as u64 == ROOM && found.starts_with(pushed), "{} bytes", pushed.len());
        assert!(found[pushed.len()..].iter().all(|byte| *byte == 0), "something behind {} bytes", pushed.len());
    }

    proptest! {
        // Each case goes through megabytes again and again.
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_was_synced_survives_and_nothing_lies_behind_it(
            groups in prop::collection::vec(prop::collection::vec(0..70_000_usize, 1..4), 1..12),
            large in 0..1_300_000_usize,
        ) {
            let disk = Memory::new();
            let path = Path::new("/d/f");
            let mut blocks = begin(&disk, path);
            let mut pushed = Vec::new();
            for (seed, mut group) in groups.into_iter().enumerate() {
                if seed == 2 {
                    group.push(large);
                }
                for len in group {
                    let more = bytes(len, u8::try_from(seed).unwrap());
                    blocks.push(&more).unwrap();
                    pushed.extend(more);
                }
                blocks.sync().unwrap();
                check(&disk, path, &pushed);
            }
            disk.cut_power();
            check(&disk, path, &pushed);
        }
    }

    #[test]
    fn the_last_room_of_a_file_is_used_and_not_passed() {
        let disk = Memory::new();
        let mut blocks = begin(&disk, Path::new("/d/f"));
        let mut pushed = Vec::new();
        while pushed.len() < usize::try_from(ROOM).unwrap() {
            let more = bytes(65_536.min(usize::try_from(ROOM).unwrap() - pushed.len()), 3);
            blocks.push(&more).unwrap();
            blocks.sync().unwrap();
            pushed.extend(more);
            check(&disk, Path::new("/d/f"), &pushed);
        }
    }

    #[test]
    fn a_write_that_fails_is_told() {
        let disk = Memory::new();
        let mut blocks = begin(&disk, Path::new("/d/f"));
        for call in [Call::Write, Call::Sync] {
            blocks.push(b"more").unwrap();
            disk.fail(call, io::ErrorKind::Other, 1);
            blocks.sync().unwrap_err();
        }
    }

    #[test]
    fn a_real_file_takes_blocks_of_any_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut blocks = begin(&System, &path);
        let mut pushed = Vec::new();
        for len in [1, 4095, 4096, 64, 100_000, 2_500_000, 7] {
            let more = bytes(len, 9);
            blocks.push(&more).unwrap();
            blocks.sync().unwrap();
            pushed.extend(more);
            check(&System, &path, &pushed);
        }
    }
}
