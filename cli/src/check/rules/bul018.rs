//! BUL018: a token whose own form says whose it is.

use bulla::manifest::Span;

use crate::check::cx::Cx;
use crate::check::placeholder;
use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL018",
    name: "vendor-token",
    severity: Severity::Error,
    summary: "a token whose own form says whose it is",
    page: include_str!("../../../../docs/rules/BUL018.md"),
};

/// How a vendor's tokens are written.
struct Form {
    begin: &'static str,
    vendor: &'static str,
    /// Characters after the begin: at least, and at most.
    length: (usize, usize),
    /// Besides letters and digits.
    signs: &'static [u8],
}

const fn form(begin: &'static str, vendor: &'static str, length: (usize, usize), signs: &'static [u8]) -> Form {
    Form { begin, vendor, length, signs }
}

const FORMS: &[Form] = &[
    form("ghp_", "GitHub", (36, 36), b""),
    form("gho_", "GitHub", (36, 36), b""),
    form("ghu_", "GitHub", (36, 36), b""),
    form("ghs_", "GitHub", (36, 36), b""),
    form("ghr_", "GitHub", (36, 76), b""),
    form("github_pat_", "GitHub", (82, 82), b"_"),
    form("glpat-", "GitLab", (20, 64), b"-_."),
    form("xoxb-", "Slack", (24, 128), b"-"),
    form("xoxp-", "Slack", (24, 128), b"-"),
    form("xoxa-", "Slack", (24, 128), b"-"),
    form("xoxr-", "Slack", (24, 128), b"-"),
    form("hooks.slack.com/services/T", "Slack", (30, 64), b"/"),
    form("sk_live_", "Stripe", (24, 128), b""),
    form("rk_live_", "Stripe", (24, 128), b""),
    form("npm_", "npm", (36, 36), b""),
    form("pypi-AgE", "PyPI", (80, 256), b"-_"),
    form("SG.", "SendGrid", (66, 66), b"-_."),
    form("hvs.", "Vault", (24, 160), b"-_"),
    form("dop_v1_", "DigitalOcean", (64, 64), b""),
    form("AIza", "Google", (35, 35), b"-_"),
    form("AKIA", "AWS", (16, 16), b""),
];

/// What is looked for in every byte of every file: how tokens begin.
pub fn beginnings() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.begin)
}

/// Looks at what begins like a token; `which` is its place among the beginnings.
pub fn at(cx: &Cx<'_>, text: &str, which: usize, start: usize, place: impl Fn() -> Span) {
    let Some(form) = FORMS.get(which) else { return };
    let rest = &text.as_bytes()[start + form.begin.len()..];
    let window = &rest[..rest.len().min(form.length.1 + 1)];
    let fits = |b: &u8| b.is_ascii_alphanumeric() || form.signs.contains(b);
    let length = window.iter().position(|b| !fits(b)).unwrap_or(window.len());
    let before = text.as_bytes()[..start].last();
    if !(form.length.0..=form.length.1).contains(&length)
        || before.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    {
        return;
    }
    let body = text.get(start + form.begin.len()..start + form.begin.len() + length).unwrap_or_default();
    if !is_random(body) || placeholder::is_one(body) {
        return;
    }
    // An id of AWS is none by itself: its secret stands near.
    if form.vendor == "AWS" && (body.ends_with("EXAMPLE") || !has_secret_near(text, start)) {
        return;
    }
    let mut finding = cx.finding(&RULE, place(), format!("a token of {}", form.vendor));
    finding.excerpt = None;
    finding
        .help
        .push("revoke it at the service, and put the new one into a Secret that is sealed: bulla set FILE KEY".into());
    finding.keys = vec![form.vendor.to_owned()];
    cx.add(finding);
}

/// Not one letter again and again, nor the alphabet.
fn is_random(body: &str) -> bool {
    let bytes = body.as_bytes();
    let mut seen = [false; 256];
    bytes.iter().for_each(|b| seen[usize::from(*b)] = true);
    let different = seen.iter().filter(|seen| **seen).count();
    let rising = bytes.windows(2).filter(|pair| pair[1] == pair[0].wrapping_add(1) || pair[1] == pair[0]).count();
    different >= 8 && rising * 2 < bytes.len()
}

/// A run of forty characters of base64 within some lines.
fn has_secret_near(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let window = &bytes[at.saturating_sub(300)..bytes.len().min(at + 300)];
    window.split(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+'))).any(|run| {
        run.len() == 40
            && !run.ends_with(b"EXAMPLEKEY")
            && run.iter().any(u8::is_ascii_lowercase)
            && run.iter().any(u8::is_ascii_uppercase)
    })
}
