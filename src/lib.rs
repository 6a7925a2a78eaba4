//! Bulla seals Kubernetes Secrets so that they can live in Git.
//!
//! A *bulla* is the clay envelope that sealed messages five thousand years ago: anybody can carry it and see whom it is
//! for, nobody opens it without it showing, and only the addressee breaks it. Here the message is a Secret, the envelope a
//! [`resource::SealedSecret`], and the addressee a cluster's controller, a recovery key, or a developer's own key.
//!
//! - Each value is an *item*: AES-256-GCM under a key that is derived from a *data key* and from the place where the item
//!   may be opened: scope, namespace, name, key ([`scope`], [`item`]).
//! - The data key is wrapped once for each *recipient*, as one small age file: an *envelope* ([`envelope`]). Recipients are
//!   hybrid by default, ML-KEM-768 with X25519 ([`recipient`]).
//! - Sealing needs public keys only ([`mod@seal`]). Opening needs one identity ([`mod@open`]). Replacing a key touches one line for each
//!   data key ([`mod@rewrap`]).
//!
//! The format is specified in `docs/format.md`; rule numbers in these pages are its.
//!
//! This library decides and never performs: no network, no files, no clock, no async. The controller and the command line
//! perform.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bulla::open::open;
//! use bulla::recipient::{Identity, NameSource, RecipientKind, Targets};
//! use bulla::scope::Scope;
//! use bulla::seal::seal;
//! use bulla::secret::{PlainSecret, SecretValue};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The cluster's key. Only its recipient is needed to seal.
//! let identity = Identity::generate(RecipientKind::Hybrid)?;
//! let prod = (identity.recipient().clone(), NameSource::Policy("prod".into()));
//! let targets = Targets::new([prod], false)?;
//!
//! let secret = PlainSecret {
//!     name: Some("db".into()),
//!     namespace: Some("shop".into()),
//!     data: BTreeMap::from([("password".into(), SecretValue::new(b"correct horse".to_vec()))]),
//!     ..PlainSecret::default()
//! };
//! let sealed = seal(&secret, Scope::Strict, &targets)?;
//! assert_eq!(open(&sealed, &[&identity])?, secret);
//!
//! // What is sealed for shop/db opens nowhere else.
//! let mut moved = sealed;
//! moved.metadata.namespace = Some("live".into());
//! assert!(open(&moved, &[&identity]).is_err());
//! # Ok(())
//! # }
//! ```

pub mod backup;
#[cfg(feature = "bitnami")]
pub mod bitnami;
pub mod diff;
pub mod digest;
pub mod envelope;
pub mod item;
pub mod limits;
pub mod manifest;
pub mod merge;
pub mod metadata;
pub mod open;
pub mod policy;
pub mod proof;
pub mod recipient;
pub mod request;
pub mod reseal;
pub mod resource;
pub mod rewrap;
pub mod scope;
pub mod seal;
pub mod secret;
pub mod template;

mod encoding;
mod hybrid;

#[cfg(test)]
mod rules;
#[cfg(test)]
mod vectors;
