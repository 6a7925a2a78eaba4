//! What is shipped for other programs to run `bulla check` with: done as they would do it.

use std::path::{Path, PathBuf};

use bulla::manifest::{Node, Stream};

use crate::sandbox::{CONFIG, DB, Run, Sandbox, finish, program};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).expect(name)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for entry in std::fs::read_dir(from).expect("lists") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).expect("copies");
        }
    }
}

/// With `bulla` on PATH.
fn in_shell(sandbox: &Sandbox, script: &str, env: &[(&str, &str)]) -> Run {
    let mut command = sandbox.command("bash");
    let folder = program().parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").expect("a path");
    command.env("PATH", format!("{folder}:{path}")).envs(env.iter().copied()).args(["-eo", "pipefail", "-c", script]);
    finish(command, b"")
}

#[test]
fn the_examples_are_repositories_in_which_nothing_is_found() {
    for name in ["argocd", "flux"] {
        let sandbox = Sandbox::empty();
        copy(&root().join("deploy/examples").join(name), &sandbox.path(""));
        sandbox.git(&["init", "-q", "-b", "main"]);
        sandbox.git(&["add", "-A"]);
        let run = sandbox.run(&["check"]).well();
        assert!(run.err.contains("no findings"), "{name}: {}", run.err);
        sandbox.run(&["check", "--staged"]).well();
        sandbox.git(&["commit", "-qm", "the example"]);
        // What its README does.
        let run = in_shell(
            &sandbox,
            "printf hunter2 | bulla set apps/shop/db.sealed.yaml password && bulla diff && bulla check",
            &[],
        );
        assert_eq!(run.code, 0, "{name}: {}{}", run.text(), run.err);
        assert!(run.text().contains("~ password"), "{name}: {}", run.text());
        // And what it is there for.
        sandbox.write("apps/shop/more.yaml", DB);
        assert!(sandbox.run(&["check"]).text().contains("error[BUL001]: plaintext Secret shop/db"), "{name}");
    }
    // The hook that they name is there.
    let hooks = Stream::read_any(&read(".pre-commit-hooks.yaml")).expect("YAML");
    let id = hooks.documents()[0].root.items().expect("hooks")[0].get("id").and_then(Node::scalar).expect("an id");
    for name in ["argocd", "flux"] {
        assert!(read(&format!("deploy/examples/{name}/.pre-commit-config.yaml")).contains(&format!("- id: {id}\n")));
    }
}

#[test]
fn the_action_tells_findings_as_annotations_and_writes_the_report() {
    let action = Stream::read_any(&read("action.yml")).expect("YAML");
    let steps = action.documents()[0].root.get("runs").and_then(|runs| runs.get("steps")).and_then(Node::items);
    let script = |name: &str| {
        let step = steps.expect("steps").iter().find(|step| step.get("name").and_then(Node::scalar) == Some(name));
        step.and_then(|step| step.get("run")).and_then(Node::scalar).expect(name).to_owned()
    };
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q", "-b", "main"]);
    sandbox.write("config.yaml", CONFIG);
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "1"]);
    // The program is there already.
    assert_eq!(in_shell(&sandbox, &script("the program"), &[("SOURCE", "/nowhere")]).code, 0);
    let check = script("check");
    let clean = [("PATHS", "."), ("RANGE", ""), ("SARIF", "bulla.sarif")];
    let run = in_shell(&sandbox, &check, &clean);
    assert_eq!((run.code, run.text().as_str()), (0, ""), "{}", run.err);
    assert!(sandbox.read("bulla.sarif").contains("\"results\": []"));
    sandbox.write("-x.yaml", DB);
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "2"]);
    let run = in_shell(&sandbox, &check, &clean);
    assert_eq!(run.code, 10, "{}", run.err);
    assert!(run.text().starts_with("::error file=-x.yaml,line=7,col=3,title=BUL001"), "{}", run.text());
    // Names that look like options or commands are neither; more than one path; a range.
    for (paths, range, code) in [
        ("config.yaml -x.yaml", "", 10),
        ("config.yaml", "", 0),
        ("$(touch broken) --fix", "", 3),
        (".", "HEAD~1..HEAD", 10),
        (".", "HEAD..HEAD", 0),
        (".", "--fix", 3),
    ] {
        let run = in_shell(&sandbox, &check, &[("PATHS", paths), ("RANGE", range), ("SARIF", "")]);
        assert_eq!(run.code, code, "{paths} {range}: {}{}", run.text(), run.err);
    }
    assert!(!sandbox.path("broken").exists());
    assert_eq!(sandbox.read("-x.yaml"), DB);
}

#[test]
fn policies_are_valid_by_the_published_schema() {
    let Some(linters) = crate::sandbox::linters() else { return };
    let sandbox = Sandbox::empty();
    let valid = |text: &str| {
        sandbox.write("policy.yaml", text);
        let mut command = sandbox.command(&linters);
        command.args(["schema".into(), root().join("docs/policy.schema.json"), sandbox.path("policy.yaml")]);
        finish(command, b"").code == 0
    };
    let page = read("docs/policy.md");
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    for text in [
        example,
        &read("deploy/examples/argocd/.bulla.yaml"),
        &read("deploy/examples/flux/.bulla.yaml"),
        "version: 1\n",
    ] {
        assert!(valid(text), "{text}");
    }
    for (old, new) in [
        ("version: 1", "version: 2"),
        ("file: .bulla/prod.pub", "file: ../prod.pub.txt"),
        ("file: .bulla/prod.pub", "path: .bulla/prod.pub"),
        ("scope: strict", "scope: wide"),
        ("maxKeyAge: 400d", "maxKeyAge: forever"),
        ("reason: dummy values, ", ""),
        ("expires: 2027-03-31", "expires: 'next spring'"),
    ] {
        assert!(example.contains(old), "{old}");
        assert!(!valid(&example.replace(old, new)), "{old} as {new}");
    }
}

/// Actions of others are named by what can't move.
#[test]
fn workflows_name_actions_by_their_hashes() {
    for name in ["deploy/ci/github-workflow.yaml", "action.yml"] {
        for line in read(name).lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("uses: ")) {
            let reference =
                line.split_whitespace().next().and_then(|word| word.split_once('@')).expect("a reference").1;
            assert!(reference.len() == 40 && reference.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {line}");
        }
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn the_hook_runs_in_pre_commit() {
    let Some(pre_commit) = std::env::var_os("BULLA_PRE_COMMIT") else {
        assert!(std::env::var_os("CI").is_none(), "BULLA_PRE_COMMIT does not name pre-commit");
        eprintln!("skipped: BULLA_PRE_COMMIT does not name pre-commit (cargo xtask test installs it)");
        return;
    };
    let sandbox = Sandbox::empty();
    // What pre-commit clones: this repository, as far as it looks at it.
    sandbox.git(&["init", "-q", "hooks"]);
    sandbox.write("hooks/.pre-commit-hooks.yaml", read(".pre-commit-hooks.yaml"));
    sandbox.git(&["-C", "hooks", "add", "-A"]);
    sandbox.git(&["-C", "hooks", "commit", "-qm", "1"]);
    let hooks = sandbox.path("hooks").display().to_string();
    let script = |script: &str| {
        let cache = sandbox.path("cache").display().to_string();
        let program = pre_commit.to_string_lossy().into_owned();
        let preamble = "cd repo; commit() { git -c user.name=t -c user.email=t@example.test commit -qm \"$1\"; }";
        let env = [("PRE_COMMIT_HOME", cache.as_str()), ("PRE_COMMIT", program.as_str()), ("HOOKS", hooks.as_str())];
        in_shell(&sandbox, &format!("{preamble}\n{script}"), &env)
    };
    sandbox.git(&["init", "-q", "repo"]);
    let run = script(
        "printf 'repos:\\n  - repo: %s\\n    rev: %s\\n    hooks: [{id: bulla-check}]\\n' \"$HOOKS\" \"$(git -C $HOOKS rev-parse HEAD)\" \
         > .pre-commit-config.yaml\n\"$PRE_COMMIT\" install",
    );
    assert_eq!(run.code, 0, "{}{}", run.text(), run.err);
    sandbox.write("repo/config.yaml", CONFIG);
    let run = script("git add -A; commit clean");
    assert_eq!(run.code, 0, "{}{}", run.text(), run.err);
    sandbox.write("repo/db.yaml", DB);
    let run = script("git add -A; commit plain");
    let told = format!("{}{}", run.text(), run.err);
    assert_ne!(run.code, 0, "{told}");
    assert!(told.contains("error[BUL001]: plaintext Secret shop/db") && told.contains("db.yaml:7:3"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let run = script("bulla keygen -w ../key.txt; bulla check --fix -R ../key.txt.pub; git add -A; commit sealed");
    assert_eq!(run.code, 0, "{}{}", run.text(), run.err);
}
