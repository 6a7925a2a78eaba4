//! The key decides the format: files of Bitnami's format, with the same commands.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::sandbox::{CONFIG, DB, Run, Sandbox, finish};

/// Private keys and certificates of Go's cryptography: two of 2,048 bits and one of 4,096.
pub fn pair(index: usize) -> (String, String) {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/bitnami.json")).expect("JSON");
    let text = |field: &str| vectors["keys"][index][field].as_str().expect("text").to_owned();
    (text("privateKey"), text("certificate"))
}

/// A folder with `old.pem`, `new.pem`, `large.pem`, their keys `*.key`, and an identity of the native format.
pub fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for (index, name) in ["old", "new", "large"].iter().enumerate() {
        let (key, certificate) = pair(index);
        sandbox.write(&format!("{name}.key"), key);
        sandbox.write(&format!("{name}.pem"), certificate);
        std::fs::set_permissions(sandbox.path(&format!("{name}.key")), std::fs::Permissions::from_mode(0o600))
            .expect("sets");
    }
    sandbox
}

/// A file with two items as kubeseal writes it, with a comment at each and a document before.
pub fn sealed() -> Sandbox {
    let sandbox = sandbox();
    let made = sandbox.with_input(&["seal", "--cert", "old.pem"], DB).well().text();
    let made = made
        .replace("    password:", "    # rotate in March\n    password:")
        .replace("  template:", "  # last\n  template:");
    sandbox.write("s.yaml", format!("{CONFIG}---\n# database\n{made}"));
    sandbox
}

/// The lines that differ, by number.
fn changed(before: &str, after: &str) -> Vec<String> {
    let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    assert_eq!(before.len(), after.len());
    let differing = before.iter().zip(&after).filter(|(a, b)| a != b);
    differing.map(|(line, _)| line.trim().split(':').next().expect("a key").to_owned()).collect()
}

fn value(sandbox: &Sandbox, key: &str, identity: &str) -> String {
    sandbox.run(&["unseal", "s.yaml", "-i", identity, "--key", key]).well().text()
}

#[test]
fn a_certificate_seals_bitnamis_format_and_its_key_opens_it() {
    let sandbox = sandbox();
    let run = sandbox.with_input(&["seal", "-w", "s.yaml", "--cert", "old.pem"], DB).well();
    assert!(run.err.starts_with("sealed 1 Secret to s.yaml for old (rsa:"), "{}", run.err);
    let text = sandbox.read("s.yaml");
    assert!(text.starts_with("apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n"), "{text}");
    assert_eq!(
        (value(&sandbox, "password", "old.key"), value(&sandbox, "username", "old.key")),
        ("hunter2".into(), "admin".into())
    );
    let native = sandbox.with_input(&["seal", "-R", "key.txt.pub"], DB).well();
    sandbox.write("n.yaml", &native.out);
    let secret = |file: &str, identity: &str| sandbox.run(&["unseal", file, "-i", identity]).well().text();
    assert_eq!(secret("s.yaml", "old.key"), secret("n.yaml", "key.txt"));
    // A file with a certificate is one, however it is named.
    let run = sandbox.with_input(&["seal", "-R", "old.pem"], DB).well();
    assert!(run.text().starts_with("apiVersion: bitnami.com/v1alpha1\n"));
    let url = format!("file://{}", sandbox.path("old.pem").display());
    sandbox.with_input(&["seal", "--cert", &url], DB).well();
    let run = sandbox.with_input(&["seal", "--cert", "old.pem", "--scope", "cluster-wide", "-o", "json"], DB).well();
    let json: serde_json::Value = serde_json::from_str(&run.text()).expect("JSON");
    assert_eq!(json["metadata"]["annotations"]["sealedsecrets.bitnami.com/cluster-wide"], "true");
}

#[test]
fn private_keys_come_as_a_backup_has_them() {
    let sandbox = sealed();
    let secret = |name: &str, key: &str| {
        format!(
            "- apiVersion: v1\n  kind: Secret\n  type: kubernetes.io/tls\n  metadata: {{name: {name}}}\n  data:\n    tls.key: {}\n    tls.crt: ''\n",
            STANDARD.encode(key)
        )
    };
    let (old, new) = (pair(0).0, pair(1).0);
    sandbox.write(
        "backup.yaml",
        format!("apiVersion: v1\nkind: List\nitems:\n{}{}", secret("b", &new), secret("a", &old)),
    );
    std::fs::set_permissions(sandbox.path("backup.yaml"), std::fs::Permissions::from_mode(0o600)).expect("sets");
    assert_eq!(value(&sandbox, "password", "backup.yaml"), "hunter2");
    let run = finish(sandbox.bulla(&["unseal", "s.yaml", "-i", "-", "--key", "username"]), old.as_bytes());
    assert_eq!(run.well().text(), "admin");
    let run =
        sandbox.run(&["exec", "s.yaml", "-i", "backup.yaml", "--upper", "--", "sh", "-c", "echo $PASSWORD"]).well();
    assert_eq!(run.text(), "hunter2\n");

    let run = sandbox.run(&["unseal", "s.yaml", "-i", "new.key"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.starts_with("error: no key in new.key opens shop/db: password, username\n  --> s.yaml:"),
        "{}",
        run.err
    );
    assert!(
        run.err.contains("this format does not tell which\n") && run.err.contains("bulla move s.yaml"),
        "{}",
        run.err
    );
    let run = sandbox.run(&["unseal", "s.yaml", "-i", "key.txt"]);
    assert!(run.code == 1 && run.err.contains("shop/db is of Bitnami's format, and none of the identities given is"));
    sandbox.write("bad.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {tls.key: aGVsbG8=}\n");
    let run = sandbox.run(&["unseal", "s.yaml", "-i", "bad.yaml"]);
    assert!(run.code == 1 && run.err.starts_with("error: bad.yaml: tls.key of the Secret x: "), "{}", run.err);
}

#[test]
fn set_and_unset_change_the_lines_of_their_items_alone() {
    let sandbox = sealed();
    let before = sandbox.read("s.yaml");
    let run = sandbox.with_input(&["set", "s.yaml", "password", "--cert", "new.pem"], "x\n").well();
    assert!(
        run.err.starts_with("set password in shop/db (1 byte; a trailing newline was dropped), for new (rsa:"),
        "{}",
        run.err
    );
    let after = sandbox.read("s.yaml");
    assert_eq!(changed(&before, &after), ["password"]);
    assert_eq!(
        sandbox.run(&["unseal", "s.yaml", "-i", "new.key", "-i", "old.key", "--key", "password"]).well().text(),
        "x"
    );

    sandbox.with_input(&["set", "s.yaml", "token", "--cert", "old.pem"], "t").well();
    let with = sandbox.read("s.yaml");
    let new: Vec<_> = with.lines().filter(|line| !after.contains(line)).collect();
    assert!(
        matches!(new.as_slice(), [line] if line.starts_with("    token: Ag") || line.starts_with("    token: AQ")),
        "{new:?}"
    );
    let run = sandbox.run(&["unset", "s.yaml", "token"]).well();
    assert!(run.err.starts_with("took token out of shop/db in s.yaml; 2 items left\n"), "{}", run.err);
    assert_eq!(sandbox.read("s.yaml"), after);
    let run = sandbox.run(&["unset", "s.yaml", "token"]);
    assert_eq!((run.code, run.err.as_str()), (3, "error: there is no item token in s.yaml, but password, username\n"));
}

#[test]
fn a_new_file_takes_its_format_from_the_key() {
    let sandbox = sandbox();
    let run = sandbox.with_input(&["set", "db.sealed.yaml", "password", "-n", "shop", "--cert", "old.pem"], "x").well();
    assert!(run.err.starts_with("created db.sealed.yaml: SealedSecret shop/db, 1 item, for old (rsa:"), "{}", run.err);
    assert!(sandbox.read("db.sealed.yaml").starts_with("apiVersion: bitnami.com/v1alpha1\n"));
    let run = sandbox.with_input(&["set", "x.sealed.yaml", "password", "--cert", "old.pem"], "x");
    assert_eq!(run.code, 2);
    assert!(run.err.contains("Secret \"x\" has no namespace, and scope strict binds to one"), "{}", run.err);
}

#[test]
fn a_file_keeps_its_format() {
    let sandbox = sealed();
    let before = sandbox.read("s.yaml");
    let refused = |run: &Run, wanted: &str| assert!(run.code == 1 && run.err.contains(wanted), "{}", run.err);
    let run = sandbox.with_input(&["set", "s.yaml", "password", "-R", "key.txt.pub"], "x");
    refused(&run, "error: s.yaml is of Bitnami's format, and key seals the native one\n");
    refused(&run, "help: to bring it over: bulla migrate s.yaml\n");
    sandbox.with_input(&["seal", "-w", "n.yaml", "-R", "key.txt.pub"], DB).well();
    let native = sandbox.read("n.yaml");
    let run = sandbox.with_input(&["set", "n.yaml", "password", "--cert", "old.pem"], "x");
    refused(&run, "error: n.yaml is of the native format, and old (rsa:");
    let run = sandbox.with_input(&["seal", "--merge-into", "n.yaml", "--cert", "old.pem"], DB);
    refused(&run, "n.yaml is of the native format");
    let run = sandbox.with_input(&["seal", "-w", "n.yaml", "--cert", "old.pem"], DB);
    refused(&run, "shop/db: it is native, and would become of Bitnami's format\n");
    assert_eq!((sandbox.read("s.yaml"), sandbox.read("n.yaml")), (before, native));
    sandbox.with_input(&["seal", "-w", "n.yaml", "--cert", "old.pem", "--replace"], DB).well();
    let both = sandbox.with_input(&["seal", "--cert", "old.pem", "-R", "key.txt.pub"], DB);
    assert_eq!(both.code, 2);
    assert!(
        both.err.contains("is a certificate: Bitnami's format has one recipient, and another is named too"),
        "{}",
        both.err
    );
    let run = sandbox.with_input(&["seal", "-w", "s.yaml", "--cert", "old.pem", "--from-literal", "a=b"], "");
    assert_eq!(run.code, 2, "{}", run.err);
    let run = sandbox.run(&[
        "seal",
        "-w",
        "s.yaml",
        "--cert",
        "old.pem",
        "--from-literal",
        "a=b",
        "-n",
        "shop",
        "--name",
        "db",
    ]);
    refused(&run, "shop/db: password, username\n");
}

#[test]
fn values_are_merged_in_the_files_own_scope() {
    let sandbox = sandbox();
    sandbox.with_input(&["seal", "-w", "s.yaml", "--cert", "old.pem", "--scope", "cluster-wide"], DB).well();
    let run = sandbox
        .with_input(&["seal", "--merge-into", "s.yaml", "--cert", "old.pem"], DB.replace("hunter2", "new"))
        .well();
    assert!(run.err.starts_with("merged 2 values into shop/db in s.yaml, for old (rsa:"), "{}", run.err);
    assert_eq!(
        (value(&sandbox, "password", "old.key"), value(&sandbox, "username", "old.key")),
        ("new".into(), "admin".into())
    );
    let run = sandbox.with_input(&["set", "s.yaml", "password", "--cert", "old.pem", "--scope", "strict"], "x");
    assert_eq!(run.code, 1);
    assert!(run.err.contains("s.yaml has the scope cluster-wide, wider than strict"), "{}", run.err);
}

#[test]
fn secrets_are_sealed_where_they_stand_and_sealed_files_stay() {
    let sandbox = sealed();
    let before = sandbox.read("s.yaml");
    sandbox.write("t.yaml", format!("{before}---\n{}", DB.replace("name: db", "name: other")));
    sandbox.run(&["seal", "--in-place", "t.yaml", "--cert", "old.pem"]).well();
    let after = sandbox.read("t.yaml");
    assert!(after.starts_with(&before) && !after.contains("hunter2"));
    assert_eq!(after.matches("apiVersion: bitnami.com/v1alpha1").count(), 2);
    let run = sandbox.run(&["seal", "s.yaml", "--cert", "old.pem"]);
    assert!(run.code == 1 && run.err.contains("there is no Secret in s.yaml"), "{}", run.err);
}

#[test]
fn an_editor_shows_items_and_what_is_typed_gets_sealed() {
    let sandbox = sealed();
    let memory = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let edit = |script: &str, args: &[&str]| {
        sandbox.write("editor", format!("#!/bin/bash\n{script}\n"));
        std::fs::set_permissions(sandbox.path("editor"), std::fs::Permissions::from_mode(0o755)).expect("sets");
        let mut command = sandbox.bulla(&[&["edit", "s.yaml", "--cert", "old.pem"][..], args].concat());
        command.env("EDITOR", sandbox.path("editor")).env("XDG_RUNTIME_DIR", memory.path());
        finish(command, b"")
    };
    let before = sandbox.read("s.yaml");
    let run = edit("sed -i 's/^password: .*/password: typed/' \"$1\"", &[]).well();
    assert!(run.err.starts_with("edited shop/db in s.yaml: set password; 1 item kept, for old (rsa:"), "{}", run.err);
    assert_eq!(changed(&before, &sandbox.read("s.yaml")), ["password"]);
    let run = edit("grep -q '^password: typed' \"$1\" && sed -i '/^username/d' \"$1\"", &["-i", "old.key"]).well();
    assert!(run.err.contains("took out username"), "{}", run.err);
    assert_eq!(value(&sandbox, "password", "old.key"), "typed");
}

#[test]
fn a_rule_may_name_a_certificate_alone() {
    let sandbox = sandbox();
    std::fs::create_dir_all(sandbox.path(".bulla")).expect("a folder");
    std::fs::create_dir_all(sandbox.path("apps")).expect("a folder");
    for (from, to) in [("old.pem", "prod.pem"), ("key.txt.pub", "age.pub"), ("new.pem", "new.pem")] {
        std::fs::copy(sandbox.path(from), sandbox.path(&format!(".bulla/{to}"))).expect("copies");
    }
    sandbox.git(&["init", "-q"]);
    let policy = |rules: &str| {
        format!(
            "version: 1\nrecipients:\n  prod: {{file: .bulla/prod.pem}}\n  age: {{file: .bulla/age.pub, always: true}}\n  \
             new: {{file: .bulla/new.pem}}\nrules:\n{rules}"
        )
    };
    sandbox.write(".bulla.yaml", policy("- path: apps/**\n  recipients: [prod]\n- path: '**'\n  recipients: [age]\n"));
    let run = sandbox.with_input(&["set", "apps/db.sealed.yaml", "password", "-n", "shop"], "x").well();
    assert!(run.err.contains("for prod (rsa:"), "{}", run.err);
    assert!(sandbox.read("apps/db.sealed.yaml").starts_with("apiVersion: bitnami.com/v1alpha1\n"));
    let shown = sandbox.run(&["recipients"]).well().text();
    let kinds: Vec<_> = shown.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(
        kinds.iter().map(|row| (row[0], row[2])).collect::<Vec<_>>(),
        [("prod", "rsa"), ("age", "hybrid"), ("new", "rsa")]
    );
    // Each file of a tree by its rule.
    sandbox.with_input(&["set", "n.sealed.yaml", "password", "-n", "shop"], "x").well();
    assert!(sandbox.read("n.sealed.yaml").starts_with("apiVersion: bulla.dev/v1alpha1\n"));
    let run = sandbox.with_input(&["set", "apps/db.sealed.yaml", "password", "-r", "new"], "y").well();
    assert!(run.err.contains("for new (rsa:"), "{}", run.err);
    let before = sandbox.bytes("n.sealed.yaml");
    let run = sandbox.run(&["reseal", ".", "-i", "new.key", "-i", "key.txt"]).well();
    assert!(
        run.err.contains("resealed 1 of 1 file for prod (rsa:") && run.err.contains("resealed 0 of 1 file for age"),
        "{}",
        run.err
    );
    assert_eq!(sandbox.bytes("n.sealed.yaml"), before);
    let value = sandbox.run(&["unseal", "apps/db.sealed.yaml", "-i", "old.key", "--key", "password"]).well();
    assert_eq!(value.text(), "y");

    sandbox.write(".bulla.yaml", policy("- path: apps/**\n  recipients: [prod, age]\n"));
    let run = sandbox.with_input(&["set", "apps/db.sealed.yaml", "password"], "x");
    assert!(
        run.code == 1 && run.err.contains("error: prod is a certificate, and the rule names others too\n"),
        "{}",
        run.err
    );
    sandbox.write(".bulla.yaml", policy("- path: '**'\n  recipients: [age]\n"));
    let run = sandbox.with_input(&["set", "apps/db.sealed.yaml", "password"], "x");
    assert!(run.code == 1 && run.err.contains("is of Bitnami's format, and age seals the native one"), "{}", run.err);
}

#[test]
fn a_certificate_is_pinned_as_a_key_is() {
    let sandbox = sandbox();
    sandbox.git(&["init", "-q"]);
    let run = sandbox.run(&["init", "old.pem", "--as", "prod-rsa", "--rule", "legacy/**"]).well();
    assert!(run.err.starts_with("prod-rsa  rsa:") && run.err.contains("wrote .bulla.yaml and .bulla/prod-rsa.pem"));
    assert!(sandbox.read(".bulla/prod-rsa.pem").starts_with("-----BEGIN CERTIFICATE-----\n"));
    let run = sandbox.run(&["init", "old.pem"]);
    assert!(run.code == 1 && run.err.contains("is there already and is not overwritten"), "{}", run.err);
    let before = sandbox.read(".bulla.yaml");
    for (args, why) in [
        (&["--always"][..], "which has one recipient"),
        (&["--rule", "legacy/**"], "a certificate stands alone"),
        (&["--rule", "legacy/**", "--always"], "which has one recipient"),
    ] {
        let run = sandbox.run(&[&["recipients", "add", "next", "new.pem"], args].concat());
        assert!(run.code != 0 && run.err.contains(why), "{}", run.err);
        assert_eq!(sandbox.read(".bulla.yaml"), before);
    }
    let run = sandbox.run(&["recipients", "add", "prod-rsa", "new.pem", "--rule", "x/**"]);
    assert!(run.code == 1 && run.err.contains("there is a recipient prod-rsa already"), "{}", run.err);
    sandbox.write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_eq!(sandbox.run(&["recipients", "add", "next", "garbage.pem", "--rule", "x/**"]).code, 1);
    let run = sandbox.run(&["recipients", "add", "next", "new.pem", "--rule", "next/**"]).well();
    assert!(run.err.contains("added next to .bulla.yaml for next/**"), "{}", run.err);
    sandbox.run(&["recipients", "add", "age", "key.txt.pub", "--rule", "apps/**"]).well();
    for (file, name, format) in
        [("legacy/a", "prod-rsa", "bitnami.com"), ("next/a", "next", "bitnami.com"), ("apps/a", "age", "bulla.dev")]
    {
        let file = format!("{file}.sealed.yaml");
        std::fs::create_dir_all(sandbox.path(&file).parent().expect("a folder")).expect("makes");
        let run = sandbox.with_input(&["set", &file, "password", "-n", "shop"], "x").well();
        assert!(run.err.contains(&format!("for {name}")), "{}", run.err);
        assert!(sandbox.read(&file).starts_with(&format!("apiVersion: {format}/v1alpha1\n")));
    }

    // One document of a tree with both, and the same in a file.
    let args = ["reseal", ".", "-i", "old.key", "-i", "new.key", "-i", "key.txt"];
    let run = sandbox.run(&[&args[..], &["-o", "json", "--report", "json=told.json"]].concat()).well();
    let told: serde_json::Value = serde_json::from_str(&run.text()).expect("JSON");
    let states = |files: &serde_json::Value| {
        let files = files.as_array().expect("files").iter();
        files.map(|file| (file["file"].to_string(), file["state"].to_string())).collect::<Vec<_>>()
    };
    assert_eq!(told["schemaVersion"], 1);
    assert_eq!(
        states(&told["bitnami"]["files"]),
        [
            ("\"legacy/a.sealed.yaml\"".to_owned(), "\"current\"".to_owned()),
            ("\"next/a.sealed.yaml\"".to_owned(), "\"current\"".to_owned())
        ]
    );
    assert!(told["keys"].is_array(), "{told}");
    assert_eq!(sandbox.read("told.json"), run.text());
    // Of Bitnami's alone it tells too.
    let args = ["reseal", "legacy", "-i", "old.key", "--report", "json=told.json"];
    sandbox.run(&args).well();
    let told: serde_json::Value = serde_json::from_str(&sandbox.read("told.json")).expect("JSON");
    assert_eq!(states(&told["files"]).len(), 1);
}

const NOTE: &str = "note: values were not changed. If the old key leaked, change them: bulla reseal does not revoke\n";

#[test]
fn resealing_changes_the_sealed_texts_and_no_other_byte() {
    let sandbox = sealed();
    std::fs::create_dir(sandbox.path("t")).expect("a folder");
    let before = sandbox.read("s.yaml");
    sandbox.write("t/s.yaml", &before);
    sandbox.write("t/native.yaml", sandbox.with_input(&["seal", "-R", "key.txt.pub"], DB).well().out);
    let native = sandbox.bytes("t/native.yaml");
    let args = ["reseal", "t", "-i", "old.key", "--cert", "new.pem"];
    let run = sandbox.run(&[&args[..], &["--check"]].concat());
    assert_eq!((run.code, run.text().as_str()), (10, "t/s.yaml: 2 items\n"));
    let run = sandbox.run(&[&args[..], &["--dry-run", "-o", "json"]].concat()).well();
    let json: serde_json::Value = serde_json::from_str(&run.text()).expect("JSON");
    assert_eq!(json["files"], serde_json::json!([{"file": "t/s.yaml", "state": "needed", "items": 2, "unknown": []}]));
    assert_eq!(sandbox.read("t/s.yaml"), before);

    let run = sandbox.run(&args).well();
    assert!(run.err.starts_with("resealed 1 of 1 file for new (rsa:") && run.err.ends_with(NOTE), "{}", run.err);
    let after = sandbox.read("t/s.yaml");
    assert_eq!(changed(&before, &after), ["password", "username"]);
    assert_eq!(sandbox.bytes("t/native.yaml"), native);
    let opened = sandbox.run(&["unseal", "t/s.yaml", "-i", "new.key"]).well().text();
    assert_eq!(opened, sandbox.run(&["unseal", "s.yaml", "-i", "old.key"]).well().text());

    // Again: with the new key it is known that nothing is left to do, without it nobody knows.
    let file = || std::fs::metadata(sandbox.path("t/s.yaml")).expect("is there");
    let was = (file().ino(), file().mtime(), file().mtime_nsec());
    let run = sandbox.run(&["reseal", "t", "-i", "old.key", "-i", "new.key", "--cert", "new.pem"]).well();
    assert!(run.err.contains(": 0 items; 1 was current; 0 failed\n"), "{}", run.err);
    let run = sandbox.run(&args);
    assert_eq!(run.code, 1);
    assert!(
        run.err.contains(
            "1 file with items that none of the keys opens\n  t/s.yaml  shop/db: password, shop/db: username\n"
        ),
        "{}",
        run.err
    );
    assert_eq!(was, (file().ino(), file().mtime(), file().mtime_nsec()));
}

#[test]
fn without_a_key_only_the_size_of_the_old_one_shows() {
    let sandbox = sealed();
    let run = sandbox.run(&["reseal", "s.yaml", "--cert", "large.pem", "--check"]);
    assert_eq!((run.code, run.text().as_str()), (10, "s.yaml: 2 items\n"));
    let run = sandbox.run(&["reseal", "s.yaml", "--cert", "new.pem", "--check"]).well();
    assert_eq!(run.text(), "");
    assert!(
        run.err.contains(
            "1 file with items that nobody can tell without a private key\nnote: the ciphertext names no key"
        ),
        "{}",
        run.err
    );
    sandbox.run(&["reseal", "s.yaml", "--cert", "new.pem"]).fails(
        2,
        "error: how are the old values opened?\nhelp: with the old private key: -i KEY, as PEM, as its Secret, or as a List of \
         them\nhelp: by the cluster: --live\n",
    );
    let run = sandbox.run(&["reseal", "s.yaml", "--cert", "new.pem", "-i", "old.key", "--fresh"]);
    assert!(run.code == 2 && run.err.contains("--fresh has no meaning here"), "{}", run.err);
}

#[test]
fn one_bad_file_does_not_keep_the_others_back() {
    let sandbox = sealed();
    std::fs::create_dir(sandbox.path("t")).expect("a folder");
    let good = sandbox.read("s.yaml");
    sandbox.write("t/a.yaml", good.replace("    password: ", "    password: '%' # "));
    sandbox.write("t/b.yaml", &good);
    sandbox.write("t/c.yaml", good.replace("  encryptedData:\n", "  data: AAAA\n  encryptedData:\n"));
    let before = (sandbox.read("t/a.yaml"), sandbox.read("t/c.yaml"));
    let run = sandbox.run(&["reseal", "t", "-i", "old.key", "--cert", "new.pem"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("spec.encryptedData.password: illegal base64 data\n  --> t/a.yaml:"), "{}", run.err);
    assert!(run.err.contains("both spec.data and spec.encryptedData are there"), "{}", run.err);
    assert!(run.err.contains("resealed 1 of 3 files"), "{}", run.err);
    assert_eq!(before, (sandbox.read("t/a.yaml"), sandbox.read("t/c.yaml")));
    assert_ne!(sandbox.read("t/b.yaml"), good);
}

#[test]
fn a_moved_file_is_bound_to_its_new_place() {
    let sandbox = sealed();
    let before = sandbox.read("s.yaml").replace("  namespace: shop", "  namespace: live");
    sandbox.write("s.yaml", &before);
    let args = ["move", "s.yaml", "--from", "shop/db", "-i", "old.key", "--cert", "old.pem"];
    let run = sandbox.run(&args).well();
    assert!(run.err.starts_with("re-bound 2 items of db from shop to live, for old (rsa:"), "{}", run.err);
    assert_eq!(changed(&before, &sandbox.read("s.yaml")), ["password", "username"]);
    assert_eq!(value(&sandbox, "password", "old.key"), "hunter2");
    let run = sandbox.run(&args).well();
    assert_eq!(run.err, "nothing to move: all items of s.yaml are sealed for live/db\n");
    sandbox.write("s.yaml", &before);
    let run = sandbox.run(&["move", "s.yaml", "--from", "shop/x", "-i", "old.key", "--cert", "old.pem"]);
    assert!(run.code == 1 && run.err.contains("no key in old.key opens live/db: password, username"), "{}", run.err);
    assert_eq!(sandbox.read("s.yaml"), before);
}

#[test]
fn an_old_file_is_opened_and_sealed_anew_as_what_it_is() {
    let sandbox = sandbox();
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/bitnami.json")).expect("JSON");
    let vector = &vectors["vectors"][0];
    let text = format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata:\n  name: db\n  namespace: shop\nspec:\n  data: {} # old\n",
        vector["legacy"].as_str().expect("text")
    );
    sandbox.write("s.yaml", &text);
    let password = STANDARD.decode(vector["values"]["password"].as_str().expect("text")).expect("base64");
    assert_eq!(value(&sandbox, "password", "old.key").into_bytes(), password);
    sandbox.run(&["reseal", "s.yaml", "-i", "old.key", "--cert", "new.pem"]).well();
    assert_eq!(changed(&text, &sandbox.read("s.yaml")), ["data"]);
    assert_eq!(value(&sandbox, "password", "new.key").into_bytes(), password);
    let run = sandbox.with_input(&["set", "s.yaml", "password", "--cert", "new.pem"], "x");
    assert!(run.code == 1 && run.err.contains("the whole Secret is one sealed text"), "{}", run.err);
}

#[test]
fn certificates_that_can_not_be_used_say_why() {
    let sandbox = sandbox();
    let refused = |args: &[&str], wanted: &str| {
        let run = sandbox.with_input(args, DB);
        assert!(run.code != 0 && run.err.contains(wanted) && run.out.is_empty(), "{}", run.err);
    };
    refused(&["seal", "--cert", "old.key"], "this is a private key where a certificate belongs");
    refused(&["seal", "--cert", "nowhere.pem"], "there is no such file");
    refused(&["seal", "--cert", "key.txt.pub"], "there is no certificate in it");
    refused(&["seal", "--cert", "http://127.0.0.1:1/cert.pem"], "http://127.0.0.1:1/cert.pem");
    let run = sandbox.with_input(&["recipients", "show", "--all"], "");
    assert_ne!(run.code, 0);
    assert!(Path::new(&sandbox.path("old.pem")).exists());
}

#[test]
fn a_diff_tells_items_and_scopes_and_no_ciphertext() {
    let sandbox = sealed();
    sandbox.git(&["init", "-q"]);
    sandbox.git(&["add", "."]);
    sandbox.git(&["commit", "-qm", "first"]);
    sandbox.with_input(&["set", "s.yaml", "password", "--cert", "old.pem"], "x").well();
    sandbox.with_input(&["set", "s.yaml", "token", "--cert", "old.pem"], "x").well();
    let run = sandbox.run(&["diff"]).well();
    for line in ["~ password  new value, sealed for an RSA key", "+ token     new, sealed for an RSA key"] {
        let words: Vec<_> = line.split_whitespace().collect();
        let told = run.text();
        assert!(told.lines().any(|told| told.split_whitespace().collect::<Vec<_>>() == words), "{line}\n{told}");
    }
    assert!(!run.text().contains("AgA") && !run.text().contains("AQA"), "{}", run.text());
    let run = sandbox.run(&["diff", "--only", "reseal", "-R", "key.txt.pub"]);
    let said = format!("{}{}", run.text(), run.err);
    assert!(run.code == 10 && said.contains("the item has another text"), "{said}");
    let text = sandbox.read("s.yaml").replace(
        "  namespace: shop\nspec:",
        "  namespace: shop\n  annotations:\n    sealedsecrets.bitnami.com/cluster-wide: \"true\"\nspec:",
    );
    sandbox.write("s.yaml", text);
    assert!(sandbox.run(&["diff"]).well().text().contains("strict -> cluster-wide"));
    let shown = sandbox.run(&["git", "textconv", "s.yaml"]).well().text();
    assert!(shown.contains("    # rotate in March\n    password: sealed ") && !shown.contains("AQA"), "{shown}");
}

#[test]
fn different_items_merge_and_the_same_item_is_a_conflict() {
    let sandbox = sealed();
    let base = sandbox.read("s.yaml");
    let version = |file: &str, key: &str| {
        sandbox.write("s.yaml", &base);
        sandbox.with_input(&["set", "s.yaml", key, "--cert", "old.pem"], file).well();
        std::fs::rename(sandbox.path("s.yaml"), sandbox.path(file)).expect("renames");
    };
    sandbox.write("base", &base);
    version("ours", "password");
    version("theirs", "username");
    version("added", "token");
    let merge = |theirs: &str| {
        std::fs::copy(sandbox.path("ours"), sandbox.path("merged")).expect("copies");
        sandbox.run(&["git", "merge", "base", "merged", theirs, "7", "s.yaml"])
    };
    for (theirs, key) in [("theirs", "username"), ("added", "token")] {
        merge(theirs).well();
        std::fs::copy(sandbox.path("merged"), sandbox.path("s.yaml")).expect("copies");
        assert_eq!(
            (value(&sandbox, "password", "old.key"), value(&sandbox, key, "old.key")),
            ("ours".into(), theirs.into())
        );
        assert!(sandbox.read("s.yaml").contains("    # rotate in March\n"));
    }
    version("same", "password");
    let run = merge("same");
    assert!(run.code == 1 && run.err.contains("item password"), "{}", run.err);
}

#[test]
fn check_finds_what_anybody_can_see() {
    let sandbox = sealed();
    let good = sandbox.read("s.yaml");
    sandbox.run(&["check", "s.yaml"]).well();
    for (text, wanted) in [
        (
            good.replace("  encryptedData:\n", "  data: AAAA\n  encryptedData:\n"),
            "spec.data, of the older form, is there beside",
        ),
        (good.replace("    password: AQ", "    password: xx"), "password is no ciphertext of this format"),
    ] {
        sandbox.write("s.yaml", text);
        let run = sandbox.run(&["check", "s.yaml"]);
        let said = format!("{}{}", run.text(), run.err);
        assert!(run.code == 10 && said.contains("BUL102") && said.contains(wanted), "{said}");
    }
}
