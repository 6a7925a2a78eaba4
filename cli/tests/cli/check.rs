//! `bulla check`: what it finds, what it lets pass, how it tells.

use serde_json::Value;

use crate::sandbox::{CONFIG, DB, Run, Sandbox};

fn json(run: &Run) -> Value {
    serde_json::from_slice(&run.out).expect("JSON")
}

/// Rule and line of each finding.
fn found(sandbox: &Sandbox, args: &[&str]) -> Vec<(String, String, u64)> {
    let run = sandbox.run(&[&["check", "-o", "json"], args].concat());
    let value = json(&run);
    let findings = value["findings"].as_array().expect("findings").iter();
    let found: Vec<_> = findings
        .map(|f| {
            let text = |key: &str| f[key].as_str().unwrap_or_default().to_owned();
            (text("rule"), text("file"), f["line"].as_u64().unwrap_or_default())
        })
        .collect();
    assert_eq!(run.code, if found.is_empty() { 0 } else { 10 }, "{}", run.err);
    found
}

fn one(rule: &str, file: &str, line: u64) -> Vec<(String, String, u64)> {
    vec![(rule.into(), file.into(), line)]
}

#[test]
fn a_plaintext_secret_is_told_with_its_line_and_without_its_value() {
    let sandbox = Sandbox::empty();
    sandbox.write("db.yaml", DB);
    sandbox.write("config.yaml", CONFIG);
    let run = sandbox.run(&["check"]);
    assert_eq!(
        run.text(),
        "error[BUL001]: plaintext Secret shop/db\n  --> db.yaml:7:3\n7 |   password: ········\n  |   ^^^^^^^^ 2 values: password, username\n\
         help: bulla seal --in-place db.yaml     and change the value: Git's history keeps it\n"
    );
    assert_eq!(run.err, "found 1 error in 1 file; checked 2 files\n");
    assert_eq!(run.code, 10);
    assert_eq!(sandbox.run(&["check", "--exit-zero"]).code, 0);
    let clean = sandbox.run(&["check", "config.yaml"]).well();
    assert_eq!((clean.text().as_str(), clean.err.as_str()), ("", "checked 1 file, no findings\n"));
}

#[test]
fn what_stands_for_a_value_passes() {
    let sandbox = Sandbox::new();
    std::fs::remove_file(sandbox.path("key.txt")).expect("removes");
    for (name, text) in [
        ("placeholder.yaml", DB.replace("hunter2", "changeme").replace("admin", "<user>")),
        ("reference.yaml", DB.replace("hunter2", "${DB_PASSWORD}").replace("admin", "ref+vault://db#/user")),
        ("sops.yaml", DB.replace("hunter2", "ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]").replace("admin", "\"\"")),
        ("external.yaml", "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: db}\nspec: {data: [{secretKey: password, remoteRef: {key: shop/db}}]}\n".into()),
        ("template.yaml", DB.replace("hunter2", "{{ .Values.password | quote }}").replace("admin", "{{ .Values.user }}")),
    ] {
        sandbox.write(name, text);
    }
    sandbox.write("plain.yaml", DB);
    sandbox.run(&["seal", "plain.yaml", "-R", "key.txt.pub", "-w", "db.sealed.yaml"]).well();
    std::fs::remove_file(sandbox.path("plain.yaml")).expect("removes");
    assert_eq!(found(&sandbox, &[]), []);
}

#[test]
fn secrets_are_found_wherever_they_hide() {
    let sandbox = Sandbox::empty();
    for (name, text, rule, line) in [
        (
            "list.json",
            "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"a\"},\n\"data\": {\"password\": \"aHVudGVyMg==\"}}]}",
            "BUL001",
            3,
        ),
        (
            "applied.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"a\"},\"stringData\":{\"p\":\"hunter2\"}}\n",
            "BUL002",
            7,
        ),
        ("values.yaml", "db:\n  password: hunter2x\n", "BUL003", 2),
        (
            "pod.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n    - env:\n        - name: DB_PASSWORD\n          value: hunter2x\n",
            "BUL004",
            8,
        ),
        (
            "kustomization.yaml",
            "secretGenerator:\n  - name: a\n    literals:\n      - password=hunter2x\n",
            "BUL005",
            4,
        ),
        (".env", "# x\nAPI_TOKEN=hunter2xyz\n", "BUL006", 2),
        (
            "main.py",
            "x = 1\nkey = '''-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEII5f3xFm2ye+jjh5JHpb4i+fohhdVn+LMPcOiKhrWgi3oAoGCCqGSM49\n-----END'''\n",
            "BUL007",
            2,
        ),
        ("robot.kubeconfig", "kind: Config\nusers:\n  - name: a\n    user:\n      token: hunter2x\n", "BUL008", 5),
        ("config.json", "{\"auths\": {\"r.example.com\":\n{\"auth\": \"cm9ib3Q6aHVudGVyMng=\"}}}", "BUL009", 2),
        (
            "chart.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}\nstringData:\n  {{- if .x }}\n  password: hunter2x\n  {{- end }}\n",
            "BUL012",
            7,
        ),
        ("broken.yaml", "apiVersion: v1\nkind: Secret\n  metadata: [\n", "BUL013", 3),
        (
            "map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  app.properties: |\n    a=b\n    db.password=hunter2x\n",
            "BUL014",
            7,
        ),
        (
            "source.yaml",
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: a}\nspec:\n  url: https://bot:hunter2x@git.test/a.git\n",
            "BUL015",
            5,
        ),
        (
            "README.md",
            "# x\n\n```yaml\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  password: hunter2x\n```\n",
            "BUL001",
            8,
        ),
    ] {
        sandbox.write(name, text);
        assert_eq!(found(&sandbox, &[name]), one(rule, name, line), "{name}");
        let text = sandbox.run(&["check", name]);
        assert!(text.text().contains(rule) && !text.text().contains("hunter2"), "{}", text.text());
    }
}

#[test]
fn an_identity_is_found_and_its_recipient_is_not() {
    let sandbox = Sandbox::new();
    assert_eq!(
        found(&sandbox, &[]).iter().map(|f| (f.0.as_str(), f.1.as_str())).collect::<Vec<_>>(),
        [("BUL011", "key.txt")]
    );
}

#[test]
fn renamed_moved_and_swapped_items_are_found_without_a_key() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-R", "key.txt.pub", "-w", "s.yaml"]).well();
    let sealed = sandbox.read("s.yaml");
    let line = |text: &str, what: &str| text.lines().position(|l| l.trim() == what).expect("there") as u64 + 1;
    for (what, text) in [
        ("renamed", sealed.replace("name: db", "name: other")),
        ("moved", sealed.replace("namespace: shop", "namespace: live")),
        (
            "swapped",
            sealed
                .replace("    password:", "    tmp:")
                .replace("    username:", "    password:")
                .replace("    tmp:", "    username:"),
        ),
    ] {
        sandbox.write("s.yaml", &text);
        let both: Vec<_> = found(&sandbox, &["s.yaml"]).into_iter().map(|f| (f.0, f.2)).collect();
        let mut lines = [line(&text, "password:"), line(&text, "username:")];
        lines.sort_unstable();
        assert_eq!(both, lines.map(|line| ("BUL101".to_owned(), line)), "{what}");
    }
    sandbox.write("s.yaml", sealed.replace("name: db", "name: other"));
    let text = sandbox.run(&["check", "s.yaml"]).text();
    assert!(text.contains("^^^^^^^^ not sealed for shop/other (scope strict)"), "{text}");
}

#[test]
fn the_hook_stops_a_commit_fix_lets_it_pass_and_history_remembers() {
    let sandbox = Sandbox::new();
    sandbox.git(&["init", "-q", "-b", "main"]);
    sandbox.write(".gitignore", "key.txt\nhome\nhook-path\n");
    sandbox.write("old.yaml", DB.replace("name: db", "name: old"));
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "before the hook"]);
    std::fs::remove_file(sandbox.path("old.yaml")).expect("removes");
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "removed"]);
    let set_up = sandbox.run(&["git", "setup", "--hook"]).well();
    assert!(set_up.err.contains("hooks/pre-commit runs bulla check --staged before each commit"), "{}", set_up.err);
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "what is clean passes the hook"]);

    sandbox.write("db.yaml", DB);
    sandbox.git(&["add", "-A"]);
    let commit = || {
        let mut command = sandbox.command("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.test", "commit", "-qm", "db"]);
        crate::sandbox::finish(command, b"")
    };
    // What is staged counts, not the working tree.
    sandbox.write("db.yaml", CONFIG);
    let stopped = commit();
    let said = format!("{}{}", stopped.text(), stopped.err);
    assert_ne!(stopped.code, 0);
    for part in ["error[BUL001]: plaintext Secret shop/db", "--> db.yaml:7:3", "help: bulla seal --in-place db.yaml"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");

    sandbox.write("db.yaml", DB);
    let fixed = sandbox.run(&["check", "--fix", "db.yaml", "-R", "key.txt.pub"]).well();
    assert!(fixed.err.contains("history keeps what was committed"), "{}", fixed.err);
    // Nothing is claimed of what could not be sealed.
    sandbox.write("more.yaml", DB.replace("name: db", "name: more"));
    let failed = sandbox.run(&["check", "--fix", "more.yaml"]);
    assert!(failed.code == 10 && failed.err.contains("no recipient for more.yaml"), "{}", failed.err);
    assert!(!failed.err.contains("history keeps"), "{}", failed.err);
    std::fs::remove_file(sandbox.path("more.yaml")).expect("removes");
    sandbox.git(&["add", "-A"]);
    let passed = commit();
    assert_eq!(passed.code, 0, "{}{}", passed.text(), passed.err);

    let past = found(&sandbox, &["--history"]);
    assert_eq!(past, one("BUL001", "old.yaml", 7));
    let text = sandbox.run(&["check", "--history"]);
    assert!(text.text().contains("in commit "), "{}", text.text());
    assert_eq!(found(&sandbox, &["--history", "HEAD~1..HEAD"]), []);
    // Somebody else's hook stays.
    sandbox.write(".git/hooks/pre-commit", "#!/bin/sh\n");
    let run = sandbox.run(&["git", "setup", "--hook"]);
    assert!(run.code == 1 && run.err.contains("is not overwritten"), "{}", run.err);
    assert_eq!(sandbox.read(".git/hooks/pre-commit"), "#!/bin/sh\n");
}

#[test]
fn history_of_a_bare_and_of_a_shallow_clone() {
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q", "-b", "main", "repo"]);
    sandbox.write("repo/db.yaml", DB);
    sandbox.git(&["-C", "repo", "add", "-A"]);
    sandbox.git(&["-C", "repo", "commit", "-qm", "1"]);
    sandbox.write("repo/db.yaml", CONFIG);
    sandbox.git(&["-C", "repo", "commit", "-qam", "2"]);
    sandbox.git(&["clone", "-q", "--bare", "repo", "bare"]);
    let origin = format!("file://{}", sandbox.path("repo").display());
    sandbox.git(&["clone", "-q", "--depth", "1", &origin, "shallow"]);
    let run = |dir: &str| {
        let mut command = sandbox.bulla(&["check", "--history"]);
        command.current_dir(sandbox.path(dir));
        crate::sandbox::finish(command, b"")
    };
    assert_eq!(run("bare").code, 10);
    let shallow = run("shallow");
    assert_eq!(shallow.code, 0, "{}", shallow.text());
    assert!(shallow.err.contains("shallow"), "{}", shallow.err);
}

#[test]
fn exceptions_need_a_reason_and_a_use() {
    let sandbox = Sandbox::empty();
    let line = "  password: hunter2";
    sandbox.write("db.yaml", DB.replace(line, &format!("{line} # bulla:allow BUL001 the demo's")));
    assert_eq!(found(&sandbox, &[]), []);
    sandbox.write("db.yaml", format!("# bulla:allow BUL001 the demo's\n{DB}"));
    assert_eq!(found(&sandbox, &[]), []);
    sandbox.write("db.yaml", DB.replace(line, &format!("{line} # bulla:allow BUL001")));
    assert_eq!(found(&sandbox, &[]).iter().map(|f| f.0.as_str()).collect::<Vec<_>>(), ["BUL001", "BUL203"]);
    sandbox.write("db.yaml", format!("{CONFIG}# bulla:allow BUL001 nothing here\n"));
    assert_eq!(found(&sandbox, &[]), one("BUL201", "db.yaml", 6));
    sandbox.write("db.yaml", format!("{CONFIG}# bulla:allow BUL999 nothing here\n"));
    assert_eq!(found(&sandbox, &[]), one("BUL203", "db.yaml", 6));
}

#[test]
fn a_baseline_excuses_what_was_there_and_nothing_new() {
    let sandbox = Sandbox::empty();
    sandbox.write("db.yaml", DB);
    let run = sandbox.run(&["check", "--baseline-write", "base.json"]).well();
    assert_eq!(
        run.err,
        "wrote 2 findings to base.json; to use it: --baseline base.json, or check.baseline in .bulla.yaml\n"
    );
    // The folder that the documentation names may not be there yet.
    sandbox.run(&["check", "--baseline-write", ".bulla/baseline.json"]).well();
    assert_eq!(sandbox.read(".bulla/baseline.json"), sandbox.read("base.json"));
    assert!(!sandbox.read("base.json").contains("hunter2"));
    assert_eq!(found(&sandbox, &["--baseline", "base.json"]), []);
    // Lines move.
    sandbox.write("db.yaml", format!("# a comment\n{DB}  token: abcdefg1\n"));
    let run = sandbox.run(&["check", "-o", "json", "--baseline", "base.json"]);
    assert_eq!(json(&run)["findings"][0]["keys"], serde_json::json!(["token"]));
    sandbox.write("db.yaml", CONFIG);
    assert_eq!(found(&sandbox, &["--baseline", "base.json"]), one("BUL204", "base.json", 0));
}

const POLICY: &str = "version: 1\nrecipients:\n  prod: {file: .bulla/key.pub}\n  recovery: {file: .bulla/recovery.pub, always: true}\nrules:\n  - path: \"*.yaml\"\n    recipients: [prod]\n    namespace: shop\npolicy: {maxKeyAge: 400d}\ncheck:\n  exclude: [vendor/**]\n  exceptions:\n    - {rule: BUL001, path: \"demo/**\", reason: a demo, expires: 2027-01-31}\n";

#[test]
fn the_policy_decides_recipients_namespace_age_and_exceptions() {
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q"]);
    sandbox.write(".gitignore", "*.txt\nhome\n");
    std::fs::create_dir(sandbox.path(".bulla")).expect("makes");
    for name in ["key", "recovery", "stranger"] {
        sandbox.run(&["keygen", "-w", &format!("{name}.txt"), "--recipient", &format!(".bulla/{name}.pub")]).well();
    }
    sandbox.write("in.yaml", DB);
    let seal = |extra: &[&str], to: &str| {
        sandbox.run(&[&["seal", "in.yaml", "-w", to], extra].concat()).well();
    };
    seal(&["-R", ".bulla/key.pub", "-R", ".bulla/recovery.pub"], "good.yaml");
    seal(&["-R", ".bulla/key.pub"], "lost.yaml");
    seal(&["-R", ".bulla/key.pub", "-R", ".bulla/recovery.pub", "-R", ".bulla/stranger.pub"], "more.yaml");
    seal(&["-R", ".bulla/key.pub", "-R", ".bulla/recovery.pub", "--scope", "cluster-wide"], "wide.yaml");
    // Of Bitnami's format the file tells scope and namespace, and no reader.
    let bitnami = |annotations: &str, namespace: &str| {
        format!(
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata:\n  name: b\n  namespace: {namespace}\n{annotations}spec:\n  encryptedData: {{}}\n"
        )
    };
    sandbox.write("established.yaml", bitnami("", "shop"));
    sandbox.write(
        "established-wide.yaml",
        bitnami("  annotations:\n    sealedsecrets.bitnami.com/namespace-wide: \"true\"\n", "shop"),
    );
    sandbox.write("established-moved.yaml", bitnami("", "elsewhere"));
    std::fs::remove_file(sandbox.path("in.yaml")).expect("removes");
    for folder in ["vendor", "demo", "apps"] {
        std::fs::create_dir(sandbox.path(folder)).expect("makes");
    }
    for (name, text) in [
        ("vendor/db.yaml", DB.to_owned()),
        ("demo/db.yaml", DB.replace("name: db", "name: demo")),
        (".bulla.yaml", POLICY.into()),
        ("apps/.bulla.yaml", POLICY.into()),
    ] {
        sandbox.write(name, text);
    }
    let rules =
        |args: &[&str]| -> Vec<(String, String)> { found(&sandbox, args).into_iter().map(|f| (f.0, f.1)).collect() };
    let expect = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    assert_eq!(
        rules(&["--today", "2026-12-01"]),
        expect(&[
            ("BUL110", "apps/.bulla.yaml"),
            ("BUL111", "established-moved.yaml"),
            ("BUL104", "established-wide.yaml"),
            ("BUL107", "lost.yaml"),
            ("BUL105", "more.yaml"),
            ("BUL104", "wide.yaml")
        ])
    );
    std::fs::remove_file(sandbox.path("apps/.bulla.yaml")).expect("removes");
    // Two years on: the exception is over, the pins are old.
    let later = rules(&["good.yaml", "demo", ".bulla.yaml", "--today", "2029-01-01"]);
    assert!(later.contains(&("BUL202".to_owned(), ".bulla.yaml".to_owned())), "{later:?}");
    assert!(later.contains(&("BUL106".to_owned(), ".bulla.yaml".to_owned())), "{later:?}");
    assert!(later.contains(&("BUL001".to_owned(), "demo/db.yaml".to_owned())), "{later:?}");
    sandbox.write(".bulla.yaml", "version: 1\nrecipient: {}\n");
    assert!(rules(&["good.yaml"]).contains(&("BUL110".to_owned(), ".bulla.yaml".to_owned())));
}

#[test]
fn reports_hold_places_and_no_values() {
    let sandbox = Sandbox::empty();
    let name = "a,b:50%<&>\"'.yaml";
    // Pages of rules, which a report holds, have values of their own.
    sandbox.write(name, DB.replace("hunter2", "kX9-planted-7"));
    let run = sandbox.run(&[
        "check",
        "--report",
        "sarif=r.sarif",
        "--report",
        "junit=r.xml",
        "--report",
        "github=r.txt",
        "--report",
        "json=r.json",
    ]);
    assert_eq!(run.code, 10);
    for report in ["r.sarif", "r.xml", "r.txt", "r.json"] {
        assert!(!sandbox.read(report).contains("kX9-planted-7"), "{report}");
    }
    let sarif: Value = serde_json::from_str(&sandbox.read("r.sarif")).expect("JSON");
    assert_eq!(sarif["version"], "2.1.0");
    let result = &sarif["runs"][0]["results"][0];
    let index = result["ruleIndex"].as_u64().expect("an index") as usize;
    assert_eq!(sarif["runs"][0]["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
    let location = &result["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "a%2Cb%3A50%25%3C%26%3E%22%27.yaml");
    assert_eq!(location["region"], serde_json::json!({"startLine": 7, "startColumn": 3}));
    assert!(sandbox.read("r.xml").contains("a,b:50%&lt;&amp;&gt;&quot;&apos;.yaml:7:3"));
    assert!(sandbox.read("r.txt").starts_with("::error file=a%2Cb%3A50%25<&>\"'.yaml,line=7,col=3,title=BUL001%3A plaintext-secret::plaintext Secret shop/db%0A"));
}

#[test]
fn standard_input_is_a_manifest() {
    let sandbox = Sandbox::empty();
    let run = sandbox.with_input(&["check", "-"], format!("{CONFIG}---\n{DB}"));
    assert_eq!(run.code, 10);
    assert!(run.text().contains("--> standard input:13:3"), "{}", run.text());
}

#[test]
fn hostile_trees_are_walked_to_their_end() {
    let sandbox = Sandbox::empty();
    sandbox.write("loop.yaml", "");
    std::fs::remove_file(sandbox.path("loop.yaml")).expect("removes");
    std::os::unix::fs::symlink(".", sandbox.path("loop")).expect("links");
    std::os::unix::fs::symlink("nowhere", sandbox.path("gone.yaml")).expect("links");
    let fifo = sandbox.path("pipe.yaml");
    assert!(std::process::Command::new("mkfifo").arg(fifo).status().expect("runs").success());
    _ = std::os::unix::net::UnixListener::bind(sandbox.path("socket.yaml")).expect("binds");
    sandbox.write("binary.yaml", [b"apiVersion: v1\nkind: Secret\0".as_slice(), &[0; 100]].concat());
    sandbox.write(
        "latin.yaml",
        b"apiVersion: v1\nkind: Secret\nmetadata: {name: \xe4}\nstringData: {password: x7}\n".as_slice(),
    );
    sandbox.write("deep.yaml", format!("apiVersion: v1\nkind: Secret\nx: {}\n", "[".repeat(100_000)));
    let bomb: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)).collect();
    sandbox.write("bomb.yaml", format!("apiVersion: v1\nkind: Secret\na0: &a0 password\n{bomb}"));
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(DB.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    sandbox.write("utf16.yaml", utf16);
    std::fs::create_dir_all(sandbox.path("sub/.git")).expect("makes");
    sandbox.write("sub/db.yaml", DB);
    let run = sandbox.run(&["check", "-o", "json"]);
    assert_eq!(run.code, 10, "{}", run.err);
    let value = json(&run);
    let pairs: Vec<_> = value["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|f| format!("{} {}", f["rule"].as_str().unwrap(), f["file"].as_str().unwrap()))
        .collect();
    assert_eq!(
        pairs,
        ["BUL013 bomb.yaml", "BUL013 deep.yaml", "BUL013 latin.yaml", "BUL001 latin.yaml", "BUL001 utf16.yaml"]
    );
    assert!(run.err.contains("repositories of their own: sub"), "{}", run.err);
}

#[test]
fn large_files_are_read_in_parts() {
    use std::io::Write as _;
    let sandbox = Sandbox::empty();
    let mut file = std::io::BufWriter::new(std::fs::File::create(sandbox.path("big.yaml")).expect("creates"));
    for _ in 0..400_000 {
        file.write_all(b"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n").expect("writes");
    }
    file.write_all(format!("---\n{DB}").as_bytes()).expect("writes");
    drop(file);
    assert_eq!(found(&sandbox, &["big.yaml"]), one("BUL001", "big.yaml", 400_000 * 4 + 8));
}

#[test]
fn rules_are_explained() {
    let sandbox = Sandbox::empty();
    assert!(
        sandbox
            .run(&["check", "--explain", "bul101"])
            .well()
            .text()
            .starts_with("# BUL101: sealed for another place\n")
    );
    assert!(sandbox.run(&["check", "--explain"]).well().text().contains("BUL012  error"));
    assert_eq!(sandbox.run(&["check", "--explain", "BUL999"]).code, 3);
}

/// Files that other programs read: at least what they demand of structure.
#[test]
fn integrations_are_well_formed() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect(name);
    let stream = |name: &str| bulla::manifest::Stream::read_any(&read(name)).expect(name);
    let hooks = stream(".pre-commit-hooks.yaml");
    let hooks = hooks.documents()[0].root.items().expect("hooks");
    assert_eq!(hooks.len(), 1);
    for hook in hooks {
        for field in ["id", "name", "entry", "language"] {
            assert!(hook.get(field).and_then(|node| node.scalar()).is_some(), "{field}");
        }
        assert_eq!(hook.get("require_serial").and_then(|node| node.scalar()), Some("true"));
    }
    let action = stream("action.yml");
    let runs = action.documents()[0].root.get("runs").expect("runs");
    assert_eq!(runs.get("using").and_then(|node| node.scalar()), Some("composite"));
    for step in runs.get("steps").and_then(|node| node.items()).expect("steps") {
        assert!(step.get("shell").is_some(), "a composite step needs a shell");
        // An input in a script would be a way to run commands.
        assert!(!step.get("run").and_then(|node| node.scalar()).expect("run").contains("${{"));
    }
    let workflow = stream("deploy/ci/github-workflow.yaml");
    let jobs = workflow.documents()[0].root.get("jobs").and_then(|jobs| jobs.entries()).expect("jobs");
    assert!(jobs.iter().all(|job| job.value.get("runs-on").is_some() && job.value.get("steps").is_some()));
    assert!(stream("deploy/ci/gitlab.yml").documents()[0].root.get("bulla-check").is_some());
    let policy = stream("deploy/admission/only-the-controller-writes-secrets.yaml");
    let kinds: Vec<_> =
        policy.documents().iter().map(|d| d.root.get("kind").and_then(|node| node.scalar()).expect("a kind")).collect();
    assert_eq!(kinds, ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]);
}
