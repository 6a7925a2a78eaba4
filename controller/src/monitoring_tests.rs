//! What is shipped for Argo CD, Flux, Prometheus and Grafana, against what the controller really says: their own code judges it
//! (`tests/linters`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bulla::resource::{Condition, SealedSecretStatus};
use k8s_openapi::jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};

use super::*;
use crate::status::{Standing, Verdict, make_condition, mark_compromised, next};

/// The program of `tests/linters`, which `cargo xtask test` builds. Without it what needs it is skipped, in CI it fails.
#[allow(clippy::print_stderr)]
fn linters() -> Option<PathBuf> {
    let found = std::env::var_os("BULLA_LINTERS").map(PathBuf::from);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "BULLA_LINTERS does not name the program of tests/linters");
        eprintln!("skipped: BULLA_LINTERS does not name the program of tests/linters (cargo xtask test builds it)");
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(linters: &Path, args: &[&str], input: &str) -> String {
    let mut command = Command::new(linters);
    command.args(args).current_dir(root()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || _ = stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("ends");
    feeder.join().expect("feeds");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

// --- health

/// Every verdict that there is a standing for, by the reasons that the code has.
fn verdicts() -> Vec<Verdict> {
    let mut all = vec![Verdict::ready(), Verdict::suspended()];
    all.push(Verdict { standing: Standing::Ready, reason: "Drifted", message: "somebody changed it".to_owned() });
    for (standing, reason) in reasons() {
        all.push(match standing {
            Standing::Stalled => Verdict::stalled(reason, "x"),
            _ => Verdict::reconciling(reason, "x"),
        });
    }
    all
}

/// The reasons in the source.
fn reasons() -> Vec<(Standing, &'static str)> {
    let source = include_str!("reconcile.rs");
    let mut found = BTreeSet::new();
    for (call, stalled) in [("Verdict::reconciling(", false), ("Verdict::stalled(", true)] {
        for (at, _) in source.match_indices(call) {
            let argument = source[at + call.len()..].trim_start();
            if let Some((word, _)) = argument.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                found.insert((stalled, word));
            }
        }
    }
    assert!(found.len() >= 15, "{found:?}");
    let standing = |stalled| if stalled { Standing::Stalled } else { Standing::Reconciling };
    found.into_iter().map(|(stalled, word)| (standing(stalled), word)).collect()
}

fn object(generation: i64, status: Option<&SealedSecretStatus>, suspend: bool, deleted: bool) -> Value {
    let mut object = json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
        "metadata": {"name": "db", "namespace": "shop", "generation": generation},
        // What the API server makes of one without a status.
        "spec": {}, "status": {"observedGeneration": -1},
    });
    if suspend {
        object["spec"]["suspend"] = true.into();
    }
    if deleted {
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    if let Some(status) = status {
        object["status"] = serde_json::to_value(status).expect("JSON");
    }
    object
}

/// What Argo CD and kstatus are to say.
fn expected(standing: Option<Standing>, ready_before: bool) -> (&'static str, &'static str) {
    match standing {
        None => ("Progressing", "InProgress"),
        Some(Standing::Ready) => ("Healthy", "Current"),
        Some(Standing::Reconciling) => ("Progressing", "InProgress"),
        Some(Standing::Stalled) => ("Degraded", "Failed"),
        // Ready is as it was, and kstatus knows nothing of suspending.
        Some(Standing::Suspended) => ("Suspended", if ready_before { "Current" } else { "InProgress" }),
    }
}

#[test]
fn argo_cd_and_kstatus_agree_with_every_state_and_transition() {
    let at = |second: i64| Timestamp::from_second(second).unwrap_or_default();
    let verdicts = verdicts();
    let mut cases: Vec<(String, Value, (&str, &str))> = Vec::new();
    let mut add =
        |what: String, object: Value, wanted: (&'static str, &'static str)| cases.push((what, object, wanted));
    add("not looked at".into(), object(1, None, false, false), expected(None, false));
    for first in &verdicts {
        for second in &verdicts {
            for exposed in [false, true] {
                let mut status = next(None, Some(1), first, None, None, at(1));
                mark_compromised(&mut status, None, exposed, Some(1), at(1));
                let what = format!("{}, then {}", first.reason, second.reason);
                let ready = |status: &SealedSecretStatus| status.conditions[0].status == "True";
                let suspended = |verdict: &Verdict| verdict.standing == Standing::Suspended;
                if std::ptr::eq(first, second) {
                    add(
                        first.reason.into(),
                        object(1, Some(&status), suspended(first), false),
                        expected(Some(first.standing), ready(&status)),
                    );
                }
                // Changed, and not looked at yet.
                add(
                    format!("{what}, to be"),
                    object(2, Some(&status), suspended(second), false),
                    expected(None, false),
                );
                let mut after = next(Some(&status), Some(2), second, None, None, at(2));
                mark_compromised(&mut after, Some(&status), exposed, Some(2), at(2));
                add(
                    what.clone(),
                    object(2, Some(&after), suspended(second), false),
                    expected(Some(second.standing), ready(&after)),
                );
                // The same generation again, as when a key comes or the Secret is changed.
                if !suspended(first) && !suspended(second) {
                    let again = next(Some(&after), Some(2), first, None, None, at(3));
                    add(
                        format!("{what}, and back"),
                        object(2, Some(&again), false, false),
                        expected(Some(first.standing), ready(&again)),
                    );
                }
            }
        }
        let status = next(None, Some(1), first, None, None, at(1));
        let argo = expected(Some(first.standing), false).0;
        add(
            format!("{}, deleted", first.reason),
            object(1, Some(&status), first.standing == Standing::Suspended, true),
            (argo, "Terminating"),
        );
    }
    assert!(cases.len() > 1500, "{}", cases.len());
    let Some(linters) = linters() else { return };
    let input: String = cases.iter().map(|(_, object, _)| format!("{object}\n")).collect();
    let output = run(&linters, &["health", "deploy/argocd/argocd-cm.yaml"], &input);
    let mut count = 0;
    for (line, (what, object, (argo, kstatus))) in output.lines().zip(&cases) {
        let told: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&told["argo"], &told["kstatus"]), (&json!(argo), &json!(kstatus)), "{what}: {object}");
        assert!(told["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}");
        count += 1;
    }
    assert_eq!(count, cases.len());
}

#[test]
fn argo_cd_tells_the_health_of_keys() {
    let Some(linters) = linters() else { return };
    let now = Timestamp::from_second(1).unwrap_or_default();
    let key = |observed: i64, conditions: Vec<Condition>| {
        json!({
            "apiVersion": "bulla.dev/v1alpha1", "kind": "SealingKey",
            "metadata": {"name": "k", "namespace": "bulla-system", "generation": 1},
            "status": {"observedGeneration": observed, "conditions": conditions},
        })
    };
    let ready = |status: &str, reason: &str| make_condition(&[], "Ready", status, reason, "x", Some(1), now);
    let cases = [
        (
            json!({"apiVersion": "bulla.dev/v1alpha1", "kind": "SealingKey", "metadata": {"name": "k", "generation": 1}}),
            "Progressing",
        ),
        (key(0, vec![ready("True", "Loaded")]), "Progressing"),
        (key(1, Vec::new()), "Progressing"),
        (key(1, vec![ready("True", "Loaded")]), "Healthy"),
        (key(1, vec![ready("True", "Ripening")]), "Healthy"),
        (key(1, vec![ready("False", "Generating")]), "Progressing"),
        (key(1, vec![ready("False", "Retired")]), "Suspended"),
        (key(1, vec![ready("False", "Malformed")]), "Degraded"),
        (key(1, vec![ready("False", "KeyMissing")]), "Degraded"),
        (key(1, vec![ready("False", "TooMany")]), "Degraded"),
    ];
    let input: String = cases.iter().map(|(object, _)| format!("{object}\n")).collect();
    let output = run(&linters, &["health", "deploy/argocd/argocd-cm.yaml"], &input);
    let told: Vec<Value> =
        output.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["argo"].clone()).collect();
    assert_eq!(told, cases.iter().map(|(_, health)| json!(health)).collect::<Vec<_>>());
}

// --- metrics

/// All metrics with the labels that they have, as Prometheus reads them.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::default();
    let reason = || Reason { reason: "Applied".to_owned() };
    let key = || KeyName { key: "k".to_owned() };
    metrics.objects.get_or_create(&reason()).set(1);
    metrics.reconciliations.get_or_create(&reason()).inc();
    metrics.key_state.get_or_create(&KeyInState { key: "k".to_owned(), state: "Active" }).set(1);
    for family in [&metrics.key_published, &metrics.key_preferred, &metrics.key_in_use, &metrics.key_needed_by] {
        family.get_or_create(&key()).set(1);
    }
    metrics.used("k", "open");
    metrics.http.get_or_create(&Served { path: "other", code: 200 }).inc();
    metrics.looks.get_or_create(&reason()).observe(1.0);
    metrics.api.get_or_create(&Requested { verb: "get", resource: "secrets", outcome: "done" }).observe(1.0);
    metrics.waited.get_or_create(&Turn { priority: "high" }).observe(1.0);
    let counters: [&Counter; 4] =
        [&metrics.opened, &metrics.secret_writes, &metrics.status_writes, &metrics.drift_repairs];
    for counter in counters {
        counter.inc();
    }
    let mut registry = metrics.registry();
    crate::bitnami::metrics::Metrics::new(true).register(&mut registry);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text(&registry).lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value"));
        let labels = found.entry(name.to_owned()).or_default();
        let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        labels.extend(inside.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.to_owned()));
    }
    found
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let exported = exported();
    assert!(exported.len() >= 25, "{:?}", exported.keys());
    let Some(linters) = linters() else { return };
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for args in [["rules", "deploy/monitoring/prometheusrule.yaml"], ["dashboard", "deploy/monitoring/dashboard.json"]]
    {
        let metrics: BTreeMap<String, Vec<String>> = serde_json::from_str(&run(&linters, &args, "")).expect("JSON");
        assert!(metrics.len() >= 7, "{metrics:?}");
        for (name, labels) in metrics {
            let has = exported.get(&name).unwrap_or_else(|| panic!("{}: there is no metric {name}", args[1]));
            for label in &labels {
                assert!(has.contains(label), "{}: {name} has no label {label}, but {has:?}", args[1]);
            }
            asked.insert(name);
        }
    }
    // Nothing is exported that no panel shows.
    let shown = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        asked.iter().any(|asked| asked.starts_with(base))
    };
    // Those of the established controller have dashboards of their own.
    for name in exported.keys().filter(|name| name.starts_with("bulla_")) {
        assert!(shown(name), "the dashboard does not show {name}");
    }
}

// --- pages

/// The anchors that GitHub makes of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        page.lines().filter_map(|line| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).expect(name)
}

#[test]
fn every_reason_has_its_trouble_and_every_alert_its_page() {
    let trouble = page("troubleshooting.md");
    let controller = page("controller.md");
    for (_, reason) in reasons() {
        assert!(
            trouble.lines().any(|line| line.starts_with("### ") && line.contains(&format!("`{reason}`"))),
            "{reason}"
        );
        assert!(controller.contains(&format!("`{reason}`")), "{reason} is not in docs/controller.md");
    }
    // Those that the code makes of more than one word are in the table.
    let rows = controller.lines().filter(|line| {
        line.starts_with("| `") && ["Ready", "Reconciling", "Stalled"].iter().any(|c| line.contains(&format!("| {c}")))
    });
    for row in rows {
        for reason in row
            .split('|')
            .nth(1)
            .into_iter()
            .flat_map(|cell| cell.split('`'))
            .filter(|word| word.starts_with(char::is_uppercase))
        {
            let known = reason == "Applied"
                || trouble.lines().any(|line| line.starts_with("### ") && line.contains(&format!("`{reason}`")));
            assert!(known, "{reason} of docs/controller.md is not in docs/troubleshooting.md");
        }
    }
    let rules = std::fs::read_to_string(root().join("deploy/monitoring/prometheusrule.yaml")).expect("the rules");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 8, "{alerts:?}");
    let monitoring = page("monitoring.md");
    for alert in alerts {
        assert!(monitoring.contains(&format!("### {alert}\n")), "{alert} is not in docs/monitoring.md");
    }
    for link in rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")) {
        let (_, link) = link.split_once("/docs/").expect("a page");
        let (name, anchor) = link.split_once('#').unwrap_or((link, ""));
        assert!(anchor.is_empty() || anchors(&page(name)).contains(anchor), "{link}");
    }
}
