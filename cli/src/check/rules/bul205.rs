//! BUL205: an exclusion or exception of the policy for every path.

use std::path::Path;

use crate::check::registry::{Rule, Severity};
use crate::policy::Glob;

pub const RULE: Rule = Rule {
    id: "BUL205",
    name: "wide-exception",
    severity: Severity::Warning,
    summary: "an exclusion or exception of .bulla.yaml for every path or every manifest",
    page: include_str!("../../../../docs/rules/BUL205.md"),
};

/// Whether a glob lets everything through, or all that ends like a manifest.
pub fn is_wide(glob: &Glob) -> bool {
    if !glob.as_str().contains('*') {
        return false;
    }
    // Names that no folder or file of a repository has: what matches these matches any.
    ["", ".yaml", ".yml", ".json"].iter().any(|end| {
        let names = [format!("qzx0{end}"), format!("qzx1/qzx2{end}"), format!("qzx3/qzx4/qzx5{end}")];
        names.iter().all(|name| glob.matches(Path::new(name)))
    })
}
