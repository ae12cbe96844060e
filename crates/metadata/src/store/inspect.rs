//! Looks at a cluster's metadata from outside, while its controller runs or not: reads only, and fences nobody.

use std::sync::Arc;
use std::time::Duration;

use object_store::{Error as StoreError, ObjectStoreExt};
use records::Timestamp;
use slatedb::config::DbReaderOptions;
use slatedb::{DbReader, DbReaderMode};

use super::OpenError;
use super::orphans::{Orphan, Sweep, SweepError, Swept, Views, before};
use super::rows::{self, Commit};
use crate::handle::QueryError;

/// How often a view takes in what was written meanwhile.
const POLL: Duration = Duration::from_secs(60);
/// How often a request for metadata is repeated.
const RETRIES_MAX: u32 = 5;

/// Looks at one cluster in one store.
#[derive(Debug, Clone)]
pub struct Inspector {
    pub(super) store: objects::Store,
    pub(super) cluster: String,
}

impl Inspector {
    /// Checks that there is such a cluster.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(store: objects::Store, cluster: &str) -> Result<Self, OpenError> {
        if !objects::keys::is_cluster_name(cluster) {
            return Err(OpenError::ClusterName(cluster.to_owned()));
        }
        match store.object_store().head(&objects::keys::metadata_path(cluster).join("cluster")).await {
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => return Err(OpenError::NoCluster(cluster.to_owned())),
            Err(error) => return Err(OpenError::Unavailable(error.to_string())),
        }
        let inspector = Self { store, cluster: cluster.to_owned() };
        let view = inspector.newest().await.map_err(|error| OpenError::Unavailable(error.to_string()))?;
        let layout = view.get(rows::commit_key()).await?.map(|row| Commit::decode(&row)).transpose();
        inspector.done(view).await;
        layout.map_err(|error| OpenError::Corrupt(error.to_string()))?;
        Ok(inspector)
    }

    /// Finds objects that never became part of the log, written before `now - age`, and deletes them or not. `found` is
    /// told of each. As safe beside a running controller as its own search: see `orphans.rs`.
    ///
    /// # Errors
    /// [`SweepError`].
    pub async fn sweep(
        &self,
        now: Timestamp,
        age: Duration,
        delete: bool,
        found: impl FnMut(&Orphan),
    ) -> Result<Swept, SweepError> {
        let store = self.store.object_store().as_ref();
        let sweep = Sweep { store, cluster: &self.cluster, before: before(now, age), delete };
        sweep.run(self, found).await
    }
}

impl Views for Inspector {
    type Rows = DbReader;

    /// All that is durable now, and soon what comes after it.
    async fn newest(&self) -> Result<DbReader, QueryError> {
        let path = objects::keys::metadata_path(&self.cluster).join("db");
        let options = DbReaderOptions {
            manifest_poll_interval: POLL,
            object_store_max_retries: Some(RETRIES_MAX),
            ..DbReaderOptions::default()
        };
        let reader = DbReader::builder(path, Arc::clone(self.store.object_store()))
            .with_reader_mode(DbReaderMode::FollowLatest)
            .with_options(options);
        Ok(Box::pin(reader.build()).await?)
    }

    async fn done(&self, rows: DbReader) {
        if let Err(error) = rows.close().await {
            tracing::debug!(%error, "a view of the metadata was not closed in order");
        }
    }
}
