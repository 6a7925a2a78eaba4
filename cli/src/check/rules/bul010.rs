//! BUL010: a token of a Kubernetes service account.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulla::manifest::Span;
use zeroize::Zeroizing;

use crate::check::cx::Cx;
use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL010",
    name: "service-account-token",
    severity: Severity::Error,
    summary: "a token of a Kubernetes service account",
    page: include_str!("../../../../docs/rules/BUL010.md"),
};

/// Looks at what begins with `eyJ`.
pub fn at(cx: &Cx<'_>, text: &str, start: usize, place: impl Fn() -> Span) {
    const MAX: usize = 8192;
    let rest = &text[start..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(rest.len());
    let token = &rest[..end];
    let before = text[..start].chars().next_back();
    if token.len() > MAX
        || token.len() < 64
        || before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/'))
    {
        return;
    }
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let Ok(claims) = URL_SAFE_NO_PAD.decode(claims).map(Zeroizing::new) else { return };
    let has = |word: &str| claims.windows(word.len()).any(|window| window == word.as_bytes());
    if signature.len() < 32 || !(has("kubernetes.io") || has("system:serviceaccount:")) {
        return;
    }
    let mut finding = cx.finding(&RULE, place(), "a token of a Kubernetes service account");
    finding.excerpt = None;
    finding.help.push("remove it, and delete its Secret or its account in the cluster: that revokes it".into());
    finding.keys = vec!["token".into()];
    cx.add(finding);
}
