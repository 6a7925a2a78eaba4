//! From bytes to findings: which files are read at all, how far, and which rules look at what.

use std::cell::RefCell;

use aho_corasick::AhoCorasick;
use bulla::manifest::{ManifestErrorKind, Node, NodeKind, Source, Stream};

use super::cx::{Allow, Cx, Named, Origin, Report, span_of};
use super::lenient;
use super::rules;
use crate::failure::{Failure, Result};

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
    /// Anything else.
    Text,
}

/// What a file is, by its name. `-` is a manifest.
pub fn sort(path: &str) -> Sort {
    let name = path.rsplit('/').next().unwrap_or(path);
    if rules::bul006::is_env_file(path) {
        return Sort::Env;
    }
    let lower = name.to_ascii_lowercase();
    let ends = [
        ".yaml",
        ".yml",
        ".json",
        ".yaml.gotmpl",
        ".yml.gotmpl",
        ".yaml.tpl",
        ".yml.tpl",
        ".yaml.j2",
        ".yml.j2",
        ".yaml.tmpl",
        ".yml.tmpl",
        ".json.tpl",
        ".yaml.tftpl",
        ".yaml.erb",
        ".yaml.in",
        ".kubeconfig",
        ".dockercfg",
        ".dockerconfigjson",
        ".jsonc",
        ".json5",
        ".yaml.example",
        ".yaml.bak",
        ".yml.bak",
        ".yaml.orig",
    ];
    if path == "standard input"
        || ends.iter().any(|end| lower.ends_with(end))
        || matches!(
            name,
            "kustomization"
                | "Kustomization"
                | "kubeconfig"
                | "config"
                | ".dockercfg"
                | ".dockerconfigjson"
                | "admin.conf"
        )
    {
        return Sort::Manifest;
    }
    Sort::Text
}

/// The words that are looked for in every byte.
pub struct Words {
    /// In all files.
    everywhere: AhoCorasick,
    /// In manifests: without any of them there is nothing in it that a rule could look at.
    manifests: AhoCorasick,
}

const EVERYWHERE: &[&str] = &[
    "PRIVATE KEY-----",
    "PRIVATE KEY BLOCK-----",
    "AGE-SECRET-KEY-",
    "eyJ",
    "bulla:allow",
    "kind: Secret",
    "\"kind\": \"Secret\"",
    "\"kind\":\"Secret\"",
    "kind: \"Secret\"",
    "--from-literal",
];
const FROM_LITERAL: usize = 9;
const AFTER_FRAGMENT: usize = 5;

/// Parts of telling names, in the cases in which names are written. The first letter is left out where it may be of either case.
const MANIFESTS: &[&str] = &[
    "ecret",
    "ECRET",
    "assw",
    "ASSW",
    "oken",
    "OKEN",
    "redential",
    "REDENTIAL",
    "assphrase",
    "ASSPHRASE",
    "asswd",
    "pi-key",
    "pi_key",
    "piKey",
    "pikey",
    "PI_KEY",
    "piK",
    "ccess-key",
    "ccess_key",
    "ccessKey",
    "CCESS_KEY",
    "rivate",
    "RIVATE",
    "igning",
    "IGNING",
    "ncryption",
    "NCRYPTION",
    "pwd",
    "PWD",
    "Pwd",
    "_PASS",
    "Pass",
    "_pass",
    "-pass",
    "pass:",
    "auths",
    "\"auth\"",
    "dockerc",
    "ocker",
    "-key-data",
    "epper",
    "EPPER",
    "salt",
    "SALT",
    "Salt",
    "creds",
    "Creds",
    "CREDS",
    "\"PASS",
    "_KEY",
    "-key",
    "_key",
    "Key",
    "psk",
    "PSK",
    "_pw",
    "_PW",
    "Pw",
    "pin:",
    "hmac",
    "HMAC",
    "PIN",
    // A login in a URL.
    "://",
];

/// One file in flight.
pub struct File<'a> {
    /// As it is shown.
    pub name: &'a str,
    pub bytes: &'a [u8],
    /// Whether a secretGenerator reads it, and as lines of NAME=VALUE or as a whole.
    pub generator: Option<bool>,
}

impl Words {
    pub fn new() -> Result<Self> {
        let build = |words: &[&str]| {
            AhoCorasick::new(words).map_err(|error| Failure::new(format!("can't prepare the search: {error}")))
        };
        Ok(Self { everywhere: build(EVERYWHERE)?, manifests: build(MANIFESTS)? })
    }

    /// Whether nothing in these bytes could be of interest, whatever file they are of.
    pub fn is_quiet(&self, sort: Sort, bytes: &[u8]) -> bool {
        !self.everywhere.is_match(bytes) && (sort == Sort::Text || !self.manifests.is_match(bytes))
    }

    /// Looks at a file.
    pub fn scan(&self, file: &File<'_>) -> Option<Report> {
        let File { name, bytes, generator } = *file;
        let sort = sort(name);
        let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        if !utf16 && generator.is_none() {
            if is_binary(bytes) {
                return None;
            }
            if self.is_quiet(sort, bytes) {
                return Some(Report::default());
            }
        }
        Some(self.look(name, bytes, sort, generator))
    }

    fn look(&self, name: &str, bytes: &[u8], sort: Sort, generator: Option<bool>) -> Report {
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
        let cx = Cx {
            file: name,
            outer: text,
            origin: Origin::Part { start: 0, line: 0 },
            templated: lenient::is_templated(text),
            within: None,
            depth: 0,
            report: &report,
        };
        match sort {
            _ if generator == Some(true) => rules::bul006::lines(&cx, text, true),
            _ if generator == Some(false) => {
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
        for found in self.everywhere.find_iter(text.as_bytes()) {
            let (start, end) = (found.start(), found.end());
            if covered[..covered.partition_point(|range| range.start <= start)]
                .last()
                .is_some_and(|range| range.contains(&start))
            {
                continue;
            }
            let which = found.pattern().as_usize();
            let place = || span_of(text, start..end);
            match which {
                0 | 1 => {
                    let begin = rules::bul007::begin(text, end).unwrap_or(start);
                    rules::bul007::at(cx, text, end, || span_of(text, begin..end));
                }
                2 => rules::bul011::at(cx, text, start, place),
                3 => rules::bul010::at(cx, text, start, place),
                FROM_LITERAL => rules::bul004::from_literal(cx, text, end, place),
                AFTER_FRAGMENT.. => fragments = true,
                _ => {}
            }
        }
        if fragments && sort(cx.file) == Sort::Text {
            let before = cx.report.borrow().findings.len();
            for fragment in lenient::fragments(text) {
                if !fragment.text.contains("Secret") || !fragment.text.contains("ata") {
                    continue;
                }
                let line = text[..fragment.start].bytes().filter(|byte| *byte == b'\n').count();
                let inner = Cx {
                    origin: Origin::Part { start: fragment.start, line },
                    templated: lenient::is_templated(fragment.text),
                    depth: 1,
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
    (has("apiVersion") && has("kind")) || (text.contains("\"apiVersion\"") && text.contains("\"kind\""))
}

/// Reads a manifest as far as it can be read, and looks at its documents.
pub fn manifest(cx: &Cx<'_>, text: &str) {
    match Stream::read_any(text) {
        Ok(stream) => {
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
            for part in parts {
                let inner = part_of(cx, text, part.start);
                match Stream::read_any(part.text) {
                    Ok(stream) => stream.documents().iter().for_each(|each| document(&inner, &each.root)),
                    Err(error) => partly(&inner, part.text, &error),
                }
            }
            return;
        }
        Err(_) => {}
    }
    cx.report.borrow_mut().templated = true;
    let bare = zeroize::Zeroizing::new(lenient::without_templates(text));
    if let Ok(stream) = Stream::read_any(&bare) {
        stream.documents().iter().for_each(|each| document(cx, &each.root));
        return;
    }
    for part in lenient::documents(&bare) {
        let inner = part_of(cx, &bare, part.start);
        match Stream::read_any(part.text) {
            Ok(stream) => stream.documents().iter().for_each(|each| document(&inner, &each.root)),
            Err(_) => lines(&inner, part.text),
        }
    }
}

fn part_of<'a>(cx: &Cx<'a>, text: &str, start: usize) -> Cx<'a> {
    let lines = text[..start].bytes().filter(|byte| *byte == b'\n').count();
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
    lines(cx, text);
}

/// Secrets in a text that no parser takes, by its lines.
fn lines(cx: &Cx<'_>, text: &str) {
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
            && let Some((key, value, at)) = rules::bul006::assignment(bare)
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
    let span = span_of(text, *at..*at + key.len());
    let rule = if cx.templated { &rules::bul012::RULE } else { &rules::bul001::RULE };
    let mut finding = cx.finding(rule, span, "a plaintext Secret in a manifest that can't be read as a whole");
    finding.help.push("put the manifest right, then: bulla seal".into());
    finding.object = "Secret".into();
    finding.keys = places.iter().map(|(key, _)| super::cx::clean(key)).collect();
    cx.add(finding);
}

/// Looks at a document.
pub fn document(cx: &Cx<'_>, root: &Node) {
    let file = cx.file.rsplit('/').next().unwrap_or(cx.file);
    let kustomization = matches!(file, "kustomization.yaml" | "kustomization.yml" | "Kustomization" | "kustomization");
    let kind = root.get("kind").and_then(Node::scalar);
    let is_object = kind.is_some() && root.get("apiVersion").is_some();
    if kustomization || kind == Some("Kustomization") && root.get("secretGenerator").is_some() {
        rules::bul005::kustomization(cx, root);
    }
    if is_schema(root) {
        return;
    }
    let values = cx.depth == 0 && !is_object && rules::bul003::is_values_file(cx.file);
    visit(cx, root, &Path { key: None, object: None, values, level: 0 });
}

/// JSON schemas and definitions of custom resources talk of passwords and have none.
fn is_schema(root: &Node) -> bool {
    root.get("$schema")
        .and_then(Node::scalar)
        .is_some_and(|schema| schema.contains("json-schema.org/") && root.get("properties").is_some())
        || matches!(root.get("kind").and_then(Node::scalar), Some("CustomResourceDefinition"))
}

/// On the way through a document.
#[derive(Clone, Copy)]
struct Path<'p> {
    /// The key that a node stands under.
    key: Option<&'p str>,
    object: Option<&'p Named>,
    /// Whether these are Helm values.
    values: bool,
    level: usize,
}

fn visit(cx: &Cx<'_>, node: &Node, path: &Path<'_>) {
    // What an alias repeats among values was looked at where it stands.
    if path.values && node.alias.is_some() {
        return;
    }
    match &node.kind {
        NodeKind::Scalar { value, .. } => {
            let key = path.key.unwrap_or_default();
            rules::bul002::scalar(cx, node, key);
            let Some(object) = path.object.filter(|object| !path.values && object.kind != "ConfigMap") else { return };
            let login =
                key != "value" && value.len() < 4096 && !value.contains('\n') && super::value::password_in_url(value);
            let key_of_server = object.kind == "EncryptionConfiguration"
                && key == "secret"
                && rules::bul003::is_secret_text(key, value);
            if login || key_of_server {
                rules::bul015::report(cx, node.alias.unwrap_or(node.span), key, object);
            }
        }
        NodeKind::Sequence { items, .. } => {
            let key = path.key.unwrap_or_default();
            match key {
                "args" | "command" | "script" | "before_script" | "run" => {
                    rules::bul004::arguments(cx, node, path.object)
                }
                _ => {}
            }
            if key != "parameters" && !rules::bul004::is_environment(key) {
                items
                    .iter()
                    .filter(|item| item.entries().is_some_and(|entries| entries.len() == 2))
                    .for_each(|item| rules::bul004::variable(cx, item, path.object));
            }
            items.iter().for_each(|item| visit(cx, item, path));
        }
        NodeKind::Mapping { entries, .. } => {
            let named;
            let mut path = *path;
            if node.get("kind").is_some_and(|kind| kind.scalar().is_some())
                && (node.get("apiVersion").is_some() || node.get("metadata").is_some())
            {
                named = Named::of(node);
                path = Path { object: Some(&named), values: false, ..path };
                if named.kind == "ConfigMap" {
                    rules::bul014::config_map(cx, node, &named);
                }
                helm(cx, node, &named);
            }
            let secret = rules::bul001::mapping(cx, node);
            if !secret {
                if rules::bul008::mapping(cx, node) {
                    return;
                }
                rules::bul009::mapping(cx, node);
            }
            for entry in entries {
                let key = entry.key.scalar().unwrap_or_default();
                if secret && matches!(key, "data" | "stringData") {
                    continue;
                }
                let environment = rules::bul004::is_environment(key);
                if environment {
                    rules::bul004::environment(cx, &entry.value, path.object);
                } else if path.values {
                    rules::bul003::entry(cx, &entry.key, &entry.value, path.object);
                }
                // SOPS and sealed files: what stands under these is ciphertext or about it.
                if matches!(key, "sops" | "encryptedData" | "status" | "managedFields") {
                    continue;
                }
                let values = (path.values || holds_values(key, &entry.value)) && !environment;
                visit(cx, &entry.value, &Path { key: Some(key), values, level: path.level + 1, ..path });
            }
        }
    }
}

/// Whether Helm values stand under a key: in helmfiles, Fleet, Skaffold, kustomizations, Flux, Argo CD. A selector's `values` are texts.
fn holds_values(key: &str, node: &Node) -> bool {
    matches!(key, "values" | "valuesInline" | "valuesObject" | "setValues" | "setValueTemplates")
        && (node.entries().is_some()
            || node.items().is_some_and(|items| items.iter().any(|item| item.entries().is_some())))
}

/// Values within objects of Flux and Argo CD.
fn helm(cx: &Cx<'_>, node: &Node, object: &Named) {
    let Some(spec) = node.get("spec") else { return };
    match object.kind.as_str() {
        "HelmRelease" | "HelmChart" | "HelmChartConfig" | "HelmApp" => {
            if let Some(node) = spec.get("valuesContent") {
                text_values(cx, node, object);
            }
        }
        "SecretStore" | "ClusterSecretStore" => rules::bul003::fake_store(cx, node, object),
        "Application" | "ApplicationSet" => {
            let spec = spec.get("template").and_then(|template| template.get("spec")).unwrap_or(spec);
            let sources = spec.get("sources").and_then(Node::items).unwrap_or_default();
            for helm in spec.get("source").into_iter().chain(sources).filter_map(|source| source.get("helm")) {
                if let Some(node) = helm.get("values") {
                    text_values(cx, node, object);
                }
                if let Some(list) = helm.get("parameters") {
                    rules::bul003::parameters(cx, list, object);
                }
            }
        }
        _ => {}
    }
}

/// Values that stand as text in an object.
fn text_values(cx: &Cx<'_>, node: &Node, object: &Named) {
    let Some(text) = node.scalar() else { return };
    let inner = cx.inner(node, text, None);
    let bare = zeroize::Zeroizing::new(lenient::without_templates(text));
    let Ok(stream) = Stream::read_any(&bare) else { return };
    for document in stream.documents() {
        values_node(&inner, &document.root, object);
    }
}

fn values_node(cx: &Cx<'_>, node: &Node, object: &Named) {
    visit(cx, node, &Path { key: None, object: Some(object), values: true, level: 2 });
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
