//! What is excused: comments on the spot, a baseline, exceptions of the policy. An excuse that nobody needs, that is over,
//! or that gives no reason, is a finding itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bulla::manifest::Span;
use serde_json::json;

use super::cx::Allow;
use super::finding::Finding;
use super::registry::{Rule, by_id};
use super::{Outcome, rules};
use crate::failure::{Failure, Result, shown};
use crate::files;

/// Whether a comment is about a finding.
pub fn covers(allow: &Allow, finding: &Finding) -> bool {
    let line = finding.span.line;
    let near = |at: usize| allow.line == at || allow.line + 1 == at;
    allow.file == finding.file
        && allow.rule.eq_ignore_ascii_case(finding.rule.id)
        && (near(line) || finding.also.is_some_and(near))
}

/// A finding about an excuse.
pub fn about(rule: &'static Rule, file: &str, span: Span, message: String) -> Finding {
    Finding {
        rule,
        file: file.to_owned(),
        path: String::new(),
        span,
        excerpt: None,
        message,
        label: String::new(),
        help: Vec::new(),
        object: String::new(),
        keys: Vec::new(),
        also: None,
        commits: Vec::new(),
    }
}

/// Takes away what comments allow. Returns how many findings.
pub fn comments(outcome: &mut Outcome) -> usize {
    let before = outcome.findings.len();
    let allows = &mut outcome.allows;
    outcome.findings.retain(|finding| {
        let mut excused = false;
        for allow in allows.iter_mut().filter(|allow| covers(allow, finding)) {
            allow.used = true;
            excused |= !allow.reason.is_empty();
        }
        !excused
    });
    let excused = before - outcome.findings.len();
    for allow in std::mem::take(&mut outcome.allows) {
        let span = Span { start: 0, end: 0, line: allow.line, column: allow.column };
        let bad = if allow.rule.is_empty() {
            Some("it names no rule".to_owned())
        } else if by_id(&allow.rule).is_none() {
            Some(format!(
                "there is no rule {}",
                crate::failure::printable(&allow.rule.chars().take(32).collect::<String>())
            ))
        } else if allow.reason.is_empty() {
            Some("it gives no reason".to_owned())
        } else {
            None
        };
        if let Some(why) = bad {
            let mut finding =
                about(&rules::bul203::RULE, &allow.file, span, format!("an exception that excuses nothing: {why}"));
            finding.help.push("bulla:allow RULE REASON     (bulla check --explain lists the rules)".into());
            outcome.findings.push(finding);
        } else if !allow.used {
            let rule = allow.rule.to_ascii_uppercase();
            let mut finding =
                about(&rules::bul201::RULE, &allow.file, span, format!("nothing needs this exception from {rule}"));
            finding.help.push("remove the comment".into());
            outcome.findings.push(finding);
        }
    }
    excused
}

/// A baseline: findings that were there when it was written.
pub struct Baseline {
    file: String,
    known: BTreeSet<String>,
}

impl Baseline {
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &files::read(path)?)
    }

    /// Of the bytes of such a file.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let file = shown(path);
        let broken = |what: &str| {
            Failure::new(format!("{file} is no baseline: {what}"))
                .in_file(&file)
                .help(format!("bulla check --baseline-write {file}"))
        };
        let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| broken("it is no JSON"))?;
        if json["schemaVersion"] != json!(1) {
            return Err(broken("its schemaVersion is not 1"));
        }
        let list = json["findings"].as_array().ok_or_else(|| broken("it has no findings"))?;
        let known = list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>();
        let known = known.ok_or_else(|| broken("a finding in it is no text"))?;
        Ok(Self { file, known })
    }

    /// Writes one of these findings; the file keeps its bytes when it says the same.
    pub fn write(path: &Path, findings: &[Finding]) -> Result<usize> {
        let all: BTreeSet<String> = findings.iter().flat_map(Finding::fingerprints).collect();
        let text = format!("{:#}\n", json!({"schemaVersion": 1, "findings": all}));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| crate::failure::io("make", folder, &error))?;
        }
        files::write(path, &files::destination(path)?, text.as_bytes())?;
        Ok(all.len())
    }

    /// Takes away what it knows. `whole`: everything was looked at, so that what it knows too much can be told.
    pub fn apply(&self, outcome: &mut Outcome, whole: bool) -> usize {
        let mut used: BTreeMap<&str, bool> = self.known.iter().map(|known| (known.as_str(), false)).collect();
        let before = outcome.findings.len();
        outcome.findings.retain_mut(|finding| {
            let prints = finding.fingerprints();
            let new: Vec<usize> = (0..prints.len())
                .filter(|at| match used.get_mut(prints[*at].as_str()) {
                    Some(used) => {
                        *used = true;
                        false
                    }
                    None => true,
                })
                .collect();
            if !finding.keys.is_empty() && !new.is_empty() {
                finding.keys = new.iter().filter_map(|at| finding.keys.get(*at).cloned()).collect();
            }
            !new.is_empty()
        });
        let excused = before - outcome.findings.len();
        let unused = used.values().filter(|used| !**used).count();
        if whole && unused > 0 {
            let message = format!(
                "{} of the baseline {} no longer there",
                crate::output::plain::count(unused, "finding"),
                if unused == 1 { "is" } else { "are" }
            );
            let mut finding = about(&rules::bul204::RULE, &self.file, Span::default(), message);
            finding.keys = used.iter().filter(|(_, used)| !**used).map(|(known, _)| (*known).to_owned()).collect();
            finding.help.push(format!("bulla check --baseline-write {}", self.file));
            outcome.findings.push(finding);
        }
        excused
    }
}
