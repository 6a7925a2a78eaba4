//! The words that are looked for in every byte, and whether a file is worth more than that.

use std::cell::OnceCell;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::scan::Sort;
use super::{glance, rules};
use crate::failure::{Failure, Result};

/// What a word in a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The end of the header of a private key.
    PrivateKey,
    /// The begin of PEM in base64.
    Encoded,
    /// An age identity.
    Identity,
    /// The begin of a JSON Web Token.
    Claims,
    /// A comment that allows something.
    Allow,
    FromLiteral,
    /// A flag of a command line of which the value may be secret.
    Flag,
    /// There may be a manifest in this text.
    Fragment,
    /// How the tokens of a vendor begin: the number of the form.
    Vendor(usize),
}

/// In all files.
const EVERYWHERE: &[(&str, Word)] = &[
    ("PRIVATE KEY-----", Word::PrivateKey),
    ("PRIVATE KEY BLOCK-----", Word::PrivateKey),
    ("LS0tLS1CRUdJTi", Word::Encoded),
    ("AGE-SECRET-KEY-", Word::Identity),
    ("eyJ", Word::Claims),
    ("bulla:allow", Word::Allow),
    ("--from-literal", Word::FromLiteral),
];

/// In files that are no manifests, besides.
const TEXTS: &[(&str, Word)] = &[
    ("--docker-password", Word::Flag),
    ("--set ", Word::Flag),
    ("--set=", Word::Flag),
    ("--set-string", Word::Flag),
    ("--set-literal", Word::Flag),
    ("kind: Secret", Word::Fragment),
    ("\"kind\": \"Secret\"", Word::Fragment),
    ("\"kind\":\"Secret\"", Word::Fragment),
    ("kind: \"Secret\"", Word::Fragment),
    ("apiVersion: ", Word::Fragment),
    ("```y", Word::Fragment),
    ("~~~y", Word::Fragment),
];

/// Parts of telling names, in the cases in which names are written. The first letter is left out where it may be of either case.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "ecret", "ECRET", "assw", "ASSW", "oken", "OKEN", "redential", "REDENTIAL", "assphrase", "ASSPHRASE", "pikey", "piKey", "pi-key", "pi_key",
    "PI_KEY", "API-KEY", "APIKEY", "pwd", "PWD", "Pwd", "_PASS", "Pass", "_pass", "-pass", "pass:", "pass\"", "pass ", "auth:", "auth\"", "Auth:", "AUTH",
    "epper", "EPPER", "salt", "SALT", "Salt", "creds", "Creds", "CREDS", "_KEY", "-KEY", "-key", "_key", "Key", "key:", "key=", "psk", "PSK", "_pw", "_PW",
    "Pw", "pin:", "hmac", "HMAC", "PIN", "ookie", "requirepass", "masterauth", "ennwort", "ontrase", "otdepasse", "enha", "earer", "pat:", "PAT", "igning",
    "pw:", "pw=", "pw\"", "pw ", "PW:", "PW=", "PW\"", "PW ", "Ident", "uthorization",
];

/// Words by which a file is parsed in any case, and an address, of which the login decides.
const SURE: &[&str] = &[
    "auths",
    "ockercfg",
    "ockerconfig",
    "-key-data",
    "bulla.dev/",
    "encryptedData",
    "binaryData",
    "secretGenerator",
    "configMapGenerator",
    "SecretGenerator",
    "<<<<<<< ",
    "\n\t",
    "ecretStore",
    // Of a kubeconfig every token counts, whatever it looks like.
    "current-context",
    "clusters:",
    "clusters\"",
    "contexts:",
    "contexts\"",
    "kind: Config\n",
    "kind: Config\r",
    "\"Config\"",
    "@tcp(",
    "@unix(",
    "stringData",
    // Programs of which a short flag has the password.
    "curl",
    "wget",
    " login -",
    "redis-cli",
    "sshpass",
    "IDENTIFIED BY",
    "identified by",
];
const ADDRESS: &str = "://";

/// The words. Those for each sort of file are made ready when the first such file comes: most runs look at few.
#[derive(Default)]
pub struct Words {
    everywhere: OnceLock<Option<AhoCorasick>>,
    texts: OnceLock<Option<AhoCorasick>>,
    names: OnceLock<Option<AhoCorasick>>,
    failed: OnceLock<String>,
}

fn vendors() -> impl Iterator<Item = (&'static str, Word)> {
    rules::bul018::beginnings().enumerate().map(|(which, begin)| (begin, Word::Vendor(which)))
}

fn words(sort: Sort, pattern: usize) -> Word {
    let texts: &[(&str, Word)] = if is_manifest(sort) { &[] } else { TEXTS };
    let known = EVERYWHERE.get(pattern).or_else(|| texts.get(pattern.wrapping_sub(EVERYWHERE.len())));
    known.map_or_else(|| Word::Vendor(pattern - EVERYWHERE.len() - texts.len()), |(_, word)| *word)
}

fn is_manifest(sort: Sort) -> bool {
    sort == Sort::Manifest
}

impl Words {
    fn ready<'a>(
        &'a self,
        place: &'a OnceLock<Option<AhoCorasick>>,
        words: impl FnOnce() -> Vec<&'static str>,
    ) -> Option<&'a AhoCorasick> {
        let build = || {
            // Leftmost: the library then looks for the beginnings of words with vector instructions.
            let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(words());
            built.map_err(|error| self.failed.set(format!("can't prepare the search: {error}"))).ok()
        };
        place.get_or_init(build).as_ref()
    }

    fn of(&self, sort: Sort) -> Option<&AhoCorasick> {
        let bare = |words: &[(&'static str, Word)]| words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let vendors = || vendors().map(|(word, _)| word).collect::<Vec<_>>();
        if is_manifest(sort) {
            return self.ready(&self.everywhere, || [bare(EVERYWHERE), vendors()].concat());
        }
        self.ready(&self.texts, || [bare(EVERYWHERE), bare(TEXTS), vendors()].concat())
    }

    fn names(&self) -> Option<&AhoCorasick> {
        self.ready(&self.names, || [SURE, &[ADDRESS], NAMES].concat())
    }

    /// Fails where the words could not be made ready: then what was found is not all.
    pub fn sound(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |error| Err(Failure::new(error.clone())))
    }

    /// Whether there is a word in these bytes that has a form of its own.
    pub fn is_worth_searching(&self, sort: Sort, bytes: &[u8]) -> bool {
        self.of(sort).is_none_or(|words| words.is_match(bytes))
    }

    /// Gives each such word, and its begin and end.
    pub fn each(&self, sort: Sort, text: &str, mut each: impl FnMut(Word, usize, usize)) {
        let Some(ready) = self.of(sort) else { return };
        for found in ready.find_iter(text.as_bytes()) {
            each(words(sort, found.pattern().as_usize()), found.start(), found.end());
        }
    }

    /// Whether names in these bytes may say that a value is secret.
    pub fn is_worth_parsing(&self, name: &str, sort: Sort, bytes: &[u8]) -> bool {
        if sort == Sort::Text {
            return false;
        }
        let Some(names) = self.names() else { return true };
        if !is_manifest(sort) {
            return names.is_match(bytes) || matches!(sort, Sort::Logins(_));
        }
        let data = OnceCell::new();
        let needs_weight = || *data.get_or_init(|| glance::is_data(name, bytes));
        let mut from = 0;
        let mut named = false;
        for found in names.find_iter(bytes) {
            named = true;
            if found.start() < from {
                continue;
            }
            // The first that matches counts: the sure ones stand before the others.
            match found.pattern().as_usize() {
                which if which < SURE.len() => return true,
                which if which == SURE.len() => {
                    if glance::address(bytes, found.end()) {
                        return true;
                    }
                }
                _ => {
                    let (end, active) = glance::word(bytes, found.start(), &needs_weight);
                    if active {
                        return true;
                    }
                    from = end;
                }
            }
        }
        // A quotation mark that is not closed: nobody knows what is in it.
        named && memchr::memchr_iter(b'"', bytes).count() % 2 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_meaning() {
        let words = Words::default();
        let all = |sort: Sort, text: &str| {
            let mut found = Vec::new();
            words.each(sort, text, |word, start, end| found.push((word, text[start..end].to_owned())));
            found
        };
        let text = "eyJ --set a apiVersion: v1 glpat-x -----BEGIN PRIVATE KEY-----";
        assert_eq!(
            all(Sort::Text, text).iter().map(|(word, _)| *word).collect::<Vec<_>>(),
            [Word::Claims, Word::Flag, Word::Fragment, Word::Vendor(6), Word::PrivateKey]
        );
        assert_eq!(
            all(Sort::Manifest, text).iter().map(|(word, _)| *word).collect::<Vec<_>>(),
            [Word::Claims, Word::Vendor(6), Word::PrivateKey]
        );
        assert!(words.is_worth_parsing("a.yaml", Sort::Manifest, b"host: \"a\npassword: <password>\n"));
        assert!(words.is_worth_parsing(
            "a.yaml",
            Sort::Manifest,
            b"kind: Secret
"
        ));
        assert!(words.is_worth_parsing(
            "a.yaml",
            Sort::Manifest,
            b"url: https://a:b@c
"
        ));
        assert!(!words.is_worth_parsing(
            "a.yaml",
            Sort::Manifest,
            b"url: https://a/b@c
secretName: a
"
        ));
    }
}
