//! BUL102: a SealedSecret that can not be read, has a damaged text, or exceeds a limit.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL102",
    name: "broken",
    severity: Severity::Error,
    summary: "a SealedSecret that can not be read, has a damaged text, or exceeds a limit",
    page: include_str!("../../../../docs/rules/BUL102.md"),
};
