//! Reports of `bulla check` for other programs: that they are what those demand, wherever the program runs, and that neither
//! they nor anything else says a value.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde_json::Value;

use crate::sandbox::{DB, Run, Sandbox, finish, linters};

fn repository() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q", "-b", "main"]);
    sandbox
}

/// Runs `bulla` in a folder below.
fn run_in(sandbox: &Sandbox, folder: &str, args: &[&str]) -> Run {
    let mut command = sandbox.bulla(args);
    command.current_dir(sandbox.path(folder));
    finish(command, b"")
}

fn sarif(sandbox: &Sandbox, name: &str) -> Value {
    serde_json::from_str(&sandbox.read(name)).expect("JSON")
}

fn uris(report: &Value) -> Vec<String> {
    let results = report["runs"][0]["results"].as_array().expect("results").iter();
    results
        .map(|result| {
            let artifact = &result["locations"][0]["physicalLocation"]["artifactLocation"];
            assert_eq!(artifact["uriBaseId"], "%SRCROOT%", "{artifact}");
            artifact["uri"].as_str().expect("a URI").to_owned()
        })
        .collect()
}

#[test]
fn sarif_is_valid_by_the_published_schema() {
    let sandbox = repository();
    std::fs::create_dir_all(sandbox.path("a b/ü")).expect("makes");
    for name in ["a b/ü/db.yaml", "c;d|e%20[x](y)\\z.yaml", "#frag?query.yaml", "new\nline.yaml", "plain.yaml"] {
        sandbox.write(name, DB);
    }
    sandbox.write("broken.yaml", "apiVersion: v1\nkind: Secret\n  metadata: {}\n");
    std::fs::create_dir(sandbox.path("empty")).expect("makes");
    sandbox.run(&["check", "empty", "--report", "sarif=none.sarif"]).well();
    sandbox.write(".bulla.yaml", "version: 2\n");
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "1"]);
    for (args, report) in [(["check"].as_slice(), "tree.sarif"), (&["check", "--history"], "history.sarif")] {
        let run = sandbox.run(&[args, &["--report", &format!("sarif={report}"), "--exit-zero"]].concat());
        assert_eq!(run.code, 0, "{}", run.err);
    }
    let tree = sarif(&sandbox, "tree.sarif");
    assert_eq!(uris(&tree).len(), 7, "{:?}", uris(&tree));
    assert_eq!(tree["runs"][0]["automationDetails"]["id"], "bulla-check/tree/");
    assert_eq!(sarif(&sandbox, "none.sarif")["runs"][0]["results"], serde_json::json!([]));
    assert_eq!(uris(&sarif(&sandbox, "history.sarif")).len(), 5);
    // What GitHub demands besides: help for each rule; places in the repository; nothing of a file.
    for rule in tree["runs"][0]["tool"]["driver"]["rules"].as_array().expect("rules") {
        for field in ["/help/text", "/help/markdown", "/shortDescription/text", "/fullDescription/text", "/helpUri"] {
            assert!(
                rule.pointer(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty()),
                "{field}: {rule}"
            );
        }
        let severity = rule["properties"]["security-severity"].as_str().and_then(|text| text.parse::<f64>().ok());
        assert!(severity.is_some_and(|severity| severity > 0.0 && severity <= 10.0), "{rule}");
    }
    let text = sandbox.read("tree.sarif");
    for word in ["\"snippet\"", "\"contextRegion\"", "\"contents\"", "\"artifacts\""] {
        assert!(!text.contains(word), "{word}");
    }
    let Some(linters) = linters() else { return };
    let reports = ["tree.sarif", "none.sarif", "history.sarif"].map(|name| sandbox.path(name));
    let output = Command::new(&linters).arg("sarif").args(&reports).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The validator finds what is wrong.
    let mut wrong = tree;
    wrong["runs"][0]["results"][0]["level"] = "fatal".into();
    sandbox.write("wrong.sarif", wrong.to_string());
    let output = Command::new(&linters).arg("sarif").arg(sandbox.path("wrong.sarif")).output().expect("runs");
    assert!(!output.status.success());
}

#[test]
fn reports_and_baselines_call_files_the_same_wherever_the_program_runs() {
    let sandbox = repository();
    std::fs::create_dir_all(sandbox.path("apps/shop")).expect("makes");
    sandbox.write("apps/shop/db.yaml", DB);
    let reports = ["sarif=r.sarif", "junit=r.xml", "github=r.txt", "json=r.json"];
    let args: Vec<&str> = ["check"].into_iter().chain(reports.iter().flat_map(|report| ["--report", report])).collect();
    assert_eq!(sandbox.run(&args).code, 10);
    let run = run_in(&sandbox, "apps/shop", &args);
    assert!(run.text().contains("--> db.yaml:7:3"), "{}", run.text());
    let absolute = sandbox.path("apps").display().to_string();
    assert_eq!(run_in(&sandbox, "apps", &[args.as_slice(), &[absolute.as_str()]].concat()).code, 10);
    for folder in ["", "apps/shop/", "apps/"] {
        let name = |end: &str| format!("{folder}r.{end}");
        assert_eq!(uris(&sarif(&sandbox, &name("sarif"))), ["apps/shop/db.yaml"], "{folder}");
        assert!(sandbox.read(&name("xml")).contains("file=\"apps/shop/db.yaml\""), "{folder}");
        assert!(sandbox.read(&name("txt")).starts_with("::error file=apps/shop/db.yaml,line=7,col=3,"), "{folder}");
        assert_eq!(sarif(&sandbox, &name("json"))["findings"][0]["path"], "apps/shop/db.yaml", "{folder}");
    }
    // A report that lies in the repository is nothing to find.
    let again = sandbox.run(&["check", "-o", "json"]);
    let again: Value = serde_json::from_slice(&again.out).expect("JSON");
    assert_eq!(again["findings"].as_array().expect("findings").len(), 1, "{again}");
    // What one of them knows, all of them know.
    sandbox.run(&["check", "--baseline-write", "base.json"]).well();
    run_in(&sandbox, "apps/shop", &["check", "--baseline", "../../base.json"]).well();
    sandbox.git(&["add", "-A"]);
    run_in(&sandbox, "apps", &["check", "--staged", "--baseline", "../base.json"]).well();
}

#[test]
fn a_remedy_can_be_pasted_whatever_a_file_is_called() {
    let sandbox = repository();
    sandbox.write("x; touch broken; '.yaml", DB);
    sandbox.run(&["keygen", "-w", "key.txt", "--recipient", "key.pub"]).well();
    std::fs::remove_file(sandbox.path("key.txt")).expect("removes");
    let text = sandbox.run(&["check"]).text();
    let help = text.lines().find_map(|line| line.strip_prefix("help: ")).expect("a help");
    let remedy = help.split("     ").next().expect("a command");
    let mut command = sandbox.command("sh");
    let folder = crate::sandbox::program().parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").expect("a path");
    command.env("PATH", format!("{folder}:{path}")).args(["-ec", &format!("{remedy} -R key.pub")]);
    let run = finish(command, b"");
    assert_eq!(run.code, 0, "{remedy}: {}", run.err);
    assert!(!sandbox.path("broken").exists());
    sandbox.run(&["check"]).well();
}

/// A value that is nowhere else, in all forms in which it could be told.
fn forms(canary: &str) -> Vec<String> {
    let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        canary.to_owned(),
        hex.clone(),
        hex.to_uppercase(),
        canary.chars().rev().collect(),
        canary.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        canary.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
    ];
    // Base64 of it with anything before it: three alignments, without the ends that neighbours touch.
    for pad in 0..3 {
        for engine in [&BASE64_STANDARD, &BASE64_URL_SAFE] {
            let text = engine.encode(format!("{}{canary}", "x".repeat(pad)));
            let text = text.trim_end_matches('=');
            forms.push(text[4..text.len() - 2].to_owned());
        }
    }
    forms
}

#[test]
fn nothing_ever_says_a_value() {
    let sandbox = repository();
    sandbox.run(&["keygen", "-w", "key.txt", "--recipient", "key.pub"]).well();
    // Long enough that its base64 has a middle in each alignment.
    let mut canaries: Vec<String> = Vec::new();
    let mut canary = || {
        let made = format!("Qz7{:03}kVw9xYpL", canaries.len());
        canaries.push(made.clone());
        made
    };
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let files: Vec<(String, String)> = vec![
        ("secret.yaml".into(), DB.replace("hunter2", &canary()).replace("admin", &canary())),
        (
            "data.yaml".into(),
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\ndata: {{p: {}}}\n", base64(&canary())),
        ),
        (
            "block.yaml".into(),
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata:\n  name: b\nstringData:\n  f: |\n    {}\n    {}\n",
                canary(),
                canary()
            ),
        ),
        (
            "broken.yaml".into(),
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: c}}\nstringData:\n  p: \"{}\n  q: [{}\n",
                canary(),
                canary()
            ),
        ),
        (
            "twice.yaml".into(),
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: c}}\nstringData:\n  p: {}\n  p: {}\n",
                canary(),
                canary()
            ),
        ),
        ("values.yaml".into(), format!("db:\n  password: {}\n  url: postgres://u:{}@db/x\n", canary(), canary())),
        (
            "kustomization.yaml".into(),
            format!("secretGenerator:\n  - name: a\n    literals: [password={}]\n    envs: [s.env]\n", canary()),
        ),
        ("s.env".into(), format!("A={}\nexport B='{}'\n", canary(), canary())),
        (".env".into(), format!("API_TOKEN={}\n", canary())),
        (
            "pod.yaml".into(),
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n    - env: [{{name: DB_PASSWORD, value: {}}}]\n",
                canary()
            ),
        ),
        (
            "config.yaml".into(),
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  DB_PASSWORD: {}\n  app.properties: |\n    db.password={}\n",
                canary(),
                canary()
            ),
        ),
        (
            "applied.yaml".into(),
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: d\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{{\"name\":\"a\"}},\"stringData\":{{\"p\":\"{}\"}}}}\n",
                canary()
            ),
        ),
        ("robot.kubeconfig".into(), format!("kind: Config\nusers:\n  - name: a\n    user: {{token: {}}}\n", canary())),
        (
            "config.json".into(),
            format!("{{\"auths\": {{\"r.example\": {{\"auth\": \"{}\"}}}}}}", base64(&format!("u:{}", canary()))),
        ),
        (
            "chart.yaml".into(),
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{{{ .Release.Name }}}}\nstringData:\n  password: {}\n",
                canary()
            ),
        ),
        (
            "sealed.yaml".into(),
            format!(
                "apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata: {{name: s, namespace: shop}}\nspec:\n  items:\n    p: {{sealed: {}}}\n  envelopes: {{prod: {}}}\n",
                canary(),
                canary()
            ),
        ),
        (
            "bitnami.yaml".into(),
            format!(
                "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: t, namespace: shop}}\nspec:\n  encryptedData: {{p: {}}}\n",
                canary()
            ),
        ),
        (
            "README.md".into(),
            format!(
                "```yaml\napiVersion: v1\nkind: Secret\nmetadata: {{name: e}}\nstringData:\n  p: {}\n```\n",
                canary()
            ),
        ),
        (
            "deploy.sh".into(),
            format!(
                "kubectl apply -f - <<EOF\napiVersion: v1\nkind: Secret\nmetadata: {{name: f}}\nstringData: {{p: {}}}\nEOF\n",
                canary()
            ),
        ),
        (
            "repo.yaml".into(),
            format!(
                "kind: GitRepository\napiVersion: source.toolkit.fluxcd.io/v1\nmetadata: {{name: g}}\nspec:\n  url: https://bot:{}@git.example/a.git\n",
                canary()
            ),
        ),
        ("allow.yaml".into(), format!("db:\n  host: h\n  password: {} # bulla:allow BUL003\n", canary())),
        (
            ".bulla.yaml".into(),
            format!(
                "version: 1\nrecipients: {{prod: {{file: key.pub}}}}\nrules: [{{path: '**', recipients: [prod]}}]\npassword: {}\n",
                canary()
            ),
        ),
    ];
    for (name, text) in &files {
        sandbox.write(name, text);
    }
    std::fs::write(sandbox.path(".git/info/exclude"), "key.*\nr.*\nbase.json\nhome\n").expect("writes");
    let reports = ["sarif=r.sarif", "junit=r.xml", "github=r.txt", "json=r.json"];
    let report: Vec<&str> = reports.iter().flat_map(|report| ["--report", report]).collect();
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut look = |what: &str, run: &Run| {
        seen.push((format!("{what}: output"), run.text()));
        seen.push((format!("{what}: errors"), run.err.clone()));
        for name in ["r.sarif", "r.xml", "r.txt", "r.json", "base.json"] {
            if let Ok(text) = std::fs::read_to_string(sandbox.path(name)) {
                seen.push((format!("{what}: {name}"), text));
            }
        }
    };
    sandbox.git(&["add", "-A"]);
    for args in [
        ["check"].as_slice(),
        &["check", "-o", "json"],
        &["check", "--staged"],
        &["check", "--staged", "-o", "json"],
        &["check", "--baseline-write", "base.json"],
        &["check", "--baseline", "base.json"],
    ] {
        let run = sandbox.run(&[args, report.as_slice()].concat());
        assert!(matches!(run.code, 0 | 10), "{args:?}: {}", run.err);
        look(&format!("{args:?}"), &run);
    }
    sandbox.git(&["commit", "-qm", "all"]);
    let history = sandbox.run(&[["check", "--history", "-o", "json"].as_slice(), &report].concat());
    assert_eq!(history.code, 10);
    look("history", &history);
    for (name, text) in &files {
        look(&format!("standard input: {name}"), &sandbox.with_input(&["check", "-"], text));
    }
    // Before a policy that can't be read is out of the way, nothing is sealed.
    look("fix", &sandbox.run(&["check", "--fix", "-R", "key.pub"]));
    std::fs::remove_file(sandbox.path(".bulla.yaml")).expect("removes");
    look("fix", &sandbox.run(&[["check", "--fix", "-R", "key.pub"].as_slice(), &report].concat()));

    // That enough was found for this to mean something.
    let json: Value = serde_json::from_slice(&history.out).expect("JSON");
    let rules: std::collections::BTreeSet<&str> =
        json["findings"].as_array().expect("findings").iter().filter_map(|one| one["rule"].as_str()).collect();
    assert!(rules.len() >= 10, "{rules:?}");
    assert!(canaries.len() >= 28, "{}", canaries.len());
    for (what, text) in &seen {
        let lower = text.to_lowercase();
        for canary in &canaries {
            for form in forms(canary) {
                assert!(
                    !text.contains(&form) && !lower.contains(&form.to_lowercase()),
                    "{what} has {canary} as {form}"
                );
            }
        }
    }
    // Nothing was left behind either.
    let mut folders: Vec<PathBuf> = vec![sandbox.path("")];
    let known: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("lists") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                folders.extend((name != ".git").then_some(path));
            } else if !known.contains(&name.as_str()) {
                let text = String::from_utf8_lossy(&std::fs::read(&path).expect("reads")).into_owned();
                assert!(canaries.iter().all(|canary| !text.contains(canary.as_str())), "{}", path.display());
            }
        }
    }
}
