//! BUL003: a literal value under a name that says it is secret, among Helm values.

use bulla::manifest::Node;

use crate::check::cx::{Cx, Named, clean};
use crate::check::names::{Says, says};
use crate::check::registry::{Rule, Severity};
use crate::check::value::{Verdict, assess, is_resource_name, password_in_url};

pub const RULE: Rule = Rule {
    id: "BUL003",
    name: "helm-value",
    severity: Severity::Error,
    summary: "a literal value under a name that says it is secret, among Helm values",
    page: include_str!("../../../../docs/rules/BUL003.md"),
};

/// Whether a literal under a name is a secret, as the two together say.
pub fn is_secret(name: &str, value: &Node) -> bool {
    let Some(text) = value.scalar() else { return false };
    if value.is_null() || matches!(value.not_text(), Some(bulla::manifest::Ambiguity::Bool)) {
        return false;
    }
    is_secret_text(name, text)
}

/// The same of a text.
pub fn is_secret_text(name: &str, text: &str) -> bool {
    if assess(text) != Verdict::Value {
        return false;
    }
    if password_in_url(text) {
        return true;
    }
    let text = text.trim();
    // Of throw-away services in tests.
    const STOCK: &[&str] = &[
        "postgres",
        "root",
        "guest",
        "admin",
        "mysql",
        "user",
        "rabbitmq",
        "minio",
        "minioadmin",
        "redis",
        "mongo",
        "elastic",
        "ci",
    ];
    if STOCK.contains(&text) || text.eq_ignore_ascii_case(name) {
        return false;
    }
    // An address without a login, a path, a time, a switch: nothing that a password is.
    let plain = text.contains("://") && !text.contains(' ')
        || text.starts_with('/') && text[1..].contains('/') && !text.contains(' ')
        || text.parse::<u16>().is_ok()
        || text.split([',', ' ']).count() > 3;
    if plain {
        return false;
    }
    match says(name) {
        Says::Nothing => false,
        Says::Secret => {
            !(is_resource_name(text)
                && text.split(['-', '.']).any(|word| {
                    matches!(
                        word,
                        "secret" | "secrets" | "credentials" | "password" | "token" | "key" | "creds" | "auth" | "tls"
                    )
                }))
        }
        Says::Perhaps => {
            let mixed = text.bytes().any(|b| b.is_ascii_digit())
                || (text.bytes().any(|b| b.is_ascii_uppercase()) && text.bytes().any(|b| b.is_ascii_lowercase()));
            !is_resource_name(text) && text.len() >= 8 && mixed && !text.contains(' ') && !is_name_with_number(text)
        }
    }
}

/// `shop-db-2`, `letsencrypt-prod.v1`
fn is_name_with_number(text: &str) -> bool {
    text.contains(['-', '.', '/'])
        && text.split(['-', '.', '/']).all(|word| {
            let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
            word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                && (letters.bytes().all(|b| b.is_ascii_lowercase()))
                && word.len() - letters.len() <= 2
        })
}

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
        || name.contains("values-")
        || lower.contains("/values/")
        || lower.starts_with("values/")
        || lower.contains("/environments/")
        || lower.starts_with("environments/"))
}

/// Looks at an entry among values.
pub fn entry(cx: &Cx<'_>, key: &Node, value: &Node, object: Option<&Named>) {
    let Some(name) = key.scalar() else { return };
    if value.alias.is_some() || !is_secret(name, value) {
        return;
    }
    report(cx, key, name, object);
}

fn report(cx: &Cx<'_>, at: &Node, name: &str, object: Option<&Named>) {
    let name = clean(name);
    let span = at.alias.unwrap_or(at.span);
    let mut finding = cx.finding(&RULE, span, format!("a literal secret among Helm values: {name}"));
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
        if is_secret(name, value)
            && let Some(entry) = parameter.entry("value")
        {
            report(cx, &entry.key, name, Some(object));
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
        let Some(entry) = item.entry("value") else { continue };
        if entry.value.scalar().is_some_and(|text| assess(text) == Verdict::Value) {
            let key = item.get("key").and_then(Node::scalar).unwrap_or_default();
            super::bul015::report(cx, entry.key.span, key, object);
        }
    }
}
