//! The documentation's and the help's examples: every command line of ours parses, and blocks that are marked
//! run: `<!-- test: files -->` in a folder with a Secret and nothing else, `<!-- test: repo -->` in a repository with a policy.
//! With `<!-- shown: … -->` in place of that, what a block shows is compared with what its commands say: `…` stands for any
//! characters of a line, and alone on a line for any lines.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};

use crate::sandbox::{DB, Sandbox, finish, program};
use crate::src::cli::{Cli, Kubeseal, at_once};

/// The parts of a shell line: words as the shell would have them, cut into simple commands.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | ';' | '&' | ' ' | '>' | '<') => {
                if let (Some(word), Some(last)) = (word.take(), all.last_mut()) {
                    last.push(word);
                }
                if c != ' ' {
                    all.push(Vec::new());
                }
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let (Some(word), Some(last)) = (word, all.last_mut()) {
        last.push(word);
    }
    all.retain(|words| !words.is_empty());
    all
}

/// Parses what of a line is ours, and says how many commands that were.
fn parse(place: &str, line: &str) -> usize {
    let mut count = 0;
    for words in commands(line) {
        if words[0] == "bulla" && words.len() > 1 {
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{place}: {line}\n{error}");
            }
            count += 1;
        } else if words[0] == "kubeseal" {
            if let Err(error) = Kubeseal::try_parse_from(&words) {
                panic!("{place}: {line}\n{error}");
            }
            count += 1;
        }
    }
    count
}

struct Block {
    place: String,
    fixture: Option<String>,
    /// Whether what is shown is compared.
    shown: bool,
    lines: Vec<String>,
    /// What each of the lines says.
    output: Vec<Vec<String>>,
}

/// The command lines of each `sh` and `console` block of a page.
fn blocks(path: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(path).expect("a page");
    let mut blocks = Vec::new();
    let (mut before, mut kind) = (String::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (kind, line) {
            (None, "```sh" | "```console") => {
                kind = Some(line == "```console");
                let place = format!("{}:{}", path.display(), number + 1);
                let marked = |mark: &str| before.strip_prefix(mark).and_then(|rest| rest.strip_suffix(" -->"));
                let shown = marked("<!-- shown: ");
                let fixture = shown.or_else(|| marked("<!-- test: ")).map(str::to_owned);
                let shown = shown.is_some();
                blocks.push(Block { place, fixture, shown, lines: Vec::new(), output: Vec::new() });
            }
            (Some(_), "```") => kind = None,
            (Some(console), line) => {
                let command = if console { line.strip_prefix("$ ") } else { Some(line) };
                let Some(block) = blocks.last_mut() else { continue };
                match (command, block.output.last_mut()) {
                    (Some(command), _) => {
                        block.lines.push(command.to_owned());
                        block.output.push(Vec::new());
                    }
                    (None, Some(output)) => output.push(line.to_owned()),
                    (None, None) => panic!("{}: what says {line}?", block.place),
                }
            }
            (None, _) => {}
        }
        before = line.to_owned();
    }
    blocks
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = std::fs::read_dir(root.join("docs")).expect("the documentation");
    let mut pages: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    pages.retain(|path| path.extension().is_some_and(|end| end == "md"));
    pages.push(root.join("README.md"));
    pages.sort();
    pages
}

#[test]
fn command_lines_of_the_documentation_parse() {
    let blocks = pages().iter().flat_map(|page| blocks(page)).collect::<Vec<_>>();
    let count: usize = blocks.iter().flat_map(|b| b.lines.iter().map(|line| parse(&b.place, line))).sum();
    assert!(count >= 30, "{count}");
}

#[test]
fn marked_blocks_of_the_documentation_run() {
    let mut ran = 0;
    for block in pages().iter().flat_map(|page| blocks(page)).filter(|block| !block.shown) {
        let Some(fixture) = &block.fixture else { continue };
        let sandbox = sandbox(&block.place, fixture);
        let run = finish(shell(&sandbox, &["-ec", &block.lines.join("\n")]), b"");
        assert_eq!(run.code, 0, "{}: {}", block.place, run.err);
        ran += 1;
    }
    assert!(ran >= 4, "{ran}");
}

#[test]
fn marked_blocks_show_what_the_commands_say() {
    const END: &str = "\u{1e}";
    let mut compared = 0;
    for block in pages().iter().flat_map(|page| blocks(page)).filter(|block| block.shown) {
        let sandbox = sandbox(&block.place, block.fixture.as_deref().expect("a fixture"));
        let script: Vec<_> = block.lines.iter().map(|line| format!("{line}\nprintf '{END}'")).collect();
        let run = finish(shell(&sandbox, &["-c", &format!("exec 2>&1\n{}", script.join("\n"))]), b"");
        let text = run.text();
        let said: Vec<&str> = text.split_terminator(END).collect();
        assert_eq!(said.len(), block.lines.len(), "{}: {text}", block.place);
        for ((line, shown), said) in block.lines.iter().zip(&block.output).zip(said) {
            let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
            let said: Vec<&str> = said.lines().collect();
            assert!(
                fits(&shown, &said),
                "{}: {line}\n{}\n=== is shown, and it says\n{}",
                block.place,
                shown.join("\n"),
                said.join("\n")
            );
            compared += 1;
        }
    }
    assert!(compared >= 10, "{compared}");
}

/// Whether lines are those that are shown.
fn fits(shown: &[&str], said: &[&str]) -> bool {
    match (shown, said) {
        ([], said) => said.is_empty(),
        (["…", rest @ ..], said) => (0..=said.len()).any(|from| fits(rest, &said[from..])),
        ([first, rest @ ..], [line, said @ ..]) => line_fits(first, line) && fits(rest, said),
        _ => false,
    }
}

/// Whether a line is the one that is shown.
fn line_fits(shown: &str, said: &str) -> bool {
    match shown.split_once('…') {
        None => shown == said,
        Some((start, rest)) => said.strip_prefix(start).is_some_and(|said| {
            said.char_indices().map(|(at, _)| at).chain([said.len()]).any(|at| line_fits(rest, &said[at..]))
        }),
    }
}

#[test]
fn shown_lines_are_matched() {
    assert!(fits(&["a …", "…", "d"], &["a b", "c", "", "d"]) && fits(&["…"], &[]) && fits(&["x…y…"], &["x1y"]));
    assert!(!fits(&["a …", "d"], &["a b", "c", "d"]) && !fits(&["…y"], &["x"]) && !fits(&[], &["x"]));
}

/// A shell that finds the program.
fn shell(sandbox: &Sandbox, args: &[&str]) -> std::process::Command {
    let mut command = sandbox.command("sh");
    let path = std::env::var("PATH").expect("a path");
    let folder = program().parent().expect("a folder").display();
    command.env("PATH", format!("{folder}:{path}")).args(args);
    command
}

fn sandbox(place: &str, fixture: &str) -> Sandbox {
    let sandbox = match fixture {
        "files" => Sandbox::empty(),
        "repo" => {
            let sandbox = crate::workflows::clone();
            sandbox.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
            sandbox
        }
        // Two branches with another password each.
        "conflict" => crate::workflows::conflict(),
        // apps/shop/db.sealed.yaml with two values, sealed for prod and recovery.
        "sealed" => crate::workflows::small(),
        other => panic!("{place}: there is no fixture {other}"),
    };
    sandbox.write("secret.yaml", DB);
    sandbox
}

fn examples(name: &str, command: &clap::Command) -> usize {
    let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
    let mut count = 0;
    for line in lines.take_while(|line| line.starts_with("  ")) {
        // What stands beside a command is a comment.
        let line = line.trim();
        count += parse(name, line.split_once("   ").map_or(line, |(command, _)| command));
    }
    command.get_subcommands().map(|sub| examples(&format!("{name} {}", sub.get_name()), sub)).sum::<usize>() + count
}

#[test]
fn examples_of_the_help_parse() {
    let count = examples("bulla", &at_once(Cli::command));
    assert!(count >= 40, "{count}");
}
