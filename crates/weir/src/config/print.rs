//! A configuration as people see it: every effective value with its source. Secrets show where they lie, which is
//! all that a configuration knows of them.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::Loaded;
use super::load::Origin;
use super::tree::{Path, dotted};

/// One effective value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Effective {
    /// The whole key.
    pub(crate) key: String,
    /// The value that counts.
    pub(crate) value: Value,
    /// `default`, `file:LINE`, `env:NAME` or `flag`.
    pub(crate) source: String,
}

/// All values, in the order of their keys.
pub(crate) fn effective(loaded: &Loaded) -> Result<Vec<Effective>, serde_json::Error> {
    let value = serde_json::to_value(&loaded.config)?;
    let mut list = Vec::new();
    leaves(&value, &mut Vec::new(), &mut |path, value| {
        let source = source(&loaded.origin(path));
        list.push(Effective { key: dotted(path), value: value.clone(), source });
    });
    Ok(list)
}

/// The same as YAML that can be used as a configuration file, each value with its source as a comment.
pub(crate) fn yaml(loaded: &Loaded) -> Result<String, serde_json::Error> {
    let value = serde_json::to_value(&loaded.config)?;
    let mut out = String::new();
    let mut source_of = |path: &[String]| source(&loaded.origin(path));
    write_value(&mut out, &value, &mut Vec::new(), 0, &mut source_of);
    Ok(out)
}

/// Only what somebody has set, as a document that can be a configuration file.
pub(crate) fn chosen(loaded: &Loaded) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(&loaded.config)?;
    prune(&mut value, &mut Vec::new(), &|path| loaded.origin(path) == Origin::Default);
    Ok(value)
}

/// Takes away defaults, nulls, and mappings that are empty then.
fn prune(value: &mut Value, path: &mut Path, is_default: &dyn Fn(&[String]) -> bool) {
    match value {
        Value::Object(map) => map.retain(|key, child| {
            path.push(key.clone());
            prune(child, path, is_default);
            let empty = child.is_null() || child.as_object().is_some_and(serde_json::Map::is_empty);
            let kept = !empty && (child.is_object() || !is_default(path));
            path.pop();
            kept
        }),
        // Items keep their places; what was not set inside them goes.
        Value::Array(list) => list.iter_mut().enumerate().for_each(|(index, child)| {
            path.push(index.to_string());
            prune(child, path, is_default);
            path.pop();
        }),
        _ => {}
    }
}

fn source(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::File(0) => "file".to_owned(),
        Origin::File(line) => format!("file:{line}"),
        Origin::Environment(name) => format!("env:{name}"),
        Origin::Flag => "flag".to_owned(),
    }
}

fn leaves(value: &Value, path: &mut Path, found: &mut dyn FnMut(&[String], &Value)) {
    let mut visit = |segment: String, child: &Value| {
        path.push(segment);
        leaves(child, path, found);
        path.pop();
    };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(key, child)| visit(key.clone(), child)),
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(index, child)| visit(index.to_string(), child));
        }
        _ => found(path, value),
    }
}

/// Writes block YAML. Scalars are written as JSON, which YAML reads as they are.
fn write_value(
    out: &mut String,
    value: &Value,
    path: &mut Path,
    indent: usize,
    source_of: &mut dyn FnMut(&[String]) -> String,
) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, child)| (key.clone(), child)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(index, child)| (index.to_string(), child)).collect(),
        _ => return,
    };
    let list = value.is_array();
    for (segment, child) in entries {
        let head = if list { "-".to_owned() } else { format!("{segment}:") };
        path.push(segment);
        let inside = match child {
            Value::Object(map) => !map.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => false,
        };
        // Writing to a String cannot fail.
        let _ = if inside {
            writeln!(out, "{:indent$}{head}", "")
        } else {
            writeln!(out, "{:indent$}{head} {child}  # {}", "", source_of(path))
        };
        if inside {
            write_value(out, child, path, indent + 2, source_of);
        }
        path.pop();
    }
}
