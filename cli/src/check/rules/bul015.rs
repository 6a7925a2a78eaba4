//! BUL015: a literal credential in a field of another object, or in settings.

use bulla::manifest::Span;

use crate::check::cx::{Cx, Named, clean};
use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL015",
    name: "object-field",
    severity: Severity::Error,
    summary: "a literal credential in a field of another object, or in settings",
    page: include_str!("../../../../docs/rules/BUL015.md"),
};

/// Says it of the field `key`.
pub fn report(cx: &Cx<'_>, at: Span, key: &str, object: Option<&Named>) {
    let key = clean(key);
    let message = match object {
        Some(object) => format!("a literal credential in {} {}: {key}", object.kind, object.called()),
        None => format!("a literal credential in settings: {key}"),
    };
    let mut finding = cx.finding(cx.within_annotation().unwrap_or(&RULE), at, message);
    finding.help.push(match object {
        Some(_) => "take it from a Secret (secretRef), and seal that one: bulla set FILE KEY".into(),
        None => "take it from the environment or from a file that is a sealed Secret: bulla set FILE KEY".into(),
    });
    finding.object = object.map(Named::path).unwrap_or_default();
    finding.keys = vec![key];
    cx.add(finding);
}
