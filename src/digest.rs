//! The content digest (format.md, "Computation"): of public text only, it changes whenever what a Secret is made from does.

use ring::digest::{Context, SHA256};

use crate::encoding::{base32, lp};
use crate::open::place_of;
use crate::resource::SealedSecret;
use crate::scope::PlaceError;

/// `c` and the base32 of a SHA-256 over place, items and template: 53 characters.
///
/// # Errors
/// [`PlaceError`] when the object has no place.
pub fn content_digest(sealed: &SealedSecret) -> Result<String, PlaceError> {
    let place = place_of(sealed)?;
    let spec = &sealed.spec;
    let mut hash = Context::new(&SHA256);
    for part in ["bulla/v1/content", place.scope().as_str(), place.bound_namespace(), place.bound_name()] {
        hash.update(&lp(part.as_bytes()));
    }
    map_into(&mut hash, spec.items.iter().map(|(key, item)| (key.as_str(), item.sealed.as_str())));
    let template = spec.template.clone().unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    hash.update(&lp(template.type_.as_deref().filter(|t| !t.is_empty()).unwrap_or("Opaque").as_bytes()));
    hash.update(&[u8::from(template.immutable.unwrap_or_default())]);
    for map in [&metadata.labels, &metadata.annotations, &template.data] {
        map_into(&mut hash, map.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    }
    Ok(format!("c{}", base32(hash.finish().as_ref())))
}

/// M(map): the count, then key and value with their lengths, in byte order of key.
fn map_into<'a>(hash: &mut Context, entries: impl ExactSizeIterator<Item = (&'a str, &'a str)>) {
    hash.update(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (key, value) in entries {
        hash.update(&lp(key.as_bytes()));
        hash.update(&lp(value.as_bytes()));
    }
}

/// `i` and the base32 of a SHA-256 over the parts with their lengths: names what a Secret was made from, in a status.
#[must_use]
pub fn inputs_digest(parts: &[&[u8]]) -> String {
    let mut hash = Context::new(&SHA256);
    hash.update(&lp(b"bulla/v1/inputs"));
    for part in parts {
        hash.update(&lp(part));
    }
    format!("i{}", base32(hash.finish().as_ref()))
}
