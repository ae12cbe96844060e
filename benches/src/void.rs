//! A disk that takes everything and keeps nothing but lengths: what the journal costs, without what a disk costs.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use journal::{Disk, File};
use parking_lot::Mutex;

/// The disk. A clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Void(Arc<Mutex<BTreeMap<PathBuf, Arc<Length>>>>);

/// A file: how long it is.
#[derive(Debug, Default)]
struct Length(AtomicU64);

impl Void {
    fn found(&self, path: &Path) -> io::Result<Arc<Length>> {
        self.0.lock().get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for Void {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(Length::default());
        self.0.lock().insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.found(path)?)
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let files = self.0.lock();
        let names = files.keys().filter_map(|path| path.strip_prefix(folder).ok()?.components().next());
        let mut names: Vec<String> = names.map(|name| name.as_os_str().to_string_lossy().into_owned()).collect();
        names.dedup();
        Ok(names)
    }

    fn make_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.0.lock().retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock();
        let moved: Vec<PathBuf> = files.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let target = match path.strip_prefix(from) {
                Ok(rest) if !rest.as_os_str().is_empty() => to.join(rest),
                _ => to.to_owned(),
            };
            if let Some(file) = files.remove(&path) {
                files.insert(target, file);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().remove(path).map(|_| ()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn space(&self, _: &Path) -> io::Result<(u64, u64)> {
        Ok((1 << 40, 1 << 40))
    }
}

impl File for Length {
    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.0.fetch_max(at + bytes.len() as u64, Ordering::AcqRel);
        Ok(bytes.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        if at + buffer.len() as u64 > self.0.load(Ordering::Acquire) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Acquire))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.store(len, Ordering::Release);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
