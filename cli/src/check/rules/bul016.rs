//! BUL016: a login in a file that programs read logins from.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL016",
    name: "credentials-file",
    severity: Severity::Error,
    summary: "a login in a file that programs read logins from",
    page: include_str!("../../../../docs/rules/BUL016.md"),
};
