//! BUL014: a literal value in a ConfigMap under a name that says it is secret.

use bulla::manifest::{Node, NodeKind, Span, Style};

use super::bul003::{is_secret, is_secret_text};
use super::bul006::assignment;
use crate::check::cx::{Cx, Named, clean, span_of};
use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL014",
    name: "configmap-value",
    severity: Severity::Error,
    summary: "a literal value in a ConfigMap under a name that says it is secret",
    page: include_str!("../../../../docs/rules/BUL014.md"),
};

/// Looks at the data of a ConfigMap.
pub fn config_map(cx: &Cx<'_>, node: &Node, object: &Named) {
    let Some(members) = node.get("data").and_then(|data| data.members().ok()) else { return };
    for member in members {
        let (Some(key), NodeKind::Scalar { value, style, .. }) = (member.key.scalar(), &member.value.kind) else {
            continue;
        };
        if !value.contains('\n') {
            if is_secret(key, member.value) {
                report(cx, member.key.alias.unwrap_or(member.key.span), key, object);
            }
            continue;
        }
        // A file: properties, env, INI, YAML by lines.
        let inner = cx.inner(member.value, value, None);
        let exact = *style == Style::Literal;
        let mut offset = 0;
        for line in value.split_inclusive('\n') {
            let found = assignment(line)
                .filter(|(name, text, _)| is_secret_text(name, text.trim_matches(['"', '\'', ','])))
                .or_else(|| setting(line).filter(|(name, text, _)| is_secret_text(name, text)));
            if let Some((name, _, at)) = found {
                let span = span_of(value, offset + at..offset + at + name.len());
                if exact {
                    report(&inner, span, name, object);
                } else {
                    report(cx, member.key.span, name, object);
                }
            }
            offset += line.len();
        }
    }
}

/// A name and its value, and where the name begins, in lines that join them otherwise than by a sign: an element of XML, SQL's
/// `PASSWORD '…'`, and directives (`requirepass …`, CoreDNS's `secret NAME …`).
fn setting(line: &str) -> Option<(&str, &str, usize)> {
    let bare = line.trim();
    let at = line.len() - line.trim_start().len();
    if let Some(rest) = bare.strip_prefix('<') {
        let (tag, rest) = rest.split_once('>')?;
        let (value, end) = rest.split_once("</")?;
        return (end.strip_suffix('>') == Some(tag)).then_some((tag, value, at + 1));
    }
    if bare.starts_with(['#', ';', '!', '[', '-', '/']) {
        return None;
    }
    let lower = bare.to_ascii_lowercase();
    for (mark, name) in [("password '", 8), ("identified by '", 13)] {
        if let Some(found) = lower.find(mark) {
            let value = bare.get(found + mark.len()..)?.split('\'').next()?;
            let name = if name == 8 { bare.get(found..found + name)? } else { "password" };
            return Some((name, value, at + found));
        }
    }
    let words: Vec<&str> = bare.split_whitespace().take(4).collect();
    match words.as_slice() {
        [name, value] | [name, _, value]
            if !name.ends_with([':', '=']) && !matches!(words.get(1), Some(&"=" | &":")) =>
        {
            Some((name, value.trim_end_matches(';').trim_matches(['"', '\'']), at))
        }
        _ => None,
    }
}

/// Says it.
pub fn report(cx: &Cx<'_>, at: Span, name: &str, object: &Named) {
    let name = clean(name);
    let mut finding = cx.finding(&RULE, at, format!("a literal secret in ConfigMap {}: {name}", object.called()));
    finding.help.push("put it into a Secret, and seal that one: bulla set FILE KEY".into());
    finding.object = object.path();
    finding.keys = vec![name];
    cx.add(finding);
}
