//! What a configuration key is: its type, its default, the values that it can have, and what it is for.

/// The type of a configuration's values, as Kafka's tools show it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    Text,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A 32-bit integer in this range.
    Int(i32, i32),
    /// A 64-bit integer in this range.
    Long(i64, i64),
    /// A number in this range.
    Double(f64, f64),
    /// A comma-separated list; of these words, or of anything when there are none.
    List(&'static [&'static str]),
}

impl ConfigType {
    /// The number of the type in DescribeConfigs.
    #[must_use]
    pub fn kafka_type(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text | Self::OneOf(_) => 2,
            Self::Int(..) => 3,
            Self::Long(..) => 5,
            Self::Double(..) => 6,
            Self::List(_) => 7,
        }
    }
}

/// One row of a table of configuration keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfigKey {
    /// The key.
    pub name: &'static str,
    /// The type of its values.
    pub kind: ConfigType,
    /// The value when nobody sets one; for a topic's key also when no broker default is set.
    pub default: &'static str,
    /// Of a topic's key: the broker's key that gives its default.
    pub synonym: Option<&'static str>,
    /// Whether it does something in this version. The others are accepted and reported, so that tools work.
    pub effective: bool,
    /// Whether it can only be set in the configuration file.
    pub read_only: bool,
    /// What it is for, with its unit.
    pub documentation: &'static str,
}

impl ConfigKey {
    /// Whether values can be added to it and taken away.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.kind, ConfigType::List(_))
    }

    /// Whether `value` is possible.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let name = self.name;
        let range = |ok: bool, from: &dyn std::fmt::Display, to: &dyn std::fmt::Display| {
            if ok { Ok(()) } else { Err(format!("'{name}' must be a number from {from} to {to}, not '{value}'")) }
        };
        if value.len() > VALUE_LEN_MAX {
            return Err(format!("the value of '{name}' has {} bytes; {VALUE_LEN_MAX} are allowed", value.len()));
        }
        match self.kind {
            ConfigType::Boolean if matches!(value, "true" | "false") => Ok(()),
            ConfigType::Boolean => Err(format!("'{name}' must be true or false, not '{value}'")),
            ConfigType::Text => Ok(()),
            ConfigType::OneOf(words) if words.contains(&value) => Ok(()),
            ConfigType::OneOf(words) => Err(format!("'{name}' must be one of {}, not '{value}'", words.join(", "))),
            ConfigType::Int(from, to) => {
                range(value.parse().is_ok_and(|number: i32| (from..=to).contains(&number)), &from, &to)
            }
            ConfigType::Long(from, to) => {
                range(value.parse().is_ok_and(|number: i64| (from..=to).contains(&number)), &from, &to)
            }
            ConfigType::Double(from, to) => {
                range(value.parse().is_ok_and(|number: f64| (from..=to).contains(&number)), &from, &to)
            }
            ConfigType::List([]) => Ok(()),
            ConfigType::List(words) => match items(value).find(|item| !words.contains(item)) {
                Some(item) => Err(format!("'{name}' is a list of {}; '{item}' is none of them", words.join(", "))),
                None => Ok(()),
            },
        }
    }
}

/// The longest value of any key.
const VALUE_LEN_MAX: usize = 16 * 1024;

/// The items of a list.
pub(crate) fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// `list` with those of `added` that are not in it yet.
pub(crate) fn append(list: &str, added: &str) -> String {
    let mut all: Vec<&str> = items(list).collect();
    for item in items(added) {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all.join(",")
}

/// `list` without those of `taken`.
pub(crate) fn subtract(list: &str, taken: &str) -> String {
    let taken: Vec<&str> = items(taken).collect();
    items(list).filter(|item| !taken.contains(item)).collect::<Vec<_>>().join(",")
}

/// Where a value comes from, as DescribeConfigs tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker while it runs.
    DynamicBroker,
    /// Set on all brokers while they run.
    DynamicCluster,
    /// The broker's configuration file.
    StaticBroker,
    /// Nobody set it.
    Default,
}

impl ConfigSource {
    /// The number of the source in DescribeConfigs.
    #[must_use]
    pub fn kafka_code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicCluster => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// The value of a key, and where it could come from.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigValue {
    /// The key.
    pub key: &'static ConfigKey,
    /// The value that holds.
    pub value: String,
    /// Where it comes from.
    pub source: ConfigSource,
    /// All places that give a value, the one that holds first: name there, value, source.
    pub synonyms: Vec<(&'static str, String, ConfigSource)>,
}

/// The broker's side of configuration: what the file says, and what was set while running.
#[derive(Debug, Clone, Copy)]
pub struct BrokerLayers<'a> {
    /// Set on this broker.
    pub broker: &'a crate::Configs,
    /// Set on all brokers.
    pub cluster: &'a crate::Configs,
    /// From the configuration file.
    pub file: &'a crate::Configs,
}

impl BrokerLayers<'_> {
    /// The values that the layers give to a key, the one that holds first.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = (&str, ConfigSource)> {
        [
            (self.broker, ConfigSource::DynamicBroker),
            (self.cluster, ConfigSource::DynamicCluster),
            (self.file, ConfigSource::StaticBroker),
        ]
        .into_iter()
        .filter_map(move |(configs, source)| Some((configs.get(name)?.as_str(), source)))
        .collect::<Vec<_>>()
        .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_and_shrink_by_items() {
        assert_eq!(append("delete", "compact"), "delete,compact");
        assert_eq!(append("delete, compact", "compact,delete"), "delete,compact");
        assert_eq!(append("", "a"), "a");
        assert_eq!(subtract("delete,compact", " delete "), "compact");
        assert_eq!(subtract("compact", "delete"), "compact");
        assert_eq!(subtract("compact", "compact"), "");
    }
}
