//! Help, manual pages, completions, and kubectl.

use crate::sandbox::{DB, Run, Sandbox, finish, program};

#[test]
fn the_help_has_groups_and_all_commands() {
    let sandbox = Sandbox::empty();
    let run = sandbox.run(&["help"]).well();
    let text = run.text();
    for part in
        ["Every day, no key:\n  set ", "With an identity:\n  keygen ", "The cluster:\n  keys ", "  help ", "Options:\n"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(sandbox.run(&["--help"]).well().text().lines().next(), text.lines().next());
    let run = sandbox.run(&[]);
    assert!(run.code == 2 && run.out.is_empty() && run.err.contains("Every day, no key:\n"), "{}", run.err);
    assert!(sandbox.run(&["help", "set"]).well().text().contains("Examples:\n"));
}

#[test]
fn manual_pages_are_written() {
    let sandbox = Sandbox::empty();
    assert!(sandbox.run(&["man"]).well().text().contains(".TH bulla 1"));
    std::fs::create_dir(sandbox.path("man1")).expect("a folder");
    sandbox.run(&["man", "man1"]).well();
    for page in ["bulla.1", "bulla-set.1", "bulla-keys-list.1"] {
        assert!(sandbox.path("man1").join(page).exists(), "{page}");
    }
    let run = sandbox.run(&["man", "gone"]);
    assert!(run.code == 3 && run.err.contains("can't write into gone"), "{}", run.err);
}

fn complete(sandbox: &Sandbox, words: &[&str]) -> String {
    let mut command = sandbox.bulla(&[&["--", "bulla"][..], words].concat());
    command.env("BULLA_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    command.env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true");
    finish(command, b"").well().text()
}

#[test]
fn items_and_recipients_are_completed() {
    let sandbox = Sandbox::new();
    sandbox.with_input(&["seal", "-w", "s.yaml", "-R", "key.txt.pub"], DB).well();
    assert_eq!(complete(&sandbox, &["set", "s.yaml", "pass"]), "password");
    assert_eq!(complete(&sandbox, &["unseal", "s.yaml", "--key", ""]), "password\nusername");
    assert_eq!(complete(&sandbox, &["set", "s.y"]), "s.yaml");
    assert!(complete(&sandbox, &["un"]).contains("unset\nunseal"));
    sandbox.write("prod.pub", sandbox.read("key.txt.pub"));
    std::fs::create_dir(sandbox.path(".git")).expect("a folder");
    let policy = "version: 1\nrecipients:\n  prod: {file: prod.pub}\nrules:\n  - {path: '**', recipients: [prod]}\n";
    sandbox.write(".bulla.yaml", policy);
    assert_eq!(complete(&sandbox, &["set", "s.yaml", "-r", "p"]), "prod");
    // What can't be read offers nothing and breaks nothing.
    sandbox.write("s.yaml", "\0[hunter2");
    assert_eq!(complete(&sandbox, &["set", "s.yaml", "pass"]), "");
}

#[test]
fn shells_get_scripts() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(sandbox.run(&["completions", shell]).well().text().contains("BULLA_COMPLETE"), "{shell}");
    }
    sandbox.with_input(&["seal", "-w", "s.yaml", "-R", "key.txt.pub"], DB).well();
    let mut shell = sandbox.command("bash");
    let folder = program().parent().expect("a folder");
    shell.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").expect("a path")));
    shell.args(["-c", "source <(bulla completions bash); COMP_WORDS=(bulla set s.yaml user); COMP_CWORD=3; COMP_TYPE=9; _clap_complete_bulla bulla user s.yaml; echo \"${COMPREPLY[@]}\""]);
    assert_eq!(finish(shell, b"").well().text().trim(), "username");
}

fn kubectl(sandbox: &Sandbox, args: &[&str]) -> Run {
    std::fs::create_dir_all(sandbox.path("bin")).expect("a folder");
    for name in ["kubectl-bulla", "kubectl_complete-bulla"] {
        let link = sandbox.path("bin").join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(program(), link).expect("links");
        }
    }
    let mut command = sandbox.command("kubectl");
    let path = std::env::var("PATH").expect("a path");
    command.args(args).env("PATH", format!("{}:{path}", sandbox.path("bin").display()));
    finish(command, b"")
}

#[test]
fn kubectl_runs_and_completes_it() {
    let sandbox = Sandbox::new();
    sandbox.with_input(&["seal", "-w", "s.yaml", "-R", "key.txt.pub"], DB).well();
    let run = kubectl(&sandbox, &["bulla", "unseal", "s.yaml", "-i", "key.txt", "--key", "password"]).well();
    assert_eq!(run.text(), "hunter2");
    let run = kubectl(&sandbox, &["bulla", "seal", "gone.yaml", "-R", "key.txt.pub"]);
    assert_eq!((run.code, run.out.len()), (3, 0), "{}", run.err);
    let run = kubectl(&sandbox, &["bulla", "set", "--help"]).well();
    assert!(run.text().contains("Usage: kubectl bulla set "), "{}", run.text());
    let run = kubectl(&sandbox, &["__complete", "bulla", "set", "s.yaml", "pass"]).well();
    assert_eq!(run.text(), "password\n:4\n");
}

#[test]
fn what_can_not_be_read_is_told_in_json_too() {
    let sandbox = Sandbox::empty();
    for args in [
        &["reseal", "-o", "json"][..],
        &["diff", "--output=json", "--nonsense"],
        &["check", "-ojson", "--staged", "--live"],
    ] {
        let run = sandbox.run(args);
        assert_eq!(run.code, 2, "{}", run.err);
        assert!(run.err.starts_with("error: "), "{}", run.err);
        let document: serde_json::Value = serde_json::from_slice(&run.out).expect("JSON");
        assert!(document["schemaVersion"] == 1 && document["errors"][0]["message"].is_string(), "{document}");
    }
    // Nobody asked for it here; and help is no error.
    assert_eq!(sandbox.run(&["reseal"]).text(), "");
    assert!(sandbox.run(&["reseal", "-o", "json", "--help"]).well().text().contains("--live"));
}
