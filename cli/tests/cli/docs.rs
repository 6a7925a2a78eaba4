//! The documentation's and the help's examples: every command line of ours parses, and blocks that are marked
//! run: `<!-- test: files -->` in a folder with a Secret and nothing else, `<!-- test: repo -->` in a repository with a policy.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};

use crate::sandbox::{DB, Sandbox, finish, program};
use crate::src::cli::{Cli, Kubeseal};

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
    lines: Vec<String>,
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
                let fixture = before.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->"));
                let fixture = fixture.map(str::to_owned);
                blocks.push(Block { place, fixture, lines: Vec::new() });
            }
            (Some(_), "```") => kind = None,
            (Some(console), line) => {
                let command = if console { line.strip_prefix("$ ") } else { Some(line) };
                if let (Some(command), Some(block)) = (command, blocks.last_mut()) {
                    block.lines.push(command.to_owned());
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
    for block in pages().iter().flat_map(|page| blocks(page)) {
        let sandbox = match block.fixture.as_deref() {
            None => continue,
            Some("files") => Sandbox::empty(),
            Some("repo") => {
                let sandbox = crate::workflows::clone();
                sandbox.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
                sandbox
            }
            Some(other) => panic!("{}: there is no fixture {other}", block.place),
        };
        sandbox.write("secret.yaml", DB);
        let mut command = sandbox.command("sh");
        let path = std::env::var("PATH").expect("a path");
        let folder = program().parent().expect("a folder").display();
        command.env("PATH", format!("{folder}:{path}")).args(["-ec", &block.lines.join("\n")]);
        let run = finish(command, b"");
        assert_eq!(run.code, 0, "{}: {}", block.place, run.err);
        ran += 1;
    }
    assert!(ran >= 4, "{ran}");
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
    let count = examples("bulla", &Cli::command());
    assert!(count >= 40, "{count}");
}
