//! Walks a cluster's metadata and its objects, and says where they are not as they must be. Repairs nothing.
//!
//! - Each object that the metadata has is in the store with its size; its footer can be read, and says of each extent
//!   what the metadata says; as many extents of it are part of the log as its row says. With [`Depth::Full`] all of it is
//!   read: batches, indexes, producer states.
//! - Each partition's extents are contiguous from its log start to its upload frontier (O2), but for what is known to be
//!   lost; each lies in an object that there is; its bytes are those of its extents.
//! - What lies in the store and is part of nothing is counted.
//!
//! A running controller changes things meanwhile. So whatever seems wrong is looked at again, in views of the metadata
//! that were opened later, and reported only when it still is.
//!
//! Memory: a page of rows, what is on its way of eight objects, the things that seem wrong, of which there are 10,000 at
//! most, and a thousand findings; one partition gives as many at most, and counts the rest.

mod object;
mod partition;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use records::{Timestamp, TopicPartition};
use slatedb::DbReader;
use uuid::Uuid;

use super::database::scan_options;
use super::inspect::Inspector;
use super::orphans::{SweepError, Views};
use super::rows;
use crate::handle::QueryError;
use partition::Looked;

/// How many things may seem wrong before the check ends early.
const SUSPECTS_MAX: usize = 10_000;
/// How many findings a report lists; the rest is counted.
pub(super) const FINDINGS_MAX: usize = 1000;
/// How many rows are taken at once, so that no scan outlives what it reads from.
const PAGE: usize = 1000;
/// How many objects are read at the same time.
const OBJECTS_AT_ONCE: usize = 8;
/// How often what seems wrong is looked at again, and how long after the last look.
const LOOKS: u32 = 2;
const PAUSE: Duration = Duration::from_secs(2);

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Footers only.
    Footers,
    /// Every byte of every object.
    Full,
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// The metadata has an object that the store does not have.
    ObjectMissing,
    /// An object has another size than when it was written.
    ObjectSize,
    /// An object's footer is not what was written.
    ObjectFooter,
    /// Records of an object are not what was written, or what belongs to them.
    ObjectContents,
    /// The store does not give an object.
    ObjectUnreadable,
    /// Metadata and footer do not say the same of an extent.
    ExtentDiffers,
    /// An extent lies in an object that the metadata does not have.
    ExtentWithoutObject,
    /// An extent belongs to no partition, or lies where it should not.
    ExtentMisplaced,
    /// Offsets between log start and upload frontier lie in no extent.
    Gap,
    /// A number in the metadata is not what it counts.
    Count,
    /// An object that never became part of the log.
    Orphan,
}

impl FindingKind {
    /// What it means for the cluster.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::ObjectMissing => "its records cannot be read any more",
            Self::ObjectSize | Self::ObjectFooter => "the object was damaged in the store, or replaced",
            Self::ObjectContents => "these records cannot be read; readers get an error there",
            Self::ObjectUnreadable => "it cannot be told whether its records can be read",
            Self::ExtentDiffers => "reads of this extent fail, or would give other records",
            Self::ExtentWithoutObject => "its records cannot be read any more",
            Self::ExtentMisplaced => "nothing reads it, and its object is kept for it",
            Self::Gap => "records at these offsets cannot be read",
            Self::Count => "objects may be deleted too late, or too early; retention by size may be wrong",
            Self::Orphan => "an upload was cut off; nothing refers to it, and it is paid for",
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ObjectMissing | Self::ObjectSize | Self::ObjectFooter | Self::ObjectContents => {
                "restore the object from a version or a copy of the bucket; else delete the records up to its end"
            }
            Self::ObjectUnreadable => "look at the store and its permissions, and check again",
            Self::ExtentDiffers | Self::ExtentWithoutObject | Self::ExtentMisplaced | Self::Gap | Self::Count => {
                "this is a fault of Weir: keep the bucket as it is, and report it"
            }
            Self::Orphan => "nothing: it is deleted within a day; or run `weir store sweep`",
        }
    }
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing is wrong.
    pub kind: FindingKind,
    /// What is wrong: an object's key, or a partition.
    pub subject: String,
    /// What was found.
    pub found: String,
}

impl Finding {
    fn new(kind: FindingKind, subject: impl ToString, found: impl Into<String>) -> Self {
        Self { kind, subject: subject.to_string(), found: found.into() }
    }
}

/// What a check saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Partitions that were looked at.
    pub partitions: u64,
    /// Their extents.
    pub extents: u64,
    /// Objects that extents refer to.
    pub objects: u64,
    /// Bytes of these.
    pub object_bytes: u64,
    /// Objects that wait for their grace time to end.
    pub garbage: u64,
    /// Bytes of these.
    pub garbage_bytes: u64,
    /// Objects of the store that nothing refers to, and that the upload which wrote them may yet commit.
    pub pending: u64,
    /// Objects that never became part of the log.
    pub orphans: u64,
    /// Bytes of these.
    pub orphan_bytes: u64,
    /// What is wrong, up to a thousand of them.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub finding_count: u64,
    /// So much seemed wrong that not everything was looked at.
    pub ended_early: bool,
}

impl Report {
    fn add(&mut self, finding: Finding) {
        self.finding_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// Something that seemed wrong once, and is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Suspect {
    Partition(TopicPartition),
    Object(Uuid),
}

impl Inspector {
    /// Checks everything. Objects without a row count as orphans when they were written before `now - age`. `seen` is
    /// called for each partition and each object that was looked at.
    ///
    /// # Errors
    /// When the store or the metadata does not answer.
    pub async fn check(
        &self,
        depth: Depth,
        now: Timestamp,
        age: Duration,
        mut seen: impl FnMut(),
    ) -> Result<Report, SweepError> {
        let mut report = Report::default();
        let view = self.newest().await?;
        let mut suspects = self.partitions(&view, &mut report, &mut seen).await?;
        suspects.extend(self.objects(&view, depth, &mut report, &mut seen).await?);
        self.done(view).await;
        report.ended_early = suspects.len() >= SUSPECTS_MAX;
        for _ in 0..LOOKS {
            if suspects.is_empty() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            (report.findings, report.finding_count) = (Vec::new(), 0);
            self.look_again(&mut suspects, depth, &mut report).await?;
        }
        let swept = self
            .sweep(now, age, false, |orphan| {
                let found = format!("{} bytes, never committed", orphan.size);
                report.add(Finding::new(FindingKind::Orphan, &orphan.key, found));
            })
            .await?;
        (report.orphans, report.orphan_bytes) = (swept.orphans, swept.orphan_bytes);
        report.pending = swept.open;
        Ok(report)
    }

    /// Looks at all partitions, and at extents of partitions that there are not.
    async fn partitions(
        &self,
        view: &DbReader,
        report: &mut Report,
        seen: &mut impl FnMut(),
    ) -> Result<BTreeSet<Suspect>, QueryError> {
        let mut suspects = BTreeSet::new();
        let mut after = None;
        loop {
            let page = partition::page(view, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            for of in page {
                let Looked { extents, findings, .. } = partition::look(view, of).await?;
                report.partitions += 1;
                report.extents += extents;
                seen();
                if !findings.is_empty() && suspects.len() < SUSPECTS_MAX {
                    suspects.insert(Suspect::Partition(of));
                }
            }
        }
        let mut from = None;
        while let Some(of) = partition::next_with_extents(view, from).await? {
            from = Some(of);
            if !partition::may_have_extents(view, of).await? && suspects.len() < SUSPECTS_MAX {
                suspects.insert(Suspect::Partition(of));
            }
        }
        Ok(suspects)
    }

    /// Looks at all objects.
    async fn objects(
        &self,
        view: &DbReader,
        depth: Depth,
        report: &mut Report,
        seen: &mut impl FnMut(),
    ) -> Result<BTreeSet<Suspect>, QueryError> {
        let mut suspects = BTreeSet::new();
        let mut after = None;
        while suspects.len() < SUSPECTS_MAX {
            let mut page = Vec::with_capacity(PAGE);
            let mut scan = view.scan_with_options(rows::objects(after), &scan_options()).await?;
            while page.len() < PAGE
                && let Some(row) = scan.next().await?
            {
                page.push(rows::decode_object_row(&row.key, &row.value)?.0);
            }
            drop(scan);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for object in &page {
                report.objects += 1;
                report.object_bytes += object.size;
            }
            let store = self.store.object_store().clone();
            let looks = page.into_iter().map(|object| {
                let store = store.clone();
                async move { (object.id, object::look(view, store.as_ref(), object.id, depth).await) }
            });
            let mut looks = stream::iter(looks).buffer_unordered(OBJECTS_AT_ONCE);
            while let Some((id, findings)) = looks.next().await {
                seen();
                if !findings?.is_empty() {
                    suspects.insert(Suspect::Object(id));
                }
            }
        }
        let mut scan = view.scan_with_options(rows::garbage(None), &scan_options()).await?;
        while let Some(row) = scan.next().await? {
            report.garbage += 1;
            report.garbage_bytes += rows::decode_garbage(&row.key, &row.value)?.0.size;
        }
        Ok(suspects)
    }

    /// Looks again at what seemed wrong, in a newer view, and reports what still is; what is right now is no suspect any
    /// more.
    async fn look_again(
        &self,
        suspects: &mut BTreeSet<Suspect>,
        depth: Depth,
        report: &mut Report,
    ) -> Result<(), QueryError> {
        let view = self.newest().await?;
        for suspect in std::mem::take(suspects) {
            let findings = match suspect {
                Suspect::Partition(of) => {
                    let looked = partition::look(&view, of).await?;
                    report.finding_count += looked.left_out;
                    looked.findings
                }
                Suspect::Object(id) => object::look(&view, self.store.object_store().as_ref(), id, depth).await?,
            };
            if !findings.is_empty() {
                suspects.insert(suspect);
                findings.into_iter().for_each(|finding| report.add(finding));
            }
        }
        self.done(view).await;
        Ok(())
    }
}
