//! BUL002: a Secret in plaintext within another object.

use bulla::manifest::{Node, NodeKind};

use crate::check::cx::Cx;
use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL002",
    name: "hidden-secret",
    severity: Severity::Error,
    summary: "a Secret in plaintext within another object",
    page: include_str!("../../../../docs/rules/BUL002.md"),
};

/// Looks at a text within an object, which may be a manifest itself.
pub fn scalar(cx: &Cx<'_>, node: &Node, key: &str) {
    const NESTED: usize = 3;
    let NodeKind::Scalar { value, .. } = &node.kind else { return };
    if cx.depth >= NESTED || value.len() < 40 || !value.contains("kind") {
        return;
    }
    // What kubectl keeps of an object repeats all that it says.
    let whole = bulla::metadata::is_last_applied(key);
    if !whole && (!value.contains("Secret") || !value.contains("ata")) {
        return;
    }
    let within = if bulla::metadata::is_last_applied(key) {
        format!("the annotation {key}")
    } else {
        format!("the text of {}", crate::check::cx::clean(key))
    };
    let inner = cx.inner(node, value, Some(&within));
    crate::check::scan::manifest(&inner, value);
}
