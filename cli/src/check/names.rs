//! Whether a name says that what stands under it is secret.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

/// What a name says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Says {
    /// Nothing of the kind.
    #[default]
    Nothing,
    /// That it may be, or may be something's name (`secret`, `auth`, `key`): the value decides.
    Perhaps,
    /// That it is secret, unless the value reads like the name of a Secret: `clientSecret`.
    Named,
    /// That it is secret.
    Secret,
}

/// The words of a name: `dbPassword`, `DB_PASSWORD` and `db-password` are `db`, `password`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous = ' ';
    let mut characters = name.chars().peekable();
    while let Some(c) = characters.next() {
        let next_is_lower = characters.peek().is_some_and(char::is_ascii_lowercase);
        let starts = !previous.is_alphanumeric()
            || (c.is_uppercase() && (previous.is_lowercase() || previous.is_ascii_digit()))
            || (c.is_uppercase() && previous.is_uppercase() && next_is_lower);
        if c.is_alphanumeric() {
            if starts || words.is_empty() {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        previous = c;
    }
    words
}

/// Words that make what stands there something about a secret, not one.
#[rustfmt::skip]
const ABOUT: &[&str] = &[
    "name", "names", "ref", "refs", "reference", "file", "files", "path", "paths", "dir", "directory", "mount",
    "mountpath", "volume", "url", "uri", "endpoint", "host", "port", "ttl", "expiry", "expires", "expiration",
    "expire", "lifetime", "timeout", "duration", "interval", "period", "days", "hours", "minutes", "seconds", "age",
    "length", "len", "size", "min", "max", "count", "limit", "rotation", "policy", "enabled", "enable", "disabled",
    "disable", "required", "reset", "type", "kind", "provider", "issuer", "audience", "algorithm", "alg", "format",
    "header", "prefix", "suffix", "field", "label", "store", "manager", "class", "selector", "template", "mode",
    "method", "strategy", "version", "id", "ids", "hint", "change", "changed", "review", "request", "cleaner",
    "controller", "exchange", "namespace", "annotations", "labels", "create", "projection", "source", "backend",
    "engine", "location", "scope", "scopes", "key", "keys", "property", "attribute", "regex", "pattern", "env",
    "envs", "var", "item", "items", "list", "used", "use", "uses", "usage", "allow", "allowed", "forbid", "validator",
    "generator", "rules", "recovery", "forgot", "page", "message", "description", "title", "placeholder", "checksum",
    "fingerprint", "thumbprint", "command", "cmd", "budget", "bucket", "cache", "renewal", "refresh", "grant", "auth",
    "authentication", "encoding", "charset", "hashing", "cost", "iterations", "strength", "complexity", "per", "user",
    "username", "login", "email", "domain", "realm", "region", "zone", "time", "date", "at", "by", "mtime", "since",
    "until", "server", "service", "address", "protocol", "driver", "database", "db", "schema", "table", "queue",
    "topic", "claim", "claims", "role", "roles", "subject", "group", "groups", "status", "state", "switch", "flag",
    "option", "options", "config", "configuration", "settings", "ttls", "hosts", "ports", "urls", "alias", "display",
    "fallback", "digest", "sum", "exists", "exist", "present", "check", "checked", "validation", "validate",
    "verification", "verify", "history", "rotate", "rotated", "rotatable", "retries", "retry", "attempts", "wait",
    "delay", "grace", "window", "tries", "lock", "lockout", "autofill", "autocomplete", "input", "inputs", "output",
    "outputs", "parameter", "parameters", "param", "params", "handler", "helper", "helpers", "hook", "hooks",
    "classes", "component", "form", "forms", "dialog", "view", "screen", "button", "link", "links", "text", "note",
    "notes", "comment", "doc", "docs", "help", "info", "warning", "error", "errors", "invalid", "mismatch", "wrong",
    "missing", "empty", "blank", "requirements", "requirement", "hashed", "salted", "algo", "algorithms", "cipher",
    "ciphers", "curve", "bits", "rounds", "derivation", "kdf", "function", "factory", "services", "client", "clients",
    "api", "app", "apps",
];

/// Words of these that say whose a secret is, below a mapping of secrets: `secrets: {api: x}`.
#[rustfmt::skip]
const WHOSE: &[&str] = &[
    "api", "app", "apps", "auth", "authentication", "backend", "cache", "client", "clients", "controller", "database", "db", "driver", "engine",
    "hook", "login", "manager", "message", "page", "provider", "queue", "recovery", "refresh", "server", "service", "services", "store",
];

/// Words that name a secret by themselves, also at the end of a word: `dbpassword`, `mysqlpasswd`.
#[rustfmt::skip]
const SECRET: &[&str] = &[
    "password", "passwd", "passphrase", "passwort", "kennwort", "contrasena", "contraseña", "motdepasse", "senha", "apikey", "secretkey",
    "privatekey", "authtoken", "accesstoken", "bearertoken", "apitoken", "clientsecret", "apisecret", "signingkey", "encryptionkey",
    "masterkey", "secretaccesskey", "webhooksecret", "sharedsecret", "jwtsecret", "cookiesecret", "erlangcookie",
];

/// Words that name a secret when they are a whole word.
#[rustfmt::skip]
const WHOLE: &[&str] = &[
    "pwd", "pepper", "dbpass", "requirepass", "masterauth", "keypass", "storepass", "smtppass", "userpass", "rootpass", "bindpw", "rootpw", "adminpw", "dbpw",
    "userpw", "presharedkey",
];

/// Words that name a secret after another word, and of which alone the value decides.
const LAST: &[&str] = &["token", "credential", "pass", "pw", "secret", "cookie"];

/// Words of which the value decides.
#[rustfmt::skip]
const PERHAPS: &[&str] = &[
    "token", "credential", "credentials", "creds", "pass", "psk", "hmac", "signing", "salt", "pin", "secret", "secrets", "tokens",
    "passwords", "auth", "authorization", "bearer", "pat", "apikeys", "pw",
];

/// What makes a key one that is secret.
#[rustfmt::skip]
const KEYS: &[&str] = &[
    "api", "private", "signing", "encryption", "decryption", "master", "session", "license", "licence", "service", "account", "shared",
    "storage", "auth", "application", "deploy", "integration", "hmac", "jwt", "cookie", "crypto", "cipher", "aes", "fernet", "unseal",
    "ssh", "webhook", "ingest", "nonce", "preshared",
];

/// What makes a key an id or a name as often as a secret.
const KEYS_PERHAPS: &[&str] = &[
    "access",
    "secret",
    "client",
    "server",
    "app",
    "routing",
    "write",
    "read",
    "consumer",
    "instance",
    "dsn",
    "admin",
    "root",
    "user",
    "security",
    "secure",
    "certificate",
    "instrumentation",
];

/// Forms and versions of the same thing.
#[rustfmt::skip]
const FORMS: &[&str] = &[
    "value", "base64", "b64", "plain", "plaintext", "raw", "text", "prod", "production", "dev", "staging", "old", "new", "current",
    "previous", "default", "hash", "primary", "secondary", "encoded", "literal", "string", "base",
];

/// Before `secret` or `token`: the two together are mostly the name of a Secret, or a switch.
#[rustfmt::skip]
const NAMING: &[&str] = &[
    "existing", "use", "enable", "automount", "mount", "create", "max", "min", "num", "public", "csrf", "image", "pull", "tls",
    "external", "key", "config", "env", "envs", "vars", "ca", "cert", "certificate", "from", "k8s", "kubernetes",
    "ref", "name", "target", "source", "generic", "opaque", "ssl", "has", "is", "with", "no", "without", "objstore", "extra", "additional",
    "credentials", "credential", "creds", "password", "passwords", "token", "tokens", "pass", "repository", "registry", "docker",
    "next", "page", "continue", "cancellation", "cancel", "design", "syntax", "lexer", "max", "sync",
];

/// Whether a name says nothing but in which form a value stands: `adminPassword: {value: x}`.
pub fn is_form(name: &str) -> bool {
    matches!(
        name,
        "value" | "Value" | "plain" | "plaintext" | "plainText" | "literal" | "default" | "Default" | "defaultValue"
    )
}

/// A name, as words, without numbers and forms behind.
fn bare(name: &str) -> Vec<String> {
    let mut words = words(name);
    while words.len() > 1
        && words.last().is_some_and(|word| word.bytes().all(|b| b.is_ascii_digit()) || FORMS.contains(&word.as_str()))
    {
        words.pop();
    }
    // password1
    if let Some(last) = words.last_mut() {
        let letters = last.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        if letters > 0 {
            last.truncate(letters);
        }
    }
    words
}

/// What there is to say of a name, as of a field, a list or a mapping.
#[derive(Clone, Copy, Default)]
struct Said {
    says: Says,
    of_elements: Says,
    holds: bool,
}

/// What was said of a name is known the next time: a repository uses the same few again and again. No text is kept, since
/// what is asked for may be a value.
fn known(name: &str) -> Said {
    const MOST: usize = 16 * 1024;
    thread_local! {
        static KNOWN: (RandomState, RefCell<HashMap<u64, Said>>) = Default::default();
    }
    if name.len() > 128 || name.is_empty() {
        return Said::default();
    }
    KNOWN.with(|(state, known)| {
        let mut known = known.borrow_mut();
        let hash = state.hash_one(name);
        if let Some(said) = known.get(&hash) {
            return *said;
        }
        if known.len() >= MOST {
            known.clear();
        }
        let bare = bare(name);
        let all = Said { says: said(&bare), of_elements: said_of_elements(bare.clone()), holds: holds(&bare) };
        known.insert(hash, all);
        all
    })
}

/// What a name says.
pub fn says(name: &str) -> Says {
    known(name).says
}

/// Whether what stands under a name is mostly the name of a Secret: `existingSecret`, `tlsSecret`.
pub fn names_a_secret(name: &str) -> bool {
    let words = bare(name);
    words.split_last().is_some_and(|(last, before)| {
        matches!(last.as_str(), "secret" | "secrets") && before.iter().any(|word| NAMING.contains(&word.as_str()))
    })
}

/// What the name of a list says of its elements: `passwords`, `api_keys`.
pub fn says_of_elements(name: &str) -> Says {
    known(name).of_elements
}

fn said_of_elements(mut words: Vec<String>) -> Says {
    let Some(last) = words.last_mut() else { return Says::Nothing };
    let Some(one) = last.strip_suffix('s').map(str::to_owned) else { return Says::Nothing };
    *last = one;
    match said(&words) {
        // Lists of Secrets and of tokens are mostly lists of names.
        Says::Secret if !matches!(words.last().map(String::as_str), Some("secret" | "token" | "credential")) => {
            Says::Secret
        }
        Says::Nothing => Says::Nothing,
        _ => Says::Perhaps,
    }
}

/// Whether a mapping of this name holds secrets, whatever they are called: `secrets`, `credentials`, `apiKeys`.
pub fn holds_secrets(name: &str) -> bool {
    known(name).holds
}

fn holds(words: &[String]) -> bool {
    let Some((last, before)) = words.split_last() else { return false };
    match last.as_str() {
        "secrets" | "passwords" | "credentials" | "tokens" | "apikeys" | "creds" => before.len() <= 1,
        "secret" | "credential" => before.is_empty(),
        "keys" => before.last().is_some_and(|word| KEYS.contains(&word.as_str())),
        "data" | "env" | "contents" | "values" => {
            before.last().is_some_and(|word| word == "secret" || word == "secrets")
        }
        _ => false,
    }
}

/// Whether a name is about something else than what is secret, below a mapping of secrets.
pub fn is_about(name: &str) -> bool {
    let words = words(name);
    words.last().is_some_and(|word| ABOUT.contains(&word.as_str()) && !WHOSE.contains(&word.as_str()))
}

fn said(words: &[String]) -> Says {
    let Some((last, before)) = words.split_last() else { return Says::Nothing };
    let last = last.as_str();
    let previous = before.last().map(String::as_str);
    let has = |word: &str| before.iter().any(|other| other == word);
    if last == "key" {
        return match previous {
            // publicKey and the like are of no kind here.
            Some(kind) if KEYS.contains(&kind) => Says::Secret,
            Some("access") if has("secret") => Says::Secret,
            Some(kind) if KEYS_PERHAPS.contains(&kind) => Says::Perhaps,
            _ => Says::Nothing,
        };
    }
    if SECRET.iter().any(|word| last.ends_with(word)) || WHOLE.contains(&last) {
        // `existingSecretAdminPassword`: the name of a Secret that is there.
        if let [first, second, ..] = before
            && first == "existing"
            && second == "secret"
        {
            return Says::Perhaps;
        }
        return Says::Secret;
    }
    // `from_secret: NAME`: which Secret is meant.
    if last == "secret" && previous == Some("from") {
        return Says::Nothing;
    }
    // Redis; and Yarn's `user:password`.
    if matches!((previous, last), (Some("master"), "auth") | (Some("auth"), "ident")) {
        return Says::Secret;
    }
    // Of annotations: `checksum/secret`.
    if before.iter().any(|word| matches!(word.as_str(), "checksum" | "sha256" | "digest" | "fingerprint")) {
        return Says::Nothing;
    }
    if LAST.contains(&last)
        && let Some(previous) = previous
    {
        if last == "cookie" {
            return if previous == "erlang" { Says::Secret } else { Says::Nothing };
        }
        if matches!(last, "pass" | "pw") {
            return if matches!(
                previous,
                "bypass" | "first" | "second" | "by" | "multi" | "proxy" | "two" | "single" | "one"
            ) {
                Says::Nothing
            } else {
                Says::Secret
            };
        }
        let naming = before.iter().any(|word| {
            NAMING.contains(&word.as_str())
                && !(last == "token" && matches!(word.as_str(), "registry" | "repository" | "docker"))
        });
        return match last {
            _ if naming => Says::Perhaps,
            "secret" => Says::Named,
            _ => Says::Secret,
        };
    }
    if PERHAPS.contains(&last) {
        return Says::Perhaps;
    }
    if ABOUT.contains(&last) {
        return Says::Nothing;
    }
    // `passwordProd`, `passwordGithub`: only where the first word is beyond doubt.
    match before {
        [first] if SECRET.contains(&first.as_str()) => Says::Perhaps,
        _ => Says::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for name in [
            "password",
            "DB_PASSWORD",
            "adminPassword",
            "api-key",
            "apiKey",
            "API_TOKEN",
            "KC_SPI_CLIENTSECRET",
            "PGPASSWORD",
            "spring.datasource.password",
            "AWS_SECRET_ACCESS_KEY",
            "password1",
            "auth.erlangCookie",
            "smtp_auth_password",
            "service_key",
            "DB_PASS",
            "root_pw",
            "MYSQL_PWD",
            "accessToken",
            "PASSWORD_HASH",
            "OAuthToken",
            "masterauth",
            "npmAuthIdent",
            "NONCE_KEY",
            "deploy.example.org/api-token",
            "fernetKey",
            "airflow.fernet_key",
        ] {
            assert_eq!(says(name), Says::Secret, "{name}");
        }
        for name in
            ["clientSecret", "KC_SPI_CLIENT_SECRET", "githubSecret", "SESSION_SECRET", "tsigSecret", "AUTH_SECRET"]
        {
            assert_eq!(says(name), Says::Named, "{name}");
        }
        for name in [
            "token",
            "secret",
            "passwordSecret",
            "secretKey",
            "accessKey",
            "routing_key",
            "existingSecret",
            "existingSecretAdminPassword",
            "pullSecret",
            "csrfToken",
            "auth",
            "nextToken",
            "certificateKey",
        ] {
            assert_eq!(says(name), Says::Perhaps, "{name}");
        }
        for name in [
            "passwordKey",
            "existingSecretName",
            "TOKEN_TTL",
            "PASSWORD_FILE",
            "FEATURE_PASSWORD_RESET",
            "secretName",
            "tokenUrl",
            "publicKey",
            "jwtPublicKey",
            "key",
            "monkey",
            "passwordSecretRef",
            "automountServiceAccountTokenEnabled",
            "compass",
            "KC_FEATURES",
            "accessKeyId",
            "minPasswordLength",
            "cookie",
            "session_cookie",
            "argocdServerAdminPasswordMtime",
            "tsigSecretAlg",
            "bypass",
            "usePasswordFiles",
            "checksum/secret",
            "PASSWORD_HASH_ALGORITHM",
            "from_secret",
            "siteKey",
            "cacheKey",
        ] {
            assert_eq!(says(name), Says::Nothing, "{name}");
        }
        assert!(
            names_a_secret("auth.existingSecret") && names_a_secret("tlsSecret") && !names_a_secret("clientSecret")
        );
        assert_eq!(says_of_elements("passwords"), Says::Secret);
        assert_eq!(says_of_elements("api_keys"), Says::Secret);
        assert_eq!(says_of_elements("secrets"), Says::Perhaps);
        assert_eq!(says_of_elements("imagePullSecrets"), Says::Perhaps);
        assert_eq!(says_of_elements("names"), Says::Nothing);
        assert!(holds_secrets("secrets") && holds_secrets("apiKeys") && holds_secrets("secretContents"));
        assert!(is_about("secretStore.name") && !is_about("api") && !is_about("database"));
        assert!(!holds_secrets("imagePullSecretNames") && !holds_secrets("publicKeys") && !holds_secrets("data"));
    }
}
