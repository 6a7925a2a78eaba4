//! Certificates: files, URLs, and those that can't be used.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use super::*;

/// A server that answers each path with the same bytes, and its address.
fn serve(answers: Vec<(&'static str, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("a clone")).lines();
            let first = lines.next().and_then(Result::ok).unwrap_or_default();
            // Written before the headers are read it could be lost.
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let path = first.split(' ').nth(1).unwrap_or_default();
            let found = answers.iter().find(|(known, _)| *known == path);
            let missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
            _ = stream.write_all(found.map_or(&missing, |(_, answer)| answer).as_bytes());
        }
    });
    address
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn moved(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

#[test]
fn files_and_urls_are_taken() {
    let sandbox = folder();
    let address = serve(vec![
        ("/cert.pem", ok(pem(0, "certificate"))),
        ("/moved", moved("/again?x=y")),
        ("/again?x=y", moved("cert.pem")),
        ("/loop", moved("/loop")),
        ("/away", moved("ftp://example.test/")),
        ("/large", ok(&"x".repeat(2 << 20))),
        ("/garbage", ok("hunter2")),
    ]);
    let path = sandbox.path("cert.pem").display().to_string();
    for location in [
        "cert.pem".to_owned(),
        path.clone(),
        format!("file://{path}"),
        format!("file://localhost{path}"),
        format!("http://{address}/cert.pem"),
        format!("HTTP://{address}/cert.pem"),
        format!("http://{address}/moved"),
    ] {
        let run = kubeseal(&sandbox, &["--cert", &location], SECRET).well();
        assert_eq!(value(&opened(&run.text()), "password"), "hunter2", "{location}");
        assert_eq!(kubeseal(&sandbox, &["--fetch-cert", "--cert", &location], "").well().text(), pem(0, "certificate"));
    }
    for (path, why) in [
        ("gone", "404 Not Found"),
        ("loop", "stopped after 10 redirects"),
        ("away", "it leads to what is neither http nor https"),
        ("large", "it broke off, or is larger than 1048576 bytes"),
    ] {
        let url = format!("http://{address}/{path}");
        refused(&kubeseal(&sandbox, &["--cert", &url], SECRET), &format!("cannot fetch \"{url}\": {why}\n"));
    }
    let url = format!("http://{address}/garbage");
    let run = kubeseal(&sandbox, &["--cert", &url], SECRET);
    refused(&run, &format!("{url}: "));
    assert!(!run.err.contains("hunter2"), "{}", run.err);
    // A server that speaks no TLS is not asked without it.
    refused(
        &kubeseal(&sandbox, &["--cert", &format!("https://{address}/cert.pem")], SECRET),
        "cannot fetch \"https://",
    );
    refused(
        &kubeseal(&sandbox, &["--cert", "http://127.0.0.1:1/x"], SECRET),
        "cannot fetch \"http://127.0.0.1:1/x\": ",
    );
    refused(&kubeseal(&sandbox, &["--cert", "ftp://example.test/x"], SECRET), "unsupported protocol scheme \"ftp\"\n");
}

#[test]
fn a_file_that_is_not_there_is_told_as_scripts_expect() {
    let sandbox = folder();
    let run = kubeseal(&sandbox, &["--cert", "/?this/file/cannot/possibly/exist/right?"], SECRET);
    assert_eq!(run.err, "error: open /?this/file/cannot/possibly/exist/right?: no such file or directory\n");
    assert_eq!(run.code, 1);
    refused(
        &kubeseal(&sandbox, &["--cert", "file:///gone.pem"], SECRET),
        "open file:///gone.pem: no such file or directory\n",
    );
}

#[test]
fn what_nothing_can_be_sealed_with_is_refused_with_its_reason() {
    let sandbox = folder();
    let seal = || kubeseal(&sandbox, &["--cert", "bad.pem"], SECRET);
    for (text, message) in [
        ("", "bad.pem: there is no certificate in it"),
        ("hunter2", "bad.pem: there is no certificate in it"),
        (pem(0, "privateKey"), "bad.pem: this is a private key where a certificate belongs\n"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "bad.pem: the certificate is damaged"),
    ] {
        sandbox.write("bad.pem", text);
        refused(&seal(), message);
        refused(&kubeseal(&sandbox, &["--fetch-cert", "--cert", "bad.pem"], ""), message);
    }
    let cut: String = pem(0, "certificate").chars().take(400).collect();
    sandbox.write("bad.pem", cut);
    refused(&seal(), "bad.pem: ");
    let elliptic = rcgen::generate_simple_self_signed(["x".to_owned()]).expect("a certificate");
    sandbox.write("bad.pem", elliptic.cert.pem());
    refused(&seal(), "bad.pem: the certificate is not for an RSA key\n");
    sandbox.write("bad.pem", bulla::bitnami::generate(1_000_000_000, 1_136_214_245, "").expect("a key").certificate);
    let run = seal();
    refused(&run, "failed to encrypt using an expired certificate on January 2, 2006\n  --> bad.pem\n");
    let run = kubeseal(&sandbox, &["--fetch-cert", "--cert", "bad.pem"], "").well();
    assert_eq!(run.err, "warning: the certificate expired on January 2, 2006: nothing can be sealed with it\n");
    assert_eq!(run.text(), sandbox.read("bad.pem"));
}

#[test]
fn of_several_certificates_the_first_counts_and_that_is_said() {
    let sandbox = folder();
    sandbox.write(
        "all.pem",
        format!("# newest first\n{}{}{}", pem(0, "certificate"), pem(1, "certificate"), pem(2, "certificate")),
    );
    let run = kubeseal(&sandbox, &["--cert", "all.pem"], SECRET).well();
    assert_eq!(run.err, "note: all.pem: the first certificate is used; there are others behind it\n");
    assert_eq!(value(&opened(&run.text()), "password"), "hunter2");
    let all = kubeseal(&sandbox, &["--fetch-cert", "--cert", "all.pem"], "").well();
    assert_eq!(all.text(), sandbox.read("all.pem"));
}

/// A server with TLS that gives everybody the same answer; its address and its certificate.
fn serve_tls(answer: String) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = rustls::StreamOwned::new(connection, stream.expect("a connection"));
            let mut head = Vec::new();
            let mut byte = [0];
            // Whoever doesn't trust the certificate ends it before there is a request.
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
            stream.conn.send_close_notify();
            _ = stream.flush();
        }
    });
    (format!("localhost:{port}"), made.cert.pem())
}

#[test]
fn https_is_checked_against_the_systems_roots_and_never_left() {
    let sandbox = folder();
    let (address, root) = serve_tls(ok(pem(0, "certificate")));
    sandbox.write("root.pem", root);
    let url = format!("https://{address}/cert.pem");
    let seal = |trusted: &str, url: &str| {
        let mut command = command(&sandbox, &["--cert", url]);
        command.env("SSL_CERT_FILE", sandbox.path(trusted));
        finish(command, SECRET.as_bytes())
    };
    assert_eq!(value(&opened(&seal("root.pem", &url).well().text()), "password"), "hunter2");
    sandbox.write("other.pem", pem(1, "certificate"));
    refused(&seal("other.pem", &url), &format!("cannot fetch \"{url}\": "));
    let (address, root) = serve_tls(moved("http://127.0.0.1:1/cert.pem"));
    sandbox.write("root.pem", root);
    let url = format!("https://{address}/cert.pem");
    refused(&seal("root.pem", &url), &format!("cannot fetch \"{url}\": it leads from https to http\n"));
}
