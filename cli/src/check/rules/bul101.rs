//! BUL101: an item that was sealed for another namespace, name or key.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL101",
    name: "misplaced",
    severity: Severity::Error,
    summary: "an item that was sealed for another namespace, name or key",
    page: include_str!("../../../../docs/rules/BUL101.md"),
};
