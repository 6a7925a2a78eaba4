//! BUL111: a SealedSecret in another namespace than its rule says.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL111",
    name: "namespace",
    severity: Severity::Error,
    summary: "a SealedSecret in another namespace than its rule says",
    page: include_str!("../../../../docs/rules/BUL111.md"),
};
