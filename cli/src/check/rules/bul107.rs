//! BUL107: a SealedSecret without the recovery recipients of the policy.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL107",
    name: "no-recovery",
    severity: Severity::Warning,
    summary: "a SealedSecret without the recovery recipients of the policy",
    page: include_str!("../../../../docs/rules/BUL107.md"),
};
