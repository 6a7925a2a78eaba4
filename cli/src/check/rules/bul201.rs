//! BUL201: an exception that no finding needs.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL201",
    name: "unused-exception",
    severity: Severity::Warning,
    summary: "an exception that no finding needs",
    page: include_str!("../../../../docs/rules/BUL201.md"),
};
