//! Whether a name says that what stands under it is secret.

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Nothing of the kind.
    Nothing,
    /// That it may be, or may be something's name (`secret`, `auth`, `key`): the value decides.
    Perhaps,
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
const ABOUT: &[&str] = &[
    "name",
    "names",
    "ref",
    "refs",
    "reference",
    "file",
    "files",
    "path",
    "paths",
    "dir",
    "directory",
    "mount",
    "mountpath",
    "volume",
    "url",
    "uri",
    "endpoint",
    "host",
    "port",
    "ttl",
    "expiry",
    "expires",
    "expiration",
    "expire",
    "lifetime",
    "timeout",
    "duration",
    "interval",
    "period",
    "days",
    "hours",
    "minutes",
    "seconds",
    "age",
    "length",
    "len",
    "size",
    "min",
    "max",
    "count",
    "limit",
    "rotation",
    "policy",
    "enabled",
    "enable",
    "disabled",
    "disable",
    "required",
    "reset",
    "type",
    "kind",
    "provider",
    "issuer",
    "audience",
    "algorithm",
    "alg",
    "format",
    "header",
    "prefix",
    "suffix",
    "field",
    "label",
    "store",
    "manager",
    "class",
    "selector",
    "template",
    "mode",
    "method",
    "strategy",
    "version",
    "id",
    "ids",
    "hint",
    "change",
    "changed",
    "review",
    "request",
    "cleaner",
    "controller",
    "exchange",
    "namespace",
    "annotations",
    "labels",
    "create",
    "projection",
    "source",
    "backend",
    "engine",
    "location",
    "scope",
    "scopes",
    "key",
    "keys",
    "property",
    "attribute",
    "regex",
    "pattern",
    "env",
    "envs",
    "var",
    "item",
    "items",
    "list",
    "used",
    "use",
    "uses",
    "usage",
    "allow",
    "allowed",
    "forbid",
    "validator",
    "generator",
    "rules",
    "recovery",
    "forgot",
    "page",
    "message",
    "description",
    "title",
    "placeholder",
    "checksum",
    "fingerprint",
    "thumbprint",
    "command",
    "cmd",
    "budget",
    "bucket",
    "cache",
    "renewal",
    "refresh",
    "grant",
    "auth",
    "authentication",
    "encoding",
    "charset",
    "hashing",
    "cost",
    "iterations",
    "strength",
    "complexity",
    "per",
];

/// Words that name a secret by themselves.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "passwort",
    "pepper",
    "apikey",
    "secretkey",
    "accesskey",
    "privatekey",
    "authtoken",
    "accesstoken",
    "clientsecret",
    "pgpassword",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "mysqlpwd",
    "dbpass",
    "dbpassword",
    "rootpassword",
    "adminpassword",
    "userpassword",
    "requirepass",
    "secretaccesskey",
    "webhooksecret",
    "sharedsecret",
    "jwtsecret",
    "bearertoken",
    "apitoken",
    "apisecret",
    "keypass",
    "storepass",
];

/// Words that name a secret when they stand last (or before a number), and of which the value decides.
const LAST: &[&str] = &[
    "token",
    "credential",
    "credentials",
    "creds",
    "pass",
    "psk",
    "hmac",
    "signing",
    "salt",
    "pin",
    "secret",
    "secrets",
    "tokens",
    "passwords",
];

/// Pairs of words that name one.
const PAIRS: &[(&str, &str)] = &[
    ("api", "key"),
    ("access", "key"),
    ("secret", "key"),
    ("private", "key"),
    ("signing", "key"),
    ("encryption", "key"),
    ("master", "key"),
    ("session", "key"),
    ("license", "key"),
    ("licence", "key"),
    ("service", "key"),
    ("account", "key"),
    ("shared", "key"),
    ("storage", "key"),
    ("auth", "key"),
    ("app", "key"),
    ("application", "key"),
    ("deploy", "key"),
    ("routing", "key"),
    ("integration", "key"),
    ("hmac", "key"),
    ("jwt", "key"),
    ("cookie", "key"),
    ("crypto", "key"),
    ("cipher", "key"),
    ("aes", "key"),
    ("dsn", "key"),
    ("unseal", "key"),
    ("ssh", "key"),
    ("webhook", "key"),
    ("ingest", "key"),
    ("write", "key"),
    ("client", "key"),
    ("server", "key"),
    ("consumer", "key"),
    ("instance", "key"),
    ("instrumentation", "key"),
    ("bind", "pw"),
    ("root", "pw"),
    ("admin", "pw"),
    ("user", "pw"),
    ("db", "pw"),
    ("cookie", "secret"),
];

/// What a name says.
pub fn says(name: &str) -> Says {
    if name.len() > 128 || name.is_empty() {
        return Says::Nothing;
    }
    let words = words(name);
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    while words.len() > 1 && words.last().is_some_and(|word| word.bytes().all(|b| b.is_ascii_digit())) {
        words.pop();
    }
    // A value, or a password in another form, is one still.
    while words.len() > 1
        && words.last().is_some_and(|word| {
            matches!(
                *word,
                "value"
                    | "base64"
                    | "b64"
                    | "plain"
                    | "plaintext"
                    | "raw"
                    | "text"
                    | "prod"
                    | "dev"
                    | "old"
                    | "new"
                    | "current"
                    | "previous"
                    | "default"
                    | "hash"
                    | "primary"
                    | "secondary"
            )
        })
    {
        words.pop();
    }
    let Some((last, before)) = words.split_last() else { return Says::Nothing };
    // password1
    let last = &last.trim_end_matches(|c: char| c.is_ascii_digit());
    if before.last().is_some_and(|previous| PAIRS.contains(&(*previous, *last))) {
        // publicKey and the like are in no pair. `secretKey` may name a key within a Secret: the value decides.
        return if matches!(before.last(), Some(&"secret" | &"client" | &"server" | &"app" | &"routing" | &"write")) {
            Says::Perhaps
        } else {
            Says::Secret
        };
    }
    // Passwords of any prefix: dbpassword, mysqlpasswd.
    if SECRET.contains(last) || last.ends_with("password") || last.ends_with("passwd") || last.ends_with("passphrase") {
        return Says::Secret;
    }
    if LAST.contains(last) {
        if before.iter().any(|word| {
            matches!(
                *word,
                "existing"
                    | "use"
                    | "enable"
                    | "automount"
                    | "mount"
                    | "create"
                    | "max"
                    | "min"
                    | "num"
                    | "public"
                    | "csrf"
                    | "image"
                    | "pull"
                    | "tls"
                    | "external"
            )
        }) {
            return Says::Perhaps;
        }
        // `passwordSecret`, `db.credentialsSecret`: the name of a Secret.
        if matches!(*last, "secret" | "secrets")
            && before.last().is_some_and(|word| {
                SECRET.contains(word)
                    || LAST.contains(word)
                    || matches!(
                        *word,
                        "auth"
                            | "key"
                            | "config"
                            | "env"
                            | "envs"
                            | "vars"
                            | "ca"
                            | "cert"
                            | "certificate"
                            | "db"
                            | "database"
                    )
            })
        {
            return Says::Perhaps;
        }
        return if before.is_empty()
            || matches!(*last, "pin" | "salt" | "hmac" | "signing" | "secrets" | "tokens" | "pass" | "credentials")
        {
            Says::Perhaps
        } else {
            Says::Secret
        };
    }
    if ABOUT.contains(last) {
        return Says::Nothing;
    }
    // `passwordProd`, `tokenGithub`: only where the first word is beyond doubt.
    match before.first() {
        Some(first) if SECRET.contains(first) && before.len() == 1 => Says::Perhaps,
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
            "clientSecret",
            "KC_SPI_CLIENT_SECRET",
            "PGPASSWORD",
            "spring.datasource.password",
            "AWS_SECRET_ACCESS_KEY",
            "password1",
            "SENTRY_DSN_KEY",
        ] {
            assert_eq!(says(name), Says::Secret, "{name}");
        }
        for name in ["token", "secret", "passwordSecret", "secretKey"] {
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
            "key",
            "monkey",
            "passwordSecretRef",
            "automountServiceAccountTokenEnabled",
            "compass",
            "KC_FEATURES",
        ] {
            assert_eq!(says(name), Says::Nothing, "{name}");
        }
    }
}
