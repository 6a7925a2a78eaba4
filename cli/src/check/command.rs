//! Command lines: which of their words are literal secrets.

use super::value::{Verdict, assess, has_weight, is_stock};
use super::{judge, login, names};

/// A word of a command, without its quotes, and where it begins: a byte of a line, or an index of a list.
#[derive(Clone, Copy)]
pub struct Token<'t> {
    pub text: &'t str,
    pub at: usize,
}

/// The words of a line. Quotes in the middle of a word stay; a word that is quoted as a whole loses them.
pub fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() || matches!(bytes[at], b';' | b'|' | b'&' | b'\\') {
            at += 1;
            continue;
        }
        let start = at;
        let mut quote = None;
        let mut nested = 0_usize;
        while at < bytes.len() {
            match (bytes[at], quote) {
                (b, Some(q)) if b == q => quote = None,
                (b'\\', _) => at += 1,
                (b'(', None) if nested > 0 || (at > start && bytes[at - 1] == b'$') => nested += 1,
                (b')', None) if nested > 0 => nested -= 1,
                (b @ (b'"' | b'\''), None) => quote = Some(b),
                (b, None) if nested == 0 && (b.is_ascii_whitespace() || matches!(b, b';' | b'|')) => break,
                _ => {}
            }
            at += 1;
        }
        let end = at.min(bytes.len());
        if let Some(text) = line.get(start..end) {
            found.push(Token { text: unquoted(text), at: start });
        }
    }
    found
}

fn unquoted(text: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote))
            && !inner.contains(quote)
        {
            return inner;
        }
    }
    text
}

/// `-c`, `-lc`, `-exc` of a shell.
fn is_script_flag(text: &str) -> bool {
    text.len() <= 4 && text.starts_with('-') && text.ends_with('c') && !text.starts_with("--")
}

/// Gives the name of each literal secret, and where its word is.
pub fn literals(words: &[Token<'_>], mut each: impl FnMut(&str, usize)) {
    each_literal(words, &mut each);
}

fn each_literal(words: &[Token<'_>], each: &mut dyn FnMut(&str, usize)) {
    let program =
        |known: &[&str]| words.iter().any(|word| known.contains(&word.text.rsplit('/').next().unwrap_or(word.text)));
    let mut index = 0;
    while let Some(word) = words.get(index) {
        index += 1;
        let text = word.text;
        if text.contains('\n') || text.len() > 8192 {
            continue;
        }
        let next = words.get(index).copied();
        // sh -c "…": a command of its own.
        if let Some(script) = next.filter(|next| is_script_flag(text) && next.text.contains(' ')) {
            let inner = tokens(script.text);
            // What stands in it has no such flag itself: it is not read deeper.
            if !inner.iter().any(|word| is_script_flag(word.text)) {
                each_literal(&inner, &mut |name, _| each(name, script.at));
            }
            index += 1;
            continue;
        }
        if let Some(flag) = text.strip_prefix('-') {
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value, at) = match (flag.split_once('='), next) {
                (Some((name, value)), _) => (name, unquoted(value), word.at),
                (None, Some(next)) if !next.text.starts_with('-') => (flag, next.text, next.at),
                _ => continue,
            };
            let apart = !flag.contains('=');
            match name {
                "set" | "set-string" | "set-literal" => {
                    index += usize::from(apart);
                    for pair in value.split(',') {
                        if let Some((name, value)) = pair.split_once('=')
                            && judge::text(name, unquoted(value))
                        {
                            each(name, at);
                        }
                    }
                }
                // --from-literal is looked for everywhere.
                "from-literal" => index += usize::from(apart),
                "u" | "user" if program(&["curl", "wget", "http", "https"]) => {
                    let password = value.split_once(':').map_or("", |(_, password)| password);
                    if assess(password) == Verdict::Value && !is_stock(password) && !password.is_empty() {
                        each(flag, at);
                    }
                }
                "p" | "a"
                    if words.iter().any(|word| matches!(word.text, "login" | "redis-cli" | "sshpass"))
                        && program(&[
                            "docker",
                            "podman",
                            "helm",
                            "redis-cli",
                            "sshpass",
                            "oras",
                            "crane",
                            "skopeo",
                        ])
                        && assess(value) == Verdict::Value
                        && has_weight(value) =>
                {
                    each(flag, at);
                }
                // What follows a switch is its value only when it can't be a word of its own.
                _ if judge::text(name, value) && (!apart || has_weight(value)) => {
                    each(&text[..text.len() - flag.len() + name.len()], at);
                    index += usize::from(apart);
                }
                _ if !apart && login::is_in(value) => each("a login", at),
                _ => {}
            }
            continue;
        }
        if let Some((name, value)) = text.split_once('=')
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            && names::says(name) != names::Says::Nothing
        {
            if judge::text(name, unquoted(value)) {
                each(name, word.at);
            }
        } else if login::in_url(text) {
            each("a URL", word.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<String> {
        let mut found = Vec::new();
        literals(&tokens(line), |name, _| found.push(name.to_owned()));
        found
    }

    #[test]
    fn secrets_on_command_lines_are_found() {
        for (line, name) in [
            ("helm upgrade web ./c --set auth.password=Dolph1n-Tank", "auth.password"),
            ("helm upgrade web ./c --set a.b=1,auth.password='Dolph1n'", "auth.password"),
            ("kubectl create secret docker-registry p --docker-password=c0ral-9", "--docker-password"),
            ("export DB_PASSWORD=L1ghthouse", "DB_PASSWORD"),
            ("PGPASSWORD=\"x9-abc\" psql -h db", "PGPASSWORD"),
            ("curl -u deployer:M3rry https://api.example.org", "u"),
            ("app --token f3Lq9TzX0vKw", "--token"),
            ("redis-cli -a w4lnut ping", "a"),
            ("sh -c \"export PW=1; app --api-token f3Lq9TzX\"", "--api-token"),
            ("git clone https://bot:cr0w-17@git.example.org/a.git", "a URL"),
        ] {
            assert_eq!(of(line), [name], "{line}");
        }
        for line in [
            "helm upgrade web ./c --set auth.password=$(openssl rand -hex 16)",
            "helm upgrade web ./c --set auth.existingSecret=web-auth --set auth.password=\"$PW\"",
            "docker login -u \"$USER\" -p \"$PASSWORD\" r.example.org",
            "app --password-file /run/pw --token-ttl 24h --token $TOKEN",
            "mkdir -p /var/lib/x9",
            "echo \"DB_PASSWORD is not set\"",
            "export PGPASSWORD=\"$(cat /run/secrets/pg)\"",
            "curl -u \"robot:$TOKEN\" https://api.example.org",
            "app --require-token --verbose",
        ] {
            assert_eq!(of(line), [""; 0], "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line in "([a-z=:'\"\\\\$() ;|é-]|--set |password){0,40}") {
            for token in tokens(&line) {
                assert!(token.at <= line.len());
            }
            of(&line);
        }
    }
}
