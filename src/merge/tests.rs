#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::manifest::emit::{SealedManifest, sealed_yaml};
use crate::open::open;
use crate::recipient::{Identity, NameSource, RecipientKind, Targets};
use crate::rewrap::{Succession, apply, needs, reseal};
use crate::scope::Scope;
use crate::seal::{seal, set, unset};
use crate::secret::{PlainSecret, SecretValue};

/// The keys that `prod` had one after the other, and `dr`.
static KEYS: LazyLock<Vec<Identity>> =
    LazyLock::new(|| (0..4).map(|_| Identity::generate(RecipientKind::Classical).unwrap()).collect());

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What somebody does to a file.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, u16),
    Unset(usize),
    /// `prod` gets another key, by new lines for the data keys that are there.
    Rewrap(usize),
    /// The same, with new data keys.
    Fresh(usize),
}

/// A side: its object, what it opens to, and which key of `prod` it is sealed for.
#[derive(Clone)]
struct Version {
    object: SealedSecret,
    values: BTreeMap<String, String>,
    prod: usize,
}

fn targets(prod: usize) -> Targets {
    let named = |index: usize, name: &str| (KEYS[index].recipient().clone(), NameSource::Policy(name.into()));
    Targets::new([named(prod, "prod"), named(3, "dr")], false).unwrap()
}

fn base(keys: &[usize]) -> Version {
    let values: BTreeMap<String, String> =
        keys.iter().map(|key| (NAMES[*key].to_owned(), format!("base {key}"))).collect();
    let data = values.iter().map(|(key, value)| (key.clone(), SecretValue::new(value.clone().into_bytes()))).collect();
    let secret =
        PlainSecret { name: Some("db".into()), namespace: Some("shop".into()), data, ..PlainSecret::default() };
    Version { object: seal(&secret, Scope::Strict, &targets(0)).unwrap(), values, prod: 0 }
}

impl Version {
    fn after(mut self, steps: &[Step]) -> Self {
        for step in steps {
            let all: Vec<&Identity> = KEYS.iter().collect();
            match *step {
                Step::Set(key, value) => {
                    let value = format!("value {value}");
                    let sealed = SecretValue::new(value.clone().into_bytes());
                    set(&mut self.object, NAMES[key], &sealed, &targets(self.prod), None).unwrap();
                    self.values.insert(NAMES[key].into(), value);
                }
                Step::Unset(key) => {
                    unset(&mut self.object, NAMES[key]);
                    self.values.remove(NAMES[key]);
                }
                Step::Rewrap(prod) => {
                    let succession = Succession::ByName { add: false };
                    for need in needs(&self.object, &targets(prod), succession).unwrap() {
                        let change = need.fulfil(&all, |_| false).unwrap();
                        apply(&mut self.object, &change);
                    }
                    self.prod = prod;
                }
                Step::Fresh(prod) => {
                    let succession = Succession::ByName { add: false };
                    self.object = reseal(&self.object, &all, &targets(prod), succession).unwrap();
                    self.prod = prod;
                }
            }
        }
        self
    }

    fn stream(&self) -> Stream {
        Stream::read(sealed_yaml(&SealedManifest::from(self.object.clone())).as_bytes()).unwrap()
    }
}

/// Merges without a policy and without any help with lines.
fn merged(base: &Version, ours: &Version, theirs: &Version) -> Result<SealedSecret, Vec<Conflict>> {
    let helpers = Helpers { choose: &|_| None, lines: &|_, _, _, _| None, current: &|_| None };
    match merge(&base.stream(), &ours.stream(), &theirs.stream(), &helpers).unwrap() {
        Outcome::Merged(stream) => Ok(sealed_in(&stream).unwrap().remove(0).object),
        Outcome::Conflicts { conflicts, .. } => Err(conflicts),
    }
}

fn values(sealed: &SealedSecret) -> BTreeMap<String, String> {
    let all: Vec<&Identity> = KEYS.iter().collect();
    let secret = open(sealed, &all).unwrap();
    secret.data.iter().map(|(key, value)| (key.clone(), String::from_utf8(value.expose().to_vec()).unwrap())).collect()
}

/// What a merge may give: of each value the side that changed it; `None` where both did, each otherwise.
fn expected(base: &Version, ours: &Version, theirs: &Version) -> BTreeMap<String, Option<Option<String>>> {
    let of = |version: &Version, name: &str| version.values.get(name).cloned();
    let each = |name: &&str| {
        let (b, o, t) = (of(base, name), of(ours, name), of(theirs, name));
        ((*name).to_owned(), three(&b, &o, &t).cloned())
    };
    NAMES.iter().map(each).collect()
}

fn steps(values: bool) -> impl Strategy<Value = Vec<Step>> {
    let edits = prop_oneof![
        (0..5_usize, any::<u16>()).prop_map(|(key, value)| Step::Set(key, value)),
        (0..5_usize).prop_map(Step::Unset),
    ];
    let reseals = prop_oneof![(0..3_usize).prop_map(Step::Rewrap), (0..3_usize).prop_map(Step::Fresh)];
    if values {
        prop::collection::vec(prop_oneof![3 => edits, 1 => reseals].boxed(), 0..4)
    } else {
        prop::collection::vec(edits.boxed(), 0..4)
    }
}

fn touched(steps: &[Step]) -> BTreeSet<usize> {
    steps
        .iter()
        .filter_map(|step| if let Step::Set(key, _) | Step::Unset(key) = step { Some(*key) } else { None })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever two people do, a merge has each value of the side that changed it and opens with the keys of both, or it is a
    /// conflict; and it doesn't matter who merges whom.
    #[test]
    fn nothing_merges_wrongly(
        keys in prop::sample::subsequence(vec![0_usize, 1, 2, 3, 4], 0..=5),
        left in steps(true),
        right in steps(true),
    ) {
        let base = base(&keys);
        let (ours, theirs) = (base.clone().after(&left), base.clone().after(&right));
        let (one, other) = (merged(&base, &ours, &theirs), merged(&base, &theirs, &ours));
        prop_assert_eq!(one.is_ok(), other.is_ok(), "{:?} {:?}", one.err(), other.err());
        if let (Ok(one), Ok(other)) = (one, other) {
            prop_assert_eq!(&one.spec.items, &other.spec.items);
            let got = values(&one);
            prop_assert_eq!(&got, &values(&other));
            for (name, value) in expected(&base, &ours, &theirs) {
                // Both changed it: one value twice is one value; two are a conflict, not a choice.
                let Some(value) = value else {
                    return Err(TestCaseError::fail(format!("{name} was changed on both sides and merged")));
                };
                prop_assert_eq!(got.get(&name), value.as_ref(), "{}", name);
            }
            for item in one.spec.items.keys() {
                let sides = [&base, &ours, &theirs].map(|side| side.object.spec.items.get(item).map(|i| &i.sealed));
                prop_assert!(sides.contains(&one.spec.items.get(item).map(|i| &i.sealed)), "{} is of no side", item);
            }
        }
    }

    /// Edits of different items never conflict.
    #[test]
    fn different_items_merge(
        keys in prop::sample::subsequence(vec![0_usize, 1, 2, 3, 4], 0..=5),
        left in steps(false),
        right in steps(false),
    ) {
        prop_assume!(touched(&left).is_disjoint(&touched(&right)));
        let base = base(&keys);
        let (ours, theirs) = (base.clone().after(&left), base.clone().after(&right));
        let merged = merged(&base, &ours, &theirs);
        let expected: BTreeMap<_, _> = expected(&base, &ours, &theirs)
            .into_iter()
            .filter_map(|(name, value)| Some((name, value??)))
            .collect();
        match merged {
            Ok(merged) => prop_assert_eq!(values(&merged), expected),
            Err(conflicts) => prop_assert!(false, "{conflicts:?}"),
        }
    }
}

/// As large as an object gets: what two branches added and removed side by side.
#[test]
fn two_hundred_items_of_each_side_merge() {
    let mut base = base(&[0]);
    let secret = |range: std::ops::Range<usize>| PlainSecret {
        name: Some("db".into()),
        namespace: Some("shop".into()),
        data: range.map(|n| (format!("key-{n:03}"), SecretValue::new(vec![b'x']))).collect(),
        ..PlainSecret::default()
    };
    base.object = seal(&secret(0..400), Scope::Strict, &targets(0)).unwrap();
    let (mut ours, mut theirs) = (base.clone(), base.clone());
    for n in 0..400 {
        unset(if n % 2 == 0 { &mut ours.object } else { &mut theirs.object }, &format!("key-{n:03}"));
    }
    set(&mut ours.object, "ours", &SecretValue::new(vec![1]), &targets(0), None).unwrap();
    set(&mut theirs.object, "theirs", &SecretValue::new(vec![2]), &targets(0), None).unwrap();
    let merged = merged(&base, &ours, &theirs).unwrap();
    assert_eq!(merged.spec.items.keys().collect::<Vec<_>>(), ["ours", "theirs"]);
}
