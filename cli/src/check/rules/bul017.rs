//! BUL017: a literal secret in Terraform.

use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL017",
    name: "terraform-literal",
    severity: Severity::Error,
    summary: "a literal secret in Terraform",
    page: include_str!("../../../../docs/rules/BUL017.md"),
};
