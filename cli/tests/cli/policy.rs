//! `.bulla.yaml`: what it decides, what is wrong with it, and what somebody who may only open a pull request could do with it.

use crate::sandbox::{DB, Run, Sandbox};

const POLICY: &str = "\
# whom we seal for
version: 1
recipients:
  prod: {file: .bulla/prod.pub, context: prod-eu}
  alice: {file: .bulla/alice.pub}
  recovery: {file: .bulla/recovery.pub, always: true}
rules:
  - path: apps/*/prod/**
    recipients: [prod]
  - path: apps/shop/dev/**
    recipients: [alice]
    namespace: shop-dev
    scope: namespace-wide
";

/// A repository with that policy, and identities for everybody in it.
pub fn repository() -> Sandbox {
    let sandbox = Sandbox::new();
    for folder in [".git", ".bulla", "apps/shop/prod", "apps/shop/dev", "other"] {
        std::fs::create_dir_all(sandbox.path(folder)).expect("a folder");
    }
    for name in ["prod", "alice", "recovery"] {
        let (identity, public) = (format!("{name}.txt"), format!(".bulla/{name}.pub"));
        sandbox.run(&["keygen", "-w", &identity, "--recipient", &public]).well();
    }
    sandbox.write(".bulla.yaml", POLICY);
    sandbox
}

fn set(sandbox: &Sandbox, file: &str, more: &[&str]) -> Run {
    sandbox.with_input(&[&["set", file, "password"][..], more].concat(), "x")
}

/// The error of a policy with this text, or this change.
#[track_caller]
fn broken(text: &str, error: &str) {
    let sandbox = repository();
    sandbox.write(".bulla.yaml", text);
    set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]).fails(1, error);
    assert!(!sandbox.path("apps/shop/prod/db.sealed.yaml").exists());
}

#[test]
fn the_first_rule_that_matches_says_for_whom() {
    let sandbox = repository();
    let run = set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]).well();
    assert_eq!(run.err, "created apps/shop/prod/db.sealed.yaml: SealedSecret shop/db, 1 item, for prod, recovery\n");
    // From wherever somebody stands.
    let mut command = sandbox.bulla(&["set", "db.sealed.yaml", "more", "--generate", "hex"]);
    command.current_dir(sandbox.path("apps/shop/prod"));
    let run = crate::sandbox::finish(command, b"").well();
    assert_eq!(run.err, "set more in shop/db (64 bytes), for prod, recovery\n");
    let text = sandbox.read("apps/shop/prod/db.sealed.yaml");
    assert!(text.contains("    prod: ") && text.contains("    recovery: ") && !text.contains("scope"), "{text}");
    for identity in ["prod.txt", "recovery.txt"] {
        sandbox.run(&["unseal", "apps/shop/prod/db.sealed.yaml", "-i", identity]).well();
    }
    // Scope and namespace are the rule's.
    let run = set(&sandbox, "apps/shop/dev/db.sealed.yaml", &[]).well();
    assert!(run.err.ends_with("SealedSecret shop-dev/db, 1 item, for alice, recovery\n"), "{}", run.err);
    assert!(sandbox.read("apps/shop/dev/db.sealed.yaml").contains("scope: namespace-wide"));
    set(&sandbox, "other/db.sealed.yaml", &["-n", "shop"]).fails(
        1,
        "error: no recipient for other/db.sealed.yaml: no rule of .bulla.yaml matches it\nhelp: bulla set \
         other/db.sealed.yaml password -r prod     or add a rule\n",
    );
}

#[test]
fn names_of_the_policy_and_recovery_in_every_run() {
    let sandbox = repository();
    let run = set(&sandbox, "other/a.yaml", &["-n", "shop", "-r", "alice"]).well();
    assert!(run.err.ends_with("for alice, recovery\n"), "{}", run.err);
    // A key by itself has the policy's name as well.
    let run = set(&sandbox, "other/b.yaml", &["-n", "shop", "-R", ".bulla/alice.pub", "-R", "key.txt.pub"]).well();
    assert!(run.err.ends_with("for alice, key, recovery\n"), "{}", run.err);
    let run = set(&sandbox, "other/c.yaml", &["-n", "shop", "-r", "alice", "--no-always"]).well();
    assert!(run.err.ends_with("for alice\n"), "{}", run.err);
    set(&sandbox, "other/d.yaml", &["-n", "shop", "-r", "bob"])
        .fails(1, "error: -r bob: .bulla.yaml has no recipient of this name\nhelp: it has prod, alice, recovery\n");
    sandbox.write("db.yaml", DB);
    let run = sandbox.with_input(&["seal"], DB);
    assert!(
        run.err.starts_with("error: no recipient for standard input: the rules of .bulla.yaml go by"),
        "{}",
        run.err
    );
    let run = sandbox.with_input(&["seal", "-w", "apps/shop/prod/s.yaml"], DB).well();
    assert!(run.err.contains("for prod, recovery"), "{}", run.err);
}

#[test]
fn in_place_each_file_goes_by_its_own_rule() {
    let sandbox = repository();
    sandbox.write("apps/shop/prod/a.yaml", DB);
    sandbox.write("apps/shop/dev/a.yaml", DB.replace("shop", "shop-dev"));
    sandbox.write("other/a.yaml", DB);
    let run = sandbox.run(&["seal", "--in-place", "apps", "other"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.starts_with("error: no recipient for other/a.yaml: no rule of .bulla.yaml matches it\n"),
        "{}",
        run.err
    );
    assert!(
        run.err.contains("sealed 2 Secrets in 2 files for alice, recovery; prod, recovery; 1 file failed"),
        "{}",
        run.err
    );
    sandbox.run(&["unseal", "apps/shop/dev/a.yaml", "-i", "alice.txt"]).well();
    assert_eq!(sandbox.run(&["unseal", "apps/shop/prod/a.yaml", "-i", "alice.txt"]).code, 1);
}

#[test]
fn a_wider_scope_and_another_namespace_are_refused() {
    let sandbox = repository();
    set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop", "--scope", "cluster-wide"]).fails(
        1,
        "error: --scope cluster-wide is wider than strict, which the rule for this file says\n  --> .bulla.yaml:8:11\n8 |   \
         - path: apps/*/prod/**\n  |           ^^^^^^^^^^^^^^\nhelp: leave --scope out; or, if it is meant, write scope: \
         cluster-wide into the rule\n",
    );
    set(&sandbox, "apps/shop/dev/db.sealed.yaml", &["-n", "shop"]).fails(
        1,
        "error: the Secret is in namespace shop, and the rule for this file is for shop-dev alone\n  --> \
         .bulla.yaml:12:16\n12 |     namespace: shop-dev\n   |                ^^^^^^^^\n",
    );
    // A file that was widened takes no more values.
    set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]).well();
    let wide = sandbox.read("apps/shop/prod/db.sealed.yaml").replace("spec:\n", "spec:\n  scope: cluster-wide\n");
    sandbox.write("apps/shop/prod/db.sealed.yaml", wide);
    let run = set(&sandbox, "apps/shop/prod/db.sealed.yaml", &[]);
    assert!(run.code == 1 && run.err.contains("wider than strict"), "{}", run.err);
}

#[test]
fn errors_have_their_place() {
    broken(
        "version: 1\nrulez: []\n",
        "error: the policy has no field \"rulez\"\n  --> .bulla.yaml:2:1\n2 | rulez: ········\n  | ^^^^^\nhelp: its fields are \
         version, recipients, rules, policy, check\n",
    );
    broken(
        "version: 2\n",
        "error: version 2 of policies is not known to this program\n  --> .bulla.yaml:1:10\n1 | version: 2\n  |          \
         ^\nhelp: this program reads version 1; a newer one may read it\n",
    );
    broken(
        "version: 1\nrecipients:\n  a: {file: .bulla/prod.pub}\n  a: {file: .bulla/alice.pub}\n",
        "error: the key \"a\" is there twice\n  --> .bulla.yaml:4:3\n4 |   a: {file: .bulla/alice.pub}\n  |   ^\n  first in \
         line 3\n",
    );
    let message = |text: &str, wanted: &str| {
        let sandbox = repository();
        sandbox.write(".bulla.yaml", text);
        let run = set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]);
        assert!(run.code == 1 && run.err.contains(wanted), "{text}\n{}", run.err);
    };
    let recipient = |fields: &str| format!("version: 1\nrecipients:\n  a: {fields}\n");
    for (fields, wanted) in [
        ("{}", "error: a recipient lacks the field \"file\"\n  --> .bulla.yaml:3:6\n"),
        ("{file: ../a.pub}", "error: file leaves the repository\n"),
        ("{file: /etc/a.pub}", "error: file is not relative\n"),
        ("{file: a/../b.pub}", "error: file leaves the repository\n"),
        ("{file: 'C:/a.pub'}", "error: file is not relative\n"),
        ("{file: .bulla/prod.txt}", "error: a recipient's file is called *.pub, a certificate's *.pem or *.crt\n"),
        ("{file: [a.pub]}", "error: file is a sequence, where text belongs\n"),
        ("{file: .bulla/prod.pub, always: 'true'}", "error: always is true or false\n"),
        ("{file: .bulla/prod.pub, always: yes}", "error: always is true or false\n"),
        ("{file: .bulla/prod.pub, extra: 1}", "error: a recipient has no field \"extra\"\n"),
        ("{file: &a .bulla/prod.pub}", "error: a policy has no anchors and no aliases\n"),
        ("{file: !x .bulla/prod.pub}", "error: a policy has no tags\n"),
        ("{file: .bulla/prod.pub, controllerNamespace: A}", "error: controllerNamespace is no name of a namespace\n"),
    ] {
        message(&recipient(fields), wanted);
    }
    for name in ["on", "A", "a.b", "rbx4qtm7w2hd5kcaa"] {
        let text = format!("version: 1\nrecipients:\n  {name}: {{file: .bulla/prod.pub}}\n");
        message(&text, "name a recipient\n  --> .bulla.yaml:3:3\n");
    }
    let rules = |rule: &str| format!("version: 1\nrecipients:\n  a: {{file: .bulla/prod.pub}}\nrules:\n  - {rule}\n");
    for (rule, wanted) in [
        ("{path: a}", "error: a rule lacks the field \"recipients\"\n"),
        ("{path: a, recipients: []}", "error: a rule names at least one recipient\n"),
        ("{path: a, recipients: [b]}", "error: there is no recipient \"b\"\n"),
        ("{path: a, recipients: [a, a]}", "error: a is there twice\n"),
        ("{path: '!a', recipients: [a]}", "error: path: \"!a\" is no glob: "),
        ("{path: '../a', recipients: [a]}", "error: path: \"../a\" is no glob: "),
        ("{path: 'a[', recipients: [a]}", "error: path: \"a[\" is no glob: "),
        ("{path: '', recipients: [a]}", "error: path: the glob is empty\n"),
        ("{path: a, recipients: [a], scope: wide}", "error: scope is strict, namespace-wide or cluster-wide\n"),
        ("{path: a, recipients: [a], namespace: A_b}", "error: namespace is no name of a namespace\n"),
    ] {
        message(&rules(rule), wanted);
    }
    for (rest, wanted) in [
        ("policy: {maxKeyAge: 400}", "error: maxKeyAge is a number, not text\n"),
        ("policy: {maxKeyAge: 1h1d}", "error: maxKeyAge is no duration"),
        ("policy: {maxKeyAge: 0d}", "error: maxKeyAge is no duration"),
        ("policy: {allowClassical: 1}", "error: allowClassical is true or false\n"),
        ("check: {baseline: ../b}", "error: baseline leaves the repository\n"),
        (
            "check: {exceptions: [{rule: BUL4, path: a, reason: b}]}",
            "error: rule is the code of a finding, as BUL004\n",
        ),
        ("check: {exceptions: [{rule: BUL004, path: a, reason: ' '}]}", "error: an exception has a reason\n"),
        (
            "check: {exceptions: [{rule: BUL004, path: a, reason: b, expires: 2027-02-29}]}",
            "error: expires is no date\n",
        ),
        ("- a", "error: "),
        ("rules: {}", "error: rules is a mapping, where a list belongs\n"),
        ("---\nversion: 1", "error: a policy is one document\n"),
    ] {
        message(&format!("version: 1\n{rest}\n"), wanted);
    }
    message("", "error: the policy is empty\n");
    message("rules: []\n", "error: the policy lacks the field \"version\"\n");
    message("version: '1'\n", "error: version is a number: 1\n");
    // What a terminal would obey is not repeated.
    let sandbox = repository();
    sandbox.write(".bulla.yaml", "version: 1\nrulez: \"a\u{202e}b\u{9b}31m\"\n");
    let run = set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]);
    assert!(!run.err.contains(['\u{202e}', '\u{9b}', '\u{1b}']), "{:?}", run.err);
}

#[test]
fn hostile_texts() {
    let try_bytes = |bytes: &[u8], wanted: &str| {
        let sandbox = repository();
        sandbox.write(".bulla.yaml", bytes);
        let run = set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]);
        assert!(run.code == 1 && run.err.contains(wanted), "{}", run.err);
    };
    try_bytes(b"version: 1\n\xff\n", "not UTF-8");
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (one, other) in ('b'..='i').zip('a'..='h') {
        bomb.push_str(&format!("{one}: &{one} [{}]\n", vec![format!("*{other}"); 10].join(",")));
    }
    try_bytes(bomb.as_bytes(), "error: ");
    try_bytes("[".repeat(100_000).as_bytes(), "error: ");
    // A hundred megabytes are not even read.
    let sandbox = repository();
    let file = std::fs::File::create(sandbox.path(".bulla.yaml")).expect("a file");
    file.set_len(100 << 20).expect("a length");
    set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"])
        .fails(1, "error: .bulla.yaml has 104857600 bytes; a policy has at most 1024 KiB\n");
    // A byte-order mark is none of the text.
    sandbox.write(".bulla.yaml", format!("\u{feff}{POLICY}"));
    set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]).well();
}

#[test]
fn pins_stay_in_the_repository() {
    let sandbox = repository();
    let pin = sandbox.path(".bulla/prod.pub");
    let outside = Sandbox::new();
    let tried = |make: &dyn Fn(), wanted: &str| {
        _ = std::fs::remove_file(&pin);
        make();
        let run = set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]);
        assert!(run.code != 0 && run.err.contains(wanted), "{wanted}: {}", run.err);
    };
    tried(
        &|| (),
        "error: the recipient prod: can't read .bulla/prod.pub: there is no such file\n  --> .bulla.yaml:4:16\n",
    );
    let link = |to: &std::path::Path| std::os::unix::fs::symlink(to, &pin).expect("a link");
    tried(&|| link(&outside.path("key.txt.pub")), "is a link that leads out of the repository\n");
    tried(&|| std::fs::create_dir(&pin).expect("a folder"), "is no regular file\n");
    std::fs::remove_dir(&pin).expect("removes");
    let fifo = || {
        let status = std::process::Command::new("mkfifo").arg(&pin).status().expect("mkfifo");
        assert!(status.success());
    };
    tried(&fifo, "is no regular file\n");
    let at = pin.as_path();
    let text = |text: String| move || std::fs::write(at, &text).expect("writes");
    tried(&text(outside.read("key.txt")), "private key");
    tried(&text(format!("{}{}", outside.read("key.txt.pub"), sandbox.read("key.txt.pub"))), "a pin is one\n");
    tried(&text("x".repeat(70_000)), "has 70000 bytes");
    tried(&text(sandbox.read(".bulla/recovery.pub")), "has two names");
    // A link inside is none of these.
    std::fs::remove_file(&pin).expect("removes");
    link(std::path::Path::new("alice.pub"));
    let run = set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]).well();
    assert!(run.err.contains("for prod, recovery"), "{}", run.err);
}

#[test]
fn a_nested_policy_is_not_used() {
    let sandbox = repository();
    let attack = "version: 1\nrecipients: {prod: {file: key.txt.pub}}\nrules: [{path: '**', recipients: [prod]}]\n";
    sandbox.write("apps/shop/prod/.bulla.yaml", attack);
    let run = set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]).well();
    assert_eq!(
        run.err,
        "warning: apps/shop/prod/.bulla.yaml is not used: only the .bulla.yaml at the repository's root holds\ncreated \
         apps/shop/prod/db.sealed.yaml: SealedSecret shop/db, 1 item, for prod, recovery\n"
    );
    sandbox.run(&["unseal", "apps/shop/prod/db.sealed.yaml", "-i", "prod.txt"]).well();
    // Nor where the root has none, nor one above the root.
    std::fs::rename(sandbox.path(".bulla.yaml"), sandbox.path("aside")).expect("moves");
    let run = set(&sandbox, "apps/shop/prod/new.yaml", &["-n", "shop"]);
    assert!(run.code == 1 && run.err.contains("error: no recipient for apps/shop/prod/new.yaml"), "{}", run.err);
    std::fs::create_dir(sandbox.path("other/.git")).expect("a folder");
    std::fs::rename(sandbox.path("aside"), sandbox.path(".bulla.yaml")).expect("moves");
    let run = set(&sandbox, "other/new.yaml", &["-n", "shop"]);
    assert!(run.err.starts_with("error: no recipient for other/new.yaml: neither -r nor -R"), "{}", run.err);
    // Outside a repository nothing says which of two counts.
    std::fs::remove_dir(sandbox.path(".git")).expect("removes");
    let run = set(&sandbox, "apps/shop/prod/new.yaml", &["-n", "shop"]);
    assert!(run.code == 1 && run.err.starts_with("error: there are several policies above "), "{}", run.err);
    let run = set(&sandbox, "apps/shop/prod/new.yaml", &["-n", "shop", "--policy", ".bulla.yaml"]).well();
    assert!(run.err.contains("for prod, recovery"), "{}", run.err);
}

#[test]
fn a_link_does_not_bring_a_file_under_another_rule() {
    let sandbox = repository();
    std::os::unix::fs::symlink("../dev", sandbox.path("apps/shop/prod/sub")).expect("a link");
    let run = set(&sandbox, "apps/shop/prod/sub/db.sealed.yaml", &["-n", "shop"]);
    run.fails(
        1,
        "error: apps/shop/prod/sub/db.sealed.yaml is really apps/shop/dev/db.sealed.yaml, for which another rule of \
         .bulla.yaml holds\nhelp: name the file itself\n",
    );
    let outside = Sandbox::empty();
    std::os::unix::fs::symlink(outside.path("."), sandbox.path("apps/shop/prod/out")).expect("a link");
    let run = set(&sandbox, "apps/shop/prod/out/db.sealed.yaml", &["-n", "shop"]);
    assert!(run.code == 1, "{}", run.err);
    assert!(outside.names().is_empty());
}

#[test]
fn classical_recipients_where_they_are_forbidden() {
    let sandbox = repository();
    sandbox.run(&["keygen", "-w", "old", "--classical"]).well();
    sandbox.write(".bulla.yaml", format!("{POLICY}policy: {{allowClassical: false}}\n"));
    let run = set(&sandbox, "other/a.yaml", &["-n", "shop", "-R", "old.pub", "--allow-mixed"]);
    assert!(run.code == 1 && run.err.contains("is classical, and the policy allows no classical"), "{}", run.err);
}

#[test]
fn resealing_goes_by_each_files_rule() {
    let sandbox = repository();
    set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]).well();
    set(&sandbox, "apps/shop/dev/db.sealed.yaml", &[]).well();
    sandbox.run(&["keygen", "-w", "new.txt"]).well();
    std::fs::copy(sandbox.path("new.txt.pub"), sandbox.path(".bulla/prod.pub")).expect("copies");
    let dev = sandbox.bytes("apps/shop/dev/db.sealed.yaml");
    let before = sandbox.read("apps/shop/prod/db.sealed.yaml");
    // A file of before counts as covered: it is one name.
    set(&sandbox, "apps/shop/prod/db.sealed.yaml", &[]).well();
    let run = sandbox.run(&["reseal", "apps", "-i", "recovery.txt"]).well();
    assert!(run.err.contains("resealed 1 of 2 files") || run.err.contains("0 of 2 files"), "{}", run.err);
    assert_eq!(sandbox.bytes("apps/shop/dev/db.sealed.yaml"), dev);
    sandbox.write("apps/shop/prod/db.sealed.yaml", &before);
    sandbox.run(&["reseal", "apps", "-i", "recovery.txt"]).well();
    let after = sandbox.read("apps/shop/prod/db.sealed.yaml");
    assert_eq!(before.lines().zip(after.lines()).filter(|(a, b)| a != b).count(), 1);
    sandbox.run(&["unseal", "apps/shop/prod/db.sealed.yaml", "-i", "new.txt"]).well();
    // Nobody becomes a reader unseen.
    let more = POLICY.replace("recipients: [prod]", "recipients: [prod, alice]");
    sandbox.write(".bulla.yaml", more);
    let bytes = sandbox.bytes("apps/shop/prod/db.sealed.yaml");
    for fresh in [&[][..], &["--fresh"]] {
        let run = sandbox.run(&[&["reseal", "apps", "-i", "recovery.txt"][..], fresh].concat());
        assert!(run.code == 1 && run.err.contains("is sealed for alice yet"), "{}", run.err);
        assert!(run.err.contains("help: if it is meant: --add-recipient alice\n"), "{}", run.err);
        assert_eq!(sandbox.bytes("apps/shop/prod/db.sealed.yaml"), bytes);
    }
    let run = sandbox.run(&["reseal", "apps", "-i", "recovery.txt", "--add-recipient", "alice"]).well();
    assert!(run.err.starts_with("adding alice r"), "{}", run.err);
    sandbox.run(&["unseal", "apps/shop/prod/db.sealed.yaml", "-i", "alice.txt"]).well();
}

#[test]
fn adding_a_recipient_touches_nothing_else() {
    let texts = [
        POLICY.to_owned(),
        POLICY.replace('\n', "\r\n"),
        POLICY.trim_end().to_owned(),
        format!("{POLICY}\n# the end\n"),
        "{version: 1, recipients: {}, rules: []}\n".to_owned(),
        "version: 1\n".to_owned(),
        "version: 1\nrecipients:\nrules:\n".to_owned(),
        "version: 1\nrecipients:\n  prod:\n    file: .bulla/prod.pub # theirs\n\n# between\nrules:\n- path: a/**\n  recipients:\n  - prod\n"
            .to_owned(),
    ];
    for text in texts {
        for rule in ["a/**", "apps/*/prod/**", "*.new"] {
            let sandbox = repository();
            sandbox.write(".bulla.yaml", &text);
            let run = sandbox.run(&["recipients", "add", "me", "key.txt.pub", "--rule", rule]);
            assert_eq!(run.code, 0, "{text}\n{}", run.err);
            let after = sandbox.read(".bulla.yaml");
            // All that was there is there still, in its order.
            let mut rest = after.as_str();
            for line in text.lines().filter(|line| !line.contains(['[', '{'])) {
                let at = rest.find(line).unwrap_or_else(|| panic!("{line:?} is gone from\n{after}"));
                rest = &rest[at + line.len()..];
            }
            let run = sandbox.run(&["recipients", "show", "-o", "json"]).well();
            let shown: serde_json::Value = serde_json::from_str(&run.text()).expect("JSON");
            let me = shown["recipients"].as_array().expect("a list").iter().find(|r| r["name"] == "me").expect("me");
            assert_eq!(me["rules"], serde_json::json!([rule]), "{after}");
            assert_eq!(sandbox.run(&["recipients", "add", "me", "key.txt.pub", "--always"]).code, 1);
        }
    }
}

#[test]
fn recipients_of_the_repository_are_shown() {
    let sandbox = repository();
    let run = sandbox.run(&["recipients"]).well();
    let lines: Vec<_> = run.text().lines().map(str::to_owned).collect();
    assert!(lines[0].starts_with("NAME      FINGERPRINT        KIND    CREATED     FROM"), "{lines:?}");
    assert!(lines[1].starts_with("prod      r") && lines[1].ends_with("apps/*/prod/**"), "{lines:?}");
    assert!(lines[3].ends_with("everything") && lines.len() == 4, "{lines:?}");
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path(".git")).expect("a folder");
    let run = sandbox.run(&["init", "key.txt.pub", "--as", "me", "--rule", "apps/**"]).well();
    assert!(run.err.starts_with("me      r") && run.err.contains("wrote .bulla.yaml and .bulla/me.pub"), "{}", run.err);
    sandbox.run(&["init", "key.txt.pub", "--as", "on"]).fails(
        2,
        "error: \"on\" can't name a recipient\nhelp: names are [a-z]([-a-z0-9]{0,61}[a-z0-9])?, and no word of YAML: --as \
         NAME\n",
    );
}

#[test]
fn the_documented_example_and_the_published_schema_are_what_is_read() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = std::fs::read_to_string(docs.join("policy.md")).expect("the page");
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let sandbox = repository();
    sandbox.write(".bulla.yaml", example);
    sandbox.run(&["keygen", "-w", "dr.txt", "--recipient", ".bulla/dr.pub"]).well();
    let run = set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]).well();
    assert!(run.err.ends_with("for prod, dr, recovery\n"), "{}", run.err);
    // The same fields in both, and no others in either.
    let schema = std::fs::read_to_string(docs.join("policy.schema.json")).expect("the schema");
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    let recipient = "recipients:\n  a: {file: .bulla/prod.pub}\n";
    for (pointer, text) in [
        ("", "zzz: 1\n".to_owned()),
        ("/properties/recipients/additionalProperties", "recipients:\n  a: {zzz: 1}\n".to_owned()),
        ("/properties/rules/items", format!("{recipient}rules:\n  - {{zzz: 1}}\n")),
        ("/properties/policy", "policy: {zzz: 1}\n".to_owned()),
        ("/properties/check", "check: {zzz: 1}\n".to_owned()),
        ("/properties/check/properties/exceptions/items", "check: {exceptions: [{zzz: 1}]}\n".to_owned()),
    ] {
        let object = schema.pointer(pointer).expect("an object of the schema");
        assert_eq!(object["additionalProperties"], serde_json::json!(false), "{pointer}");
        let mut fields: Vec<&str> =
            object["properties"].as_object().expect("fields").keys().map(String::as_str).collect();
        fields.sort_unstable();
        sandbox.write(".bulla.yaml", format!("version: 1\n{text}"));
        let run = set(&sandbox, "apps/shop/prod/x.sealed.yaml", &["-n", "shop"]);
        assert!(run.code == 1 && run.err.contains("has no field \"zzz\"\n"), "{}", run.err);
        let told = run.err.split("help: its fields are ").nth(1).expect("the fields").trim();
        let mut told: Vec<&str> = told.split(", ").collect();
        told.sort_unstable();
        assert_eq!(told, fields, "{pointer}");
    }
}

#[test]
fn who_reads_a_file_besides_its_rule_is_told_with_the_remedy() {
    let sandbox = repository();
    let file = "apps/shop/prod/db.sealed.yaml";
    set(&sandbox, file, &["-n", "shop", "-r", "prod", "-r", "alice"]).well();
    let before = sandbox.bytes(file);
    let run = set(&sandbox, file, &[]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("who is not among the recipients of its rule and would lose the value\n"), "{}", run.err);
    assert!(
        run.err.contains("help: let the rule of .bulla.yaml name that recipient; or, for this once,"),
        "{}",
        run.err
    );
    assert!(!run.err.contains(".pub"), "{}", run.err);
    assert_eq!(sandbox.bytes(file), before);
    // The remedy works.
    set(&sandbox, file, &["-r", "prod", "-r", "alice"]).well();
    // Taking a value out needs no policy and warns of nothing.
    std::fs::remove_file(sandbox.path(".bulla.yaml")).expect("removes");
    let run = sandbox.run(&["unset", file, "password"]).well();
    assert!(!run.err.contains("warning"), "{}", run.err);
}

#[test]
fn who_opens_old_lines_is_asked_without_recipients_that_the_rules_know() {
    let sandbox = repository();
    set(&sandbox, "apps/shop/prod/db.sealed.yaml", &["-n", "shop"]).well();
    let run = sandbox.run(&["reseal", "apps"]);
    assert!(run.code == 2 && run.err.ends_with("bulla reseal PATH -i OLD\n"), "{}", run.err);
}

#[test]
fn a_policy_of_another_user_is_not_used() {
    use std::os::unix::fs::chown;
    let sandbox = repository();
    if chown(sandbox.path(".bulla.yaml"), Some(65534), None).is_err() {
        // Only root can give a file away.
        return;
    }
    let file = "apps/shop/prod/db.sealed.yaml";
    let run = set(&sandbox, file, &["-n", "shop"]);
    assert_eq!(run.code, 1);
    assert!(run.err.starts_with("error: .bulla.yaml belongs to another user (65534), who could have"), "{}", run.err);
    assert!(!sandbox.path(file).exists());
    set(&sandbox, file, &["-n", "shop", "--policy", ".bulla.yaml"]).well();
    // The same for a key.
    chown(sandbox.path(".bulla.yaml"), Some(0), None).expect("root");
    chown(sandbox.path(".bulla/prod.pub"), Some(65534), None).expect("root");
    let run = set(&sandbox, file, &[]);
    assert!(run.code == 1 && run.err.contains(".bulla/prod.pub belongs to another user (65534)"), "{}", run.err);
}
