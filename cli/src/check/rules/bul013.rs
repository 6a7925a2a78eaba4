//! BUL013: a file that looks like a Kubernetes manifest and can not be read.

use bulla::manifest::{ManifestError, Span};

use crate::check::cx::Cx;
use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL013",
    name: "unreadable",
    severity: Severity::Warning,
    summary: "a file that looks like a Kubernetes manifest and can not be read",
    page: include_str!("../../../../docs/rules/BUL013.md"),
};

/// A text that looks like a manifest and can't be read.
pub fn unreadable(cx: &Cx<'_>, error: &ManifestError) {
    let mut finding = cx.finding(
        &RULE,
        error.span.unwrap_or_default(),
        format!("this looks like a manifest and can't be read: {}", error.message),
    );
    // A line of what is no manifest may be anything.
    finding.excerpt = None;
    finding.help.extend(error.help.clone());
    cx.add(finding);
}

/// A file that can't be read at all.
pub fn refused(cx: &Cx<'_>, why: &str) {
    let mut finding = cx.finding(&RULE, Span::default(), format!("can't be read, and so was not checked: {why}"));
    finding.excerpt = None;
    cx.add(finding);
}
