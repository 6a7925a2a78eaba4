//! BUL104: a scope wider than the rule of .bulla.yaml allows.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL104",
    name: "wide-scope",
    severity: Severity::Error,
    summary: "a scope wider than the rule of .bulla.yaml allows",
    page: include_str!("../../../../docs/rules/BUL104.md"),
};
