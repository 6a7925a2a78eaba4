//! Where an item may be opened, and the bytes that bind it there (format.md, "Computation").

use std::fmt;

use ring::digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::encoding::{lp, lp_into};

/// Length of a [`Context::tag`] in bytes.
pub const TAG_LEN: usize = 8;

/// Where an item may be opened.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// In this namespace, under this name.
    #[default]
    Strict,
    /// In this namespace, under any name.
    NamespaceWide,
    /// Anywhere.
    ClusterWide,
}

impl Scope {
    /// The word that stands in manifests and is bound into every item.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::NamespaceWide => "namespace-wide",
            Self::ClusterWide => "cluster-wide",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Scope {
    type Err = PlaceError;

    fn from_str(word: &str) -> Result<Self, PlaceError> {
        match word {
            "strict" => Ok(Self::Strict),
            "namespace-wide" => Ok(Self::NamespaceWide),
            "cluster-wide" => Ok(Self::ClusterWide),
            _ => Err(PlaceError::UnknownScope),
        }
    }
}

/// Why an object's place can't be bound.
#[derive(thiserror::Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// Another word than the three.
    #[error("the scope is none of strict, namespace-wide, cluster-wide")]
    UnknownScope,
    /// A scope that binds to the namespace, and none given.
    #[error("there is no namespace, and scope {0} binds to one")]
    NoNamespace(Scope),
    /// Scope strict, and no name given.
    #[error("there is no name, and scope strict binds to one")]
    NoName,
    /// Not a DNS label.
    #[error("the namespace is not a DNS label (1 to 63 of a-z 0-9 -, beginning and ending with a letter or digit)")]
    BadNamespace,
    /// Not a DNS subdomain.
    #[error(
        "the name is not a DNS subdomain (1 to 253 of a-z 0-9 - ., each part beginning and ending with a letter or digit)"
    )]
    BadName,
    /// Against the grammar of item keys.
    #[error("the key is not 1 to 253 of a-z A-Z 0-9 - . _, or is \".\", or begins with \"..\"")]
    BadKey,
}

/// An object's place: what its items are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    scope: Scope,
    namespace: String,
    name: String,
}

impl Place {
    /// The place of an object with this scope, namespace and name. What the scope does not bind may be absent; what is
    /// there must be well-formed all the same.
    ///
    /// # Errors
    /// [`PlaceError`] when something bound is absent or anything is malformed.
    pub fn new(scope: Scope, namespace: Option<&str>, name: Option<&str>) -> Result<Self, PlaceError> {
        let namespace = namespace.filter(|n| !n.is_empty());
        let name = name.filter(|n| !n.is_empty());
        if let Some(namespace) = namespace
            && !is_dns_label(namespace)
        {
            return Err(PlaceError::BadNamespace);
        }
        if let Some(name) = name
            && !is_dns_subdomain(name)
        {
            return Err(PlaceError::BadName);
        }
        if scope != Scope::ClusterWide && namespace.is_none() {
            return Err(PlaceError::NoNamespace(scope));
        }
        if scope == Scope::Strict && name.is_none() {
            return Err(PlaceError::NoName);
        }
        Ok(Self { scope, namespace: namespace.unwrap_or_default().into(), name: name.unwrap_or_default().into() })
    }

    /// The scope.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The namespace as it is bound: empty when the scope is cluster-wide.
    #[must_use]
    pub fn bound_namespace(&self) -> &str {
        if self.scope == Scope::ClusterWide { "" } else { &self.namespace }
    }

    /// The name as it is bound: empty unless the scope is strict.
    #[must_use]
    pub fn bound_name(&self) -> &str {
        if self.scope == Scope::Strict { &self.name } else { "" }
    }

    /// The bytes that bind the item `key` to this place.
    ///
    /// # Errors
    /// [`PlaceError::BadKey`] when the key is against the grammar.
    pub fn context(&self, key: &str) -> Result<Context, PlaceError> {
        if !is_item_key(key) {
            return Err(PlaceError::BadKey);
        }
        let mut bytes = lp(b"bulla/v1/item");
        for part in [self.scope.as_str(), self.bound_namespace(), self.bound_name(), key] {
            lp_into(&mut bytes, part.as_bytes());
        }
        Ok(Context(bytes))
    }
}

impl fmt::Display for Place {
    /// `namespace/name`, with `*` for what the scope leaves open.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_star = |text: &str| if text.is_empty() { "*".to_owned() } else { text.to_owned() };
        write!(f, "{}/{}", or_star(self.bound_namespace()), or_star(self.bound_name()))
    }
}

/// `ctx` of format.md: scope, namespace, name and item key, each with its length before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context(Vec<u8>);

impl Context {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first eight bytes of SHA-256("bulla/v1/tag" || ctx): of public data only, so that a misplaced item is found
    /// without any key.
    #[must_use]
    pub fn tag(&self) -> [u8; TAG_LEN] {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"bulla/v1/tag");
        hash.update(&self.0);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hash.finish().as_ref()[..TAG_LEN]);
        tag
    }
}

/// Whether `key` may name an item: `[-._a-zA-Z0-9]{1,253}`, not `.` and not beginning with `..` (format.md, rule 4).
#[must_use]
pub fn is_item_key(key: &str) -> bool {
    (1..=253).contains(&key.len())
        && key != "."
        && !key.starts_with("..")
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Whether `text` is an RFC 1123 label: a namespace.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Whether `text` is an RFC 1123 subdomain: the name of a Secret.
#[must_use]
pub fn is_dns_subdomain(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|part| {
            let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            edge(part.as_bytes().first())
                && edge(part.as_bytes().last())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}
