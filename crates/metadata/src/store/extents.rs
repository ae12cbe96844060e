//! Looking up extents and the objects that they lie in: they are in the database only.

use objects::{Extent, Path};
use records::{Offset, Timestamp, TopicPartition};
use uuid::Uuid;

use super::database::{read_options, scan_options};
use super::local::Local;
use super::rows;
use crate::handle::{EXTENTS_MAX, ExtentQuery, LocatedExtent, QueryError};
use crate::machine::ObjectMeta;

/// How often a query is made again when what it found was removed meanwhile.
const TRIES: u32 = 3;

impl From<slatedb::Error> for QueryError {
    fn from(error: slatedb::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<rows::RowError> for QueryError {
    fn from(error: rows::RowError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// Where an object lies.
#[derive(Debug, Clone)]
pub(super) struct StoredObject {
    key: Path,
    size: u64,
}

impl Local {
    /// Up to `limit` objects that nothing refers to any more, and since when, from the one after `after` on, in the order
    /// of their ids. Cancellation safe.
    pub(super) async fn garbage_after(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<(ObjectMeta, Timestamp)>, QueryError> {
        let db = self.shared.db.load_full();
        let mut scan = db.scan_with_options(rows::garbage(after), &scan_options()).await?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = scan.next().await?
        {
            found.push(rows::decode_garbage(&row.key, &row.value)?);
        }
        Ok(found)
    }

    /// See [`Backend::extents`](crate::handle::Backend::extents).
    pub(super) async fn located(&self, query: ExtentQuery) -> Result<Vec<LocatedExtent>, QueryError> {
        let ExtentQuery { of, from, at_least, limit } = query;
        let limit = limit.min(EXTENTS_MAX);
        let wanted = |extent: &Extent| at_least.is_none_or(|at| extent.max_timestamp >= at);
        for _ in 0..TRIES {
            let image = self.image();
            let Some(state) = image.partition(of) else { return Ok(Vec::new()) };
            let from = from.max(state.log_start);
            if from >= state.frontier {
                return Ok(Vec::new());
            }
            let found = self.scan(of, from, &wanted, limit).await?;
            let mut located = Vec::with_capacity(found.len());
            for extent in found {
                let Some(object) = self.object(extent.object).await? else { break };
                located.push((extent, object));
            }
            // An object goes with its last extent: what was missing has been removed since the scan, so look again.
            if located.is_empty() || self.image().partition(of).is_some_and(|now| now.log_start <= from) {
                let locate = |(extent, object): (Extent, StoredObject)| LocatedExtent {
                    extent,
                    key: object.key,
                    size: object.size,
                };
                return Ok(located.into_iter().map(locate).collect());
            }
        }
        Err(QueryError::Unavailable("the partition's log start keeps moving".into()))
    }

    async fn scan(
        &self,
        of: TopicPartition,
        from: Offset,
        wanted: impl Fn(&Extent) -> bool,
        limit: usize,
    ) -> Result<Vec<Extent>, QueryError> {
        let mut found = Vec::new();
        if limit == 0 || from.0 == i64::MAX {
            return Ok(found);
        }
        let db = self.shared.db.load_full();
        let mut scan = db.scan_with_options(rows::extents(of, from, Offset(i64::MAX)), &scan_options()).await?;
        while found.len() < limit
            && let Some(row) = scan.next().await?
        {
            let extent = rows::decode_extent(&row.key, &row.value)?;
            if wanted(&extent) {
                found.push(extent);
            }
        }
        Ok(found)
    }

    /// Where an object lies. Objects are looked up again and again by readers at the same place, so some are kept.
    async fn object(&self, id: Uuid) -> Result<Option<StoredObject>, QueryError> {
        if let Some(known) = self.shared.objects.get(&id).await {
            return Ok(Some(known));
        }
        let db = self.shared.db.load_full();
        let Some(row) = db.get_with_options(rows::object_key(id), &read_options()).await? else { return Ok(None) };
        let (object, _) = rows::decode_object(id, &row)?;
        let key = Path::parse(&object.key).map_err(|error| QueryError::Corrupt(error.to_string()))?;
        let stored = StoredObject { key, size: object.size };
        self.shared.objects.insert(id, stored.clone()).await;
        Ok(Some(stored))
    }
}
