//! What rules see of a text, and where they put what they find.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use bulla::manifest::{Node, Span};

use super::finding::Finding;
use super::lines::Lines;
use super::registry::Rule;
use super::tree::Place;
use super::{lenient, rules};
use crate::failure;

/// How places of a text within another map to places of the file.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// A part of the file's text as it is: the byte and the line (from 0) at which it begins.
    Part { start: usize, line: usize },
    /// The lines of a block scalar: the file's line of the first, and by how much they are indented.
    Block { line: usize, indent: usize },
    /// Something that has no places of its own.
    Fixed(Span),
}

/// A SealedSecret or Secret that was seen, for what can be said of several files only.
#[derive(Clone, Debug)]
pub struct Seen {
    pub namespace: Option<String>,
    pub name: String,
    pub file: String,
    pub span: Span,
}

/// A comment that allows something.
#[derive(Clone, Debug)]
pub struct Allow {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub rule: String,
    pub reason: String,
    pub used: bool,
}

/// What was found in one file.
#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub allows: Vec<Allow>,
    /// Plaintext Secrets with values, and SealedSecrets.
    pub plain: Vec<Seen>,
    pub sealed: Vec<Seen>,
    /// What the policy is asked about.
    pub files_sealed: Vec<super::policy::SealedFile>,
    /// Files that generators read, relative to the file.
    pub generated_from: Vec<GeneratorFile>,
    /// Ranges of the text that a finding covers already.
    pub covered: Vec<Range<usize>>,
    /// Which values were told, as numbers that mean nothing elsewhere: an alias of one is not told again.
    pub told: HashSet<u64>,
    numbers: RandomState,
    /// Whether something was templated and read as far as it can be.
    pub templated: bool,
    /// Native SealedSecrets as JSON, for asking a cluster.
    pub live: Vec<(String, Span, String, serde_json::Value)>,
}

/// A file that a generator of Kustomize reads.
#[derive(Clone, Debug)]
pub struct GeneratorFile {
    pub path: String,
    pub taken: Taken,
}

/// How a generator takes a file, the graver way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taken {
    /// Lines KEY=VALUE of a Secret.
    SecretEnv,
    /// One value of a Secret.
    SecretFile,
    /// Lines KEY=VALUE of a ConfigMap.
    ConfigEnv,
    /// One value of a ConfigMap.
    ConfigFile,
}

/// A text and its report.
pub struct Cx<'a> {
    pub file: &'a str,
    /// The file's text as it was read, and its lines.
    pub outer: &'a str,
    pub lines: &'a Lines<'a>,
    pub origin: Origin,
    pub templated: bool,
    /// Whether it is a manifest that stands as text within another object.
    pub within: Option<&'a str>,
    pub depth: usize,
    /// What a document is that is no object, where the file's name doesn't say it.
    pub place: Option<Place>,
    pub report: &'a RefCell<Report>,
}

/// Ranges in order, those that touch as one.
pub fn joined(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut sorted: Vec<Range<usize>> = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let mut found: Vec<Range<usize>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match found.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => found.push(range),
        }
    }
    found
}

impl<'a> Cx<'a> {
    /// Of a file as it is, of which nothing is known but its text.
    pub fn of(file: &'a str, lines: &'a Lines<'a>, report: &'a RefCell<Report>) -> Self {
        Cx {
            file,
            outer: lines.text(),
            lines,
            origin: Origin::Part { start: 0, line: 0 },
            templated: lenient::is_templated(lines.text()),
            within: None,
            depth: 0,
            place: None,
            report,
        }
    }

    /// Whether a value is told for the first time: what an alias repeats was told at its anchor, unless only the alias's name
    /// says what it is.
    pub fn is_news(&self, value: &Node) -> bool {
        let mut report = self.report.borrow_mut();
        let number = report.numbers.hash_one(value.scalar());
        report.told.insert(number) || value.alias.is_none()
    }

    /// A place of this text as a place of the file.
    pub fn place(&self, span: Span) -> Span {
        match self.origin {
            Origin::Part { start, line } => {
                Span { start: span.start + start, end: span.end + start, line: span.line + line, ..span }
            }
            Origin::Block { line, indent } => {
                let line = line + span.line - 1;
                let start = self.lines.start(line.saturating_sub(1)) + indent + span.column - 1;
                let end = start + (span.end - span.start);
                let fits = self.outer.is_char_boundary(start.min(self.outer.len()))
                    && self.outer.is_char_boundary(end.min(self.outer.len()));
                let start = if fits { start.min(self.outer.len()) } else { self.outer.len() };
                Span { start, end: end.min(self.outer.len()).max(start), line, column: span.column + indent }
            }
            Origin::Fixed(span) => span,
        }
    }

    /// A finding at a place of this text.
    pub fn finding(&self, rule: &'static Rule, span: Span, message: impl Into<String>) -> Finding {
        let span = self.place(span);
        let shown = failure::Failure::new(String::new()).at(self.file, Some(self.outer), span);
        Finding {
            rule,
            file: self.file.to_owned(),
            path: String::new(),
            span,
            excerpt: shown.location.and_then(|location| location.excerpt),
            message: message.into(),
            label: String::new(),
            help: Vec::new(),
            object: String::new(),
            keys: Vec::new(),
            also: None,
            commits: Vec::new(),
        }
    }

    /// The rule for whatever an annotation repeats of an object.
    pub fn within_annotation(&self) -> Option<&'static Rule> {
        self.within.filter(|within| within.starts_with("the annotation")).map(|_| &rules::bul002::RULE)
    }

    /// Whether this is a file that a ConfigMap holds.
    pub fn in_config_map(&self) -> bool {
        self.place == Some(Place::ConfigFile)
    }

    pub fn add(&self, finding: Finding) {
        self.report.borrow_mut().findings.push(finding);
    }

    /// Nothing more is said about this part.
    pub fn cover(&self, span: Span) {
        let span = self.place(span);
        self.report.borrow_mut().covered.push(span.range());
    }

    /// A text within a scalar, as a context of its own.
    pub fn inner<'b>(&'b self, node: &Node, text: &str, within: Option<&'b str>) -> Cx<'b> {
        use bulla::manifest::{NodeKind, Style};
        let literal = matches!(&node.kind, NodeKind::Scalar { style: Style::Literal, .. });
        let place = self.place(node.span);
        let origin = if literal && node.alias.is_none() && !matches!(self.origin, Origin::Fixed(_)) {
            // The scalar's lines are those of the file without their indentation.
            let raw = self.outer.get(self.lines.start(place.line.saturating_sub(1))..).unwrap_or_default();
            let mut skipped = 0;
            let first = text.lines().find(|line| !line.trim().is_empty());
            let mut indent = 0;
            for line in raw.lines() {
                if line.trim().is_empty() {
                    skipped += 1;
                    continue;
                }
                let own = first.map_or(0, |first| first.len() - first.trim_start().len());
                indent = (line.len() - line.trim_start().len()).saturating_sub(own);
                break;
            }
            let leading = text.lines().take_while(|line| line.trim().is_empty()).count();
            Origin::Block { line: place.line + skipped - leading.min(skipped), indent }
        } else {
            Origin::Fixed(place)
        };
        Cx {
            file: self.file,
            outer: self.outer,
            lines: self.lines,
            origin,
            templated: lenient::is_templated(text) || self.templated,
            within: within.or(self.within),
            depth: self.depth + 1,
            place: Some(Place::Quiet),
            report: self.report,
        }
    }
}

/// An object, as its own fields call it.
#[derive(Clone, Debug, Default)]
pub struct Named {
    pub kind: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
}

impl Named {
    pub fn of(node: &Node) -> Self {
        let text = |node: Option<&Node>| node.and_then(Node::scalar).map(clean);
        let metadata = node.get("metadata");
        Self {
            kind: text(node.get("kind")).unwrap_or_default(),
            namespace: text(metadata.and_then(|m| m.get("namespace"))),
            name: text(metadata.and_then(|m| m.get("name"))),
        }
    }

    /// `shop/db`
    pub fn called(&self) -> String {
        crate::model::called(self.namespace.as_deref(), self.name.as_deref().or(Some("(no name)")))
    }

    /// `Secret/shop/db`
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind, self.called())
    }
}

/// Fit for a line: holes as `…`, nothing that steers a terminal, no more than a name may have.
pub fn clean(text: &str) -> String {
    let mut out = String::new();
    let mut hole = false;
    for c in text.chars().take(253) {
        if c == super::value::HOLE {
            hole = true;
            out.push('…');
        } else if hole && c == '_' {
        } else {
            hole = false;
            out.push(if c.is_control() { ' ' } else { c });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        assert_eq!(joined(&[5..9, 0..2, 1..3, 9..12, 20..21, 6..7]), [0..3, 5..12, 20..21]);
        let many: Vec<Range<usize>> = (0..100_000).rev().map(|at| at..at + 1).collect();
        assert_eq!(joined(&many).len(), 1);
    }
}
