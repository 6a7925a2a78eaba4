//! Logins within texts: URLs, connection strings, lines of JAAS. What stands around a password says what it is, whatever the
//! name above it.

use super::value::{HOLE, Verdict, assess, is_stock};

/// Whether there is a login with a password of its own in a text.
pub fn is_in(text: &str) -> bool {
    in_url(text) || in_pairs(text) || in_data_source(text)
}

/// The password of a text that is one address with a login, and nothing else.
pub fn password_of(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let plain = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b':'));
    if scheme.is_empty() || !plain || text.contains(char::is_whitespace) {
        return None;
    }
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (login, host) = authority.rsplit_once('@')?;
    if host.is_empty() { None } else { login.split_once(':').map(|(_, password)| password) }
}

fn counts(password: &str) -> bool {
    assess(password) == Verdict::Value && !is_stock(password)
}

/// `scheme://user:password@host`.
pub fn in_url(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let after = &rest[at + 3..];
        let authority = &after[..after
            .find(|c: char| {
                c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | ',' | ';' | '<' | '>' | '`')
            })
            .unwrap_or(after.len())];
        if let Some((login, host)) = authority.rsplit_once('@')
            && is_host(host)
            && let Some((_, password)) = login.split_once(':')
            && counts(password)
        {
            return true;
        }
        // A slash in a password, where somebody was careless: the @ comes later. What follows a host's colon is a port.
        let stretch = &after
            [..after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>')).unwrap_or(after.len())];
        if let Some((user, begin)) = authority.split_once(':')
            && !authority.contains('@')
            && !user.contains('.')
            && begin.bytes().any(|b| !b.is_ascii_digit())
            && let Some((login, host)) = stretch.rsplit_once('@')
            && is_host(host)
            && let Some((_, password)) = login.split_once(':')
            && counts(password)
        {
            return true;
        }
        rest = after;
    }
    false
}

/// What stands after the sign: not the digest of an image.
fn is_host(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '[' | '$' | '{' | HOLE))
        && !text.starts_with("sha256:")
}

/// Names of passwords in connection strings, in lower case.
const NAMES: &[&str] =
    &["password", "passwd", "pwd", "accountkey", "sharedaccesskey", "sharedsecret", "sslpassword", "secretkey"];

/// `Server=…;Password=…`, `host=… password=…`, `?user=…&password=…`, `username="…" password="…";`: pairs of which one is a
/// password. One alone is a setting like any other, and judged by its name.
fn in_pairs(text: &str) -> bool {
    // Those of one line: what stands on several is settings.
    text.len() <= 8192 && text.lines().any(in_pairs_of_line)
}

fn in_pairs_of_line(text: &str) -> bool {
    let mut others = 0;
    let mut found = false;
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let name = rest[..at].trim_end();
        let begin = name
            .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))
            .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
        let name: String =
            name[begin..].chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
        let after = rest[at + 1..].trim_start();
        let (value, end) = match after.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let inner = &after[1..];
                let end = inner.find(quote).unwrap_or(inner.len());
                (&inner[..end], 1 + end)
            }
            _ => {
                let end = after
                    .find(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | ',' | '"' | '\''))
                    .unwrap_or(after.len());
                // base64 ends in signs of its own.
                (&after[..end], end)
            }
        };
        if NAMES.contains(&name.as_str()) {
            found |= counts(value);
        } else if !name.is_empty() && !value.is_empty() {
            others += 1;
        }
        rest = after.get(end..).unwrap_or_default();
    }
    found && others > 0
}

/// MySQL's `user:password@tcp(host)`.
fn in_data_source(text: &str) -> bool {
    ["@tcp(", "@unix("].iter().any(|mark| {
        text.find(mark).is_some_and(|at| {
            let login = &text[..at];
            let begin =
                login.rfind(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=')).map_or(0, |at| at + 1);
            login.get(begin..).and_then(|login| login.split_once(':')).is_some_and(|(_, password)| counts(password))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_within_texts_are_found() {
        for text in [
            "postgres://shop:s3cr3t9x@db.shop.svc/shop",
            "redis://:s3cr3t9x@cache:6379",
            "Server=sql;Database=a;User Id=a;Password=S3agull;Encrypt=true",
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=Zm9yIHRoZSB0ZXN0;EndpointSuffix=x",
            "host=pg port=5432 user=app password=Caravan_81",
            "jdbc:mysql://mysql:3306/etl?user=etl&password=Galosh3s",
            "org.apache.kafka.X required username=\"a\" password=\"k4fka\";",
            "app:s3cr3t9x@tcp(db:3306)/app",
            "postgres://app:s3c/r3t9x@db:5432/app",
        ] {
            assert!(is_in(text), "{text}");
        }
        for text in [
            "postgres://shop:$(PASSWORD)@db.shop.svc/shop",
            "amqp://guest:guest@rabbit//",
            "https://example.test/a:b@c",
            "https://user@example.test",
            "docker://alpine:3.19@sha256:0a1b2c",
            "http://localhost:8080/a@b",
            "https://registry.test:v1/a@sha256:x",
            "Server=sql;User Id=a;Password=$(SQL_PASSWORD);",
            "host=pg user=app password=",
            "password=hunter2",
            "jdbc:mysql://mysql:3306/etl?useSSL=true",
            "app:${PW}@tcp(db:3306)/app",
            "-Xmx512m -Djavax.net.ssl.trustStorePassword=changeit",
        ] {
            assert!(!is_in(text), "{text}");
        }
    }
}
