//! Sealed files in an editor: editors are scripts here, good and bad ones.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox::{DB, Run, Sandbox, finish};

/// A folder with a sealed file, and a folder in memory of its own for what is edited.
struct Desk {
    sandbox: Sandbox,
    memory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.with_input(&["seal", "-w", "s.yaml", "-R", "key.txt.pub"], DB).well();
        Self { sandbox, memory: tempfile::tempdir_in("/dev/shm").expect("a folder in memory") }
    }

    /// `bulla edit` with an editor that is this script; `$1` is the file.
    fn command(&self, script: &str, args: &[&str]) -> Command {
        self.sandbox.write("editor", format!("#!/bin/bash\n{script}\n"));
        std::fs::set_permissions(self.sandbox.path("editor"), std::fs::Permissions::from_mode(0o755)).expect("sets");
        let mut command = self.sandbox.bulla(&[&["edit", "s.yaml", "-R", "key.txt.pub"][..], args].concat());
        command.env("EDITOR", self.sandbox.path("editor")).env("XDG_RUNTIME_DIR", self.memory.path());
        command.env("TMPDIR", self.sandbox.path("."));
        command
    }

    fn edit(&self, script: &str, args: &[&str]) -> Run {
        let run = finish(self.command(script, args), b"");
        self.clean();
        run
    }

    /// Nothing is left in memory, and no value anywhere here.
    #[track_caller]
    fn clean(&self) {
        let left: Vec<_> = std::fs::read_dir(self.memory.path()).expect("lists").collect();
        assert!(left.is_empty(), "{left:?}");
        for name in self.sandbox.names().iter().filter(|name| *name != "editor" && *name != "seen") {
            if self.sandbox.path(name).is_file() {
                let bytes = self.sandbox.bytes(name);
                for value in ["hunter2", "typed-value"] {
                    assert!(!bytes.windows(value.len()).any(|window| window == value.as_bytes()), "{value} in {name}");
                }
            } else {
                assert_eq!(name, "home", "a folder is left");
            }
        }
    }

    fn value(&self, key: &str) -> String {
        self.sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "--key", key]).well().text()
    }

    /// The editor comes back with this; nothing may have changed.
    #[track_caller]
    fn fails(&self, script: &str, args: &[&str], code: i32, message: &str) {
        let before = self.sandbox.bytes("s.yaml");
        let run = self.edit(script, args);
        assert!(run.code == code && run.err.contains(message), "{}: {}", run.code, run.err);
        assert!(!run.err.contains("hunter2") && !run.err.contains("typed-value"), "{}", run.err);
        assert_eq!(self.sandbox.bytes("s.yaml"), before);
    }
}

const CHANGE: &str = "sed -i 's/^password: .*/password: typed-value/' \"$1\"";

#[test]
fn what_is_typed_is_sealed_and_the_rest_keeps_its_bytes() {
    let desk = Desk::new();
    let before = desk.sandbox.read("s.yaml");
    let run = desk.edit("cp \"$1\" seen; stat -c %a \"$1\" \"$(dirname \"$1\")\" >> seen; sed -i '/^username/d; s/^password: .*/password: typed-value/' \"$1\"; echo 'token: 0123' >> \"$1\"", &[]).well();
    assert_eq!(run.err, "edited shop/db in s.yaml: set password, token; took out username; 0 items kept, for key\n");
    let seen = desk.sandbox.read("seen");
    assert!(seen.ends_with("password: <sealed>\nusername: <sealed>\n600\n700\n"), "{seen}");
    assert_eq!((desk.value("password"), desk.value("token")), ("typed-value".into(), "0123".into()));
    assert!(!desk.sandbox.read("s.yaml").contains("username"));
    let desk = Desk::new();
    let item = |text: &str| text.split("    username:").nth(1).expect("an item").to_owned();
    let username = item(&desk.sandbox.read("s.yaml"));
    desk.edit(CHANGE, &[]).well();
    assert_eq!(item(&desk.sandbox.read("s.yaml")), username);
    assert_ne!(desk.sandbox.read("s.yaml"), before);
}

#[test]
fn values_are_shown_to_who_can_open_them() {
    let desk = Desk::new();
    desk.sandbox.write("v", b"\xff\x00binary");
    desk.sandbox.write("l", b"-----BEGIN\nlines\n");
    let set = ["set", "s.yaml", "bin", "lines", "--from-file", "bin=v", "--from-file", "lines=l", "-R", "key.txt.pub"];
    desk.sandbox.run(&set).well();
    let before = desk.sandbox.read("s.yaml");
    let run = desk.edit("cp \"$1\" seen; sed -i 's/admin/root/' \"$1\"", &["-i", "key.txt"]).well();
    assert_eq!(run.err, "edited shop/db in s.yaml: set username; 3 items kept, for key\n");
    let seen = desk.sandbox.read("seen");
    assert!(
        seen.contains("lines: |\n  -----BEGIN\n  lines\n") && seen.contains("bin: !!binary |-\n  /wBiaW5hcnk=\n"),
        "{seen}"
    );
    assert_eq!((desk.value("username"), desk.value("lines")), ("root".into(), "-----BEGIN\nlines\n".into()));
    let after = desk.sandbox.read("s.yaml");
    assert_eq!(after.split("    username:").next(), before.split("    username:").next());
    let other = desk.sandbox.run(&["keygen", "-w", "other"]);
    assert_eq!(other.code, 0);
    desk.fails("false", &["-i", "other"], 1, "no identity in other opens shop/db");
}

#[test]
fn bad_editors_change_nothing_and_leave_nothing() {
    let desk = Desk::new();
    let shown = ["-i", "key.txt"];
    for (script, code, message) in [
        ("exit 1", 1, "ended with 1; nothing was written"),
        (&format!("{CHANGE}; exit 3"), 1, "ended with 3; nothing was written"),
        (&format!("{CHANGE}; kill -KILL $$"), 1, "was killed by signal 9; nothing was written"),
        (&format!("{CHANGE}; kill -SEGV $$"), 1, "was killed by signal 11"),
        (&format!("{CHANGE}; kill -INT $$"), 130, "interrupted; nothing was written"),
        (": > \"$1\"", 1, "no items left"),
        ("rm \"$1\"", 1, "left no file"),
        ("echo '{[hunter2' >> \"$1\"", 1, "what was typed is gone"),
        ("head -c 3000 /dev/urandom > \"$1\"", 1, "what was typed is gone"),
        ("echo 'no key: typed-value' >> \"$1\"", 1, "can't be a key"),
        ("echo 'other: <sealed>' >> \"$1\"", 1, "can't be renamed"),
        ("echo 'password: typed-value' >> \"$1\"", 1, "twice"),
        (
            "cp \"$1\" \"$1~\"; mkdir \"$(dirname \"$1\")/sub\"; cp \"$1\" \"$(dirname \"$1\")/sub/.swp\"; exit 1",
            1,
            "ended with 1",
        ),
        ("ln -s /etc/hostname \"$(dirname \"$1\")/link\"; exit 1", 1, "ended with 1"),
    ] {
        desk.fails(script, &shown, code, message);
    }
    let run = desk.edit(":", &[]).well();
    assert!(run.err.starts_with("nothing was changed\n") && run.err.contains("--wait"), "{}", run.err);
    let run = desk.edit("echo '# only a comment' >> \"$1\"", &[]).well();
    assert_eq!(run.err, "nothing was changed\n");
}

#[test]
fn the_editor_is_a_command_line_and_the_file_is_not() {
    let desk = Desk::new();
    let mut command = desk.command("[ \"$1\" = --wait ] && [ $# = 2 ] && echo 'token: t' >> \"$2\"", &[]);
    command.env("VISUAL", format!("'{}' --wait", desk.sandbox.path("editor").display()));
    finish(command, b"").well();
    assert_eq!(desk.value("token"), "t");
    let mut command = desk.command("", &[]);
    command.env("VISUAL", "no-such-editor");
    finish(command, b"").fails(
        1,
        "error: there is no editor no-such-editor\nhelp: VISUAL or EDITOR names one: EDITOR=nano bulla edit FILE\n",
    );
    let mut command = desk.command("", &[]);
    command.env("VISUAL", "no-such-editor --wait");
    let run = finish(command, b"");
    assert!(run.code == 1 && run.err.contains("error: there is no editor no-such-editor --wait\n"), "{}", run.err);
    desk.clean();
}

#[test]
fn a_file_that_changed_meanwhile_is_not_overwritten() {
    let desk = Desk::new();
    let here = desk.sandbox.path("s.yaml");
    let run = desk.edit(&format!("{CHANGE}; echo '# theirs' >> '{}'", here.display()), &[]);
    assert!(run.code == 1 && run.err.contains("was changed by somebody else meanwhile"), "{}", run.err);
    assert!(desk.sandbox.read("s.yaml").ends_with("# theirs\n"));
}

#[test]
fn who_can_not_be_sealed_for_is_said_before_anything_is_typed() {
    let desk = Desk::new();
    desk.sandbox.run(&["keygen", "-w", "other"]).well();
    let mut command = desk.command("touch started", &[]);
    command.args(["-r", desk.sandbox.read("other.pub").lines().last().expect("a recipient")]);
    finish(command, b"").well();
    assert!(desk.sandbox.path("started").exists());
    let run = desk.sandbox.run(&["edit", "s.yaml", "-R", "other.pub"]);
    assert!(run.code == 1 && run.err.contains("would lose the value"), "{}", run.err);
    let run = desk.sandbox.run(&["edit", "gone.yaml", "-R", "key.txt.pub"]);
    assert!(run.code == 3 && run.err.contains("help: to make it: bulla set gone.yaml"), "{}", run.err);
}

/// Waits until a file is there.
fn wait_for(path: &Path) {
    while !path.exists() {
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_ends_the_editor_and_leaves_nothing() {
    for (signal, stubborn) in [(Signal::TERM, false), (Signal::HUP, false), (Signal::TERM, true)] {
        let desk = Desk::new();
        let before = desk.sandbox.bytes("s.yaml");
        let trap = if stubborn { "trap '' TERM" } else { "" };
        let script = format!("{trap}\n{CHANGE}; touch ready; while :; do read -r -t 1 x <> <(:); done; exit 0");
        let mut command = desk.command(&script, &["-i", "key.txt"]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        wait_for(&desk.sandbox.path("ready"));
        kill_process(Pid::from_child(&child), signal).expect("kills");
        let output = child.wait_with_output().expect("ends");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*err), (Some(130), "error: interrupted; nothing was written\n"));
        assert_eq!(desk.sandbox.bytes("s.yaml"), before);
        desk.clean();
    }
}

#[test]
fn an_interrupt_of_the_keyboard_is_the_editors() {
    let desk = Desk::new();
    // An editor that goes on after Ctrl-C, as most do.
    let script = format!(
        "trap 'touch told' INT\n{CHANGE}; touch ready; until [ -e go ]; do read -r -t 1 x <> <(:); done; exit 0"
    );
    let child = desk.command(&script, &[]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    wait_for(&desk.sandbox.path("ready"));
    kill_process(Pid::from_child(&child), Signal::INT).expect("kills");
    desk.sandbox.write("go", "");
    assert_eq!(child.wait_with_output().expect("ends").status.code(), Some(0));
    assert_eq!(desk.value("password"), "typed-value");
    desk.clean();
}
