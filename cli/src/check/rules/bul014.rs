//! BUL014: a literal value in a ConfigMap under a name that says it is secret.

use bulla::manifest::{Node, NodeKind, Span, Style};

use crate::check::cx::{Cx, Named, Origin, clean};
use crate::check::registry::{Rule, Severity};
use crate::check::settings::form;
use crate::check::tree::{self, Place};
use crate::check::{judge, keystore, scan, value};

pub const RULE: Rule = Rule {
    id: "BUL014",
    name: "configmap-value",
    severity: Severity::Error,
    summary: "a literal value in a ConfigMap under a name that says it is secret",
    page: include_str!("../../../../docs/rules/BUL014.md"),
};

/// Looks at the data of a ConfigMap.
pub fn config_map(cx: &Cx<'_>, node: &Node, object: &Named) {
    for member in node.get("data").and_then(|data| data.members().ok()).unwrap_or_default() {
        let (Some(key), NodeKind::Scalar { value, style, .. }) = (member.key.scalar(), &member.value.kind) else {
            continue;
        };
        // A manifest in it, however it is written.
        super::bul002::scalar(cx, member.value, key);
        let json = value.trim_start().starts_with('{') && value.trim_end().ends_with('}');
        if value.contains('\n') || json || matches!(style, Style::Literal | Style::Folded) {
            let place = if super::bul003::is_values_file(key) { Place::Values } else { Place::ConfigFile };
            tree::within(cx, member.value, value, key, Some(object), place);
        } else if judge::node(key, member.value) {
            report(cx, member.key.alias.unwrap_or(member.key.span), key, Some(object));
        }
    }
    for member in node.get("binaryData").and_then(|data| data.members().ok()).unwrap_or_default() {
        let Some(bytes) = member.value.scalar().and_then(value::decode) else { continue };
        if keystore::has_private_key(&bytes) {
            super::bul007::key_store(cx, member.key.alias.unwrap_or(member.key.span), "a key store in a ConfigMap");
        } else if let Ok(text) = std::str::from_utf8(&bytes) {
            let within = format!("the binary data of {}", clean(member.key.scalar().unwrap_or_default()));
            let at = cx.place(member.key.alias.unwrap_or(member.key.span));
            let inner = Cx { origin: Origin::Fixed(at), ..cx.inner(member.value, text, Some(&within)) };
            if text.contains("kind") && text.contains("Secret") {
                scan::read(&inner, text);
            }
            let at = member.key.alias.unwrap_or(member.key.span);
            let key = member.key.scalar().unwrap_or_default();
            if text.contains("PRIVATE KEY-----") {
                super::bul007::key_store(cx, at, "base64 in a ConfigMap");
            } else if tree::holds_literal(cx, member.value, text, key) {
                report(cx, at, key, Some(object));
            }
        }
    }
}

/// A file that a configMapGenerator takes as it is.
pub fn file(cx: &Cx<'_>, text: &str) {
    let name = cx.file.rsplit('/').next().unwrap_or(cx.file);
    let lower = name.to_ascii_lowercase();
    if tree::is_translation(&lower) {
        return;
    }
    let inner = Cx { place: Some(Place::ConfigFile), ..*cx };
    if [".yaml", ".yml", ".json"].iter().any(|end| lower.ends_with(end)) && scan::read(&inner, text) {
        return;
    }
    tree::lines(text, form(name, text), true, |name, at| report(&inner, at, name, None));
}

/// Says it.
pub fn report(cx: &Cx<'_>, at: Span, name: &str, object: Option<&Named>) {
    let name = clean(name);
    let message = match object {
        Some(object) => format!("a literal secret in ConfigMap {}: {name}", object.called()),
        None => format!("a literal secret in a file that becomes a ConfigMap: {name}"),
    };
    let mut finding = cx.finding(cx.within_annotation().unwrap_or(&RULE), at, message);
    finding.help.push("put it into a Secret, and seal that one: bulla set FILE KEY".into());
    finding.object = object.map(Named::path).unwrap_or_default();
    finding.keys = vec![name];
    cx.add(finding);
}
