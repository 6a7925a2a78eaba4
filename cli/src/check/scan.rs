//! From bytes to findings: which files are read at all, how far, and which rules look at what.

use std::cell::RefCell;

use bulla::manifest::{ManifestErrorKind, Source, Stream};

use super::cx::{Allow, Cx, Origin, Report, Taken};
use super::lines::Lines;
use super::tree::{Place, document};
use super::words::{Word, Words};
use super::{keystore, lenient, rules};

/// Bytes of a text that is read as a whole. Larger ones are read in parts.
pub const MAX_WHOLE: usize = 16 * 1024 * 1024;
/// Bytes in which a NUL makes a file a binary one.
const LOOK: usize = 8 * 1024;

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// YAML or JSON, perhaps templated.
    Manifest,
    /// Lines of NAME=VALUE.
    Env,
    /// Terraform's own language.
    Terraform,
    /// A file that is there for logins.
    Logins(rules::bul016::Kind),
    /// Anything else.
    Text,
}

/// What a file is, by its name. `-` is a manifest.
pub fn sort(path: &str) -> Sort {
    let name = path.rsplit('/').next().unwrap_or(path);
    if rules::bul006::is_env_file(path) {
        return Sort::Env;
    }
    if let Some(kind) = rules::bul016::kind(path) {
        return Sort::Logins(kind);
    }
    if rules::bul017::is_terraform(name) {
        return Sort::Terraform;
    }
    let lower = name.to_ascii_lowercase();
    let ends = [".yaml", ".yml", ".json", ".kubeconfig", ".dockercfg", ".dockerconfigjson", ".jsonc", ".json5"];
    // A template, a copy or an example of one.
    let behind = [
        ".gotmpl",
        ".tpl",
        ".j2",
        ".tmpl",
        ".tftpl",
        ".erb",
        ".in",
        ".example",
        ".sample",
        ".template",
        ".dist",
        ".bak",
        ".orig",
        ".old",
    ];
    let bare = behind.iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower);
    if path == "standard input"
        || ends.iter().any(|end| bare.ends_with(end))
        || matches!(
            name,
            "kustomization"
                | "Kustomization"
                | "kubeconfig"
                | "config"
                | ".dockercfg"
                | ".dockerconfigjson"
                | "admin.conf"
                | "user-data"
                | "cloud-config"
        )
    {
        return Sort::Manifest;
    }
    Sort::Text
}

/// One file in flight.
pub struct File<'a> {
    /// As it is shown.
    pub name: &'a str,
    pub bytes: &'a [u8],
    /// Whether a generator of Kustomize reads it, and how.
    pub generator: Option<Taken>,
    /// Whether it is a later part of a file, which begins with text.
    pub continued: bool,
}

impl Words {
    /// Looks at a file.
    pub fn scan(&self, file: &File<'_>) -> Option<Report> {
        let File { name, bytes, generator, .. } = *file;
        let sort = sort(name);
        let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        if !utf16 && generator.is_none() {
            if !file.continued && is_binary(bytes) {
                return (keystore::is_one(name) && keystore::has_private_key(bytes)).then(|| key_store(name));
            }
            // What is no UTF-8 is told of whatever it holds.
            let parse = self.is_worth_parsing(name, sort, bytes)
                || rules::bul003::is_secrets_file(name)
                || (sort == Sort::Manifest && std::str::from_utf8(bytes).is_err());
            if !parse && !self.is_worth_searching(sort, bytes) {
                return Some(Report::default());
            }
            return Some(self.look(name, bytes, sort, None, parse));
        }
        Some(self.look(name, bytes, sort, generator, true))
    }

    fn look(&self, name: &str, bytes: &[u8], sort: Sort, generator: Option<Taken>, parse: bool) -> Report {
        let report = RefCell::new(Report::default());
        let decoded = Source::decode(bytes);
        let lossy;
        let (text, encoding_error) = match &decoded {
            Ok(source) => (source.text(), None),
            Err(error) => {
                lossy = zeroize::Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
                (lossy.as_str(), Some(error))
            }
        };
        let lines = Lines::new(text);
        let cx = Cx::of(name, &lines, &report);
        match sort {
            _ if !parse => {}
            _ if generator == Some(Taken::SecretEnv) => rules::bul006::lines(&cx, text, true),
            _ if matches!(generator, Some(Taken::ConfigEnv | Taken::ConfigFile)) => {
                rules::bul014::file(&cx, text);
                self.words_of(&cx, text);
            }
            _ if generator == Some(Taken::SecretFile) => {
                if sort == Sort::Manifest {
                    manifest(&cx, text);
                }
                self.words_of(&cx, text);
                if report.borrow().findings.is_empty() {
                    rules::bul006::whole(&cx, text);
                }
            }
            Sort::Env => rules::bul006::lines(&cx, text, false),
            Sort::Manifest => {
                if let Some(error) = encoding_error
                    && looks_like_manifest(text)
                {
                    rules::bul013::unreadable(&cx, error);
                }
                manifest(&cx, text);
                super::sealed::file(&cx, text);
            }
            Sort::Terraform => rules::bul017::file(&cx, text),
            Sort::Logins(kind) => rules::bul016::file(&cx, kind, text),
            Sort::Text => {}
        }
        if generator.is_none() {
            self.words_of(&cx, text);
        }
        let mut report = report.into_inner();
        report.allows = allows(name, text);
        report
    }

    /// What may stand anywhere.
    fn words_of(&self, cx: &Cx<'_>, text: &str) {
        let mut fragments = false;
        let covered = super::cx::joined(&cx.report.borrow().covered);
        let sort = sort(cx.file);
        self.each(sort, text, |word, start, end| {
            if covered[..covered.partition_point(|range| range.start <= start)]
                .last()
                .is_some_and(|range| range.contains(&start))
            {
                return;
            }
            let place = || cx.lines.span(start..end);
            match word {
                Word::PrivateKey => {
                    let begin = rules::bul007::begin(text, end).unwrap_or(start);
                    rules::bul007::at(cx, text, end, || cx.lines.span(begin..end));
                }
                Word::Encoded => rules::bul007::encoded(cx, text, start, place),
                Word::Identity => rules::bul011::at(cx, text, start, place),
                Word::Claims => rules::bul010::at(cx, text, start, place),
                Word::FromLiteral => rules::bul004::from_literal(cx, text, end),
                Word::Flag => rules::bul004::flag(cx, text, start..end),
                Word::Vendor(which) => rules::bul018::at(cx, text, which, start, place),
                Word::Allow => {}
                Word::Fragment => fragments = true,
            }
        });
        if fragments {
            let before = cx.report.borrow().findings.len();
            for fragment in lenient::fragments(text) {
                let is = |word: &str| fragment.text.contains(word);
                // An object, or what may have been a Secret before it was shortened.
                let object = (is("apiVersion") && is("kind")) || (is("Secret") && is("ata"));
                let variables = is("name:") && is("value:");
                if !(object || variables) || !self.is_worth_parsing("", Sort::Manifest, fragment.text.as_bytes()) {
                    continue;
                }
                let line = cx.lines.line(fragment.start);
                let inner = Cx {
                    origin: Origin::Part { start: fragment.start, line },
                    templated: lenient::is_templated(fragment.text),
                    depth: 1,
                    place: Some(Place::Snippet),
                    ..*cx
                };
                manifest(&inner, fragment.text);
            }
            // What stands in a text is not sealed where it stands.
            for finding in cx.report.borrow_mut().findings.iter_mut().skip(before) {
                if finding.rule.id == "BUL001" || finding.rule.id == "BUL012" {
                    finding.rule = &rules::bul001::RULE;
                    finding.help =
                        vec!["write a placeholder (<password>) in its place; a value that was real must change".into()];
                }
            }
        }
    }
}

impl Clone for Cx<'_> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

/// What is said of a key store.
fn key_store(name: &str) -> Report {
    let report = RefCell::new(Report::default());
    let lines = Lines::new("");
    let cx = Cx::of(name, &lines, &report);
    rules::bul007::key_store(&cx, lines.span(0..0), "a key store");
    report.into_inner()
}

/// Whether a NUL stands at the begin.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(LOOK)].contains(&0)
}

/// Whether somebody who sees it would take it for a Kubernetes manifest.
fn looks_like_manifest(text: &str) -> bool {
    let has = |key: &str| {
        text.lines().any(|line| {
            let bare = line.trim_start_matches([' ', '-', '"', '\'', '{', '\u{feff}']);
            bare.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
        })
    };
    let secret = text.lines().any(|line| matches!(line.trim_end(), "kind: Secret" | "- kind: Secret"));
    secret || (has("apiVersion") && has("kind")) || (text.contains("\"apiVersion\"") && text.contains("\"kind\""))
}

/// Reads a manifest as far as it can be read, and looks at its documents.
pub fn manifest(cx: &Cx<'_>, text: &str) {
    // An expression without quotes is YAML too, of another meaning: braces in braces.
    let bare = cx.templated.then(|| zeroize::Zeroizing::new(lenient::without_templates(text)));
    match Stream::read_any(bare.as_ref().map_or(text, |bare| bare.as_str())) {
        Ok(stream) => {
            cx.report.borrow_mut().templated |= cx.templated && lenient::is_template(text);
            stream.documents().iter().for_each(|each| document(cx, &each.root));
            return;
        }
        Err(error) if !cx.templated => {
            // One bad document hides no other.
            let mut parts = lenient::documents(text);
            if parts.len() < 2 {
                parts = lenient::json_lines(text);
            }
            if parts.len() < 2 {
                partly(cx, text, &error);
                return;
            }
            let lines = Lines::new(text);
            for part in parts {
                let inner = part_of(cx, &lines, part.start);
                match Stream::read_any(part.text) {
                    Ok(stream) => stream.documents().iter().for_each(|each| document(&inner, &each.root)),
                    Err(error) => partly(&inner, part.text, &error),
                }
            }
            return;
        }
        Err(_) => {}
    }
    // What only looks like a template.
    if let Ok(stream) = Stream::read_any(text) {
        stream.documents().iter().for_each(|each| document(cx, &each.root));
        return;
    }
    cx.report.borrow_mut().templated = true;
    let bare = bare.unwrap_or_default();
    let lines = Lines::new(&bare);
    for part in lenient::documents(&bare) {
        let inner = part_of(cx, &lines, part.start);
        match Stream::read_any(part.text) {
            Ok(stream) => stream.documents().iter().for_each(|each| document(&inner, &each.root)),
            Err(_) => broken(&inner, part.text),
        }
    }
}

/// Reads a text that may be a manifest, a template of one, or nothing of the kind: `true` when it has documents with keys.
pub fn read(cx: &Cx<'_>, text: &str) -> bool {
    let bare;
    let readable = if lenient::is_templated(text) {
        bare = zeroize::Zeroizing::new(lenient::without_templates(text));
        bare.as_str()
    } else {
        text
    };
    let Ok(stream) = Stream::read_any(readable) else { return false };
    if !stream.documents().iter().any(|each| each.root.scalar().is_none()) {
        return false;
    }
    stream.documents().iter().for_each(|each| document(cx, &each.root));
    true
}

fn part_of<'a>(cx: &Cx<'a>, text: &Lines<'_>, start: usize) -> Cx<'a> {
    let lines = text.line(start);
    let origin = match cx.origin {
        Origin::Part { start: first, line } => Origin::Part { start: first + start, line: line + lines },
        Origin::Block { line, indent } => Origin::Block { line: line + lines, indent },
        fixed @ Origin::Fixed(_) => fixed,
    };
    Cx { origin, ..*cx }
}

/// A document that is no YAML: said, when it looks like a manifest, and its lines are looked at all the same.
fn partly(cx: &Cx<'_>, text: &str, error: &bulla::manifest::ManifestError) {
    if looks_like_manifest(text) && cx.depth == 0 && error.kind != ManifestErrorKind::Template {
        rules::bul013::unreadable(cx, error);
    }
    broken(cx, text);
}

/// Secrets in a text that no parser takes, by its lines.
fn broken(cx: &Cx<'_>, text: &str) {
    let is = |line: &str, key: &str, value: &str| {
        line.strip_prefix(key).is_some_and(|rest| rest.trim().trim_matches(['"', '\'']) == value)
    };
    let Some(object) = text.lines().find(|line| is(line.trim_start(), "kind:", "Secret")) else { return };
    let base = object.len() - object.trim_start().len();
    let mut fields: Option<(usize, bool)> = None;
    let mut kept = String::from("kind: Secret\nstringData:\n");
    let mut places = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        let indent = bare.len() - bare.trim_start().len();
        let word = bare.trim_start();
        if indent <= base && !word.is_empty() && !word.starts_with('#') {
            fields = match word {
                "data:" => Some((offset, true)),
                "stringData:" => Some((offset, false)),
                _ => None,
            };
        } else if let Some((_, encoded)) = fields
            && let Some((key, value, at)) = super::settings::assignment(bare)
            && bare[at + key.len()..].trim_start().starts_with(':')
        {
            use super::value::{Verdict, assess, assess_base64};
            let verdict = if encoded { assess_base64(value) } else { assess(value) };
            if verdict == Verdict::Value && !matches!(value, "|" | "|-" | ">" | ">-") {
                places.push((key.to_owned(), offset + at));
                kept.push_str(key);
            }
        }
        offset += line.len();
    }
    let Some((key, at)) = places.first() else { return };
    let span = Lines::new(text).span(*at..*at + key.len());
    let rule = if cx.templated { &rules::bul012::RULE } else { &rules::bul001::RULE };
    let mut finding = cx.finding(rule, span, "a plaintext Secret in a manifest that can't be read as a whole");
    finding.help.push("put the manifest right, then: bulla seal".into());
    finding.object = "Secret".into();
    finding.keys = places.iter().map(|(key, _)| super::cx::clean(key)).collect();
    cx.add(finding);
}

/// The comments that allow something: `bulla:allow RULE reason`.
fn allows(file: &str, text: &str) -> Vec<Allow> {
    const MARK: &str = "bulla:allow";
    let mut found = Vec::new();
    if !text.contains(MARK) {
        return found;
    }
    for (index, line) in text.lines().enumerate() {
        let Some(at) = line.find(MARK) else { continue };
        // In a comment of some kind, and not in the middle of a word.
        let before = line[..at].trim_end();
        if !["#", "//", "<!--", "/*", ";", "{{/*", "--"].iter().any(|open| before.ends_with(open)) {
            continue;
        }
        let mut words = line[at + MARK.len()..].trim_end_matches(['-', '>', '*', '/', '}', ' ']).split_whitespace();
        let rule = words.next().unwrap_or_default().to_owned();
        let reason = words.collect::<Vec<_>>().join(" ");
        found.push(Allow {
            file: file.to_owned(),
            line: index + 1,
            column: line[..at].chars().count() + 1,
            rule,
            reason,
            used: false,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// The files of the corpus that may be looked at, with their names in it.
    fn corpus() -> Vec<(String, Vec<u8>)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/check");
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
            .expect("the corpus")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| {
                path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("open"))
            })
            .collect();
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.is_file() {
                    let name = path.strip_prefix(&root).expect("below").to_string_lossy().into_owned();
                    files.push((name, std::fs::read(&path).expect("a file")));
                }
            }
        }
        files.sort();
        files
    }

    /// What is found only because a file is parsed that the look before it calls quiet.
    fn passed_over(words: &Words, name: &str, bytes: &[u8]) -> Vec<String> {
        let sort = sort(name);
        let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        if utf16 || is_binary(bytes) || std::str::from_utf8(bytes).is_err() || words.is_worth_parsing(name, sort, bytes)
        {
            return Vec::new();
        }
        if rules::bul003::is_secrets_file(name) {
            return Vec::new();
        }
        let report = words.look(name, bytes, sort, None, true);
        let without = words.look(name, bytes, sort, None, false);
        report
            .findings
            .iter()
            // A broken file with nothing in it is for the tools that apply it.
            .filter(|finding| finding.rule.id != "BUL013")
            .filter(|finding| !without.findings.iter().any(|other| other.span.line == finding.span.line))
            .map(|finding| format!("{name}:{} {} {}", finding.span.line, finding.rule.id, finding.message))
            .collect()
    }

    #[test]
    fn what_is_not_parsed_has_nothing_to_find() {
        let words = Words::default();
        let files = corpus();
        assert!(files.len() > 500, "{}", files.len());
        let found: Vec<String> = files.iter().flat_map(|(name, bytes)| passed_over(&words, name, bytes)).collect();
        assert_eq!(found, [""; 0]);
    }

    /// Each line of a manifest by itself with what is around it, so that no other line is why the file is parsed.
    #[test]
    fn what_is_not_parsed_has_nothing_to_find_when_lines_are_left_out() {
        let words = Words::default();
        let mut found = Vec::new();
        for (name, bytes) in corpus() {
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            if sort(&name) != Sort::Manifest || lines.len() > 120 {
                continue;
            }
            for width in [1, 2, 3, 5] {
                for window in lines.windows(width) {
                    // What it is a part of: of the whole file the parents alone, by their indentation.
                    let first = window.as_ptr_range().start;
                    let at = lines.iter().position(|line| std::ptr::eq(line, first)).unwrap_or_default();
                    let indent = |line: &str| line.len() - line.trim_start().len();
                    let mut least = indent(window[0]);
                    let mut parents: Vec<&str> = Vec::new();
                    for line in lines[..at].iter().rev().filter(|line| !line.trim().is_empty()) {
                        if indent(line) < least {
                            least = indent(line);
                            parents.push(line);
                        }
                    }
                    let part: String = parents.iter().rev().chain(window).copied().collect();
                    found.extend(passed_over(&words, &name, part.as_bytes()));
                }
            }
        }
        found.sort();
        found.dedup();
        assert_eq!(found, [""; 0]);
    }
}
