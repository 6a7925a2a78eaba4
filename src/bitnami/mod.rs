//! The format of Bitnami sealed-secrets, `bitnami.com/v1alpha1` (format.md, "Bitnami"): read and written bit for bit.
//!
//! Each value has a session key of its own, wrapped with RSA-OAEP for one certificate; its label binds it to a place, which
//! comes from the object's metadata and annotations, never from its template. The ciphertext names no key, so opening
//! tries: the key that opened the object before, then the newest first. One RSA-4096 operation costs more than a
//! millisecond, a key of another size costs nothing.
//!
//! What this format can't do, and the native one can: tell without a key that an item was moved; several recipients;
//! one-line rotation; post-quantum secrecy.

mod answer;
mod body;
mod change;
mod key;
mod keyfile;
mod keysecret;
mod merge;
mod migrate;
mod observed;
mod resource;
mod sealed;

#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod migrate_tests;
#[cfg(test)]
mod tests;

pub use answer::{AnswerError, resealed_of};
pub use body::parse_sealed;
pub use change::{
    RebindError, Rebound, Renewed, SetError, Sight, edits, is_legacy, place, rebind, renew, seal_for_delivery, set_all,
    sight, texts_of, unset,
};
pub use key::{Certificate, CertificateError, KEY_BITS, KeyFingerprint, NewKey, PrivateKey, PrivateKeyError, generate};
pub use keyfile::{KEY_MEMBER, KeyFileError, is_key_file, private_keys};
pub use keysecret::{ACTIVE, CERTIFICATE_MEMBER, KeyProblem, KeySecret};
pub use merge::{Merge, MergeError, merge};
pub use migrate::{
    AnswerRefused, MigrateError, Migrated, Obstacle, Remark, TranslateError, Translation, Why, check_answer, leave_out,
    migrate, migrate_with_values, parse_request, rename, targets_of, translate,
};
pub use observed::{OBSERVED_CONFIG_MAP, OBSERVED_KEY, ObservedObject, ObservedReport};
pub use resource::{
    API_VERSION, APPLIED, BitnamiCondition, BitnamiSealedSecret, BitnamiSealedSecretSpec, BitnamiSecretTemplate,
    BitnamiStatus, CLUSTER_WIDE, GROUP, KIND, KeyNeeds, MANAGED, NAMESPACE_WIDE, PATCH, SKIP_SET_OWNER_REFERENCES,
    SYNCED, is_synced, opened_by, scope_of, set_scope,
};
pub use sealed::{
    ItemError, OpenError, Opened, Operations, ResealError, Resealed, check, check_item, label, open, open_item,
    open_rendered, open_within, operations, reseal, reseal_within, seal, seal_item, skips_owner, value_len, verify,
    verify_within, wrapped_len,
};
