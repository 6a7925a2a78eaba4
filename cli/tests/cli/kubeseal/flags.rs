//! Flags as pflag reads them, the environment, precedence, help.

use super::*;

#[test]
fn it_answers_to_both_names() {
    let sandbox = folder();
    let version = format!("kubeseal version: v{}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(kubeseal(&sandbox, &["--version"], "").well().text(), version);
    assert_eq!(sandbox.run(&["kubeseal", "--version"]).well().text(), version);
    let help = kubeseal(&sandbox, &["--help"], "").well().text();
    for flag in ["--controller-name", "--recovery-private-key", "-o, --format", "--as-group", "--tls-server-name"] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
    assert!(help.contains("Usage: kubeseal "), "{help}");
    assert!(sandbox.run(&["kubeseal", "-h"]).well().text().contains("Usage: bulla kubeseal "));
    let as_bulla = sandbox.with_input(&["kubeseal", "--cert", "cert.pem"], SECRET).well();
    assert_eq!(value(&opened(&as_bulla.text()), "password"), "hunter2");
    let unknown = kubeseal(&sandbox, &["--no-such-flag"], "");
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.starts_with("error: ") && unknown.err.contains("--no-such-flag"), "{}", unknown.err);
    let run = kubeseal(&sandbox, &["--scope", "world-wide"], "");
    assert_eq!(run.code, 2);
    assert!(run.err.contains("must be one of: strict, namespace-wide, cluster-wide"), "{}", run.err);
}

#[test]
fn flags_are_read_as_pflag_reads_them() {
    let sandbox = folder();
    for args in [
        &["--cert=cert.pem", "-oyaml"][..],
        &["-o=yaml", "--cert", "cert.pem", "--raw=false"],
        &["-o", "json", "--cert", "gone.pem", "--format=yaml", "--cert", "cert.pem"],
        &["--cert", "cert.pem", "--validate=true", "--validate=F", "-o", "YAML"],
        &[
            "-v",
            "9",
            "--logtostderr=false",
            "--alsologtostderr",
            "--stderrthreshold=2",
            "--cert",
            "cert.pem",
            "-o",
            "yaml",
        ],
        &[
            "--vmodule",
            "a=1",
            "--log_dir=/tmp",
            "-v=5",
            "--skip_headers",
            "--add_dir_header=true",
            "--cert",
            "cert.pem",
            "-oyaml",
        ],
    ] {
        let run = kubeseal(&sandbox, args, SECRET).well();
        assert_eq!(run.err, "", "{args:?}");
        assert!(run.text().starts_with("---\napiVersion: bitnami.com/v1alpha1\n"), "{args:?}: {}", run.text());
    }
    // A boolean takes no word after it, and a word that is none of a flag's is told of.
    let run = kubeseal(&sandbox, &["--allow-empty-data", "secret.yaml", "--cert", "cert.pem"], SECRET).well();
    assert_eq!(run.err, "warning: secret.yaml is ignored: kubeseal reads standard input, or the file of -f\n");
    let run = kubeseal(&sandbox, &["--raw=perhaps"], "");
    assert!(run.code == 2 && run.err.contains("must be true or false"), "{}", run.err);
    let run = kubeseal(&sandbox, &["-o", "toml", "--cert", "cert.pem"], SECRET);
    refused(&run, "unsupported output format: toml\n");
}

#[test]
fn the_environment_stands_in_for_flags_and_flags_go_before_it() {
    let sandbox = folder();
    let with = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = command(&sandbox, args);
        command.envs(variables.iter().copied());
        finish(command, SECRET.as_bytes())
    };
    let run = with(
        &[
            ("SEALED_SECRETS_CERT", "cert.pem"),
            ("SEALED_SECRETS_FORMAT", "yaml"),
            ("SEALED_SECRETS_SCOPE", "cluster-wide"),
        ],
        &[],
    )
    .well();
    assert!(run.text().starts_with("---\n"), "{}", run.text());
    assert!(run.text().contains("sealedsecrets.bitnami.com/cluster-wide: \"true\""), "{}", run.text());
    let run = with(
        &[("SEALED_SECRETS_CERT", "gone.pem"), ("SEALED_SECRETS_FORMAT", "yaml")],
        &["--cert", "cert.pem", "-ojson"],
    );
    assert!(run.well().text().starts_with("{\n  \"kind\""));
    // What is set to nothing is not set.
    let run = with(
        &[("SEALED_SECRETS_SCOPE", ""), ("SEALED_SECRETS_RAW", ""), ("SEALED_SECRETS_NAME", "")],
        &["--cert", "cert.pem"],
    );
    assert!(run.well().text().starts_with("{\n"));
    let run = with(&[("SEALED_SECRETS_RAW", "1")], &["--cert", "cert.pem", "-n", "shop", "--name", "db"]).well();
    assert!(run.text().starts_with("AQ"), "{}", run.text());
    // Nothing is guessed from a word that means nothing, and a token is shown to nobody.
    let run = with(&[("SEALED_SECRETS_SCOPE", "everywhere")], &["--cert", "cert.pem"]);
    assert!(run.code == 2 && run.text().is_empty(), "{}", run.err);
    let note = "note: the value is that of the environment variable SEALED_SECRETS_SCOPE\n";
    assert!(run.err.ends_with(note), "{}", run.err);
    let run = with(&[("SEALED_SECRETS_RAW", "perhaps")], &["--cert", "cert.pem"]);
    assert!(run.err.contains("SEALED_SECRETS_RAW"), "{}", run.err);
    let run =
        with(&[("SEALED_SECRETS_TOKEN", "t0ken-of-mine"), ("SEALED_SECRETS_PASSWORD", "passw0rd")], &["--help"]).well();
    assert!(!run.text().contains("t0ken-of-mine") && !run.text().contains("passw0rd"), "{}", run.text());
}

#[test]
fn what_comes_first_is_done_and_nothing_else() {
    let sandbox = folder();
    let sealed = kubeseal(&sandbox, &["--cert", "cert.pem"], SECRET).well().text();
    // Opening goes before all that would ask a cluster.
    let all = ["--validate", "--re-encrypt", "--fetch-cert", "--raw", "--merge-into", "gone.yaml"];
    let unseal = ["--recovery-unseal", "--recovery-private-key", "tls.key"];
    let run = kubeseal(&sandbox, &[&all[..], &unseal[..]].concat(), &sealed).well();
    assert!(run.text().contains("\"password\": \"aHVudGVyMg==\""), "{}", run.text());
    for first in 0..2 {
        refused(
            &kubeseal(&sandbox, &all[first..], &sealed),
            "invalid configuration: no configuration has been provided\n",
        );
    }
    let fetched =
        kubeseal(&sandbox, &["--fetch-cert", "--raw", "--merge-into", "gone.yaml", "--cert", "cert.pem"], "").well();
    assert_eq!(fetched.text(), pem(0, "certificate"));
    let run = kubeseal(&sandbox, &["--raw", "--merge-into", "gone.yaml", "--cert", "cert.pem"], "");
    refused(&run, "open gone.yaml: no such file or directory\n");
    let run = kubeseal(&sandbox, &["--from-file", "x", "--cert", "cert.pem"], SECRET);
    refused(&run, "--from-file requires --raw\n");
    assert_eq!(kubeseal(&sandbox, &["--version", "--recovery-unseal"], "").well().err, "");
    let run = kubeseal(&sandbox, &["--cert", "cert.pem", "--recovery-private-key", "tls.key"], SECRET).well();
    assert_eq!(
        run.err,
        "warning: ignoring --recovery-private-key because unseal command not chosen with --recovery-unseal\n"
    );
    let run = kubeseal(&sandbox, &["--rotate"], &sealed);
    assert!(
        run.err.starts_with("Flag --rotate has been deprecated, please use --re-encrypt instead\nerror: "),
        "{}",
        run.err
    );
}

#[test]
fn the_flags_are_completed_and_have_manual_pages() {
    let sandbox = folder();
    let mut completing = command(&sandbox, &["--", "kubeseal", "--recovery-"]);
    completing.env("BULLA_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "1").env("_CLAP_IFS", "\n");
    completing.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true");
    let text = finish(completing, b"").well().text();
    assert_eq!(text, "--recovery-unseal\n--recovery-private-key");
    let script = sandbox.run(&["completions", "bash", "--for", "kubeseal"]).well().text();
    assert!(script.contains("kubeseal") && script.contains("BULLA_COMPLETE"), "{script}");
    std::fs::create_dir(sandbox.path("man1")).expect("a folder");
    sandbox.run(&["man", "man1"]).well();
    for page in ["bulla-kubeseal.1", "kubeseal.1"] {
        assert!(sandbox.read(&format!("man1/{page}")).contains("recovery\\-private\\-key"), "{page}");
    }
}
