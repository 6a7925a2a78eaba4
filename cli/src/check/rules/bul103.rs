//! BUL103: an item whose envelopes are missing or are of another data key.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL103",
    name: "envelopes",
    severity: Severity::Error,
    summary: "an item whose envelopes are missing or are of another data key",
    page: include_str!("../../../../docs/rules/BUL103.md"),
};
