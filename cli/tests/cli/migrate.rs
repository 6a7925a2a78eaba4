//! From Bitnami's format to the native one, offline.

use std::os::unix::fs::MetadataExt as _;

use crate::bitnami::{sandbox, sealed};
use crate::sandbox::{CONFIG, DB, Run, Sandbox};

const BESIDE: [&str; 6] = ["--beside", "-i", "old.key", "-R", "key.txt.pub", "s.yaml"];

fn migrate(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.run(&[&["migrate"][..], args].concat())
}

fn secret(sandbox: &Sandbox, file: &str, identity: &str) -> String {
    sandbox.run(&["unseal", file, "-i", identity]).well().text()
}

#[test]
fn a_twin_makes_the_same_secret_and_a_second_run_has_nothing_to_do() {
    let sandbox = sealed();
    let before = sandbox.bytes("s.yaml");
    let run = migrate(&sandbox, &BESIDE).well();
    assert!(
        run.err
            .starts_with("migrated 1 SealedSecret in 1 file for key; 0 had a twin; 0 files failed\nnote: apply both"),
        "{}",
        run.err
    );
    let twin = sandbox.read("s.bulla.yaml");
    assert!(twin.starts_with("apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata:\n  name: db\n  namespace: shop\nspec:\n  items:\n"), "{twin}");
    assert_eq!(secret(&sandbox, "s.bulla.yaml", "key.txt"), secret(&sandbox, "s.yaml", "old.key"));
    assert_eq!(sandbox.bytes("s.yaml"), before);
    let file = || std::fs::metadata(sandbox.path("s.bulla.yaml")).expect("is there");
    let was = (file().ino(), file().mtime(), file().mtime_nsec());
    let run = migrate(&sandbox, &BESIDE).well();
    assert!(run.err.starts_with("migrated 0 SealedSecrets in 0 files; 1 had a twin; 0 files failed\n"), "{}", run.err);
    assert_eq!(was, (file().ino(), file().mtime(), file().mtime_nsec()));
    // One that says something else is not overwritten.
    sandbox.with_input(&["set", "s.yaml", "token", "--cert", "old.pem"], "t").well();
    let run = migrate(&sandbox, &BESIDE);
    assert!(
        run.code == 1 && run.err.contains("shop/db is in s.bulla.yaml already, and says something else than here"),
        "{}",
        run.err
    );
    assert_eq!(sandbox.read("s.bulla.yaml"), twin);
}

#[test]
fn in_place_comments_and_other_documents_survive() {
    let sandbox = sealed();
    let before = sandbox.read("s.yaml");
    let args = ["s.yaml", "--replace", "--prunes-last", "-i", "old.key", "-R", "key.txt.pub"];
    let opened = secret(&sandbox, "s.yaml", "old.key");
    let run = migrate(&sandbox, &args).well();
    assert_eq!(run.err, "migrated 1 SealedSecret in 1 file for key; 0 had a twin; 0 files failed\n");
    let after = sandbox.read("s.yaml");
    assert!(after.starts_with(&format!("{CONFIG}---\n# database\napiVersion: bulla.dev/v1alpha1\n")), "{after}");
    assert!(after.contains("    # rotate in March\n    password:\n      sealed: >-\n"), "{after}");
    assert!(after.contains("# last\nspec:\n"), "{after}");
    assert_eq!(before.matches('#').count(), after.matches('#').count());
    assert_eq!(secret(&sandbox, "s.yaml", "key.txt"), opened);
    let run = migrate(&sandbox, &args).well();
    assert_eq!(run.err, "nothing to migrate: no SealedSecret of Bitnami's format in s.yaml\n");
    assert_eq!(sandbox.read("s.yaml"), after);
}

#[test]
fn scopes_metadata_and_types_are_translated() {
    let sandbox = sandbox();
    let plain = DB.replace(
        "  namespace: shop\n",
        "  namespace: shop\n  labels: {team: shop}\n  annotations:\n    note: kept\n    argocd.argoproj.io/sync-wave: '2'\n",
    );
    let plain = format!("{plain}type: kubernetes.io/basic-auth\nimmutable: true\n");
    for (scope, wanted) in
        [("strict", None), ("namespace-wide", Some("namespace-wide")), ("cluster-wide", Some("cluster-wide"))]
    {
        sandbox
            .with_input(&["seal", "-w", "s.yaml", "--cert", "old.pem", "--scope", scope, "--replace"], &plain)
            .well();
        _ = std::fs::remove_file(sandbox.path("s.bulla.yaml"));
        migrate(&sandbox, &BESIDE).well();
        let twin = sandbox.read("s.bulla.yaml");
        let line = twin.lines().find_map(|line| line.strip_prefix("  scope: "));
        assert_eq!(line, wanted, "{twin}");
        assert!(!twin.contains("bitnami"), "{twin}");
        assert!(twin.contains("  annotations:\n    argocd.argoproj.io/sync-wave: \"2\"\nspec:"), "{twin}");
        let opened = secret(&sandbox, "s.bulla.yaml", "key.txt");
        for text in ["note: kept", "team: shop", "type: kubernetes.io/basic-auth", "immutable: true"] {
            assert!(opened.contains(text), "{opened}");
        }
    }
}

#[test]
fn what_can_not_be_said_is_refused_with_its_place_and_may_be_left_out() {
    let sandbox = sealed();
    let good = sandbox.read("s.yaml");
    let template = |fields: &str| {
        let text = good.replace("    metadata:\n      name: db\n", &format!("{fields}    metadata:\n      name: db\n"));
        assert_ne!(text, good);
        sandbox.write("s.yaml", text);
    };
    let metadata = |fields: &str| {
        let text = good.replace("    metadata:\n      name: db\n", &format!("    metadata:\n      name: db\n{fields}"));
        assert_ne!(text, good);
        sandbox.write("s.yaml", text);
    };
    let refused = |wanted: &str| {
        let run = migrate(&sandbox, &BESIDE);
        assert!(run.code == 1 && run.err.contains(wanted), "{}", run.err);
        assert!(!sandbox.names().contains(&"s.bulla.yaml".to_owned()));
        run.err
    };
    let left = |field: &str| {
        let run = migrate(&sandbox, &[&BESIDE[..], &["--leave-out", field]].concat()).well();
        assert!(run.err.contains(&format!("note: left out: {field}\n")), "{}", run.err);
        std::fs::remove_file(sandbox.path("s.bulla.yaml")).expect("removes");
    };
    metadata("      finalizers: [x]\n");
    let err =
        refused("shop/db: spec.template.metadata.finalizers is no field that the native format has\n  --> s.yaml:");
    assert!(
        err.contains("help: take it out; or leave it behind: --leave-out spec.template.metadata.finalizers\n"),
        "{err}"
    );
    left("spec.template.metadata.finalizers");
    metadata("      annotations: {argocd.argoproj.io/tracking-id: x}\n");
    refused("is never put on a Secret by the native controller");
    left("spec.template.metadata.annotations.argocd.argoproj.io/tracking-id");
    metadata("      annotations: {sealedsecrets.bitnami.com/skip-set-owner-references: 'true'}\n");
    refused("a native SealedSecret always owns its Secret");
    left("spec.template.metadata.annotations.sealedsecrets.bitnami.com/skip-set-owner-references");
    metadata("      labels: {sealedsecrets.bitnami.com/sealed-secrets-key: active}\n");
    refused("marks a private key of a controller");
    template("    data: {password: x}\n");
    refused("shop/db: spec.template.data.password is both an item and a template");
    template("    data: {url: '{{ .password'}\n");
    refused("shop/db: spec.template.data.url is no template of the native format");
    template("    data: {url: 'x{{ .missing }}'}\n");
    refused("spec.template.data.url renders to something else in the native format");
    template("    other: 1\n");
    refused("spec.template.other is no field that the native format has");
    metadata(
        "      annotations: {sealedsecrets.bitnami.com/managed: 'true', sealedsecrets.bitnami.com/patch: 'true'}\n",
    );
    let run = migrate(&sandbox, &BESIDE).well();
    assert!(run.err.contains("bulla.dev/managed=true") && run.err.contains("bulla.dev/patch=true"), "{}", run.err);
}

#[test]
fn templates_that_say_the_same_come_along() {
    let sandbox = sealed();
    let text = sandbox.read("s.yaml").replace(
        "    metadata:\n      name: db\n",
        "    data:\n      url: postgres://{{ .username }}:{{ .password }}@db\n    metadata:\n      name: db\n",
    );
    sandbox.write("s.yaml", text);
    migrate(&sandbox, &BESIDE).well();
    let url = sandbox.run(&["unseal", "s.bulla.yaml", "-i", "key.txt", "--key", "url"]).well();
    assert_eq!(url.text(), "postgres://admin:hunter2@db");
    assert_eq!(secret(&sandbox, "s.bulla.yaml", "key.txt"), secret(&sandbox, "s.yaml", "old.key"));
}

#[test]
fn whole_trees_lists_and_json_go_and_a_bad_file_does_not_keep_them_back() {
    let sandbox = sandbox();
    std::fs::create_dir_all(sandbox.path("t/sub")).expect("folders");
    let one = |name: &str, args: &[&str]| {
        let secret = DB.replace("name: db", &format!("name: {name}"));
        sandbox.with_input(&[&["seal", "--cert", "old.pem"][..], args].concat(), secret).well().out
    };
    sandbox.write("t/a.yaml", one("a", &[]));
    sandbox.write("t/sub/b.json", one("b", &["-o", "json"]));
    let list =
        format!("apiVersion: v1\nkind: List\nitems:\n{}", indented(&String::from_utf8(one("c", &[])).expect("text")));
    sandbox.write("t/list.yml", list);
    let bad = String::from_utf8(one("d", &[])).expect("text").replace("  name: d\n", "  name: e\n");
    sandbox.write("t/bad.yaml", &bad);
    sandbox.write("t/other.yaml", CONFIG);
    let args = ["t", "--replace", "--prunes-last", "-i", "old.key", "-R", "key.txt.pub", "--report", "json=r.json"];
    let dry = migrate(&sandbox, &["t", "--dry-run", "-R", "key.txt.pub"]).well();
    assert_eq!(dry.text(), "t/a.yaml: shop/a\nt/bad.yaml: shop/e\nt/list.yml: shop/c\nt/sub/b.json: shop/b\n");
    let run = migrate(&sandbox, &args);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("no key in old.key opens shop/e: password, username\n  --> t/bad.yaml:"), "{}", run.err);
    assert!(
        run.err.contains("migrated 3 SealedSecrets in 3 files for key; 0 had a twin; 1 file failed\n"),
        "{}",
        run.err
    );
    assert_eq!((sandbox.read("t/bad.yaml"), sandbox.read("t/other.yaml")), (bad, CONFIG.to_owned()));
    for file in ["t/a.yaml", "t/list.yml", "t/sub/b.json"] {
        assert!(secret(&sandbox, file, "key.txt").contains("aHVudGVyMg=="), "{file}");
    }
    serde_json::from_str::<serde_json::Value>(&sandbox.read("t/sub/b.json")).expect("it is JSON still");
    let report: serde_json::Value = serde_json::from_str(&sandbox.read("r.json")).expect("JSON");
    assert_eq!((&report["schemaVersion"], &report["failed"]), (&1.into(), &1.into()));
    let files: Vec<_> = report["files"].as_array().expect("an array").iter().map(|file| file["file"].clone()).collect();
    assert_eq!(files, ["t/a.yaml", "t/list.yml", "t/sub/b.json"]);
}

/// As an item of a List.
fn indented(text: &str) -> String {
    let lines = text.lines().enumerate();
    lines.map(|(index, line)| format!("{}{line}\n", if index == 0 { "- " } else { "  " })).collect()
}

#[test]
fn an_old_file_is_brought_over_with_the_key() {
    let sandbox = sandbox();
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/bitnami.json")).expect("JSON");
    sandbox.write(
        "s.yaml",
        format!(
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: db, namespace: shop}}\nspec:\n  data: {}\n",
            vectors["vectors"][0]["legacy"].as_str().expect("text")
        ),
    );
    let run = migrate(&sandbox, &["s.yaml", "--dry-run", "-R", "key.txt.pub"]);
    assert!(
        run.code == 1 && run.err.contains("help: it is brought over with the private key: -i KEY\n"),
        "{}",
        run.err
    );
    migrate(&sandbox, &BESIDE).well();
    assert_eq!(secret(&sandbox, "s.bulla.yaml", "key.txt"), secret(&sandbox, "s.yaml", "old.key"));
    migrate(&sandbox, &BESIDE).well();
}

#[test]
fn errors() {
    let sandbox = sealed();
    let before = sandbox.bytes("s.yaml");
    migrate(&sandbox, &["s.yaml", "-i", "old.key", "-R", "key.txt.pub"]).fails(
        2,
        "error: where do the native objects go?\nhelp: --beside: twins next to the files, both are applied for a while\nhelp: \
         --replace --prunes-last: in their place, where pruning comes last\nhelp: --dry-run: nowhere; shows what can be \
         brought over\n",
    );
    let run = migrate(&sandbox, &["s.yaml", "--replace", "-i", "old.key", "-R", "key.txt.pub"]);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("(Argo CD does so), the Secrets go in between") && run.err.contains("--prunes-last\n"),
        "{}",
        run.err
    );
    let run = migrate(&sandbox, &["s.yaml", "--beside", "-R", "key.txt.pub"]);
    assert_eq!(run.code, 2);
    assert!(run.err.starts_with("error: how are the old values opened?\nhelp: by the cluster"), "{}", run.err);
    let run = migrate(&sandbox, &["s.yaml", "--beside", "-i", "key.txt", "-R", "key.txt.pub"]);
    assert!(run.code == 1 && run.err.contains("there is no private key of Bitnami's format in key.txt"), "{}", run.err);
    let run = migrate(&sandbox, &["s.yaml", "--beside", "-i", "old.key", "--cert", "new.pem"]);
    assert!(run.code == 1 && run.err.contains("s.bulla.yaml is to be native, and new (rsa:"), "{}", run.err);
    let run = migrate(&sandbox, &["s.yaml", "--beside", "-i", "new.key", "-R", "key.txt.pub"]);
    assert!(run.code == 1 && run.err.contains("no key in new.key opens shop/db"), "{}", run.err);
    let run = migrate(&sandbox, &["nowhere", "--beside", "-i", "old.key", "-R", "key.txt.pub"]);
    assert_eq!(run.code, 3, "{}", run.err);
    let run = migrate(&sandbox, &["s.yaml", "--beside", "-i", "old.key", "-R", "key.txt.pub", "--report", "x"]);
    assert_eq!((run.code, run.err.as_str()), (2, "error: --report x: it is json=FILE\n"));
    assert_eq!(sandbox.bytes("s.yaml"), before);
    assert!(!sandbox.names().contains(&"s.bulla.yaml".to_owned()));
}
