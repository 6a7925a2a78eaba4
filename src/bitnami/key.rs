//! RSA keys and their certificates, as the key Secrets of the established controller hold them.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use pem::Pem;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SerialNumber};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use x509_parser::asn1_rs::{FromDer, Integer, OctetString, Sequence};
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use crate::recipient::RandomnessError;

/// Bits of the keys that [`generate`] makes.
pub const KEY_BITS: usize = 4096;
/// Bits that a key may have.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const LINES: pem::EncodeConfig = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
/// Bytes of a session key.
pub(super) const SESSION_KEY: usize = 32;

/// SHA-256 over the public key's SubjectPublicKeyInfo: which key it is, for a certificate and for its private key alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyFingerprint([u8; 32]);

impl KeyFingerprint {
    fn of(key: &PublicEncryptingKey) -> Option<Self> {
        // Written anew from the numbers: two encodings of one key are one key.
        let der = AsDer::<PublicKeyX509Der<'_>>::as_der(key).ok()?;
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der.as_ref()).as_ref());
        Some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first four bytes: enough to find a key among those that are there.
    #[must_use]
    pub const fn begin(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

impl fmt::Display for KeyFingerprint {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a certificate can't be used. Its text is never repeated.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// No `CERTIFICATE` in it.
    #[error("there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    Absent,
    /// A private key where a certificate belongs.
    #[error("this is a private key where a certificate belongs")]
    PrivateKey,
    /// Not PEM, or not a certificate within.
    #[error("the certificate is damaged: copy the whole of it again")]
    Malformed,
    /// Another kind of key.
    #[error("the certificate is not for an RSA key")]
    NotRsa,
    /// Too short to be safe, or too long to be used.
    #[error("the certificate is for an RSA key of {0} bits; this program uses 2048 to 8192")]
    Size(usize),
}

/// A certificate: whom items of this format are sealed for.
pub struct Certificate {
    public: OaepPublicEncryptingKey,
    fingerprint: KeyFingerprint,
    not_before: i64,
    not_after: i64,
    others: usize,
    pem: String,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint)
    }
}

impl Certificate {
    /// Reads the first certificate of a PEM text, as the established tools do; [`Certificate::others`] tells of more.
    ///
    /// # Errors
    /// [`CertificateError`]. Whether it has expired is the caller's to ask, who has the clock.
    pub fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let blocks = pem::parse_many(text).map_err(|_| CertificateError::Malformed)?;
        let is_certificate = |block: &&Pem| block.tag() == "CERTIFICATE";
        let mut certificates = blocks.iter().filter(is_certificate);
        let Some(first) = certificates.next() else {
            let private = blocks.iter().any(|block| block.tag().ends_with("PRIVATE KEY"));
            return Err(if private { CertificateError::PrivateKey } else { CertificateError::Absent });
        };
        let (_, parsed) = X509Certificate::from_der(first.contents()).map_err(|_| CertificateError::Malformed)?;
        let public_key = parsed.public_key();
        if public_key.algorithm.algorithm != x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION {
            return Err(CertificateError::NotRsa);
        }
        let public = PublicEncryptingKey::from_der(public_key.raw).map_err(|_| {
            // The library refuses what is too short or too long, as any other damage.
            match public_key.parsed() {
                Ok(x509_parser::public_key::PublicKey::RSA(rsa)) if !BITS.contains(&rsa.key_size()) => {
                    CertificateError::Size(rsa.key_size())
                }
                _ => CertificateError::Malformed,
            }
        })?;
        if !BITS.contains(&public.key_size_bits()) {
            return Err(CertificateError::Size(public.key_size_bits()));
        }
        let validity = parsed.validity();
        Ok(Self {
            fingerprint: KeyFingerprint::of(&public).ok_or(CertificateError::Malformed)?,
            public: OaepPublicEncryptingKey::new(public).map_err(|_| CertificateError::Malformed)?,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            others: certificates.count(),
            pem: certificate_pem(first.contents()),
        })
    }

    /// Which key it is for.
    #[must_use]
    pub const fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    /// From when it is valid, in seconds since 1970.
    #[must_use]
    pub const fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Until when it is valid, in seconds since 1970.
    #[must_use]
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Until when it is valid, for a person.
    #[must_use]
    pub fn not_after_text(&self) -> String {
        ASN1Time::from_timestamp(self.not_after).map(|time| time.to_string()).unwrap_or_default()
    }

    /// How many other certificates stood behind it in the text.
    #[must_use]
    pub const fn others(&self) -> usize {
        self.others
    }

    /// It alone, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Length in bytes of a session key that it wrapped.
    #[must_use]
    pub fn wrapped_len(&self) -> usize {
        self.public.ciphertext_size()
    }

    /// Wraps a session key.
    pub(super) fn wrap(&self, session_key: &[u8; SESSION_KEY], label: &[u8]) -> Option<Vec<u8>> {
        let mut wrapped = vec![0; self.public.ciphertext_size()];
        let length = self.public.encrypt(&OAEP_SHA256_MGF1SHA256, session_key, &mut wrapped, Some(label)).ok()?.len();
        wrapped.truncate(length);
        Some(wrapped)
    }
}

/// Why a private key can't be used. Its text is never repeated.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateKeyError {
    /// None in it.
    #[error("there is no private key in it (-----BEGIN RSA PRIVATE KEY----- or -----BEGIN PRIVATE KEY-----)")]
    Absent,
    /// Protected by a passphrase.
    #[error("the private key is encrypted: decrypt it first (openssl pkey -in FILE)")]
    Encrypted,
    /// Not PEM, or not a key within.
    #[error("the private key is damaged, or not an RSA key of 2048 to 8192 bits")]
    Malformed,
    /// Another kind of key.
    #[error("the private key is not an RSA key")]
    NotRsa,
    /// Another key than the certificate's.
    #[error("the private key and the certificate do not belong together")]
    NoMatch,
}

/// A private key: opens items of this format.
pub struct PrivateKey {
    key: OaepPrivateDecryptingKey,
    fingerprint: KeyFingerprint,
    bytes: usize,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.fingerprint)
    }
}

impl PrivateKey {
    /// Reads the first private key of a PEM text, PKCS#1 or PKCS#8.
    ///
    /// # Errors
    /// [`PrivateKeyError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, PrivateKeyError> {
        // A key's text may stand between others', such as EC PARAMETERS.
        let blocks = blocks(text)?;
        Self::of_block(blocks.iter().find(is_private).ok_or(PrivateKeyError::Absent)?)
    }

    /// Reads all private keys of a PEM text; at least one.
    ///
    /// # Errors
    /// [`PrivateKeyError`], of the first that can't be used.
    pub fn all_from_pem(text: &[u8]) -> Result<Vec<Self>, PrivateKeyError> {
        let keys: Vec<Self> = blocks(text)?.iter().filter(is_private).map(Self::of_block).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(PrivateKeyError::Absent) } else { Ok(keys) }
    }

    fn of_block(block: &Zeroizing<Block>) -> Result<Self, PrivateKeyError> {
        let decrypting = match block.tag.as_str() {
            "RSA PRIVATE KEY" => KeyPair::from_der(&block.contents)
                .ok()
                .and_then(|pair| pkcs8(&pair))
                .and_then(|der| PrivateDecryptingKey::from_pkcs8(&der).ok()),
            "PRIVATE KEY" => PrivateDecryptingKey::from_pkcs8(&block.contents).ok(),
            "ENCRYPTED PRIVATE KEY" => return Err(PrivateKeyError::Encrypted),
            _ => return Err(PrivateKeyError::NotRsa),
        };
        decrypting.and_then(Self::new).ok_or(PrivateKeyError::Malformed)
    }

    /// Reads a pair as a key Secret has it.
    ///
    /// # Errors
    /// [`PrivateKeyError`]; [`PrivateKeyError::NoMatch`] when the two do not belong together.
    pub fn with_certificate(text: &[u8], certificate: &Certificate) -> Result<Self, PrivateKeyError> {
        let key = Self::from_pem(text)?;
        if key.fingerprint == certificate.fingerprint { Ok(key) } else { Err(PrivateKeyError::NoMatch) }
    }

    fn new(key: PrivateDecryptingKey) -> Option<Self> {
        if !BITS.contains(&key.key_size_bits()) {
            return None;
        }
        let fingerprint = KeyFingerprint::of(&key.public_key())?;
        let bytes = key.key_size_bytes();
        Some(Self { key: OaepPrivateDecryptingKey::new(key).ok()?, fingerprint, bytes })
    }

    /// Which key it is.
    #[must_use]
    pub const fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    /// Whether a wrapped session key has the length that this key makes: the others need no trying.
    pub(super) const fn fits(&self, wrapped: &[u8]) -> bool {
        wrapped.len() == self.bytes
    }

    /// Unwraps a session key; `None` for every reason alike. Costs one private operation, unless the length already says
    /// that it is another key's.
    pub(super) fn unwrap(&self, wrapped: &[u8], label: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if !self.fits(wrapped) {
            return None;
        }
        let mut out = Zeroizing::new(vec![0; self.key.min_output_size()]);
        let length = self.key.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut out, Some(label)).ok()?.len();
        out.truncate(length);
        (length == SESSION_KEY).then_some(out)
    }
}

fn blocks(text: &[u8]) -> Result<Vec<Zeroizing<Block>>, PrivateKeyError> {
    let blocks = pem::parse_many(text).map_err(|_| PrivateKeyError::Malformed)?;
    Ok(blocks.into_iter().map(|pem| Zeroizing::new(Block::from(pem))).collect())
}

fn is_private(block: &&Zeroizing<Block>) -> bool {
    block.tag.ends_with("PRIVATE KEY")
}

/// A block of PEM whose content is cleared.
#[derive(zeroize::Zeroize)]
struct Block {
    #[zeroize(skip)]
    tag: String,
    contents: Vec<u8>,
}

impl From<Pem> for Block {
    fn from(pem: Pem) -> Self {
        Self { tag: pem.tag().to_owned(), contents: pem.into_contents() }
    }
}

fn pkcs8(pair: &KeyPair) -> Option<Zeroizing<Vec<u8>>> {
    Some(Zeroizing::new(AsDer::<Pkcs8V1Der<'_>>::as_der(pair).ok()?.as_ref().to_vec()))
}

/// The `RSAPrivateKey` within a `PrivateKeyInfo`.
fn pkcs1(pkcs8: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (_, info) = Sequence::from_der(pkcs8).ok()?;
    let (rest, _version) = Integer::from_der(info.content.as_ref()).ok()?;
    let (rest, _algorithm) = Sequence::from_der(rest).ok()?;
    let (_, key) = OctetString::from_der(rest).ok()?;
    Some(Zeroizing::new(key.as_ref().to_vec()))
}

/// A certificate as PEM.
pub(super) fn certificate_pem(der: &[u8]) -> String {
    pem::encode_config(&Pem::new("CERTIFICATE", der), LINES)
}

/// A new key, as a key Secret holds it.
pub struct NewKey {
    /// `tls.key`: PKCS#1 as PEM.
    pub private_key: Zeroizing<String>,
    /// `tls.crt`: self-signed, a CA, with a serial number of 128 bits.
    pub certificate: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewKey(…)")
    }
}

/// Makes an RSA key of [`KEY_BITS`] and its certificate, valid between two times in seconds since 1970. This takes tenths
/// of a second to seconds.
///
/// # Errors
/// [`RandomnessError`], also when the times are none that a certificate can have.
pub fn generate(not_before: i64, not_after: i64, common_name: &str) -> Result<NewKey, RandomnessError> {
    made(not_before, not_after, common_name).ok_or(RandomnessError)
}

fn made(not_before: i64, not_after: i64, common_name: &str) -> Option<NewKey> {
    let pair = KeyPair::generate(KeySize::Rsa4096).ok()?;
    let pkcs8 = pkcs8(&pair)?;
    let signing =
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.as_slice().into(), &rcgen::PKCS_RSA_SHA256).ok()?;
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).ok()?;
    // Positive, and never shorter.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.not_before = ASN1Time::from_timestamp(not_before).ok()?.to_datetime();
    params.not_after = ASN1Time::from_timestamp(not_after).ok()?.to_datetime();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    if !common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&signing).ok()?;
    let block = Pem::new("RSA PRIVATE KEY", pkcs1(&pkcs8)?.as_slice());
    let private_key = Zeroizing::new(pem::encode_config(&block, LINES));
    drop(Zeroizing::new(block.into_contents()));
    Some(NewKey { private_key, certificate: certificate_pem(certificate.der()) })
}
