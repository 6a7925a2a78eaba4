//! BUL008: a kubeconfig with a token, password or client key.

use bulla::manifest::Node;

use crate::check::cx::Cx;
use crate::check::registry::{Rule, Severity};
use crate::check::value::{Verdict, assess, assess_base64};

pub const RULE: Rule = Rule {
    id: "BUL008",
    name: "kubeconfig",
    severity: Severity::Error,
    summary: "a kubeconfig with a token, password or client key",
    page: include_str!("../../../../docs/rules/BUL008.md"),
};

/// Looks at a mapping; `true` when it is a kubeconfig.
pub fn mapping(cx: &Cx<'_>, node: &Node) -> bool {
    let users = node.get("users").and_then(Node::items);
    let Some(users) =
        users.filter(|_| node.get("kind").and_then(Node::scalar) == Some("Config") || node.get("contexts").is_some())
    else {
        return false;
    };
    for user in users {
        let Some(entries) = user.get("user").and_then(Node::entries) else { continue };
        for entry in entries {
            let (Some(field @ ("token" | "password" | "client-key-data")), Some(value)) =
                (entry.key.scalar(), entry.value.scalar())
            else {
                continue;
            };
            // A placeholder in base64 is one too.
            let verdict = if field == "client-key-data" { assess_base64(value) } else { assess(value) };
            if verdict != Verdict::Value || entry.value.is_null() {
                continue;
            }
            let mut finding = cx.finding(&RULE, entry.key.span, format!("a kubeconfig with a credential ({field})"));
            finding.help.push("revoke it, and use an exec plugin or a short-lived token".into());
            finding.keys = vec![field.to_owned()];
            finding.object = "Config".into();
            cx.cover(user.span);
            cx.add(finding);
            break;
        }
    }
    true
}
