//! The command line as a whole: its help in groups, what it completes, and the names under which it is called.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _, complete};
use clap_complete::env::{CompleteEnv, Shells};

use crate::bitnami::{Either, all_either};
use crate::cli::{Cli, Kubeseal, ProgramName, Shell, at_once};
use crate::failure::{Failure, Result};
use crate::model::parse;
use crate::policy::Finder;
use crate::{files, output};

/// Set by the shell's script, it makes this program complete instead of run.
const VARIABLE: &str = "BULLA_COMPLETE";

/// The groups of the help. A command that is in none stands in the last.
const GROUPS: &[(&str, &[&str])] = &[
    ("Every day, no key", &["set", "unset", "edit", "seal", "diff", "check"]),
    ("The repository", &["init", "recipients", "reseal", "rotate", "migrate", "git"]),
    ("With an identity", &["keygen", "unseal", "exec", "move"]),
    ("The cluster", &["keys", "status", "install", "backup", "restore", "kubeseal"]),
    ("This program", &["completions", "man"]),
];

/// What this program is called as.
enum Called {
    Bulla,
    Kubeseal,
    Kubectl,
    KubectlComplete,
}

fn called() -> Called {
    let name = std::env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_stem().and_then(OsStr::to_str) {
        Some("kubectl-bulla") => Called::Kubectl,
        Some("kubectl_complete-bulla") => Called::KubectlComplete,
        Some("kubeseal") => Called::Kubeseal,
        _ => Called::Bulla,
    }
}

/// What was typed. Whoever asks for completions or help gets them, and no command runs.
pub fn typed() -> std::result::Result<Cli, ExitCode> {
    let mut command = match called() {
        Called::KubectlComplete => return Err(for_kubectl()),
        Called::Kubeseal => return Err(as_kubeseal()),
        Called::Kubectl => command().bin_name("kubectl bulla"),
        Called::Bulla => {
            if asked_to_complete() {
                CompleteEnv::with_factory(completing).var(VARIABLE).complete();
            }
            command()
        }
    };
    let matches = command.try_get_matches_from_mut(std::env::args_os()).and_then(|m| Cli::from_arg_matches(&m));
    matches.map_err(|error| {
        let error = error.format(&mut command);
        _ = error.print();
        if !error.use_stderr() {
            return ExitCode::SUCCESS;
        }
        if wants_json() {
            // Only what is wrong, not how it is used.
            let message = error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let failure = Failure::usage(message);
            _ = output::document(serde_json::json!({ "errors": failure.json() }));
        }
        ExitCode::from(2)
    })
}

/// Runs as the command of another name.
fn as_kubeseal() -> ExitCode {
    if asked_to_complete() {
        CompleteEnv::with_factory(Kubeseal::command).var(VARIABLE).complete();
    }
    match Kubeseal::try_parse() {
        Ok(typed) => crate::kubeseal::run(&typed.args),
        Err(error) => {
            _ = error.print();
            if let Some(variable) = variable_behind(&error.to_string()) {
                output::note(&format!("the value is that of the environment variable {variable}"));
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

/// The variable from which a flag has its value that an error complains of.
fn variable_behind(error: &str) -> Option<String> {
    let typed = |flag: &str| std::env::args_os().any(|word| word.to_string_lossy().starts_with(flag));
    std::env::vars_os().filter_map(|(variable, _)| variable.into_string().ok()).find(|variable| {
        let Some(name) = variable.strip_prefix("SEALED_SECRETS_") else { return false };
        let flag = format!("--{}", name.to_ascii_lowercase().replace('_', "-"));
        (error.contains(&format!("'{flag} ")) || error.contains(&format!("'{flag}["))) && !typed(&flag)
    })
}

fn asked_to_complete() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|shell| !shell.is_empty() && shell != "0")
}

/// Whether somebody who typed what can't be read wanted to read JSON.
fn wants_json() -> bool {
    let words: Vec<OsString> = std::env::args_os().skip(1).take_while(|word| word != "--").collect();
    let pair =
        |two: &[OsString]| matches!(two, [flag, format] if (flag == "-o" || flag == "--output") && format == "json");
    words.iter().any(|word| word == "-ojson" || word == "-o=json" || word == "--output=json")
        || words.windows(2).any(pair)
}

/// The command line with its help.
pub fn command() -> Command {
    let command = Cli::command();
    let mut groups = String::new();
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    for (index, (title, names)) in GROUPS.iter().enumerate() {
        let rest = index + 1 == GROUPS.len();
        let mut lines = String::new();
        let known = names.iter().filter_map(|name| command.find_subcommand(name));
        let others = command.get_subcommands().filter(|sub| rest && !grouped(sub.get_name()) && !sub.is_hide_set());
        for sub in known.chain(others) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            _ = writeln!(lines, "  {:12} {about}", sub.get_name());
        }
        if rest {
            _ = writeln!(lines, "  {:12} The help of a command", "help");
        }
        if !lines.is_empty() {
            _ = write!(groups, "{title}:\n{lines}\n");
        }
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}{{after-help}}"
    ))
}

/// The command line with what completes it.
fn completing() -> Command {
    let items = || ArgValueCompleter::new(items);
    let mut command = at_once(command);
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(&name, |mut sub| {
            let has = |sub: &Command, id: &str| sub.get_arguments().any(|arg| arg.get_id() == id);
            if matches!(name.as_str(), "set" | "unset") {
                sub = sub.mut_arg("args", |arg| arg.add(ArgValueCompleter::new(file_or_items)));
            }
            for id in ["key", "keys", "password_key"] {
                if matches!(name.as_str(), "unseal" | "exec" | "set") && has(&sub, id) {
                    sub = sub.mut_arg(id, |arg| arg.add(items()));
                }
            }
            if has(&sub, "recipients") {
                sub = sub.mut_arg("recipients", |arg| arg.add(ArgValueCompleter::new(recipients)));
            }
            sub
        });
    }
    command
}

/// The words that were typed, whoever asks.
fn words() -> Vec<OsString> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A shell's script puts the whole line after --.
    match words.iter().position(|word| word == "--") {
        Some(at) if matches!(called(), Called::Bulla) => words[at + 1..].to_vec(),
        _ => words,
    }
}

fn starting_with(names: impl IntoIterator<Item = String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*current)).map(CompletionCandidate::new).collect()
}

/// The items of the files among the words.
fn items(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut found = std::collections::BTreeSet::new();
    for word in words() {
        let path = Path::new(&word);
        // A - would be standard input.
        if path.is_file() && word != current && word != "-" {
            // What can't be read has nothing to offer; why not is told by the command itself.
            let read = files::read(path).and_then(|bytes| parse("", &bytes)).and_then(|stream| all_either("", &stream));
            for sealed in read.into_iter().flatten() {
                match sealed {
                    Either::Native(sealed) => found.extend(sealed.object.spec.items.into_keys()),
                    Either::Bitnami(sealed) => found.extend(sealed.object.spec.encrypted_data.into_keys()),
                }
            }
        }
    }
    starting_with(found, current)
}

fn file_or_items(current: &OsStr) -> Vec<CompletionCandidate> {
    let named = words().iter().any(|word| word != current && Path::new(word).is_file());
    if named { items(current) } else { PathCompleter::file().complete(current) }
}

/// The names of the policy that is valid here.
fn recipients(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = Finder::new(None).find(Path::new("."));
    let names = found.ok().and_then(|found| {
        Some(found.policy?.recipients.iter().map(|pinned| pinned.name.value.clone()).collect::<Vec<_>>())
    });
    starting_with(names.unwrap_or_default(), current)
}

/// The script for a shell.
pub fn script(shell: Shell, program: ProgramName) -> Result<Vec<u8>> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
        Shell::Powershell => "powershell",
        Shell::Elvish => "elvish",
    };
    let mut script = Vec::new();
    let fail = || Failure::new(format!("there are no completions for {name}"));
    let shells = Shells::builtins();
    let completer = shells.completer(name).ok_or_else(fail)?;
    let called = program.as_str();
    completer.write_registration(VARIABLE, called, called, called, &mut script).map_err(|_| fail())?;
    Ok(script)
}

/// Answers kubectl: a candidate a line, then what the shell is to do with them (1 is an error, 2 no space, 4 no files).
fn for_kubectl() -> ExitCode {
    let mut args: Vec<OsString> = vec!["bulla".into()];
    args.extend(std::env::args_os().skip(1));
    let last = (args.len() - 1).max(1);
    args.resize(last + 1, OsString::new());
    let Ok(candidates) = complete(&mut completing(), args, last, None) else {
        _ = output::data(b":1\n");
        return ExitCode::SUCCESS;
    };
    let mut text = Vec::new();
    for candidate in &candidates {
        text.extend_from_slice(candidate.get_value().as_encoded_bytes());
        if let Some(help) = candidate.get_help() {
            _ = write!(text, "\t{}", help.to_string().lines().next().unwrap_or_default());
        }
        text.push(b'\n');
    }
    let open = candidates.iter().any(|candidate| candidate.get_value().as_encoded_bytes().ends_with(b"/"));
    _ = writeln!(text, ":{}", if open { 6 } else { 4 });
    _ = output::data(&text);
    ExitCode::SUCCESS
}
