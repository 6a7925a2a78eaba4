//! Terraform's language, as far as literals and what they are called: attributes, blocks, objects, lists. Whatever is not
//! understood is passed over, so that no dialect hides what stands beside it.

use std::ops::Range;

/// A literal, and where it stands.
pub struct Literal<'t> {
    /// The attribute's name; of an element of a list, the list's.
    pub name: &'t str,
    pub at: Range<usize>,
    pub value: &'t str,
    /// Whether it stands in a list.
    pub element: bool,
    /// Whether parts of it are expressions.
    pub interpolated: bool,
}

/// A block or an object around a literal.
pub struct Frame<'t> {
    pub name: &'t str,
    pub labels: Vec<&'t str>,
    /// Of an object or block with `name` and `value`: both.
    pub pair: (Option<&'t str>, Option<(&'t str, Range<usize>)>),
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Object,
    List,
    Call,
}

/// Functions whose arguments are the value in another form, or instead of another.
const PASSING: &[&str] = &["base64encode", "sensitive", "nonsensitive", "coalesce", "try", "tostring", "trimspace"];

/// Levels of nesting that are followed at most.
const MAX_DEPTH: usize = 64;

/// Gives each literal with the frames around it, the outermost first, and each frame that ends.
pub fn read<'t>(
    text: &'t str,
    mut each: impl FnMut(&[Frame<'t>], Literal<'t>),
    mut ends: impl FnMut(&[Frame<'t>], &Frame<'t>),
) {
    let bytes = text.as_bytes();
    let mut frames: Vec<Frame<'t>> = Vec::new();
    // What stands before a `=`, `:` or `{`.
    let mut words: Vec<(&'t str, Range<usize>)> = Vec::new();
    // The attribute whose value is being read.
    let mut attribute: Option<(&'t str, Range<usize>)> = None;
    // Whether a literal here is the value as it is: after the sign, a `?` or a `:` of a condition, in a list or a passing function.
    let mut open = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => at = line_end(text, at),
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = line_end(text, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = text[at..].find("*/").map_or(bytes.len(), |end| at + end + 2);
            }
            b'\n' => {
                let listed = frames.last().is_some_and(|frame| matches!(frame.kind, Kind::List | Kind::Call));
                if !listed {
                    words.clear();
                    attribute = None;
                    open = false;
                }
                at += 1;
            }
            b'"' => {
                let Some(end) = string_end(bytes, at + 1) else { return };
                let inner = &text[at + 1..end];
                let interpolated = inner.contains("${") || inner.contains("%{");
                if open && let Some((name, place)) = &attribute {
                    let element = frames.last().is_some_and(|frame| frame.kind == Kind::List);
                    if let Some(frame) =
                        frames.last_mut().filter(|frame| matches!(frame.kind, Kind::Block | Kind::Object))
                    {
                        match *name {
                            "name" => frame.pair.0 = Some(inner),
                            "value" if !interpolated => frame.pair.1 = Some((inner, place.clone())),
                            _ => {}
                        }
                    }
                    each(&frames, Literal { name, at: place.clone(), value: inner, element, interpolated });
                    open = element;
                } else {
                    words.push((inner, at + 1..end));
                }
                at = end + 1;
            }
            b'<' if text[at..].starts_with("<<") => {
                let rest = text[at + 2..].trim_start_matches('-');
                let mark: &str = &rest[..rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())];
                let begin = line_end(text, at);
                let mut end = begin;
                let mut body = begin..bytes.len();
                for line in text[begin..].split_inclusive('\n') {
                    if !mark.is_empty() && line.trim() == mark {
                        body.end = end;
                        break;
                    }
                    end += line.len();
                }
                if mark.is_empty() {
                    at += 2;
                    continue;
                }
                if let Some((name, place)) = &attribute {
                    let value = text.get(body.start..body.end).unwrap_or_default();
                    each(
                        &frames,
                        Literal { name, at: place.clone(), value, element: false, interpolated: value.contains("${") },
                    );
                }
                at = body.end;
                // The mark itself.
                at += text[at..].find('\n').map_or(text.len() - at, |end| end);
                attribute = None;
            }
            b'=' if bytes.get(at + 1) == Some(&b'=') => {
                open = false;
                at += 2;
            }
            b'!' | b'>' | b'<' | b'&' | b'|' | b'+' | b'-' | b'*' | b'/' | b'%' => {
                open = false;
                at += if bytes.get(at + 1) == Some(&b'=') { 2 } else { 1 };
            }
            b'=' | b':'
                if attribute.is_none()
                    || frames.last().is_some_and(|frame| frame.kind == Kind::Object) && !words.is_empty() =>
            {
                if let Some((word, place)) = words.last() {
                    attribute = Some((*word, place.clone()));
                    open = true;
                }
                words.clear();
                at += 1;
            }
            b'?' | b':' => {
                open = attribute.is_some();
                at += 1;
            }
            b',' => {
                match frames.last().map(|frame| frame.kind) {
                    Some(Kind::List) => open = true,
                    Some(Kind::Call) => {}
                    _ => {
                        attribute = None;
                        open = false;
                    }
                }
                words.clear();
                at += 1;
            }
            b'{' | b'[' | b'(' => {
                if frames.len() >= MAX_DEPTH {
                    return;
                }
                let kind = match (bytes[at], &attribute) {
                    (b'[', _) => Kind::List,
                    (b'(', _) => Kind::Call,
                    (_, Some(_)) => Kind::Object,
                    _ if frames.last().is_some_and(|frame| matches!(frame.kind, Kind::List | Kind::Call)) => {
                        Kind::Object
                    }
                    _ => Kind::Block,
                };
                let frame = if kind == Kind::Block {
                    let name = words.first().map_or("", |(word, _)| word);
                    Frame {
                        name,
                        labels: words.iter().skip(1).map(|(word, _)| *word).collect(),
                        pair: (None, None),
                        kind,
                    }
                } else {
                    let name = attribute
                        .as_ref()
                        .map_or_else(|| frames.last().map_or("", |frame| frame.name), |(name, _)| name);
                    Frame { name, labels: Vec::new(), pair: (None, None), kind }
                };
                match kind {
                    Kind::Call => {
                        let function = words.last().map_or("", |(word, _)| word);
                        open = attribute.is_some() && PASSING.contains(&function);
                    }
                    Kind::List => open = attribute.is_some(),
                    Kind::Block | Kind::Object => {
                        attribute = None;
                        open = false;
                    }
                }
                frames.push(frame);
                words.clear();
                at += 1;
            }
            b'}' | b']' | b')' => {
                if let Some(frame) = frames.pop()
                    && matches!(frame.kind, Kind::Block | Kind::Object)
                {
                    ends(&frames, &frame);
                    attribute = None;
                }
                words.clear();
                open = false;
                at += 1;
            }
            b if b.is_ascii_alphanumeric() || b == b'_' => {
                let end = at
                    + bytes[at..]
                        .iter()
                        .position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')))
                        .unwrap_or(bytes.len() - at);
                words.push((&text[at..end], at..end));
                // An expression has begun: what follows is no literal by itself.
                open &= frames.last().is_some_and(|frame| matches!(frame.kind, Kind::List | Kind::Call));
                at = end;
            }
            _ => at += 1,
        }
    }
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end)
}

/// The closing quote of a string: quotes within its expressions are not its own.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'$' | b'%' if bytes.get(at + 1) == Some(&b'{') && bytes.get(at.wrapping_sub(1)) != Some(&b'$') => {
                depth += 1;
                at += 1;
            }
            b'{' if depth > 0 => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'"' if depth == 0 => return Some(at),
            b'\n' if depth == 0 => return None,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        read(
            text,
            |frames, literal| {
                assert!(text.get(literal.at.clone()).is_some());
                let path: Vec<&str> =
                    frames.iter().flat_map(|f| std::iter::once(f.name).chain(f.labels.iter().copied())).collect();
                found.push(format!("{}|{}={}", path.join("."), literal.name, literal.value));
            },
            |_, _| {},
        );
        found
    }

    #[test]
    fn literals_are_read_with_what_is_around_them() {
        assert_eq!(
            all("variable \"pw\" {\n  type = string\n  default = \"x1\" # why\n}\n"),
            ["variable.pw|default=x1"]
        );
        assert_eq!(
            all("locals {\n  a = \"x\"\n  b = { c = \"y\", \"d\" : \"z\" }\n}"),
            ["locals|a=x", "locals.b|c=y", "locals.b|d=z"]
        );
        assert_eq!(all("a = [\"x\", \"y\"]"), ["a|a=x", "a|a=y"]);
        assert_eq!(all("a = var.x != \"\" ? var.x : \"y\""), ["|a=y"]);
        assert_eq!(all("a = base64encode(\"x\")\nb = file(\"x\")\nc = coalesce(var.c, \"y\")"), ["a|a=x", "c|c=y"]);
        assert_eq!(all("a = \"${var.b[\"k\"]}-x\""), ["|a=${var.b[\"k\"]}-x"]);
        assert_eq!(all("a = <<-EOT\n  b: c\n  EOT\nd = \"e\""), ["|a=\n  b: c\n", "|d=e"]);
        assert_eq!(all("env = [{ name = \"A\", value = \"b\" }]"), ["env.env|name=A", "env.env|value=b"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "([a-z =:\"{}\\[\\](),?$%\\\\#/*\né-]|<<|EOT|\\$\\{){0,60}") {
            all(&text);
        }
    }
}
