//! BUL110: a .bulla.yaml that is nested, can not be read, or names what is not there.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL110",
    name: "policy",
    severity: Severity::Error,
    summary: "a .bulla.yaml that is nested, can not be read, or names what is not there",
    page: include_str!("../../../../docs/rules/BUL110.md"),
};
