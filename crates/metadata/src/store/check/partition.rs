//! One partition's extents: contiguous from the log start to the frontier, each in an object that there is.

use std::collections::BTreeSet;

use records::{Offset, TopicPartition};
use slatedb::DbReadOps;

use super::{FINDINGS_MAX, Finding, FindingKind};
use crate::handle::QueryError;
use crate::store::database::{read_options, scan_options};
use crate::store::rows;

/// Partitions in the order of their keys, after one.
pub(super) async fn page(
    view: &impl DbReadOps,
    after: Option<TopicPartition>,
    most: usize,
) -> Result<Vec<TopicPartition>, QueryError> {
    let mut scan = view.scan_with_options(rows::partitions(after), &scan_options()).await?;
    let mut page = Vec::new();
    while page.len() < most
        && let Some(row) = scan.next().await?
    {
        page.push(rows::partition_of(&row.key)?);
    }
    Ok(page)
}

/// The next partition that has an extent, also one that there is not.
pub(super) async fn next_with_extents(
    view: &impl DbReadOps,
    after: Option<TopicPartition>,
) -> Result<Option<TopicPartition>, QueryError> {
    let mut scan = view.scan_with_options(rows::extents_after(after), &scan_options()).await?;
    Ok(match scan.next().await? {
        Some(row) => Some(rows::decode_extent(&row.key, &row.value)?.topic_partition),
        None => None,
    })
}

/// Whether there is such a partition, or its topic is being deleted.
pub(super) async fn may_have_extents(view: &impl DbReadOps, of: TopicPartition) -> Result<bool, QueryError> {
    for key in [rows::partition_key(of), rows::deleted_key(of.topic)] {
        if view.get_with_options(key, &read_options()).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What was seen of a partition.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// How many extents it has.
    pub(super) extents: u64,
    /// What is wrong, up to as many as a report lists.
    pub(super) findings: Vec<Finding>,
    /// How much more is wrong.
    pub(super) left_out: u64,
}

/// How many extents it has, and what is wrong with them.
pub(super) async fn look(view: &impl DbReadOps, of: TopicPartition) -> Result<Looked, QueryError> {
    let (mut findings, mut left_out) = (Vec::new(), 0_u64);
    let mut wrong = |kind, found: String| match findings.len() {
        FINDINGS_MAX => left_out += 1,
        _ => findings.push(Finding::new(kind, of, found)),
    };
    let key = rows::partition_key(of);
    let Some(row) = view.get_with_options(&key, &read_options()).await? else {
        if has_extents(view, of).await? && !may_have_extents(view, of).await? {
            wrong(FindingKind::ExtentMisplaced, "it has extents, and there is no such partition".to_owned());
        }
        return Ok(Looked { findings, ..Looked::default() });
    };
    let state = rows::partition_state(&key, &row)?;
    let trimmed = view.get_with_options(rows::trim_key(of), &read_options()).await?.is_some();
    // What was lost left holes, which an epoch marks.
    let after_loss: BTreeSet<Offset> =
        state.epochs.iter().filter(|epoch| epoch.after_loss).map(|epoch| epoch.start).collect();
    let (mut at, mut count, mut bytes) = (state.log_start, 0, 0_u64);
    let mut scan = view.scan_with_options(rows::extents(of, Offset(0), Offset(i64::MAX)), &scan_options()).await?;
    while let Some(row) = scan.next().await? {
        let extent = rows::decode_extent(&row.key, &row.value)?;
        let (base, end) = (extent.base_offset, extent.end_offset);
        count += 1;
        bytes = bytes.saturating_add(extent.len);
        if view.get_with_options(rows::object_key(extent.object), &read_options()).await?.is_none() {
            let found = format!("offsets {base} to {end} lie in object {}, which has no row", extent.object);
            wrong(FindingKind::ExtentWithoutObject, found);
        }
        if end <= state.log_start {
            if !trimmed {
                wrong(FindingKind::ExtentMisplaced, format!("offsets {base} to {end} are below the log start"));
            }
            continue;
        }
        if base > at && !after_loss.contains(&base) {
            wrong(FindingKind::Gap, format!("offsets {at} to {base} are in no extent"));
        } else if base < at && at > state.log_start {
            wrong(FindingKind::ExtentMisplaced, format!("offsets {base} to {at} are in two extents"));
        }
        at = end;
    }
    if at < state.frontier && !after_loss.contains(&state.frontier) {
        wrong(FindingKind::Gap, format!("offsets {at} to {} are in no extent", state.frontier));
    } else if at > state.frontier && at > state.log_start {
        wrong(FindingKind::ExtentMisplaced, format!("extents reach to {at}, the frontier is {}", state.frontier));
    }
    if !rows::is_uncounted(&key, &row)? && state.bytes != bytes {
        wrong(FindingKind::Count, format!("it says that it has {} bytes, and has {bytes}", state.bytes));
    }
    Ok(Looked { extents: count, findings, left_out })
}

async fn has_extents(view: &impl DbReadOps, of: TopicPartition) -> Result<bool, QueryError> {
    let mut scan = view.scan_with_options(rows::extents(of, Offset(0), Offset(i64::MAX)), &scan_options()).await?;
    Ok(scan.next().await?.is_some())
}
