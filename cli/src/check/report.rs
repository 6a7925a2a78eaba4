//! Reports for other programs. None of them holds a line of a file: only names and places.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Outcome;
use super::finding::Finding;
use super::registry::{ALL, Severity};
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
            Format::Sarif => format!("{:#}\n", sarif(&outcome.findings)),
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

/// SARIF 2.1.0.
fn sarif(findings: &[Finding]) -> Value {
    let level = |severity: Severity| match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let rules: Vec<Value> = ALL
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "name": rule.name,
                "shortDescription": {"text": rule.summary},
                "fullDescription": {"text": rule.summary},
                "help": {"text": rule.page, "markdown": rule.page},
                "helpUri": help_uri(rule.id),
                "defaultConfiguration": {"level": level(rule.severity)},
                "properties": {
                    "tags": ["security"],
                    "security-severity": if rule.severity == Severity::Error { "8.0" } else { "4.0" },
                },
            })
        })
        .collect();
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let index = ALL.iter().position(|rule| *rule == finding.rule);
            let mut location = json!({"artifactLocation": {"uri": uri(&finding.file)}});
            if finding.span.line > 0 {
                location["region"] = json!({"startLine": finding.span.line, "startColumn": finding.span.column.max(1)});
            } else {
                location["region"] = json!({"startLine": 1});
            }
            let mut text = finding.message.clone();
            for help in &finding.help {
                text.push('\n');
                text.push_str(help);
            }
            json!({
                "ruleId": finding.rule.id,
                "ruleIndex": index,
                "level": level(finding.rule.severity),
                "message": {"text": text},
                "locations": [{"physicalLocation": location}],
                "partialFingerprints": {"bulla/v1": finding.fingerprints().join(" ")},
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "bulla",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
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
        let name = xml(&format!("{} {}", finding.rule.id, finding.place()));
        let body = xml(&format!("{}\n{}\n{}", finding.place(), finding.message, finding.help.join("\n")));
        out.push_str(&format!(
            "    <testcase classname=\"{}\" name=\"{name}\" file=\"{}\">\n      <failure type=\"{}\" message=\"{}\">{body}</failure>\n    </testcase>\n",
            xml(&finding.file),
            xml(&finding.file),
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
        let mut place = format!("file={}", property(&finding.file));
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
