//! `kubeseal`: what its users rely on, and where it does better than the established command (docs/kubeseal.md).

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use bulla::bitnami::{BitnamiSealedSecret, PrivateKey, open};
use bulla::secret::PlainSecret;
use serde_json::Value;

use crate::sandbox::{Run, Sandbox, finish, program};

mod cert;
mod controller;
mod flags;
mod merge;
mod raw;
mod recover;
mod seal;

/// Keys and certificates that a program on Go's cryptography made.
static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../../tests/vectors/bitnami.json")).expect("JSON"));

fn pem(key: usize, what: &str) -> &'static str {
    VECTORS["keys"][key][what].as_str().expect("PEM")
}

fn private_key(key: usize) -> PrivateKey {
    PrivateKey::from_pem(pem(key, "privateKey").as_bytes()).expect("a key")
}

/// A folder with `cert.pem`, `tls.key` and `other.key`, and the program under its other name.
fn folder() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("cert.pem", pem(0, "certificate"));
    sandbox.write("tls.key", pem(0, "privateKey"));
    sandbox.write("other.key", pem(1, "privateKey"));
    std::fs::create_dir(sandbox.path("bin")).expect("a folder");
    std::os::unix::fs::symlink(program(), link(&sandbox)).expect("links");
    sandbox
}

fn link(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("bin/kubeseal")
}

fn command(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = sandbox.command(link(sandbox));
    command.args(args);
    command
}

fn kubeseal(sandbox: &Sandbox, args: &[&str], input: &str) -> Run {
    finish(command(sandbox, args), input.as_bytes())
}

/// Demands an error that begins like this, and nothing on standard output.
#[track_caller]
fn refused(run: &Run, message: &str) {
    assert_eq!((run.code, run.text().as_str()), (1, ""), "{}", run.err);
    assert!(run.err.starts_with(&format!("error: {message}")), "{}", run.err);
}

/// The SealedSecrets in a text, YAML or JSON.
fn sealed(text: &str) -> Vec<BitnamiSealedSecret> {
    let stream = bulla::manifest::Stream::read(text.as_bytes()).expect("a manifest");
    stream.objects().map(|object| object.bitnami().expect("a SealedSecret").sealed).collect()
}

fn opened(text: &str) -> PlainSecret {
    let sealed = sealed(text);
    assert_eq!(sealed.len(), 1, "{text}");
    open(&sealed[0], &[&private_key(0)], None).expect("opens").secret
}

fn value<'s>(secret: &'s PlainSecret, key: &str) -> &'s str {
    std::str::from_utf8(secret.data[key].expose()).expect("text")
}

const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: db
  namespace: shop
  labels: {app: db}
data:
  password: aHVudGVyMg==
";
