//! TLS keys, with a self-signed certificate or a request for one.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::failure::{Failure, Result};

pub struct Pair {
    /// PKCS#8, PEM.
    pub key: Zeroizing<Vec<u8>>,
    /// The certificate or the request, PEM.
    pub public: String,
    /// What it is, for a person.
    pub told: String,
}

pub fn generate(names: &[String], days: u32, request: bool) -> Result<Pair> {
    let fail = |error: rcgen::Error| Failure::new(format!("no certificate could be made: {error}"));
    for name in names {
        let host = name.strip_prefix("*.").unwrap_or(name).to_ascii_lowercase();
        if name.parse::<std::net::IpAddr>().is_err() && !bulla::scope::is_dns_subdomain(&host) {
            return Err(Failure::usage(format!("--dns {name:?} is no host name and no IP address")));
        }
    }
    let mut params = CertificateParams::new(names.to_vec()).map_err(fail)?;
    params.distinguished_name = DistinguishedName::new();
    // Longer than that it can't be, and nobody reads it any more.
    if let Some(first) = names.first().filter(|name| name.len() <= 64) {
        params.distinguished_name.push(DnType::CommonName, first.as_str());
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
    let mut text = Zeroizing::new(key.serialize_pem());
    let pem = Zeroizing::new(std::mem::take(&mut *text).into_bytes());
    if request {
        let request = params.serialize_request(&key).map_err(fail)?;
        let told = format!("certificate request for {}", names.join(", "));
        return Ok(Pair { key: pem, public: request.pem().map_err(fail)?, told });
    }
    let day = Duration::from_secs(86_400);
    // Clocks differ: it counts from an hour ago.
    params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
    params.not_after = (SystemTime::now() + day * days).into();
    let certificate = params.self_signed(&key).map_err(fail)?;
    let hash: Vec<_> = digest(&SHA256, certificate.der()).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let told = format!(
        "self-signed certificate for {}, {days} {}, SHA-256 {}",
        names.join(", "),
        if days == 1 { "day" } else { "days" },
        hash.join(":")
    );
    Ok(Pair { key: pem, public: certificate.pem(), told })
}
