//! The object store by itself: the same bytes as a broker moves, by plain parallel requests. What a broker is compared with.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harness::stores::S3;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt as _};
use objects::Store;
use rustix::fs::OFlags;
use tokio::time::Instant;

use crate::settings::MIB;

/// Bytes of one ranged GET.
const RANGE: u64 = 4 * MIB;
/// How many GETs run at once.
const GETS: usize = 16;
/// How many PUTs run at once.
const PUTS: usize = 4;

/// Opens a store of the harness.
pub(crate) fn open(url: &str) -> Result<Store> {
    let key = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => "access_key_id",
        _ => "secret_access_key",
    };
    let options: Vec<_> = S3::credentials().into_iter().map(|(name, value)| (key(&name).to_owned(), value)).collect();
    Ok(objects::open(url, &options)?)
}

/// Every data object in the store.
async fn data_objects(store: &Store) -> Result<Vec<ObjectMeta>> {
    let all: Vec<ObjectMeta> = store.object_store().list(None).try_collect().await?;
    Ok(all
        .into_iter()
        .filter(|object| matches!(objects::keys::parse(&object.location), objects::keys::Kind::Data { .. }))
        .collect())
}

/// Reads all data objects, and gives their bytes and the MiB a second.
pub(crate) async fn get_all(store: &Store) -> Result<(u64, f64)> {
    let objects = data_objects(store).await?;
    let ranges: Vec<(Path, std::ops::Range<u64>)> = objects
        .iter()
        .flat_map(|object| {
            let starts = (0..object.size).step_by(usize::try_from(RANGE).unwrap_or(usize::MAX));
            starts.map(|start| (object.location.clone(), start..object.size.min(start + RANGE)))
        })
        .collect();
    ensure!(!ranges.is_empty(), "the store holds no data object");
    let begun = Instant::now();
    let bytes = stream::iter(ranges)
        .map(|(location, range)| {
            let store = store.object_store().clone();
            async move { store.get_range(&location, range).await.map(|bytes| bytes.len() as u64) }
        })
        .buffer_unordered(GETS)
        .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
        .await?;
    Ok((bytes, bytes as f64 / MIB as f64 / begun.elapsed().as_secs_f64()))
}

/// Writes so many objects of random bytes, each whole, and gives the MiB a second.
pub(crate) async fn put(store: &Store, objects: u64, bytes_each: u64) -> Result<f64> {
    let noise = Bytes::from(noise(usize::try_from(bytes_each)?));
    put_each(store, objects, bytes_each, |_| {
        let noise = noise.clone();
        async { Ok(noise) }
    })
    .await
}

/// The same of bytes that are read from the disk, past the page cache, as is needed of whoever uploads what does not fit into
/// memory. They lie in one file in `folder`, which goes again.
pub(crate) async fn put_from_disk(
    store: &Store,
    objects: u64,
    bytes_each: u64,
    folder: &std::path::Path,
) -> Result<f64> {
    let len = usize::try_from(bytes_each)?;
    ensure!(len.is_multiple_of(BLOCK), "whole blocks are read");
    let path = folder.join("raw");
    let mut file = File::create(&path)?;
    let noise = noise(len);
    for _ in 0..objects {
        file.write_all(&noise)?;
    }
    file.sync_all()?;
    let direct = i32::try_from(OFlags::DIRECT.bits())?;
    let file = Arc::new(OpenOptions::new().read(true).custom_flags(direct).open(&path)?);
    // As many buffers as requests run at once, used again and again.
    let free = Arc::new(Mutex::new((0..PUTS).map(|_| vec![0; len + BLOCK]).collect::<Vec<_>>()));
    let measured = put_each(store, objects, bytes_each, |number| {
        let (file, free) = (file.clone(), free.clone());
        async move {
            let read = move || {
                let mut memory =
                    free.lock().ok().and_then(|mut free| free.pop()).unwrap_or_else(|| vec![0; len + BLOCK]);
                let start = memory.as_ptr().align_offset(BLOCK);
                file.read_exact_at(&mut memory[start..start + len], number * bytes_each)?;
                anyhow::Ok(Bytes::from_owner(Lent { memory, start, len, free }))
            };
            tokio::task::spawn_blocking(read).await?
        }
    });
    let measured = measured.await;
    std::fs::remove_file(path)?;
    measured
}

/// What direct I/O reads at once.
const BLOCK: usize = 4096;

/// A buffer that goes back when its bytes are no longer needed.
struct Lent {
    memory: Vec<u8>,
    start: usize,
    len: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Ok(mut free) = self.free.lock() {
            free.push(std::mem::take(&mut self.memory));
        }
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(len.next_multiple_of(8));
    while noise.len() < len {
        state = state.wrapping_mul(0xda94_2042_e4dd_58b5).rotate_left(17) | 1;
        noise.extend_from_slice(&state.to_be_bytes());
    }
    noise
}

async fn put_each<F: Future<Output = Result<Bytes>>>(
    store: &Store,
    objects: u64,
    bytes_each: u64,
    bytes_of: impl Fn(u64) -> F,
) -> Result<f64> {
    let begun = Instant::now();
    stream::iter(0..objects)
        .map(|number| {
            let (store, bytes) = (store.object_store().clone(), bytes_of(number));
            async move { store.put(&Path::from(format!("raw/{number}")), bytes.await?.into()).await.context("a raw PUT") }
        })
        .buffer_unordered(PUTS)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok((objects * bytes_each) as f64 / MIB as f64 / begun.elapsed().as_secs_f64())
}

/// Runs one of the above.
pub(crate) fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
