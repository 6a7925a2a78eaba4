//! BUL204: an entry of the baseline that no finding needs.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL204",
    name: "stale-baseline",
    severity: Severity::Warning,
    summary: "an entry of the baseline that no finding needs",
    page: include_str!("../../../../docs/rules/BUL204.md"),
};
