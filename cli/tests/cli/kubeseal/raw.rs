//! One value alone.

use bulla::bitnami::open_item;

use super::*;

fn raw(sandbox: &Sandbox, args: &[&str], input: &str) -> Run {
    kubeseal(sandbox, &[&["--raw", "--cert", "cert.pem"], args].concat(), input)
}

#[track_caller]
fn opens(run: Run, label: &str, expected: &[u8]) {
    let run = run.well();
    assert_eq!(run.err, "");
    let text = run.text();
    assert!(!text.contains('\n'), "no line end, as there");
    let (value, _) = open_item(&text, label.as_bytes(), &[&private_key(0)], None).expect("opens");
    assert_eq!(value.expose(), expected);
}

#[test]
fn the_value_is_sealed_for_its_place_byte_for_byte() {
    let sandbox = folder();
    opens(raw(&sandbox, &["-n", "myns", "--name", "mysecret"], "super\n"), "myns/mysecret", b"super\n");
    opens(raw(&sandbox, &["-n", "myns", "--scope", "namespace-wide"], "x"), "myns", b"x");
    opens(raw(&sandbox, &["--scope", "cluster-wide"], "x"), "", b"x");
    opens(raw(&sandbox, &["--scope", "cluster-wide"], ""), "", b"");
    sandbox.write("value", [0, 255, 10]);
    let place = ["-n", "testSpace", "--name", "testSecret"];
    opens(
        raw(&sandbox, &[&place[..], &["--from-file", "value"]].concat(), "no"),
        "testSpace/testSecret",
        &[0, 255, 10],
    );
    opens(raw(&sandbox, &[&place[..], &["--from-file=key=value"]].concat(), ""), "testSpace/testSecret", &[0, 255, 10]);
    opens(
        raw(&sandbox, &[&place[..], &["--from-file", "/dev/stdin"]].concat(), "piped"),
        "testSpace/testSecret",
        b"piped",
    );
    let run = raw(&sandbox, &["-n", "a", "--name", "b", "-w", "out.yaml"], "x").well();
    assert_eq!(run.text(), "");
    assert!(sandbox.read("out.yaml").starts_with("AQ"));
}

#[test]
fn what_is_missing_is_said_as_there() {
    let sandbox = folder();
    let run = raw(&sandbox, &[], "x");
    refused(&run, "must provide the --namespace flag with --raw and --scope strict\n");
    refused(&raw(&sandbox, &["-n", "myns"], "x"), "must provide the --name flag with --raw and --scope strict\n");
    let run = raw(&sandbox, &["--name", "mysecret", "--scope", "namespace-wide"], "x");
    refused(&run, "must provide the --namespace flag with --raw and --scope namespace-wide\n");
    let place = ["-n", "a", "--name", "b"];
    for files in [&["--from-file", "a", "--from-file", "b"][..], &["--from-file", "a,b"]] {
        let run = raw(&sandbox, &[&place[..], files].concat(), "");
        refused(&run, "must provide only one --from-file when encrypting a single item with --raw\n");
    }
    let run = raw(&sandbox, &[&place[..], &["--from-file", "gone"]].concat(), "");
    refused(&run, "open gone: no such file or directory\n");
    // With a slash in it, two places would have one label.
    let run = raw(&sandbox, &["-n", "a/b", "--name", "c"], "x");
    assert!(run.code == 1 && run.text().is_empty(), "{}", run.err);
    let run = raw(&sandbox, &[&place[..], &["-f", "cert.pem"]].concat(), "x");
    refused(&run, "--secret-file has no meaning with --raw\n");
}
