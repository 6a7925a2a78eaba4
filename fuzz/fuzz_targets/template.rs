//! Templates over items: rendering never panics, ends soon, keeps within its output, and its errors tell nothing.
#![no_main]

use std::collections::BTreeMap;

use bulla::secret::SecretValue;
use bulla::template::{Budget, Context, Dialect, MAX_OUTPUT, check, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|template: &str| {
    let dialect = Dialect::native();
    let items = BTreeMap::from([
        ("a".to_owned(), SecretValue::new(b"qqsecretqq one".to_vec())),
        ("n".to_owned(), SecretValue::new(b"17".to_vec())),
        ("bin".to_owned(), SecretValue::new(vec![0xff, 0])),
    ]);
    let context = Context::of_items(&items, &dialect);
    let checked = check("t", template, &dialect).is_ok();
    match render("t", template, &context, &dialect, &mut Budget::default()) {
        Ok(output) => assert!(checked && output.len() <= MAX_OUTPUT),
        Err(error) => assert!(!format!("{error} {error:?}").contains("qqsecret")),
    }
});
