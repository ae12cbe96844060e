//! The keys that exist, read off the JSON schema of [`Config`]: which are unknown, which is nearest to a wrong one,
//! what kind of value each takes, and between which bounds.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Config;
use super::tree::{Path, dotted};

/// How alike two keys must be, from 0 to 1, for one to be offered in place of the other.
const LIKENESS_MIN: f64 = 0.72;
/// How alike they must be for it to be offered before a key of the same name in another section.
const LIKENESS_SURE: f64 = 0.9;

/// The published JSON schema of the configuration.
pub(crate) fn schema() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<Config>().to_value()
}

/// The same schema with everything in place, so that it can be walked.
pub(super) struct Keys {
    root: Value,
}

/// What kind of value a key takes, as far as reading it from text needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text as it stands.
    Text,
    /// Anything else: the text is read as YAML.
    Yaml,
}

impl Keys {
    pub(super) fn new() -> Keys {
        let mut settings = SchemaSettings::draft2020_12().for_deserialize();
        settings.inline_subschemas = true;
        Keys { root: settings.into_generator().into_root_schema_for::<Config>().to_value() }
    }

    /// The kind of a key, or nothing when there is no such key.
    pub(super) fn kind(&self, path: &[String]) -> Option<Kind> {
        let schemas = self.at(path)?;
        let text = |schema: &&Value| {
            let of_type = |name: &str| match &schema["type"] {
                Value::String(one) => one == name,
                Value::Array(several) => several.iter().any(|one| one == name),
                _ => false,
            };
            of_type("string") || schema.get("const").is_some_and(Value::is_string)
        };
        Some(if schemas.iter().any(text) { Kind::Text } else { Kind::Yaml })
    }

    /// All paths in the value that are not keys.
    pub(super) fn unknown(&self, value: &Value) -> Vec<Path> {
        let mut found = Vec::new();
        unknown(&branches(&self.root), value, &mut Vec::new(), &mut found);
        found
    }

    /// All values that lie outside the bounds of their keys, with the bound in words.
    pub(super) fn out_of_bounds(&self, value: &Value) -> Vec<(Path, String)> {
        let mut found = Vec::new();
        bounds(&branches(&self.root), value, &mut Vec::new(), &mut found);
        found
    }

    /// The key to offer in place of one that does not exist: one of the same section that looks like it, or one of
    /// another section that has the same name.
    pub(super) fn nearest(&self, path: &[String]) -> Option<String> {
        let (last, section) = path.split_last()?;
        let siblings = self.at(section).map(|schemas| names(&schemas)).unwrap_or_default();
        let sibling = siblings
            .iter()
            .map(|name| (strsim::jaro_winkler(name, last), name))
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
            .max_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(likeness, name)| (likeness, dotted(&[section, std::slice::from_ref(name)].concat())));
        if let Some((_, name)) = sibling.as_ref().filter(|(likeness, _)| *likeness >= LIKENESS_SURE) {
            return Some(name.clone());
        }
        let mut all = Vec::new();
        every(&branches(&self.root), &mut Vec::new(), &mut all);
        let elsewhere = all.iter().find(|candidate| candidate.last() == Some(last)).map(|found| dotted(found));
        elsewhere.or(sibling.map(|(_, name)| name)).or_else(|| {
            let whole = dotted(path);
            all.iter()
                .map(|candidate| dotted(candidate))
                .map(|name| (strsim::jaro_winkler(&name, &whole), name))
                .filter(|(likeness, _)| *likeness >= LIKENESS_SURE)
                .max_by(|one, other| one.0.total_cmp(&other.0))
                .map(|(_, name)| name)
        })
    }

    /// The names in a section, for an error that has no better hint.
    pub(super) fn section(&self, path: &[String]) -> Vec<String> {
        self.at(path).map(|schemas| names(&schemas)).unwrap_or_default()
    }

    fn at(&self, path: &[String]) -> Option<Vec<&Value>> {
        let mut schemas = branches(&self.root);
        for segment in path {
            schemas = step(&schemas, segment)?;
        }
        Some(schemas)
    }
}

/// A schema and all its alternatives, as one flat list.
fn branches(schema: &Value) -> Vec<&Value> {
    let mut list = vec![schema];
    for keyword in ["anyOf", "oneOf", "allOf"] {
        if let Some(alternatives) = schema[keyword].as_array() {
            list.extend(alternatives.iter().flat_map(branches));
        }
    }
    list
}

/// The schemas of one key (or list item) of these schemas.
fn step<'a>(schemas: &[&'a Value], segment: &str) -> Option<Vec<&'a Value>> {
    let mut found = Vec::new();
    for schema in schemas {
        if let Some(next) = schema["properties"].get(segment) {
            found.extend(branches(next));
        } else if segment.parse::<usize>().is_ok() && schema["items"].is_object() {
            found.extend(branches(&schema["items"]));
        }
    }
    (!found.is_empty()).then_some(found)
}

fn names(schemas: &[&Value]) -> Vec<String> {
    schemas.iter().filter_map(|schema| schema["properties"].as_object()).flat_map(|map| map.keys().cloned()).collect()
}

fn unknown(schemas: &[&Value], value: &Value, path: &mut Path, found: &mut Vec<Path>) {
    let mut visit = |segment: String, child: &Value| {
        let next = step(schemas, &segment);
        path.push(segment);
        match next {
            Some(next) => unknown(&next, child, path, found),
            // A value where none can be is told by its type, not as an unknown key.
            None if names(schemas).is_empty() => {}
            None => found.push(path.clone()),
        }
        path.pop();
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, child)| visit(key.clone(), child)),
        Value::Array(list) if schemas.iter().any(|schema| schema["items"].is_object()) => {
            list.iter().enumerate().for_each(|(index, child)| visit(index.to_string(), child));
        }
        _ => {}
    }
}

fn bounds(schemas: &[&Value], value: &Value, path: &mut Path, found: &mut Vec<(Path, String)>) {
    let mut visit = |segment: String, child: &Value| {
        if let Some(next) = step(schemas, &segment) {
            path.push(segment);
            bounds(&next, child, path, found);
            path.pop();
        }
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, child)| visit(key.clone(), child)),
        Value::Array(list) => list.iter().enumerate().for_each(|(index, child)| visit(index.to_string(), child)),
        Value::Number(number) => {
            let limit = |keyword: &str| schemas.iter().find_map(|schema| schema[keyword].as_f64());
            let actual = number.as_f64().unwrap_or(f64::NAN);
            if let Some(min) = limit("minimum").filter(|min| actual < *min) {
                found.push((path.clone(), format!("is {number}, and must be at least {min}")));
            }
            if let Some(max) = limit("maximum").filter(|max| actual > *max) {
                found.push((path.clone(), format!("is {number}, and must be at most {max}")));
            }
        }
        Value::String(text) => {
            let limit = |keyword: &str| schemas.iter().find_map(|schema| schema[keyword].as_u64());
            let actual = text.chars().count() as u64;
            if limit("minLength").is_some_and(|min| actual < min) {
                found.push((path.clone(), "must not be empty".to_owned()));
            }
            if let Some(max) = limit("maxLength").filter(|max| actual > *max) {
                found.push((path.clone(), format!("is longer than {max} characters")));
            }
        }
        _ => {}
    }
}

fn every(schemas: &[&Value], path: &mut Path, found: &mut Vec<Path>) {
    for name in names(schemas) {
        let next = step(schemas, &name).unwrap_or_default();
        path.push(name);
        found.push(path.clone());
        every(&next, path, found);
        path.pop();
    }
}
