//! The staging folder: a folder for each journal in it, and a marker in each that tells it from one that was lost and made
//! again (J4).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use records::JournalId;

use crate::disk::{Disk, System};

/// Tells a journal's folder from one that was lost and made again (J4).
pub(crate) const MARKER: &str = "member";

/// The folder on the local SSD that journals lie in. All calls block.
#[derive(Debug, Clone)]
pub struct Staging {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Staging {
    /// A folder on the operating system's file system.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::on(Arc::new(System), path)
    }

    /// A folder on any file system.
    #[must_use]
    pub fn on(disk: Arc<dyn Disk>, path: impl Into<PathBuf>) -> Self {
        Self { disk, path: path.into() }
    }

    /// The file system.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a journal.
    #[must_use]
    pub fn folder(&self, journal: JournalId) -> PathBuf {
        self.journals().join(format!("{:016x}", journal.0))
    }

    fn journals(&self) -> PathBuf {
        self.path.join("journals")
    }

    /// The journals that have a folder here, in order.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn folders(&self) -> io::Result<Vec<JournalId>> {
        let names = match self.disk.list(&self.journals()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let id = |name: &String| u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16);
        let mut ids: Vec<_> = names.iter().filter_map(id).map(JournalId).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Makes a journal's folder and its marker, durably.
    ///
    /// # Errors
    /// When the disk refuses, or this disk held the journal before.
    pub fn create(&self, journal: JournalId) -> io::Result<PathBuf> {
        let folder = self.folder(journal);
        self.disk.make_folder(&folder)?;
        let marker = self.disk.create(&folder.join(MARKER))?;
        marker.write_all_at(format!("this disk is a member of journal {journal}\n").as_bytes(), 0)?;
        marker.sync()?;
        for path in [&folder, &self.journals(), &self.path] {
            self.disk.sync_folder(path)?;
        }
        Ok(folder)
    }

    /// Deletes a journal's folder, whose bytes are all in committed objects.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self, journal: JournalId) -> io::Result<()> {
        match self.disk.remove_folder(&self.folder(journal)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Renames the folder of a journal that was given up, so that a person can look at it and nobody takes it for a
    /// journal. Returns where it is now.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep_aside(&self, journal: JournalId) -> io::Result<PathBuf> {
        let aside = self.folder(journal).with_extension("given-up");
        self.disk.rename(&self.folder(journal), &aside)?;
        Ok(aside)
    }

    /// All bytes of its disk, and those that are free for us.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn space(&self) -> io::Result<(u64, u64)> {
        self.disk.space(&self.path)
    }

    /// Whether the disk takes a file of so many bytes and syncs it: what a journal needs to go on.
    ///
    /// # Errors
    /// What the disk says.
    pub fn probe(&self, bytes: u64) -> io::Result<()> {
        let path = self.path.join("probe");
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.create(&path)?;
        let probed = file.allocate(bytes).and_then(|()| file.write_all_at(b"probe", 0)).and_then(|()| file.sync());
        probed.and(self.disk.remove(&path))
    }
}
