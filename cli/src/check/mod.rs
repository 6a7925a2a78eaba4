//! `bulla check`: from paths, an index, a history or standard input to findings.
//!
//! [`walk`] and [`git`] bring bytes, [`scan`] decides which of them are read and how far, [`rules`] say what is wrong,
//! [`excuse`] takes away what is excused, [`output`] and [`report`] tell. Nothing here holds a value longer than the file is
//! looked at, and no finding holds one at all.

pub mod command;
pub mod cx;
pub mod excuse;
pub mod finding;
pub mod git;
pub mod glance;
pub mod hcl;
pub mod judge;
pub mod keystore;
pub mod lenient;
pub mod lines;
pub mod login;
pub mod names;
pub mod output;
pub mod placeholder;
pub mod policy;
pub mod registry;
pub mod report;
pub mod root;
pub mod rules;
pub mod scan;
pub mod sealed;
pub mod settings;
pub mod tree;
pub mod value;
pub mod walk;
pub mod words;

use cx::{Allow, Report, Seen};
use finding::Finding;

/// What was found in all files.
#[derive(Default)]
pub struct Outcome {
    pub findings: Vec<Finding>,
    pub allows: Vec<Allow>,
    pub plain: Vec<Seen>,
    pub sealed: Vec<Seen>,
    pub live: Vec<(String, bulla::manifest::Span, String, serde_json::Value)>,
    /// For the policy: its files, and what is sealed.
    pub policies: Vec<String>,
    pub files_sealed: Vec<policy::SealedFile>,
    /// Files that were looked at, binary ones not counted.
    pub files: usize,
    /// Templated files, read as far as it can be.
    pub templated: Vec<String>,
    /// Folders that are repositories of their own.
    pub submodules: Vec<String>,
    /// Of a history: commits, and whether it was cut off.
    pub commits: Option<usize>,
    pub shallow: bool,
    /// Files that are excluded by the policy.
    pub excluded: usize,
}

impl Outcome {
    /// Takes over what was found in one file.
    pub fn add(&mut self, file: &str, report: Report) {
        self.files += 1;
        self.findings.extend(report.findings);
        self.allows.extend(report.allows);
        self.plain.extend(report.plain);
        self.sealed.extend(report.sealed);
        self.live.extend(report.live);
        self.files_sealed.extend(report.files_sealed);
        if file.rsplit('/').next() == Some(crate::policy::NAME) {
            self.policies.push(file.to_owned());
        }
        if report.templated {
            self.templated.push(file.to_owned());
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.allows.extend(other.allows);
        self.plain.extend(other.plain);
        self.sealed.extend(other.sealed);
        self.live.extend(other.live);
        self.files += other.files;
        self.policies.extend(other.policies);
        self.files_sealed.extend(other.files_sealed);
        self.templated.extend(other.templated);
        self.submodules.extend(other.submodules);
        self.excluded += other.excluded;
    }

    /// In the order of files and lines, each once; and what can be said of several files only.
    pub fn finish(&mut self) {
        rules::bul109::both(self);
        self.sort();
        self.allows.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        self.templated.sort();
        self.submodules.sort();
    }

    /// In the order of files and lines, each once.
    pub fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            (&a.file, a.span.line, a.span.column, a.rule.id, &a.keys).cmp(&(
                &b.file,
                b.span.line,
                b.span.column,
                b.rule.id,
                &b.keys,
            ))
        });
        self.findings.dedup_by(|a, b| {
            a.file == b.file
                && a.span.line == b.span.line
                && a.span.column == b.span.column
                && a.rule == b.rule
                && a.keys == b.keys
        });
    }
}
