//! The file system as the journal uses it: a thin layer, so that tests and the simulator can put faults in between.
//! Paths are absolute or relative as the caller gives them. All calls block.

use std::fmt;
use std::fs::{File as SystemFile, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// What a disk reads and writes at once, or not at all; also the alignment that direct I/O wants, of addresses, lengths and
/// places.
pub const BLOCK_BYTES: usize = 4096;

/// A file system.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a file for reading and writing, that was not there.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing whole blocks past the page cache, where the file system can; else as
    /// [`Disk::open`].
    ///
    /// # Errors
    /// What the system says.
    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Makes a folder, and those above it; one that is there is no error.
    ///
    /// # Errors
    /// What the system says.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Deletes a folder with everything in it.
    ///
    /// # Errors
    /// What the system says.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes what was created, renamed and removed in a folder durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Puts a file in the place of another, at once or not at all; or gives a folder another name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// All bytes of the disk that a folder lies on, and those that are free for us.
    ///
    /// # Errors
    /// What the system says.
    fn space(&self, path: &Path) -> io::Result<(u64, u64)>;
}

/// An open file.
pub trait File: fmt::Debug + Send + Sync {
    /// Reserves room for so many bytes; a file system that cannot only costs speed.
    ///
    /// # Errors
    /// What the system says: `StorageFull` where there is no room.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Writes from `at` on, and returns how much of it was written.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Fills the buffer from `at` on.
    ///
    /// # Errors
    /// What the system says: `UnexpectedEof` where the file ends before.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
    /// How many bytes it has.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;
    /// Makes it shorter or longer.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes what was written durable, and the length.
    ///
    /// # Errors
    /// What the system says. What was written before a failed sync may never become durable, whatever a later one says.
    fn sync(&self) -> io::Result<()>;
}

impl dyn Disk + '_ {
    /// What a small file holds.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Makes a file that holds this and nothing else, durably; one that is there is replaced, at once or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        match self.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.create(&new)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        self.rename(&new, path)?;
        self.sync_folder(path.parent().unwrap_or(Path::new(".")))
    }
}

impl dyn File + '_ {
    /// Writes all of the bytes from `at` on.
    pub(crate) fn write_all_at(&self, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    at += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Disk for System {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let direct = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
        match OpenOptions::new().read(true).write(true).custom_flags(direct).open(path) {
            Ok(file) => Ok(Arc::new(file)),
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => self.open(path),
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            // A name that is no text is not ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        SystemFile::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        let disk = rustix::fs::statvfs(path)?;
        Ok((disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize))
    }
}

/// On a disk whose blocks are larger than ours: by way of the page cache, then. Says whether it was past it before.
fn undirect(file: &SystemFile) -> io::Result<bool> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?;
    Ok(flags.contains(OFlags::DIRECT))
}

impl File for SystemFile {
    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        match rustix::io::pwrite(self, bytes, at) {
            Err(Errno::INVAL) if undirect(self)? => Ok(rustix::io::pwrite(self, bytes, at)?),
            written => Ok(written?),
        }
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        match self.read_exact_at(buffer, at) {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && undirect(self)? => {
                self.read_exact_at(buffer, at)
            }
            read => read,
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
