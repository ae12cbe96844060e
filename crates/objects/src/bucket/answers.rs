//! What S3 says of a bucket, as XML. Fields that are not known here are passed over. Pure.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::Setting;

/// Objects in these classes are not read at once.
const ARCHIVES: [&str; 3] = ["GLACIER", "DEEP_ARCHIVE", "GLACIER_DEEP_ARCHIVE"];

/// What a bucket's rules do to the objects under a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Rules that delete current objects.
    pub deletes: Vec<String>,
    /// Rules that move objects to where they cannot be read at once.
    pub archives: Vec<String>,
    /// After how many days uploads in parts that were not finished are given up.
    pub gives_up_uploads_days: Option<u32>,
    /// Whether old versions are deleted.
    pub deletes_old_versions: bool,
}

/// The four switches that keep the public out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PublicAccess {
    /// New public access lists are refused.
    pub block_public_acls: bool,
    /// Public access lists have no effect.
    pub ignore_public_acls: bool,
    /// New public policies are refused.
    pub block_public_policy: bool,
    /// Public policies have no effect.
    pub restrict_public_buckets: bool,
}

impl PublicAccess {
    /// All four are on.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.block_public_acls && self.ignore_public_acls && self.block_public_policy && self.restrict_public_buckets
    }
}

/// S3's code in an answer that says what went wrong.
pub(super) fn error_code(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Error {
        #[serde(rename = "Code")]
        code: String,
    }
    parse::<Error>(body, "Error").map(|error| error.code)
}

/// Whether a code of a 404 means that there is a bucket, and no such setting.
pub(super) fn means_not_set(code: &str) -> bool {
    matches!(
        code,
        "NoSuchLifecycleConfiguration"
            | "ServerSideEncryptionConfigurationNotFoundError"
            | "ObjectLockConfigurationNotFoundError"
            | "NoSuchPublicAccessBlockConfiguration"
    )
}

/// The body of a request that makes a bucket in a region.
pub(super) fn create_bucket(region: &str) -> String {
    format!(
        "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{}\
         </LocationConstraint></CreateBucketConfiguration>",
        quick_xml::escape::escape(region)
    )
}

pub(super) fn versioning(body: &str) -> Option<Setting<bool>> {
    #[derive(Deserialize)]
    struct Versioning {
        #[serde(rename = "Status")]
        status: Option<String>,
    }
    let versioning: Versioning = parse(body, "VersioningConfiguration")?;
    Some(versioning.status.map_or(Setting::NotSet, |status| Setting::Is(status == "Enabled")))
}

#[derive(Deserialize)]
struct Rules {
    #[serde(rename = "Rule", default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Rule {
    #[serde(rename = "ID")]
    id: Option<String>,
    status: String,
    prefix: Option<String>,
    filter: Option<Filter>,
    expiration: Option<Expiration>,
    transition: Vec<Transition>,
    noncurrent_version_expiration: Option<IgnoredAny>,
    abort_incomplete_multipart_upload: Option<Abort>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Filter {
    prefix: Option<String>,
    tag: Vec<IgnoredAny>,
    and: Option<Box<Filter>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Expiration {
    days: Option<u32>,
    date: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Transition {
    storage_class: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Abort {
    days_after_initiation: u32,
}

impl Filter {
    fn is_for_tags(&self) -> bool {
        !self.tag.is_empty() || self.and.as_ref().is_some_and(|and| and.is_for_tags())
    }

    fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref().or_else(|| self.and.as_ref()?.prefix())
    }
}

impl Rule {
    /// Whether it is for objects that begin with the prefix. Ours have no tags.
    fn is_for(&self, prefix: &str) -> bool {
        let from_filter = self.filter.as_ref().and_then(Filter::prefix);
        let own = from_filter.or(self.prefix.as_deref()).unwrap_or_default();
        let tagged = self.filter.as_ref().is_some_and(Filter::is_for_tags);
        self.status == "Enabled" && !tagged && (prefix.starts_with(own) || own.starts_with(prefix))
    }
}

pub(super) fn lifecycle(body: &str, prefix: &str) -> Option<Setting<Lifecycle>> {
    let rules: Rules = parse(body, "LifecycleConfiguration")?;
    let mut found = Lifecycle::default();
    for rule in rules.rules.into_iter().filter(|rule| rule.is_for(prefix)) {
        let name = rule.id.unwrap_or_else(|| "without a name".to_owned());
        if rule.expiration.is_some_and(|expiration| expiration.days.is_some() || expiration.date.is_some()) {
            found.deletes.push(name.clone());
        }
        if rule.transition.iter().any(|transition| ARCHIVES.contains(&transition.storage_class.as_str())) {
            found.archives.push(name);
        }
        found.deletes_old_versions |= rule.noncurrent_version_expiration.is_some();
        let days = rule.abort_incomplete_multipart_upload.map(|abort| abort.days_after_initiation);
        found.gives_up_uploads_days = match (found.gives_up_uploads_days, days) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    Some(Setting::Is(found))
}

pub(super) fn encryption(body: &str) -> Option<Setting<String>> {
    #[derive(Deserialize)]
    struct Encryption {
        #[serde(rename = "Rule")]
        rules: Vec<EncryptionRule>,
    }
    #[derive(Deserialize)]
    struct EncryptionRule {
        #[serde(rename = "ApplyServerSideEncryptionByDefault")]
        by_default: Option<ByDefault>,
    }
    #[derive(Deserialize)]
    struct ByDefault {
        #[serde(rename = "SSEAlgorithm")]
        algorithm: String,
    }
    let encryption: Encryption = parse(body, "ServerSideEncryptionConfiguration")?;
    let algorithm = encryption.rules.into_iter().find_map(|rule| rule.by_default).map(|found| found.algorithm);
    Some(algorithm.map_or(Setting::NotSet, Setting::Is))
}

pub(super) fn object_lock(body: &str) -> Option<Setting<Option<String>>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Lock {
        object_lock_enabled: Option<String>,
        rule: Option<LockRule>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct LockRule {
        default_retention: Option<Retention>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Retention {
        mode: String,
        days: Option<u32>,
        years: Option<u32>,
    }
    let lock: Lock = parse(body, "ObjectLockConfiguration")?;
    if lock.object_lock_enabled.as_deref() != Some("Enabled") {
        return Some(Setting::NotSet);
    }
    let retention = lock.rule.and_then(|rule| rule.default_retention).map(|retention| match retention {
        Retention { mode, days: Some(days), .. } => format!("{mode}, {days} days"),
        Retention { mode, years: Some(years), .. } => format!("{mode}, {years} years"),
        Retention { mode, .. } => mode,
    });
    Some(Setting::Is(retention))
}

pub(super) fn public_access(body: &str) -> Option<Setting<PublicAccess>> {
    parse(body, "PublicAccessBlockConfiguration").map(Setting::Is)
}

/// The document, if its root has this name: some stores answer every question about a bucket with a list of objects.
fn parse<T: DeserializeOwned>(body: &str, root: &str) -> Option<T> {
    let after = |open: &str| body.match_indices(open).map(|(at, _)| at + open.len()).next();
    let start = after(&format!("<{root}"))?;
    let is_root = body[..start].matches('<').count() == 1 + usize::from(body.trim_start().starts_with("<?"));
    let ends = body[start..].starts_with(['>', ' ', '/', '\n', '\r', '\t']);
    (is_root && ends).then(|| quick_xml::de::from_str(body).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    const SPACE: &str = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

    fn document(root: &str, inside: &str) -> String {
        format!("{HEAD}<{root} {SPACE}>{inside}</{root}>")
    }

    #[test]
    fn versioning_is_on_off_or_not_set() {
        let versioning = |inside: &str| versioning(&document("VersioningConfiguration", inside));
        assert_eq!(versioning("<Status>Enabled</Status>"), Some(Setting::Is(true)));
        assert_eq!(versioning("<Status>Suspended</Status>"), Some(Setting::Is(false)));
        assert_eq!(versioning(""), Some(Setting::NotSet));
        assert_eq!(super::versioning("<VersioningConfiguration/>"), Some(Setting::NotSet));
    }

    #[test]
    fn rules_count_when_they_are_on_and_for_our_objects() {
        let rule = |inside: &str| format!("<Rule><ID>r</ID>{inside}</Rule>");
        let read = |inside: &str, prefix: &str| match lifecycle(&document("LifecycleConfiguration", inside), prefix) {
            Some(Setting::Is(found)) => found,
            other => panic!("{other:?}"),
        };
        let on = "<Status>Enabled</Status>";
        let expires = "<Expiration><Days>30</Days></Expiration>";
        let deletes = |inside: &str, prefix: &str| !read(&rule(inside), prefix).deletes.is_empty();
        assert!(deletes(&format!("{on}{expires}<Filter/>"), "weir"));
        assert!(deletes(&format!("{on}{expires}<Prefix></Prefix>"), "weir"));
        assert!(deletes(&format!("{on}{expires}<Filter><Prefix>weir/data</Prefix></Filter>"), "weir"));
        assert!(deletes(&format!("{on}{expires}<Filter><And><Prefix>we</Prefix></And></Filter>"), "weir"));
        assert!(!deletes(&format!("{on}{expires}<Filter><Prefix>logs/</Prefix></Filter>"), "weir"));
        assert!(!deletes(&format!("{on}{expires}<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>"), "weir"));
        assert!(!deletes(&format!("<Status>Disabled</Status>{expires}"), "weir"));
        let marker = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
        assert!(!deletes(&format!("{on}{marker}"), "weir"));

        let abort = |days: u32| {
            let days = format!("<DaysAfterInitiation>{days}</DaysAfterInitiation>");
            rule(&format!("{on}<AbortIncompleteMultipartUpload>{days}</AbortIncompleteMultipartUpload>"))
        };
        let old = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>";
        let cold = "<Transition><Days>1</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>";
        let all = format!("{}{}{}", abort(7), abort(3), rule(&format!("{on}{old}{cold}")));
        let found = Lifecycle {
            deletes: vec![],
            archives: vec!["r".to_owned()],
            gives_up_uploads_days: Some(3),
            deletes_old_versions: true,
        };
        assert_eq!(read(&all, "weir"), found);
        assert_eq!(read("", "weir"), Lifecycle::default());
    }

    #[test]
    fn the_other_settings_are_read() {
        let rule = "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm>\
            </ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule>";
        let found = encryption(&document("ServerSideEncryptionConfiguration", rule));
        assert_eq!(found, Some(Setting::Is("aws:kms".to_owned())));

        let lock = |rule: &str| {
            let on = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>";
            object_lock(&document("ObjectLockConfiguration", &format!("{on}{rule}")))
        };
        assert_eq!(lock(""), Some(Setting::Is(None)));
        let retention = "<DefaultRetention><Mode>GOVERNANCE</Mode><Days>5</Days></DefaultRetention>";
        let found = lock(&format!("<Rule>{retention}</Rule>"));
        assert_eq!(found, Some(Setting::Is(Some("GOVERNANCE, 5 days".to_owned()))));

        let three = "<BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>\
            <BlockPublicPolicy>true</BlockPublicPolicy>";
        let blocked = |inside: &str| match public_access(&document("PublicAccessBlockConfiguration", inside)) {
            Some(Setting::Is(access)) => access.is_blocked(),
            other => panic!("{other:?}"),
        };
        assert!(!blocked(three));
        assert!(blocked(&format!("{three}<RestrictPublicBuckets>true</RestrictPublicBuckets>")));
    }

    #[test]
    fn an_answer_to_another_question_says_nothing() {
        let list = document("ListBucketResult", "<Name>b</Name>");
        assert_eq!(versioning(&list), None);
        assert_eq!(public_access(&list), None);
        assert_eq!(encryption("no XML"), None);
        let error = format!("{HEAD}<Error><Code>NoSuchBucket</Code><Message>m</Message></Error>");
        assert_eq!(error_code(&error).as_deref(), Some("NoSuchBucket"));
        assert_eq!(error_code(&list), None);
        assert!(create_bucket("eu-central-1").contains(">eu-central-1<"));
    }
}
