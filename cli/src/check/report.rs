//! Reports for other programs. None of them holds a line of a file: only names and places.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Outcome;
use super::finding::Finding;
use super::registry::{ALL, Rule, Severity};
use crate::failure::{Failure, Result};
use crate::{files, output};

/// A format and where it goes.
pub struct Wanted {
    format: Format,
    path: PathBuf,
}

#[derive(Clone, Copy)]
enum Format {
    Sarif,
    Json,
    Junit,
    Github,
}

impl Wanted {
    /// `FORMAT=FILE`
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Failure::usage(format!("--report {text}: it is FORMAT=FILE, and FORMAT is sarif, json, junit or github"))
        };
        let (format, path) = text.split_once('=').ok_or_else(wrong)?;
        let format = match format {
            "sarif" => Format::Sarif,
            "json" => Format::Json,
            "junit" => Format::Junit,
            "github" => Format::Github,
            _ => return Err(wrong()),
        };
        if path.is_empty() {
            return Err(wrong());
        }
        Ok(Self { format, path: path.into() })
    }

    /// Whether it goes to standard output.
    pub fn is_stdout(&self) -> bool {
        files::is_stdin(&self.path)
    }

    pub fn write(&self, outcome: &Outcome, excused: usize) -> Result<()> {
        let text = match self.format {
            Format::Sarif => {
                let what = if outcome.commits.is_some() { "history" } else { "tree" };
                format!("{:#}\n", sarif(&outcome.findings, what))
            }
            Format::Json => {
                let mut json = super::output::json(outcome, excused);
                if let Some(fields) = json.as_object_mut() {
                    fields.insert("schemaVersion".into(), json!(output::SCHEMA_VERSION));
                }
                format!("{json:#}\n")
            }
            Format::Junit => junit(&outcome.findings, outcome.files),
            Format::Github => github(&outcome.findings),
        };
        if self.is_stdout() {
            return output::data(text.as_bytes());
        }
        let path: &Path = &self.path;
        files::write(path, &files::destination(path)?, text.as_bytes())
    }
}

/// Where a rule's page is for people.
pub fn help_uri(id: &str) -> String {
    format!("{}/blob/main/docs/rules/{id}.md", env!("CARGO_PKG_REPOSITORY"))
}

/// A path as a relative reference of a URI.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The name of the folder that paths are relative to: GitHub takes it for the root of the repository.
const ROOT: &str = "%SRCROOT%";

/// What GitHub takes of one run: more results than that, or a larger file (10 MB, compressed), and it takes none.
const MAX_RESULTS: usize = 25_000;
/// Bytes of results as JSON, without compression.
const MAX_RESULT_BYTES: usize = 9_000_000;

/// Those that a report has room for, errors before warnings, in their order; and how many it has not.
fn kept(findings: &[Finding], most: usize) -> (Vec<&Finding>, usize) {
    let is_error = |finding: &&Finding| finding.rule.severity == Severity::Error;
    let mut errors = findings.iter().filter(is_error).count().min(most);
    let mut warnings = most - errors;
    let fits = |finding: &&Finding| {
        let room = if is_error(finding) { &mut errors } else { &mut warnings };
        let fits = *room > 0;
        *room = room.saturating_sub(1);
        fits
    };
    let kept: Vec<&Finding> = findings.iter().filter(fits).collect();
    let lost = findings.len() - kept.len();
    (kept, lost)
}

/// A digest of names, fit for a fingerprint: lines are not in it, and neither is anything of a value.
fn digest(finding: &Finding) -> String {
    let names = finding.fingerprints();
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    bulla::digest::inputs_digest(&names)
}

/// Text of a SARIF message: brackets would be taken for a link.
fn message(text: &str) -> String {
    text.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]")
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn place(finding: &Finding) -> Value {
    let path = finding.path();
    let artifact = if Path::new(path).is_absolute() {
        json!({"uri": format!("file://{}", uri(path))})
    } else {
        json!({"uri": uri(path), "uriBaseId": ROOT})
    };
    let region = if finding.span.line > 0 {
        json!({"startLine": finding.span.line, "startColumn": finding.span.column.max(1)})
    } else {
        json!({"startLine": 1})
    };
    json!({"physicalLocation": {"artifactLocation": artifact, "region": region}})
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.summary},
        "help": {"text": rule.without_examples(), "markdown": rule.without_examples()},
        "helpUri": help_uri(rule.id),
        "defaultConfiguration": {"level": level(rule.severity)},
        "properties": {
            "tags": ["security"],
            "precision": "high",
            "security-severity": if rule.severity == Severity::Error { "8.0" } else { "4.0" },
        },
    })
}

/// SARIF 2.1.0, within what GitHub takes. It has no snippets, no contents and no hashes of contents of files: with a
/// `primaryLocationLineHash` of ours GitHub's upload makes none of the line that the secret is on.
fn sarif(findings: &[Finding], what: &str) -> Value {
    let (kept, mut lost) = kept(findings, MAX_RESULTS);
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut bytes = 0;
    let mut results: Vec<Value> = Vec::with_capacity(kept.len());
    for finding in &kept {
        let digest = digest(finding);
        let times = seen.entry(digest.clone()).or_default();
        *times += 1;
        let result = json!({
            "ruleId": finding.rule.id,
            "ruleIndex": ALL.iter().position(|rule| *rule == finding.rule),
            "level": level(finding.rule.severity),
            "message": {"text": message(&[std::slice::from_ref(&finding.message), &finding.help].concat().join("\n"))},
            "locations": [place(finding)],
            "partialFingerprints": {
                "primaryLocationLineHash": format!("{}:{times}", digest.get(1..17).unwrap_or(&digest)),
                "bulla/v1": digest,
            },
        });
        bytes += result.to_string().len();
        if bytes > MAX_RESULT_BYTES {
            lost += kept.len() - results.len();
            break;
        }
        results.push(result);
    }
    let mut invocation = json!({"executionSuccessful": true});
    if lost > 0 {
        let text = format!("{lost} more findings have no room in this report: bulla check lists all");
        invocation["toolExecutionNotifications"] = json!([{"level": "warning", "message": {"text": text}}]);
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "bulla",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": ALL.iter().map(|one| rule(one)).collect::<Vec<_>>(),
            }},
            // Uploads of the tree and of a history don't take each other's place.
            "automationDetails": {"id": format!("bulla-check/{what}/")},
            "originalUriBaseIds": {ROOT: {"description": {"text": "the root of the repository"}}},
            "columnKind": "unicodeCodePoints",
            "invocations": [invocation],
            "results": results,
        }],
    })
}

/// Text in XML: what XML can't hold at all becomes a question mark.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// JUnit's XML: a test case for each finding, and one that passes where there is none.
fn junit(findings: &[Finding], files: usize) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let count = findings.len().max(1);
    let failures = findings.len();
    out.push_str(&format!("<testsuites name=\"bulla check\" tests=\"{count}\" failures=\"{failures}\">\n"));
    out.push_str(&format!(
        "  <testsuite name=\"bulla check\" tests=\"{count}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\">\n"
    ));
    if findings.is_empty() {
        out.push_str(&format!("    <testcase classname=\"bulla\" name=\"{files} files\"/>\n"));
    }
    for finding in findings {
        let place = finding.place_from_root();
        let name = xml(&format!("{} {place}", finding.rule.id));
        let body = xml(&format!("{place}\n{}\n{}", finding.message, finding.help.join("\n")));
        out.push_str(&format!(
            "    <testcase classname=\"{}\" name=\"{name}\" file=\"{}\">\n      <failure type=\"{}\" message=\"{}\">{body}</failure>\n    </testcase>\n",
            xml(finding.path()),
            xml(finding.path()),
            finding.rule.id,
            xml(&finding.message),
        ));
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// Workflow commands of GitHub Actions, one a line.
fn github(findings: &[Finding]) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for finding in findings {
        let level = finding.rule.severity.as_str();
        let mut place = format!("file={}", property(finding.path()));
        if finding.span.line > 0 {
            place.push_str(&format!(",line={},col={}", finding.span.line, finding.span.column.max(1)));
        }
        let title = property(&format!("{}: {}", finding.rule.id, finding.rule.name));
        let mut text = finding.message.clone();
        for help in &finding.help {
            text.push('\n');
            text.push_str(help);
        }
        out.push_str(&format!("::{level} {place},title={title}::{}\n", data(&text)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::excuse::about;
    use crate::check::rules::{bul001, bul013};

    fn finding(rule: &'static Rule, file: &str, line: usize) -> Finding {
        about(rule, file, bulla::manifest::Span { start: 0, end: 0, line, column: 3 }, "m".into())
    }

    #[test]
    fn sarif_keeps_to_what_github_takes() {
        let mut findings: Vec<Finding> = (0..MAX_RESULTS).map(|at| finding(&bul013::RULE, "a", at + 1)).collect();
        findings.push(finding(&bul001::RULE, "b", 1));
        findings.push(finding(&bul001::RULE, "c", 1));
        let report = sarif(&findings, "tree");
        let results = report["runs"][0]["results"].as_array().expect("results");
        assert_eq!(results.len(), MAX_RESULTS);
        // Errors are kept, and the order is.
        assert_eq!(results[MAX_RESULTS - 1]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "c");
        let told = &report["runs"][0]["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"];
        assert!(told.as_str().expect("text").starts_with("2 more findings"), "{told}");

        let long = "x".repeat(4000);
        let findings: Vec<Finding> = (0..10_000).map(|at| finding(&bul001::RULE, &long, at + 1)).collect();
        let report = sarif(&findings, "tree");
        let results = report["runs"][0]["results"].as_array().expect("results").len();
        assert!(report.to_string().len() < 10_000_000 && results > 1000, "{results}");
        assert!(report["runs"][0]["invocations"][0]["toolExecutionNotifications"].is_array());
        assert!(sarif(&[], "tree")["runs"][0]["invocations"][0]["toolExecutionNotifications"].is_null());
    }

    #[test]
    fn fingerprints_stay_when_lines_move_and_differ_for_what_differs() {
        let prints = |findings: &[Finding]| -> Vec<Value> {
            let report = sarif(findings, "tree");
            let results = report["runs"][0]["results"].as_array().expect("results");
            results.iter().map(|result| result["partialFingerprints"].clone()).collect()
        };
        let first = [finding(&bul001::RULE, "a", 1), finding(&bul001::RULE, "a", 9), finding(&bul001::RULE, "b", 1)];
        let moved = [finding(&bul001::RULE, "a", 4), finding(&bul001::RULE, "a", 70), finding(&bul001::RULE, "b", 2)];
        assert_eq!(prints(&first), prints(&moved));
        let mut lines: Vec<String> =
            prints(&first).iter().map(|print| print["primaryLocationLineHash"].to_string()).collect();
        lines.sort();
        lines.dedup();
        assert_eq!(lines.len(), 3, "{lines:?}");
    }

    #[test]
    fn names_steer_no_reader_of_a_report() {
        let hostile = "a]]><b>\u{7}&\"'::error::x\n\r,line=1:%0A[x](https://evil.example).yaml";
        let mut one = finding(&bul001::RULE, hostile, 3);
        one.message = hostile.to_owned();
        let xml = junit(std::slice::from_ref(&one), 1);
        assert_eq!(xml.lines().count(), 8, "{xml}");
        assert!(!xml.contains("]]>") && !xml.contains('\u{7}') && !xml.contains("<b>"), "{xml}");
        let lines = github(std::slice::from_ref(&one));
        assert_eq!(lines.lines().count(), 1, "{lines}");
        let property = lines.split("::").nth(1).expect("properties");
        assert_eq!(property.matches(",line=").count(), 1, "{lines}");
        assert!(property.contains("%3A%3Aerror%3A%3Ax%0A%0D%2Cline=1%3A%250A"), "{lines}");
        let text = sarif(std::slice::from_ref(&one), "tree")["runs"][0]["results"][0]["message"]["text"].to_string();
        assert!(!text.contains("x](") && text.contains("x\\\\](https"), "{text}");
    }
}
