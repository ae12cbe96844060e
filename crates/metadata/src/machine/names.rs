//! What a topic may be called: Kafka's rules, since Kafka's clients and tools rely on them.

use super::Refusal;
use super::image::Image;

/// The longest name a topic may have.
const NAME_LEN_MAX: usize = 249;

/// Topics that Weir makes for itself.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// Whether the topic of this name is one of Weir's own.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Checks a topic's name on its own: 1 to 249 ASCII letters, digits, `.`, `_` and `-`, but not `.` or `..`.
///
/// # Errors
/// [`Refusal::InvalidTopicName`].
pub fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::InvalidTopicName(why));
    if name.is_empty() {
        return refuse("the topic's name is empty".into());
    }
    if name == "." || name == ".." {
        return refuse("a topic cannot be named '.' or '..'".into());
    }
    if name.len() > NAME_LEN_MAX {
        return refuse(format!("the topic's name has {} bytes; {NAME_LEN_MAX} are allowed", name.len()));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return refuse("a topic's name consists of ASCII letters, digits, '.', '_' and '-' only".into());
    }
    Ok(())
}

/// The name under which two topics collide, for names that can: metrics write `_` for `.`.
pub(crate) fn flat_name(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

/// The name of the topic that `name` would collide with.
pub(crate) fn collision<'a>(image: &'a Image, name: &str) -> Option<&'a str> {
    let id = image.by_flat_name.get(&flat_name(name)?)?;
    image.topics.get(id).map(|topic| &*topic.name)
}
