//! BUL105: a SealedSecret for other recipients than those of its rule.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL105",
    name: "recipients",
    severity: Severity::Error,
    summary: "a SealedSecret for other recipients than those of its rule",
    page: include_str!("../../../../docs/rules/BUL105.md"),
};
