//! `bulla check` against the labelled corpus: recall and precision, for each class and overall, of both halves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sandbox::{finish, program};

/// A literal under a telling name: where two of these rules say it of one place, either is right (docs/check.md).
const NAMED: &[&str] = &["BUL003", "BUL004", "BUL014", "BUL015", "BUL016", "BUL017"];

/// Recall and precision of each part.
const GOALS: (f64, f64) = (0.98, 0.99);

/// The rules that say what a class says.
fn rules(class: &str) -> &'static [&'static str] {
    match class {
        "plaintext-secret-data" | "plaintext-secret-stringdata" | "sops-partial" => &["BUL001", "BUL012"],
        "secret-in-configmap" | "last-applied" => &["BUL002"],
        "credential-in-configmap" | "credential-in-manifest" | "credential-in-settings" | "credentials-file" => NAMED,
        "terraform-literal" => &["BUL003", "BUL004", "BUL014", "BUL015", "BUL016", "BUL017", "BUL001"],
        "vendor-token" => &["BUL018"],
        "sealed-template" => &["BUL015"],
        "helm-values" | "command-line-literal" => NAMED,
        // In an env file the same is BUL006.
        "env-literal" => &["BUL003", "BUL004", "BUL006", "BUL014", "BUL015", "BUL016", "BUL017"],
        "kustomize-literal" => &["BUL005"],
        "kustomize-env-file" => &["BUL006"],
        "kustomize-file" => &["BUL006", "BUL007"],
        "private-key" => &["BUL007"],
        "kubeconfig" => &["BUL008"],
        "docker-config" => &["BUL009"],
        "service-account-token" => &["BUL010"],
        "age-identity" | "sealing-key" => &["BUL011"],
        "unreadable" => &["BUL013", "BUL102"],
        "sealed-moved" => &["BUL101"],
        "sealed-envelopes" => &["BUL103"],
        "sealed-structure" => &["BUL102"],
        "sealed-and-plain" => &["BUL109"],
        // What no rule is for counts as missed.
        _ => &[],
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/check")
}

#[derive(Default)]
struct Count {
    labels: usize,
    found: usize,
    false_: usize,
}

type Findings = BTreeMap<String, Vec<(u64, String)>>;

/// What the program finds in each unit, by file.
fn bulla(units: &BTreeSet<String>) -> Findings {
    let mut all = Findings::new();
    for unit in units {
        let path = corpus().join(unit);
        let (dir, argument, prefix) = if path.is_dir() {
            (path.clone(), ".".to_owned(), format!("{unit}/"))
        } else {
            let (folder, name) = unit.rsplit_once('/').expect("a folder");
            (corpus().join(folder), name.to_owned(), format!("{folder}/"))
        };
        let mut command = std::process::Command::new(program());
        command.args(["check", "-o", "json", &argument]).current_dir(dir).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let run = finish(command, b"");
        let value: Value = serde_json::from_slice(&run.out).unwrap_or_else(|_| panic!("{unit}: {}", run.err));
        for finding in value["findings"].as_array().expect("findings") {
            let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            let line = finding["line"].as_u64().unwrap_or(1);
            all.entry(format!("{prefix}{}", text("file"))).or_default().push((line, text("rule")));
        }
    }
    all
}

/// Counts as the corpus's README says. `any`: every rule says everything (another program's have other names).
fn count(labels: &[Value], findings: &Findings, any: bool) -> BTreeMap<String, Count> {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let text = |label: &Value, key: &str| label[key].as_str().unwrap_or_default().to_owned();
    let none = Vec::new();
    for label in labels.iter().filter(|label| label["expect"] == "finding") {
        let class = text(label, "class");
        let mut accepted: Vec<&str> = rules(&class).to_vec();
        for other in label["or"].as_array().into_iter().flatten() {
            other.as_str().unwrap_or_default().split(',').for_each(|class| accepted.extend(rules(class)));
        }
        let (from, to) = (label["within"][0].as_u64(), label["within"][1].as_u64());
        let there = findings.get(&text(label, "path")).unwrap_or(&none);
        let hit = there.iter().any(|(line, rule)| {
            from.is_some_and(|from| from <= *line)
                && to.is_some_and(|to| *line <= to)
                && (any || accepted.contains(&rule.as_str()))
        });
        let count = counts.entry(class).or_default();
        count.labels += 1;
        count.found += usize::from(hit);
    }
    for (path, there) in findings {
        let of_file: Vec<&Value> = labels.iter().filter(|label| text(label, "path") == *path).collect();
        for (line, rule) in there {
            let quiet = of_file.iter().any(|l| l["expect"] == "quiet" && l["line"].as_u64() == Some(*line));
            let within = of_file.iter().any(|l| {
                l["expect"] == "finding"
                    && l["within"][0].as_u64().is_some_and(|from| from <= *line)
                    && l["within"][1].as_u64().is_some_and(|to| *line <= to)
            });
            // There a finding counts neither way.
            let either = of_file.iter().any(|l| l["expect"] == "either" && l["line"].as_u64() == Some(*line));
            if quiet || !(within || either) {
                counts.entry(format!("({rule})")).or_default().false_ += 1;
            }
        }
    }
    counts
}

fn rates(counts: &BTreeMap<String, Count>) -> (f64, f64) {
    let sum = |of: fn(&Count) -> usize| counts.values().map(of).sum::<usize>() as f64;
    let (labels, found, wrong) = (sum(|c| c.labels), sum(|c| c.found), sum(|c| c.false_));
    (found / labels, found / (found + wrong))
}

/// Prints past the capture of the test's output, so that the table stands in every log.
fn table(title: &str, counts: &BTreeMap<String, Count>) -> (f64, f64) {
    let mut text = format!("\n{title}\n{:<30} {:>7} {:>7} {:>7}\n", "class", "labels", "found", "false");
    for (class, count) in counts {
        text += &format!("{class:<30} {:>7} {:>7} {:>7}\n", count.labels, count.found, count.false_);
    }
    let (recall, precision) = rates(counts);
    text += &format!("recall {recall:.4}, precision {precision:.4}\n");
    std::io::stderr().write_all(text.as_bytes()).expect("prints");
    (recall, precision)
}

/// Findings of gitleaks, where it is on PATH.
fn gitleaks(half: &str) -> Option<Findings> {
    let report = tempfile::NamedTempFile::new().expect("a file");
    let status = std::process::Command::new("gitleaks")
        .args(["dir", "--no-banner", "--exit-code", "0", "--report-format", "json", "--report-path"])
        .arg(report.path())
        .arg(corpus().join(half))
        .output()
        .ok()?;
    assert!(status.status.success(), "gitleaks failed");
    let value: Value = serde_json::from_slice(&std::fs::read(report.path()).expect("reads")).expect("JSON");
    let mut all = Findings::new();
    for finding in value.as_array().into_iter().flatten() {
        let file = Path::new(finding["File"].as_str().unwrap_or_default());
        let Ok(path) = file.strip_prefix(corpus()) else { continue };
        let line = finding["StartLine"].as_u64().unwrap_or(1);
        all.entry(path.display().to_string()).or_default().push((line, "gitleaks".into()));
    }
    Some(all)
}

/// A part, and what is demanded of it.
fn half(name: &str, goals: (f64, f64)) {
    let text = std::fs::read_to_string(corpus().join(format!("{name}.labels.jsonl"))).expect("labels");
    let labels: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let units = labels
        .iter()
        .filter_map(|label| Some(label["path"].as_str()?.split('/').take(3).collect::<Vec<_>>().join("/")))
        .collect();
    let (recall, precision) = table(&format!("bulla check, {name}"), &count(&labels, &bulla(&units), false));
    if let Some(findings) = gitleaks(name) {
        table(&format!("gitleaks, {name}"), &count(&labels, &findings, true));
    }
    assert!(recall >= goals.0 && precision >= goals.1, "recall {recall:.4}, precision {precision:.4}");
}

#[test]
fn corpus_open() {
    for name in ["open", "open-2", "open-3", "open-4", "open-5"] {
        half(name, GOALS);
    }
}

#[test]
fn corpus_held_out() {
    for name in ["held-out", "held-out-2"] {
        half(name, GOALS);
    }
}
