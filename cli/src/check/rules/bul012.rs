//! BUL012: a template of a Secret with a literal value.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL012",
    name: "templated-secret",
    severity: Severity::Error,
    summary: "a template of a Secret with a literal value",
    page: include_str!("../../../../docs/rules/BUL012.md"),
};
