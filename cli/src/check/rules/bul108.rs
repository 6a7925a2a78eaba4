//! BUL108: an envelope for a classical recipient where the policy wants hybrid ones, or beside hybrid ones.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL108",
    name: "classical",
    severity: Severity::Error,
    summary: "an envelope for a classical recipient where the policy wants hybrid ones, or beside hybrid ones",
    page: include_str!("../../../../docs/rules/BUL108.md"),
};
