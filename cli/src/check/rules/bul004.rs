//! BUL004: a literal value of an environment variable, or of an argument, whose name says that it is secret.

use bulla::manifest::{Node, NodeKind, Span, Stream, Style};

use crate::check::command::{self, Token};
use crate::check::cx::{Cx, Named, clean};
use crate::check::lines::Lines;
use crate::check::registry::{Rule, Severity};
use crate::check::{judge, lenient};

pub const RULE: Rule = Rule {
    id: "BUL004",
    name: "env-literal",
    severity: Severity::Error,
    summary: "a literal value of an environment variable whose name says that it is secret",
    page: include_str!("../../../../docs/rules/BUL004.md"),
};

/// Whether what stands under a key are variables of an environment.
pub fn is_environment(key: &str) -> bool {
    let lower: String = key.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect();
    matches!(
        lower.as_str(),
        "env"
            | "envs"
            | "environment"
            | "variables"
            | "extraenv"
            | "extraenvs"
            | "extraenvvars"
            | "envvars"
            | "environmentvariables"
            | "containerenv"
            | "podenv"
            | "globalenv"
            | "buildargs"
    ) || (lower.ends_with("env") && lower.len() <= 20)
        || lower.ends_with("envvars")
}

/// Whether commands or their arguments stand under a key.
pub fn is_script(key: &str) -> bool {
    // Ansible's modules have names with dots.
    let key = key.strip_prefix("ansible.builtin.").unwrap_or(key);
    // preKubeadmCommands, initCommand
    let ends = ["Command", "Commands", "Args"].iter().any(|end| key.ends_with(end));
    ends || matches!(
        key,
        "args"
            | "command"
            | "commands"
            | "script"
            | "before_script"
            | "after_script"
            | "run"
            | "cmd"
            | "runcmd"
            | "bootcmd"
            | "entrypoint"
            | "sh"
            | "shell"
            | "bash"
            | "pwsh"
            | "powershell"
            | "extraFlags"
            | "test"
    )
}

/// Looks at what stands under such a key: a list of names and values, a mapping, a list of `NAME=VALUE`, or any of them as text.
pub fn environment(cx: &Cx<'_>, node: &Node, object: Option<&Named>) {
    for item in node.items().unwrap_or_default() {
        if let Some(text) = item.scalar() {
            if let Some((name, value)) = text.split_once('=')
                && judge::text(name.trim(), value)
            {
                report(cx, item.span, name.trim(), object);
            }
            continue;
        }
        variable(cx, item, object);
    }
    for entry in node.entries().unwrap_or_default() {
        let Some(name) = entry.key.scalar() else { continue };
        // GitLab: {value: …, description: …}
        let value = entry.value.get("value").filter(|_| entry.value.entries().is_some()).unwrap_or(&entry.value);
        // Travis: {global: [NAME=VALUE], jobs: […]}
        if value.items().is_some() {
            environment(cx, value, object);
        }
        if (judge::node(name, value) || has_option(value)) && cx.is_news(value) {
            report(cx, entry.key.alias.unwrap_or(entry.key.span), name, object);
        }
    }
    if let Some(text) = node.scalar().filter(|text| text.contains('\n')) {
        let inner = cx.inner(node, text, None);
        let bare = zeroize::Zeroizing::new(lenient::without_templates(text));
        if let Ok(stream) = Stream::read_any(&bare) {
            stream.documents().iter().filter(|document| document.root.scalar().is_none()).for_each(|document| {
                environment(&inner, &document.root, object);
            });
        }
    }
}

/// `{name: NAME, value: VALUE}`
pub fn variable(cx: &Cx<'_>, node: &Node, object: Option<&Named>) {
    // CloudFormation begins names of fields with capitals. With an operator it is a selector.
    let named = ["name", "Name", "key", "Key"].into_iter().find_map(|key| node.get(key));
    let name = named.filter(|_| node.get("operator").is_none()).and_then(Node::scalar);
    let (Some(name), Some(entry)) = (name, node.entry("value").or_else(|| node.entry("Value"))) else { return };
    if (judge::node(name, &entry.value) || has_option(&entry.value)) && cx.is_news(&entry.value) {
        report(cx, entry.key.alias.unwrap_or(entry.key.span), name, object);
    }
}

/// Whether the value of a variable is options of a program, with a secret among them: `-Dspring.datasource.password=…`.
fn has_option(value: &Node) -> bool {
    let Some(text) = value.scalar().filter(|text| text.starts_with('-') && text.len() < 8192) else { return false };
    let mut found = false;
    command::literals(&command::tokens(text), |_, _| found = true);
    found
}

/// A change to an object, `{op, path, value}`, of which the value may be a variable.
pub fn operation(cx: &Cx<'_>, node: &Node, object: Option<&Named>) {
    if node.get("op").is_some()
        && node.get("path").is_some()
        && let Some(value) = node.get("value").filter(|value| value.entries().is_some())
    {
        variable(cx, value, object);
    }
}

/// Commands and arguments: a list of words, a list of lines, or a script.
pub fn script(cx: &Cx<'_>, node: &Node, object: Option<&Named>) {
    if let Some(items) = node.items() {
        // Words of one command.
        let words: Vec<Token<'_>> = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| Some(Token { text: item.scalar()?, at: index }))
            .filter(|token| {
                !token.text.contains(char::is_whitespace) || (token.text.contains("://") && !token.text.contains('\n'))
            })
            .collect();
        command::literals(&words, |name, index| {
            if let Some(item) = items.get(index) {
                report(cx, item.alias.unwrap_or(item.span), name, object);
            }
        });
        for item in items {
            if item.scalar().is_some_and(|text| text.contains(' ')) {
                lines(cx, item, object);
            }
        }
        return;
    }
    lines(cx, node, object);
}

fn lines(cx: &Cx<'_>, node: &Node, object: Option<&Named>) {
    let NodeKind::Scalar { value, style, .. } = &node.kind else { return };
    let exact = *style == Style::Literal && node.alias.is_none();
    let inner = cx.inner(node, value, None);
    let places = Lines::new(value);
    // A line that goes on is one command. Every byte keeps its place.
    let joined = value.contains("\\\n").then(|| zeroize::Zeroizing::new(value.replace("\\\n", "  ")));
    let mut offset = 0;
    for line in joined.as_ref().map_or(value.as_str(), |joined| joined.as_str()).split_inclusive('\n') {
        if line.len() < 8192 && !line.trim_start().starts_with('#') {
            command::literals(&command::tokens(line), |name, at| {
                if exact {
                    report(&inner, places.span(offset + at..offset + at + 1), name, object);
                } else {
                    report(cx, node.alias.unwrap_or(node.span), name, object);
                }
            });
        }
        offset += line.len();
    }
}

/// Looks at what follows `--from-literal`, whatever file it stands in.
pub fn from_literal(cx: &Cx<'_>, text: &str, end: usize) {
    let rest = line_rest(text, end);
    let rest = rest.strip_prefix(['=', ' ']).unwrap_or_default().trim_start_matches(['\\', '\r', '\n', ' ']);
    let (rest, quote) = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => (&rest[1..], Some(quote)),
        _ => (rest, None),
    };
    let Some((name, value)) = rest.split_once('=') else { return };
    let (value, quote) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => (&value[1..], Some(quote)),
        _ => (value, quote),
    };
    let until =
        |c: char| quote.map_or(c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ';' | '|'), |quote| c == quote);
    // What a command prints: its words would be cut apart.
    if quote.is_none() && value.starts_with("$(") {
        return;
    }
    let value = &value[..value.find(until).unwrap_or(value.len())];
    if !name.contains(char::is_whitespace) && judge::text(name, value) {
        // It may stand on a line with which the command goes on.
        let at = name.as_ptr() as usize - text.as_ptr() as usize;
        report(cx, cx.lines.span(at..at + name.len()), name, None);
    }
}

/// Looks at what follows `--set` and the like in a text that is no manifest.
pub fn flag(cx: &Cx<'_>, text: &str, range: std::ops::Range<usize>) {
    let rest = line_rest(text, range.start);
    // Within the quotes of a program or of Markdown.
    let rest = match text[..range.start].chars().next_back() {
        Some(quote @ ('\'' | '"' | '`')) => rest.split(quote).next().unwrap_or_default(),
        _ => rest,
    };
    let tokens = command::tokens(rest);
    let wanted = tokens.len().min(2);
    let mut found = None;
    command::literals(&tokens[..wanted], |name, at| _ = found.get_or_insert_with(|| (name.to_owned(), at)));
    if let Some((name, at)) = found {
        let at = range.start + at;
        report(cx, cx.lines.span(at..at + 1), &name, None);
    }
}

/// What stands on the line from a byte on, as far as anybody would write a command: also on the lines with which it goes on.
fn line_rest(text: &str, from: usize) -> &str {
    let rest = text.get(from..).unwrap_or_default();
    let mut end = rest.len().min(2048);
    let mut continued = false;
    for (at, b) in rest.bytes().take(2048).enumerate() {
        match b {
            b'\n' if !continued => {
                end = at;
                break;
            }
            b'\r' => {}
            _ => continued = b == b'\\',
        }
    }
    rest.get(..end).unwrap_or_default()
}

/// Says it.
pub fn report(cx: &Cx<'_>, at: Span, name: &str, object: Option<&Named>) {
    let name = clean(name);
    let (rule, message) = match (cx.within_annotation(), cx.within) {
        (Some(rule), Some(within)) => (rule, format!("a literal secret within {within}: {name}")),
        _ if cx.in_config_map() => (&super::bul014::RULE, format!("a literal secret in a ConfigMap: {name}")),
        _ => (&RULE, format!("a literal secret in the environment: {name}")),
    };
    let mut finding = cx.finding(rule, at, message);
    finding.help.push("take it from a Secret (valueFrom.secretKeyRef), and seal that one: bulla set FILE KEY".into());
    finding.object = object.map(Named::path).unwrap_or_default();
    finding.keys = vec![name];
    cx.add(finding);
}
