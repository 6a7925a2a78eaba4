//! The engine by itself, and beside Go where the oracle is at hand.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

fn items(pairs: &[(&str, &str)]) -> BTreeMap<String, SecretValue> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), SecretValue::new(value.as_bytes().to_vec()))).collect()
}

fn run(template: &str, items: &BTreeMap<String, SecretValue>) -> Result<Vec<u8>, TemplateError> {
    let dialect = Dialect::native();
    let context = Context::of_items(items, &dialect);
    render("t", template, &context, &dialect, &mut Budget::default()).map(|value| value.expose().to_vec())
}

fn fails(template: &str) -> TemplateError {
    run(template, &items(&[("a", "hunter2")])).unwrap_err()
}

/// What Go said of a template, as a line of tests/templates/*.jsonl.
struct Case {
    template: String,
    items: BTreeMap<String, SecretValue>,
    output: Result<Vec<u8>, String>,
}

fn case(line: &str) -> Case {
    use base64::Engine as _;
    let json: serde_json::Value = serde_json::from_str(line).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let items = json["items"].as_object().into_iter().flatten();
    Case {
        template: text(&json["template"]),
        items: items.map(|(key, value)| (key.clone(), SecretValue::new(text(value).into_bytes()))).collect(),
        output: match (json["output"].as_str(), json["bytes"].as_str()) {
            (Some(output), _) => Ok(output.as_bytes().to_vec()),
            (_, Some(bytes)) => Ok(base64::engine::general_purpose::STANDARD.decode(bytes).unwrap()),
            _ => Err(text(&json["error"])),
        },
    }
}

/// How ours differs from Go's, if it does.
fn difference(case: &Case) -> Option<String> {
    let ours = run(&case.template, &case.items);
    let same = match (&ours, &case.output) {
        (Ok(ours), Ok(theirs)) => ours == theirs,
        (Err(error), Err(class)) => (class == "syntax") == matches!(error.kind, FaultKind::Syntax(_)),
        _ => false,
    };
    let show = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
    (!same).then(|| {
        let theirs = case.output.as_deref().map(show);
        format!("{}\n   ours: {:?}\n   Go's: {theirs:?}", case.template, ours.as_deref().map(show))
    })
}

const CORPUS: &str = include_str!("../../tests/templates/corpus.jsonl");

#[test]
fn the_corpus_renders_as_go_renders_it() {
    let cases: Vec<Case> = CORPUS.lines().filter(|line| !line.is_empty()).map(case).collect();
    assert!(cases.len() >= 400, "{} cases", cases.len());
    let differences: Vec<String> = cases.iter().filter_map(difference).collect();
    assert!(differences.is_empty(), "{} of {} differ:\n{}", differences.len(), cases.len(), differences.join("\n"));
}

#[test]
fn every_function_is_in_the_corpus() {
    let cases: Vec<Case> = CORPUS.lines().filter(|line| !line.is_empty()).map(case).collect();
    for name in Functions::hermetic().names() {
        let word = |template: &str| template.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
        assert!(cases.iter().any(|case| case.output.is_ok() && word(&case.template)), "{name}");
    }
}

/// What the oracle makes of lines; `None` when it is not at hand.
fn oracle(lines: &str) -> Option<String> {
    let Some(path) = std::env::var_os("BULLA_ORACLES") else {
        assert!(std::env::var_os("CI").is_none(), "BULLA_ORACLES does not name the program of tests/oracles");
        return None;
    };
    let mut child = Command::new(path).arg("template").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = lines.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_corpus_is_what_go_says() {
    let Some(now) = oracle(CORPUS) else { return };
    for (now, then) in now.lines().zip(CORPUS.lines()) {
        assert_eq!(now, then);
    }
}

/// Templates that mostly parse, of pieces that mostly fit.
fn template() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        ".a",
        ".b",
        ".n",
        "$",
        "\"x y\"",
        "`r`",
        "1",
        "-3",
        "2.5",
        "'c'",
        "true",
        "nil",
        "(list 1 \"a\" .b)",
        "(dict \"k\" .a \"l\" 2)",
        "(until 3)",
        "(.a | upper)",
        "(int .n)",
        "(splitList \" \" .b)",
        "\"\"",
        "(list)",
    ]);
    let unary = prop::sample::select(
        Functions::hermetic()
            .names()
            .filter(|name| !matches!(*name, "keys" | "values" | "nospace" | "initials"))
            .collect::<Vec<_>>(),
    );
    let call = (unary, prop::collection::vec(value.clone(), 0..4))
        .prop_map(|(name, args)| args.into_iter().fold(name.to_owned(), |call, arg| format!("{call} {arg}")));
    let pipe = (value, prop::collection::vec(call, 0..3))
        .prop_map(|(first, calls)| calls.into_iter().fold(first.to_owned(), |pipe, call| format!("{pipe} | {call}")));
    let text = prop::sample::select(vec!["", " ", "x\n", "{", "}} "]);
    let leaf = prop_oneof![
        3 => pipe.clone().prop_map(|pipe| format!("{{{{ {pipe} }}}}")),
        1 => text.prop_map(str::to_owned),
        1 => Just("{{- /* c */ -}}".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let pipe = pipe.clone();
        let body = prop::collection::vec(inner, 0..4).prop_map(|parts| parts.concat());
        prop_oneof![
            (pipe.clone(), body.clone(), body.clone())
                .prop_map(|(p, a, b)| format!("{{{{if {p}}}}}{a}{{{{else}}}}{b}{{{{end}}}}")),
            (pipe.clone(), body.clone()).prop_map(|(p, a)| format!("{{{{with {p}}}}}{a}{{{{end}}}}")),
            (pipe.clone(), body.clone(), body.clone())
                .prop_map(|(p, a, b)| format!("{{{{range $i, $e := {p}}}}}{{{{$i}}}}{a}{{{{else}}}}{b}{{{{end}}}}")),
            (pipe, body.clone(), body).prop_map(|(p, a, b)| format!("{a}{{{{- $v := {p} -}}}} {{{{$v}}}}{b}")),
        ]
    })
}

/// Where ours is known to say something else (docs/templates.md), or where Go prints an address.
fn is_listed(case: &Case) -> bool {
    matches!(run(&case.template, &case.items), Err(TemplateError { kind: FaultKind::Limit(_), .. }))
}

#[test]
fn random_templates_render_as_go_renders_them() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::{Config, TestRunner};
    let mut runner = TestRunner::new(Config::default());
    let mut lines = String::new();
    for _ in 0..2000 {
        let template = template().new_tree(&mut runner).unwrap().current();
        let items = serde_json::json!({"a": "Hello <b> Wörld", "b": "one two  three", "n": "17"});
        lines.push_str(&serde_json::json!({"template": template, "items": items}).to_string());
        lines.push('\n');
    }
    let Some(theirs) = oracle(&lines) else { return };
    let cases: Vec<Case> = theirs.lines().map(case).collect();
    let differences: Vec<String> = cases.iter().filter(|case| !is_listed(case)).filter_map(difference).collect();
    assert!(differences.is_empty(), "{} of {} differ:\n{}", differences.len(), cases.len(), differences.join("\n"));
}

proptest! {
    #[test]
    fn nothing_panics_and_the_output_is_bounded(template in template(), noise in "[{}a-z .$|()\"`\\\\:=0-9-]{0,60}") {
        for template in [&template, &noise, &format!("{{{{{noise}}}}}"), &format!("{template}{noise}")] {
            let items = items(&[("a", "x"), ("b", "1 2"), ("n", "17")]);
            if let Ok(output) = run(template, &items) {
                prop_assert!(output.len() <= MAX_OUTPUT);
            }
        }
    }

    #[test]
    fn an_error_has_nothing_of_a_value_or_the_template(template in template()) {
        let marked = items(&[("a", "qqsecretqq"), ("b", "qqsecretqq"), ("n", "qqsecretqq")]);
        if let Err(error) = run(&format!("{{{{/* qqtextqq */}}}}{template}"), &marked) {
            let shown = format!("{error} {error:?}");
            prop_assert!(!shown.contains("qq"), "{}", shown);
        }
    }
}

#[test]
fn errors_name_line_and_column() {
    for (template, line, column) in [
        ("a\nbü {{ .missing }}", 2, 7),
        ("{{ if }}", 1, 7),
        ("\n\n{{ nofunction .a }}", 3, 4),
        ("{{ if .a }}", 1, 12),
        ("{{ .a | b64enc | int | repeat }}", 1, 24),
    ] {
        let error = fails(template);
        assert_eq!((error.line, error.column), (line, column), "{template}: {error}");
    }
    assert_eq!(fails("{{ .missing }}").kind, FaultKind::MissingKey);
    assert_eq!(fails("{{ repeat -1 .a }}").to_string(), "line 1, column 4: a negative count (in repeat)");
}

#[test]
fn an_item_that_is_not_text_is_an_error_when_used_and_else_is_none() {
    let mut items = items(&[("a", "x")]);
    items.insert("bin".into(), SecretValue::new(vec![0xff, 0xfe]));
    assert_eq!(run("{{ .a }}", &items).unwrap(), b"x");
    assert_eq!(run("{{ len . }} {{ hasKey . \"bin\" }}", &items).unwrap(), b"2 true");
    for template in [
        "{{ .bin }}",
        "{{ .bin | b64enc }}",
        "{{ . }}",
        "{{ toJson . }}",
        "{{ range . }}{{ . }}{{ end }}",
        "{{ get . \"bin\" | print }}",
        "{{ index . \"bin\" | len }}",
        "{{ if .bin }}{{ end }}",
        "{{ values . }}",
        "{{ $x := .bin }}{{ printf \"%s\" $x }}",
        "{{ and .bin 1 }}",
        "{{ values . | join \",\" }}",
    ] {
        assert_eq!(run(template, &items).unwrap_err().kind, FaultKind::NotText, "{template}");
    }
}

#[test]
fn what_would_never_end_or_grow_without_end_ends() {
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let grow = "{{ $x := list 1 }}{{ range 100 }}{{ $x = list $x $x }}{{ end }}";
    for template in [
        "{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}".to_owned(),
        "{{ template \"t\" . }}".to_owned(),
        "{{ range 1000000000 }}{{ end }}".to_owned(),
        "{{ range until 1000000000 }}{{ end }}".to_owned(),
        "{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}".to_owned(),
        "{{ repeat 1000000000 \"x\" }}".to_owned(),
        "{{ range 2000 }}{{ repeat 1000 \"x\" }}{{ end }}".to_owned(),
        "{{ $x := \"x\" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}".to_owned(),
        format!("{grow}{{{{ print $x }}}}"),
        format!("{grow}{{{{ toJson $x }}}}"),
        format!("{grow}{{{{ deepCopy $x | len }}}}"),
        format!("{grow}{{{{ $y := deepCopy (list 1) }}}}{{{{ deepEqual $x (list $x) }}}}{{{{ printf \"%#v\" $x }}}}"),
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ print $d }}".to_owned(),
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ toJson $d }}{{ deepCopy $d }}".to_owned(),
        "{{ $d := dict }}{{ $e := dict \"d\" $d }}{{ $_ := set $d \"d\" $e }}{{ deepEqual $d $e }}".to_owned(),
        "{{ printf \"%1000000000d\" 1 }}{{ printf \"%999999d%999999d%999999d\" 1 1 1 }}".to_owned(),
        "{{ indent 1000000 \"a\\nb\\nc\\nd\" }}".to_owned(),
        "{{ replace \"\" (repeat 10000 \"x\") (repeat 10000 \"x\") }}".to_owned(),
        "{{ regexMatch \"(a{1000}){1000}\" .a }}{{ mustRegexMatch \"(((a{100}){100}){100}){100}\" .a }}".to_owned(),
        "{{ mustRegexMatch \"(x+x+)+y\" (repeat 100000 \"x\") }}".to_owned(),
        "{{ range 100000 }}{{ regexFindAll \".*[^A-Z]|[A-Z]\" (repeat 60000 \"A\") -1 | len }}{{ end }}".to_owned(),
        "{{ seq 1000000000 }}".to_owned(),
        "{{ fromJson (repeat 100000 \"[\") }}".to_owned(),
        format!("{{{{ {} }}}}", deep("(", ")", 100_000)),
        format!("{}x{}", "{{if 1}}".repeat(10_000), "{{end}}".repeat(10_000)),
        format!("{}x{}", "{{with 1}}".repeat(10_000), "{{end}}".repeat(10_000)),
        format!("{}{{{{end}}}}", "{{block \"x\" .}}".repeat(10_000)),
        "x".repeat(MAX_SOURCE + 1),
        "{{$a:=1}}".repeat(20_000),
    ] {
        let error = fails(&template);
        let shown: String = template.chars().take(80).collect();
        assert!(
            matches!(error.kind, FaultKind::Limit(_) | FaultKind::Execution(_) | FaultKind::Syntax(_)),
            "{shown}: {error}"
        );
    }
}

#[test]
fn long_chains_are_no_deep_nesting() {
    let chain = format!("{{{{if false}}}}{}{{{{else}}}}y{{{{end}}}}", "{{else if false}}x".repeat(5000));
    assert_eq!(run(&chain, &items(&[])).unwrap(), b"y");
    let fields = format!("{{{{ $x := dict }}}}{{{{ if false }}}}{{{{ $x{} }}}}{{{{ end }}}}", ".a".repeat(20_000));
    assert_eq!(run(&fields, &items(&[])).unwrap(), b"");
    let lists = "{{ $x := list }}{{ range 20000 }}{{ $x = list $x }}{{ end }}{{ len $x }}";
    assert_eq!(run(lists, &items(&[])).unwrap(), b"1", "and dropping it does not recurse");
}

#[test]
fn the_deepest_recursion_that_is_allowed_fits_into_a_small_stack() {
    let deepest = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(|| {
        let nested = format!(
            "{{{{ define \"x\" }}}}{}{{{{ template \"x\" . }}}}{}{{{{ end }}}}{{{{ template \"x\" . }}}}",
            "{{if (and (not (not (print 1))) 1)}}".repeat(40),
            "{{end}}".repeat(40)
        );
        fails(&nested).kind
    });
    assert_eq!(deepest.unwrap().join().unwrap(), FaultKind::Limit(Limit::Depth));
}

#[test]
fn all_templates_of_an_object_share_one_budget() {
    let dialect = Dialect::native();
    let context = Context::of_items(&items(&[]), &dialect);
    let mut budget = Budget::default();
    let half = format!("{{{{ repeat {} \"x\" }}}}", MAX_OUTPUT / 2);
    assert!(render("t", &half, &context, &dialect, &mut budget).is_ok());
    assert!(render("t", &half, &context, &dialect, &mut budget).is_ok());
    let error = render("t", "x", &context, &dialect, &mut budget).unwrap_err();
    assert_eq!(error.kind, FaultKind::Limit(Limit::Output));
}

#[test]
fn what_reads_the_machine_or_generates_keys_is_not_there() {
    for name in [
        "env",
        "expandenv",
        "getHostByName",
        "now",
        "ago",
        "date",
        "dateInZone",
        "htmlDate",
        "toDate",
        "randAlphaNum",
        "randBytes",
        "randInt",
        "shuffle",
        "uuidv4",
        "genPrivateKey",
        "genCA",
        "genSelfSignedCert",
        "htpasswd",
        "bcrypt",
        "encryptAES",
        "decryptAES",
        "derivePassword",
        "buildCustomCert",
        "fail",
        "call",
        "lookup",
        "tpl",
        "include",
    ] {
        assert!(Functions::hermetic().get(name).is_none(), "{name}");
    }
}
