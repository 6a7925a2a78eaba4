//! A program with the values in its environment.

use std::os::unix::process::ExitStatusExt as _;

use crate::sandbox::{Run, Sandbox};

/// A sealed file with these items.
fn sealed(sandbox: &Sandbox, file: &str, items: &[(&str, &str)]) {
    let literals: Vec<_> = items.iter().map(|(key, value)| format!("--from-literal={key}={value}")).collect();
    let mut args = vec!["seal", "--name", "db", "-n", "shop", "-R", "key.txt.pub", "-w", file];
    args.extend(literals.iter().map(String::as_str));
    sandbox.run(&args).well();
}

fn exec(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.run(&[&["exec", "-i", "key.txt"][..], args].concat())
}

#[test]
fn the_values_are_in_the_environment_and_nowhere_else() {
    let sandbox = Sandbox::new();
    sealed(&sandbox, "s.yaml", &[("PASSWORD", "hunter2\n$x '"), ("user", "admin")]);
    let before = sandbox.names();
    let run =
        exec(&sandbox, &["s.yaml", "--", "sh", "-c", "printf '%s|%s|%s' \"$PASSWORD\" \"$user\" \"$1\"", "sh", "-n"]);
    assert_eq!(run.well().text(), "hunter2\n$x '|admin|-n");
    assert_eq!(sandbox.names(), before);
}

#[test]
fn the_programs_end_is_this_ones() {
    let sandbox = Sandbox::new();
    sealed(&sandbox, "s.yaml", &[("A", "a")]);
    assert_eq!(exec(&sandbox, &["s.yaml", "--", "sh", "-c", "exit 37"]).code, 37);
    let mut command = sandbox.bulla(&["exec", "-i", "key.txt", "s.yaml", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(command.status().expect("runs").signal(), Some(15));
    // A broken pipe kills a program as it does without this one in between.
    let mut command = sandbox.bulla(&["exec", "-i", "key.txt", "s.yaml", "--", "sh", "-c", "kill -PIPE $$; exit 1"]);
    assert_eq!(command.status().expect("runs").signal(), Some(13));
    exec(&sandbox, &["s.yaml", "--", "no-such-program"]).fails(3, "error: there is no program no-such-program\n");
}

#[test]
fn a_signal_reaches_the_program() {
    let sandbox = Sandbox::new();
    sealed(&sandbox, "s.yaml", &[("A", "a")]);
    let script = "trap 'echo got; exit 3' TERM; echo ready; while :; do read -r x; done";
    let mut command = sandbox.bulla(&["exec", "-i", "key.txt", "s.yaml", "--", "bash", "-c", script]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).expect("reads");
    assert_eq!(line, "ready\n");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kills");
    line.clear();
    std::io::BufRead::read_line(&mut lines, &mut line).expect("reads");
    assert_eq!((line.as_str(), child.wait().expect("ends").code()), ("got\n", Some(3)));
}

#[test]
fn names_that_are_none_are_named_or_made() {
    let sandbox = Sandbox::new();
    sealed(&sandbox, "s.yaml", &[("api-token", "t"), ("1st", "u")]);
    let run = exec(&sandbox, &["s.yaml", "--key", "api-token", "--", "env"]);
    run.fails(
        1,
        "error: the item api-token of s.yaml can't be a variable: \"api-token\" is no name\nhelp: --upper makes _ of - and \
         ., as in api-token: API_TOKEN\nhelp: only some of the items: --key KEY\n",
    );
    let run = exec(&sandbox, &["s.yaml", "--upper", "--prefix", "APP_", "--", "env"]).well();
    assert!(run.text().contains("APP_API_TOKEN=t\n") && run.text().contains("APP_1ST=u\n"), "{}", run.text());
    let run = exec(&sandbox, &["s.yaml", "--upper", "--", "env"]);
    assert!(run.code == 1 && run.err.contains("--prefix"), "{}", run.err);
    exec(&sandbox, &["s.yaml", "--key", "none", "--", "env"]).fails(3, "error: there is no item none in s.yaml\n");
}

#[test]
fn who_writes_the_file_does_not_decide_what_runs() {
    let sandbox = Sandbox::new();
    for name in ["LD_PRELOAD", "PATH", "NODE_OPTIONS"] {
        std::fs::remove_file(sandbox.path("s.yaml")).unwrap_or_default();
        sealed(&sandbox, "s.yaml", &[(name, "/nowhere")]);
        let run = exec(&sandbox, &["s.yaml", "--", "env"]);
        assert!(run.code == 1 && run.err.contains("decides what programs load or run"), "{}", run.err);
    }
    let run = exec(&sandbox, &["s.yaml", "--allow-special", "--", "env"]).well();
    assert!(run.text().contains("NODE_OPTIONS=/nowhere\n"));
}

#[test]
fn two_files_do_not_hide_each_others_values() {
    let sandbox = Sandbox::new();
    sealed(&sandbox, "a.yaml", &[("A", "1"), ("B", "2")]);
    sealed(&sandbox, "b.yaml", &[("C", "3")]);
    let run = exec(&sandbox, &["a.yaml", "b.yaml", "--", "sh", "-c", "printf $A$B$C"]).well();
    assert_eq!(run.text(), "123");
    sealed(&sandbox, "c.yaml", &[("A", "4")]);
    exec(&sandbox, &["a.yaml", "c.yaml", "--", "env"]).fails(
        1,
        "error: the items A of a.yaml and A of c.yaml would both set A\nhelp: only some of them: --key KEY\n",
    );
}

#[test]
fn a_core_dump_is_the_programs_own_business() {
    let sandbox = Sandbox::new();
    sealed(&sandbox, "s.yaml", &[("A", "a")]);
    let limit = |command: &mut std::process::Command| command.output().expect("runs").stdout;
    let own = limit(sandbox.command("sh").args(["-c", "ulimit -Sc"]));
    assert_eq!(limit(&mut sandbox.bulla(&["exec", "-i", "key.txt", "s.yaml", "--", "sh", "-c", "ulimit -Sc"])), own);
}
