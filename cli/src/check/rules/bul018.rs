//! BUL018: a token whose own form says whose it is.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL018",
    name: "vendor-token",
    severity: Severity::Error,
    summary: "a token whose own form says whose it is",
    page: include_str!("../../../../docs/rules/BUL018.md"),
};
