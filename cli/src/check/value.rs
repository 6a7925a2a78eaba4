//! Whether a text is a secret, or stands where one will be.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// What a text under a telling name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Empty,
    /// Says itself that it is replaced: `changeme`, `<password>`.
    Placeholder,
    /// Names what a later step puts there: `${VAR}`, `vault:…`, a template.
    Reference,
    /// Ciphertext of a tool for that.
    Encrypted,
    /// A certificate, a public key.
    Public,
    /// Anything else.
    Value,
}

/// Stands for a template expression in a text that was made readable, see [`super::lenient`]. Never assigned in Unicode.
pub const HOLE: char = '\u{7ff}';

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes base64 as it stands in manifests, line ends in it ignored.
pub fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bare = Zeroizing::new(String::with_capacity(text.len()));
    bare.extend(text.chars().filter(|c| !c.is_ascii_whitespace()));
    BASE64.decode(bare.as_bytes()).ok().map(Zeroizing::new)
}

/// Of a value under `data` of a Secret.
pub fn assess_base64(text: &str) -> Verdict {
    let own = assess(text);
    if own != Verdict::Value {
        return own;
    }
    let Some(bytes) = decode(text) else { return Verdict::Value };
    std::str::from_utf8(&bytes).map_or(Verdict::Value, assess)
}

/// Words that nobody uses for a secret, in lower case, without what joins words.
const WORDS: &[&str] = &[
    "changeme",
    "changeit",
    "changethis",
    "changemenow",
    "changemeplease",
    "pleasechangeme",
    "pleasechange",
    "replaceme",
    "replacethis",
    "replace",
    "replacewithyours",
    "fillme",
    "fillmein",
    "fillin",
    "insertme",
    "inserthere",
    "setme",
    "todo",
    "tobedefined",
    "tobedetermined",
    "tbd",
    "tba",
    "fixme",
    "placeholder",
    "dummy",
    "redacted",
    "removed",
    "hidden",
    "masked",
    "example",
    "sample",
    "none",
    "null",
    "nil",
    "na",
    "unset",
    "undefined",
    "empty",
    "notset",
    "unused",
    "ignored",
    "notused",
    "secret",
    "password",
    "passwd",
    "token",
    "yourpassword",
    "yoursecret",
    "yourtoken",
    "yourkey",
    "yourapikey",
    "mypassword",
    "mysecret",
    "mytoken",
    "supersecret",
    "verysecret",
    "topsecret",
    "string",
    "value",
    "somevalue",
    "somepassword",
    "somesecret",
    "sometoken",
    "base64",
    "fake",
    "mock",
    "notasecret",
    "notarealsecret",
    "notreal",
    "test",
    "testing",
    "foo",
    "bar",
    "baz",
    "foobar",
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "enabled",
    "disabled",
    "auto",
    "generated",
    "random",
    "default",
    "optional",
    "required",
];

/// Beginnings of words that go on with what is to be put there.
const BEGINNINGS: &[&str] = &[
    "changeme",
    "replaceme",
    "replacewith",
    "your",
    "enteryour",
    "putyour",
    "insert",
    "example",
    "placeholder",
    "dummy",
    "redacted",
    "todo",
    "fillin",
    "notareal",
    "notasecret",
    "someexample",
    "thisis",
    "fake",
    "tobe",
    "setvia",
    "setby",
    "providedby",
    "injectedby",
    "managedby",
    "seevault",
    "overlayreplaces",
    "overridein",
    "overridden",
    "overriddenby",
    "replacedby",
    "willbe",
    "changethis",
    "pleasechange",
    "donotuse",
    "usea",
];

/// Ends of words that say the same.
const ENDINGS: &[&str] = &[
    "changeme",
    "placeholder",
    "replaceme",
    "goeshere",
    "here",
    "tobereplaced",
    "replacesthis",
    "replacethis",
    "example",
    "dummy",
];

/// What tools put in the place of a value that they fetch later.
const REFERENCES: &[&str] = &[
    "ref+",
    "vault:",
    "secretref+",
    "op://",
    "arn:aws:secretsmanager:",
    "arn:aws:ssm:",
    "awssm:",
    "awsssm:",
    "gcpsm:",
    "azurekeyvault:",
    "akv:",
    "keyvault:",
    "sm://",
    "ssm:",
    "ssm://",
    "gopass:",
    "pass:",
    "env:",
    "file:",
    "file://",
    "secret://",
    "secrets://",
    "doppler:",
    "bws:",
    "sops://",
    "infisical:",
    "aws-secretsmanager:",
    "projects/",
    "/run/secrets/",
    "/var/run/secrets/",
    "/etc/secrets/",
    "k8s:",
    "secretkeyref:",
    "configmapkeyref:",
    "key://",
    ">>vault:",
    "conjur:",
    "!var ",
    "berglas://",
    "secret/data/",
    "$__file{",
    "$__env{",
    "urlref+",
];

const ENCRYPTED: &[&str] = &[
    "ENC[",
    "-----BEGIN AGE ENCRYPTED FILE-----",
    "-----BEGIN PGP MESSAGE-----",
    "$ANSIBLE_VAULT;",
    "age-encryption.org/",
    "ENC(",
    "v1.sealed.",
    "secure:",
];

/// Of a text under a telling name.
pub fn assess(text: &str) -> Verdict {
    let text = text.trim();
    if text.is_empty() {
        return Verdict::Empty;
    }
    if ENCRYPTED.iter().any(|mark| text.starts_with(mark)) {
        return Verdict::Encrypted;
    }
    if is_public(text) {
        return Verdict::Public;
    }
    let lower: String = text.chars().take(64).collect::<String>().to_lowercase();
    if REFERENCES.iter().any(|mark| lower.starts_with(mark))
        || is_wholly_reference(text)
        || is_key_reference(text)
        || is_login_reference(text)
    {
        return Verdict::Reference;
    }
    if is_placeholder(text) {
        return Verdict::Placeholder;
    }
    Verdict::Value
}

fn is_public(text: &str) -> bool {
    let one_line = !text.contains('\n');
    if text.starts_with("-----BEGIN ") || text.contains("\n-----BEGIN ") {
        return !text.contains("PRIVATE KEY")
            && ["CERTIFICATE", "PUBLIC KEY", "DH PARAMETERS", "EC PARAMETERS", "X509 CRL"]
                .iter()
                .any(|kind| text.contains(kind))
            && text.lines().filter(|line| line.starts_with("-----BEGIN ")).all(|line| !line.contains("PRIVATE"));
    }
    let ssh = ["ssh-rsa ", "ssh-ed25519 ", "ecdsa-sha2-", "sk-ssh-ed25519@", "ssh-dss "];
    if ssh.iter().any(|kind| text.starts_with(kind)) {
        return true;
    }
    // Recipients, and known_hosts.
    (one_line && text.starts_with("age1") && text.len() >= 62 && text.bytes().all(|b| b.is_ascii_alphanumeric()))
        || text.lines().all(|line| {
            let mut words = line.split_whitespace();
            line.starts_with('#') || words.nth(1).is_some_and(|word| ssh.iter().any(|kind| kind.trim_end() == word))
        })
}

/// Nothing but references, with what joins them: `${USER}:${PASSWORD}`, `{{ .Values.x }}`, `<path:…>`, `$(VAR)`, `%VAR%`.
fn is_wholly_reference(text: &str) -> bool {
    let mut rest = text;
    let mut found = false;
    let mut literal = 0;
    while let Some(c) = rest.chars().next() {
        let end = match c {
            HOLE => {
                let len = rest[c.len_utf8()..].find(|c| c != '_').map_or(rest.len(), |at| at + c.len_utf8());
                Some(len)
            }
            '$' if rest.starts_with("${") => closing(rest, '{', '}'),
            '$' if rest.starts_with("$(") => closing(rest, '(', ')'),
            '$' if rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                Some(rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(rest.len(), |at| at + 1))
                    .filter(|end| {
                        rest[1..*end].bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
                            || (*end == rest.len() && literal == 0 && rest.contains('_'))
                    })
            }
            '{' if rest.starts_with("{{") => rest.find("}}").map(|at| at + 2),
            '{' if rest.starts_with("{%") => rest.find("%}").map(|at| at + 2),
            '<' if rest.starts_with("<%") => rest.find("%>").map(|at| at + 2),
            '<' if rest.starts_with("<path:") || rest.starts_with("<<") => {
                rest.find('>').map(|at| at + 1 + usize::from(rest[at + 1..].starts_with('>')))
            }
            '#' if rest.starts_with("#{") => closing(rest, '{', '}'),
            '@' if rest.starts_with("@@") => rest[2..].find("@@").map(|at| at + 4),
            '%' => rest[1..]
                .find('%')
                .filter(|at| *at > 1 && rest[1..=*at].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
                .map(|at| at + 2),
            _ => None,
        };
        match end.and_then(|end| rest.get(end..)) {
            Some(after) => {
                found = true;
                rest = after;
            }
            None => {
                if c.is_alphanumeric() {
                    literal += 1;
                }
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    found && literal == 0
}

/// `$email-password`, `$argocd:webhook.github`: how Argo CD names a key of its Secret.
fn is_key_reference(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|name| {
        name.contains(['-', ':'])
            && name.split(['-', ':', '.']).all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
    })
}

/// A URL of which the password is a reference: the rest of it is an address.
fn is_login_reference(text: &str) -> bool {
    !text.contains('\n')
        && text
            .split_once("://")
            .and_then(|(_, rest)| rest.rsplit_once('@'))
            .and_then(|(login, _)| login.split_once(':'))
            .is_some_and(|(_, password)| is_wholly_reference(password))
}

fn closing(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(at + 1);
            }
        }
    }
    None
}

fn is_placeholder(text: &str) -> bool {
    if text.len() > 200 || text.contains('\n') {
        return text.len() <= 400 && text.chars().all(|c| matches!(c, 'x' | 'X' | '*' | '.' | '-' | '_' | '\n' | ' '));
    }
    // <password>, [password], __PASSWORD__, «…»
    let framed = [('<', '>'), ('[', ']'), ('«', '»')]
        .iter()
        .any(|(open, close)| text.starts_with(*open) && text.ends_with(*close) && text.chars().count() > 2);
    if framed || (text.len() > 4 && text.starts_with("__") && text.ends_with("__")) {
        return true;
    }
    // ****, xxxx, ...., 0000, also with a beginning: ghp_xxxxxxxx, sk-XXXX
    let tail = text.rsplit(['_', '-', ':']).next().unwrap_or(text);
    let one = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|first| {
            matches!(first, 'x' | 'X' | '*' | '.' | '-' | '_' | '?' | '…' | '•' | '·' | '#' | '0')
                && part.chars().count() >= 3
                && chars.all(|c| c == first)
        })
    };
    if one(text)
        || one(tail)
        || text.ends_with("...")
        || text.ends_with('…')
        || text.chars().all(|c| !c.is_alphanumeric())
    {
        return true;
    }
    if text.to_ascii_lowercase().contains("xxxxxx") || text.contains("......") {
        return true;
    }
    let bare: String = text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    if WORDS.contains(&bare.as_str()) {
        return true;
    }
    let letters = bare.trim_end_matches(|c: char| c.is_ascii_digit());
    if WORDS.contains(&letters) && bare.len() - letters.len() <= 3 && !letters.is_empty() {
        return true;
    }
    // Words that go on: CHANGE_ME_PLEASE, your-api-token. A real value that begins so has no such joints.
    let worded = words(text).count() > 1 && text.bytes().filter(u8::is_ascii_digit).count() <= 2;
    worded
        && (BEGINNINGS.iter().any(|word| bare.starts_with(word))
            || ENDINGS.iter().any(|word| bare.ends_with(word))
            || words(text).any(|word| {
                matches!(word, "changeme" | "placeholder" | "example" | "dummy" | "redacted" | "fake" | "todo")
            })
            || words(text).collect::<Vec<_>>().windows(2).any(|pair| {
                matches!(pair, ["change", "me"] | ["replace", "me"] | ["to", "be"] | ["not", "real"] | ["a", "secret"])
            }))
}

/// The lower-case words of a text that is words: letters, joined by something.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(|word| match word {
        _ if word.bytes().all(|b| b.is_ascii_uppercase()) => lower(word),
        _ => word,
    })
}

/// The words that matter here, lowered without an allocation.
fn lower(word: &str) -> &str {
    const KNOWN: &[&str] = &[
        "change",
        "me",
        "replace",
        "to",
        "be",
        "not",
        "real",
        "a",
        "secret",
        "changeme",
        "placeholder",
        "example",
        "dummy",
        "redacted",
        "fake",
        "todo",
    ];
    KNOWN.iter().find(|known| known.eq_ignore_ascii_case(word)).copied().unwrap_or(word)
}

/// The password within a URL, `scheme://user:password@host`, when it is a literal.
pub fn password_in_url(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let after = &rest[at + 3..];
        let authority = &after[..after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | ',' | ';'))
            .unwrap_or(after.len())];
        // A password may have a slash in it where somebody was careless; then the @ comes later, on the same line.
        if let Some((login, host)) = authority.rsplit_once('@')
            && !host.is_empty()
            && let Some((_, password)) = login.split_once(':')
            && assess(password) == Verdict::Value
        {
            return true;
        }
        rest = after;
    }
    false
}

/// Whether a text looks like the name of something rather than like a value: lower-case words, joined.
pub fn is_resource_name(text: &str) -> bool {
    text.len() <= 63
        && text.contains(['-', '.'])
        && text.split(['-', '.', '/']).all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_value_is_told_from_one() {
        for (text, verdict) in [
            ("", Verdict::Empty),
            ("  \n", Verdict::Empty),
            ("changeme", Verdict::Placeholder),
            ("CHANGE_ME_PLEASE", Verdict::Placeholder),
            ("change-me-123", Verdict::Placeholder),
            ("<your-api-token>", Verdict::Placeholder),
            ("xxxxxxxxxxxx", Verdict::Placeholder),
            ("ghp_xxxxxxxxxxxxxxxx", Verdict::Placeholder),
            ("********", Verdict::Placeholder),
            ("overlay-replaces-this", Verdict::Placeholder),
            ("${DB_PASSWORD}", Verdict::Reference),
            ("$(API_TOKEN)", Verdict::Reference),
            ("${USER}:${PASSWORD}", Verdict::Reference),
            ("${vault:secret/data/db#password}", Verdict::Reference),
            ("<path:secret/data/db#password>", Verdict::Reference),
            ("ref+vault://secret/billing#/password", Verdict::Reference),
            ("{{ .Values.password }}", Verdict::Reference),
            ("ENC[AES256_GCM,data:x,type:str]", Verdict::Encrypted),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHCSP me@host", Verdict::Public),
            ("-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----", Verdict::Public),
            ("hunter2", Verdict::Value),
            ("admin", Verdict::Value),
            ("p$ssw0rd", Verdict::Value),
            ("Correct-Horse-7", Verdict::Value),
            ("pre${X}fix9", Verdict::Value),
            ("$email-password", Verdict::Reference),
            ("$tr0ng-pass", Verdict::Value),
            ("{% if t %}{{ t }}{% endif %}", Verdict::Reference),
            ("postgres://shop:{{ op://infra/db/password }}@db/shop", Verdict::Reference),
            ("postgres://shop:hunter2@db/{{ x }}", Verdict::Value),
            (
                "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nx",
                Verdict::Value,
            ),
        ] {
            assert_eq!(assess(text), verdict, "{text:?}");
        }
        assert_eq!(assess_base64("Y2hhbmdlbWU="), Verdict::Placeholder);
        assert_eq!(assess_base64("aHVudGVyMg=="), Verdict::Value);
        assert_eq!(assess_base64("/w=="), Verdict::Value);
    }

    #[test]
    fn passwords_in_urls_are_found() {
        assert!(password_in_url("postgres://shop:s3cr3t9x@db.shop.svc/shop"));
        assert!(!password_in_url("postgres://shop:$(PASSWORD)@db.shop.svc/shop"));
        assert!(!password_in_url("https://example.test/a:b@c"));
        assert!(!password_in_url("https://user@example.test"));
    }
}
