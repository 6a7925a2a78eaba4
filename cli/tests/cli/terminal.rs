//! With somebody at a terminal.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use crate::sandbox::{DB, Sandbox, finish, program};
use crate::tty::{OWN, Terminal};

fn answered(sandbox: &Sandbox, args: &[&str], prompt: &str, keys: &[&str]) -> (i32, String) {
    let mut terminal = Terminal::bulla(sandbox, args);
    for keys in keys {
        terminal.expect(prompt).send(keys);
    }
    terminal.code()
}

fn typed(sandbox: &Sandbox, args: &[&str], keys: &[&str]) -> (i32, String) {
    answered(sandbox, args, "(hidden): ", keys)
}

const SET: [&str; 7] = ["set", "db.sealed.yaml", "password", "-n", "shop", "-R", "key.txt.pub"];

fn opened(sandbox: &Sandbox, key: &str) -> String {
    sandbox.run(&["unseal", "db.sealed.yaml", "-i", "key.txt", "--key", key]).well().text()
}

#[test]
fn values_are_asked_for_and_not_shown() {
    let sandbox = Sandbox::new();
    let args = ["set", "db.sealed.yaml", "username", "password", "-n", "shop", "-R", "key.txt.pub"];
    let (code, seen) = typed(&sandbox, &args, &["admim\u{7f}n\r", "wrong\u{15}hunter2\r"]);
    assert_eq!(
        (code, seen.as_str()),
        (
            0,
            "username (hidden): \npassword (hidden): \ncreated db.sealed.yaml: SealedSecret shop/db, 2 items, for key\n"
        )
    );
    assert_eq!((opened(&sandbox, "username"), opened(&sandbox, "password")), ("admin".into(), "hunter2".into()));
}

#[test]
fn an_interrupt_writes_nothing() {
    let sandbox = Sandbox::new();
    let mut terminal = Terminal::bulla(&sandbox, &SET);
    terminal.expect("(hidden): ");
    assert!(!terminal.echoes());
    terminal.send("hun\u{3}").expect("nothing was written");
    assert!(terminal.echoes(), "the terminal is as it was");
    let (code, seen) = terminal.code();
    assert_eq!((code, seen.as_str()), (130, "password (hidden): \nerror: interrupted; nothing was written\n"));
    assert_eq!(sandbox.names(), ["key.txt", "key.txt.pub"]);
}

#[test]
fn what_is_typed_twice_must_be_the_same() {
    let sandbox = Sandbox::new();
    let confirm = [&SET[..], &["--confirm"]].concat();
    let (code, seen) = typed(&sandbox, &confirm, &["hunter2\r", "hunter3\r"]);
    assert_eq!(
        (code, seen.as_str()),
        (
            1,
            "password (hidden): \npassword again (hidden): \nerror: the two values for \"password\" differ; nothing was \
             written\n"
        )
    );
    assert_eq!(sandbox.names(), ["key.txt", "key.txt.pub"]);
    assert_eq!(typed(&sandbox, &confirm, &["hunter2\r", "hunter2\r"]).0, 0);
    assert_eq!(opened(&sandbox, "password"), "hunter2");
}

#[test]
fn a_terminal_that_goes_away_writes_nothing() {
    let sandbox = Sandbox::new();
    let mut terminal = Terminal::bulla(&sandbox, &SET);
    terminal.expect("(hidden): ").send("hunt");
    assert_eq!(terminal.hang_up().signal(), Some(1));
    assert_eq!(sandbox.names(), ["key.txt", "key.txt.pub"]);
    // With nohup the half of a value is none.
    let mut command = sandbox.command("setsid");
    command.args(OWN).args(["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(program()).args(SET);
    let mut terminal = Terminal::start(command);
    terminal.expect("(hidden): ").send("hunt");
    assert_eq!(terminal.hang_up().code(), Some(1));
    assert_eq!(sandbox.names(), ["key.txt", "key.txt.pub"]);
}

#[test]
fn a_new_reader_is_asked_for() {
    let sandbox = crate::policy::repository();
    let file = "apps/shop/prod/db.sealed.yaml";
    sandbox.with_input(&["set", file, "password", "-n", "shop"], "hunter2").well();
    let policy = sandbox.read(".bulla.yaml").replace("recipients: [prod]", "recipients: [prod, alice]");
    sandbox.write(".bulla.yaml", policy);
    let before = sandbox.bytes(file);
    let args = ["reseal", "apps", "-i", "recovery.txt", "--add-recipient", "alice"];
    for no in ["n\r", "\r", "\u{4}"] {
        let (code, seen) = answered(&sandbox, &args, "[y/N] ", &[no]);
        assert!(code == 1 && seen.starts_with("adding alice r") && seen.contains("nothing was written"), "{seen}");
        assert_eq!(sandbox.bytes(file), before);
    }
    let mut terminal = Terminal::bulla(&sandbox, &args);
    terminal.expect("[y/N] ").send("\u{3}");
    assert_eq!(terminal.end().0.signal(), Some(2), "Ctrl-C, which shells tell as 130");
    let mut terminal = Terminal::bulla(&sandbox, &args);
    terminal.expect("[y/N] ");
    assert_eq!(terminal.hang_up().signal(), Some(1));
    assert_eq!(sandbox.bytes(file), before);
    let (code, seen) = answered(&sandbox, &args, "[y/N] ", &["y\r"]);
    assert_eq!(code, 0, "{seen}");
    sandbox.run(&["unseal", file, "-i", "alice.txt"]).well();
}

/// A folder with a sealed file and an editor that is this script.
fn desk(script: &str) -> (Sandbox, tempfile::TempDir) {
    let sandbox = Sandbox::new();
    sandbox.with_input(&["seal", "-w", "db.sealed.yaml", "-R", "key.txt.pub"], DB).well();
    sandbox.write("editor", format!("#!/bin/bash\n{script}\n"));
    std::fs::set_permissions(sandbox.path("editor"), std::fs::Permissions::from_mode(0o755)).expect("sets");
    (sandbox, tempfile::tempdir_in("/dev/shm").expect("a folder in memory"))
}

fn edit(sandbox: &Sandbox, memory: &tempfile::TempDir) -> Terminal {
    let mut command = sandbox.command("setsid");
    command.args(OWN).arg(program()).args(["edit", "db.sealed.yaml", "-R", "key.txt.pub"]);
    command.args(["-i", "key.txt"]).env("NO_COLOR", "1");
    command.env("EDITOR", sandbox.path("editor")).env("XDG_RUNTIME_DIR", memory.path());
    Terminal::start(command)
}

#[test]
fn what_an_editor_leaves_unreadable_is_offered_again() {
    // The first time nonsense, then what was meant.
    let script = "if [ -e again ]; then sed -i 's/^{\\[.*//; s/^password: .*/password: typed-value/' \"$1\"; \
                  else touch again; echo '{[typed-value' >> \"$1\"; fi";
    let (sandbox, memory) = desk(script);
    let before = sandbox.bytes("db.sealed.yaml");
    let left = || std::fs::read_dir(memory.path()).expect("lists").count();
    for (keys, code, told) in
        [("n", 1, "given up; nothing was written"), ("\u{3}", 130, "interrupted; nothing was written")]
    {
        let mut terminal = edit(&sandbox, &memory);
        terminal.expect("edit it again? [Y/n] ").send(keys);
        let (ended, shown) = terminal.code();
        assert!(ended == code && shown.contains(told) && !shown.contains("typed-value"), "{ended}: {shown}");
        assert_eq!((sandbox.bytes("db.sealed.yaml"), left()), (before.clone(), 0));
        std::fs::remove_file(sandbox.path("again")).expect("was there");
    }
    let mut terminal = edit(&sandbox, &memory);
    terminal.expect("edit it again? [Y/n] ").send("\r");
    let (code, shown) = terminal.code();
    assert!(code == 0 && shown.ends_with("edited shop/db in db.sealed.yaml: set password; 1 item kept, for key\n"));
    assert_eq!((opened(&sandbox, "password").as_str(), left()), ("typed-value", 0));
}

#[test]
fn a_terminal_that_goes_away_takes_the_editor_and_what_it_shows() {
    let (sandbox, memory) = desk(
        "sed -i 's/^password: .*/password: typed-value/' \"$1\"; echo opened; while read -r x; do :; done; exit 0",
    );
    let before = sandbox.bytes("db.sealed.yaml");
    let mut terminal = edit(&sandbox, &memory);
    terminal.expect("opened");
    assert_eq!(terminal.hang_up().code(), Some(130));
    assert_eq!(sandbox.bytes("db.sealed.yaml"), before);
    assert_eq!(std::fs::read_dir(memory.path()).expect("lists").count(), 0);
}

#[test]
fn conflicts_are_asked_for_one_by_one() {
    let sandbox = crate::git::in_conflict();
    let text = sandbox.read("db.sealed.yaml");
    let args = ["git", "resolve", "db.sealed.yaml", "--add"];
    let mut terminal = Terminal::bulla(&sandbox, &args);
    terminal.expect("item b of shop/db: (o)urs or (t)heirs?").send("\u{4}");
    let (code, shown) = terminal.code();
    assert!(code == 1 && shown.contains("nothing was settled"), "{shown}");
    let mut terminal = Terminal::bulla(&sandbox, &args);
    terminal.expect("(t)heirs?").send("\u{3}");
    assert_eq!(terminal.end().0.signal(), Some(2));
    assert_eq!(sandbox.read("db.sealed.yaml"), text, "nothing was written");
    let (code, shown) = answered(&sandbox, &args, "(t)heirs?", &["both\r", "t\r"]);
    assert!(
        code == 0 && shown.ends_with("settled item b of shop/db in db.sealed.yaml, and staged it\n"),
        "{code} {shown}"
    );
    assert_eq!(opened(&sandbox, "b"), "theirs");
    assert_eq!(opened(&sandbox, "b2"), "new b2");
}

#[test]
fn progress_is_shown_after_a_second_and_goes_away() {
    let sandbox = Sandbox::new();
    for file in ["a.yaml", "z.yaml"] {
        sandbox.with_input(&["seal", "-w", file, "-R", "key.txt.pub"], DB).well();
    }
    assert!(sandbox.command("mkfifo").arg("slow.yaml").status().expect("mkfifo is there").success());
    let args = ["reseal", "a.yaml", "slow.yaml", "z.yaml", "--check", "-R", "key.txt.pub"];
    // A file that takes its time: reading it waits for somebody who writes it.
    let run = |wait: bool| {
        let terminal = Terminal::bulla(&sandbox, &args);
        if wait {
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
        drop(std::fs::File::options().write(true).open(sandbox.path("slow.yaml")).expect("opens"));
        terminal.code()
    };
    let (code, shown) = run(true);
    assert_eq!(code, 1, "{shown}");
    let (progress, rest) = shown.split_once("\u{1b}[K").expect("progress");
    assert_eq!(progress, "\rlooked at 2 of 3");
    assert!(rest.starts_with("\r\u{1b}[Kerror: slow.yaml is no regular file"), "{rest:?}");
    // Off a terminal there is none.
    let mut command = sandbox.bulla(&args);
    command.stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("starts");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    drop(std::fs::File::options().write(true).open(sandbox.path("slow.yaml")).expect("opens"));
    let output = child.wait_with_output().expect("ends");
    assert!(output.stderr.starts_with(b"error: slow.yaml"), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn colours_are_for_terminals_that_have_them() {
    let sandbox = Sandbox::new();
    let show = |variables: &[(&str, &str)]| {
        let mut command = sandbox.command("setsid");
        command.args(OWN).arg(program()).args(["unseal", "gone.yaml", "-i", "key.txt"]);
        command.env("TERM", "xterm").envs(variables.iter().copied());
        Terminal::start(command).code().1
    };
    assert!(show(&[]).starts_with("\u{1b}[1;31merror\u{1b}[0m"), "{:?}", show(&[]));
    for variables in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        assert!(show(&variables).starts_with("error: can't read gone.yaml"), "{:?}", show(&variables));
    }
    let run = finish(sandbox.bulla(&["unseal", "gone.yaml", "-i", "key.txt"]), b"");
    assert!(!run.err.contains('\u{1b}'), "{}", run.err);
}
