//! A directory as an object store, with the conditional replace that `LocalFileSystem` lacks.
//!
//! A replace holds an advisory lock on a file in the directory while it compares the entity tag, writes a staged file and
//! renames it over the old one. The operating system drops the lock when its holder dies. So of all replaces on one machine
//! exactly one wins; over a network file system that is only as true as its locks are. A plain overwrite or a delete
//! does not take the lock: a key that is replaced conditionally must not be written in another way.
//!
//! A large object is synced piece by piece while it is written. Written whole and synced then, it would hold up every other
//! sync on that disk: those of the journal, which often lies on the same one.
//!
//! The entity tag is made of inode, time of modification and size, and file systems reuse inodes: a replace therefore
//! makes the time of modification grow, so that no tag ever comes back.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UpdateVersion,
};
use tokio::sync::Mutex;

const STORE: &str = "directory";
/// Names that end in `#` and digits are staging files, which listings leave out.
const LOCK_FILE: &str = ".conditional#0";
/// So much is written before it is synced; larger objects are written by us.
const PIECE_BYTES: usize = 2 << 20;
/// How many abandoned staging files of one key a replace steps over.
const STAGING_TRIES: u32 = 10_000;

/// A directory as an object store.
#[derive(Clone)]
pub(crate) struct LocalStore {
    inner: Arc<LocalFileSystem>,
    root: Arc<FilePath>,
    fsync: bool,
    /// One replace at a time waits for the lock file, so that waiting never occupies more than one thread.
    turn: Arc<Mutex<()>>,
}

impl LocalStore {
    /// Opens `root`, which is made when it is not there.
    pub(crate) fn open(root: &FilePath, fsync: bool) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(generic)?;
        let root = root.canonicalize().map_err(generic)?;
        let inner = LocalFileSystem::new_with_prefix(&root)?.with_fsync(fsync);
        Ok(Self { inner: Arc::new(inner), root: root.into(), fsync, turn: Arc::default() })
    }

    async fn replace(&self, location: &Path, payload: PutPayload, expected: UpdateVersion) -> Result<PutResult> {
        let Some(expected) = expected.e_tag else {
            return Err(generic("a conditional replace needs the entity tag of what it replaces"));
        };
        let write = self.write(location)?;
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // The work goes on when the caller goes away, as it does in a store behind a network; it takes its turn with it.
        let done = tokio::task::spawn_blocking(move || {
            let done = write.replace(&payload, &expected);
            drop(turn);
            done
        });
        Ok(put_result(done.await??))
    }

    async fn overwrite(&self, location: &Path, payload: PutPayload) -> Result<PutResult> {
        let write = self.write(location)?;
        Ok(put_result(tokio::task::spawn_blocking(move || write.overwrite(&payload)).await??))
    }

    fn write(&self, location: &Path) -> Result<Write> {
        let file = self.inner.path_to_filesystem(location)?;
        Ok(Write { root: self.root.clone(), file, fsync: self.fsync, location: location.clone() })
    }
}

fn put_result(e_tag: String) -> PutResult {
    PutResult { e_tag: Some(e_tag), version: None, extensions: Default::default() }
}

struct Write {
    root: Arc<FilePath>,
    file: PathBuf,
    fsync: bool,
    location: Path,
}

impl Write {
    fn overwrite(&self, payload: &PutPayload) -> Result<String> {
        let folder = self.file.parent().unwrap_or(&self.root);
        if !folder.is_dir() {
            std::fs::create_dir_all(folder).map_err(generic)?;
            for above in folder.ancestors().skip(1).take_while(|above| self.fsync && above.starts_with(&self.root)) {
                sync_folder(above)?;
            }
        }
        let (staged, path) = self.stage()?;
        self.publish_or_remove(staged, &path, payload, None)
    }

    fn replace(&self, payload: &PutPayload, expected: &str) -> Result<String> {
        let lock = self.root.join(LOCK_FILE);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock).map_err(generic)?;
        lock.lock().map_err(generic)?;
        let current = match std::fs::metadata(&self.file) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Err(self.lost("there is no such object")),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.lost("there is no such object")),
            Err(error) => return Err(generic(error)),
        };
        if e_tag(&current) != expected {
            return Err(self.lost("it was replaced"));
        }
        let (staged, path) = self.stage()?;
        let done = self.publish_or_remove(staged, &path, payload, Some(&current));
        drop(lock);
        done
    }

    fn publish_or_remove(
        &self,
        staged: File,
        path: &FilePath,
        payload: &PutPayload,
        current: Option<&Metadata>,
    ) -> Result<String> {
        let done = self.publish(staged, path, payload, current);
        if done.is_err() {
            // Best effort: a staging file that stays is left out of listings and stepped over.
            let _ = std::fs::remove_file(path);
        }
        done
    }

    fn stage(&self) -> Result<(File, PathBuf)> {
        for number in 1..STAGING_TRIES {
            let mut path = self.file.clone().into_os_string();
            path.push(format!("#{number}"));
            let path = PathBuf::from(path);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(generic(error)),
            }
        }
        Err(generic("too many staging files were left beside the object"))
    }

    fn publish(
        &self,
        mut staged: File,
        path: &FilePath,
        payload: &PutPayload,
        current: Option<&Metadata>,
    ) -> Result<String> {
        let mut unsynced = 0;
        for piece in payload.iter().flat_map(|bytes| bytes.chunks(PIECE_BYTES)) {
            staged.write_all(piece).map_err(generic)?;
            unsynced += piece.len();
            if self.fsync && unsynced >= PIECE_BYTES {
                staged.sync_data().map_err(generic)?;
                unsynced = 0;
            }
        }
        if let Some(current) = current {
            let before = current.modified().map_err(generic)?;
            let natural = staged.metadata().and_then(|metadata| metadata.modified()).map_err(generic)?;
            staged.set_modified(natural.max(before + Duration::from_micros(1))).map_err(generic)?;
        }
        if self.fsync {
            staged.sync_all().map_err(generic)?;
        }
        let e_tag = e_tag(&staged.metadata().map_err(generic)?);
        std::fs::rename(path, &self.file).map_err(generic)?;
        if self.fsync
            && let Some(folder) = self.file.parent()
        {
            sync_folder(folder)?;
        }
        Ok(e_tag)
    }

    fn lost(&self, why: &'static str) -> Error {
        Error::Precondition { path: self.location.to_string(), source: why.into() }
    }
}

fn sync_folder(folder: &FilePath) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(generic)
}

/// The entity tag that `LocalFileSystem` gives; a test holds the two together.
fn e_tag(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    format!("\"{:x}-{:x}-{:x}\"", metadata.ino(), modified.unwrap_or_default().as_micros(), metadata.len())
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalStore").field(&self.root).finish()
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory {}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        match std::mem::take(&mut options.mode) {
            PutMode::Update(expected) => self.replace(location, payload, expected).await,
            PutMode::Overwrite if payload.content_length() > PIECE_BYTES => self.overwrite(location, payload).await,
            mode => self.inner.put_opts(location, payload, PutOptions { mode, ..options }).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use tokio::task::JoinSet;

    use super::*;

    fn update(e_tag: &str) -> PutOptions {
        PutOptions {
            mode: PutMode::Update(UpdateVersion { e_tag: Some(e_tag.to_owned()), version: None }),
            ..PutOptions::default()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_of_many_replaces_wins_also_through_separate_openings() {
        let folder = tempfile::tempdir().unwrap();
        let stores: Vec<LocalStore> = (0..4).map(|_| LocalStore::open(folder.path(), false).unwrap()).collect();
        let key = Path::from("a/b");
        let mut current = stores[0].put(&key, "0".into()).await.unwrap().e_tag.unwrap();
        let mut tags = BTreeSet::from([current.clone()]);
        for round in 0..50 {
            let mut writers = JoinSet::new();
            for writer in 0..16 {
                let (store, key, options) = (stores[writer % 4].clone(), key.clone(), update(&current));
                writers.spawn(async move {
                    let value = format!("{round} {writer}");
                    (value.clone(), store.put_opts(&key, value.into(), options).await)
                });
            }
            let mut won = Vec::new();
            for (value, done) in writers.join_all().await {
                match done {
                    Ok(result) => won.push((value, result.e_tag.unwrap())),
                    Err(error) => assert!(matches!(error, Error::Precondition { .. }), "{error}"),
                }
            }
            assert_eq!(won.len(), 1, "{won:?}");
            let read = stores[1].get(&key).await.unwrap();
            assert_eq!(read.meta.e_tag.as_ref(), Some(&won[0].1));
            assert_eq!(read.bytes().await.unwrap(), won[0].0.as_bytes());
            current.clone_from(&won[0].1);
            // No tag ever comes back, however fast the replaces follow each other.
            assert!(tags.insert(current.clone()), "{current}");
        }
    }

    #[tokio::test]
    async fn replacing_what_is_not_there_loses() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&folder.path().join("made/for/you"), true).unwrap();
        let missing = store.put_opts(&Path::from("a"), "x".into(), update("\"1-1-1\"")).await.unwrap_err();
        assert!(matches!(missing, Error::Precondition { .. }), "{missing}");
        let tag = store.put(&Path::from("a"), "x".into()).await.unwrap().e_tag.unwrap();
        store.delete(&Path::from("a")).await.unwrap();
        let deleted = store.put_opts(&Path::from("a"), "x".into(), update(&tag)).await.unwrap_err();
        assert!(matches!(deleted, Error::Precondition { .. }), "{deleted}");
    }

    #[tokio::test]
    async fn listings_show_objects_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path(), true).unwrap();
        let key = Path::from("a/b");
        let tag = store.put(&key, "1".into()).await.unwrap().e_tag.unwrap();
        // A replace that died left its staging file behind.
        std::fs::write(folder.path().join("a/b#1"), "half").unwrap();
        store.put_opts(&key, "2".into(), update(&tag)).await.unwrap();
        let listed: Vec<_> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
        assert_eq!(listed, vec![key]);
    }

    #[tokio::test]
    async fn a_large_object_is_written_in_pieces_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path(), true).unwrap();
        let key = Path::from("a/b/object");
        for (seed, sizes) in [(1, vec![PIECE_BYTES * 2 + 7]), (2, vec![61, PIECE_BYTES - 61, 1, PIECE_BYTES, 3])] {
            let slices = sizes.into_iter().map(|len| bytes::Bytes::from(vec![seed; len]));
            let payload: PutPayload = slices.collect();
            let expected: Vec<u8> = payload.iter().flatten().copied().collect();
            let put = store.put(&key, payload).await.unwrap();
            let got = store.get(&key).await.unwrap();
            assert_eq!(put.e_tag, got.meta.e_tag);
            assert_eq!(got.bytes().await.unwrap(), expected);
        }
        let listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1, "nothing is left beside it: {listed:?}");
    }

    #[tokio::test]
    async fn a_large_object_that_cannot_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path(), true).unwrap();
        std::fs::write(folder.path().join("a"), "a file in the place of a folder").unwrap();
        let payload: PutPayload = vec![0; PIECE_BYTES + 1].into();
        store.put(&Path::from("a/object"), payload).await.unwrap_err();
    }
}
