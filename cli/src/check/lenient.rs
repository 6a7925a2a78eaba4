//! Making texts readable that are no YAML yet: templates, and manifests within other texts. Every byte keeps its place.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::value::{HOLE, LITERAL, Verdict, assess, has_weight};

/// Whether there is anything of a template in it.
pub fn is_templated(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("<%") || (text.contains("{#") && text.contains("#}"))
}

/// Whether it is a template, and not only a text with expressions in quotes, as alerts and workflows have them.
pub fn is_template(text: &str) -> bool {
    text.lines().any(|line| {
        let bare = line.trim_start();
        bare.starts_with("{{") || bare.starts_with("{%") || bare.starts_with("<%") || line.contains(": {{")
    })
}

/// The text with its template expressions replaced: by comments where one fills a line, by a hole where one stands in it.
/// A literal value that an expression gives (`default "x"`) stands in its place. The text has the same number of bytes, and the
/// same lines.
pub fn without_templates(text: &str) -> String {
    let variables = variables(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut line_start = 0;
    while let Some(c) = rest.chars().next() {
        let end = [("{{", "}}"), ("{%", "%}"), ("<%", "%>"), ("{#", "#}")]
            .iter()
            .find(|(open, _)| rest.starts_with(open))
            .and_then(|(_, close)| rest[2..].find(close).map(|at| at + 4));
        let Some(end) = end else {
            out.push(c);
            if c == '\n' {
                line_start = out.len();
            }
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let expression = &rest[..end];
        let after = &rest[end..];
        let alone_before = out[line_start..].trim().is_empty() || out[line_start..].trim_start().starts_with('#');
        let line_after = after.split('\n').next().unwrap_or_default();
        let alone_after = line_after.trim().is_empty() || only_templates(line_after);
        if expression.contains('\n') || (alone_before && alone_after && !expression.starts_with("<%=")) {
            // A comment, on each of its lines.
            let mut first = true;
            for part in expression.split('\n') {
                if !first {
                    out.push('\n');
                    line_start = out.len();
                }
                let blank = if out[line_start..].trim().is_empty() { "#" } else { " " };
                if !part.is_empty() {
                    out.push_str(blank);
                    out.extend(std::iter::repeat_n(' ', part.len() - 1));
                }
                first = false;
            }
        } else {
            let inner = expression[2..end - 2].trim_matches(['-', '=', '~', ' ', '\t']);
            match literal(inner).or_else(|| variables.get(variable(inner)?).cloned()) {
                // It can stand there without changing what is around it.
                Some(value) if stands_alone(&value) => {
                    out.push_str(&value);
                    // What goes on behind it belongs to the same word.
                    let goes_on =
                        after.starts_with(|c: char| !(c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '}' | ']')));
                    if goes_on {
                        out.push(HOLE);
                        out.extend(std::iter::repeat_n('_', end - value.len() - HOLE.len_utf8()));
                    } else {
                        out.extend(std::iter::repeat_n(' ', end - value.len()));
                    }
                }
                found => {
                    let hole = if found.is_some() { LITERAL } else { HOLE };
                    out.push(hole);
                    out.extend(std::iter::repeat_n('_', end - hole.len_utf8()));
                }
            }
        }
        rest = after;
    }
    out
}

/// Whether a literal is read as the same text without quotes, in quotes of both kinds and in brackets.
fn stands_alone(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == HOLE)
        && !value.ends_with([':', ' '])
        && !value.contains(": ")
        && value.chars().all(|c| {
            c.is_ascii_alphanumeric()
                || matches!(c, '.' | '_' | '+' | '/' | '=' | '@' | '$' | '%' | '^' | '~' | '-' | ':' | ' ' | HOLE)
        })
}

/// Functions that give their argument, or another form of it, as the value.
const GIVING: &[&str] = &[
    "default",
    "coalesce",
    "ternary",
    "b64enc",
    "b64encode",
    "base64",
    "quote",
    "squote",
    "or",
    "toString",
    "trim",
    "d",
    "else",
    "nindent",
    "indent",
    "printf",
];

/// The literal value that an expression gives, if it does: `.Values.x | default "hunter2"`, `"hunter2" | b64enc`,
/// `x | default('hunter2')`.
fn literal(expression: &str) -> Option<Zeroizing<String>> {
    let mut rest = expression;
    let mut function: Option<&str> = None;
    // What is put in the place of a format's verbs: a user or a host, when it is letters alone.
    let mut formats = false;
    while let Some(c) = rest.chars().next() {
        match c {
            '"' | '\'' | '`' => {
                let inner = &rest[1..];
                let mut end = None;
                let mut escaped = false;
                for (at, other) in inner.char_indices() {
                    match other {
                        _ if escaped => escaped = false,
                        '\\' if c != '`' => escaped = true,
                        _ if other == c => {
                            end = Some(at);
                            break;
                        }
                        _ => {}
                    }
                }
                let end = end?;
                let text = &inner[..end];
                let gives = function.is_none_or(|function| GIVING.contains(&function));
                let format = (function == Some("printf") && text.contains('%')).then(|| formatted(text));
                let text = format.as_ref().map_or(text, |format| format.as_str());
                let names = formats && !has_weight(text);
                formats |= format.is_some();
                if gives && !names && assess(text) == Verdict::Value {
                    return Some(Zeroizing::new(text.to_owned()));
                }
                function = function.or(Some("quote"));
                rest = &inner[end + 1..];
            }
            '|' | '=' => {
                (function, formats) = (None, false);
                rest = &rest[1..];
            }
            '(' => {
                // `default('x')` goes on with its function; `default (randAlphaNum 8)` has another.
                let called =
                    expression[..expression.len() - rest.len()].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                if !called {
                    function = None;
                }
                rest = &rest[1..];
            }
            _ if c.is_alphanumeric() || matches!(c, '_' | '.' | '$') => {
                let end =
                    rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '$'))).unwrap_or(rest.len());
                let word = &rest[..end];
                let asks =
                    matches!(word, "if" | "eq" | "ne" | "and" | "not" | "has" | "hasKey" | "contains" | "in" | "is");
                if function.is_none() || asks || word == "else" {
                    function = Some(word);
                }
                rest = &rest[end..];
            }
            _ => rest = &rest[c.len_utf8()..],
        }
    }
    None
}

/// A format of `printf`, with a hole for each of its verbs, of the same length.
fn formatted(format: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(format.len()));
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let verb = &rest[at..];
        let end = verb[1..].find(|c: char| c.is_ascii_alphabetic() || c == '%').map_or(verb.len(), |end| end + 2);
        if end == verb.len() && !verb.ends_with(|c: char| c.is_ascii_alphabetic()) || verb[..end].ends_with("%%") {
            out.push_str(&verb[..end]);
        } else {
            out.push(HOLE);
            out.extend(std::iter::repeat_n('_', end - HOLE.len_utf8()));
        }
        rest = &verb[end..];
    }
    out.push_str(rest);
    out
}

/// The variable that an expression begins with.
fn variable(expression: &str) -> Option<&str> {
    let name = expression.strip_prefix('$')?;
    let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(name.len());
    (end > 0).then(|| &name[..end])
}

/// Variables of the template that get a literal value: `{{ $password := "hunter2" }}`.
fn variables(text: &str) -> HashMap<&str, Zeroizing<String>> {
    let mut found = HashMap::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let Some(end) = rest[at..].find("}}") else { break };
        let inner = rest[at + 2..at + end].trim_matches(['-', ' ', '\t']);
        if let Some((_, value)) = inner.split_once(":=")
            && let (Some(name), Some(value)) = (variable(inner), literal(value))
        {
            found.insert(name, value);
        }
        rest = &rest[at + end + 2..];
    }
    found
}

fn only_templates(line: &str) -> bool {
    let mut rest = line.trim();
    while rest.starts_with("{{") || rest.starts_with("{%") {
        match rest.find("}}").or_else(|| rest.find("%}")) {
            Some(at) => rest = rest[at + 2..].trim_start(),
            None => return false,
        }
    }
    rest.is_empty()
}

/// A part of a text that may be a manifest: the byte where it begins, its text, and by how much its lines are indented.
pub struct Fragment<'t> {
    pub start: usize,
    pub text: &'t str,
}

/// Manifests within other texts: fenced blocks of Markdown, here-documents of shells, blocks that begin with `apiVersion:`.
pub fn fragments(text: &str) -> Vec<Fragment<'_>> {
    let mut found = Vec::new();
    let mut offset = 0;
    let mut open: Option<(usize, String)> = None;
    let mut seen = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        if open.is_none() && offset >= seen && bare.trim_start().starts_with("apiVersion:") {
            let rest = &text[offset..];
            let len = block_end(rest, bare.len() - bare.trim_start().len());
            found.push(Fragment { start: offset, text: &rest[..len] });
            seen = offset + len;
        }
        if offset < seen {
            offset += line.len();
            continue;
        }
        let trimmed = bare.trim_start().trim_start_matches(['>', '*']).trim_start();
        match &open {
            None => {
                if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
                    let fence: String = trimmed.chars().take_while(|c| matches!(c, '`' | '~')).collect();
                    // A fence that is closed on its own line opens nothing.
                    if !trimmed[fence.len()..].contains(&fence) {
                        open = Some((offset + line.len(), fence));
                    }
                } else if let Some(at) = bare.find("<<") {
                    let word = bare[at + 2..]
                        .trim_start_matches(['-', '~', '<'])
                        .trim_start()
                        .trim_start_matches(['\'', '"', '\\']);
                    let word: String = word.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                    if word.len() > 1 && word.bytes().next().is_some_and(|b| b.is_ascii_uppercase()) {
                        open = Some((offset + line.len(), word));
                    }
                } else if (trimmed.starts_with("---") && trimmed.len() == 3)
                    || trimmed.ends_with("\"\"\"")
                    || trimmed.ends_with('`')
                    || trimmed.ends_with("'''")
                    || trimmed == "----"
                    || trimmed == "...."
                {
                    let end = match trimmed {
                        "---" => String::new(),
                        "----" | "...." => trimmed.to_owned(),
                        _ => trimmed.chars().rev().take_while(|c| matches!(c, '"' | '`' | '\'')).collect(),
                    };
                    if !end.is_empty() {
                        open = Some((offset + line.len(), end));
                    }
                }
            }
            Some((start, end)) => {
                let quoted = end.starts_with(['"', '`', '\'']) && !end.starts_with("```");
                if trimmed.starts_with(end.as_str()) || (quoted && trimmed.contains(end.as_str())) {
                    if offset > *start {
                        found.push(Fragment { start: *start, text: &text[*start..offset] });
                    }
                    open = None;
                }
            }
        }
        offset += line.len();
    }
    if let Some((start, _)) = open
        && start < text.len()
    {
        found.push(Fragment { start, text: &text[start..] });
    }
    found
}

/// The documents of a stream as texts, each with the byte where it begins.
pub fn documents(text: &str) -> Vec<Fragment<'_>> {
    let mut found = Vec::new();
    let (mut start, mut offset) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.starts_with("---") && line[3..].starts_with([' ', '\n', '\r', '\t']) {
            if offset > start {
                found.push(Fragment { start, text: &text[start..offset] });
            }
            start = offset + line.len();
        }
        offset += line.len();
    }
    if start < text.len() {
        found.push(Fragment { start, text: &text[start..] });
    }
    found
}

/// The lines of a text in which each is an object of JSON; none when one is not.
pub fn json_lines(text: &str) -> Vec<Fragment<'_>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        match line.trim() {
            "" => {}
            bare if bare.starts_with('{') && bare.ends_with('}') => found.push(Fragment { start, text: line }),
            _ => return Vec::new(),
        }
        start += line.len();
    }
    found
}

/// A block that begins with `apiVersion:` (a literal block of reStructuredText, an indented one of Markdown, a mail's text):
/// how many bytes it has, `base` being how far its first line is indented.
fn block_end(text: &str, base: usize) -> usize {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        let indent = bare.len() - bare.trim_start().len();
        let word = bare.trim_start();
        let goes_on = word.is_empty()
            || indent > base
            || (indent == base
                && (word.starts_with(['#', '-']) || word.split(' ').next().is_some_and(|w| w.ends_with(':'))));
        if !goes_on {
            break;
        }
        end += line.len();
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates_become_comments_and_holes_of_the_same_length() {
        let text =
            "{{- if .x }}\nkind: Secret\nname: {{ .Release.Name }}-db\n{{/* a\n b */}}\nv: \"{{ .v }}\"\n{{- end }}\n";
        let bare = without_templates(text);
        assert_eq!(bare.len(), text.len());
        assert_eq!(
            bare.replace(HOLE, "\u{a4}"),
            "#           \nkind: Secret\nname: \u{a4}_________________-db\n#     \n#      \nv: \"\u{a4}______\"\n#         \n"
        );
    }

    #[test]
    fn literals_of_expressions_stand_in_their_place() {
        for (text, value) in [
            ("a: {{ .Values.x | default \"hunter2\" | quote }}", "hunter2"),
            ("a: {{ default \"hunter2\" .Values.x }}", "hunter2"),
            ("a: {{ \"hunter2\" | b64enc }}", "hunter2"),
            ("a: {{ x | default('hunter2') }}", "hunter2"),
            ("{{- $p := .Values.x | default \"hunter2\" }}\na: {{ $p }}", "hunter2"),
            ("a: {{ printf \"hunter2\" | b64enc }}", "hunter2"),
            ("a: {{ default \"my words\" .x }}", "my words"),
            ("a: {{ printf \"%s\" \"hunter2\" | b64enc }}", "hunter2"),
            ("a: {{ printf \"app:hunter2\" | b64enc }}", "app:hunter2"),
        ] {
            let bare = without_templates(text);
            assert_eq!(bare.rsplit("a: ").next().map(str::trim), Some(value), "{text}");
            assert_eq!(bare.len(), text.len());
        }
        assert!(without_templates("a: {{ .x | default \"a: #b2\" }}").contains(LITERAL));
        for text in [
            "a: {{ required \"it is missing\" .Values.x }}",
            "a: {{ .Values.x | default \"changeme\" }}",
            "a: {{ .Values.x | default \"\" }}",
            "a: {{ default (randAlphaNum 32) .Values.x }}",
            "a: {{ (lookup \"v1\" \"Secret\" .Release.Namespace \"db\").data.password }}",
            "a: {{ include \"app.fullname\" . }}",
            "a: {{ if eq .x \"prod1\" }}b{{ end }}",
            "a: {{ index .Values \"x1\" \"y1\" | quote }}",
            "a: {{ printf \"%s:%s\" .x .y | b64enc }}",
            "a: {{ printf \"postgres://app:%s@%s/db\" .x .y | b64enc }}",
            "a: {{ printf \"%s-db\" .Release.Name | quote }}",
        ] {
            assert!(without_templates(text).contains(HOLE), "{text}");
            assert!(!without_templates(text).contains(LITERAL), "{text}");
        }
    }

    #[test]
    fn fenced_blocks_and_here_documents_are_found() {
        let text = "x\n```yaml\na: 1\n```\ncat <<EOF | kubectl apply -f -\nb: 2\nEOF\n";
        let found: Vec<&str> = fragments(text).into_iter().map(|fragment| fragment.text).collect();
        assert_eq!(found, ["a: 1\n", "b: 2\n"]);
    }

    proptest! {
        #[test]
        fn any_text_keeps_its_length_and_lines(text in "([a-z {}%<>=\n\"#:é]|\\{\\{|\\}\\}){0,80}") {
            let bare = without_templates(&text);
            prop_assert_eq!(bare.len(), text.len());
            let ends = |text: &str| text.match_indices('\n').map(|(at, _)| at).collect::<Vec<_>>();
            prop_assert_eq!(ends(&bare), ends(&text));
        }
    }
}
