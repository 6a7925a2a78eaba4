//! Whether a text is a secret, or stands where one will be.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::{login, placeholder};

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
/// Stands for one with a literal value in it that can't stand in its place as it is. Never assigned either.
pub const LITERAL: char = '\u{7fb}';

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
    "env.",
    "file:",
    "file://",
    "secret://",
    "secrets://",
    "secrets.",
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
    "@microsoft.keyvault(",
    "os.environ",
    "os.getenv(",
    "process.env.",
    "system.getenv(",
    "getenv(",
    "get_env(",
    "env(",
    "file(",
    "lookup(",
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
    "{cipher}",
];

/// Of a text under a telling name.
pub fn assess(text: &str) -> Verdict {
    let text = text.trim();
    if text.is_empty() {
        return Verdict::Empty;
    }
    if text.contains(LITERAL) {
        return Verdict::Value;
    }
    // Spring's word for a password as it is.
    if let Some(text) = text.strip_prefix("{noop}") {
        return assess(text);
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
    // Words of an address or of a structure are not words of a phrase: what they hold is asked, one by one.
    let placeholder = match login::password_of(text) {
        Some(password) => assess(password) == Verdict::Placeholder,
        None if text.starts_with(['{', '[']) && text.contains('"') => is_placeholders(text),
        None => placeholder::is_one(text),
    };
    if placeholder { Verdict::Placeholder } else { Verdict::Value }
}

/// Whether a text is JSON of which every text is a placeholder or empty.
fn is_placeholders(text: &str) -> bool {
    fn holds(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => matches!(assess(text), Verdict::Placeholder | Verdict::Empty),
            serde_json::Value::Array(items) => items.iter().all(holds),
            serde_json::Value::Object(members) => members.values().all(holds),
            serde_json::Value::Null => true,
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
        }
    }
    serde_json::from_str(text).is_ok_and(|value| holds(&value))
}

/// Passwords of throw-away services in tests.
pub fn is_stock(text: &str) -> bool {
    const STOCK: &[&str] = &[
        "postgres",
        "root",
        "guest",
        "admin",
        "mysql",
        "mariadb",
        "user",
        "rabbitmq",
        "minio",
        "minioadmin",
        "redis",
        "mongo",
        "mongodb",
        "elastic",
        "sa",
        "ci",
    ];
    STOCK.contains(&text)
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
        || is_known_hosts(text, &ssh)
}

/// Lines of hosts and their keys, perhaps with comments between.
fn is_known_hosts(text: &str, kinds: &[&str]) -> bool {
    let is_host = |line: &str| {
        line.split_whitespace().nth(1).is_some_and(|word| kinds.iter().any(|kind| kind.trim_end() == word))
    };
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    lines.peek().is_some() && lines.all(is_host)
}

/// Nothing but references, with what joins them: `${USER}:${PASSWORD}`, `{{ .Values.x }}`, `<path:…>`, `$(VAR)`, `%VAR%`. A
/// reference with a literal default is none.
fn is_wholly_reference(text: &str) -> bool {
    beside_references(text).is_some_and(|literal| !literal.contains(char::is_alphanumeric))
}

/// The default of a text that is one reference: `${DB_PASSWORD:postgres}`, `${DB_PASSWORD:-postgres}`.
pub fn default_of(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))?;
    let (name, default) = inner.split_once(':')?;
    let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    named.then_some(default.strip_prefix('-').unwrap_or(default))
}

/// What stands beside the references of a text, with a blank for each of them. Nothing when it has none, or one with a literal
/// default.
pub fn beside_references(text: &str) -> Option<Zeroizing<String>> {
    let mut beside = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    let mut found = false;
    let mut literal = 0;
    while let Some(c) = rest.chars().next() {
        let end = match c {
            HOLE => {
                let len = rest[c.len_utf8()..].find(|c| c != '_').map_or(rest.len(), |at| at + c.len_utf8());
                Some(len)
            }
            '$' if rest.starts_with("$${") => closing(&rest[1..], '{', '}').map(|end| end + 1),
            '$' if rest.starts_with("${{") => rest.find("}}").map(|at| at + 2),
            '$' if rest.starts_with("${") => {
                let end = closing(rest, '{', '}');
                if end.and_then(|end| rest.get(2..end - 1)).is_some_and(has_literal_default) {
                    return None;
                }
                end
            }
            '$' if rest.starts_with("$(") => closing(rest, '(', ')'),
            // `($namespace)`: an expression of a test.
            '(' if rest.starts_with("($") && literal == 0 => closing(rest, '(', ')').filter(|end| *end == rest.len()),
            '$' if rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                Some(rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(rest.len(), |at| at + 1))
                    .filter(|end| {
                        rest[1..*end].bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
                            // $db_password, $dbPassword: the whole text.
                            || (*end == rest.len()
                                && literal == 0
                                && (rest.contains('_') || rest[1..].bytes().all(|b| b.is_ascii_alphabetic())))
                    })
            }
            '`' => rest[1..].find('`').map(|at| at + 2),
            '{' if rest.starts_with("{{") => rest.find("}}").map(|at| at + 2),
            '{' if rest.starts_with("{%") => rest.find("%}").map(|at| at + 2),
            // {name}, {0}: what a program formats.
            '{' => closing(rest, '{', '}').filter(|end| {
                rest[1..end - 1].bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')) && *end > 2
            }),
            '<' if rest.starts_with("<%") => rest.find("%>").map(|at| at + 2),
            '<' if rest.starts_with("<path:") || rest.starts_with("<<") => {
                rest.find('>').map(|at| at + 1 + usize::from(rest[at + 1..].starts_with('>')))
            }
            '#' if rest.starts_with("#{") => {
                closing(rest, '{', '}').map(|end| end + usize::from(rest[end..].starts_with('#')))
            }
            '@' if rest.starts_with("@@") => rest[2..].find("@@").map(|at| at + 4),
            '@' => delimited(rest, '@'),
            '%' if rest.starts_with("%(") => {
                closing(rest, '(', ')').map(|end| end + usize::from(rest[end..].starts_with('s')))
            }
            '%' => delimited(rest, '%'),
            _ => None,
        };
        match end.and_then(|end| rest.get(end..)) {
            Some(after) => {
                found = true;
                beside.push(' ');
                rest = after;
            }
            None => {
                if c.is_alphanumeric() {
                    literal += 1;
                }
                beside.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    found.then_some(beside)
}

/// Whether a text with references in it has only words, numbers or an address beside them: `{{ .Release.Name }}-db`,
/// `http://${HOST}:8080/api`.
pub fn is_worded_reference(text: &str) -> bool {
    if text.contains(LITERAL) || login::is_in(text) {
        return false;
    }
    beside_references(text).is_some_and(|beside| {
        text.contains("://")
            || beside
                .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                .filter(|part| !part.is_empty())
                .all(|part| part.parse::<u16>().is_ok() || is_of_words(part))
    })
}

/// `@NAME@`, `%NAME%`: how long.
fn delimited(rest: &str, sign: char) -> Option<usize> {
    rest[1..]
        .find(sign)
        .filter(|at| *at > 1 && rest[1..=*at].bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')))
        .map(|at| at + 2)
}

/// Of what stands in `${…}`: `NAME:-hunter2` of shells and Compose, `NAME:hunter2` of Spring. `vault:…` and `file:…` are
/// references with their provider before the colon.
fn has_literal_default(inner: &str) -> bool {
    let name =
        inner.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))).unwrap_or(inner.len());
    // `-` may end a name and begin a default.
    let (name, rest) = match inner[..name].split_once('-') {
        Some((bare, _)) if bare.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') => {
            (bare, &inner[bare.len()..])
        }
        _ => (&inner[..name], &inner[name..]),
    };
    let default =
        match rest.strip_prefix(":-").or_else(|| rest.strip_prefix(":=")).or_else(|| rest.strip_prefix(['-', '='])) {
            Some(default) => default,
            None => match rest.strip_prefix(':') {
                Some(default)
                    if !default.starts_with(['?', '+'])
                        && name.contains(|c: char| c.is_ascii_uppercase() || matches!(c, '.' | '_')) =>
                {
                    default
                }
                _ => return false,
            },
        };
    assess(default.trim_matches(['"', '\''])) == Verdict::Value
}

/// `$email-password`, `$argocd:webhook.github`: how Argo CD names a key of its Secret.
fn is_key_reference(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|name| {
        name.contains(['-', ':', '.'])
            && name.split(['-', ':', '.', '_']).all(|word| {
                let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
                !letters.is_empty()
                    && word.len() - letters.len() <= 2
                    && letters.bytes().all(|b| b.is_ascii_alphabetic())
            })
            && name.starts_with(|c: char| c.is_ascii_lowercase())
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

/// What joins the words of a name.
const JOINTS: [char; 5] = ['-', '_', '.', ':', '/'];

/// Whether a text is the name of a Secret, of a key in one or of a path to it: lower-case words, joined, of which one says so.
pub fn is_secrets_name(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    let says = |word: &str| {
        matches!(word, "secret" | "secrets" | "credentials" | "password" | "token" | "key" | "creds" | "auth" | "tls")
    };
    text.len() <= 63 && text.contains(JOINTS) && text.split(JOINTS).all(is_word) && text.split(JOINTS).any(says)
}

/// Whether a text looks random: long enough, in one piece, of letters in both cases or with digits, and not of words.
pub fn looks_random(text: &str) -> bool {
    let digit = text.bytes().any(|b| b.is_ascii_digit());
    let both = text.bytes().any(|b| b.is_ascii_uppercase()) && text.bytes().any(|b| b.is_ascii_lowercase());
    text.len() >= 8 && (digit || both) && !text.contains(char::is_whitespace) && !is_of_words(text)
}

/// `shop-db-2`, `API_TOKEN_V2`, `secretAccessKey`, `letsencrypt-prod.v1`: words of one case, with a capital, or joined by capitals,
/// each with at most two digits behind it.
pub fn is_of_words(text: &str) -> bool {
    text.split(['-', '.', '/', '_', ':']).filter(|part| !part.is_empty()).all(|part| {
        let letters = part.trim_end_matches(|c: char| c.is_ascii_digit());
        if part.len() - letters.len() > 2 && !letters.is_empty() || !letters.bytes().all(|b| b.is_ascii_alphabetic()) {
            return false;
        }
        if letters.len() <= 3 || letters.bytes().all(|b| b.is_ascii_lowercase()) {
            return letters.len() <= 20;
        }
        if letters.bytes().all(|b| b.is_ascii_uppercase()) {
            return letters.len() <= 12;
        }
        // Camel case: its words have some length.
        let capitals = letters.bytes().filter(u8::is_ascii_uppercase).count();
        letters.len() / (capitals + 1) >= 3
    })
}

/// Whether there is more in a text than letters of one case: a digit, a sign, or a capital after the first letter.
pub fn has_weight(text: &str) -> bool {
    let text = text.trim();
    text.chars().any(|c| {
        !c.is_alphabetic() && !matches!(c, ' ' | '.' | ',' | '-' | '\'' | '’' | '_' | '?' | '!' | ':' | '…' | '(' | ')')
    }) || (text.chars().skip(1).any(char::is_uppercase) && text.chars().any(char::is_lowercase) && !text.contains(' '))
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
            ("${DB_PASSWORD}", Verdict::Reference),
            ("$(API_TOKEN)", Verdict::Reference),
            ("${USER}:${PASSWORD}", Verdict::Reference),
            ("${vault:secret/data/db#password}", Verdict::Reference),
            ("${secrets:shop/pg:password}", Verdict::Reference),
            ("<path:secret/data/db#password>", Verdict::Reference),
            ("ref+vault://secret/billing#/password", Verdict::Reference),
            ("{{ .Values.password }}", Verdict::Reference),
            ("ENC[AES256_GCM,data:x,type:str]", Verdict::Encrypted),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHCSP me@host", Verdict::Public),
            ("-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----", Verdict::Public),
            ("hunter2", Verdict::Value),
            ("admin", Verdict::Value),
            ("p$ssw0rd", Verdict::Value),
            ("#pass1Word;with", Verdict::Value),
            ("# hosts\ngit.test ssh-ed25519 AAAA", Verdict::Public),
            ("Correct-Horse-7", Verdict::Value),
            ("pre${X}fix9", Verdict::Value),
            ("$email-password", Verdict::Reference),
            ("$dex.github.clientSecret", Verdict::Reference),
            ("$tr0ng-pass", Verdict::Value),
            ("{% if t %}{{ t }}{% endif %}", Verdict::Reference),
            ("postgres://shop:{{ op://infra/db/password }}@db/shop", Verdict::Reference),
            ("postgres://shop:hunter2@db/{{ x }}", Verdict::Value),
            (
                "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nx",
                Verdict::Value,
            ),
            // Literal defaults, and those that are none.
            ("${PW:-hunter2}", Verdict::Value),
            ("${PW-hunter2}", Verdict::Value),
            ("${db.password:hunter2}", Verdict::Value),
            ("${JWT_SECRET:Zx81-Spectrum}", Verdict::Value),
            ("${PW:-}", Verdict::Reference),
            ("${PW:?not set}", Verdict::Reference),
            ("${PW:-changeme}", Verdict::Reference),
            ("${PW:-${OTHER}}", Verdict::Reference),
            ("${MAIL_PASSWORD:}", Verdict::Reference),
            ("${{ secrets.TOKEN }}", Verdict::Reference),
            ("@db.password@", Verdict::Reference),
            ("%(password)s", Verdict::Reference),
            ("#{SmtpPassword}#", Verdict::Reference),
            ("`cat /run/secrets/pw`", Verdict::Reference),
            ("{COQLCE6DU6GtcS5P=}", Verdict::Value),
            ("$github-app2:client_secret", Verdict::Reference),
            ("$dbPassword", Verdict::Reference),
            ("{noop}hunter2", Verdict::Value),
            ("$(hunter2", Verdict::Value),
            ("{noop}changeme", Verdict::Placeholder),
            ("{bcrypt}$2a$10$Zr0n3bYxUq1cV5mT8wKfLu", Verdict::Value),
            ("{cipher}a1b2c3d4e5", Verdict::Encrypted),
            ("$2y$05$Zr0n3bYxUq1cV5mT8wKfLu", Verdict::Value),
            ("$6$rounds=5000$abcdefgh$Zr0n3bYx", Verdict::Value),
        ] {
            assert_eq!(assess(text), verdict, "{text:?}");
        }
        assert_eq!(assess_base64("Y2hhbmdlbWU="), Verdict::Placeholder);
        assert_eq!(assess_base64("aHVudGVyMg=="), Verdict::Value);
        assert_eq!(assess_base64("/w=="), Verdict::Value);
    }

    #[test]
    fn what_stands_beside_references_is_told_from_an_address() {
        for text in ["${APP}-postgresql", "http://${HOST}:8080/api/v2", "${HOST}:5432", "db01.${DOMAIN}", "$(A), $(B)"]
        {
            assert!(is_worded_reference(text), "{text}");
        }
        for text in ["${X}-9fQ2x", "hunter2", "${PW:-hunter2}", "redis://:s3cr3t9x@${HOST}", "${X}/Kf92mQ"] {
            assert!(!is_worded_reference(text), "{text}");
        }
        assert!(is_secrets_name("shop_db_password") && is_secrets_name("vault/shop/token"));
        assert!(
            !is_secrets_name("correct-horse-battery") && !is_secrets_name("secret") && !is_secrets_name("my-key-7x")
        );
    }

    #[test]
    fn random_texts_are_told_from_names() {
        for text in [
            "6hGf2Vx0PqLrTz8m",
            "7f1b0c42d98e4e5fa0c3bd5e6f718a92",
            "wsec_7Kd02LmPq8",
            "tk_9vQ2mXr7",
            "Zb4Lq9Xr2Vn7",
            "sq9_Lk2Vx7Zm4Qt8",
        ] {
            assert!(looks_random(text), "{text}");
        }
        for text in [
            "shop-db-2",
            "API_TOKEN_V2",
            "secretAccessKey",
            "letsencrypt-prod.v1",
            "database/creds/web",
            "short1",
            "two words 1",
            "kubernetes",
            "DATABASE_PASSWORD1",
            "my-app-credentials",
            "Opaque",
            "AwsCredentials",
        ] {
            assert!(!looks_random(text), "{text}");
        }
    }
}
