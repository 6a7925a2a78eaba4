//! What was found, for people and as JSON.

use serde_json::{Value, json};

use super::Outcome;
use super::finding::Finding;
use super::registry::Severity;
use crate::failure::{Failure, Location};
use crate::output::plain::count;

/// One finding as every error of this program is told.
pub fn text(finding: &Finding) -> String {
    let mut failure = Failure::new(finding.message.clone());
    failure.code = Some(finding.rule.id);
    let line = (finding.span.line > 0).then_some(finding.span.line);
    failure.location = Some(Location {
        file: finding.file.clone(),
        line,
        column: line.map(|_| finding.span.column),
        excerpt: finding.excerpt.clone(),
    });
    failure.label.clone_from(&finding.label);
    failure.help.clone_from(&finding.help);
    match finding.commits.as_slice() {
        [] => {}
        [one] => failure.details.push(format!("in commit {}", short(one))),
        [newest, .., oldest] => failure.details.push(format!(
            "in {}, from {} to {}",
            count(finding.commits.len(), "commit"),
            short(oldest),
            short(newest)
        )),
    }
    let rendered = failure.render();
    match finding.rule.severity {
        Severity::Error => rendered,
        Severity::Warning => rendered.replacen("\u{1b}[1;31merror", "\u{1b}[1;33mwarning", 1),
    }
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// The last line. `live`: how many SealedSecrets open, and where.
pub fn summary(outcome: &Outcome, excused: usize, live: Option<(usize, &str)>) -> String {
    let files = match outcome.commits {
        Some(commits) => format!("{} in {}", count(outcome.files, "file version"), count(commits, "commit")),
        None => count(outcome.files, "file"),
    };
    let excused = if excused > 0 { format!(" ({} excused)", count(excused, "finding")) } else { String::new() };
    if outcome.findings.is_empty() {
        return match live {
            Some((opens, context)) => {
                let verb = if opens == 1 { "opens" } else { "open" };
                format!("checked {files}, {} {verb} in {context}{excused}", count(opens, "SealedSecret"))
            }
            None => format!("checked {files}, no findings{excused}"),
        };
    }
    let errors = outcome.findings.iter().filter(|finding| finding.rule.severity == Severity::Error).count();
    let warnings = outcome.findings.len() - errors;
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(count(errors, "error"));
    }
    if warnings > 0 {
        parts.push(count(warnings, "warning"));
    }
    let mut names: Vec<&str> = outcome.findings.iter().map(|finding| finding.file.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    format!("found {} in {}; checked {files}{excused}", parts.join(" and "), count(names.len(), "file"))
}

/// Everything as JSON.
pub fn json(outcome: &Outcome, excused: usize) -> Value {
    let findings: Vec<Value> = outcome
        .findings
        .iter()
        .map(|finding| {
            json!({
                "rule": finding.rule.id,
                "name": finding.rule.name,
                "severity": finding.rule.severity.as_str(),
                "message": finding.message,
                "file": finding.file,
                "path": finding.path(),
                "line": (finding.span.line > 0).then_some(finding.span.line),
                "column": (finding.span.line > 0).then_some(finding.span.column),
                "object": (!finding.object.is_empty()).then_some(&finding.object),
                "keys": finding.keys,
                "help": finding.help,
                "fingerprints": finding.fingerprints(),
                "commits": finding.commits,
            })
        })
        .collect();
    json!({
        "findings": findings,
        "files": outcome.files,
        "commits": outcome.commits,
        "excused": excused,
        "excluded": outcome.excluded,
        "templated": outcome.templated,
        "submodules": outcome.submodules,
        "shallow": outcome.shallow,
    })
}
