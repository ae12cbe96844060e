//! The object store by itself: the same bytes as a broker moves, by plain parallel requests. What a broker is compared with.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use harness::stores::S3;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt as _};
use objects::Store;
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
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(usize::try_from(bytes_each)?);
    while noise.len() < noise.capacity() {
        state = state.wrapping_mul(0xda94_2042_e4dd_58b5).rotate_left(17) | 1;
        noise.extend_from_slice(&state.to_be_bytes());
    }
    let noise = Bytes::from(noise);
    let begun = Instant::now();
    stream::iter(0..objects)
        .map(|number| {
            let (store, noise) = (store.object_store().clone(), noise.clone());
            async move { store.put(&Path::from(format!("raw/{number}")), noise.into()).await.context("a raw PUT") }
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
