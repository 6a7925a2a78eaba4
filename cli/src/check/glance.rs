//! A look at a manifest before it is parsed: most files of a repository speak of secrets (`secretKeyRef`, `passwordKey: password`) and
//! have none, and parsing them is what takes the time. Whatever is not surely quiet is parsed.

use std::ops::Range;

use super::judge;
use super::names::{Says, holds_secrets, is_form, says, says_of_elements};
use super::rules;
use super::value::has_weight;

/// Bytes that are looked at around a word.
const NEAR: usize = 256;

const fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/') || b >= 0x80
}

/// Whether a rule could find something at the word that a byte is in, and up to where that is said: the end of the word, or
/// of its value. `needs_weight`: whether only values count that are no letters alone.
pub fn word(bytes: &[u8], at: usize, needs_weight: &dyn Fn() -> bool) -> (usize, bool) {
    let from = at.saturating_sub(NEAR);
    let start = bytes[from..at].iter().rposition(|b| !is_word(*b)).map_or(from, |before| from + before + 1);
    let rest = &bytes[at..bytes.len().min(at + NEAR)];
    let end = at + rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
    let end = end.max(at + 1);
    match quiet(bytes, start, end, needs_weight) {
        Some(quiet) => (quiet.max(end), false),
        None => (end, true),
    }
}

/// Whether values in a file count only when they are no letters alone: JSON that is no object of Kubernetes, holds none, no
/// values of Helm and no variables.
pub fn is_data(name: &str, bytes: &[u8]) -> bool {
    const ELSE: [&str; 9] = ["apiVersion", "alues", "ALUES", "env", "Env", "ENV", "variable", "Variable", "arameter"];
    name.ends_with(".json")
        && !name.contains(".tf")
        && !rules::bul003::is_secrets_file(name)
        && !rules::bul003::is_values_file(name)
        && ELSE.iter().all(|word| memchr::memmem::find(bytes, word.as_bytes()).is_none())
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

/// Whether a word is no name that any rule asks about.
fn says_nothing(name: &str) -> bool {
    says(name) == Says::Nothing && says_of_elements(name) == Says::Nothing && !holds_secrets(name) && !is_flag(name)
}

/// Up to where nothing is to be found, if so.
fn quiet(bytes: &[u8], start: usize, end: usize, needs_weight: &dyn Fn() -> bool) -> Option<usize> {
    let name = std::str::from_utf8(&bytes[start..end]).ok()?;
    if matches!(name, "Secret" | "SecretList") || end - start >= NEAR {
        return None;
    }
    if says_nothing(name) {
        return Some(end);
    }
    let (begin, stop) = line(bytes, start);
    let before = trim(&bytes[begin..start]);
    if before.first().or_else(|| bytes.get(start)) == Some(&b'#') {
        return Some(end);
    }
    // `key: password`: a name of something, under a name that says nothing of secrets.
    let rest = trim(&bytes[end..stop]);
    let quote = before.last().filter(|b| matches!(b, b'"' | b'\''));
    let (quoted, rest) = match quote {
        Some(quote) => (&before[..before.len() - 1], rest.strip_prefix(&[*quote]).map(trim)),
        None => (before, Some(rest)),
    };
    // In JSON others may follow.
    let is_whole = |rest: &[u8]| {
        // `image: registry.example.org/token:1.2`: one word still.
        let rest = rest.strip_prefix(b":").unwrap_or(rest);
        let rest = &rest[rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len())..];
        rest.is_empty() || (quote.is_some() && matches!(rest[0], b',' | b'}' | b']'))
    };
    let Some(key) = trim(quoted).strip_suffix(b":").filter(|_| rest.is_some_and(is_whole)) else {
        return quiet_pair(bytes, name, begin..start, end..stop, needs_weight);
    };
    let key = key.strip_suffix(b"\"").unwrap_or(key);
    let from = key.iter().rposition(|b| !is_word(*b)).map_or(0, |at| at + 1);
    let key_name = std::str::from_utf8(&key[from..]).ok()?;
    if says(key_name) != Says::Nothing || holds_secrets(key_name) || key_name.is_empty() {
        return None;
    }
    let active = match key_name {
        // A literal, if there is one, stands in the same item.
        "name" | "Name" | "key" | "Key" => has_value(bytes, begin, start..end, stop, key[..from].contains(&b'-')),
        "value" | "kind" | "op" | "path" => true,
        _ => false,
    };
    (!active).then_some(end)
}

/// The end of the value of a name that is a key on a line of its own, or in JSON, when it is there as a whole and is none, as
/// [`judge`] has it: `password: ${DB_PASSWORD}`, `auth:` above a mapping, `db.token=<token>`.
fn quiet_pair(
    bytes: &[u8],
    name: &str,
    before: Range<usize>,
    rest: Range<usize>,
    needs_weight: &dyn Fn() -> bool,
) -> Option<usize> {
    // The end of the line is not seen, or what the name says is not all.
    if bytes.get(rest.end).is_some_and(|b| *b != b'\n') || is_form(name) || name.contains("hpasswd") {
        return None;
    }
    let (line, indent) = (&bytes[before.clone()], indent(&bytes[before.start..rest.end]));
    let quote = line.last().copied().filter(|b| matches!(b, b'"' | b'\''));
    let lead = trim(if quote.is_some() { &line[..line.len() - 1] } else { line });
    let flow = matches!(lead.last(), Some(b'{' | b','));
    if !flow && !lead.iter().all(|b| matches!(b, b'-' | b' ')) {
        return None;
    }
    let mut after = &bytes[rest.clone()];
    if let Some(quote) = quote {
        after = after.strip_prefix(&[quote])?;
    }
    let after = after.trim_ascii();
    let below = &bytes[(rest.end + 1).min(bytes.len())..];
    if let Some(value) = after.strip_prefix(b"=") {
        let value = trim(value);
        // A word: in a command line others follow.
        let word =
            !value.iter().any(|b| b.is_ascii_whitespace() || matches!(b, b';' | b'&' | b'|' | b'\\' | b'"' | b'\''));
        let alone = word && quote.is_none() && !flow && !is_continued(below, indent);
        return (alone && is_none(name, value, needs_weight)).then_some(rest.end);
    }
    let value = after.strip_prefix(b":")?;
    if quote.is_none() && value.first().is_some_and(|b| !b.is_ascii_whitespace()) {
        return None;
    }
    let value = trim(value);
    match value.first() {
        None | Some(b'#') => {
            let own = !flow && says_of_elements(name) == Says::Nothing && !holds_secrets(name);
            (own && has_keys_alone(below, indent, lead.contains(&b'-'))).then_some(rest.end)
        }
        Some(quote @ (b'"' | b'\'')) => {
            let inner = &value[1..];
            let close = inner.iter().position(|b| b == quote)?;
            let plain = !inner[..close].contains(&b'\\') && inner.get(close + 1) != Some(quote);
            let end = rest.start + bytes[rest].trim_ascii_end().len();
            (plain && is_none(name, &inner[..close], needs_weight)).then_some(end - inner.len() + close)
        }
        Some(b'{' | b'[' | b'|' | b'>' | b'&' | b'*' | b'!' | b'?' | b'%' | b'@' | b'`') => None,
        Some(_) => {
            let hash = value.windows(2).position(|two| two == b" #").unwrap_or(value.len());
            let value = trim(&value[..hash]);
            let alone = !flow && !value.ends_with(b",") && !is_continued(below, indent);
            (alone && is_none(name, value, needs_weight)).then_some(rest.end)
        }
    }
}

/// Whether a value under a telling name is none that any rule tells of.
fn is_none(name: &str, value: &[u8], needs_weight: &dyn Fn() -> bool) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    // The expressions of templates are taken apart where they are parsed.
    let whole = !value.contains("{{") && !value.contains("{%");
    whole && (!judge::text(name, value) || (!has_weight(value) && needs_weight()))
}

/// How far a line is indented, the dashes of lists included.
fn indent(line: &[u8]) -> usize {
    line.iter().take_while(|b| matches!(b, b' ' | b'-')).count()
}

/// How many blanks a line begins with.
fn spaces(line: &[u8]) -> usize {
    line.iter().take_while(|b| **b == b' ').count()
}

/// Whether a value goes on in the lines that follow.
fn is_continued(rest: &[u8], indent: usize) -> bool {
    const LINES: usize = 8;
    for (count, line) in rest[..rest.len().min(8 * NEAR)].split(|b| *b == b'\n').enumerate() {
        if trim(line).is_empty() {
            // Blank lines belong to it when more of it follows.
            if count == LINES {
                return true;
            }
            continue;
        }
        return spaces(line) > indent || line.first() == Some(&b'\t');
    }
    false
}

/// Whether there are only keys with names of their own below a key: no list, no text on the next line, no form such as `value`.
fn has_keys_alone(rest: &[u8], indent: usize, in_list: bool) -> bool {
    const LINES: usize = 40;
    let seen = &rest[..rest.len().min(16 * NEAR)];
    let mut first = None;
    for (count, line) in seen.split(|b| *b == b'\n').enumerate() {
        let bare = trim(line);
        if bare.is_empty() || bare.starts_with(b"#") {
            continue;
        }
        let own = spaces(line);
        // A list may stand as far left as its key.
        if bare.starts_with(b"- ") && own + usize::from(in_list) * 2 >= indent && first.is_none() {
            return false;
        }
        if own <= indent {
            return true;
        }
        if count == LINES || line.first() == Some(&b'\t') {
            return false;
        }
        let quoted = bare.strip_prefix(b"\"").or_else(|| bare.strip_prefix(b"'")).unwrap_or(bare);
        let (key, after) = quoted.split_at(quoted.iter().position(|b| !is_word(*b)).unwrap_or(quoted.len()));
        let is_key = after.iter().find(|b| !matches!(b, b'"' | b'\'')) == Some(&b':');
        let Ok(key) = std::str::from_utf8(key) else { return false };
        match first {
            None if !is_key => return false,
            None => first = Some(own),
            Some(_) => {}
        }
        if Some(own) == first && is_form(key) {
            return false;
        }
    }
    rest.len() == seen.len()
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
fn has_value(bytes: &[u8], begin: usize, word: Range<usize>, stop: usize, first: bool) -> bool {
    const LINES: usize = 8;
    let column = indent(&bytes[begin..stop]);
    // In JSON, or braces, on one line.
    let beside = [&bytes[begin..word.start], &bytes[word.end..stop]];
    if beside.iter().any(|part| memchr::memmem::find(part, b"alue").is_some())
        || bytes.get(stop).is_some_and(|b| *b != b'\n')
    {
        return true;
    }
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
        let own = spaces(line);
        if bare.starts_with(b"-") || bare.starts_with(b"}") || (own < column && !bare.is_empty()) {
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
        word(text.as_bytes(), text.find(needle).expect("there"), &|| false).1
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
            ("    shop.password=${SHOP_PASSWORD}\n", "assw"),
            ("  password: changeme # later\n  user: x\n", "assw"),
            ("  password: \"<password>\"\n    x", "assw"),
            ("  \"token\": \"a-token\", \"x\": 1\n", "oken"),
            ("[{\"token\":\"a-token\"}]\n", "oken"),
            ("  auth:\n    existingSecret: a\n    passwordKey: b\nx: y\n", "auth"),
            ("- auth:\n    user: a\n", "auth"),
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
            ("  DB_PASSWORD=hunter2 psql -h db -U shop\n", "ASSW"),
            ("  DB_PASSWORD=changeme \\\n  hunter2\n", "ASSW"),
            ("  password: changeme\n    and-hunter2\n", "assw"),
            ("  password:\n    hunter2\n", "assw"),
            ("  password:\n    value: hunter2\n", "assw"),
            ("  password:\n    from: x\n    value: hunter2\n", "assw"),
            ("  password: |\n    hunter2\n", "assw"),
            ("  password: &x changeme\n", "assw"),
            ("  password: \"change\\\n    me\"\n", "assw"),
            ("  password: {{ x }}\n", "assw"),
            ("  {password: changeme, x: hunter2}\n", "assw"),
            ("  secret:\n    a: x\n", "ecret"),
            ("  passwords:\n  - a\n", "assw"),
            ("  auth:\n  - a\n", "auth"),
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
            assert!(word(&bytes, at, &|| true).0 > at);
            address(&bytes, at);
        }
    }
}
