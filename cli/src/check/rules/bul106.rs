//! BUL106: a pinned key older than maxKeyAge of the policy.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL106",
    name: "old-pin",
    severity: Severity::Warning,
    summary: "a pinned key older than maxKeyAge of the policy",
    page: include_str!("../../../../docs/rules/BUL106.md"),
};
