//! One object: it is in the store, whole, and says what the metadata says.

use object_store::ObjectStore;
use objects::format::Footer;
use objects::verify::{self, Damage};
use objects::{Path, keys};
use slatedb::DbReadOps;
use uuid::Uuid;

use super::{Depth, Finding, FindingKind};
use crate::handle::QueryError;
use crate::store::database::read_options;
use crate::store::rows;

/// What is wrong with an object; nothing when it has no row (any more).
pub(super) async fn look(
    view: &impl DbReadOps,
    store: &dyn ObjectStore,
    id: Uuid,
    depth: Depth,
) -> Result<Vec<Finding>, QueryError> {
    let Some(row) = view.get_with_options(rows::object_key(id), &read_options()).await? else { return Ok(Vec::new()) };
    let (object, live) = rows::decode_object(id, &row)?;
    let mut findings = Vec::new();
    let mut wrong = |kind, found: String| findings.push(Finding::new(kind, &object.key, found));
    let Ok(key) = Path::parse(&object.key) else {
        wrong(FindingKind::ObjectMissing, "this is no key".to_owned());
        return Ok(findings);
    };
    let footer = match verify::footer(store, &key, object.size).await {
        Ok(footer) => footer,
        Err(damage) => {
            wrong(kind_of(&damage), format!("{damage}; it should have {} bytes", object.size));
            return Ok(findings);
        }
    };
    if let Some(found) = is_another(&key, id, &footer) {
        wrong(FindingKind::ObjectFooter, found);
    }
    let mut matching = 0_u32;
    for extent in &footer.extents {
        let of = extent.topic_partition;
        let key = rows::extent_of(of, extent.end_offset);
        let Some(row) = view.get_with_options(&key, &read_options()).await? else { continue };
        let known = rows::decode_extent(&key, &row)?;
        if known.object != id {
            continue;
        }
        matching += 1;
        if known != *extent {
            let found =
                format!("offsets {} to {} of {of}: {known:?}, not {extent:?}", extent.base_offset, extent.end_offset);
            wrong(FindingKind::ExtentDiffers, found);
        }
    }
    if matching != live {
        let found = format!("{live} of its extents are part of the log by its row, {matching} by its footer");
        wrong(FindingKind::Count, found);
    }
    if depth == Depth::Full {
        for damage in verify::contents(store, &key, &footer).await {
            wrong(kind_of(&damage), damage.to_string());
        }
    }
    Ok(findings)
}

/// What the footer says of another object than the key.
fn is_another(key: &Path, id: Uuid, footer: &Footer) -> Option<String> {
    let named = match keys::parse(key) {
        keys::Kind::Data { journal, from, id: of_key, .. } => {
            (footer.journal, footer.from, of_key) == (journal, from, footer.object)
        }
        _ => false,
    };
    let same = named && footer.object == id;
    (!same).then(|| format!("it is that of object {}, journal {}, from {}", footer.object, footer.journal, footer.from))
}

fn kind_of(damage: &Damage) -> FindingKind {
    match damage {
        Damage::Missing => FindingKind::ObjectMissing,
        Damage::Size { .. } => FindingKind::ObjectSize,
        Damage::Footer(_) => FindingKind::ObjectFooter,
        Damage::Extent { .. } => FindingKind::ObjectContents,
        Damage::Unreadable(_) => FindingKind::ObjectUnreadable,
    }
}
