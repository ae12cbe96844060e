//! From a file, the environment and flags to a checked [`Config`] that knows where each value came from.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::Config;
use super::check;
use super::keys::{Keys, Kind};
use super::memory;
use super::secret::SECRETS;
use super::tree::{self, Path, dotted};

/// The prefix of environment variables that set keys.
const PREFIX: &str = "WEIR__";

/// What a configuration is made from; everything is given, so that loading is a pure function.
#[derive(Debug, Default)]
pub(crate) struct Input<'a> {
    /// The file's name, for messages.
    pub(crate) name: &'a str,
    /// The file's text.
    pub(crate) text: &'a str,
    /// The environment: `WEIR__SECTION__KEY` counts, everything else does not.
    pub(crate) environment: Vec<(String, String)>,
    /// `SECTION.KEY=VALUE`, as `--set` takes it.
    pub(crate) sets: &'a [String],
    /// The memory in bytes that the process may use: some defaults follow from it.
    pub(crate) memory_bytes: u64,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// The file, at this line (0 when it is not known).
    File(u64),
    /// This environment variable.
    Environment(String),
    /// A flag.
    Flag,
}

/// A configuration, and where its values came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The configuration.
    pub(crate) config: Config,
    pub(super) origins: BTreeMap<Path, Origin>,
}

impl Loaded {
    /// Where the value at a path came from.
    pub(super) fn origin(&self, path: &[String]) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }
}

/// Why a configuration cannot be used: every reason that was found, each with its place.
#[derive(Debug)]
pub(crate) struct ConfigError {
    /// One sentence each.
    pub(crate) problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl From<String> for ConfigError {
    fn from(problem: String) -> ConfigError {
        ConfigError { problems: vec![problem] }
    }
}

/// Reads, overlays and checks. Nothing outside the input is looked at.
pub(crate) fn load(input: &Input<'_>) -> Result<Loaded, ConfigError> {
    let keys = Keys::new();
    let mut layers = Layers { keys: &keys, file: input.name, value: Value::Null, origins: BTreeMap::new() };
    layers.file(input)?;
    layers.environment(input)?;
    layers.flags(input)?;
    layers.finish(input.memory_bytes)
}

/// The values so far, and where each came from.
struct Layers<'a> {
    keys: &'a Keys,
    file: &'a str,
    value: Value,
    origins: BTreeMap<Path, Origin>,
}

impl Layers<'_> {
    fn file(&mut self, input: &Input<'_>) -> Result<(), ConfigError> {
        let parsed = tree::parse(input.text).map_err(|error| {
            let line = error.location().map_or(0, |at| at.line());
            format!("{}: not valid YAML: {error}", place(input.name, line))
        })?;
        if !parsed.value.is_object() {
            return Err(format!("{}: must be a mapping of sections, such as `version: 1`", input.name).into());
        }
        self.origins = parsed.lines.into_iter().map(|(path, line)| (path, Origin::File(line))).collect();
        self.value = parsed.value;
        let unknown = self.keys.unknown(&self.value);
        if !unknown.is_empty() {
            return Err(ConfigError { problems: unknown.iter().map(|path| self.unknown(path)).collect() });
        }
        Ok(())
    }

    fn environment(&mut self, input: &Input<'_>) -> Result<(), ConfigError> {
        let mut variables: Vec<_> =
            input.environment.iter().filter(|(name, _)| name.starts_with(PREFIX)).cloned().collect();
        // Shorter names first, so that a whole list may be given and then one of its items.
        variables.sort();
        for (name, text) in variables {
            let path: Path = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
            self.set(&path, &text, Origin::Environment(name.clone()), &name)?;
        }
        Ok(())
    }

    fn flags(&mut self, input: &Input<'_>) -> Result<(), ConfigError> {
        for set in input.sets {
            let (key, text) = set
                .split_once('=')
                .ok_or_else(|| format!("--set {set}: must be KEY=VALUE, such as topics.num_partitions=4"))?;
            let path: Path = key.trim().split('.').map(str::to_owned).collect();
            self.set(&path, text, Origin::Flag, &format!("--set {key}"))?;
        }
        Ok(())
    }

    /// Puts one value at its place. `at` names where it comes from, for messages.
    fn set(&mut self, path: &Path, text: &str, origin: Origin, at: &str) -> Result<(), ConfigError> {
        let value = match self.keys.kind(path) {
            None => return Err(self.explain(at, path).into()),
            Some(Kind::Text) => Value::String(text.to_owned()),
            Some(Kind::Yaml) => tree::parse_value(text).map_err(|_| format!("{at}: the value is not valid YAML"))?,
        };
        self.origins.retain(|known, _| !known.starts_with(path));
        attribute(&value, &mut path.clone(), &origin, &mut self.origins);
        insert(&mut self.value, path, value).map_err(|problem| format!("{at}: {problem}"))?;
        Ok(())
    }

    fn finish(mut self, memory_bytes: u64) -> Result<Loaded, ConfigError> {
        // Sections with required keys exist from here on, so that what is missing is the key, with its whole name.
        if let Value::Object(map) = &mut self.value {
            for section in ["broker", "store", "staging"] {
                map.entry(section).or_insert_with(|| Value::Object(Map::new()));
            }
        }
        memory::fill(&mut self.value, memory_bytes);
        let outside = self.keys.out_of_bounds(&self.value);
        if !outside.is_empty() {
            let tell = |(path, problem): &(Path, String)| format!("{}: `{}` {problem}", self.place(path), dotted(path));
            return Err(ConfigError { problems: outside.iter().map(tell).collect() });
        }
        let config: Config = serde_path_to_error::deserialize(&self.value).map_err(|error| self.wrong_type(&error))?;
        let tell = |(path, problem): (Path, String)| format!("{}: `{}` {problem}", self.place(&path), dotted(&path));
        let problems: Vec<String> = check::check(&config).into_iter().map(tell).collect();
        if problems.is_empty() { Ok(Loaded { config, origins: self.origins }) } else { Err(ConfigError { problems }) }
    }

    fn unknown(&self, path: &[String]) -> String {
        self.explain(&self.place(path), path)
    }

    fn explain(&self, at: &str, path: &[String]) -> String {
        let key = dotted(path);
        let hint = match self.keys.nearest(path) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => {
                // The first part that does not exist, and what stands beside it.
                let known = (0..path.len()).rev().find(|length| self.keys.kind(&path[..*length]).is_some());
                let section = &path[..known.unwrap_or(0)];
                let names = self.keys.section(section).join(", ");
                let of = if section.is_empty() { "at the top".to_owned() } else { format!("in `{}`", dotted(section)) };
                format!("the keys {of} are: {names}")
            }
        };
        format!("{at}: unknown key `{key}`; {hint}")
    }

    /// The error of serde in our words: the whole key, its place, and never the value of a secret.
    fn wrong_type(&self, error: &serde_path_to_error::Error<serde_json::Error>) -> ConfigError {
        let mut path: Path = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                _ => None,
            })
            .collect();
        let text = error.inner().to_string();
        if let Some(field) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            path.push(field.to_owned());
            let key = dotted(&path);
            let variable = format!("{PREFIX}{}", path.join("__").to_ascii_uppercase());
            return format!("{}: `{key}` is missing; set it here, or as {variable}", self.file).into();
        }
        let secret = path.iter().any(|key| SECRETS.contains(&key.as_str()));
        let problem = if secret {
            "must be `{file: PATH}` or `{env: NAME}`: a secret is never written into a configuration".to_owned()
        } else {
            format!("is wrong: {text}")
        };
        format!("{}: `{}` {problem}", self.place(&path), dotted(&path)).into()
    }

    /// Where a value came from, or else the section that it is missing in.
    fn place(&self, path: &[String]) -> String {
        let origin = (1..=path.len()).rev().find_map(|length| self.origins.get(&path[..length]));
        describe(self.file, origin.unwrap_or(&Origin::Default))
    }
}

/// Where a value came from, as the beginning of a message.
fn describe(file: &str, origin: &Origin) -> String {
    match origin {
        Origin::File(line) => place(file, *line),
        Origin::Environment(name) => name.clone(),
        Origin::Flag => "--set".to_owned(),
        Origin::Default => file.to_owned(),
    }
}

fn place(file: &str, line: u64) -> String {
    if line == 0 { file.to_owned() } else { format!("{file}:{line}") }
}

/// Notes the origin of a value and of every value inside it.
fn attribute(value: &Value, path: &mut Path, origin: &Origin, origins: &mut BTreeMap<Path, Origin>) {
    origins.insert(path.clone(), origin.clone());
    let mut visit = |segment: String, child: &Value| {
        path.push(segment);
        attribute(child, path, origin, origins);
        path.pop();
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, child)| visit(key.clone(), child)),
        Value::Array(list) => list.iter().enumerate().for_each(|(index, child)| visit(index.to_string(), child)),
        _ => {}
    }
}

fn insert(root: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let mut at = root;
    for segment in path {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        at = match at {
            Value::Object(map) => map.entry(segment.clone()).or_insert(Value::Null),
            Value::Array(list) => {
                let length = list.len();
                let index: usize = segment.parse().map_err(|_| format!("`{segment}` is not a place in a list"))?;
                list.get_mut(index).ok_or_else(|| format!("the list has {length} items, and none at place {index}"))?
            }
            _ => return Err(format!("`{segment}` lies inside a plain value")),
        };
    }
    *at = value;
    Ok(())
}
