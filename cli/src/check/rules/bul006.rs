//! BUL006: a value in an env file that is committed.

use crate::check::cx::{Cx, clean};
use crate::check::judge;
use crate::check::registry::{Rule, Severity};
use crate::check::settings::{assignment, form};
use crate::check::tree;
use crate::check::value::{Verdict, assess};

pub const RULE: Rule = Rule {
    id: "BUL006",
    name: "env-file",
    severity: Severity::Error,
    summary: "a value in an env file that is committed",
    page: include_str!("../../../../docs/rules/BUL006.md"),
};

/// Whether a file is an env file, by its name. Examples and templates of one are none.
pub fn is_env_file(path: &str) -> bool {
    let lower = path.to_lowercase();
    let name = lower.rsplit('/').next().unwrap_or(&lower);
    let example = ["example", "sample", "template", "dist", "defaults", "schema", "tpl"]
        .iter()
        .any(|word| name.split(['.', '-', '_']).any(|part| part == *word));
    !example && (name == ".env" || name.ends_with(".env") || name.starts_with(".env."))
}

/// Looks at the lines of an env file. `all`: every value counts, not only those under a telling name.
pub fn lines(cx: &Cx<'_>, text: &str, all: bool) {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if let Some((key, value, at)) = assignment(line)
            && line[at + key.len()..].trim_start().starts_with('=')
            && (if all {
                assess(value) == Verdict::Value && !judge::repeats(key, value)
            } else {
                judge::text(key, value)
            })
        {
            let span = cx.lines.span(offset + at..offset + at + key.len());
            let mut finding = cx.finding(&RULE, span, format!("a secret in an env file: {}", clean(key)));
            finding.excerpt = Some(crate::failure::Excerpt {
                text: format!("{}=········", clean(key)),
                at: 0,
                len: clean(key).chars().count(),
            });
            finding.help.push(format!(
                "bulla seal --name NAME -n NAMESPACE --from-env-file {} -w FILE     and take it out of Git",
                cx.file
            ));
            finding.keys = vec![clean(key)];
            cx.add(finding);
        }
        offset += line.len();
    }
}

/// A file that a secretGenerator takes as one value.
pub fn whole(cx: &Cx<'_>, text: &str) {
    if assess(text) == Verdict::Value {
        // Of settings, the first that says it.
        let mut at = None;
        let name = cx.file.rsplit('/').next().unwrap_or(cx.file);
        tree::lines(text, form(name, text), true, |_, span| _ = at.get_or_insert(span));
        let at = at.unwrap_or_else(|| cx.lines.span(0..0));
        let mut finding = cx.finding(&RULE, at, "a secretGenerator makes a Secret of this file");
        finding.excerpt = None;
        finding.help.push(format!(
            "bulla seal --name NAME -n NAMESPACE --from-file {} -w FILE     and take it out of Git",
            cx.file
        ));
        cx.add(finding);
    }
}
