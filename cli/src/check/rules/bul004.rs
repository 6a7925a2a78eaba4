//! BUL004: a literal value of an environment variable whose name says that it is secret.

use bulla::manifest::{Node, Span};

use super::bul003::{is_secret, is_secret_text};
use crate::check::cx::{Cx, Named, clean};
use crate::check::registry::{Rule, Severity};
use crate::check::value::password_in_url;

pub const RULE: Rule = Rule {
    id: "BUL004",
    name: "env-literal",
    severity: Severity::Error,
    summary: "a literal value of an environment variable whose name says that it is secret",
    page: include_str!("../../../../docs/rules/BUL004.md"),
};

/// Whether what stands under a key are variables of an environment.
pub fn is_environment(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    matches!(
        lower.as_str(),
        "env"
            | "envs"
            | "environment"
            | "variables"
            | "extraenv"
            | "extraenvs"
            | "extraenvvars"
            | "envvars"
            | "environmentvariables"
            | "containerenv"
            | "podenv"
            | "global_env"
            | "build_args"
            | "buildargs"
    ) || (lower.ends_with("env") && lower.len() <= 20)
        || lower.ends_with("envvars")
}

/// Looks at what stands under such a key: a list of names and values, a mapping, or a list of `NAME=VALUE`.
pub fn environment(cx: &Cx<'_>, node: &Node, object: Option<&Named>) {
    for item in node.items().unwrap_or_default() {
        if let Some(text) = item.scalar() {
            if let Some((name, value)) = text.split_once('=')
                && is_secret_text(name.trim(), value)
            {
                report(cx, item.span, name.trim(), object);
            }
            continue;
        }
        variable(cx, item, object);
    }
    for entry in node.entries().unwrap_or_default() {
        let Some(name) = entry.key.scalar() else { continue };
        // GitLab: {value: …, description: …}
        let value = entry.value.get("value").filter(|_| entry.value.entries().is_some()).unwrap_or(&entry.value);
        if is_secret(name, value) {
            report(cx, entry.key.alias.unwrap_or(entry.key.span), name, object);
        }
    }
}

/// `{name: NAME, value: VALUE}`
pub fn variable(cx: &Cx<'_>, node: &Node, object: Option<&Named>) {
    let (Some(name), Some(entry)) = (node.get("name").and_then(Node::scalar), node.entry("value")) else { return };
    if is_secret(name, &entry.value) {
        report(cx, entry.key.alias.unwrap_or(entry.key.span), name, object);
    }
}

/// Arguments of a command that hold a login in a URL.
pub fn arguments(cx: &Cx<'_>, node: &Node, object: Option<&Named>) {
    for item in node.items().unwrap_or_default() {
        let Some(text) = item.scalar() else { continue };
        let named = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).and_then(|flag| flag.split_once('='));
        if let Some((flag, value)) = named
            && !text.contains('\n')
            && is_secret_text(flag, value)
        {
            report(cx, item.span, &format!("--{flag}"), object);
        } else if text.len() < 4096 && password_in_url(text) {
            report(cx, item.span, "a URL", object);
        }
    }
}

/// Looks at what follows `--from-literal`, whatever file it stands in.
pub fn from_literal(cx: &Cx<'_>, text: &str, end: usize, place: impl Fn() -> Span) {
    let rest = text.get(end..).unwrap_or_default();
    let rest = &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())];
    let rest = rest.strip_prefix(['=', ' ']).unwrap_or_default();
    let (rest, quote) = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => (&rest[1..], Some(quote)),
        _ => (rest, None),
    };
    let Some((name, value)) = rest.split_once('=') else { return };
    let (value, quote) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => (&value[1..], Some(quote)),
        _ => (value, quote),
    };
    let until = |c: char| quote.map_or(c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '|'), |quote| c == quote);
    let value = &value[..value.find(until).unwrap_or(value.len())];
    if !name.contains(char::is_whitespace) && is_secret_text(name, value) {
        report(cx, place(), name, None);
    }
}

fn report(cx: &Cx<'_>, at: Span, name: &str, object: Option<&Named>) {
    let name = clean(name);
    let (rule, message) = match cx.within {
        Some(within) if within.starts_with("the annotation") => {
            (&super::bul002::RULE, format!("a literal secret within {within}: {name}"))
        }
        _ => (&RULE, format!("a literal secret in the environment: {name}")),
    };
    let mut finding = cx.finding(rule, at, message);
    finding.help.push("take it from a Secret (valueFrom.secretKeyRef), and seal that one: bulla set FILE KEY".into());
    finding.object = object.map(Named::path).unwrap_or_default();
    finding.keys = vec![name];
    cx.add(finding);
}
