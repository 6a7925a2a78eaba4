//! Key pairs as OpenSSH keeps them (PROTOCOL.key of OpenSSH, RFC 8709).

use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use super::random;
use crate::failure::{Failure, Result};

const KIND: &[u8] = b"ssh-ed25519";

pub struct Pair {
    /// The private key file.
    pub private: Zeroizing<Vec<u8>>,
    /// The line of the public key file.
    pub public: String,
    /// `SHA256:…`
    pub fingerprint: String,
}

pub fn generate() -> Result<Pair> {
    let seed = random::bytes(32)?;
    let check = random::bytes(4)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Failure::new("no key could be made"))?;
    let public = pair.public_key().as_ref();
    let mut blob = Vec::new();
    string(&mut blob, KIND);
    string(&mut blob, public);

    // Twice the same number, so that a wrong passphrase would show; there is none.
    let mut own = Zeroizing::new(Vec::with_capacity(256));
    own.extend_from_slice(&check);
    own.extend_from_slice(&check);
    string(&mut own, KIND);
    string(&mut own, public);
    let mut both = Zeroizing::new([0; 64]);
    both[..32].copy_from_slice(&seed);
    both[32..].copy_from_slice(public);
    string(&mut own, both.as_slice());
    string(&mut own, b"");
    let mut pad = 0;
    while own.len() % 8 != 0 {
        pad += 1;
        own.push(pad);
    }

    let mut file = Zeroizing::new(Vec::with_capacity(512));
    file.extend_from_slice(b"openssh-key-v1\0");
    string(&mut file, b"none");
    string(&mut file, b"none");
    string(&mut file, b"");
    file.extend_from_slice(&1_u32.to_be_bytes());
    string(&mut file, &blob);
    string(&mut file, &own);
    let encoded = random::base64(&file);
    let mut private = Zeroizing::new(Vec::with_capacity(1024));
    private.extend_from_slice(b"-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for line in encoded.chunks(70) {
        private.extend_from_slice(line);
        private.push(b'\n');
    }
    private.extend_from_slice(b"-----END OPENSSH PRIVATE KEY-----\n");

    let text = |bytes: &[u8]| String::from_utf8_lossy(&random::base64(bytes)).into_owned();
    Ok(Pair {
        private,
        public: format!("ssh-ed25519 {}\n", text(&blob)),
        fingerprint: format!("SHA256:{}", text(digest(&SHA256, &blob).as_ref()).trim_end_matches('=')),
    })
}

/// Bytes with their length before them. None here is longer than a few hundred.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}
