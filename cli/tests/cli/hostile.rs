//! Files that are broken, large, or made to hurt; folders that can't be written and disks that are full. Whatever the command:
//! an error that says what is wrong, the old file as it was, nothing beside it.

use std::process::Command;

use crate::sandbox::{DB, Run, Sandbox, finish, program};

/// Every command that reads or changes a sealed file, for the file `s.yaml`.
const COMMANDS: &[&[&str]] = &[
    &["set", "s.yaml", "k", "-R", "key.txt.pub", "--generate", "hex"],
    &["unset", "s.yaml", "password"],
    &["edit", "s.yaml", "-R", "key.txt.pub"],
    &["seal", "db.yaml", "--merge-into", "s.yaml", "-R", "key.txt.pub"],
    &["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"],
    &["seal", "--in-place", "s.yaml", "-R", "key.txt.pub"],
    &["reseal", "s.yaml", "-i", "key.txt", "-R", "key.txt.pub"],
    &["reseal", "s.yaml", "-i", "key.txt", "-R", "key.txt.pub", "--fresh"],
    &["move", "s.yaml", "--from", "other/db", "-i", "key.txt", "-R", "key.txt.pub"],
    &["unseal", "s.yaml", "-i", "key.txt"],
    &["exec", "s.yaml", "-i", "key.txt", "--", "true"],
    &["diff", "good.yaml", "s.yaml"],
];

/// What `seal -w` says of whatever it can't read.
const NOT_OVERWRITTEN: &str = "s.yaml is there and can't be read as a manifest; it is not overwritten";

/// Only those that write.
const WRITERS: std::ops::Range<usize> = 0..5;

fn sealed() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "good.yaml", "-R", "key.txt.pub"]).well();
    sandbox.write("s.yaml", sandbox.bytes("good.yaml"));
    sandbox
}

fn run(sandbox: &Sandbox, args: &[&str]) -> Run {
    let mut command = sandbox.bulla(args);
    command.env("EDITOR", "true");
    finish(command, b"")
}

/// No command does anything with this file but say what is wrong with it.
fn refused(sandbox: &Sandbox, text: impl AsRef<[u8]>, messages: &[&str]) {
    sandbox.write("s.yaml", text.as_ref());
    let names = sandbox.names();
    for args in COMMANDS {
        let run = run(sandbox, args);
        assert!(run.code == 1, "{args:?}: {} {}", run.code, run.err);
        let told = |message: &str| run.err.contains(message);
        assert!(told(NOT_OVERWRITTEN) || messages.iter().any(|message| told(message)), "{args:?}: {}", run.err);
        assert!(!run.err.contains("hunter2") && run.err.len() < 4000, "{args:?}: {}", run.err);
        assert!(sandbox.bytes("s.yaml") == text.as_ref(), "{args:?}: the file is another");
        assert_eq!(sandbox.names(), names, "{args:?}");
    }
}

#[test]
fn what_is_no_text() {
    let sandbox = sealed();
    let good = sandbox.read("good.yaml");
    let latin1 = [good.as_bytes(), b"# caf\xe9\n"].concat();
    refused(&sandbox, latin1, &["the text is not UTF-8: byte "]);
    refused(&sandbox, format!("{good}# \0\n"), &["there is a NUL byte in the text"]);
    let mut utf16: Vec<u8> = [0xff, 0xfe].into();
    utf16.extend(good.encode_utf16().flat_map(u16::to_le_bytes));
    utf16.extend([0x00, 0xd8, 0x0a, 0x00]);
    refused(&sandbox, utf16, &["the text is not UTF-16, although its byte-order mark says so"]);
}

#[test]
fn alias_bombs() {
    let sandbox = sealed();
    let good = sandbox.read("good.yaml");
    // Ten times ten times ten …: ten thousand million strings.
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..10 {
        let before = n - 1;
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{before}"); 10].join(", ")));
    }
    refused(&sandbox, format!("{bomb}---\n{good}"), &["aliases"]);
    refused(&sandbox, format!("{good}---\n{bomb}"), &["aliases"]);
    let endless = good.replace("  name: db\n", "  name: db\n  annotations: &a {a: *a}\n");
    refused(&sandbox, endless, &["an alias stands inside what it stands for", "alias"]);
    let deep = format!("{good}---\n{}{}\n", "[".repeat(10_000), "]".repeat(10_000));
    refused(&sandbox, deep, &["nest", "deep"]);
}

#[test]
fn a_hundred_megabytes() {
    let sandbox = sealed();
    let good = sandbox.read("good.yaml");
    // More than is read at all: a file of nothing, which takes no room on the disk.
    let large = std::fs::File::options().write(true).open(sandbox.path("s.yaml")).expect("opens");
    large.set_len(200 * 1024 * 1024).expect("a large file");
    drop(large);
    for args in COMMANDS {
        let run = run(&sandbox, args);
        let told = run.err.contains("134217728") || run.err.contains(NOT_OVERWRITTEN);
        assert!(run.code == 1 && told, "{args:?}: {} {}", run.code, run.err);
        assert_eq!(std::fs::metadata(sandbox.path("s.yaml")).expect("is there").len(), 200 * 1024 * 1024);
    }
    // What is read and has too much in it. Once is enough: the same function reads for all.
    let many = format!("{good}---\n{}", "a: b\n".repeat(20_000_000));
    assert!(many.len() > 100_000_000);
    sandbox.write("s.yaml", &many);
    let run = run(&sandbox, COMMANDS[0]);
    assert!(run.code == 1 && run.err.contains("the text has more than "), "{}: {}", run.code, run.err);
    assert!(sandbox.bytes("s.yaml") == many.as_bytes());
}

#[test]
fn links_that_lead_nowhere_or_in_circles() {
    let sandbox = sealed();
    std::fs::remove_file(sandbox.path("s.yaml")).expect("was there");
    std::os::unix::fs::symlink("nowhere.yaml", sandbox.path("s.yaml")).expect("a link");
    let names = sandbox.names();
    for args in COMMANDS {
        let run = run(&sandbox, args);
        assert!([1, 3].contains(&run.code) && run.err.contains("s.yaml"), "{args:?}: {} {}", run.code, run.err);
        assert_eq!(sandbox.names(), names, "{args:?}");
    }
    std::fs::remove_file(sandbox.path("s.yaml")).expect("was there");
    std::os::unix::fs::symlink("s.yaml", sandbox.path("s.yaml")).expect("a link");
    for args in COMMANDS {
        let run = run(&sandbox, args);
        assert!(run.code == 1 && run.err.contains("s.yaml"), "{args:?}: {} {}", run.code, run.err);
    }
}

/// Runs the writing commands in a mount namespace of their own, after `prepare` in the folder `$1`; the test is skipped, and
/// says so, where there is none.
fn in_namespace(sandbox: &Sandbox, prepare: &str, args: &[&str]) -> Option<Run> {
    let unshare = || {
        let mut command = sandbox.command("unshare");
        command.arg("--mount");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--", "sh", "-ec"]);
        command
    };
    let try_it: &mut Command = &mut unshare();
    let available = try_it.args(["mount -t tmpfs none /mnt"]).output().is_ok_and(|output| output.status.success());
    if !available {
        #[allow(clippy::print_stderr)]
        {
            eprintln!(
                "SKIPPED: this machine gives no mount namespace (unshare --mount), which a full disk is tried in"
            );
        }
        return None;
    }
    let mut command = unshare();
    let script = format!("program=$1; cd \"$2\"; shift 2\n{prepare}\n\"$program\" \"$@\"");
    command.arg(script).arg("sh").arg(program()).arg(sandbox.path(".")).args(args).env("EDITOR", "true");
    Some(finish(command, b""))
}

#[test]
fn a_folder_that_can_not_be_written() {
    let sandbox = sealed();
    let (before, names) = (sandbox.bytes("s.yaml"), sandbox.names());
    let new = ["set", "new.yaml", "k", "-n", "shop", "-R", "key.txt.pub", "--generate", "hex"];
    for args in COMMANDS[WRITERS].iter().copied().chain([&new[..]]) {
        let prepare = "mount --bind \"$PWD\" \"$PWD\"; mount -o remount,bind,ro \"$PWD\"; cd \"$PWD\"";
        let Some(run) = in_namespace(&sandbox, prepare, args) else { return };
        if args[0] == "edit" {
            // Nothing was changed in the editor: nothing is written.
            assert_eq!(run.code, 0, "{}", run.err);
            continue;
        }
        assert!(
            run.code == 1 && run.err.contains("the file system is read-only"),
            "{args:?}: {} {}",
            run.code,
            run.err
        );
        assert_eq!((&sandbox.bytes("s.yaml"), &sandbox.names()), (&before, &names), "{args:?}");
    }
}

#[test]
fn a_disk_that_is_full() {
    let sandbox = sealed();
    let (before, names) = (sandbox.bytes("s.yaml"), sandbox.names());
    std::fs::create_dir(sandbox.path("full")).expect("a folder");
    for args in &COMMANDS[WRITERS] {
        if args[0] == "edit" {
            continue;
        }
        // A disk of 64 KiB on which the file is, and little besides; afterwards it is what it was.
        let prepare = "mount -t tmpfs -o size=64k none full; cp *.yaml key.txt* full/; cp s.yaml old; cd full\n\
                       dd if=/dev/zero of=filler bs=4k count=100 2>/dev/null || true\n\
                       trap 'cmp -s s.yaml ../old || echo CHANGED >&2; ls -A | grep tmp >&2 || true' EXIT";
        let Some(run) = in_namespace(&sandbox, prepare, args) else { return };
        assert!(run.code == 1 && run.err.contains("the disk is full"), "{args:?}: {} {}", run.code, run.err);
        assert!(!run.err.contains("CHANGED") && !run.err.contains(".tmp"), "{args:?}: {}", run.err);
        std::fs::remove_file(sandbox.path("old")).expect("was there");
    }
    std::fs::remove_dir(sandbox.path("full")).expect("was there");
    assert_eq!((sandbox.bytes("s.yaml"), sandbox.names()), (before, names));
}
