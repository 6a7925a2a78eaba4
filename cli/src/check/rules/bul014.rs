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
            if let Some((name, text, at)) = assignment(line)
                && is_secret_text(name, text.trim_matches(['"', '\'', ',']))
            {
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

fn report(cx: &Cx<'_>, at: Span, name: &str, object: &Named) {
    let name = clean(name);
    let mut finding = cx.finding(&RULE, at, format!("a literal secret in ConfigMap {}: {name}", object.called()));
    finding.help.push("put it into a Secret, and seal that one: bulla set FILE KEY".into());
    finding.object = object.path();
    finding.keys = vec![name];
    cx.add(finding);
}
