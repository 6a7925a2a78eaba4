//! A look at a manifest before it is parsed: most files of a repository speak of secrets (`secretKeyRef`, `passwordKey: password`) and
//! have none, and parsing them is what takes the time. Whatever is not surely quiet is parsed.

use super::names::{Says, holds_secrets, says, says_of_elements};

/// Bytes that are looked at around a word.
const NEAR: usize = 256;

const fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/') || b >= 0x80
}

/// The end of the word that a byte is in, and whether a rule could find something where it stands.
pub fn word(bytes: &[u8], at: usize) -> (usize, bool) {
    let from = at.saturating_sub(NEAR);
    let start = bytes[from..at].iter().rposition(|b| !is_word(*b)).map_or(from, |before| from + before + 1);
    let rest = &bytes[at..bytes.len().min(at + NEAR)];
    let end = at + rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
    let end = end.max(at + 1);
    (end, is_active(bytes, start, end))
}

/// Whether there is a login in the address of which `://` ends at a byte.
pub fn address(bytes: &[u8], at: usize) -> bool {
    let stretch = &bytes[at..bytes.len().min(at + 1024)];
    let end =
        stretch.iter().position(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'')).unwrap_or(stretch.len());
    let stretch = &stretch[..end];
    let (authority, rest) = stretch.split_at(stretch.iter().position(|b| *b == b'/').unwrap_or(end));
    // A slash in a password, where somebody was careless: what follows a host's colon is a port.
    let colon = authority.iter().position(|b| *b == b':').map_or(authority.len(), |at| at + 1);
    authority.contains(&b'@') || (authority[colon..].iter().any(|b| !b.is_ascii_digit()) && rest.contains(&b'@'))
}

fn is_active(bytes: &[u8], start: usize, end: usize) -> bool {
    let Ok(name) = std::str::from_utf8(&bytes[start..end]) else { return true };
    if matches!(name, "Secret" | "SecretList" | "secret") || end - start >= NEAR {
        return true;
    }
    if says(name) == Says::Nothing && says_of_elements(name) == Says::Nothing && !holds_secrets(name) && !is_flag(name)
    {
        return false;
    }
    let (begin, stop) = line(bytes, start);
    let before = trim(&bytes[begin..start]);
    if before.first().or_else(|| bytes.get(start)) == Some(&b'#') {
        return false;
    }
    // `key: password`: a name of something, under a name that says nothing of secrets.
    let rest = trim(&bytes[end..stop]);
    let rest = rest.strip_prefix(b"\"").or_else(|| rest.strip_prefix(b"'")).unwrap_or(rest);
    let quoted = before.strip_suffix(b"\"").or_else(|| before.strip_suffix(b"'")).unwrap_or(before);
    let Some(key) = trim(quoted).strip_suffix(b":").filter(|_| rest.is_empty() || rest == b",") else { return true };
    let key = key.strip_suffix(b"\"").unwrap_or(key);
    let from = key.iter().rposition(|b| !is_word(*b)).map_or(0, |at| at + 1);
    let Ok(key_name) = std::str::from_utf8(&key[from..]) else { return true };
    if says(key_name) != Says::Nothing || holds_secrets(key_name) || key_name.is_empty() {
        return true;
    }
    match key_name {
        // A literal, if there is one, stands in the same item.
        "name" | "Name" | "key" | "Key" => has_value(bytes, begin, stop, key[..from].contains(&b'-')),
        "value" | "kind" | "op" | "path" => true,
        _ => false,
    }
}

/// `--password` of which the value may be the next word.
fn is_flag(name: &str) -> bool {
    name.starts_with('-')
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// Begin and end of a byte's line, as far as lines go that somebody wrote.
fn line(bytes: &[u8], at: usize) -> (usize, usize) {
    let from = at.saturating_sub(4 * NEAR);
    let begin = bytes[from..at].iter().rposition(|b| *b == b'\n').map_or(from, |before| from + before + 1);
    let rest = &bytes[at..bytes.len().min(at + 4 * NEAR)];
    (begin, at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()))
}

/// Whether an item of a list that has a `name` has a `value` as well. `first`: the name stands behind the dash.
fn has_value(bytes: &[u8], begin: usize, stop: usize, first: bool) -> bool {
    const LINES: usize = 8;
    let is_value = |line: &[u8]| {
        let line = trim(line);
        let line = line.strip_prefix(b"-").map_or(line, trim);
        let line = line.strip_prefix(b"\"").unwrap_or(line);
        line.strip_prefix(b"value")
            .or_else(|| line.strip_prefix(b"Value"))
            .is_some_and(|rest| rest.starts_with(b":") || rest.starts_with(b"\"") || rest.starts_with(b" "))
    };
    let after = bytes.get(stop + 1..bytes.len().min(stop + 8 * NEAR)).unwrap_or_default();
    for (count, line) in after.split(|b| *b == b'\n').enumerate() {
        let bare = trim(line);
        if bare.starts_with(b"-") || bare.starts_with(b"}") {
            break;
        }
        if is_value(line) || count == LINES {
            return true;
        }
    }
    if first {
        return false;
    }
    let before = &bytes[begin.saturating_sub(8 * NEAR)..begin];
    for (count, line) in before.split(|b| *b == b'\n').rev().enumerate() {
        if is_value(line) || count == LINES {
            return true;
        }
        let bare = trim(line);
        if bare.starts_with(b"-") || bare.starts_with(b"{") {
            break;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(text: &str, needle: &str) -> bool {
        word(text.as_bytes(), text.find(needle).expect("there")).1
    }

    #[test]
    fn what_is_surely_quiet_is_not_parsed() {
        for (text, needle) in [
            ("  secretKeyRef:\n", "ecret"),
            ("  passwordKey: password\n", "assw"),
            ("  key: password\n", "assw"),
            ("  key: password\n  name: db\n  optional: true\n- a\n", "assw"),
            ("  \"key\": \"password\",\n", "assw"),
            ("# the password: hunter2\n", "assw"),
            ("  - name: DB_PASSWORD\n    valueFrom:\n      secretKeyRef: {}\n", "ASSW"),
            ("  - name: DB_PASSWORD\n    valueFrom: {}\n  - name: X\n    value: y\n", "ASSW"),
            ("  minPasswordLength: 12\n", "assw"),
            ("  subPath: db-token\n", "oken"),
        ] {
            assert!(!active(text, needle), "{text}");
        }
        for (text, needle) in [
            ("  password: hunter2\n", "assw"),
            ("kind: Secret\n", "ecret"),
            ("  - name: DB_PASSWORD\n    value: hunter2\n", "ASSW"),
            ("  - value: hunter2\n    name: DB_PASSWORD\n", "ASSW"),
            ("  - {name: DB_PASSWORD, value: hunter2}\n", "ASSW"),
            ("  - DB_PASSWORD=hunter2\n", "ASSW"),
            ("  - --db-password\n", "assw"),
            ("  secrets:\n", "ecret"),
            ("  passwords: [a]\n", "assw"),
            ("    requirepass hunter2\n", "pass"),
            ("    'PASSWORD': 'x',\n", "ASSW"),
            ("  token: password\n", "assw"),
            ("{\"name\":\"DB_PASSWORD\",\"value\":\"hunter2\"}", "ASSW"),
        ] {
            assert!(active(text, needle), "{text}");
        }
        assert!(active("  - key: DB_PASSWORD\n    value: hunter2\n", "ASSW"));
        assert!(address(b"://user:pw@host", 3));
        assert!(address(b"://user:p/w@host", 3));
        assert!(!address(b"://host:8080/a@b", 3));
        assert!(!address(b"://host/a@b", 3));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..80), at in 0usize..80) {
            let at = at.min(bytes.len() - 1);
            assert!(word(&bytes, at).0 > at);
            address(&bytes, at);
        }
    }
}
