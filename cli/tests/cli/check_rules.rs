//! The pages of the rules: what is called bad gives that rule's finding and no other, what is called good gives none, and the
//! commands that mend it do.
//!
//! Sealed texts, keys and tokens are shortened in the pages; here they are made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::sandbox::{DB, Sandbox, finish, program};

/// Rules whose pages show what a cluster says; `tests/cluster/check.rs` has them.
const WITH_A_CLUSTER: &[&str] = &["BUL112"];

/// Rules whose pages name no files yet.
const WITHOUT_FILES: &[&str] = &["BUL016", "BUL017", "BUL018"];

/// What a rule never comes without.
const BESIDE: &[(&str, &str)] = &[("BUL109", "BUL001")];

/// A part of a page: files by their names, and commands that are marked.
#[derive(Default)]
struct Part {
    files: Vec<(String, String)>,
    commands: Vec<(String, String)>,
}

fn parts(page: &str) -> [Part; 3] {
    ["## Bad\n", "## Good\n", "## Remedy\n"].map(|head| {
        let text = page.split(head).nth(1).and_then(|rest| rest.split("\n## ").next()).expect(head);
        let mut part = Part::default();
        let (mut name, mut mark) = (None, None);
        let mut block: Option<String> = None;
        for line in text.lines() {
            match (&mut block, line) {
                (Some(text), "```") => {
                    if let Some(name) = name.take() {
                        part.files.push((name, std::mem::take(text)));
                    } else if let Some(mark) = mark.take() {
                        part.commands.push((mark, std::mem::take(text)));
                    }
                    block = None;
                }
                (Some(text), line) => {
                    text.push_str(line);
                    text.push('\n');
                }
                (None, line) if line.starts_with("```") => block = Some(String::new()),
                (None, line) if line.starts_with("<!-- test: ") => {
                    mark =
                        line.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->")).map(str::to_owned);
                }
                (None, line) if line.starts_with('`') && line.ends_with('`') => {
                    name = Some(line.trim_matches('`').to_owned());
                }
                (None, _) => {}
            }
        }
        part
    })
}

/// What stands for the shortened texts, and the keys that they are of.
struct Texts {
    /// Holds the keys.
    sandbox: Sandbox,
    replace: Vec<(&'static str, String)>,
}

fn texts() -> Texts {
    let sandbox = Sandbox::empty();
    for name in ["prod", "recovery", "dr"] {
        sandbox.run(&["keygen", "-w", &format!("{name}.txt"), "--recipient", &format!("{name}.pub")]).well();
    }
    let classical =
        bulla::recipient::Identity::generate(bulla::recipient::RecipientKind::Classical).expect("randomness");
    sandbox.write("classical.pub", format!("{}\n", classical.recipient().as_str()));
    let mut replace: Vec<(&'static str, String)> = Vec::new();
    let names = [("prod", "r4b…"), ("recovery", "r9x…"), ("dr", "r7c…"), ("classical", "rcl…")];
    // A data key each: `kq3…` is the right one, `k8m…` of another sealing of the same.
    for (item, namespace, extra) in [
        ("kq3…", "shop", ["-R", "prod.pub", "-R", "recovery.pub", "-R", "dr.pub"].as_slice()),
        ("k8m…", "shop", &["-R", "prod.pub"]),
        ("kcl…", "shop", &["-R", "classical.pub"]),
        ("kcw…", "shop", &["-R", "prod.pub", "--scope", "cluster-wide"]),
        ("ksd…", "shop-dev", &["-R", "prod.pub"]),
    ] {
        sandbox.write(
            "in.yaml",
            DB.replace("  username: admin\n", "").replace("namespace: shop", &format!("namespace: {namespace}")),
        );
        let sealed = sandbox.run(&[&["seal", "in.yaml", "-o", "json"], extra].concat()).well();
        let object: Value = serde_json::from_slice(&sealed.out).expect("JSON");
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).expect(pointer).to_owned();
        replace.push((Box::leak(format!("{item}:AQ…").into_boxed_str()), text("/spec/items/password/sealed")));
        for (name, line) in object["spec"]["envelopes"].as_object().expect("envelopes") {
            let (_, short) = names.iter().find(|(known, _)| known == name).expect("a name");
            let short = Box::leak(format!("{item}:{short}:YWdl…").into_boxed_str());
            replace.push((short, line.as_str().expect("text").to_owned()));
        }
    }
    let last = |name: &str| sandbox.read(name).lines().last().expect("a line").to_owned();
    replace.push(("age1pq…", last("prod.pub")));
    replace.push(("age1…", last("classical.pub")));
    let identity = sandbox.read("prod.txt");
    let secret = identity.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).expect("an identity").to_owned();
    replace.push(("AGE-SECRET-KEY-…", secret));
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let claims = r#"{"iss":"kubernetes/serviceaccount","kubernetes.io/serviceaccount/namespace":"ci","sub":"system:serviceaccount:ci:robot"}"#;
    let jwt =
        format!("{}.{}.{}", encode(r#"{"alg":"RS256","kid":"a"}"#), encode(claims), encode(&"signature".repeat(30)));
    replace.push(("eyJhbGciOiJSUzI1NiIs…", jwt));
    let key: Vec<u8> = [b"openssh-key-v1\0".as_slice(), &[0, 0, 0, 4], b"none", &[7; 300]].concat();
    replace.push(("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ…", BASE64_STANDARD.encode(key)));
    replace.push(("AAAAC3NzaC1lZDI1NTE5…", format!("AAAAC3NzaC1lZDI1NTE5{}", "A".repeat(48))));
    Texts { sandbox, replace }
}

impl Texts {
    /// A repository with a part's files, and the keys that its policy pins.
    fn repository(&self, part: &Part) -> Sandbox {
        let sandbox = Sandbox::empty();
        sandbox.git(&["init", "-q", "-b", "main"]);
        self.write(&sandbox, part);
        sandbox
    }

    fn write(&self, sandbox: &Sandbox, part: &Part) {
        for (name, text) in &part.files {
            let mut text = text.clone();
            for (short, long) in &self.replace {
                text = text.replace(short, long);
            }
            if let Some(folder) = Path::new(name).parent() {
                std::fs::create_dir_all(sandbox.path("").join(folder)).expect("makes");
            }
            sandbox.write(name, text);
        }
        let Some((_, policy)) = part.files.iter().find(|(name, _)| name == ".bulla.yaml") else { return };
        for name in ["prod", "recovery", "dr"].iter().filter(|name| policy.contains(&format!(".bulla/{name}.pub"))) {
            let pin = format!(".bulla/{name}.pub");
            if !sandbox.path(&pin).exists() {
                std::fs::create_dir_all(sandbox.path(".bulla")).expect("makes");
                sandbox.write(&pin, self.sandbox.read(&format!("{name}.pub")));
            }
        }
    }
}

fn found(sandbox: &Sandbox) -> BTreeSet<String> {
    let run = sandbox.run(&["check", "-o", "json", "--today", "2026-12-01"]);
    let json: Value = serde_json::from_slice(&run.out).expect("JSON");
    let findings = json["findings"].as_array().expect("findings");
    findings.iter().map(|one| one["rule"].as_str().expect("a rule").to_owned()).collect()
}

fn pages() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules");
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("docs/rules").map(|entry| entry.expect("an entry").path()).collect();
    pages.sort();
    let id = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let all = pages.iter().map(|path| (id(path), std::fs::read_to_string(path).expect("a page")));
    all.filter(|(id, _)| id.starts_with("BUL") && !WITH_A_CLUSTER.contains(&id.as_str())).collect()
}

#[test]
fn bad_examples_give_their_finding_and_good_ones_none() {
    let texts = texts();
    let mut wrong = Vec::new();
    for (id, page) in pages() {
        let [bad, good, _] = parts(&page);
        if bad.files.is_empty() && WITHOUT_FILES.contains(&id.as_str()) {
            continue;
        }
        if bad.files.is_empty() || good.files.is_empty() {
            wrong.push(format!("{id}: an example needs the name of its file in backquotes on a line before it"));
            continue;
        }
        let found_bad = found(&texts.repository(&bad));
        let beside = BESIDE.iter().filter(|(rule, _)| *rule == id).map(|(_, beside)| (*beside).to_owned());
        if found_bad != beside.chain([id.clone()]).collect() {
            wrong.push(format!("{id}: the bad example gives {found_bad:?}"));
        }
        let found_good = found(&texts.repository(&good));
        if !found_good.is_empty() {
            wrong.push(format!("{id}: the good example gives {found_good:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn remedies_mend() {
    let texts = texts();
    let mut ran = 0;
    for (id, page) in pages() {
        let [bad, good, remedy] = parts(&page);
        let Some((mark, commands)) = remedy.commands.first() else { continue };
        let sandbox = texts.repository(&bad);
        if !sandbox.path(".bulla.yaml").exists() {
            let policy = "version: 1\nrecipients:\n  prod: {file: .bulla/prod.pub}\nrules:\n  - {path: '**', recipients: [prod]}\n";
            texts.write(&sandbox, &Part { files: vec![(".bulla.yaml".into(), policy.into())], ..Part::default() });
        }
        sandbox.git(&["add", "-A"]);
        sandbox.git(&["commit", "-qm", "bad"]);
        // As it should be: not in the repository.
        std::fs::write(sandbox.path(".git/info/exclude"), "identity.txt\n").expect("writes");
        sandbox.write("identity.txt", texts.sandbox.read("prod.txt"));
        let mut command = sandbox.command("sh");
        let path = std::env::var("PATH").expect("a path");
        let folder = program().parent().expect("a folder").display().to_string();
        command.env("PATH", format!("{folder}:{path}")).env("PASSWORD", "hunter3-new").args(["-ec", commands]);
        let run = finish(command, b"");
        assert_eq!(run.code, 0, "{id}: {}{}", run.text(), run.err);
        match mark.as_str() {
            "mends" => {}
            // The rest is done by hand: what the page calls good.
            "runs" => texts.write(&sandbox, &good),
            other => panic!("{id}: there is no mark {other}"),
        }
        assert_eq!(found(&sandbox), BTreeSet::new(), "{id}: after {commands}");
        ran += 1;
    }
    assert!(ran >= 15, "{ran}");
}

#[test]
fn every_rule_is_explained_without_the_marks_of_tests() {
    let sandbox = Sandbox::empty();
    let list = sandbox.run(&["check", "--explain"]).well().text();
    let ids: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(ids.len() >= 32, "{ids:?}");
    for id in ids {
        let text = sandbox.run(&["check", "--explain", id]).well().text();
        assert!(text.starts_with(&format!("# {id}: ")), "{text}");
        assert!(!text.contains("<!--"), "{text}");
    }
}
