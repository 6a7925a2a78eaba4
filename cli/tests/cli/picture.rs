//! The picture in docs/check.md is what the program really says: made from its coloured output, and compared with it.
//! `BULLA_WRITE_PICTURE=1 cargo test -p bulla-cli --test cli picture` writes it anew.

use std::path::Path;

use crate::sandbox::{DB, Sandbox, finish};

/// Points of a character of 14 pixels in a monospaced font, and of a line.
const WIDTH: f64 = 8.43;
const HEIGHT: f64 = 20.0;
const LEFT: f64 = 20.0;
const TOP: f64 = 62.0;

/// How text looks.
#[derive(Clone, Copy, Default, PartialEq)]
struct Look {
    bold: bool,
    colour: Option<&'static str>,
}

/// Lines of pieces, each of one look.
fn pieces(text: &str) -> Vec<Vec<(Look, String)>> {
    let mut lines: Vec<Vec<(Look, String)>> = vec![Vec::new()];
    let mut look = Look::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(code) = rest.strip_prefix("\u{1b}[") {
            let (numbers, after) = code.split_once('m').expect("a sequence that sets the look");
            for number in numbers.split(';') {
                match number {
                    "0" | "" => look = Look::default(),
                    "1" => look.bold = true,
                    "31" => look.colour = Some("#ff7b72"),
                    "33" => look.colour = Some("#e3b341"),
                    other => panic!("the picture knows no {other}"),
                }
            }
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        if c == '\n' {
            lines.push(Vec::new());
            continue;
        }
        let line = lines.last_mut().expect("a line");
        match line.last_mut() {
            Some((last, text)) if *last == look => text.push(c),
            _ => line.push((look, c.to_string())),
        }
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A window of a terminal.
fn svg(title: &str, lines: &[Vec<(Look, String)>]) -> String {
    let columns = lines.iter().map(|line| line.iter().map(|(_, text)| text.chars().count()).sum::<usize>()).max();
    let width = (columns.unwrap_or(0) as f64 * WIDTH + 2.0 * LEFT).ceil();
    let height = (TOP + lines.len() as f64 * HEIGHT + 6.0).ceil();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace\" font-size=\"14\">\n\
         <title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>\n\
         <g fill=\"#6e7681\"><circle cx=\"22\" cy=\"20\" r=\"5\"/><circle cx=\"40\" cy=\"20\" r=\"5\"/><circle cx=\"58\" cy=\"20\" r=\"5\"/></g>\n",
        escaped(title)
    );
    for (at, line) in lines.iter().enumerate() {
        let y = TOP + at as f64 * HEIGHT;
        let mut column = 0;
        for (look, text) in line {
            let count = text.chars().count();
            let blank = text.chars().take_while(|c| *c == ' ').count();
            let shown = text.trim();
            if !shown.is_empty() {
                // A width of its own, so that marks stand under what they mark in any font.
                out.push_str(&format!(
                    "<text x=\"{:.1}\" y=\"{y}\" textLength=\"{:.1}\" xml:space=\"preserve\" fill=\"{}\"{}>{}</text>\n",
                    LEFT + (column + blank) as f64 * WIDTH,
                    shown.chars().count() as f64 * WIDTH,
                    look.colour.unwrap_or("#e6edf3"),
                    if look.bold { " font-weight=\"bold\"" } else { "" },
                    escaped(shown)
                ));
            }
            column += count;
        }
    }
    out.push_str("</svg>\n");
    out
}

#[test]
fn the_picture_is_what_the_program_says() {
    let sandbox = Sandbox::new();
    std::fs::rename(sandbox.path("key.txt.pub"), sandbox.path("prod.pub")).expect("moves");
    std::fs::remove_file(sandbox.path("key.txt")).expect("removes");
    for folder in ["shop", "live", "charts/web"] {
        std::fs::create_dir_all(sandbox.path(folder)).expect("makes");
    }
    sandbox.write("shop/db.yaml", DB);
    sandbox.write("charts/web/values.yaml", "replicas: 2\nauth:\n  adminPassword: hunter2\n");
    sandbox.write("in.yaml", DB.replace("name: db", "name: mail").replace("  username: admin\n", ""));
    sandbox.run(&["seal", "in.yaml", "-R", "prod.pub", "-w", "live/mail.sealed.yaml"]).well();
    std::fs::remove_file(sandbox.path("in.yaml")).expect("removes");
    let sealed = sandbox.read("live/mail.sealed.yaml");
    assert!(sealed.contains("  namespace: shop\n"), "{sealed}");
    sandbox.write("live/mail.sealed.yaml", sealed.replace("  namespace: shop\n", "  namespace: live\n"));
    let mut command = sandbox.bulla(&["check"]);
    command.env("CLICOLOR_FORCE", "1");
    let run = finish(command, b"");
    assert_eq!(run.code, 10, "{}", run.err);
    let told = format!("\u{1b}[1m$ bulla check\u{1b}[0m\n{}\n{}", run.text(), run.err);
    let made = svg(
        "bulla check finds a plaintext Secret, a password among Helm values, and a sealed file that was moved",
        &pieces(&told),
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/check.svg");
    if std::env::var_os("BULLA_WRITE_PICTURE").is_some() {
        std::fs::write(&path, &made).expect("writes");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "docs/check.svg is stale: BULLA_WRITE_PICTURE=1 cargo test -p bulla-cli --test cli picture");
}
