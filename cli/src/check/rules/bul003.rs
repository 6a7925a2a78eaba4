//! BUL003: a literal value under a name that says it is secret, among Helm values.

use bulla::manifest::{Node, Span};

use crate::check::cx::{Cx, Named, clean};
use crate::check::judge;
use crate::check::registry::{Rule, Severity};
use crate::check::value::{Verdict, assess};

pub const RULE: Rule = Rule {
    id: "BUL003",
    name: "helm-value",
    severity: Severity::Error,
    summary: "a literal value under a name that says it is secret, among Helm values",
    page: include_str!("../../../../docs/rules/BUL003.md"),
};

/// Whether a file is one of Helm values, by its name.
pub fn is_values_file(path: &str) -> bool {
    let lower = path.to_lowercase();
    let name = lower.rsplit('/').next().unwrap_or(&lower);
    let yaml =
        [".yaml", ".yml", ".json", ".yaml.gotmpl", ".yml.gotmpl", ".yaml.tpl"].iter().any(|end| name.ends_with(end));
    let stem = name.split('.').next().unwrap_or(name);
    yaml && (name.starts_with("values")
        || stem.ends_with("values")
        || stem.starts_with("values-")
        || name.contains(".values.")
        || name.contains("-values")
        || name.contains("_values")
        || name.contains("values-")
        || lower.contains("/values/")
        || lower.starts_with("values/")
        || lower.contains("/environments/")
        || lower.starts_with("environments/"))
}

/// Whether a file holds what helm-secrets decrypted: values, and each of them secret.
pub fn is_secrets_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("secrets") && [".yaml", ".yml"].iter().any(|end| name.ends_with(end))
}

/// Says it.
pub fn report(cx: &Cx<'_>, at: Span, name: &str, object: Option<&Named>) {
    let name = clean(name);
    let rule = cx.within_annotation().unwrap_or(&RULE);
    let mut finding = cx.finding(rule, at, format!("a literal secret among Helm values: {name}"));
    finding
        .help
        .push("let the chart take the name of a Secret (existingSecret), and seal that one: bulla set FILE KEY".into());
    finding.object = object.map(Named::path).unwrap_or_default();
    finding.keys = vec![name];
    cx.add(finding);
}

/// Parameters of an Argo CD Application: a list of names and values.
pub fn parameters(cx: &Cx<'_>, list: &Node, object: &Named) {
    for parameter in list.items().unwrap_or_default() {
        let (Some(name), Some(value)) = (parameter.get("name").and_then(Node::scalar), parameter.get("value")) else {
            continue;
        };
        if judge::node(name, value)
            && let Some(entry) = parameter.entry("value")
        {
            report(cx, entry.key.alias.unwrap_or(entry.key.span), name, Some(object));
        }
    }
}

/// The store of External Secrets that holds its values in the manifest.
pub fn fake_store(cx: &Cx<'_>, node: &Node, object: &Named) {
    let data = node
        .get("spec")
        .and_then(|spec| spec.get("provider"))
        .and_then(|provider| provider.get("fake"))
        .and_then(|fake| fake.get("data"));
    for item in data.and_then(Node::items).unwrap_or_default() {
        let key = item.get("key").and_then(Node::scalar).unwrap_or_default();
        let map = item.get("valueMap").and_then(Node::entries).unwrap_or_default();
        let found = item
            .entry("value")
            .into_iter()
            .chain(map)
            .find(|entry| entry.value.scalar().is_some_and(|text| assess(text) == Verdict::Value));
        if let Some(entry) = found {
            super::bul015::report(cx, entry.key.span, key, Some(object));
        }
    }
}
