//! What is written: JSON in the order of Go's types, two spaces a level, or YAML after `---`.

use std::path::Path;

use bulla::manifest::Tree;
use bulla::manifest::emit;
use zeroize::Zeroizing;

use crate::cli::KubesealArgs;
use crate::failure::{Failure, Result, printable};
use crate::{files, output as say};

/// How objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

/// The format that is asked for: the name of the file that is written counts before `-o`.
pub fn format(args: &KubesealArgs) -> Result<Format> {
    let asked = match args.format.to_ascii_lowercase().as_str() {
        "json" | "" => Format::Json,
        "yaml" => Format::Yaml,
        _ => return Err(Failure::new(format!("unsupported output format: {}", printable(&args.format)))),
    };
    let yaml = args.sealed_secret_file.as_deref().is_some_and(is_yaml_name);
    Ok(if yaml { Format::Yaml } else { asked })
}

fn is_yaml_name(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "yaml" || end == "yml")
}

/// Objects, one after the other.
pub fn text(objects: Vec<Tree>, format: Format) -> Zeroizing<String> {
    let texts: Vec<Zeroizing<String>> = objects
        .into_iter()
        .map(|object| match format {
            Format::Json => html_safe(emit::json(&[in_order(object, ROOT)])),
            Format::Yaml => emit::yaml(&[object]),
        })
        .collect();
    let mark = if format == Format::Yaml { "---\n" } else { "" };
    let mut all = Zeroizing::new(String::with_capacity(texts.iter().map(|text| text.len() + mark.len()).sum()));
    for text in &texts {
        all.push_str(mark);
        all.push_str(text);
    }
    all
}

/// Writes to the file of `-w`, whole or not at all, or to standard output. What is `private` is for the owner's eyes alone.
pub fn write(args: &KubesealArgs, bytes: &[u8], private: bool) -> Result<()> {
    let Some(path) = &args.sealed_secret_file else { return say::data(bytes) };
    match files::destination(path)? {
        files::Destination::New if private => files::create_private(path, bytes),
        destination => files::write(path, &destination, bytes),
    }
}

/// The order of members in a mapping, and for some of them that of their own members. Those without a place come last.
struct Order(&'static [&'static str], &'static [(&'static str, Order)]);

const METADATA: Order = Order(
    &[
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ],
    &[],
);
const TEMPLATE: Order = Order(&["metadata", "type", "immutable", "data"], &[("metadata", METADATA)]);
const SPEC: Order = Order(&["template", "data", "encryptedData"], &[("template", TEMPLATE)]);
const ROOT: Order = Order(
    &["kind", "apiVersion", "metadata", "spec", "immutable", "data", "stringData", "type", "status"],
    &[("metadata", METADATA), ("spec", SPEC)],
);

fn in_order(tree: Tree, order: Order) -> Tree {
    let Tree::Map(mut members) = tree else { return tree };
    let Order(names, within) = order;
    let place = |key: &str| names.iter().position(|name| *name == key).unwrap_or(names.len());
    members.sort_by_key(|(key, _)| place(key));
    let inner = |key: &str| within.iter().find(|(name, _)| *name == key).map(|(_, order)| Order(order.0, order.1));
    Tree::Map(
        members
            .into_iter()
            .map(|(key, value)| match inner(&key) {
                Some(order) => (key, in_order(value, order)),
                None => (key, value),
            })
            .collect(),
    )
}

/// As Go's encoder has it: what a browser could take for markup is escaped.
fn html_safe(text: Zeroizing<String>) -> Zeroizing<String> {
    if !text.contains(['<', '>', '&']) {
        return text;
    }
    let more = text.bytes().filter(|byte| matches!(byte, b'<' | b'>' | b'&')).count() * 5;
    let mut safe = Zeroizing::new(String::with_capacity(text.len() + more));
    for c in text.chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_the_order_of_gos_types() {
        let value = serde_json::json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": {"annotations": {"b": "<a&b>"}, "name": "n", "namespace": "s"},
            "spec": {"encryptedData": {"b": "AgB", "a": "AgA"}, "template": {"data": {}, "metadata": {"name": "n"}, "type": "t"}},
        });
        let expected = r#"{
  "kind": "SealedSecret",
  "apiVersion": "bitnami.com/v1alpha1",
  "metadata": {
    "name": "n",
    "namespace": "s",
    "annotations": {
      "b": "\u003ca\u0026b\u003e"
    }
  },
  "spec": {
    "template": {
      "metadata": {
        "name": "n"
      },
      "type": "t",
      "data": {}
    },
    "encryptedData": {
      "a": "AgA",
      "b": "AgB"
    }
  }
}
"#;
        assert_eq!(text(vec![Tree::of_json(&value)], Format::Json).as_str(), expected);
        let two = text(vec![Tree::of_json(&serde_json::json!({"a": "b"})); 2], Format::Yaml);
        assert_eq!(two.as_str(), "---\na: b\n---\na: b\n");
    }
}
