//! `cargo xtask layout`: writes cli/layout.ld, by which the linker puts next to each other what a start runs
//! (docs/decisions/0045).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::run::{cargo, command, root, succeed, target};

/// What is traced: what is done every day, each with hardly anything to do.
const TRACED: &[&[&str]] = &[
    &["--version"],
    &["set", "--help"],
    &["recipients"],
    &["diff", FILE, FILE],
    &["git", "textconv", FILE],
    &["check", FILE],
    SEAL,
    &["set", FILE, "more", "--from-file", "one.yaml"],
    &["unset", FILE, "more"],
    &["reseal", FILE, "--check"],
    &["unseal", FILE, "-i", "prod.txt"],
];
const HEAD: &str =
    "/* What commands run that have little to do, what most of them run first: made by `cargo xtask layout`. */
SECTIONS {
  .text.start : {
";
const TAIL: &str = "  }
}
INSERT BEFORE .text;
";
/// It makes the file that the others look at.
const SEAL: &[&str] = &["seal", "one.yaml", "-w", FILE];
const FILE: &str = "one.sealed.yaml";
const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: one\n  namespace: shop\nstringData:\n  a: b\n";

/// Traces, and writes the script.
pub fn run() -> Result<()> {
    ensure!(Command::new("valgrind").arg("--version").output().is_ok(), "valgrind is not on PATH: it traces");
    println!("building the program with its names");
    let folder = target().join("layout");
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "--release", "-p", "bulla-cli", "-p", "bulla-controller"]);
    succeed(build.env("CARGO_PROFILE_RELEASE_STRIP", "none").arg("--target-dir").arg(&folder))?;
    let program = folder.join("release/bulla");
    let dir = tempfile::tempdir()?;
    let start = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(words).env_clear().current_dir(dir.path());
        command
    };
    fs::write(dir.path().join("one.yaml"), SECRET)?;
    succeed(command("git").args(["init", "-q"]).current_dir(dir.path()))?;
    for words in [&["keygen", "-w", "prod.txt"][..], &["init", "prod.txt.pub", "--as", "prod"], SEAL] {
        succeed(&mut start(words))?;
    }
    let mut used: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, words) in TRACED.iter().enumerate() {
        let trace = dir.path().join("trace");
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--tool=callgrind", "--demangle=no", "-q"])
            .arg(format!("--callgrind-out-file={}", trace.display()));
        valgrind.arg(&program).args(*words).current_dir(dir.path());
        let ended = valgrind.output().context("valgrind")?.status;
        ensure!(ended.success(), "{words:?} ended with {ended}");
        let names = executed(&fs::read_to_string(&trace)?, &program);
        println!("{}: {} functions", words.join(" "), names.len());
        for pattern in names.iter().map(|name| pattern(name)).collect::<BTreeSet<_>>() {
            used.entry(pattern).or_default().push(number);
        }
    }
    // What the same commands run stands together, and first what most of them do.
    let mut sorted: Vec<_> = used.into_iter().collect();
    sorted.sort_by(|(a, by_a), (b, by_b)| by_b.len().cmp(&by_a.len()).then(by_a.cmp(by_b)).then(a.cmp(b)));
    let mut text = HEAD.to_owned();
    for (pattern, _) in &sorted {
        text += &format!("    *(.text.{pattern})\n");
    }
    fs::write(root().join("cli/layout.ld"), text + TAIL)?;
    println!("wrote {} patterns to cli/layout.ld", sorted.len());
    Ok(())
}

/// The functions of the program that a trace of callgrind's saw run.
fn executed(trace: &str, program: &Path) -> BTreeSet<String> {
    let (mut objects, mut functions) = (HashMap::new(), HashMap::new());
    let mut object = "";
    let mut seen = BTreeSet::new();
    for line in trace.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        // A name stands beside its number the first time only.
        let (number, name) = value.split_once(' ').unwrap_or((value, ""));
        match key {
            "ob" | "cob" => {
                if !name.is_empty() {
                    objects.insert(number, name);
                }
                if key == "ob" {
                    object = number;
                }
            }
            "fn" | "cfn" => {
                if !name.is_empty() {
                    functions.insert(number, name);
                }
                if key == "fn" {
                    seen.insert((object, number));
                }
            }
            _ => {}
        }
    }
    let ours = |object: &str| objects.get(object).is_some_and(|path| Path::new(path) == program);
    let named = seen.into_iter().filter(|(object, _)| ours(object)).filter_map(|(_, number)| functions.get(number));
    // Recursion is counted behind an apostrophe; what has no name has its address.
    let names = named.map(|name| name.split('\'').next().unwrap_or(name));
    names.filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).map(str::to_owned).collect()
}

/// The name of a function without what each compilation makes anew: hashes, numbers of copies, and versions of C libraries.
fn pattern(name: &str) -> String {
    let name = name.split(".llvm.").next().unwrap_or(name);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let name = name.rsplit_once('.').filter(|(_, end)| is_number(end)).map_or(name, |(name, _)| name);
    if let Some((path, _)) = name.rsplit_once("17h").filter(|_| name.starts_with("_ZN")) {
        return format!("{path}17h*");
    }
    if name.starts_with("_R") {
        // Cs HASH _ before the name of each crate.
        let mut parts = name.split("Cs");
        let first = parts.next().unwrap_or_default().to_owned();
        return parts.fold(first, |all, part| match part.split_once('_') {
            Some((hash, rest)) if hash.bytes().all(|b| b.is_ascii_alphanumeric()) => format!("{all}Cs*_{rest}"),
            _ => format!("{all}Cs{part}"),
        }) + "*";
    }
    let words: Vec<_> = name.split('_').map(|word| if is_number(word) { "*" } else { word }).collect();
    words.join("_").replace("*_*_*", "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_changes() {
        assert_eq!(pattern("_ZN4core3fmt5write17h0123456789abcdefE.llvm.42"), "_ZN4core3fmt5write17h*");
        assert_eq!(pattern("_RNvNtCsgEmfK2I1SDS_4core3fmt5write"), "_RNvNtCs*_4core3fmt5write*");
        assert_eq!(pattern("_RNvNtCsgEmfK2I1SDS_4core3fmt5write.10473"), "_RNvNtCs*_4core3fmt5write*");
        assert_eq!(pattern("_RNvNtCsgEmfK2I1SDS_4core3fmt5write.10473.llvm.42"), "_RNvNtCs*_4core3fmt5write*");
        assert_eq!(pattern("ring_core_0_17_14__x25519_fe_add"), "ring_core_*__x25519_fe_add");
        assert_eq!(pattern("OPENSSL_cpuid_setup"), "OPENSSL_cpuid_setup");
    }

    #[test]
    fn the_script_is_as_it_is_made() {
        let text = fs::read_to_string(root().join("cli/layout.ld")).unwrap();
        let patterns = text.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(TAIL)).expect("head and tail");
        let fits = |line: &str| {
            let name = line.strip_prefix("    *(.text.").and_then(|rest| rest.strip_suffix(')'));
            name.is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_$.*".contains(&b)))
        };
        assert_eq!(patterns.lines().find(|line| !fits(line)), None);
        assert!(patterns.lines().count() > 200);
    }

    #[test]
    fn only_what_ran_in_the_program_counts() {
        let trace = "ob=(1) /b/bulla\nfn=(1) one\n5 1\ncob=(2) /lib/c\ncfn=(2) two\ncalls=1 0\nfn=(3) three'2\nob=(2)\nfn=(2)\n1 1\nfn=(4) 0x12\n";
        let found = executed(trace, Path::new("/b/bulla"));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["one", "three"]);
    }
}
