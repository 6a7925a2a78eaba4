//! Whether a literal under a name is a secret, as the two together say: what every rule outside of Secrets asks.

use bulla::manifest::{Ambiguity, Node, Tag};

use super::login;
use super::names::{Says, names_a_secret, says};
use super::value::{
    HOLE, LITERAL, Verdict, assess, beside_references, default_of, is_of_words, is_secrets_name, is_stock, looks_random,
};

/// Of a node under a name.
pub fn node(name: &str, value: &Node) -> bool {
    node_as(says(name), name, value)
}

/// The same, where what the name says is known.
pub fn node_as(says: Says, name: &str, value: &Node) -> bool {
    let Some(text) = value.scalar() else { return false };
    // !Ref, !vault, !secret: another tool puts something there.
    if value.tag == Tag::Custom || matches!(value.not_text(), Some(Ambiguity::Null | Ambiguity::Bool)) {
        return false;
    }
    text_as(says, name, text)
}

/// Of a text under a name.
pub fn text(name: &str, text: &str) -> bool {
    text_as(says(name), name, text)
}

/// The same, where what the name says is known.
pub fn text_as(says: Says, name: &str, text: &str) -> bool {
    let text = text.trim();
    if says == Says::Nothing && !text.contains("://") && !text.contains('=') && !text.contains("@tcp(") {
        return false;
    }
    // Before the words around it are asked: `example` in the address of a host says nothing of the password.
    if login::is_in(text) {
        return true;
    }
    if assess(text) != Verdict::Value {
        return false;
    }
    // Settings with references in them are judged by their own names.
    let beside = beside_references(text);
    let structured = text.contains('\n') || (text.starts_with(['{', '[']) && text.ends_with(['}', ']']));
    if beside.is_some() && structured && !text.contains(LITERAL) {
        return false;
    }
    let plain = is_plain(text) && !(text.contains(' ') && name.to_ascii_lowercase().ends_with("phrase"));
    let stock = is_stock(text) || default_of(text).is_some_and(is_stock);
    if says == Says::Nothing || stock || repeats(name, text) || plain {
        return false;
    }
    match says {
        Says::Nothing => false,
        Says::Secret => !is_secrets_name(text),
        // Lower-case words, joined or one alone: how Secrets are called.
        Says::Named => {
            let text = beside.as_ref().map_or(text, |beside| beside.trim());
            let lower = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
            !(lower && is_of_words(text))
        }
        // Of a header, what follows the scheme.
        Says::Perhaps => {
            let bare = ["Bearer ", "Basic ", "Token "].into_iter().find_map(|scheme| text.strip_prefix(scheme));
            // Beside references each part by itself.
            let is_random = |part: &str| looks_random(part.trim_matches(|c: char| !c.is_alphanumeric()));
            if names_a_secret(name) && is_name_of_kubernetes(text) {
                return false;
            }
            text.contains(LITERAL)
                || looks_random(bare.unwrap_or(text)) && beside.is_none()
                || beside.is_some_and(|beside| beside.split_whitespace().any(is_random))
        }
    }
}

/// Whether a value repeats its name: `password: password`, `DB_PASSWORD: db-password`.
pub fn repeats(name: &str, text: &str) -> bool {
    let bare =
        |text: &str| -> String { text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect() };
    text.len() <= name.len() + 8 && bare(text) == bare(name)
}

/// An address without a login, a path, a number, a time, a sentence: nothing that a password is.
fn is_plain(text: &str) -> bool {
    (text.contains("://") && !text.contains(' '))
        || is_path(text)
        || text.parse::<u16>().is_ok()
        || is_duration(text)
        || is_version(text)
        || text.split_whitespace().count() > 3
}

/// `cache-7f9c2d1b`, `db.example-2024`: what an object may be called, joined.
fn is_name_of_kubernetes(text: &str) -> bool {
    text.contains(['-', '.'])
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

/// `/a/b`, `./a`, `../a`, `~/a`, `C:\a`, references in it too.
fn is_path(text: &str) -> bool {
    let fits = |c: char| {
        c.is_alphanumeric()
            || matches!(c, '/' | '.' | '_' | '-' | '\\' | ':' | '$' | '{' | '}' | '(' | ')' | '@' | HOLE)
    };
    let begins = (text.starts_with('/') && text[1..].contains('/'))
        || ["./", "../", "~/"].iter().any(|begin| text.starts_with(begin))
        || matches!(text.as_bytes(), [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic());
    begins && text.chars().all(fits)
}

/// `1.7.0`, `^2.0`, `>=1.2.3-rc.1`, `10.0.0.1`: of a package that is called so.
fn is_version(text: &str) -> bool {
    let bare = text.trim_start_matches(['^', '~', '>', '<', '=', 'v', ' ']);
    let mut parts = bare.split('.');
    let mut number = || parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let lead = number() && (number() || bare.ends_with(".x") || bare.ends_with(".*"));
    lead && text.len() <= 24
}

/// `30d`, `15m`, `1h30m`, `250ms`.
fn is_duration(text: &str) -> bool {
    let units = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    text.len() <= 12
        && text.starts_with(|c: char| c.is_ascii_digit())
        && !units.is_empty()
        && text
            .split(|c: char| c.is_ascii_digit() || c == '.')
            .filter(|unit| !unit.is_empty())
            .all(|unit| matches!(unit, "ns" | "us" | "µs" | "ms" | "s" | "m" | "h" | "d" | "w" | "y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_value_say_it_together() {
        for (name, value) in [
            ("password", "hunter2"),
            ("password", "letmein"),
            ("clientSecret", "nT~8Q~Xo5vB2mL"),
            ("sessionSecret", "kitten-Avalanche-5"),
            ("token", "9d3f7b1c5a2e8046"),
            ("url", "postgres://shop:s3cr3t9x@db/shop"),
            ("Authorization", "Bearer 8fK2lw0Zq9VbX3"),
            ("x", "Server=sql;User Id=a;Password=S3agull;"),
            ("url", "https://bot:Lindenbluete44@charts.example.org/stable"),
            ("argocdServerAdminPassword", "$2a$10$Zr0n3bYxUq1cV5mT8wKfLu"),
            ("password", "123456"),
            ("password", "/Kf9+2mQ/x="),
            ("password", "a,b,c,d9"),
            ("token", "1f0c9e8a-7b6d-4c5e-9f8a-0b1c2d3e4f5a"),
            ("fernetKey", "kT9vQ2mXr7Lw0Zb4"),
            ("existingSecret", "kT9vQ2mXr7Lw0Zb4"),
            ("passphrase", "correct horse battery staple"),
            ("password", "${DB_PASSWORD:postgres7}"),
            ("password", "(hunter2)"),
            ("password", "correct-horse-battery-staple"),
        ] {
            assert!(text(name, value), "{name}: {value}");
        }
        for (name, value) in [
            ("password", "postgres"),
            ("password", "${DB_PASSWORD:postgres}"),
            ("password", "($password)"),
            ("password", "shop-db-credentials"),
            ("dbPassword", "db-password"),
            ("clientSecret", "grafana-oauth"),
            ("grafanaSecret", "grafana"),
            ("token", "my-token-2"),
            ("tokenTtl", "9d3f7b1c5a2e8046"),
            ("apiToken", "15m"),
            ("apiToken", "1h30m"),
            ("generate-password", "^1.7.0"),
            ("jwt-token", "2.x"),
            ("password", "12345"),
            ("password", "at least twelve characters long"),
            ("apiKey", "/etc/keys/api"),
            ("webhookToken", "https://hooks.example.org"),
            ("secretKey", "API_TOKEN_V2"),
            ("url", "amqp://guest:guest@rabbit"),
            ("url", "https://bot:changeme@charts.example.org/stable"),
            ("password", "shop_db_password"),
            ("password", "vault/shop/token"),
            ("password", "C:\\keys\\db"),
            ("pin", "12345678"),
            ("token", "${ENVIRONMENT}-token-v1"),
            ("clientSecret", "${APP}-oauth"),
            ("existingSecret", "cache-7f9c2d1b"),
            ("tls.secret", "shop-tls-2024"),
            ("certificateKey", "tls.crt"),
            ("cacheKey", "v1-9d3f7b1c5a2e8046"),
            ("password", "pass"),
            ("password", "secret1"),
        ] {
            assert!(!text(name, value), "{name}: {value}");
        }
    }
}
