//! BUL007: a private key in PEM or OpenSSH form.

use bulla::manifest::Span;

use crate::check::cx::Cx;
use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL007",
    name: "private-key",
    severity: Severity::Error,
    summary: "a private key in PEM or OpenSSH form",
    page: include_str!("../../../../docs/rules/BUL007.md"),
};

/// Characters of base64 that a private key has at least.
const SHORTEST: usize = 48;

/// Where the header begins that ends at a byte. Headers are short; looking further back for each would be quadratic.
pub fn begin(text: &str, end: usize) -> Option<usize> {
    const MARK: &[u8] = b"-----BEGIN ";
    let from = end.saturating_sub(64);
    let window = text.as_bytes().get(from..end)?;
    window.windows(MARK.len()).rposition(|bytes| bytes == MARK).map(|at| from + at)
}

/// Looks at what ends in `PRIVATE KEY-----` or `PRIVATE KEY BLOCK-----`; `end` is the byte after it.
pub fn at(cx: &Cx<'_>, text: &str, end: usize, place: impl Fn() -> Span) {
    let Some(before) = text.get(..end) else { return };
    let Some(begin) = begin(text, end) else { return };
    if before[begin..].contains(['\n', '"']) {
        return;
    }
    let label = before[begin + 11..].trim_end_matches('-');
    if body(&text[end..]) < SHORTEST {
        return;
    }
    let label = if label.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b' ' | b'0'..=b'9')) {
        label
    } else {
        "PRIVATE KEY"
    };
    let mut finding = cx.finding(&RULE, place(), format!("a private key ({label})"));
    finding.excerpt = None;
    finding.help.push("seal it (bulla seal --from-file), remove the file, and replace the key".into());
    finding.keys = vec![label.to_owned()];
    cx.add(finding);
}

/// Whether a private key with a body is in a text.
pub fn is_in(text: &str) -> bool {
    const END: &str = "PRIVATE KEY-----";
    text.match_indices(END).any(|(at, _)| body(&text[at + END.len()..]) >= SHORTEST)
}

/// Looks at what begins like PEM in base64.
pub fn encoded(cx: &Cx<'_>, text: &str, start: usize, place: impl Fn() -> Span) {
    const HEAD: usize = 64;
    let rest = text.get(start..).unwrap_or_default();
    let end = rest
        .bytes()
        .position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')))
        .unwrap_or(rest.len());
    let head = rest.get(..end.min(HEAD)).unwrap_or_default();
    let Some(bytes) = crate::check::value::decode(head) else { return };
    // A header alone is an example of one.
    let is_key = bytes.windows(PRIVATE.len()).any(|window| window == PRIVATE);
    if is_key && end >= 100 {
        key_store(cx, place(), "base64");
    }
}

const PRIVATE: &[u8] = b"PRIVATE KEY";

/// A store of keys, or keys in another encoding, with a private key in it.
pub fn key_store(cx: &Cx<'_>, at: Span, what: &str) {
    let mut finding = cx.finding(&RULE, at, format!("a private key in {what}"));
    finding.excerpt = None;
    finding.help.push("seal it (bulla seal --from-file), remove the file, and replace the key".into());
    finding.keys = vec!["PRIVATE KEY".into()];
    cx.add(finding);
}

/// How many characters of base64 follow, before anything that a key has not: line ends may be written as in JSON.
fn body(text: &str) -> usize {
    let mut count = 0;
    let mut runs = 0;
    let mut rest = text;
    // Headers of the older form.
    while let Some(c) = rest.chars().next() {
        if count > 256 {
            break;
        }
        if rest.starts_with("\\n") || rest.starts_with("\\r") {
            rest = &rest[2..];
            runs = 0;
            continue;
        }
        if rest.starts_with("-----") || rest.starts_with("...") || c == '<' || c == '…' || c == '$' || c == '{' {
            break;
        }
        let header = rest.starts_with("Proc-Type:")
            || rest.starts_with("DEK-Info:")
            || rest.starts_with("Version:")
            || rest.starts_with("Comment:");
        if header {
            rest = &rest[rest.find('\n').map_or(rest.len(), |at| at + 1)..];
            continue;
        }
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '+' | '/' | '=' => {
                count += 1;
                runs += 1;
            }
            ' ' | '\t' | '\r' | '\n' | '"' | '\'' | ',' | '\\' | '|' | '#' | '*' | '>' => runs = 0,
            _ => break,
        }
        if runs > 4096 {
            break;
        }
        rest = &rest[c.len_utf8()..];
    }
    // A line of one letter again and again is no key.
    let start: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).take(48).collect();
    if start.first().is_some_and(|first| start.iter().filter(|c| *c == first).count() > 40) { 0 } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_a_header_is_bounded() {
        let header = "-----BEGIN EC PRIVATE KEY-----";
        assert_eq!(begin(header, header.len()), Some(0));
        // Only what is near enough is looked at: half a million ends without a begin cost as many windows, not as many files.
        let ends = format!("-----BEGIN {}", "PRIVATE KEY-----é".repeat(500_000));
        let mut found = 0;
        for (at, end) in ends.match_indices("PRIVATE KEY-----") {
            found += usize::from(begin(&ends, at + end.len()).is_some());
        }
        assert!(found <= 4, "{found}");
    }
}
