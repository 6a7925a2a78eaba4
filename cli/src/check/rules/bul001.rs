//! BUL001: a Secret with values that anybody can read.

use bulla::manifest::{Node, Span, Tag};
use bulla::metadata::{BITNAMI_KEY_LABEL, SEALING_KEY_TYPE};

use crate::check::cx::{Cx, Named, Seen, clean};
use crate::check::names::{Says, says};
use crate::check::registry::{Rule, Severity};
use crate::check::value::{Verdict, assess, assess_base64, beside_references, decode, is_worded_reference};
use crate::check::{judge, login, tree};
use crate::output::plain::count;

pub const RULE: Rule = Rule {
    id: "BUL001",
    name: "plaintext-secret",
    severity: Severity::Error,
    summary: "a Secret with values that anybody can read",
    page: include_str!("../../../../docs/rules/BUL001.md"),
};

/// Looks at a mapping; `true` when it is a Secret, of which nothing else is to be said.
pub fn mapping(cx: &Cx<'_>, node: &Node) -> bool {
    if !is_secret(node) {
        return false;
    }
    let object = Named::of(node);
    let (values, at) = values(cx, node);
    let Some(at) = at else { return true };
    let rule = if is_sealing_key(node) {
        &super::bul011::RULE
    } else if cx.within.is_some() {
        &super::bul002::RULE
    } else if cx.templated {
        &super::bul012::RULE
    } else {
        &RULE
    };
    let called = object.called();
    let message = match (rule.id, cx.within) {
        ("BUL011", _) => format!("the private key of a controller in plaintext: Secret {called}"),
        ("BUL002", Some(within)) => format!("a plaintext Secret {called} within {within}"),
        ("BUL012", _) => format!("a literal value in the template of Secret {called}"),
        _ => format!("plaintext Secret {called}"),
    };
    let mut finding = cx.finding(rule, at, message);
    finding.label = listed(&values);
    finding.help.push(match rule.id {
        "BUL011" => "take it out of the repository and rotate: bulla rotate".to_owned(),
        "BUL002" => "remove it, or put the sealed form in its place: bulla seal".to_owned(),
        "BUL012" => {
            "seal the rendered value (helm template … | bulla seal), or use template.data of a SealedSecret".to_owned()
        }
        _ if cx.file == "standard input" => "… | bulla seal -n NAMESPACE -R prod.pub".to_owned(),
        _ => format!("bulla seal --in-place {}     and change the value: Git's history keeps it", cx.file),
    });
    finding.object = object.path();
    finding.keys = values;
    finding.also = Some(cx.place(node.span).line);
    cx.cover(node.span);
    if rule.id == "BUL001"
        && let Some(name) = object.name
    {
        let seen = Seen { namespace: object.namespace, name, file: cx.file.to_owned(), span: cx.place(at) };
        cx.report.borrow_mut().plain.push(seen);
    }
    cx.add(finding);
    true
}

/// `2 values: password, username`
fn listed(keys: &[String]) -> String {
    let shown: Vec<&str> = keys.iter().take(4).map(String::as_str).collect();
    let more = if keys.len() > shown.len() { ", …" } else { "" };
    format!("{}: {}{more}", count(keys.len(), "value"), shown.join(", "))
}

fn is_secret(node: &Node) -> bool {
    let text = |key: &str| node.get(key).and_then(Node::scalar);
    match text("kind") {
        Some(kind) if kind.eq_ignore_ascii_case("Secret") => {
            // A group of its own makes it somebody else's kind.
            text("apiVersion").is_none_or(|version| !version.contains('/'))
        }
        // An item of a SecretList.
        None => {
            node.get("stringData").is_some_and(|data| data.entries().is_some())
                && (node.get("metadata").is_some() || node.get("name").is_some())
        }
        Some(_) => false,
    }
}

fn is_sealing_key(node: &Node) -> bool {
    let label = node.get("metadata").and_then(|m| m.get("labels")).and_then(|labels| labels.get(BITNAMI_KEY_LABEL));
    node.get("type").and_then(Node::scalar) == Some(SEALING_KEY_TYPE) || label.is_some()
}

/// The keys of the values that are there to read, and where the first is.
fn values(cx: &Cx<'_>, node: &Node) -> (Vec<String>, Option<Span>) {
    let mut keys = Vec::new();
    let mut first: Option<(bool, Span)> = None;
    // What exports have beside the token, and what a token Secret says about itself.
    let type_ = node.get("type").and_then(Node::scalar).unwrap_or_default();
    let public: &[&str] = match type_ {
        "kubernetes.io/service-account-token" => &["namespace", "ca.crt", "service-ca.crt"],
        "bootstrap.kubernetes.io/token" => &[
            "description",
            "token-id",
            "expiration",
            "usage-bootstrap-authentication",
            "usage-bootstrap-signing",
            "auth-extra-groups",
        ],
        _ => &[],
    };
    let labels = node.get("metadata").and_then(|m| m.get("labels"));
    let argo = labels.and_then(|labels| labels.get("argocd.argoproj.io/secret-type")).and_then(Node::scalar);
    // Policy engines write the fields of what they make below `data`.
    let below = node.get("data").filter(|data| {
        data.get("stringData").or_else(|| data.get("data")).is_some_and(|inner| inner.entries().is_some())
    });
    let fields = [("data", true), ("stringData", false)];
    for (node, field, encoded) in
        fields.iter().flat_map(|(field, encoded)| [(Some(node), *field, *encoded), (below, *field, *encoded)])
    {
        let Some(members) = node.and_then(|node| node.get(field)).and_then(|data| data.members().ok()) else {
            continue;
        };
        for member in members {
            let (Some(key), Some(value)) = (member.key.scalar(), member.value.scalar()) else { continue };
            // !vault, !Ref: another tool puts something there.
            if public.contains(&key) || member.value.is_null() || member.value.tag == Tag::Custom {
                continue;
            }
            let verdict = if encoded { assess_base64(value) } else { assess(value) };
            // What only repeats its key is filled in later.
            if verdict != Verdict::Value || judge::repeats(key, value) || super::bul009::is_without_login(key, value) {
                continue;
            }
            let decoded = if encoded { decode(value) } else { None };
            let text = decoded.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or(value);
            if is_worded(cx, member.value, key, text) || (argo.is_some() && is_argos(cx, member.value, key, text)) {
                continue;
            }
            keys.push(clean(key));
            // The place is that of the value that is surest to be secret.
            let telling = says(key) != Says::Nothing;
            let at = member.key.alias.unwrap_or(member.key.span);
            if first.is_none_or(|(before, _)| telling && !before) {
                first = Some((telling, at));
            }
        }
    }
    (keys, first.map(|(_, at)| at))
}

/// Whether a value of a Secret has references in it, and nothing beside them that is secret: words and addresses under a name
/// that says nothing, settings of which no name says it.
fn is_worded(cx: &Cx<'_>, node: &Node, key: &str, text: &str) -> bool {
    if text.trim().contains('\n') || text.trim_start().starts_with(['{', '[']) {
        return beside_references(text).is_some() && !tree::holds_literal(cx, node, text, key) && !holds_key(text);
    }
    says(key) == Says::Nothing && is_worded_reference(text)
}

/// Whether a value of Argo CD's Secret of a repository or cluster is none that lets anybody in: its address, its name.
fn is_argos(cx: &Cx<'_>, node: &Node, key: &str, text: &str) -> bool {
    if says(key) != Says::Nothing || login::is_in(text) || holds_key(text) {
        return false;
    }
    let json = text.trim_start().starts_with('{');
    !json || !tree::holds_literal(cx, node, text, key)
}

/// Whether a text has a private key in it, also in the field of a cluster's configuration that has it in base64.
fn holds_key(text: &str) -> bool {
    let encoded = |field: &str| {
        text.split(field)
            .skip(1)
            .filter_map(|rest| rest.split('"').nth(1))
            .any(|value| decode(value).is_some_and(|key| std::str::from_utf8(&key).is_ok_and(super::bul007::is_in)))
    };
    super::bul007::is_in(text) || encoded("\"keyData\"")
}

/// Patches of a kustomization that put a value into a Secret.
pub fn patch(cx: &Cx<'_>, operations: &Node) {
    for operation in operations.items().unwrap_or_default() {
        let text = |key: &str| operation.get(key).and_then(Node::scalar);
        let (Some("add" | "replace"), Some(path), Some(value)) = (text("op"), text("path"), operation.get("value"))
        else {
            continue;
        };
        let Some((field, key)) = path.strip_prefix('/').map(|path| path.split_once('/').unwrap_or((path, ""))) else {
            continue;
        };
        let assess = match field {
            "data" => assess_base64,
            "stringData" => assess,
            _ => continue,
        };
        let mut found = Vec::new();
        if let Some(value) = value.scalar() {
            found.extend((assess(value) == Verdict::Value).then(|| clean(key)));
        }
        for entry in value.entries().unwrap_or_default() {
            if let (Some(key), Some(value)) = (entry.key.scalar(), entry.value.scalar()) {
                found.extend((assess(value) == Verdict::Value).then(|| clean(key)));
            }
        }
        if found.is_empty() {
            continue;
        }
        let at = operation.entry("value").map_or(operation.span, |entry| entry.key.span);
        let mut finding = cx.finding(&RULE, at, "a patch puts a plaintext value into a Secret");
        finding.label = listed(&found);
        finding.help.push("seal the Secret instead, and remove the patch: bulla set FILE KEY".into());
        finding.keys = found;
        finding.object = "Secret patch".into();
        cx.cover(operation.span);
        cx.add(finding);
    }
}
