//! BUL011: an age identity or the private key of a controller.

use bulla::manifest::Span;
use bulla::recipient::parse_identities;
use zeroize::Zeroizing;

use crate::check::cx::Cx;
use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL011",
    name: "age-identity",
    severity: Severity::Error,
    summary: "an age identity or the private key of a controller",
    page: include_str!("../../../../docs/rules/BUL011.md"),
};

/// Looks at what begins with `AGE-SECRET-KEY-`.
pub fn at(cx: &Cx<'_>, text: &str, start: usize, place: impl Fn() -> Span) {
    let rest = &text[start..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
    let identity = Zeroizing::new(rest[..end].to_owned());
    // The check sum tells a key from an example of one.
    if end > 512 || parse_identities(&identity).is_err() {
        return;
    }
    let mut finding = cx.finding(&RULE, place(), "an age identity: everything sealed for its recipient opens with it");
    finding.excerpt = None;
    finding
        .help
        .push("take it out of the repository, make a new one (bulla keygen), and change what was sealed for it".into());
    finding.keys = vec!["identity".into()];
    cx.add(finding);
}
