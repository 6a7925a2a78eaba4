//! What goes in comes out, for Secrets in all shapes in which people have them.

use std::collections::BTreeMap;
use std::path::Path;

use bulla::manifest::{Object, Stream};
use bulla::secret::PlainSecret;

use crate::sandbox::Sandbox;

fn secrets(bytes: &[u8]) -> BTreeMap<(Option<String>, Option<String>), PlainSecret> {
    let stream = Stream::read(bytes).expect("a manifest");
    let read = |object: Object<'_>| {
        let mut secret = object.secret().expect("a Secret");
        // What is said or left out, the type is the same.
        secret.type_.get_or_insert_with(|| "Opaque".into());
        ((secret.namespace.clone(), secret.name.clone()), secret)
    };
    stream.objects().filter(Object::is_secret).map(read).collect()
}

#[test]
fn all_fixtures_come_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/manifests");
    let sandbox = Sandbox::new();
    let mut count = 0;
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml" || e == "json"));
    files.sort();
    for path in files {
        let name = path.file_name().expect("a name").to_str().expect("text").to_owned();
        let bytes = std::fs::read(&path).expect("reads");
        let run = sandbox.with_input(&["seal", "-n", "shop", "-R", "key.txt.pub"], &bytes);
        let run = if run.err.contains("as -n says") {
            sandbox.with_input(&["seal", "-R", "key.txt.pub"], &bytes)
        } else {
            run
        };
        if ["helm-template.yaml", "bitnami-sealed.yaml", "sealed.yaml"].contains(&name.as_str()) {
            assert_eq!(run.code, 1, "{name}: {}", run.err);
            assert!(run.out.is_empty(), "{name}");
            continue;
        }
        assert_eq!(run.code, 0, "{name}: {}", run.err);
        sandbox.write("sealed", &run.out);
        let opened = sandbox.run(&["unseal", "sealed", "-i", "key.txt"]).well();
        let (mut before, after) = (secrets(&bytes), secrets(&opened.out));
        for secret in before.values_mut() {
            secret.namespace.get_or_insert_with(|| "shop".into());
        }
        assert_eq!(before.into_values().collect::<Vec<_>>(), after.into_values().collect::<Vec<_>>(), "{name}");
        count += 1;
    }
    assert!(count >= 20, "{count}");
}
