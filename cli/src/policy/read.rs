//! From the text of `.bulla.yaml` to a [`Policy`]: every field is known, of its type and in its range, or it is an error with
//! its place. Nothing is executed, and no other file is opened here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulla::manifest::{Entry, Node, Span, Stream, Tag};
use bulla::recipient::{Fingerprint, is_envelope_name};
use bulla::scope::{Scope, is_dns_label};

use super::glob::Glob;
use super::{At, Check, Date, Exception, Pinned, Policy, Rule};
use crate::failure::{self, Failure, Result};

/// Bytes that a policy may have.
pub const MAX_BYTES: u64 = 1024 * 1024;
/// The longest that `maxKeyAge` may be: a hundred years.
const MAX_AGE: u64 = 36_500 * 86_400;

/// Reads a policy. `file` is how it is called in messages, `root` the folder that its paths are relative to.
pub fn read(file: &str, root: &Path, bytes: &[u8]) -> Result<Policy> {
    let stream = Stream::read(bytes).map_err(|error| failure::manifest(file, None, &error))?;
    let reader = Reader { file, text: stream.text() };
    let mut documents = stream.documents().iter();
    let empty = || Failure::new("the policy is empty").in_file(file).help("it begins with: version: 1");
    let document = documents.next().ok_or_else(empty)?;
    if documents.next().is_some() {
        return Err(Failure::new("a policy is one document").in_file(file));
    }
    if document.root.is_null() {
        return Err(empty());
    }
    reader.policy(root.to_owned(), &document.root)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

/// The entries of a mapping by key, each of them known.
struct Fields<'n> {
    of: Span,
    what: &'static str,
    by_name: BTreeMap<&'n str, &'n Entry>,
}

impl<'n> Fields<'n> {
    fn get(&self, name: &str) -> Option<&'n Node> {
        self.by_name.get(name).map(|entry| &entry.value)
    }
}

impl<'a> Reader<'a> {
    fn fail(&self, span: Span, message: impl Into<String>) -> Box<Failure> {
        Failure::new(message).at_public(self.file, self.text, span)
    }

    /// What no node of a policy may be: an alias, an anchor, a tag.
    fn plain(&self, node: &Node) -> Result<()> {
        if let Some(span) = node.alias.or(node.anchor.then_some(node.span)) {
            return Err(self.fail(span, "a policy has no anchors and no aliases").help("write it out"));
        }
        if !matches!(node.tag, Tag::None | Tag::Str) {
            return Err(self.fail(node.span, "a policy has no tags").help("remove the tag"));
        }
        Ok(())
    }

    fn entries(&self, node: &'a Node, what: &str) -> Result<Vec<(&'a str, &'a Entry)>> {
        self.plain(node)?;
        let Some(entries) = node.entries() else {
            return Err(self.fail(node.span, format!("{what} is {}, where a mapping belongs", node.type_name())));
        };
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut found = Vec::new();
        for entry in entries {
            self.plain(&entry.key)?;
            let Some(key) = entry.key.scalar() else {
                return Err(self.fail(entry.key.span, format!("a key of {what} is {}", entry.key.type_name())));
            };
            if let Some(line) = seen.insert(key, entry.key.span.line) {
                return Err(self
                    .fail(entry.key.span, format!("the key {key:?} is there twice"))
                    .detail(format!("first in line {line}")));
            }
            found.push((key, entry));
        }
        Ok(found)
    }

    fn fields(&self, node: &'a Node, what: &'static str, known: &[&str]) -> Result<Fields<'a>> {
        let mut by_name = BTreeMap::new();
        for (key, entry) in self.entries(node, what)? {
            if !known.contains(&key) {
                // What stands there by mistake may be anything: its value is masked.
                return Err(Failure::new(format!("{what} has no field {key:?}"))
                    .at(self.file, Some(self.text), entry.key.span)
                    .help(format!("its fields are {}", known.join(", "))));
            }
            by_name.insert(key, entry);
        }
        Ok(Fields { of: node.span, what, by_name })
    }

    fn required(&self, fields: &Fields<'a>, name: &str) -> Result<&'a Node> {
        fields.get(name).ok_or_else(|| self.fail(fields.of, format!("{} lacks the field {name:?}", fields.what)))
    }

    fn text(&self, node: &'a Node, what: &str) -> Result<At<String>> {
        self.plain(node)?;
        match node.scalar() {
            Some(text) if node.not_text().is_none_or(|ambiguity| !ambiguity.for_kubectl()) => {
                if text.chars().any(|c| c.is_control() || is_bidi(c)) {
                    return Err(self.fail(node.span, format!("{what} has characters that can't be seen")));
                }
                Ok(At { value: text.to_owned(), span: node.span })
            }
            Some(_) => Err(self.fail(node.span, format!("{what} is {}, not text", node.type_name())).help("quote it")),
            None => Err(self.fail(node.span, format!("{what} is {}, where text belongs", node.type_name()))),
        }
    }

    fn boolean(&self, node: &'a Node, what: &str) -> Result<At<bool>> {
        self.plain(node)?;
        let value = match node.scalar().filter(|_| node.not_text().is_some()) {
            Some("true") => true,
            Some("false") => false,
            _ => return Err(self.fail(node.span, format!("{what} is true or false"))),
        };
        Ok(At { value, span: node.span })
    }

    fn items(&self, node: &'a Node, what: &str) -> Result<&'a [Node]> {
        self.plain(node)?;
        node.items()
            .ok_or_else(|| self.fail(node.span, format!("{what} is {}, where a list belongs", node.type_name())))
    }

    fn glob(&self, node: &'a Node, what: &str) -> Result<At<Glob>> {
        let text = self.text(node, what)?;
        let glob = Glob::new(&text.value).map_err(|why| self.fail(node.span, format!("{what}: {why}")))?;
        Ok(At { value: glob, span: node.span })
    }

    /// A path that can't leave the repository by what it says; links are looked at when it is opened.
    fn path(&self, node: &'a Node, what: &str) -> Result<At<String>> {
        let text = self.text(node, what)?;
        match inside(&text.value) {
            Ok(()) => Ok(text),
            Err(why) => Err(self
                .fail(node.span, format!("{what} {why}"))
                .help("paths are relative to the repository's root, and stay below it")),
        }
    }

    fn policy(&self, root: PathBuf, node: &'a Node) -> Result<Policy> {
        let fields = self.fields(node, "the policy", &["version", "recipients", "rules", "policy", "check"])?;
        let version = self.required(&fields, "version")?;
        self.plain(version)?;
        match version.scalar() {
            Some("1") if version.not_text().is_some() => {}
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) && version.not_text().is_some() => {
                return Err(self
                    .fail(version.span, format!("version {text} of policies is not known to this program"))
                    .help("this program reads version 1; a newer one may read it"));
            }
            _ => return Err(self.fail(version.span, "version is a number: 1")),
        }
        // A key with nothing after it is what is left when the last entry goes.
        let filled = |name: &str| fields.get(name).filter(|node| !node.is_null());
        let recipients = match filled("recipients") {
            Some(node) => self.recipients(node)?,
            None => Vec::new(),
        };
        let mut rules = Vec::new();
        if let Some(node) = filled("rules") {
            for item in self.items(node, "rules")? {
                rules.push(self.rule(item, &recipients)?);
            }
        }
        let (mut max_key_age, mut allow_classical) = (None, None);
        if let Some(node) = fields.get("policy") {
            let fields = self.fields(node, "policy", &["maxKeyAge", "allowClassical"])?;
            max_key_age = fields.get("maxKeyAge").map(|node| self.duration(node)).transpose()?;
            allow_classical =
                fields.get("allowClassical").map(|node| self.boolean(node, "allowClassical")).transpose()?;
        }
        let check = match fields.get("check") {
            Some(node) => self.check(node)?,
            None => Check::default(),
        };
        Ok(Policy {
            root,
            file: self.file.to_owned(),
            text: self.text.to_owned(),
            recipients,
            rules,
            max_key_age,
            allow_classical,
            check,
            index: None,
        })
    }

    fn recipients(&self, node: &'a Node) -> Result<Vec<Pinned>> {
        const KNOWN: [&str; 5] = ["file", "context", "cluster", "controllerNamespace", "always"];
        let mut recipients: Vec<Pinned> = Vec::new();
        for (name, entry) in self.entries(node, "recipients")? {
            let span = entry.key.span;
            if !is_envelope_name(name) {
                return Err(self.fail(span, format!("{name:?} can't name a recipient")).help(
                    "names are [a-z]([-a-z0-9]{0,61}[a-z0-9])?, and none of the words that YAML takes for something else",
                ));
            }
            if name.parse::<Fingerprint>().is_ok() {
                return Err(self.fail(span, format!("{name} reads like a fingerprint, and can't name a recipient")));
            }
            let fields = self.fields(&entry.value, "a recipient", &KNOWN)?;
            let file = self.path(self.required(&fields, "file")?, "file")?;
            if ![".pub", ".pem", ".crt"].iter().any(|end| file.value.ends_with(end)) {
                return Err(self
                    .fail(file.span, "a recipient's file is called *.pub, a certificate's *.pem or *.crt")
                    .help("an identity file is secret and never belongs in a repository; its .pub file does"));
            }
            if let Some(other) = recipients.iter().find(|other| other.file.value == file.value) {
                return Err(
                    self.fail(file.span, format!("the recipients {} and {name} have the same file", other.name.value))
                );
            }
            let word = |key: &'static str| -> Result<Option<At<String>>> {
                let Some(node) = fields.get(key) else { return Ok(None) };
                let text = self.text(node, key)?;
                if text.value.trim().is_empty() {
                    return Err(self.fail(node.span, format!("{key} is empty")));
                }
                Ok(Some(text))
            };
            let controller_namespace = word("controllerNamespace")?;
            if let Some(namespace) = &controller_namespace
                && !is_dns_label(&namespace.value)
            {
                return Err(self.fail(namespace.span, "controllerNamespace is no name of a namespace"));
            }
            recipients.push(Pinned {
                name: At { value: name.to_owned(), span },
                file,
                context: word("context")?,
                cluster: word("cluster")?,
                controller_namespace,
                always: fields.get("always").map(|node| self.boolean(node, "always")).transpose()?,
            });
        }
        Ok(recipients)
    }

    fn rule(&self, node: &'a Node, recipients: &[Pinned]) -> Result<Rule> {
        let fields = self.fields(node, "a rule", &["path", "recipients", "scope", "namespace"])?;
        let path = self.glob(self.required(&fields, "path")?, "path")?;
        let list = self.required(&fields, "recipients")?;
        let mut names: Vec<At<String>> = Vec::new();
        for item in self.items(list, "recipients")? {
            let name = self.text(item, "the name of a recipient")?;
            if !recipients.iter().any(|recipient| recipient.name.value == name.value) {
                let there: Vec<_> = recipients.iter().map(|recipient| recipient.name.value.as_str()).collect();
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                return Err(self
                    .fail(name.span, format!("there is no recipient {:?}", name.value))
                    .help(format!("under recipients are {there}")));
            }
            if names.iter().any(|other| other.value == name.value) {
                return Err(self.fail(name.span, format!("{} is there twice", name.value)));
            }
            names.push(name);
        }
        if names.is_empty() {
            return Err(self.fail(list.span, "a rule names at least one recipient"));
        }
        let scope = match fields.get("scope") {
            None => None,
            Some(node) => {
                let word = self.text(node, "scope")?;
                let scope: Scope = word
                    .value
                    .parse()
                    .map_err(|_| self.fail(node.span, "scope is strict, namespace-wide or cluster-wide"))?;
                Some(At { value: scope, span: node.span })
            }
        };
        let namespace = fields.get("namespace").map(|node| self.text(node, "namespace")).transpose()?;
        if let Some(namespace) = &namespace
            && !is_dns_label(&namespace.value)
        {
            return Err(self.fail(namespace.span, "namespace is no name of a namespace"));
        }
        Ok(Rule { span: node.span, path, recipients: names, scope, namespace })
    }

    fn check(&self, node: &'a Node) -> Result<Check> {
        let fields = self.fields(node, "check", &["exclude", "baseline", "exceptions"])?;
        let mut check = Check::default();
        if let Some(node) = fields.get("exclude") {
            for item in self.items(node, "exclude")? {
                check.exclude.push(self.glob(item, "exclude")?);
            }
        }
        check.baseline = fields.get("baseline").map(|node| self.path(node, "baseline")).transpose()?;
        if let Some(node) = fields.get("exceptions") {
            for item in self.items(node, "exceptions")? {
                let fields = self.fields(item, "an exception", &["rule", "path", "reason", "expires"])?;
                let rule = self.text(self.required(&fields, "rule")?, "rule")?;
                let digits = rule.value.strip_prefix("BUL").unwrap_or_default();
                if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(self.fail(rule.span, "rule is the code of a finding, as BUL004"));
                }
                let reason = self.text(self.required(&fields, "reason")?, "reason")?;
                if reason.value.trim().is_empty() {
                    return Err(self.fail(reason.span, "an exception has a reason"));
                }
                check.exceptions.push(Exception {
                    span: item.span,
                    rule,
                    path: self.glob(self.required(&fields, "path")?, "path")?,
                    reason,
                    expires: fields.get("expires").map(|node| self.date(node)).transpose()?,
                });
            }
        }
        Ok(check)
    }

    fn duration(&self, node: &'a Node) -> Result<At<Duration>> {
        let text = self.text(node, "maxKeyAge")?;
        match seconds(&text.value).filter(|seconds| (1..=MAX_AGE).contains(seconds)) {
            Some(seconds) => Ok(At { value: Duration::from_secs(seconds), span: node.span }),
            None => Err(self
                .fail(node.span, "maxKeyAge is no duration of up to a hundred years")
                .help("as in 400d, 52w, 36h, 90m")),
        }
    }

    fn date(&self, node: &'a Node) -> Result<At<Date>> {
        let text = self.text(node, "expires")?;
        match Date::parse(&text.value) {
            Some(date) => Ok(At { value: date, span: node.span }),
            None => Err(self.fail(node.span, "expires is no date").help("as in 2027-03-31")),
        }
    }
}

/// Characters that turn the order of others around.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Whether a path says by itself that it stays below where it begins; else why not.
pub fn inside(path: &str) -> std::result::Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.contains('\\') {
        return Err("has a backslash, where / separates");
    }
    let drive = path.as_bytes().get(1) == Some(&b':') && path.as_bytes()[0].is_ascii_alphabetic();
    if path.starts_with('/') || path.starts_with('~') || drive {
        return Err("is not relative");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("leaves the repository");
    }
    if path.split('/').any(|part| part.is_empty() || part == ".") {
        return Err("has an empty part, or a \".\"");
    }
    Ok(())
}

/// `400d`, `1w3d`, `36h`: the seconds.
pub fn seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut number = String::new();
    let mut last = u64::MAX;
    for c in text.chars() {
        if c.is_ascii_digit() && number.len() < 9 {
            number.push(c);
            continue;
        }
        let unit = match c {
            'w' => 7 * 86_400,
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        // From the largest to the smallest, each once.
        if unit >= last {
            return None;
        }
        last = unit;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    (number.is_empty() && last != u64::MAX).then_some(total)
}
