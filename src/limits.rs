//! The limits of format.md, rule 5. All are checked on public sizes, before anything is decrypted.

/// Data keys in one object that a writer makes.
pub const MAX_DATA_KEYS_WRITE: usize = 64;
/// Data keys in one object that a reader takes: two branches can merge to more than either had.
pub const MAX_DATA_KEYS_READ: usize = 128;
/// Data keys in one object from which writers warn.
pub const WARN_DATA_KEYS: usize = 48;
/// Recipients of one data key.
pub const MAX_RECIPIENTS: usize = 16;
/// Bytes of one binary age file.
pub const MAX_AGE_FILE: usize = 4096;
/// Characters of one envelope's text: id, colon, fingerprint, colon, base64 of [`MAX_AGE_FILE`] bytes.
pub const MAX_ENVELOPE_TEXT: usize = 33 + 1 + 17 + 1 + MAX_AGE_FILE.div_ceil(3) * 4;
/// Items in one object. Below it the size is the limit; it bounds the cost of the API server's own checks.
pub const MAX_ITEMS: usize = 8192;
/// Bytes of the object as compact JSON, without status and managedFields, with the surcharge for managedFields (1.4 MiB).
pub const MAX_OBJECT: usize = 1_468_006;
/// Bytes from which a client-side `kubectl apply` may fail.
pub const WARN_CLIENT_SIDE_APPLY: usize = 180 * 1024;
/// Bytes from which a client-side `kubectl apply` fails.
pub const FAIL_CLIENT_SIDE_APPLY: usize = 256 * 1024;
/// Bytes that managedFields take for each item and envelope line, besides its key, each counted twice.
pub const MANAGED_FIELDS_LINE: usize = 32;
