//! What happens to the file when something fails.

use std::os::unix::fs::PermissionsExt as _;

use crate::sandbox::{DB, Sandbox, finish, program};

fn sealed() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    sandbox
}

fn mode(sandbox: &Sandbox, name: &str, mode: u32) {
    std::fs::set_permissions(sandbox.path(name), std::fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn a_read_only_file_stays() {
    let sandbox = sealed();
    mode(&sandbox, "s.yaml", 0o444);
    let before = sandbox.bytes("s.yaml");
    sandbox
        .with_input(&["set", "s.yaml", "k", "-R", "key.txt.pub"], "x")
        .fails(1, "error: s.yaml is read-only; it stays as it was\nhelp: chmod u+w s.yaml\n");
    assert_eq!(before, sandbox.bytes("s.yaml"));
}

#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_else() {
    let sandbox = sealed();
    let (before, names) = (sandbox.bytes("s.yaml"), sandbox.names());
    // No file may grow over a kilobyte or so; the signal that comes with it is ignored, as a full disk sends none.
    let mut command = sandbox.command("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 2; exec \"$0\" set s.yaml k -R key.txt.pub"]).arg(program());
    finish(command, b"x")
        .fails(1, "error: can't write s.yaml: the file would be larger than allowed; it stays as it was\n");
    assert_eq!((before, names), (sandbox.bytes("s.yaml"), sandbox.names()));
    let mut command = sandbox.command("sh");
    command.args(["-c", "\"$0\" seal db.yaml -R key.txt.pub >/dev/full"]).arg(program());
    let run = finish(command, b"");
    assert_eq!(run.code, 1);
    assert!(run.err.starts_with("error: can't write to standard output: "), "{}", run.err);
}

#[test]
fn mode_and_link_stay() {
    let sandbox = sealed();
    mode(&sandbox, "s.yaml", 0o640);
    std::os::unix::fs::symlink("s.yaml", sandbox.path("link.yaml")).expect("a link");
    sandbox.with_input(&["set", "link.yaml", "k", "-R", "key.txt.pub"], "x").well();
    assert!(std::fs::symlink_metadata(sandbox.path("link.yaml")).expect("is there").is_symlink());
    assert_eq!(std::fs::metadata(sandbox.path("s.yaml")).expect("is there").permissions().mode() & 0o777, 0o640);
    assert_eq!(sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "--key", "k"]).well().out, b"x");
}

#[test]
fn what_somebody_else_changed_meanwhile_is_not_overwritten() {
    use std::io::Write as _;
    let sandbox = sealed();
    assert!(sandbox.command("mkfifo").arg("pipe").status().expect("mkfifo is there").success());
    let child = sandbox
        .bulla(&["set", "s.yaml", "k", "--from-file", "pipe", "-R", "key.txt.pub"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    // This waits for the program to ask for the value, by when it has read the file.
    let mut pipe = std::fs::File::options().write(true).open(sandbox.path("pipe")).expect("opens");
    let changed = format!("{}# changed\n", sandbox.read("s.yaml"));
    sandbox.write("s.yaml", &changed);
    pipe.write_all(b"x").expect("writes");
    drop(pipe);
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: s.yaml was changed by somebody else meanwhile; nothing was written\nhelp: run the command again\n"
    );
    assert_eq!(sandbox.read("s.yaml"), changed);
}

#[test]
fn nothing_is_left_behind() {
    let sandbox = sealed();
    sandbox.with_input(&["set", "s.yaml", "k", "-R", "key.txt.pub"], "x").well();
    assert_eq!(sandbox.names(), ["db.yaml", "key.txt", "key.txt.pub", "s.yaml"]);
}

#[test]
fn of_many_at_once_none_undoes_what_another_did() {
    let sandbox = sealed();
    let done: Vec<(String, bool)> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..12)
            .map(|n| {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    let key = format!("k{n}");
                    let run = sandbox.with_input(&["set", "s.yaml", &key, "-R", "key.txt.pub"], "x");
                    assert!(run.code == 0 || run.err.contains("was changed by somebody else meanwhile"), "{}", run.err);
                    (key, run.code == 0)
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().expect("runs")).collect()
    });
    assert!(done.iter().any(|(_, well)| *well));
    let opened = sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "-o", "json"]).well();
    let secret: serde_json::Value = serde_json::from_str(&opened.text()).expect("JSON");
    for (key, well) in done {
        assert_eq!(secret["data"].get(&key).is_some(), well, "{key}");
    }
}
