//! Recipients, identities and fingerprints (format.md, "Keys"), and the files they come in.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Checksum, Hrp};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::encoding::{base32, is_base32};
use crate::hybrid;
use crate::limits::MAX_RECIPIENTS;

const HYBRID_RECIPIENT: &str = "age1pq";
const HYBRID_IDENTITY: &str = "AGE-SECRET-KEY-PQ-";
const CLASSICAL_RECIPIENT: &str = "age1";
const CLASSICAL_IDENTITY: &str = "AGE-SECRET-KEY-";
const IDENTITY_CAPACITY: usize = 128;

/// Bech32 without its limit of 90 characters, as age uses it: a hybrid recipient has 1,959.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LongBech32 {}

impl Checksum for LongBech32 {
    type MidstateRepr = u32;
    const CODE_LENGTH: usize = 4096;
    const CHECKSUM_LENGTH: usize = bech32::Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = bech32::Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = bech32::Bech32::TARGET_RESIDUE;
}

/// Why a recipient can't be used. The text is never repeated.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientError {
    /// Neither kind of recipient.
    #[error("not an age recipient (age1pq… or age1…); is a character missing or changed?")]
    Malformed,
    /// Its X25519 share makes the shared secret zero.
    #[error("the recipient's X25519 share is of low order: anybody could open what is sealed for it")]
    LowOrder,
    /// A private key where a public one belongs.
    #[error("this is a private key (AGE-SECRET-KEY-…) where a recipient belongs; use the .pub file beside it")]
    PrivateKey,
    /// A certificate of the established controller.
    #[error("this is a PEM file; a recipient is one line, age1pq… or age1…")]
    Pem,
}

/// Why an identity can't be used. The text is never repeated.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// Neither kind of identity.
    #[error("not an age identity (AGE-SECRET-KEY-PQ-1… or AGE-SECRET-KEY-1…)")]
    Malformed,
    /// A public key where a private one belongs.
    #[error("this is a recipient (age1…) where an identity belongs; use the file without .pub")]
    Recipient,
}

/// How a recipient protects what is sealed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecipientKind {
    /// ML-KEM-768 with X25519.
    Hybrid,
    /// X25519 alone.
    Classical,
}

impl fmt::Display for RecipientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hybrid => "hybrid",
            Self::Classical => "classical",
        })
    }
}

/// `r` and the base32 of the first ten bytes of the SHA-256 of a recipient: 17 characters. It finds a line; trust compares
/// whole recipients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 10]);

impl Fingerprint {
    /// Characters of the text.
    pub const TEXT_LEN: usize = 17;
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", base32(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        let digits =
            text.strip_prefix('r').filter(|d| d.len() == 16 && is_base32(d)).ok_or(RecipientError::Malformed)?;
        let mut bytes = [0; 10];
        let mut bits = 0_u128;
        for digit in digits.bytes() {
            let value = if digit.is_ascii_digit() { digit - b'2' + 26 } else { digit - b'a' };
            bits = (bits << 5) | u128::from(value);
        }
        bytes.copy_from_slice(&bits.to_be_bytes()[6..]);
        Ok(Self(bytes))
    }
}

#[derive(Clone)]
enum RecipientKey {
    Hybrid(Box<hybrid::PublicKey>),
    Classical(age::x25519::Recipient),
}

/// A public key to seal for.
#[derive(Clone)]
pub struct Recipient {
    key: RecipientKey,
    text: String,
    fingerprint: Fingerprint,
}

impl Recipient {
    fn new(key: RecipientKey, text: String) -> Self {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let mut short = [0; 10];
        short.copy_from_slice(&hash.as_ref()[..10]);
        Self { key, text, fingerprint: Fingerprint(short) }
    }

    /// The canonical text: lower-case Bech32, 1,959 characters for a hybrid recipient and 62 for a classical one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The short fingerprint.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// `r` and the base32 of the whole SHA-256: 53 characters, what a person compares before trusting a new key.
    #[must_use]
    pub fn full_fingerprint(&self) -> String {
        format!("r{}", base32(digest::digest(&digest::SHA256, self.text.as_bytes()).as_ref()))
    }

    /// Hybrid or classical.
    #[must_use]
    pub const fn kind(&self) -> RecipientKind {
        match self.key {
            RecipientKey::Hybrid(_) => RecipientKind::Hybrid,
            RecipientKey::Classical(_) => RecipientKind::Classical,
        }
    }

    pub(crate) fn as_age(&self) -> &dyn age::Recipient {
        match &self.key {
            RecipientKey::Hybrid(key) => key.as_ref(),
            RecipientKey::Classical(key) => key,
        }
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({}, {})", self.fingerprint, self.kind())
    }
}

impl FromStr for Recipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        let upper = text.get(..CLASSICAL_IDENTITY.len()).map(str::to_ascii_uppercase);
        if upper.as_deref() == Some(CLASSICAL_IDENTITY) {
            return Err(RecipientError::PrivateKey);
        }
        if text.starts_with("-----BEGIN") {
            return Err(RecipientError::Pem);
        }
        let text = text.to_ascii_lowercase_if_upper().ok_or(RecipientError::Malformed)?;
        // With the separator: the data of a classical recipient may begin with "pq", and never has a 1.
        if text.starts_with("age1pq1") {
            let bytes = decode_bech32(HYBRID_RECIPIENT, &text).ok_or(RecipientError::Malformed)?;
            let key = hybrid::PublicKey::from_bytes(&bytes).map_err(|error| match error {
                hybrid::KeyError::Malformed => RecipientError::Malformed,
                hybrid::KeyError::LowOrder => RecipientError::LowOrder,
            })?;
            return Ok(Self::new(RecipientKey::Hybrid(Box::new(key)), text));
        }
        if text.starts_with(CLASSICAL_RECIPIENT) {
            let bytes = decode_bech32("age", &text).ok_or(RecipientError::Malformed)?;
            if bytes.len() != 32 {
                return Err(RecipientError::Malformed);
            }
            if hybrid::is_low_order(&bytes) {
                return Err(RecipientError::LowOrder);
            }
            let key = age::x25519::Recipient::from_str(&text).map_err(|_| RecipientError::Malformed)?;
            return Ok(Self::new(RecipientKey::Classical(key), text));
        }
        Err(RecipientError::Malformed)
    }
}

trait SingleCase {
    /// Bech32 is all lower or all upper case; canonical is lower.
    fn to_ascii_lowercase_if_upper(&self) -> Option<String>;
}

impl SingleCase for str {
    fn to_ascii_lowercase_if_upper(&self) -> Option<String> {
        let (lower, upper) = self.bytes().fold((false, false), |(lower, upper), b| {
            (lower || b.is_ascii_lowercase(), upper || b.is_ascii_uppercase())
        });
        (self.is_ascii() && !(lower && upper)).then(|| self.to_ascii_lowercase())
    }
}

/// Decodes strictly: the same bytes must encode to the same text.
fn decode_bech32(hrp: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let checked = CheckedHrpstring::new::<LongBech32>(text).ok()?;
    if checked.hrp() != Hrp::parse(hrp).ok()? {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(hybrid::PUBLIC_KEY_LEN));
    bytes.extend(checked.byte_iter());
    // Never longer than the text: growing would leave parts of a private key behind.
    let mut again = Zeroizing::new(String::with_capacity(text.len()));
    bech32::encode_lower_to_fmt::<LongBech32, String>(&mut again, Hrp::parse(hrp).ok()?, &bytes).ok()?;
    again.eq_ignore_ascii_case(text).then_some(bytes)
}

enum IdentityKey {
    Hybrid(Box<hybrid::PrivateKey>),
    Classical(age::x25519::Identity),
}

/// A private key that opens. It is cleared when dropped, and no `Debug` shows it.
pub struct Identity {
    key: IdentityKey,
    recipient: Recipient,
}

impl Identity {
    /// A new identity from the operating system's randomness.
    ///
    /// # Errors
    /// [`RandomnessError`] when the operating system has none.
    pub fn generate(kind: RecipientKind) -> Result<Self, RandomnessError> {
        match kind {
            RecipientKind::Hybrid => {
                let mut seed = Zeroizing::new([0; hybrid::SEED_LEN]);
                SystemRandom::new().fill(seed.as_mut_slice()).map_err(|_| RandomnessError)?;
                Self::hybrid(&seed).map_err(|_| RandomnessError)
            }
            RecipientKind::Classical => Self::classical(age::x25519::Identity::generate()).map_err(|_| RandomnessError),
        }
    }

    fn hybrid(seed: &[u8; hybrid::SEED_LEN]) -> Result<Self, IdentityError> {
        let key = hybrid::PrivateKey::from_seed(seed).ok_or(IdentityError::Malformed)?;
        let public = key.public();
        let hrp = Hrp::parse(HYBRID_RECIPIENT).map_err(|_| IdentityError::Malformed)?;
        let text = bech32::encode_lower::<LongBech32>(hrp, &public.to_bytes()).map_err(|_| IdentityError::Malformed)?;
        let recipient = Recipient::new(RecipientKey::Hybrid(Box::new(public)), text);
        Ok(Self { key: IdentityKey::Hybrid(Box::new(key)), recipient })
    }

    fn classical(key: age::x25519::Identity) -> Result<Self, IdentityError> {
        let recipient = key.to_public().to_string().parse().map_err(|_| IdentityError::Malformed)?;
        Ok(Self { key: IdentityKey::Classical(key), recipient })
    }

    /// The public half.
    #[must_use]
    pub const fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// Hybrid or classical.
    #[must_use]
    pub const fn kind(&self) -> RecipientKind {
        self.recipient.kind()
    }

    /// The text of an identity file's line. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        match &self.key {
            IdentityKey::Hybrid(key) => {
                let seed = key.seed();
                // Large enough for its 77 characters: growing would leave parts of it behind.
                let mut text = Zeroizing::new(String::with_capacity(IDENTITY_CAPACITY));
                // The prefix is a constant and 32 bytes always fit, so there is always a text.
                if let Ok(hrp) = Hrp::parse(HYBRID_IDENTITY) {
                    let _ = bech32::encode_upper_to_fmt::<LongBech32, String>(&mut text, hrp, seed.as_slice());
                }
                text
            }
            IdentityKey::Classical(key) => {
                use secrecy::ExposeSecret as _;
                Zeroizing::new(key.to_string().expose_secret().to_owned())
            }
        }
    }

    pub(crate) fn as_age(&self) -> &dyn age::Identity {
        match &self.key {
            IdentityKey::Hybrid(key) => key.as_ref(),
            IdentityKey::Classical(key) => key,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, {})", self.recipient.fingerprint, self.kind())
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let upper = Zeroizing::new(text.to_ascii_uppercase());
        if upper.starts_with(HYBRID_IDENTITY) {
            let bytes = decode_bech32(HYBRID_IDENTITY, text).ok_or(IdentityError::Malformed)?;
            let seed: &[u8; hybrid::SEED_LEN] = bytes.as_slice().try_into().map_err(|_| IdentityError::Malformed)?;
            return Self::hybrid(seed);
        }
        if upper.starts_with(CLASSICAL_IDENTITY) {
            decode_bech32(CLASSICAL_IDENTITY, text).ok_or(IdentityError::Malformed)?;
            return Self::classical(text.parse().map_err(|_| IdentityError::Malformed)?);
        }
        if text.starts_with("age1") {
            return Err(IdentityError::Recipient);
        }
        Err(IdentityError::Malformed)
    }
}

/// The operating system gave no randomness.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
#[error("the operating system gave no randomness")]
pub struct RandomnessError;

/// An error in a file of recipients or identities, with its line.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileError {
    /// A recipient that can't be used.
    #[error("line {line}: {error}")]
    Recipient {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        error: RecipientError,
    },
    /// An identity that can't be used.
    #[error("line {line}: {error}")]
    Identity {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        error: IdentityError,
    },
    /// `# name:` with a word that can't name an envelope.
    #[error(
        "line {line}: the name is not [a-z]([-a-z0-9]{{0,61}}[a-z0-9])?, or is a word that YAML reads as something else"
    )]
    Name {
        /// Counted from 1.
        line: usize,
    },
    /// Anything but printable ASCII.
    #[error("line {line}: recipients files are printable ASCII")]
    NotAscii {
        /// Counted from 1.
        line: usize,
    },
    /// Nothing in it.
    #[error("there is no key in it")]
    Empty,
}

/// A recipient as a `.pub` file lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecipient {
    /// The recipient.
    pub recipient: Recipient,
    /// The `# name:` line before it.
    pub name: Option<String>,
    /// The `# created: YYYY-MM-DD` line before it: for display only.
    pub created: Option<String>,
}

/// Reads a file of recipients: one a line, with comments; a `# name:` and a `# created:` belong to the recipient after
/// them.
///
/// # Errors
/// [`KeyFileError`] with the line.
pub fn parse_recipients(text: &str) -> Result<Vec<ListedRecipient>, KeyFileError> {
    let mut listed = Vec::new();
    let (mut name, mut created) = (None, None);
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = number + 1;
        let line = line.trim_end_matches('\r');
        if !line.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t')) {
            return Err(KeyFileError::NotAscii { line: number });
        }
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            let comment = comment.trim();
            if let Some(word) = comment.strip_prefix("name:") {
                let word = word.trim();
                if !is_envelope_name(word) {
                    return Err(KeyFileError::Name { line: number });
                }
                name = Some(word.to_owned());
            } else if let Some(date) = comment.strip_prefix("created:") {
                created = Some(date.trim().to_owned());
            }
        } else if !line.is_empty() {
            let recipient = line.parse().map_err(|error| KeyFileError::Recipient { line: number, error })?;
            listed.push(ListedRecipient { recipient, name: name.take(), created: created.take() });
        }
    }
    if listed.is_empty() { Err(KeyFileError::Empty) } else { Ok(listed) }
}

/// Reads an age identity file: one identity a line, with comments.
///
/// # Errors
/// [`KeyFileError`] with the line.
pub fn parse_identities(text: &str) -> Result<Vec<Identity>, KeyFileError> {
    let mut identities = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            identities.push(line.parse().map_err(|error| KeyFileError::Identity { line: number + 1, error })?);
        }
    }
    if identities.is_empty() { Err(KeyFileError::Empty) } else { Ok(identities) }
}

/// Whether `name` may name an envelope: `[a-z]([-a-z0-9]{0,61}[a-z0-9])?` and none of the words that a YAML 1.1 reader
/// takes for something else (format.md, "Texts").
#[must_use]
pub fn is_envelope_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes[bytes.len() - 1] != b'-'
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && !matches!(name, "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null")
}

/// Where a recipient's name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// The repository's policy: it identifies a line.
    Policy(String),
    /// A comment in the recipients file: only a label.
    Comment(String),
    /// The recipients file's name: only a label, and only where no other recipient has it.
    FileStem(String),
    /// Nothing: the fingerprint is the name.
    None,
}

/// A recipient with the name its line gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whom to seal for.
    pub recipient: Recipient,
    /// The name of the line.
    pub name: String,
    /// Whether the name is the policy's, and so identifies a line whatever its fingerprint.
    pub by_policy: bool,
}

/// Why a set of recipients can't be sealed for.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum TargetsError {
    /// Nobody to seal for.
    #[error("there is no recipient to seal for")]
    None,
    /// More than 16.
    #[error("{0} recipients; one data key is wrapped for at most {MAX_RECIPIENTS}")]
    TooMany(usize),
    /// Hybrid and classical together.
    #[error(
        "hybrid and classical recipients together: what is sealed would be only as safe against a quantum computer as \
         the classical one (classical: {0})"
    )]
    Mixed(String),
    /// One name for two recipients.
    #[error("the name {0} stands for two recipients")]
    NameTwice(String),
    /// Two names for one recipient.
    #[error("the recipient {0} has two names: {1} and {2}")]
    TwoNames(Fingerprint, String, String),
    /// A name that no envelope may have.
    #[error("{0:?} can't name an envelope: names are [a-z]([-a-z0-9]{{0,61}}[a-z0-9])?, and no word of YAML")]
    BadName(String),
    /// A name that is another recipient's fingerprint.
    #[error("the name {0} is the fingerprint of another recipient")]
    NameIsFingerprint(String),
}

/// Whom to seal for: at least one recipient and at most 16, each with a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(Vec<Target>);

impl Targets {
    /// Names the recipients and checks the set (format.md, "Texts" and rules 3 and 5). The same recipient given twice
    /// counts once.
    ///
    /// # Errors
    /// [`TargetsError`].
    pub fn new(
        given: impl IntoIterator<Item = (Recipient, NameSource)>,
        allow_mixed: bool,
    ) -> Result<Self, TargetsError> {
        let given: Vec<(Recipient, NameSource)> = given.into_iter().collect();
        let mut stems: BTreeMap<&str, Fingerprint> = BTreeMap::new();
        let mut ambiguous = Vec::new();
        for (recipient, source) in &given {
            if let NameSource::FileStem(stem) = source
                && stems.insert(stem, recipient.fingerprint).is_some_and(|other| other != recipient.fingerprint)
            {
                ambiguous.push(stem.clone());
            }
        }
        let mut targets: Vec<Target> = Vec::new();
        for (recipient, source) in given {
            let fingerprint = recipient.fingerprint.to_string();
            let (name, by_policy) = match source {
                NameSource::Policy(name) => (name, true),
                NameSource::Comment(name) => (name, false),
                NameSource::FileStem(stem) if is_envelope_name(&stem) && !ambiguous.contains(&stem) => (stem, false),
                NameSource::FileStem(_) | NameSource::None => (fingerprint.clone(), false),
            };
            if !is_envelope_name(&name) {
                return Err(TargetsError::BadName(name));
            }
            if name != fingerprint && Fingerprint::from_str(&name).is_ok() {
                return Err(TargetsError::NameIsFingerprint(name));
            }
            if let Some(same) = targets.iter_mut().find(|t| t.recipient == recipient) {
                if same.name == name || name == fingerprint {
                    same.by_policy |= by_policy && same.name == name;
                    continue;
                }
                if same.name == fingerprint {
                    (same.name, same.by_policy) = (name, by_policy);
                    continue;
                }
                return Err(TargetsError::TwoNames(recipient.fingerprint, same.name.clone(), name));
            }
            targets.push(Target { recipient, name, by_policy });
        }
        for (index, target) in targets.iter().enumerate() {
            if targets[..index].iter().any(|other| other.name == target.name) {
                return Err(TargetsError::NameTwice(target.name.clone()));
            }
        }
        if targets.is_empty() {
            return Err(TargetsError::None);
        }
        if targets.len() > MAX_RECIPIENTS {
            return Err(TargetsError::TooMany(targets.len()));
        }
        let classical: Vec<&str> = targets
            .iter()
            .filter(|t| t.recipient.kind() == RecipientKind::Classical)
            .map(|t| t.name.as_str())
            .collect();
        if !allow_mixed && !classical.is_empty() && classical.len() < targets.len() {
            return Err(TargetsError::Mixed(classical.join(", ")));
        }
        Ok(Self(targets))
    }

    /// The recipients with their names, in the order given.
    #[must_use]
    pub fn as_slice(&self) -> &[Target] {
        &self.0
    }

    /// The names, for a person.
    #[must_use]
    pub fn names(&self) -> String {
        self.0.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}
