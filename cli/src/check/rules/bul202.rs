//! BUL202: an exception whose last day is over.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL202",
    name: "expired-exception",
    severity: Severity::Warning,
    summary: "an exception whose last day is over",
    page: include_str!("../../../../docs/rules/BUL202.md"),
};
