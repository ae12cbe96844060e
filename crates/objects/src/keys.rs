//! Where things lie in the store: pure, and known to nobody else.
//!
//! A lister can classify every key without asking the metadata: [`parse`] turns any path into a [`Kind`]. Keys of data
//! objects spread over 256 prefixes and carry a unique id, so that none is ever used twice. All keys are relative to the
//! store URL's own prefix, which [`crate::Store`] applies.
//!
//! ```text
//! <cluster>/data/<2 hex of a hash>/<journal>-<from position>-<unique id>    data objects
//! <cluster>/meta/…                                                          the metadata database and its election
//! preflight/<run>/…                                                         probes, deleted when the probing ends
//! ```

use object_store::path::Path;
use records::{JournalId, Position};
use uuid::Uuid;

const DATA: &str = "data";
const METADATA: &str = "meta";
const PREFLIGHT: &str = "preflight";

/// The longest name a cluster may have.
pub const CLUSTER_NAME_LEN_MAX: usize = 64;

/// What a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A data object.
    Data {
        /// The cluster it belongs to.
        cluster: String,
        /// The journal whose appends it holds.
        journal: JournalId,
        /// The first journal position it holds.
        from: Position,
        /// The object's unique id.
        id: Uuid,
    },
    /// Part of a cluster's metadata: the database, or what its election needs.
    Metadata {
        /// The cluster it belongs to.
        cluster: String,
    },
    /// A probe of the pre-flight. One that is left over may be deleted when it is a day old.
    Preflight,
    /// Not ours: never touched.
    Unknown,
}

/// Whether `name` can name a cluster: 1 to 64 letters, digits, `-`, `_` and `.`, neither starting with a dot nor
/// `preflight`, which names the probes.
#[must_use]
pub fn is_cluster_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= CLUSTER_NAME_LEN_MAX
        && !name.starts_with('.')
        && name != PREFLIGHT
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The key of a data object.
///
/// # Panics
/// When `cluster` is not a cluster name: the configuration is checked with [`is_cluster_name`].
#[must_use]
pub fn data_key(cluster: &str, journal: JournalId, from: Position, id: Uuid) -> Path {
    assert!(is_cluster_name(cluster), "a cluster's name is checked where it enters");
    let name = format!("{journal}-{from}-{}", id.simple());
    Path::from_iter([cluster, DATA, &spread(&name), &name])
}

/// The folder of a cluster's data objects.
///
/// # Panics
/// As [`data_key`].
#[must_use]
pub fn data_path(cluster: &str) -> Path {
    assert!(is_cluster_name(cluster), "a cluster's name is checked where it enters");
    Path::from_iter([cluster, DATA])
}

/// The folder of a cluster's metadata.
///
/// # Panics
/// As [`data_key`].
#[must_use]
pub fn metadata_path(cluster: &str) -> Path {
    assert!(is_cluster_name(cluster), "a cluster's name is checked where it enters");
    Path::from_iter([cluster, METADATA])
}

/// The folder of one pre-flight's probes.
#[must_use]
pub(crate) fn preflight_path(run: Uuid) -> Path {
    Path::from_iter([PREFLIGHT.to_owned(), run.simple().to_string()])
}

/// What `key` is. Total: a key that differs in anything from what this module makes is [`Kind::Unknown`].
#[must_use]
pub fn parse(key: &Path) -> Kind {
    let mut parts = key.as_ref().split('/');
    let Some(cluster) = parts.next() else { return Kind::Unknown };
    if cluster == PREFLIGHT {
        return if parts.next().is_some() { Kind::Preflight } else { Kind::Unknown };
    }
    if !is_cluster_name(cluster) {
        return Kind::Unknown;
    }
    match parts.next() {
        Some(DATA) => {
            let (Some(hash), Some(name), None) = (parts.next(), parts.next(), parts.next()) else {
                return Kind::Unknown;
            };
            parse_data(cluster, hash, name).unwrap_or(Kind::Unknown)
        }
        Some(METADATA) if parts.next().is_some() => Kind::Metadata { cluster: cluster.to_owned() },
        _ => Kind::Unknown,
    }
}

fn parse_data(cluster: &str, hash: &str, name: &str) -> Option<Kind> {
    let mut fields = name.split('-');
    let journal = JournalId(fields.next()?.parse().ok()?);
    let from = Position(fields.next()?.parse().ok()?);
    let id = Uuid::try_parse(fields.next()?).ok()?;
    // One thing has one key: other spellings of the same numbers, or of the hash, are not ours.
    let canonical = format!("{journal}-{from}-{}", id.simple()) == name && spread(name) == hash;
    (canonical && fields.next().is_none()).then(|| Kind::Data { cluster: cluster.to_owned(), journal, from, id })
}

fn spread(name: &str) -> String {
    format!("{:02x}", crc32c::crc32c(name.as_bytes()) & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_data_key_is_read_back(cluster in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", journal: u64, from: u64, id: u128) {
            prop_assume!(is_cluster_name(&cluster));
            let id = Uuid::from_u128(id);
            let key = data_key(&cluster, JournalId(journal), Position(from), id);
            prop_assert!(key.prefix_matches(&data_path(&cluster)));
            prop_assert_eq!(parse(&key), Kind::Data { cluster, journal: JournalId(journal), from: Position(from), id });
        }

        #[test]
        fn only_what_we_make_is_data(text in "([a-f0-9-]{1,6}/){0,2}(data|meta|c1)/[a-f0-9]{2}/[0-9+-]{1,9}-[0-9]{1,3}-[0-9a-fA-F-]{30,36}") {
            let key = Path::from(text);
            if let Kind::Data { cluster, journal, from, id } = parse(&key) {
                prop_assert_eq!(data_key(&cluster, journal, from, id), key);
            }
        }
    }

    #[test]
    fn one_spelling_only() {
        let key = data_key("c1", JournalId(7), Position(4096), Uuid::from_u128(0xab));
        let Kind::Data { .. } = parse(&key) else { panic!("{key} is a data key") };
        let text = key.to_string();
        for other in [
            text.replace("7-4096", "07-4096"),
            text.replace("7-4096", "+7-4096"),
            text.to_uppercase(),
            format!("{text}-1"),
            format!("{text}/1"),
            text.replace("c1/", "c1/x/"),
            text.replace("c1/", ""),
        ] {
            assert_eq!(parse(&Path::from(other.clone())), Kind::Unknown, "{other}");
        }
        let hash = text.split('/').nth(2).unwrap();
        let moved = if hash == "00" {
            text.replacen("/00/", "/01/", 1)
        } else {
            text.replacen(&format!("/{hash}/"), "/00/", 1)
        };
        assert_eq!(parse(&Path::from(moved)), Kind::Unknown);
    }

    #[test]
    fn the_rest_is_told_apart() {
        assert_eq!(parse(&Path::from("c1/meta/manifest/1.manifest")), Kind::Metadata { cluster: "c1".into() });
        assert_eq!(parse(&metadata_path("c1").join("leader")), Kind::Metadata { cluster: "c1".into() });
        assert_eq!(parse(&preflight_path(Uuid::nil()).join("create-0")), Kind::Preflight);
        for unknown in
            ["", "c1", "c1/meta", "c1/data", "c1/data/aa", "c1/other/x", "preflight", ".hidden/meta/x", "a b/meta/x"]
        {
            assert_eq!(parse(&Path::from(unknown)), Kind::Unknown, "{unknown}");
        }
    }

    #[test]
    fn keys_spread_over_prefixes() {
        let prefixes: std::collections::BTreeSet<String> = (0..2000u64)
            .map(|n| data_key("c", JournalId(1), Position(n << 26), Uuid::from_u128(u128::from(n))))
            .map(|key| key.as_ref().split('/').nth(2).unwrap().to_owned())
            .collect();
        assert!(prefixes.len() > 200, "{}", prefixes.len());
    }
}
