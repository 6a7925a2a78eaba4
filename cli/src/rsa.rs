//! Whom files of Bitnami's format are sealed for: one certificate, from the command line or a policy.

use bulla::bitnami::{Certificate, KeyFingerprint};

use crate::certificate;
use crate::failure::{Failure, Result};

/// A certificate and what it is called.
#[derive(Debug)]
pub struct Rsa {
    pub certificate: Certificate,
    /// A policy's name, else that of the file.
    pub name: String,
}

impl Rsa {
    /// For a person.
    pub fn shown(&self) -> String {
        format!("{} ({})", self.name, short(&self.certificate.fingerprint()))
    }
}

/// An RSA key for a person: the begin of its fingerprint.
pub fn short(fingerprint: &KeyFingerprint) -> String {
    let digits = fingerprint.to_string();
    format!("rsa:{}", digits.get(..16).unwrap_or(&digits))
}

/// Whether a file of public keys is a certificate rather than recipients: by what it says.
pub fn is_certificate(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains("-----BEGIN CERTIFICATE-----") && !text.contains("PRIVATE KEY-----")
}

/// What `--cert` names: a file, or a URL.
pub fn load(location: &str) -> Result<Rsa> {
    let certificate = certificate::load(location)?;
    let stem = location.rsplit('/').next().and_then(|name| name.split('.').next()).filter(|stem| !stem.is_empty());
    Ok(Rsa { certificate, name: crate::failure::printable(stem.unwrap_or("certificate")) })
}

/// The certificate in a file's bytes, which must not have expired.
pub fn read(file: &str, bytes: &[u8], name: String) -> Result<Rsa> {
    let certificate = certificate::parse(file, bytes).map_err(|failure| failure.in_file(file))?;
    match certificate::expired(&certificate) {
        None => Ok(Rsa { certificate, name }),
        Some(date) => Err(Failure::new(format!("the certificate {file} expired on {date}"))
            .in_file(file)
            .help("get the newest one from the cluster: bulla kubeseal --fetch-cert")),
    }
}
