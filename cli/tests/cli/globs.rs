//! Globs of a policy against Git itself: what a rule matches is what the same line in a `.gitignore` would ignore.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::sandbox::{Sandbox, finish};

/// The module under test, by itself: it needs nothing of the program.
#[path = "../../src/policy/glob.rs"]
#[allow(dead_code, missing_docs)]
mod glob;

fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[ab*?]{1,3}",
        2 => Just("**".to_owned()),
        2 => "[a-c.]{1,4}(\\.yaml)?",
        1 => "\\[[!^]?[a-c]{1,2}\\][a-c*]{0,2}",
        1 => "\\[a-c\\]\\*?",
        1 => "(\\\\[*?a\\[]){1,2}[ab]?",
        1 => "[a-b]\\*\\*[a-b]?",
        1 => "[ab]{1,2} [ab]",
    ];
    ("/?", prop::collection::vec(part, 1..4), "/?")
        .prop_map(|(start, parts, end)| format!("{start}{}{end}", parts.join("/")))
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]{1,3}|[abc]\\.yaml|a b|\\*a|a\\[b\\]|\\.[ab]", 1..5).prop_map(|parts| parts.join("/"))
}

/// What git ignores of these paths with this line, each told by its exact path.
fn ignored(sandbox: &Sandbox, pattern: &str, paths: &[String]) -> BTreeSet<String> {
    sandbox.write(".gitignore", format!("{pattern}\n"));
    let mut command = sandbox.command("git");
    // Nothing of this is in the index or on the disk: Git goes by the text of a path, a file's.
    command.args(["-c", "core.quotePath=false", "check-ignore", "--no-index", "--stdin", "-z"]);
    let input: String = paths.iter().fold(String::new(), |mut all, path| {
        _ = write!(all, "{path}\0");
        all
    });
    let run = finish(command, input.as_bytes());
    assert!(run.code == 0 || run.code == 1, "{pattern}: {}", run.err);
    run.text().split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn rules_match_what_git_ignores() {
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q"]);
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let count = std::cell::Cell::new((0, 0));
    runner
        .run(&(pattern(), prop::collection::vec(path(), 1..40)), |(pattern, paths)| {
            let Ok(glob) = glob::Glob::new(&pattern) else { return Ok(()) };
            let wanted = ignored(&sandbox, &pattern, &paths);
            for path in &paths {
                let own = glob.matches(std::path::Path::new(path));
                prop_assert_eq!(own, wanted.contains(path), "{} and {}", pattern, path);
                let (tried, matched) = count.get();
                count.set((tried + 1, matched + usize::from(own)));
            }
            Ok(())
        })
        .unwrap();
    let (tried, matched) = count.get();
    assert!(tried > 2000 && matched > 200, "{matched} of {tried} matched");
}
