use crate::sandbox::{CONFIG, DB, Sandbox};

const MANY: &str = "# the database\n";

#[test]
fn stdin_to_stdout_is_the_default() {
    let sandbox = Sandbox::new();
    let run = sandbox.with_input(&["seal", "-R", "key.txt.pub"], DB).well();
    assert_eq!(run.err, "sealed 1 Secret for key\n");
    assert!(!run.text().contains("hunter2") && !run.text().contains("aHVudGVyMg"));
    assert!(run.text().starts_with(
        "apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata:\n  name: db\n  namespace: shop\nspec:\n  items:\n"
    ));
    sandbox.write("sealed.yaml", run.out);
    let opened = sandbox.run(&["unseal", "sealed.yaml", "-i", "key.txt"]).well();
    assert_eq!(
        opened.text(),
        "apiVersion: v1\ndata:\n  password: aHVudGVyMg==\n  username: YWRtaW4=\nkind: Secret\nmetadata:\n  name: db\n  \
         namespace: shop\ntype: Opaque\n"
    );
}

#[test]
fn a_file_by_position_by_flag_and_by_dash_is_the_same() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    for args in [["seal", "db.yaml"].as_slice(), &["seal", "-f", "db.yaml"], &["seal", "-"]] {
        let run = sandbox.with_input(&[args, &["-R", "key.txt.pub"]].concat(), DB).well();
        assert!(run.text().contains("kind: SealedSecret"));
    }
}

#[test]
fn other_kinds_pass_byte_for_byte() {
    let sandbox = Sandbox::new();
    let text = format!("{MANY}{CONFIG}---\n{DB}---\n{CONFIG}");
    let run = sandbox.with_input(&["seal", "-R", "key.txt.pub"], &text).well();
    assert_eq!(run.err, "sealed 1 Secret for key; 2 other objects kept byte for byte\n");
    let out = run.text();
    assert!(out.starts_with(&format!("{MANY}{CONFIG}---\napiVersion: bulla.dev/v1alpha1\n")));
    assert!(out.ends_with(&format!("---\n{CONFIG}")));
}

#[test]
fn another_format_with_other_kinds_is_a_usage_error() {
    let sandbox = Sandbox::new();
    sandbox.with_input(&["seal", "-o", "json", "-R", "key.txt.pub"], format!("{DB}---\n{CONFIG}")).fails(
        2,
        "error: standard input has 1 other object beside its Secrets, which pass byte for byte: another format can't be \
         written\nhelp: leave -o out\n",
    );
}

#[test]
fn json_stays_json_and_yaml_becomes_json_on_request() {
    let sandbox = Sandbox::new();
    let json =
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db","namespace":"shop"},"stringData":{"a":"b"}}"#;
    let run = sandbox.with_input(&["seal", "-R", "key.txt.pub"], json).well();
    assert!(run.text().starts_with('{') && run.text().contains("SealedSecret"));
    let run = sandbox.with_input(&["seal", "-R", "key.txt.pub", "-o", "yaml"], json).well();
    assert!(run.text().starts_with("apiVersion: bulla.dev"));
    let run = sandbox.with_input(&["seal", "-R", "key.txt.pub", "-o", "json"], format!("{DB}---\n{DB}")).well();
    assert!(run.text().contains("\"kind\": \"List\""));
}

#[test]
fn name_namespace_and_scope_of_the_command_line() {
    let sandbox = Sandbox::new();
    let bare = "apiVersion: v1\nkind: Secret\nmetadata: {}\nstringData: {a: b}\n";
    let run = sandbox.with_input(&["seal", "-R", "key.txt.pub", "-n", "shop", "--name", "db"], bare).well();
    assert!(run.text().contains("  name: db\n  namespace: shop\n"));
    let run =
        sandbox.with_input(&["seal", "-R", "key.txt.pub", "--scope", "cluster-wide", "--name", "db"], bare).well();
    assert!(run.text().contains("  scope: cluster-wide\n"));
    sandbox.with_input(&["seal", "-R", "key.txt.pub", "-n", "live"], DB).fails(
        1,
        "error: the Secret's namespace is shop, not live as -n says\n  --> standard input:5:14\n5 |   namespace: \
         ········\n  |              ^^^^^^^^\nhelp: leave -n out, or change the manifest\n",
    );
    sandbox
        .with_input(&["seal", "-R", "key.txt.pub", "--name", "db"], format!("{DB}---\n{DB}"))
        .fails(2, "error: --name, and there are 2 Secrets in standard input\n");
}

#[test]
fn labels_go_to_the_template_and_those_of_delivery_tools_stay_and_both_come_back() {
    let sandbox = Sandbox::new();
    let text = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: shop\n  labels: {team: x}\n  \
                annotations: {argocd.argoproj.io/sync-wave: \"1\", note: \"y\"}\nstringData: {a: b}\n";
    sandbox.write("db.yaml", text);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    let sealed = sandbox.read("s.yaml");
    let (own, spec) = sealed.split_once("spec:").expect("a spec");
    assert!(own.contains("argocd.argoproj.io/sync-wave") && !own.contains("team"));
    assert!(spec.contains("team: x") && spec.contains("note:") && !spec.contains("argocd"));
    let opened = sandbox.run(&["unseal", "s.yaml", "-i", "key.txt"]).well().text();
    for part in ["argocd.argoproj.io/sync-wave: \"1\"", "team: x", "note: \"y\""] {
        assert!(opened.contains(part), "{opened}");
    }
}

#[test]
fn values_from_literals_files_and_env_files() {
    let sandbox = Sandbox::new();
    sandbox.write("tls.key", b"\x00\xff");
    sandbox.write("env", "\u{feff}# comment\nA=1=2\r\n  B= x \n\nHOME\n");
    std::fs::create_dir(sandbox.path("d")).expect("a folder");
    sandbox.write("d/one", "1");
    sandbox.write("d/not a key", "2");
    let args = ["seal", "-R", "key.txt.pub", "--name", "db", "-n", "shop", "--type", "example.com/x", "-w", "s.yaml"];
    let from = ["--from-literal", "l=a=b", "--from-file", "tls.key", "--from-file", "k=tls.key", "--from-file", "d"];
    sandbox.run(&[&args[..], &from, &["--from-env-file", "env"]].concat()).well();
    let opened = sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "-o", "json"]).well().text();
    let secret: serde_json::Value = serde_json::from_str(&opened).expect("JSON");
    assert_eq!(secret["type"], "example.com/x");
    let data = secret["data"].as_object().expect("data");
    assert_eq!(data.keys().collect::<Vec<_>>(), ["A", "B", "HOME", "k", "l", "one", "tls.key"]);
    assert_eq!((&data["A"], &data["B"], &data["l"]), (&"MT0y".into(), &"IHgg".into(), &"YT1i".into()));
    assert_eq!((&data["k"], &data["tls.key"]), (&"AP8=".into(), &"AP8=".into()));
    let twice = ["seal", "-R", "key.txt.pub", "--name", "db", "--from-literal", "a=1", "--from-literal", "a=2"];
    sandbox.run(&twice).fails(2, "error: the key a is given twice\n");
    let bare = ["seal", "-R", "key.txt.pub", "--name", "db", "--from-literal", "s3cret"];
    sandbox.run(&bare).fails(2, "error: --from-literal is KEY=VALUE\n");
    let nameless = ["seal", "-R", "key.txt.pub", "--from-literal", "a=1"];
    sandbox.run(&nameless).fails(
        2,
        "error: a Secret of --from-literal, --from-file or --from-env-file needs a name\nhelp: --name NAME\n",
    );
}

#[test]
fn readers_of_a_file_that_is_there_are_not_dropped_without_replace() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["keygen", "-w", "recovery"]).well();
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub", "-R", "recovery.pub"]).well();
    let before = sandbox.bytes("s.yaml");
    let run = sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]);
    assert!(run.code == 1 && run.err.contains("\n  shop/db: recipient recovery r"), "{}", run.err);
    assert_eq!(sandbox.bytes("s.yaml"), before);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "--replace", "-R", "key.txt.pub"]).well();
    sandbox.write("notes.txt", "hello\n");
    sandbox.run(&["seal", "db.yaml", "-w", "notes.txt", "-R", "key.txt.pub"]).fails(
        1,
        "error: notes.txt is there and holds no SealedSecret; it is not overwritten\nhelp: overwrite it on purpose: \
         --replace\n",
    );
    assert_eq!(sandbox.read("notes.txt"), "hello\n");
}

#[test]
fn items_of_a_file_that_is_there_are_not_dropped_without_replace() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    let before = sandbox.bytes("s.yaml");
    sandbox.write("less.yaml", DB.replace("  username: admin\n", ""));
    sandbox.run(&["seal", "less.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).fails(
        1,
        "error: s.yaml has items or recipients that would be dropped\n  shop/db: username\nhelp: keep them: bulla seal … --merge-into \
         s.yaml\nhelp: drop them on purpose: --replace\n",
    );
    assert_eq!(before, sandbox.bytes("s.yaml"));
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    sandbox.run(&["seal", "less.yaml", "-w", "s.yaml", "--replace", "-R", "key.txt.pub"]).well();
    assert!(!sandbox.read("s.yaml").contains("username"));
    sandbox.write("other", "no: [manifest");
    sandbox.run(&["seal", "db.yaml", "-w", "other", "-R", "key.txt.pub"]).fails(
        1,
        "error: other is there and can't be read as a manifest; it is not overwritten\nhelp: overwrite it on purpose: \
         --replace\n",
    );
}

#[test]
fn merging_into_a_file_changes_only_the_values_given() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    let before = sandbox.read("s.yaml");
    let run = sandbox
        .run(&[
            "seal",
            "--name",
            "db",
            "-n",
            "shop",
            "--from-literal",
            "token=t",
            "--merge-into",
            "s.yaml",
            "-R",
            "key.txt.pub",
        ])
        .well();
    assert_eq!(run.err, "merged 1 value into shop/db in s.yaml, for key\n");
    let after = sandbox.read("s.yaml");
    let mut rest: Vec<&str> = after.lines().collect();
    for line in before.lines() {
        let at = rest.iter().position(|l| *l == line).expect("the line is there still");
        rest.remove(at);
    }
    assert_eq!(rest.len(), 6, "{rest:?}");
    sandbox
        .run(&[
            "seal",
            "--name",
            "x",
            "-n",
            "shop",
            "--from-literal",
            "a=b",
            "--merge-into",
            "s.yaml",
            "-R",
            "key.txt.pub",
        ])
        .fails(
            3,
            "error: there is no SealedSecret shop/x in s.yaml, but shop/db\nhelp: say which one with -n and --name, or \
             leave them out\n",
        );
}

#[test]
fn in_place_seals_a_tree() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("t/sub/.git")).expect("folders");
    let crlf = format!("{CONFIG}---\n# database\n{DB}").replace('\n', "\r\n");
    sandbox.write("t/a.yaml", &crlf);
    sandbox.write("t/sub/b.yml", DB);
    sandbox.write("t/sub/.git/c.yaml", DB);
    sandbox.write("t/sub/readme.txt", DB);
    sandbox.write("t/chart.yaml", format!("{{{{- if .Values.x }}}}\n{DB}{{{{- end }}}}\n"));
    sandbox.write("t/config.yaml", CONFIG);
    let run = sandbox.run(&["seal", "--in-place", "t", "-R", "key.txt.pub"]).well();
    assert_eq!(
        run.err,
        "sealed 2 Secrets in 2 files for key; 1 other object kept byte for byte; 1 skipped:\n  t/chart.yaml:1   a \
         template: seal the rendered value (BUL012)\nnote: what was committed in plaintext stays in Git's history: change \
         those values, then bulla set FILE KEY…\n"
    );
    let after = sandbox.read("t/a.yaml");
    let head = format!("{CONFIG}---\n# database\n").replace('\n', "\r\n");
    assert!(after.starts_with(&head) && after.contains("kind: SealedSecret\r\n") && !after.contains("hunter2"));
    assert_eq!(sandbox.read("t/sub/.git/c.yaml"), DB);
    assert_eq!(sandbox.read("t/sub/readme.txt"), DB);
    assert_eq!(sandbox.read("t/config.yaml"), CONFIG);
    let run = sandbox.run(&["seal", "--in-place", "t/config.yaml", "-R", "key.txt.pub"]).well();
    assert_eq!(run.err, "nothing to seal: there is no Secret in t/config.yaml\n");
    let run = sandbox.run(&["seal", "key.txt", "-R", "key.txt.pub"]);
    run.fails(
        1,
        "error: key.txt is an identity, not a manifest: it opens what is sealed, and is never sealed itself\n",
    );
}

#[test]
fn a_file_that_fails_stays_and_the_others_are_sealed() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("t")).expect("a folder");
    let bad = DB.replace("  namespace: shop\n", "");
    sandbox.write("t/a.yaml", &bad);
    sandbox.write("t/b.yaml", DB);
    let run = sandbox.run(&["seal", "--in-place", "t", "-R", "key.txt.pub"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err
            .starts_with("error: Secret \"db\" has no namespace, and scope strict binds to one\n  --> t/a.yaml:4:3\n")
    );
    assert!(run.err.contains("sealed 1 Secret in 1 file for key; 1 file failed and stayed as they were\n"));
    assert_eq!(sandbox.read("t/a.yaml"), bad);
}

#[test]
fn what_looks_like_a_secret_never_passes_in_plaintext() {
    let sandbox = Sandbox::new();
    let seal = |text: &str| sandbox.with_input(&["seal", "-R", "key.txt.pub"], format!("{DB}---\n{text}"));
    let no_secret =
        "error: this looks like a Secret, and its apiVersion and kind are not \"v1\" and \"Secret\"\n  --> ";
    seal(&DB.replace("apiVersion: v1\n", ""))
        .fails(1, &format!("{no_secret}standard input:10:7\nhelp: write apiVersion: v1 and kind: Secret\n"));
    for text in [
        DB.replace("kind: Secret", "kind: secret"),
        DB.replace("kind: Secret", "Kind: Secret"),
        DB.replace("apiVersion: v1", "apiVersion: v2"),
        "apiVersion: v1\nmetadata: {name: x}\nstringData: {a: b}\n".to_owned(),
        "apiVersion: v1\nmetadata: {name: x}\ntype: Opaque\ndata: {a: Yg==}\n".to_owned(),
    ] {
        let run = seal(&text);
        assert!(run.code == 1 && run.err.starts_with(no_secret) && run.out.is_empty(), "{}", run.err);
    }
    let run = seal("kind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  data: {a: Yg==}\n");
    assert!(run.code == 1 && run.err.contains("a Secret among the items of an object that is no List"), "{}", run.err);
    // Somebody else's kind of the same name, and a file of settings, pass.
    for other in ["apiVersion: example.com/v1\nkind: Secret\n", "type: web\ndata: {a: b}\n"] {
        assert_eq!(seal(other).code, 0, "{other}");
    }
}

#[test]
fn large_objects_are_warned_of() {
    let sandbox = Sandbox::new();
    let sealed = |size: usize| {
        let text = DB.replace("hunter2", &"x".repeat(size));
        sandbox.with_input(&["seal", "-R", "key.txt.pub"], text).well().err
    };
    assert!(!sealed(100_000).contains("warning"));
    assert!(sealed(145_000).contains("a client-side kubectl apply may fail; kubectl apply --server-side works"));
    assert!(sealed(220_000).contains("a client-side kubectl apply will fail; kubectl apply --server-side works"));
}
