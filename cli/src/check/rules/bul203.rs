//! BUL203: an exception without a reason, or for a rule that does not exist.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL203",
    name: "bad-exception",
    severity: Severity::Warning,
    summary: "an exception without a reason, or for a rule that does not exist",
    page: include_str!("../../../../docs/rules/BUL203.md"),
};
