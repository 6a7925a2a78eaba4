//! `bulla check`: a large tree, the index, many sealed files, a long history; and gitleaks on the same ones, where it is on PATH.
//!
//! The trees are made up, and alike in each run: sources of programs, manifests, charts, settings, documentation, sealed files
//! and some binaries, in the proportions of a repository that holds applications beside what deploys them.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bulla::recipient::{NameSource, Targets, parse_recipients};
use bulla::scope::Scope;

use super::{Args, Table, measure, median_of, secret};
use crate::run::{command, output};

/// Files of the tree, and their bytes together.
const FILES: usize = 50_000;
const BYTES: usize = 500_000_000;
const SEALED: usize = 10_000;
const STAGED: usize = 10;
const COMMITS: usize = 20_000;

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % below.max(1)
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.next(from.len())]
    }
}

const WORDS: &[&str] = &[
    "account",
    "amount",
    "append",
    "async",
    "await",
    "balance",
    "buffer",
    "build",
    "cache",
    "channel",
    "check",
    "client",
    "close",
    "cluster",
    "commit",
    "config",
    "connect",
    "context",
    "count",
    "create",
    "cursor",
    "default",
    "delete",
    "deploy",
    "document",
    "encode",
    "entry",
    "error",
    "event",
    "export",
    "factory",
    "field",
    "filter",
    "flush",
    "format",
    "gateway",
    "handle",
    "header",
    "index",
    "insert",
    "invoice",
    "item",
    "iterate",
    "key",
    "label",
    "ledger",
    "length",
    "limit",
    "listen",
    "lock",
    "logger",
    "map",
    "merge",
    "message",
    "method",
    "metric",
    "module",
    "name",
    "namespace",
    "network",
    "node",
    "notify",
    "object",
    "offset",
    "order",
    "package",
    "page",
    "parse",
    "password",
    "patch",
    "path",
    "payload",
    "pool",
    "port",
    "process",
    "query",
    "queue",
    "read",
    "record",
    "region",
    "register",
    "release",
    "render",
    "replica",
    "request",
    "resolve",
    "result",
    "retry",
    "return",
    "route",
    "schema",
    "scope",
    "secret",
    "select",
    "send",
    "server",
    "service",
    "session",
    "setting",
    "shard",
    "signal",
    "source",
    "spawn",
    "state",
    "status",
    "store",
    "stream",
    "string",
    "submit",
    "table",
    "task",
    "template",
    "thread",
    "timeout",
    "token",
    "topic",
    "trace",
    "update",
    "user",
    "validate",
    "value",
    "vector",
    "version",
    "volume",
    "watch",
    "worker",
    "write",
];

fn source(numbers: &mut Numbers, size: usize) -> String {
    let mut text = String::with_capacity(size + 200);
    while text.len() < size {
        let (a, b, c) = (numbers.pick(WORDS), numbers.pick(WORDS), numbers.pick(WORDS));
        let number = numbers.next(1000);
        _ = match numbers.next(7) {
            0 => write!(
                text,
                "\n/// Says how a {a} becomes the {b} of a {c}.\npub fn {a}_{b}({c}: &str) -> Option<usize> {{\n"
            ),
            1 => writeln!(text, "    let {a} = self.{b}.{c}({number})?;"),
            2 => writeln!(
                text,
                "    if {a}.{b}() > {number} {{\n        return Err(Error::{c}(\"{a} of {b} is too long\"));\n    }}"
            ),
            3 => writeln!(text, "    // The {a} was there before the {b}: see {c}."),
            4 => writeln!(
                text,
                "    for ({a}, {b}) in {c}.iter().enumerate() {{\n        {a}.push({b} + {number});\n    }}"
            ),
            5 => writeln!(text, "    {a}.insert(\"{b}-{c}\", format!(\"{{}}:{{}}\", {b}, {c}));"),
            _ => writeln!(text, "}}"),
        };
    }
    text
}

fn manifest(numbers: &mut Numbers, size: usize) -> String {
    let mut text = String::with_capacity(size + 2000);
    while text.len() < size {
        let (a, b) = (numbers.pick(WORDS), numbers.pick(WORDS));
        let number = numbers.next(100);
        _ = match numbers.next(3) {
            0 => write!(
                text,
                "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {a}-{b}\n  namespace: {b}\n  labels:\n    app.kubernetes.io/name: {a}\nspec:\n  \
                 replicas: {number}\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: {a}\n  template:\n    metadata:\n      labels:\n        \
                 app.kubernetes.io/name: {a}\n    spec:\n      serviceAccountName: {a}\n      containers:\n        - name: {a}\n          image: \
                 registry.example.org/{b}/{a}:1.{number}\n          args: [--listen=:80{number}, --log-level=info]\n          env:\n            - name: \
                 DB_HOST\n              value: {a}.{b}.svc\n            - name: DB_PASSWORD\n              valueFrom:\n                secretKeyRef:\n                  \
                 name: {a}-db\n                  key: password\n          resources:\n            requests:\n              cpu: {number}m\n              \
                 memory: {number}Mi\n"
            ),
            1 => write!(
                text,
                "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {a}-{b}\n  namespace: {b}\nspec:\n  selector:\n    app.kubernetes.io/name: {a}\n  \
                 ports:\n    - name: http\n      port: 80\n      targetPort: 80{number}\n"
            ),
            _ => write!(
                text,
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {a}-{b}\n  namespace: {b}\ndata:\n  LOG_LEVEL: info\n  TOKEN_TTL: {number}m\n  \
                 application.properties: |\n    server.port=80{number}\n    {a}.url=https://{b}.example.org/{a}\n    {a}.password=${{{a}_PASSWORD}}\n    \
                 {b}.timeout={number}s\n"
            ),
        };
    }
    text
}

fn values(numbers: &mut Numbers, size: usize) -> String {
    let mut text = String::with_capacity(size + 500);
    while text.len() < size {
        let (a, b) = (numbers.pick(WORDS), numbers.pick(WORDS));
        let number = numbers.next(100);
        _ = write!(
            text,
            "{a}{}:\n  enabled: true\n  image:\n    repository: registry.example.org/{a}/{b}\n    tag: \"1.{number}\"\n  replicaCount: {number}\n  auth:\n    \
             existingSecret: {a}-{b}\n    passwordKey: password\n  resources:\n    limits: {{cpu: {number}m, memory: {number}Mi}}\n",
            text.len()
        );
    }
    text
}

fn prose(numbers: &mut Numbers, size: usize) -> String {
    let mut text = String::with_capacity(size + 200);
    while text.len() < size {
        for _ in 0..12 {
            text.push_str(numbers.pick(WORDS));
            text.push(' ');
        }
        text.push_str(if numbers.next(6) == 0 { "\n\n## A heading\n\n" } else { "\n" });
    }
    text
}

/// Seals for a recipient of its own, in memory.
struct Sealer(Targets);

impl Sealer {
    fn new(recipient: &str) -> Result<Self> {
        let recipient = parse_recipients(recipient)?.remove(0).recipient;
        Ok(Self(Targets::new([(recipient, NameSource::Policy("prod".into()))], false)?))
    }

    fn text(&self, number: usize) -> Result<String> {
        let sealed = bulla::seal::seal(&secret(number), Scope::Strict, &self.0)?;
        Ok(bulla::manifest::emit::sealed_yaml(&sealed.into()))
    }
}

/// The kinds of files, and in what proportion they are there.
fn file(numbers: &mut Numbers, number: usize, size: usize, sealer: &Sealer) -> Result<(String, Vec<u8>)> {
    let (name, text) = match number % 20 {
        0..=6 => (format!("src/m{number}.rs"), source(numbers, size)),
        7..=9 => (format!("web/c{number}.ts"), source(numbers, size)),
        10..=13 => (format!("deploy/o{number}.yaml"), manifest(numbers, size)),
        14 => (format!("charts/c{number}/values.yaml"), values(numbers, size)),
        15 => (format!("sealed/s{number}.sealed.yaml"), sealer.text(number)?),
        16 => (format!("docs/d{number}.md"), prose(numbers, size)),
        17 => {
            let records: Vec<String> = (0..size / 60)
                .map(|_| {
                    format!(
                        "  {{\"{}\": \"{}\", \"count\": {}}}",
                        numbers.pick(WORDS),
                        numbers.pick(WORDS),
                        numbers.next(1000)
                    )
                })
                .collect();
            (format!("data/j{number}.json"), format!("[\n{}\n]\n", records.join(",\n")))
        }
        18 => (format!("scripts/t{number}.txt"), prose(numbers, size)),
        _ => {
            let bytes = (0..size).map(|_| u8::try_from(numbers.next(256)).unwrap_or_default()).collect();
            return Ok((format!("assets/i{number}.png"), bytes));
        }
    };
    Ok((name, text.into_bytes()))
}

fn tree(root: &Path, sealer: &Sealer) -> Result<usize> {
    let mut numbers = Numbers(7);
    let mut bytes = 0;
    for number in 0..FILES {
        // Many small files, some large ones, 10 KB in the middle.
        let size = match numbers.next(10) {
            0..=5 => 2_000 + numbers.next(6_000),
            6..=8 => 8_000 + numbers.next(12_000),
            _ => 20_000 + numbers.next(40_000),
        };
        let (name, text) = file(&mut numbers, number, size, sealer)?;
        let path = root.join(format!("team-{:03}", number / 200)).join(name);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        bytes += text.len();
        fs::write(path, text)?;
    }
    // What is missing of the size goes into a few large logs, as such trees have them.
    let mut part = 0;
    while bytes < BYTES {
        let text = prose(&mut numbers, (BYTES - bytes).min(4_000_000));
        bytes += text.len();
        fs::write(root.join(format!("team-000/log-{part}.txt")), text)?;
        part += 1;
    }
    fs::write(root.join(".gitignore"), "target/\nnode_modules/\n*.log\n")?;
    Ok(bytes)
}

/// A history as `git fast-import` reads it: each commit changes one to three files.
fn history(repo: &Path, sealer: &Sealer) -> Result<()> {
    let mut import = command("git")
        .args(["-C", &repo.display().to_string(), "fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()?;
    {
        let mut out = BufWriter::new(import.stdin.take().context("its input")?);
        let mut numbers = Numbers(11);
        for commit in 0..COMMITS {
            let message = format!("change {commit}");
            writeln!(
                out,
                "commit refs/heads/main\ncommitter a <a@example.org> {} +0000\ndata {}\n{message}",
                1_700_000_000 + commit,
                message.len()
            )?;
            for _ in 0..=numbers.next(3) {
                let number = numbers.next(4_000);
                let size = 1_000 + numbers.next(5_000);
                let (name, text) = file(&mut numbers, number, size, sealer)?;
                writeln!(out, "M 100644 inline {name}\ndata {}", text.len())?;
                out.write_all(&text)?;
                writeln!(out)?;
            }
        }
        out.flush()?;
    }
    ensure!(import.wait()?.success(), "git fast-import failed");
    Ok(())
}

/// Measures `bulla check`.
pub fn check(args: &Args, programs: &Path, table: &mut Table) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("bulla-bench-check-").tempdir()?;
    let path = |name: &str| dir.path().join(name);
    let bulla = |at: &Path, words: &[&str]| -> Command {
        let mut command = Command::new(programs.join("bulla"));
        command.args(words).env_clear().current_dir(at);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    };
    let git = |at: &Path, words: &[&str]| -> Result<String> {
        let config =
            ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main", "-c", "gc.auto=0"];
        output(command("git").arg("-C").arg(at).args(config).args(words))
    };
    let key = path("key.txt").display().to_string();
    measure(&mut bulla(dir.path(), &["keygen", "-w", &key]))?;
    let sealer = Sealer::new(&fs::read_to_string(format!("{key}.pub"))?)?;
    let leaks = command("gitleaks").arg("version").output().is_ok_and(|found| found.status.success());
    if !leaks {
        println!("(gitleaks is not on PATH: not measured beside)");
    }
    let beside = |what: &str, words: &[&str], at: &Path, table: &mut Table| -> Result<()> {
        if leaks {
            let wall = measure(command("gitleaks").args(words).args(["--no-banner", "--exit-code", "0"]).arg(at))?;
            table.row(&format!("gitleaks: {what}"), wall, "ms", "");
        }
        Ok(())
    };
    let few = args.runs / 10;

    let big = path("tree");
    fs::create_dir(&big)?;
    let bytes = tree(&big, &sealer)?;
    let what = format!("check {FILES} files, {} MB", bytes / 1_000_000);
    let shown = big.display().to_string();
    let run = || bulla(&big, &["check", "--exit-zero", &shown]);
    table.row(&what, median_of(few, || measure(&mut run()))?, "ms", "limit 2000");
    table.peak(&format!("{what}: peak memory"), &run(), "limit 60");
    beside(&what, &["dir"], &big, table)?;

    let sealed = path("sealed");
    fs::create_dir(&sealed)?;
    for number in 0..SEALED {
        let folder = sealed.join(format!("n{:02}", number % 50));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{number}.sealed.yaml")), sealer.text(number)?)?;
    }
    let what = format!("check {SEALED} sealed files");
    let shown = sealed.display().to_string();
    let run = || bulla(&sealed, &["check", "--exit-zero", &shown]);
    table.row(&what, median_of(few, || measure(&mut run()))?, "ms", "limit 2000");
    table.peak(&format!("{what}: peak memory"), &run(), "");
    beside(&what, &["dir"], &sealed, table)?;

    // The index of a repository of a thousand files, ten of them changed.
    let repo = path("repo");
    fs::create_dir(&repo)?;
    let mut numbers = Numbers(13);
    git(&repo, &["init", "-q"])?;
    for number in 0..1000 {
        let (name, text) = file(&mut numbers, number, 6_000, &sealer)?;
        let path = repo.join(name);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, text)?;
    }
    git(&repo, &["add", "-A"])?;
    git(&repo, &["commit", "-qm", "all"])?;
    for number in 0..STAGED {
        let (name, text) = file(&mut numbers, number + 7, 6_000, &sealer)?;
        fs::write(repo.join(name), text)?;
    }
    git(&repo, &["add", "-A"])?;
    let what = format!("check --staged, {STAGED} files");
    let run = || bulla(&repo, &["check", "--exit-zero", "--staged"]);
    table.row(&what, median_of(args.runs, || measure(&mut run()))?, "ms", "limit 15");
    if leaks {
        let wall =
            measure(command("gitleaks").args(["git", "--staged", "--no-banner", "--exit-code", "0"]).arg(&repo))?;
        table.row(&format!("gitleaks: {what}"), wall, "ms", "");
    }

    let past = path("past");
    fs::create_dir(&past)?;
    git(&past, &["init", "-q", "--bare"])?;
    history(&past, &sealer)?;
    let what = format!("check --history, {COMMITS} commits");
    let run = || bulla(&past, &["check", "--exit-zero", "--history"]);
    table.row(&what, median_of(few / 2, || measure(&mut run()))?, "ms", "limit 20000");
    beside(&what, &["git"], &past, table)
}
