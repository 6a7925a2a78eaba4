//! Names and values in texts that are settings of some form: properties, INI, TOML, env files, XML, lines of PHP, Python or
//! shell, directives. No parser takes them all, and one that fails finds nothing: what joins a name with a value is alike
//! in all of them, so it is looked for line by line.

use std::ops::Range;

/// A name and its value, and where the name stands in the text.
pub struct Pair<'t> {
    pub name: &'t str,
    pub value: &'t str,
    pub at: Range<usize>,
    /// Joined by nothing but a blank: only a value that can't be a word counts.
    pub loose: bool,
}

/// What a file is, as far as it matters how values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Values stand as they are: properties, INI, env files, directives.
    Plain,
    /// Only what is in quotes is a literal: TOML, Python, PHP, JavaScript.
    Quoted,
    /// A shell's script.
    Shell,
    /// Elements and attributes.
    Xml,
}

/// By a file's name, and by what it begins with.
pub fn form(name: &str, text: &str) -> Form {
    let lower = name.to_ascii_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| lower.ends_with(end));
    let start = text.trim_start();
    if start.starts_with("<?xml") || (ends(&[".xml", ".config", ".xml.tpl"]) && start.starts_with('<')) {
        return Form::Xml;
    }
    if ends(&[".sh", ".bash", ".zsh", ".ksh"])
        || (start.starts_with("#!") && start.lines().next().is_some_and(|line| line.ends_with("sh")))
    {
        return Form::Shell;
    }
    if ends(&[
        ".py", ".php", ".rb", ".js", ".mjs", ".cjs", ".ts", ".lua", ".groovy", ".gradle", ".go", ".java", ".pl",
        ".tcl", ".toml", ".json", ".r",
    ]) || start.starts_with("<?php")
    {
        return Form::Quoted;
    }
    if start.starts_with('<') && start.trim_end().ends_with('>') { Form::Xml } else { Form::Plain }
}

/// Gives each pair of a text, in the order of its lines.
pub fn pairs<'t>(form: Form, text: &'t str, mut each: impl FnMut(Pair<'t>)) {
    let mut offset = 0;
    // The end of the comment over several lines that a line is in.
    let mut comment: Option<&str> = None;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end();
        if let Some(end) = comment {
            comment = comment.filter(|_| !line.contains(end));
            offset += whole.len();
            continue;
        }
        let bare = line.trim_start();
        comment = [("<!--", "-->"), ("/*", "*/")]
            .into_iter()
            .find(|(open, end)| bare.starts_with(open) && !bare.contains(end))
            .map(|(_, end)| end);
        // Longer lines are no settings that somebody wrote.
        if line.len() <= 16 * 1024 {
            let mut give = |name: &'t str, value: &'t str, at: usize, loose: bool| {
                each(Pair { name, value, at: offset + at..offset + at + name.len(), loose });
            };
            of_line(form, line, &mut give);
            // Properties whose value begins on the next line.
            if form == Form::Plain
                && let Some((name, "", inner)) = line.strip_suffix('\\').and_then(assignment)
            {
                let next = text[offset + whole.len()..].lines().next().unwrap_or_default();
                give(name, next.trim().trim_end_matches('\\'), inner, false);
            }
        }
        offset += whole.len();
    }
}

type Give<'g, 't> = dyn FnMut(&'t str, &'t str, usize, bool) + 'g;

fn of_line<'t>(form: Form, line: &'t str, give: &mut Give<'_, 't>) {
    let bare = line.trim_start();
    let at = line.len() - bare.len();
    if bare.is_empty() || is_comment(form, bare) {
        return;
    }
    if form == Form::Xml {
        xml(line, give);
        return;
    }
    let before = std::cell::Cell::new(false);
    {
        let mut note = |name: &'t str, value: &'t str, at: usize, loose: bool| {
            before.set(true);
            give(name, value, at, loose);
        };
        sql(line, &mut note);
        if !before.get() {
            quoted(line, &mut note);
        }
    }
    if before.get() || form == Form::Quoted {
        return;
    }
    match assignment(bare) {
        Some((name, value, inner)) => give(name, value, at + inner, false),
        None if form == Form::Plain && bare.contains('{') => inline(line, give),
        None if form == Form::Plain => directive(line, give),
        None => {}
    }
}

/// `authorization { user: a, password: x }`: what stands in braces, without quotes.
fn inline<'t>(line: &'t str, give: &mut Give<'_, 't>) {
    let mut name: Option<&'t str> = None;
    for word in
        line.split(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | ';')).filter(|word| !word.is_empty())
    {
        let begin = |part: &str| part.as_ptr() as usize - line.as_ptr() as usize;
        if let Some(name) = name.take() {
            give(name, word, begin(name), false);
        }
        let end = word.find([':', '=']).unwrap_or(word.len());
        let (before, after) = (&word[..end], word[end..].trim_start_matches([':', '=']));
        if end < word.len() && !before.is_empty() && before.bytes().all(is_name_byte) {
            if after.is_empty() {
                name = Some(before);
            } else {
                give(before, after, begin(before), false);
            }
        }
    }
}

fn is_comment(form: Form, bare: &str) -> bool {
    match form {
        Form::Shell => bare.starts_with('#'),
        Form::Xml => bare.starts_with("<!--"),
        Form::Quoted => {
            bare.starts_with('#')
                || bare.starts_with("//")
                || bare.starts_with("/*")
                || bare.starts_with("* ")
                || bare.starts_with("--")
        }
        Form::Plain => bare.starts_with(['#', ';', '!', '%']) || bare.starts_with("//") || bare.starts_with("-- "),
    }
}

const fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/')
}

/// A line `NAME=VALUE`, `NAME: VALUE`, `export NAME=VALUE`: name, value, and the byte at which the name begins.
pub fn assignment(line: &str) -> Option<(&str, &str, usize)> {
    let mut bare = line.trim_start();
    if bare.starts_with(['#', ';', '!', '[']) {
        return None;
    }
    for word in ["export ", "local ", "readonly ", "declare ", "set ", "SET ", "ENV ", "ARG ", "Environment="] {
        bare = bare.strip_prefix(word).unwrap_or(bare).trim_start();
    }
    let at = line.len() - bare.len();
    let end = bare.find(['=', ':'])?;
    let name = bare[..end].trim_end();
    if name.is_empty() || !name.bytes().all(is_name_byte) {
        return None;
    }
    let rest = bare[end + 1..].trim_start_matches(['=', '>']).trim();
    let value = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let tripled = ["\"\"\"", "'''"].into_iter().find(|mark| rest.starts_with(mark));
            match tripled {
                Some(mark) => rest[3..].split(mark).next().unwrap_or_default(),
                None => rest[1..].split(quote).next().unwrap_or_default(),
            }
        }
        _ => rest.split(" #").next().unwrap_or(rest).split(" ;").next().unwrap_or(rest).trim().trim_end_matches(';'),
    };
    Some((name, value, at))
}

/// Names with values in quotes, wherever on a line: `'PASSWORD': 'x'`, `password => "x"`, `$db['password'] = 'x';`,
/// `define('DB_PASSWORD', 'x')`, `{"a": {"password": "x"}}`.
fn quoted<'t>(line: &'t str, give: &mut Give<'_, 't>) {
    let bytes = line.as_bytes();
    let mut at = 0;
    // The last name that was seen, and whether what joins it with a value came after it.
    let mut name: Option<(usize, usize)> = None;
    let mut joined = false;
    let mut call = false;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                let width = if bytes[at..].starts_with(&[quote; 3]) { 3 } else { 1 };
                let begin = at + width;
                let mut end = begin;
                while end < bytes.len() && !bytes[end..].starts_with(&[quote; 3][..width]) {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                let end = end.min(bytes.len());
                let (Some(inner), after) = (line.get(begin..end), (end + width).min(bytes.len())) else { return };
                if joined && let Some((from, to)) = name {
                    if let Some(name) = line.get(from..to) {
                        give(name, inner, from, false);
                    }
                    (name, joined, call) = (None, false, false);
                } else if !inner.is_empty() && inner.bytes().all(is_name_byte) {
                    (name, joined) = (Some((begin, end)), false);
                } else {
                    (name, joined) = (None, false);
                }
                at = after;
                continue;
            }
            b'=' | b':' if name.is_some() && !joined => {
                // Comparisons, scopes and the variables of SQL join nothing.
                let next = bytes.get(at + 1).copied();
                let twice = next == Some(bytes[at])
                    || (bytes[at] == b':' && at > 0 && bytes[at - 1] == b' ' && matches!(next, Some(b'"' | b'\'')));
                if twice {
                    name = None;
                    at += 1;
                } else {
                    joined = true;
                    if bytes.get(at + 1) == Some(&b'>') || bytes.get(at + 1) == Some(&b'=') {
                        at += 1;
                    }
                }
            }
            b',' if call && name.is_some() => joined = true,
            b'(' => {
                let word = line[..at].trim_end();
                call = ["define", "set", "setProperty", "putenv", "config", "setenv"]
                    .iter()
                    .any(|known| word.ends_with(known));
                (name, joined) = (None, false);
            }
            b']' | b' ' | b'\t' | b'\\' | b'$' | b'@' => {}
            b if is_name_byte(b) => {
                let end = at + bytes[at..].iter().position(|b| !is_name_byte(*b)).unwrap_or(bytes.len() - at);
                let is_prefix = matches!(line.get(at..end), Some("r" | "b" | "f" | "u"))
                    && matches!(bytes.get(end), Some(b'"' | b'\''));
                if !is_prefix {
                    (name, joined) = if joined { (None, false) } else { (Some((at, end)), false) };
                }
                at = end;
                continue;
            }
            b'#' | b';' if at > 0 && bytes[at - 1] == b' ' && !joined => return,
            _ => (name, joined) = (None, false),
        }
        at += 1;
    }
}

/// SQL's `PASSWORD '…'` and `IDENTIFIED BY '…'`.
fn sql<'t>(line: &'t str, give: &mut Give<'_, 't>) {
    let lower = line.to_ascii_lowercase();
    for (mark, name) in [("password '", 8), ("identified by '", 10)] {
        if let Some(found) = lower.find(mark)
            && let (Some(name), Some(rest)) = (line.get(found..found + name), line.get(found + mark.len()..))
        {
            let value = rest.split('\'').next().unwrap_or_default();
            give(if name.len() == 8 { name } else { "password" }, value, found, false);
        }
    }
}

/// `<password>x</password>`, `<add key="Password" value="x"/>`, `<jdbc password="x">`.
fn xml<'t>(line: &'t str, give: &mut Give<'_, 't>) {
    let mut rest = line;
    // A tag that began on a line before.
    let first = rest.find(['<', '>']).unwrap_or(rest.len());
    if !rest[first..].starts_with('<') {
        attributes(line, &rest[..first], give);
    }
    while let Some(open) = rest.find('<') {
        let tag = &rest[open + 1..];
        let Some(close) = tag.find('>') else {
            attributes(line, tag, give);
            return;
        };
        let (inner, after) = (&tag[..close], &tag[close + 1..]);
        let name = &inner[..inner.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(inner.len())];
        let begin = |part: &str| part.as_ptr() as usize - line.as_ptr() as usize;
        if let Some(end) = after.find("</")
            && after[end + 2..].starts_with(name)
            && !name.is_empty()
            && !inner.ends_with('/')
        {
            give(name, &after[..end], begin(name), false);
        }
        attributes(line, &inner[name.len()..], give);
        rest = after;
    }
}

/// Attributes of a tag, or of what of a tag stands on a line.
fn attributes<'t>(line: &'t str, tag: &'t str, give: &mut Give<'_, 't>) {
    let begin = |part: &str| part.as_ptr() as usize - line.as_ptr() as usize;
    let mut key: Option<&'t str> = None;
    let mut rest = tag;
    while let Some(sign) = rest.find('=') {
        // Behind the name of the tag, where that stands here too.
        let attribute = rest[..sign].split_whitespace().next_back().unwrap_or_default();
        let value = rest[sign + 1..].trim_start();
        let Some(quote @ ('"' | '\'')) = value.chars().next() else { break };
        let Some(end) = value[1..].find(quote) else { break };
        let text = &value[1..=end];
        match attribute {
            "name" | "key" | "Name" | "Key" => key = Some(text),
            "value" | "Value" => {
                if let Some(key) = key {
                    give(key, text, begin(key), false);
                }
            }
            "" => {}
            _ => give(attribute, text, begin(attribute), false),
        }
        rest = &value[end + 2..];
    }
}

/// `requirepass x`, `user ops insecure-password x`, `secret NAME x`: words, of which one may be a name and a later one its value.
fn directive<'t>(line: &'t str, give: &mut Give<'_, 't>) {
    let words: Vec<&'t str> = line.split_whitespace().take(7).collect();
    // What goes on after a comma is an element of a list, such as a column of a table.
    if words.len() < 2 || words.len() > 6 || line.ends_with(',') {
        return;
    }
    // A sentence.
    if words.len() > 2 && line.ends_with(['.', '!', '?']) {
        return;
    }
    for (index, name) in words.iter().enumerate() {
        if !name.bytes().all(is_name_byte) || name.starts_with('/') {
            continue;
        }
        let at = name.as_ptr() as usize - line.as_ptr() as usize;
        for (distance, value) in words.iter().skip(index + 1).take(2).enumerate() {
            let value = value.trim_end_matches(';').trim_matches(['"', '\'']);
            // The first word of a line of two is a directive for sure.
            give(name, value, at, !(index == 0 && distance == 0 && words.len() == 2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(name: &str, text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        pairs(form(name, text), text, |pair| {
            assert_eq!(&text[pair.at.clone()], pair.name);
            if !pair.loose {
                found.push((pair.name.to_owned(), pair.value.to_owned()));
            }
        });
        found
    }

    fn has(name: &str, text: &str, pair: (&str, &str)) {
        let found = all(name, text);
        assert!(found.contains(&(pair.0.to_owned(), pair.1.to_owned())), "{text}: {found:?}");
    }

    #[test]
    fn pairs_of_all_forms_are_read() {
        has("a.properties", "db.password=hunter2 \n", ("db.password", "hunter2"));
        has("a.properties", "db.password=\\\n    hunter2\n", ("db.password", "hunter2"));
        has("a.xml", "<!--\n<password>old</password>\n-->\n<password>x1</password>", ("password", "x1"));
        assert_eq!(all("a.xml", "<a>\n<!--\n<password>old</password>\n-->\n</a>"), []);
        assert_eq!(all("a.js", "/* old\npassword: \"x\"\n*/\n"), []);
        has("a.ini", "[db]\npassword = \"\"\"Sn#w;7\"\"\"", ("password", "Sn#w;7"));
        has("a.ini", "PWD = Ember9 ; a comment", ("PWD", "Ember9"));
        has("a.toml", "bind_password = \"l0rry\"", ("bind_password", "l0rry"));
        has("wp-config.php", "define( 'DB_PASSWORD', 'fern-92' );", ("DB_PASSWORD", "fern-92"));
        has("x.php", "$db['password'] = 'fern';", ("password", "fern"));
        has("settings.py", "    'PASSWORD': 'cobalt-3',", ("PASSWORD", "cobalt-3"));
        has("settings.py", "D = {'default': {'USER': 'a', 'PASSWORD': 'b3'}}", ("PASSWORD", "b3"));
        has("a.rb", "  password: \"x1\",", ("password", "x1"));
        has("a.js", "module.exports = { apiToken: 'x1' };", ("apiToken", "x1"));
        has("run.sh", "export MYSQL_PWD=swivel-4", ("MYSQL_PWD", "swivel-4"));
        has("s.xml", "<password>Tug0</password>", ("password", "Tug0"));
        has("s.xml", "<add key=\"DbPassword\" value=\"x1\" />", ("DbPassword", "x1"));
        has("s.xml", "<jdbc url=\"a\" password='x1'>", ("password", "x1"));
        has(
            "c.xml",
            "<Resource name=\"jdbc\"\n  username=\"a\" password=\"x1\"\n  maxIdle=\"5\"/>",
            ("password", "x1"),
        );
        has("c.xml", "<Resource password=\"x1\"\n  maxIdle=\"5\"/>", ("password", "x1"));
        has("init.sql", "ALTER USER a WITH PASSWORD 'x1';", ("PASSWORD", "x1"));
        has("nats.conf", "authorization { user: a, password: x1 }", ("password", "x1"));
        has("redis.conf", "requirepass \"mango.6\"", ("requirepass", "mango.6"));
    }

    #[test]
    fn expressions_are_no_literals() {
        assert_eq!(all("settings.py", "PASSWORD = os.environ['PASSWORD']"), []);
        assert_eq!(all("settings.py", "PASSWORD_RESET_TIMEOUT = 86400"), []);
        assert_eq!(all("x.php", "define( 'NONCE_SALT', getenv('NONCE_SALT') );"), []);
        let mut any = false;
        pairs(Form::Plain, "  reset_token text,\n", |_| any = true);
        assert!(!any, "a column of a table");
        assert_eq!(all("a.js", "if (password == 'x') {"), []);
        assert_eq!(
            all("run.sh", "if [ -z \"${DB_PASSWORD:-}\" ]; then echo \"DB_PASSWORD is not set\"; exit 1; fi"),
            []
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "([a-z =:'\"<>/#;(){}é\\\\]|password|define\\(|\n){0,60}") {
            for name in ["a", "a.py", "a.sh", "a.xml"] {
                pairs(form(name, &text), &text, |pair| assert_eq!(&text[pair.at], pair.name));
            }
        }
    }
}
