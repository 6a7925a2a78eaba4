//! BUL109: a plaintext Secret of the namespace and name of a SealedSecret.

use crate::check::Outcome;
use crate::check::cx::Seen;
use crate::check::finding::Finding;
use crate::check::registry::{Rule, Severity};

pub const RULE: Rule = Rule {
    id: "BUL109",
    name: "two-sources",
    severity: Severity::Error,
    summary: "a plaintext Secret of the namespace and name of a SealedSecret",
    page: include_str!("../../../../docs/rules/BUL109.md"),
};

/// Puts what is there twice among the findings.
pub fn both(outcome: &mut Outcome) {
    use std::collections::HashMap;
    let key = |seen: &Seen| (seen.namespace.clone(), seen.name.clone());
    let sealed: HashMap<_, &Seen> = outcome.sealed.iter().map(|seen| (key(seen), seen)).collect();
    let mut found = Vec::new();
    for plain in &outcome.plain {
        let Some(sealed) = sealed.get(&key(plain)) else { continue };
        let called = crate::model::called(plain.namespace.as_deref(), Some(&plain.name));
        found.push(Finding {
            rule: &RULE,
            file: plain.file.clone(),
            path: String::new(),
            span: plain.span,
            excerpt: None,
            message: format!("Secret {called} is here in plaintext and sealed in {}", sealed.file),
            label: String::new(),
            help: vec![format!("git rm {}     and change the values: Git's history keeps them", plain.file)],
            object: format!("Secret/{called}"),
            keys: Vec::new(),
            also: None,
            commits: Vec::new(),
        });
    }
    outcome.findings.extend(found);
}
