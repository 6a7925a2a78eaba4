//! Editing: an edit is refused or does exactly what it says, and never touches the other objects.
#![no_main]

use bulla::manifest::Stream;
use bulla::resource::SealedItem;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (key, bytes) = input;
    let Ok(mut stream) = Stream::read(bytes) else { return };
    let sealed: Vec<usize> =
        stream.objects().filter(|object| object.sealed().is_ok()).map(|object| object.index()).collect();
    let others = |stream: &Stream, index: usize| -> Vec<String> {
        stream
            .objects()
            .filter(|object| object.index() != index)
            .map(|object| format!("{:?} {:?} {:?}", object.kind(), object.name(), object.namespace()))
            .collect()
    };
    let item = SealedItem { sealed: "kx:AQ==".into(), envelopes: None };
    for index in sealed {
        let before = others(&stream, index);
        let text = stream.text().to_owned();
        match stream.set_item(index, key, &item) {
            Ok(_) => {
                let view = stream.object(index).expect("there").sealed().expect("still a SealedSecret");
                assert_eq!(view.manifest.spec.items.get(key), Some(&item));
                stream.remove_item(index, key).ok();
            }
            Err(_) => assert_eq!(stream.text(), text),
        }
        assert_eq!(others(&stream, index), before);
    }
});
