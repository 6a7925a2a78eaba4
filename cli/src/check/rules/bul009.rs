//! BUL009: a Docker configuration with a login.

use bulla::manifest::{Node, Stream};

use crate::check::cx::Cx;
use crate::check::registry::{Rule, Severity};
use crate::check::value::{Verdict, assess, assess_base64, decode};

pub const RULE: Rule = Rule {
    id: "BUL009",
    name: "registry-login",
    severity: Severity::Error,
    summary: "a Docker configuration with a login",
    page: include_str!("../../../../docs/rules/BUL009.md"),
};

/// Looks at a mapping that may be a Docker configuration; `true` when it is one with a login, of which all is said.
pub fn mapping(cx: &Cx<'_>, node: &Node) -> bool {
    let login = first(node);
    if let Some(entry) = login {
        add(cx, entry);
    }
    // As a value: `.dockerconfigjson: eyJhdXRocyI6…`
    for entry in node.entries().unwrap_or_default() {
        let (Some(key), Some(value)) = (entry.key.scalar(), entry.value.scalar()) else { continue };
        let lower = key.to_ascii_lowercase();
        if !lower.contains("dockerconfig") && !lower.contains("dockercfg") {
            continue;
        }
        let decoded = decode(value);
        let text = decoded.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or(value);
        if let Ok(stream) = Stream::read_any(text)
            && stream.documents().iter().any(|document| first(&document.root).is_some())
        {
            add(cx, &entry.key);
        }
    }
    login.is_some()
}

/// Whether a value of a Secret is a Docker configuration that holds no login.
pub fn is_without_login(key: &str, value: &str) -> bool {
    if !matches!(key, ".dockerconfigjson" | ".dockercfg" | "config.json") {
        return false;
    }
    let decoded = decode(value);
    let text = decoded.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or(value);
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
        && Stream::read_any(text)
            .is_ok_and(|stream| stream.documents().iter().all(|document| !holds_login(&document.root, 0)))
}

/// Whether a field with a login is anywhere in a configuration, of whatever form.
fn holds_login(node: &Node, depth: usize) -> bool {
    node.entries().is_none_or(|entries| {
        entries.iter().any(|entry| match (entry.key.scalar(), entry.value.scalar()) {
            (Some("auth"), Some(value)) => login(value) == Verdict::Value,
            (Some("password" | "identitytoken" | "registrytoken"), Some(value)) => assess(value) == Verdict::Value,
            (_, Some(_)) => false,
            _ => depth < 4 && entry.value.entries().is_some() && holds_login(&entry.value, depth + 1),
        })
    })
}

fn add(cx: &Cx<'_>, at: &Node) {
    let mut finding = cx.finding(&RULE, at.span, "a Docker configuration with a login");
    finding.help.push(
        "bulla seal --type kubernetes.io/dockerconfigjson --from-file .dockerconfigjson=FILE     and revoke the login"
            .into(),
    );
    finding.keys = vec!["auths".into()];
    cx.add(finding);
}

/// The first field with a login.
fn first(node: &Node) -> Option<&Node> {
    let Some(auths) = node.get("auths") else { return older(node) };
    auths.entries()?.iter().find_map(|registry| {
        registry.value.entries()?.iter().find_map(|entry| {
            let (field, value) = (entry.key.scalar()?, entry.value.scalar()?);
            let verdict = match field {
                "auth" => login(value),
                "password" | "identitytoken" | "registrytoken" => assess(value),
                _ => return None,
            };
            (verdict == Verdict::Value).then_some(&entry.key)
        })
    })
}

/// The older form (`.dockercfg`): registries without `auths` around them. Only a login in base64 tells it from other mappings.
fn older(node: &Node) -> Option<&Node> {
    node.entries()?.iter().filter(|registry| registry.key.scalar().is_some_and(|key| key.contains('.'))).find_map(
        |registry| {
            let entry = registry.value.entry("auth")?;
            let value = entry.value.scalar()?;
            let joined = decode(value).is_some_and(|bytes| bytes.contains(&b':'));
            (joined && login(value) == Verdict::Value).then_some(&entry.key)
        },
    )
}

/// Of base64 of `user:password`.
fn login(text: &str) -> Verdict {
    let decoded = decode(text);
    match decoded.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|text| text.split_once(':')) {
        Some((_, password)) => assess(password),
        None => assess_base64(text),
    }
}
