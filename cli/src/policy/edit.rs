//! Editing a policy without reformatting it: text is put in at exact places, and the result is read again and compared with
//! what was meant before anybody gets it.

use std::path::Path;

use bulla::manifest::{Encoding, LineEnding, Node, Stream, yaml11_ambiguous};

use super::{Pinned, Policy, read};
use crate::failure::{self, Failure, Result};

/// A recipient to write down.
#[derive(Clone, Debug, Default)]
pub struct New {
    pub name: String,
    /// Relative to the root.
    pub file: String,
    pub context: Option<String>,
    pub cluster: Option<String>,
    pub controller_namespace: Option<String>,
    pub always: bool,
}

impl New {
    fn fields(&self) -> String {
        let mut fields = vec![format!("file: {}", scalar(&self.file))];
        for (key, value) in [
            ("context", &self.context),
            ("cluster", &self.cluster),
            ("controllerNamespace", &self.controller_namespace),
        ] {
            fields.extend(value.as_ref().map(|value| format!("{key}: {}", scalar(value))));
        }
        fields.extend(self.always.then(|| "always: true".to_owned()));
        format!("{{{}}}", fields.join(", "))
    }

    fn outline(&self) -> String {
        let own = |value: &Option<String>| value.clone().unwrap_or_default();
        format!(
            "{:?}",
            (
                &self.name,
                &self.file,
                own(&self.context),
                own(&self.cluster),
                own(&self.controller_namespace),
                self.always
            )
        )
    }
}

/// A text as a scalar that every reader takes for text.
fn scalar(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-' | b'*');
    let first = text.as_bytes().first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'.');
    if first && text.bytes().all(safe) && yaml11_ambiguous(text).is_none() {
        return text.to_owned();
    }
    // A JSON string is one of YAML as well.
    serde_json::Value::from(text).to_string()
}

/// The text of a policy that has nothing else.
pub fn new_text(recipients: &[New], rule: &str, names: &[&str]) -> String {
    let mut text = "version: 1\nrecipients:\n".to_owned();
    for new in recipients {
        text.push_str(&format!("  {}: {}\n", new.name, new.fields()));
    }
    text.push_str(&format!("rules: # the first that matches\n{}", block_rule("  ", rule, &names.join(", "), "\n")));
    text
}

fn block_rule(indent: &str, rule: &str, names: &str, end: &str) -> String {
    format!("{indent}- path: {}{end}{indent}  recipients: [{names}]{end}", scalar(rule))
}

/// What a policy says, without places.
#[derive(Debug, PartialEq, Eq)]
struct Outline {
    recipients: Vec<String>,
    rules: Vec<(String, Vec<String>, String)>,
    rest: String,
}

fn outline(policy: &Policy) -> Outline {
    let text = |value: &Option<super::At<String>>| value.as_ref().map(|at| at.value.clone());
    let recipient = |pinned: &Pinned| {
        New {
            name: pinned.name.value.clone(),
            file: pinned.file.value.clone(),
            context: text(&pinned.context),
            cluster: text(&pinned.cluster),
            controller_namespace: text(&pinned.controller_namespace),
            always: pinned.is_always(),
        }
        .outline()
    };
    let check = &policy.check;
    Outline {
        recipients: policy.recipients.iter().map(recipient).collect(),
        rules: policy
            .rules
            .iter()
            .map(|rule| {
                (
                    rule.path.value.as_str().to_owned(),
                    rule.recipients.iter().map(|name| name.value.clone()).collect(),
                    format!("{:?} {:?}", rule.scope(), text(&rule.namespace)),
                )
            })
            .collect(),
        rest: format!(
            "{:?} {:?} {:?} {:?} {:?}",
            policy.max_key_age.as_ref().map(|at| at.value),
            policy.allow_classical.as_ref().map(|at| at.value),
            check.exclude.iter().map(|glob| glob.value.as_str()).collect::<Vec<_>>(),
            text(&check.baseline),
            check
                .exceptions
                .iter()
                .map(|e| (&e.rule.value, e.path.value.as_str(), &e.reason.value, e.expires.as_ref().map(|d| d.value)))
                .collect::<Vec<_>>()
        ),
    }
}

/// The bytes of a policy with one more recipient, and with it in the rule that has this glob (a new one at the end, where none
/// has it).
pub fn add(file: &str, root: &Path, bytes: &[u8], new: &New, rule: Option<&str>) -> Result<Vec<u8>> {
    let before = read(file, root, bytes)?;
    let stream = Stream::read(bytes).map_err(|error| failure::manifest(file, None, &error))?;
    if !matches!(stream.encoding(), Encoding::Utf8 | Encoding::Utf8Bom) {
        return Err(Failure::new(format!("{file} is not UTF-8")).help("save it as UTF-8"));
    }
    let Some(document) = stream.documents().first() else { return Err(Failure::new(format!("{file} is empty"))) };
    let mut editor = Editor {
        text: stream.text(),
        end: if stream.line_ending() == LineEnding::CrLf { "\r\n" } else { "\n" },
        root: &document.root,
        splices: Vec::new(),
        tail: String::new(),
    };
    let mut wanted = outline(&before);
    editor.recipient(new);
    wanted.recipients.push(new.outline());
    if let Some(glob) = rule {
        match before.rules.iter().position(|rule| rule.path.value.as_str() == glob) {
            Some(index) => {
                editor.name(index, &new.name);
                if let Some((_, names, _)) = wanted.rules.get_mut(index) {
                    names.push(new.name.clone());
                }
            }
            None => {
                editor.rule(glob, &new.name);
                wanted.rules.push((glob.to_owned(), vec![new.name.clone()], "Strict None".to_owned()));
            }
        }
    }
    let text = editor.finish();
    let mut out = if stream.encoding() == Encoding::Utf8Bom { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
    out.extend_from_slice(text.as_bytes());
    let same = read(file, root, &out).is_ok_and(|after| outline(&after) == wanted);
    if !same {
        let mut failure =
            Failure::new(format!("{file} can't be edited without touching what is there; it stays as it was"))
                .help("under recipients, write:")
                .help(format!("  {}: {}", new.name, new.fields()));
        if let Some(glob) = rule {
            failure = failure.help(format!("and {} among the recipients of the rule for {glob}", new.name));
        }
        return Err(failure);
    }
    Ok(out)
}

struct Editor<'a> {
    text: &'a str,
    end: &'static str,
    root: &'a Node,
    splices: Vec<(usize, String)>,
    /// What comes after everything.
    tail: String,
}

impl Editor<'_> {
    /// Where the line after an offset begins.
    fn next_line(&self, offset: usize) -> usize {
        self.text.get(offset..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |at| offset + at + 1)
    }

    /// Whole lines after the one that an offset is in. A block ends with its last line, which may end before the offset.
    fn lines_after(&mut self, offset: usize, lines: &str) {
        let offset = self.text.get(..offset).map_or(0, |before| before.trim_end().len());
        let at = self.next_line(offset);
        let bare = at == self.text.len() && !self.text.ends_with('\n');
        let text =
            if bare { format!("{}{}", self.end, lines.trim_end_matches(['\r', '\n'])) } else { lines.to_owned() };
        self.splices.push((at, text));
    }

    /// What stands before an offset in its line.
    fn before(&self, offset: usize) -> &str {
        let before = self.text.get(..offset).unwrap_or_default();
        before.get(before.rfind('\n').map_or(0, |at| at + 1)..).unwrap_or_default()
    }

    fn indent(&self, offset: usize) -> String {
        self.before(offset).chars().take_while(|c| *c == ' ').collect()
    }

    /// Into a collection with brackets or braces.
    fn put_in_flow(&mut self, node: &Node, last: Option<usize>, text: &str) {
        match last {
            Some(end) => self.splices.push((end, format!(", {text}"))),
            None => self.splices.push((node.span.start + 1, text.to_owned())),
        }
    }

    fn recipient(&mut self, new: &New) {
        let line = format!("{}: {}", new.name, new.fields());
        let Some(entry) = self.root.entry("recipients") else {
            if self.root.is_flow() {
                let last = self.root.entries().and_then(<[_]>::last).map(|entry| entry.value.span.end);
                return self.put_in_flow(self.root, last, &format!("recipients: {{{line}}}"));
            }
            self.tail.push_str(&format!("recipients:{}  {line}{}", self.end, self.end));
            return;
        };
        let (node, end) = (&entry.value, self.end);
        match node.entries() {
            Some(entries) if node.is_flow() => {
                self.put_in_flow(node, entries.last().map(|entry| entry.value.span.end), &line);
            }
            Some(entries) => {
                let indent = entries.first().map_or_else(|| "  ".to_owned(), |e| self.indent(e.key.span.start));
                self.lines_after(node.span.end, &format!("{indent}{line}{end}"));
            }
            None => self.lines_after(entry.key.span.end, &format!("  {line}{end}")),
        }
    }

    fn rule(&mut self, glob: &str, name: &str) {
        let flow = format!("{{path: {}, recipients: [{name}]}}", scalar(glob));
        let Some(entry) = self.root.entry("rules") else {
            if self.root.is_flow() {
                let last = self.root.entries().and_then(<[_]>::last).map(|entry| entry.value.span.end);
                return self.put_in_flow(self.root, last, &format!("rules: [{flow}]"));
            }
            self.tail.push_str(&format!("rules:{}{}", self.end, block_rule("  ", glob, name, self.end)));
            return;
        };
        let (node, end) = (&entry.value, self.end);
        match node.items() {
            Some(items) if node.is_flow() => self.put_in_flow(node, items.last().map(|item| item.span.end), &flow),
            Some(items) => {
                let indent = items.first().map_or_else(|| "  ".to_owned(), |item| self.indent(item.span.start));
                self.lines_after(node.span.end, &block_rule(&indent, glob, name, end));
            }
            None => self.lines_after(entry.key.span.end, &block_rule("  ", glob, name, end)),
        }
    }

    /// One more name in a rule.
    fn name(&mut self, rule: usize, name: &str) {
        let rules = self.root.entry("rules").and_then(|entry| entry.value.items()).unwrap_or_default();
        let Some(list) = rules.get(rule).and_then(|rule| rule.entry("recipients")).map(|entry| &entry.value) else {
            return;
        };
        let items = list.items().unwrap_or_default();
        if list.is_flow() {
            return self.put_in_flow(list, items.last().map(|item| item.span.end), name);
        }
        if let Some(last) = items.last() {
            let indent = self.indent(last.span.start);
            self.lines_after(last.span.end, &format!("{indent}- {name}{}", self.end));
        }
    }

    fn finish(mut self) -> String {
        // From the end, so that the places before stay; of two at one place the first comes first.
        self.splices.reverse();
        self.splices.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let mut text = self.text.to_owned();
        for (at, new) in &self.splices {
            text.insert_str(*at, new);
        }
        if !self.tail.is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push_str(self.end);
            }
            text.push_str(&self.tail);
        }
        text
    }
}
