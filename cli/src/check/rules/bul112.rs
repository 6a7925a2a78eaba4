//! BUL112: a SealedSecret that does not open in the cluster that was asked.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL112",
    name: "does-not-open",
    severity: Severity::Error,
    summary: "a SealedSecret that does not open in the cluster that was asked",
    page: include_str!("../../../../docs/rules/BUL112.md"),
};
