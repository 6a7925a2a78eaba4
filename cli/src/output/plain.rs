//! Words for people.

use bulla::item::SealedText;
use bulla::limits::{FAIL_CLIENT_SIDE_APPLY, WARN_CLIENT_SIDE_APPLY, WARN_DATA_KEYS};
use bulla::open::object_size;
use bulla::resource::SealedSecret;

/// Bytes of values that a Secret may have (corev1.MaxSecretSize).
const MAX_SECRET: usize = 1024 * 1024;

/// Columns, aligned. The first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(row.len().max(widths.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(line.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// `1 item`, `2 items`, `1,046 files`.
pub fn count(number: usize, one: &str) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {one}{}", if number == 1 { "" } else { "s" })
}

/// What a writer says of an object of so many bytes, as the cluster counts them.
pub fn near_apply_limit(place: &str, size: usize) -> Option<String> {
    let kib = size / 1024;
    if size >= FAIL_CLIENT_SIDE_APPLY {
        Some(format!("{place} has {kib} KiB: a client-side kubectl apply will fail; kubectl apply --server-side works"))
    } else if size >= WARN_CLIENT_SIDE_APPLY {
        Some(format!("{place} has {kib} KiB: a client-side kubectl apply may fail; kubectl apply --server-side works"))
    } else {
        None
    }
}

/// What a writer says of an object that is near its limits.
pub fn near_limits(place: &str, sealed: &SealedSecret) -> Vec<String> {
    let mut warnings: Vec<String> = near_apply_limit(place, object_size(sealed)).into_iter().collect();
    let items = &sealed.spec.items;
    // Sealed texts tell lengths to the padding, which is 3 % here.
    let values: usize = items
        .values()
        .filter_map(|item| item.sealed.parse::<SealedText>().ok())
        .map(|text| text.body_len().saturating_sub(4))
        .sum();
    if values > MAX_SECRET {
        warnings.push(format!(
            "the values of {place} have up to {} KiB; a Secret of more than {} KiB is refused by the cluster",
            values / 1024,
            MAX_SECRET / 1024
        ));
    }
    let own = items.values().filter(|item| item.envelopes.is_some()).count();
    let keys = own + usize::from(own < items.len());
    if keys >= WARN_DATA_KEYS {
        warnings.push(format!(
            "{place} has {keys} data keys of at most {}, one for each value that was set by itself; bulla reseal --fresh \
             makes one of them",
            bulla::limits::MAX_DATA_KEYS_WRITE
        ));
    }
    warnings
}
