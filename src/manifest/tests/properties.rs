//! Files of many styles, each edit: only what was meant changes, and another parser reads what was meant.

use proptest::prelude::*;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::*;

/// A small generator, so that a case is one number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn chance(&mut self, of: u64) -> bool {
        self.roll(of) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()].clone()
    }

    fn text(&mut self, head: &str) -> String {
        format!("{head}{}:A{}==", self.roll(100_000), self.roll(100_000))
    }
}

/// Lines, each with the key of the item that it belongs to.
#[derive(Default)]
struct Lines(Vec<(String, String)>);

struct Case {
    text: String,
    object: usize,
    /// The lines of the file and the item that each belongs to.
    lines: Lines,
    block: bool,
    keys: Vec<String>,
    own: Vec<String>,
    names: Vec<String>,
}

const KEYS: &[&str] =
    &["a", "b.c", "DB_PASSWORD", "password", "tls.crt", "on", "123", "zz", "user", "x-y", "1e3", "null"];
const NAMES: &[&str] = &["prod", "dr", "recovery", "alice"];

fn other(dice: &mut Dice) -> &'static str {
    dice.pick(&[
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  script: |\n    # not a comment\n    sealed: >-\n\n      x\n",
        "# only a comment\n",
        "",
        "- 1\n- {a: [b, \"c\"]}\n# end\n",
        "a: &x\n    b:   'it''s'\nc: *x\n\n\n",
        "{\"kind\": \"Y\", \"deep\": {\"er\": [1, 2, {\"a\": null}]}}\n",
        "tagged: !Ref thing\n? complex\n: value\n",
        "kind: \"é 😀\"   # ünïcode\ntext: >\n  folded\n  text\n\n  more\n",
    ])
}

fn quoted(dice: &mut Dice, key: &str) -> String {
    if yaml11_ambiguous(key).is_some() {
        return dice.pick(&[format!("\"{key}\""), format!("'{key}'")]);
    }
    dice.pick(&[key.to_owned(), key.to_owned(), format!("\"{key}\""), format!("'{key}'")])
}

/// A scalar under a key of the given indentation.
fn scalar(dice: &mut Dice, key: &str, text: &str, indent: usize, step: usize) -> Vec<String> {
    let pad = " ".repeat(indent);
    let (key, tail) = (quoted(dice, key), dice.pick(&["", "", "", "  ", "  # note"]));
    match dice.roll(8) {
        0 => vec![format!("{pad}{key}: {text}{tail}")],
        1 => vec![format!("{pad}{key}: '{text}'{tail}")],
        2 => vec![format!("{pad}{key} : \"{text}\"{tail}")],
        3 => vec![format!("{pad}{key}: |-{tail}"), format!("{pad}{}{text}", " ".repeat(step))],
        4 => vec![format!("{pad}{key}:{tail}"), format!("{pad}{}\"{text}\"", " ".repeat(step))],
        5 => vec![format!("{pad}{key}: >-"), format!("{pad}{}{text}", " ".repeat(step + 1)), String::new()],
        _ => vec![format!("{pad}{key}: >-{tail}"), format!("{pad}{}{text}", " ".repeat(step))],
    }
}

fn comment(dice: &mut Dice, indent: usize) -> Option<String> {
    dice.chance(4).then(|| format!("{}# {}", " ".repeat(indent), dice.pick(&["note", "key: value", "é", "- x", ">-"])))
}

fn case(dice: &mut Dice) -> Case {
    let step = dice.pick(&[2, 2, 2, 4, 3]);
    let mut keys: Vec<String> = KEYS.iter().filter(|_| dice.chance(3)).map(|key| (*key).to_owned()).collect();
    match dice.roll(3) {
        0 => keys.reverse(),
        _ => keys.sort(),
    }
    let names: Vec<String> = NAMES.iter().filter(|_| dice.chance(2)).map(|name| (*name).to_owned()).collect();
    let mut own = Vec::new();
    let mut lines = Lines::default();
    let style = dice.roll(6);
    let block = style > 1;

    let in_list = dice.chance(4) && style != 0;
    let base = if in_list { dice.pick(&[2, 4, 6]) } else { 0 };
    let pad = " ".repeat(base);
    let mut object: Vec<(String, String)> = Vec::new();
    let mut line = |owner: &str, line: String| object.push((owner.to_owned(), line));
    line("", format!("{pad}apiVersion: bulla.dev/v1alpha1"));
    line("", format!("{pad}kind: SealedSecret   # sealed"));
    line("", format!("{pad}metadata: {{name: db, namespace: shop}}"));
    if style == 1 {
        // Items in flow style within block style.
        line("", format!("{pad}spec:"));
        let items: Vec<String> =
            keys.iter().map(|key| format!("\"{key}\": {{sealed: \"{}\"}}", dice.text("k"))).collect();
        let items = if dice.chance(2) {
            format!("{{{}}}", items.join(", "))
        } else {
            let inner = format!("\n{pad}     ");
            format!("{{{inner}{}\n{pad}  }}", items.join(&format!(",{inner}")))
        };
        line("", format!("{pad}  items: {}  # all", if keys.is_empty() { "{}".into() } else { items }));
    } else {
        line("", format!("{pad}spec:{}", dice.pick(&["", " # of it", "  "])));
        let (s, i, f) = (base + step, base + 2 * step, base + 3 * step);
        if dice.chance(2) {
            line("", format!("{}scope: strict", " ".repeat(s)));
        }
        if !keys.is_empty() {
            line("", format!("{}items:{}", " ".repeat(s), dice.pick(&["", "  # here"])));
        } else if dice.chance(2) {
            line("", format!("{}items:{}", " ".repeat(s), dice.pick(&[" {}", " { } # none", ""])));
        }
        for key in &keys {
            if dice.chance(5) {
                line("", String::new());
            }
            if let Some(comment) = comment(dice, i) {
                line(key, comment);
            }
            let shown = quoted(dice, key);
            line(key, format!("{}{shown}:{}", " ".repeat(i), dice.pick(&["", "", "  # it", " "])));
            let sealed = dice.text("k");
            for text in scalar(dice, "sealed", &sealed, f, step) {
                line(key, text);
            }
            if dice.chance(3) && !names.is_empty() {
                own.push(key.clone());
                line(key, format!("{}envelopes:", " ".repeat(f)));
                for name in &names {
                    let envelope = dice.text("k:r");
                    for text in scalar(dice, name, &envelope, f + step, step) {
                        line(key, text);
                    }
                }
            }
            if let Some(comment) = comment(dice, f) {
                line(key, comment);
            }
        }
        if dice.chance(2) {
            line("", format!("{}template:", " ".repeat(s)));
            line("", format!("{}data: {{url: \"{{{{ .a }}}}\"}}", " ".repeat(i)));
        }
        if !names.is_empty() {
            line("", format!("{}envelopes:", " ".repeat(s)));
            for name in &names {
                let envelope = dice.text("k:r");
                for text in scalar(dice, name, &envelope, i, step) {
                    line("", text);
                }
            }
        }
    }
    let mut dash = 0;
    if in_list && let Some((_, first)) = object.first_mut() {
        dash = usize::try_from(dice.roll(base as u64 - 1)).unwrap();
        first.replace_range(dash..=dash, "-");
    }

    let mut object_index = 0;
    let whole = |lines: &mut Lines, text: &str| {
        lines.0.extend(text.lines().map(|line| (String::new(), line.to_owned())));
    };
    let before = dice.roll(3);
    for _ in 0..before {
        let text = other(dice);
        object_index += Stream::read(text.as_bytes()).unwrap().objects().len();
        whole(&mut lines, text);
        // libyaml takes no end of a document that has no begin.
        let ends = if text.is_empty() || text.starts_with('#') { 2 } else { 3 };
        whole(&mut lines, dice.pick(&["---", "---   # next", "...\n---"][..ends]));
    }
    if style == 0 {
        let text = object.iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
        let value: Value = serde_yaml::from_str(&text).unwrap();
        let text = if dice.chance(2) { value.to_string() } else { serde_json::to_string_pretty(&value).unwrap() };
        whole(&mut lines, &text);
    } else {
        if in_list {
            whole(&mut lines, "apiVersion: v1\nkind: List\nitems:");
            lines.0.append(&mut object);
            if dice.chance(2) {
                whole(&mut lines, &format!("{}- kind: Other  # last", " ".repeat(dash)));
            }
        } else {
            lines.0.append(&mut object);
        }
    }
    for _ in 0..dice.roll(3) {
        whole(&mut lines, dice.pick(&["---", "# between\n---", "\n---\n"]));
        whole(&mut lines, other(dice));
    }
    let eol = dice.pick(&["\n", "\n", "\r\n"]);
    let mut text = lines.0.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n");
    if !dice.chance(4) {
        text.push('\n');
    }
    if eol != "\n" {
        text = text.replace('\n', eol);
    }
    if dice.chance(6) {
        text.insert(0, '\u{feff}');
    }
    Case { text, object: object_index, lines, block, keys, own, names }
}

fn bare(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// What another parser (libyaml's) reads; tags and complex keys of other documents as text.
fn documents(text: &str) -> Vec<String> {
    let text = bare(text);
    // After an error it yields errors for ever.
    serde_yaml::Deserializer::from_str(text)
        .take(16)
        .map(|document| format!("{:?}", serde_yaml::Value::deserialize(document).map_err(|error| error.to_string())))
        .collect()
}

fn object_value(text: &str, case: &Case) -> Value {
    let text = bare(text);
    let stream = Stream::read(text.as_bytes()).unwrap();
    let object = stream.object(case.object).unwrap();
    let document = serde_yaml::Deserializer::from_str(text).nth(object.document()).unwrap();
    let mut value = Value::deserialize(document).unwrap();
    if let [index] = object.path() {
        value = value["items"][*index].clone();
    }
    value
}

fn random_item(dice: &mut Dice) -> SealedItem {
    let names: Vec<&str> = NAMES.iter().filter(|_| dice.chance(2)).copied().collect();
    let envelopes: Vec<(&str, String)> = names.into_iter().map(|name| (name, dice.text("k:r"))).collect();
    let envelopes: Vec<(&str, &str)> = envelopes.iter().map(|(a, b)| (*a, b.as_str())).collect();
    item(&dice.text("kn"), &envelopes)
}

/// An edit, the item whose lines it may change, and what it makes of the object.
fn random_edit(dice: &mut Dice, case: &Case, value: &mut Value) -> Option<(Edit, String)> {
    let spec = &mut value["spec"];
    let map = |dice: &mut Dice| {
        if case.own.is_empty() || dice.chance(2) {
            EnvelopeMap::Common
        } else {
            EnvelopeMap::Item(dice.pick(&case.own))
        }
    };
    fn envelopes<'v>(spec: &'v mut Value, map: &EnvelopeMap) -> &'v mut Value {
        match map {
            EnvelopeMap::Common => &mut spec["envelopes"],
            EnvelopeMap::Item(key) => &mut spec["items"][key]["envelopes"],
        }
    }
    let owner = |map: &EnvelopeMap| match map {
        EnvelopeMap::Common => String::new(),
        EnvelopeMap::Item(key) => key.clone(),
    };
    let has_common = spec["envelopes"].is_object();
    match dice.roll(8) {
        0..=2 => {
            let key = dice.pick(KEYS);
            let item = random_item(dice);
            spec["items"][key] = serde_json::to_value(&item).unwrap();
            Some((Edit::SetItem { key: key.into(), item }, key.into()))
        }
        3 if !case.keys.is_empty() => {
            let key = dice.pick(&case.keys);
            spec["items"].as_object_mut()?.remove(&key);
            Some((Edit::RemoveItem { key: key.clone() }, key))
        }
        4 if !case.keys.is_empty() => {
            let key = dice.pick(&case.keys);
            let text = dice.text("kt");
            spec["items"][&key]["sealed"] = json!(text);
            Some((Edit::ReplaceText { path: TextPath::Sealed(key.clone()), text }, key))
        }
        5 if has_common => {
            let map = map(dice);
            let (name, text) = (dice.pick(&case.names), dice.text("k:rt"));
            envelopes(spec, &map)[&name] = json!(text);
            let owner = owner(&map);
            Some((Edit::ReplaceText { path: TextPath::Envelope(map, name), text }, owner))
        }
        6 if has_common => {
            let map = map(dice);
            let (name, text) = ("new-one".to_owned(), dice.text("k:rn"));
            envelopes(spec, &map)[&name] = json!(text);
            let owner = owner(&map);
            Some((Edit::AddEnvelope { map, name, text }, owner))
        }
        7 if has_common => {
            let map = map(dice);
            let from = dice.pick(&case.names);
            let all = envelopes(spec, &map).as_object_mut()?;
            let text = all.remove(&from)?;
            let owner = owner(&map);
            if dice.chance(2) {
                all.insert("renamed".into(), text);
                return Some((Edit::RenameEnvelope { map, from, to: "renamed".into() }, owner));
            }
            if all.is_empty() && map != EnvelopeMap::Common {
                return None;
            }
            Some((Edit::RemoveEnvelope { map, name: from }, owner))
        }
        _ => None,
    }
}

/// Whether all of `kept` stand in `all` in their order.
fn is_subsequence<'t>(kept: impl Iterator<Item = &'t str>, all: &str) -> Result<(), String> {
    let mut rest = all.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    for line in kept {
        if !rest.any(|found| found == line) {
            return Err(line.to_owned());
        }
    }
    Ok(())
}

/// Nothing that is null or empty counts: an empty map is as good as none.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(key, value)| (key, pruned(value)));
            Value::Object(kept.filter(|(_, v)| !v.is_null() && v.as_object().is_none_or(|m| !m.is_empty())).collect())
        }
        other => other,
    }
}

/// Makes the edits, and checks that the object is what was meant and all else what it was.
fn edited_as_meant(case: &Case, edits: Vec<Edit>, owners: &[String], value: Value) -> Result<Stream, TestCaseError> {
    let mut stream = Stream::read(case.text.as_bytes()).unwrap();
    let told = format!("{edits:?} on object {} of\n{}", case.object, case.text);
    let sound =
        stream.object(case.object).unwrap().sealed().is_ok() || matches!(edits.as_slice(), [Edit::SetItem { .. }]);
    let removes = edits.iter().any(|edit| matches!(edit, Edit::RemoveItem { .. } | Edit::RemoveEnvelope { .. }));
    let edits: Vec<_> = edits.into_iter().map(|edit| (case.object, edit)).collect();
    if let Err(error) = stream.apply(&edits) {
        prop_assert!(false, "{error}\n{told}");
    }
    let after = String::from_utf8(stream.to_bytes().to_vec()).unwrap();
    let told = format!("{told}\n=== became\n{after}");
    prop_assert_eq!(pruned(object_value(&after, case)), pruned(value), "{}", told);
    prop_assert!(!sound || stream.object(case.object).unwrap().sealed().is_ok(), "{}", told);
    // Other documents, as another parser reads them.
    let (old, new) = (documents(&case.text), documents(&after));
    prop_assert_eq!(old.len(), new.len(), "{}", told);
    let edited = stream.object(case.object).unwrap().document();
    for (index, (old, new)) in old.iter().zip(&new).enumerate() {
        prop_assert!(index == edited || old == new, "{}", told);
    }
    // Lines that belong to no edited item stand there as before.
    if case.block && owners.iter().all(|owner| !owner.is_empty()) {
        let kept = case.lines.0.iter().filter(|(of, _)| !owners.contains(of)).map(|(_, line)| line.as_str());
        let mut kept: Vec<&str> = kept.collect();
        // The value of "items:" may come and go with the first and the last item.
        let stays = case.keys.iter().any(|key| !owners.contains(key));
        kept.retain(|line| !line.trim_start().starts_with("items:") && (stays || !line.is_empty()));
        prop_assert_eq!(is_subsequence(kept.into_iter(), bare(&after)), Ok(()), "{}", told);
    }
    prop_assert_eq!(case.text.starts_with('\u{feff}'), after.starts_with('\u{feff}'));
    let line_ends = |text: &str| (text.contains("\r\n"), text.replace("\r\n", "").contains('\n'), text.ends_with('\n'));
    // A removal at the end may bring up an empty line.
    if case.lines.0.len() > 1 && (!removes || case.text.ends_with('\n')) {
        prop_assert_eq!(line_ends(&case.text), line_ends(&after), "{}", told);
    }
    Ok(stream)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").map_or(3000, |cases| cases.parse().unwrap()), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_change_what_they_should(seed: u64) {
        let mut dice = Dice(seed);
        let case = case(&mut dice);
        let mut value = object_value(&case.text, &case);
        let Some((edit, owner)) = random_edit(&mut dice, &case, &mut value) else { return Ok(()) };
        edited_as_meant(&case, vec![edit], &[owner], value)?;
    }

    /// Items that come, change and go at once, whatever stands beside whatever.
    #[test]
    fn many_items_change_at_once(seed: u64) {
        let mut dice = Dice(seed);
        let case = case(&mut dice);
        let mut value = object_value(&case.text, &case);
        let (mut edits, mut owners) = (Vec::new(), Vec::new());
        let odds = 1 + dice.roll(4);
        for key in KEYS {
            let there = case.keys.iter().any(|other| other == key);
            if there && dice.chance(odds) {
                value["spec"]["items"].as_object_mut().unwrap().remove(*key);
                edits.push(Edit::RemoveItem { key: (*key).into() });
            } else if dice.chance(odds) {
                let item = random_item(&mut dice);
                value["spec"]["items"][*key] = serde_json::to_value(&item).unwrap();
                edits.push(Edit::SetItem { key: (*key).into(), item });
            } else {
                continue;
            }
            owners.push((*key).to_owned());
        }
        for last in (1..edits.len()).rev() {
            edits.swap(last, usize::try_from(dice.roll(last as u64 + 1)).unwrap());
        }
        let mut stream = edited_as_meant(&case, edits.clone(), &owners, value)?;
        prop_assert!(stream.apply(&[]).unwrap() == Applied::default());
        // One after the other gives the same: what comes, what changes, what goes.
        if case.keys.is_sorted() {
            let rank = |edit: &Edit| match edit {
                Edit::SetItem { key, .. } => (usize::from(case.keys.contains(key)), key.clone()),
                Edit::RemoveItem { key } => (2, key.clone()),
                _ => unreachable!(),
            };
            edits.sort_by_key(rank);
            let mut single = Stream::read(case.text.as_bytes()).unwrap();
            for edit in edits {
                single.apply(&[(case.object, edit)]).unwrap();
            }
            prop_assert_eq!(single.text(), stream.text());
        }
    }

    #[test]
    fn objects_are_replaced_and_nothing_else(seed: u64) {
        let mut dice = Dice(seed);
        let case = case(&mut dice);
        let mut stream = Stream::read(case.text.as_bytes()).unwrap();
        let before = stream.text().to_owned();
        let span = stream.object(case.object).unwrap().span();
        let manifest = sealed_manifest("new");
        stream.replace_object(case.object, Tree::sealed(&manifest)).map_err(|error| TestCaseError::fail(format!("{error}\n{before}")))?;
        prop_assert_eq!(&stream.object(case.object).unwrap().sealed().unwrap().manifest, &manifest);
        prop_assert!(stream.text().starts_with(&before[..span.start]));
        let edited = stream.object(case.object).unwrap().document();
        for (index, (old, new)) in documents(&before).iter().zip(&documents(stream.text())).enumerate() {
            prop_assert!(index == edited || old == new, "{}\n===\n{}", before, stream.text());
        }
        let value: Value = serde_json::from_str(&emit::sealed_json(&manifest)).unwrap();
        prop_assert_eq!(object_value(stream.text(), &case), value, "{}\n===\n{}", before, stream.text());
    }

    /// Damaged files: no panic, and an edit that is made is the one that was meant.
    #[test]
    fn damaged_files(seed: u64) {
        let mut dice = Dice(seed);
        let case = case(&mut dice);
        let mut text = case.text.clone();
        for _ in 0..=dice.roll(3) {
            let mut at = dice.roll(text.len() as u64 + 1) as usize;
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            if dice.chance(2) {
                let piece = dice.pick(&[
                    "\n", " ", "\t", "#", "# x\n", ":", ": ", "- ", "? ", "{", "}", "[", "\"", "'", "|", ">", "&a ", "*a", "!x ",
                    "---\n", "...\n", ",", "é", "\r", "\r\n", "  ", "<<: ", "!!str ", "%",
                ]);
                text.insert_str(at, piece);
            } else if let Some(c) = text[at..].chars().next() {
                text.replace_range(at..at + c.len_utf8(), "");
            }
        }
        let Ok(stream) = Stream::read(text.as_bytes()) else { return Ok(()) };
        for index in 0..stream.objects().len() {
            let object = stream.object(index).unwrap();
            let _ = object.secret();
            let view = object.sealed();
            let mut value = json!({"spec": {"items": {}}});
            if !case.names.is_empty() {
                value["spec"]["envelopes"] = json!({});
            }
            let Some((edit, _)) = random_edit(&mut dice, &case, &mut value) else { continue };
            let mut edited = Stream::read(text.as_bytes()).unwrap();
            if edited.apply(&[(index, edit.clone())]).is_ok()
                && let (Ok(old), Ok(new)) = (&view, edited.object(index).unwrap().sealed())
            {
                let told = format!("{edit:?}\n{text}\n===\n{}", edited.text());
                let mut wanted = old.manifest.clone();
                match &edit {
                    Edit::SetItem { key, item } => { wanted.spec.items.insert(key.clone(), item.clone()); }
                    Edit::RemoveItem { key } => { wanted.spec.items.remove(key); }
                    _ => wanted.spec = new.manifest.spec.clone(),
                }
                prop_assert_eq!(wanted, new.manifest, "{}", told);
            }
            let mut edited = Stream::read(text.as_bytes()).unwrap();
            if edited.replace_object(index, Tree::sealed(&sealed_manifest("x"))).is_ok() {
                let sealed = edited.object(index).unwrap().sealed();
                prop_assert!(sealed.is_ok(), "{:?}\n{}\n===\n{}", sealed, text, edited.text());
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        texts in proptest::collection::btree_map("[-._a-zA-Z0-9]{1,8}", "\\PC{0,12}|[ -~\n\t]{0,40}|\\s{0,3}|[0-9:._+-]{1,6}|(?s:.{0,10})", 0..6),
        labels in proptest::collection::btree_map("\\PC{1,8}|[0-9yneo.]{1,4}", "\\PC{0,8}", 0..4),
        name in "[a-z0-9]{1,5}",
    ) {
        let texts: BTreeMap<String, String> = texts.into_iter().filter(|(k, _)| crate::scope::is_item_key(k)).map(|(k, v)| (k, v.replace('\0', ""))).collect();
        let secret = crate::secret::PlainSecret {
            name: Some(name.clone()),
            namespace: Some("y".into()),
            labels: labels.clone(),
            annotations: texts.clone(),
            type_: Some("Opaque".into()),
            immutable: Some(true),
            data: texts.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes().into())).collect(),
        };
        let yaml = emit::secrets_yaml(&[secret.clone(), secret.clone()]);
        let json = emit::secrets_json(&[secret.clone(), secret.clone()]);
        for text in [&yaml, &json] {
            let stream = Stream::read(text.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}\n{}", text.as_str())))?;
            prop_assert_eq!(stream.objects().len(), 2);
            for object in stream.objects() {
                prop_assert_eq!(&object.secret().unwrap(), &secret, "{}", text.as_str());
            }
        }
        let parsed: Value = serde_json::from_str(&json).unwrap();
        let first = serde_yaml::Deserializer::from_str(&yaml).next().unwrap();
        prop_assert_eq!(&Value::deserialize(first).unwrap(), &parsed["items"][0], "{}", yaml.as_str());
        let manifest = SealedManifest {
            labels,
            spec: SealedSecretSpec {
                template: Some(SecretTemplate { data: texts, ..SecretTemplate::default() }),
                ..sealed_manifest(&name).spec
            },
            ..sealed_manifest(&name)
        };
        for text in [emit::sealed_yaml(&manifest), emit::sealed_json(&manifest)] {
            prop_assert_eq!(&stream(&text).object(0).unwrap().sealed().unwrap().manifest, &manifest, "{}", text);
        }
    }
}
