//! YAML as a plain tree in which every value knows its line, so that an error found later can still point at it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Options, Spanned};

/// The way to a value: keys, and indexes of lists as decimal numbers.
pub(super) type Path = Vec<String>;

/// `a.b.0.c`, the form in which people see a path.
pub(super) fn dotted(path: &[String]) -> String {
    path.join(".")
}

/// A value and the line of every value inside it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The value itself.
    pub(super) value: Value,
    /// The line (from 1) of each value, and of each key where the value is on a later line.
    pub(super) lines: BTreeMap<Path, u64>,
}

/// Parses one YAML document; an empty one is an empty mapping.
pub(super) fn parse(text: &str) -> Result<Tree, serde_saphyr::Error> {
    let document: Option<Spanned<Node>> = serde_saphyr::from_str_with_options(text, options())?;
    let mut tree = Tree::default();
    tree.value = match document {
        None => Value::Object(Map::new()),
        Some(node) => lower(node, &mut Vec::new(), &mut tree.lines),
    };
    if tree.value.is_null() {
        tree.value = Value::Object(Map::new());
    }
    Ok(tree)
}

/// Parses the value of one key, as an environment variable or a flag has it.
pub(super) fn parse_value(text: &str) -> Result<Value, serde_saphyr::Error> {
    let node: Option<Spanned<Node>> = serde_saphyr::from_str_with_options(text, options())?;
    Ok(node.map_or(Value::Null, |node| lower(node, &mut Vec::new(), &mut BTreeMap::new())))
}

/// Errors come without a copy of the text around them: it may hold what is not to be printed.
fn options() -> Options {
    let mut options = Options::default();
    options.with_snippet = false;
    options
}

enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Mapping(Vec<(Spanned<String>, Spanned<Node>)>),
}

fn lower(node: Spanned<Node>, path: &mut Path, lines: &mut BTreeMap<Path, u64>) -> Value {
    note(path, node.referenced, lines);
    match node.value {
        Node::Scalar(value) => value,
        Node::List(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                path.push(index.to_string());
                list.push(lower(item, path, lines));
                path.pop();
            }
            Value::Array(list)
        }
        Node::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                path.push(key.value.clone());
                note(path, key.referenced, lines);
                map.insert(key.value, lower(value, path, lines));
                path.pop();
            }
            Value::Object(map)
        }
    }
}

/// The first line that is known for a path stays: the key's, where there is one.
fn note(path: &Path, at: Location, lines: &mut BTreeMap<Path, u64>) {
    if at != Location::UNKNOWN {
        lines.entry(path.clone()).or_insert(at.line());
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value, a list or a mapping")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Node::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            list.push(entry);
        }
        Ok(Node::Mapping(list))
    }
}
