//! Sealing an object afresh by the cluster that opens it (format.md, rule 7; docs/controller.md, `/v1/reseal`).
//!
//! Whoever asks is a stranger. They choose the object and names of configured recipients, and nothing else: no recipient
//! comes from them, and what they get is readable only to the cluster and to recipients of its configuration.

use std::collections::{BTreeMap, BTreeSet};

use crate::envelope::{Envelope, EnvelopeHead};
use crate::item::{FreshDataKey, TextError};
use crate::limits::MAX_RECIPIENTS;
use crate::open::{Identities, OpenError, ProblemKind, Problems, Site, Strictness, UsedMap, inspect};
use crate::recipient::{Fingerprint, RandomnessError, Recipient, RecipientKind, Target, is_envelope_name};
use crate::resource::{Envelopes, SealedItem, SealedSecret};
use crate::scope::{Place, Scope};

/// A recipient of a cluster's configuration, besides its own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Its name there.
    pub name: String,
    /// Whom to seal for.
    pub recipient: Recipient,
    /// The only namespaces whose values it may get; all when `None`.
    pub namespaces: Option<BTreeSet<String>>,
}

impl Configured {
    /// Whether it may get what is bound to this place. What is not bound to a namespace is of all of them.
    #[must_use]
    pub fn may_read(&self, place: &Place) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| {
            place.scope() != Scope::ClusterWide && namespaces.contains(place.bound_namespace())
        })
    }
}

/// A cluster, as far as sealing afresh goes.
#[derive(Clone, Copy, Debug)]
pub struct Household<'a> {
    /// Its name, if it has one.
    pub name: Option<&'a str>,
    /// The keys that open, the most recently preferred first.
    pub identities: &'a Identities<'a>,
    /// The key to wrap for.
    pub preferred: &'a Recipient,
    /// All keys of its own, also those that open nothing any more: their lines make way for the preferred key's.
    pub own: &'a BTreeSet<Fingerprint>,
    /// Recipients of its configuration.
    pub configured: &'a [Configured],
}

/// Why an object is not sealed afresh. Nothing is sealed in part.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum ResealRefused {
    /// It is broken, or does not open here.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Somebody reads it, or was named, whom this cluster does not know.
    #[error("{0} is no recipient of this cluster's configuration")]
    UnknownRecipient(String),
    /// A recipient that is limited to other namespaces.
    #[error("this cluster does not seal for {0} here: it is limited to other namespaces")]
    OtherNamespace(String),
    /// A classical recipient for what was safe against a quantum computer.
    #[error("values that are sealed for hybrid recipients are not sealed for {0}, which is classical")]
    Downgrade(String),
    /// What it would become is more than a cluster keeps.
    #[error(transparent)]
    Result(Problems),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

impl ResealRefused {
    /// One word for programs: what `/v1/reseal` answers.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Open(OpenError::Problems(_)) => "malformed",
            Self::Open(_) => "does-not-open",
            Self::UnknownRecipient(_) => "unknown-recipient",
            Self::OtherNamespace(_) => "other-namespace",
            Self::Downgrade(_) => "downgrade",
            Self::Result(_) => "too-large",
            Self::Randomness(_) => "unavailable",
        }
    }
}

/// Who reads the items of one data key: recipients in byte order of fingerprint.
type Readers<'a> = BTreeMap<Fingerprint, &'a Recipient>;

/// Seals all items anew in their own place, for those who read them now: lines of the cluster's own keys become its preferred
/// key's, configured recipients keep theirs, and those named in `add` get one. Items with the same readers share a new data
/// key.
///
/// # Errors
/// [`ResealRefused`].
pub fn reseal(
    sealed: &SealedSecret,
    household: &Household<'_>,
    add: &[impl AsRef<str>],
) -> Result<SealedSecret, ResealRefused> {
    let inspected = inspect(sealed, Strictness::Reader).map_err(OpenError::from)?;
    let mut added = Vec::new();
    for name in add {
        let name = name.as_ref();
        let named = household.configured.iter().find(|configured| configured.name == name);
        added.push(named.ok_or_else(|| ResealRefused::UnknownRecipient(shown(name)))?);
    }
    let mut names = Names::default();
    let mut groups: Vec<(Readers<'_>, bool, Vec<&str>)> = Vec::new();
    for map in inspected.used_maps() {
        let readers = readers(&map, household, &added, &mut names)?;
        let keys = inspected.items_of(&map).map(|item| item.key);
        match groups.iter_mut().find(|(others, ..)| others.keys().eq(readers.keys())) {
            Some((_, _, items)) => items.extend(keys),
            None => groups.push((readers, map.item.is_none(), keys.collect())),
        }
    }
    // Only now is it certain that the object belongs where it says.
    let values = inspected.open(household.identities)?;
    for configured in household.configured.iter().filter(|configured| !configured.may_read(&inspected.place)) {
        let fingerprint = configured.recipient.fingerprint();
        let own = household.preferred.fingerprint() == fingerprint;
        if !own && groups.iter().any(|(readers, ..)| readers.contains_key(&fingerprint)) {
            return Err(ResealRefused::OtherNamespace(configured.name.clone()));
        }
    }
    for configured in &added {
        names.offer(configured.recipient.fingerprint(), &configured.name);
    }
    if let Some(name) = household.name {
        names.offer(household.preferred.fingerprint(), name);
    }
    // The largest group takes the common envelopes, so that there are never more maps than before.
    groups.sort_by_key(|(_, common, items)| std::cmp::Reverse((items.len(), *common)));
    let mut fresh = sealed.clone();
    fresh.status = None;
    fresh.metadata.managed_fields = None;
    fresh.spec.items.clear();
    fresh.spec.envelopes.clear();
    for (index, (readers, _, items)) in groups.iter().enumerate() {
        let data_key = FreshDataKey::generate()?;
        let mut lines = Envelopes::new();
        for (fingerprint, recipient) in readers {
            lines.insert(names.of(*fingerprint), Envelope::seal(&data_key, recipient)?.to_string());
        }
        for item in inspected.items.iter().filter(|item| items.contains(&item.key)) {
            let Some(value) = values.get(item.key) else { continue };
            let text = data_key.seal(&item.context, value)?.to_string();
            let own = (index > 0).then(|| lines.clone());
            fresh.spec.items.insert(item.key.to_owned(), SealedItem { sealed: text, envelopes: own });
        }
        if index == 0 {
            fresh.spec.envelopes = lines;
        }
    }
    inspect(&fresh, Strictness::Writer).map_err(ResealRefused::Result)?;
    Ok(fresh)
}

fn readers<'a>(
    map: &UsedMap<'_>,
    household: &Household<'a>,
    added: &[&'a Configured],
    names: &mut Names,
) -> Result<Readers<'a>, ResealRefused> {
    let mut readers = Readers::new();
    let mut classical = map.lines.is_empty();
    for (name, text) in map.lines {
        let Ok(head) = EnvelopeHead::parse(text) else { continue };
        let recipient = if household.own.contains(&head.fingerprint) {
            household.preferred
        } else {
            let known = household.configured.iter().find(|c| c.recipient.fingerprint() == head.fingerprint);
            let unknown = || ResealRefused::UnknownRecipient(format!("{} ({})", shown(name), head.fingerprint));
            &known.ok_or_else(unknown)?.recipient
        };
        names.offer(recipient.fingerprint(), name);
        readers.insert(recipient.fingerprint(), recipient);
        classical |= text.parse::<Envelope>().is_ok_and(|line| line.kind() == RecipientKind::Classical);
    }
    readers.extend(added.iter().map(|configured| (configured.recipient.fingerprint(), &configured.recipient)));
    if let Some(weak) = readers.values().find(|recipient| !classical && recipient.kind() == RecipientKind::Classical) {
        return Err(ResealRefused::Downgrade(weak.fingerprint().to_string()));
    }
    if readers.len() > MAX_RECIPIENTS {
        let site = map.item.map_or(Site::Object, |key| Site::Item(key.to_owned()));
        let problems = Problems::one(site, ProblemKind::TooManyRecipients(readers.len()));
        return Err(ResealRefused::Result(problems));
    }
    Ok(readers)
}

/// A name from outside, fit for a message.
fn shown(name: &str) -> String {
    if is_envelope_name(name) { name.to_owned() } else { "somebody whose name is malformed".to_owned() }
}

/// One name for each recipient, the first that was offered and that no other has.
#[derive(Debug, Default)]
struct Names(BTreeMap<Fingerprint, String>);

impl Names {
    fn offer(&mut self, fingerprint: Fingerprint, name: &str) {
        let fits = is_envelope_name(name) && name.parse::<Fingerprint>().is_err();
        if fits && !self.0.contains_key(&fingerprint) && !self.0.values().any(|taken| taken == name) {
            self.0.insert(fingerprint, name.to_owned());
        }
    }

    fn of(&self, fingerprint: Fingerprint) -> String {
        self.0.get(&fingerprint).cloned().unwrap_or_else(|| fingerprint.to_string())
    }
}

/// Why what a cluster made of an object is not taken.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum AnswerRefused {
    /// It is broken.
    #[error("it is broken: {0}")]
    Broken(#[from] Problems),
    /// Something besides items and envelopes is another.
    #[error("its {0} is not that of the object that was sent")]
    Changed(&'static str),
    /// An item is another in length, or was not sealed afresh.
    #[error("item {0:?} is not the one that was sent, sealed afresh")]
    Item(String),
    /// Somebody who is not to read it.
    #[error("it is sealed for {0}, who is not among the recipients here")]
    Reader(String),
    /// Somebody who is to read it does not.
    #[error("an item is not sealed for {0}")]
    Lost(String),
}

/// Checks what `/v1/reseal` answered, whoever proved it: the same object in everything but the texts of its items and its
/// envelopes; items of the same keys and lengths; envelopes for `targets` only, and in every map for `everywhere`.
///
/// # Errors
/// [`AnswerRefused`].
pub fn check(
    sent: &SealedSecret,
    answer: &SealedSecret,
    targets: &[Target],
    everywhere: &[Fingerprint],
) -> Result<(), AnswerRefused> {
    let metadata = |sealed: &SealedSecret| {
        let m = &sealed.metadata;
        (m.name.clone(), m.namespace.clone(), m.labels.clone(), m.annotations.clone())
    };
    if metadata(sent) != metadata(answer) {
        return Err(AnswerRefused::Changed("metadata"));
    }
    let (old, new) = (&sent.spec, &answer.spec);
    let same = [
        ("scope", old.scope == new.scope),
        ("template", old.template == new.template),
        ("drift", old.drift == new.drift),
        ("suspend", old.suspend == new.suspend),
    ];
    if let Some((what, _)) = same.into_iter().find(|(_, same)| !same) {
        return Err(AnswerRefused::Changed(what));
    }
    if !old.items.keys().eq(new.items.keys()) {
        return Err(AnswerRefused::Changed("set of items"));
    }
    let after = inspect(answer, Strictness::Writer)?;
    let before = inspect(sent, Strictness::Reader)?;
    for (was, is) in before.items.iter().zip(&after.items) {
        if was.sealed.body_len() != is.sealed.body_len() || was.sealed.id() == is.sealed.id() {
            return Err(AnswerRefused::Item(is.key.to_owned()));
        }
    }
    // Every line, also one that no item refers to: it would be written too.
    let lines = new.items.values().filter_map(|item| item.envelopes.as_ref()).chain([&new.envelopes]).flatten();
    for (name, text) in lines {
        let line: Envelope = text.parse().map_err(|error: TextError| {
            AnswerRefused::Broken(Problems::one(Site::Envelope(name.clone()), error.into()))
        })?;
        let is_target = |target: &&Target| {
            target.recipient.fingerprint() == line.fingerprint() && target.recipient.kind() == line.kind()
        };
        if !targets.iter().any(|target| is_target(&target)) {
            return Err(AnswerRefused::Reader(line.fingerprint().to_string()));
        }
    }
    for map in after.used_maps() {
        let has = |wanted: &Fingerprint| {
            map.lines.values().any(|text| EnvelopeHead::parse(text).is_ok_and(|head| head.fingerprint == *wanted))
        };
        if let Some(lost) = everywhere.iter().find(|wanted| !has(wanted)) {
            return Err(AnswerRefused::Lost(lost.to_string()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::open;
    use crate::recipient::{Identity, NameSource, Targets};
    use crate::seal::{seal, set};
    use crate::secret::{PlainSecret, SecretValue};

    struct World {
        old: Identity,
        new: Identity,
        dr: Identity,
        limited: Identity,
        configured: Vec<Configured>,
        own: BTreeSet<Fingerprint>,
    }

    fn world() -> World {
        let identity = || Identity::generate(RecipientKind::Hybrid).expect("randomness");
        let (old, new, dr, limited) = (identity(), identity(), identity(), identity());
        let configured = |name: &str, identity: &Identity, namespaces: Option<&[&str]>| Configured {
            name: name.into(),
            recipient: identity.recipient().clone(),
            namespaces: namespaces.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        };
        World {
            configured: vec![configured("dr", &dr, None), configured("shop-only", &limited, Some(&["shop"]))],
            own: [&old, &new].map(|identity| identity.recipient().fingerprint()).into(),
            old,
            new,
            dr,
            limited,
        }
    }

    impl World {
        fn reseal(&self, sealed: &SealedSecret, add: &[&str]) -> Result<SealedSecret, ResealRefused> {
            let household = Household {
                name: Some("prod"),
                identities: &[&self.new, &self.old],
                preferred: self.new.recipient(),
                own: &self.own,
                configured: &self.configured,
            };
            reseal(sealed, &household, add)
        }
    }

    fn targets(who: &[(&str, &Identity)]) -> Targets {
        let given = who.iter().map(|(name, i)| (i.recipient().clone(), NameSource::Policy((*name).into())));
        Targets::new(given, true).expect("targets")
    }

    fn sealed(namespace: &str, scope: Scope, targets: &Targets) -> SealedSecret {
        let secret = PlainSecret {
            name: Some("db".into()),
            namespace: Some(namespace.into()),
            labels: BTreeMap::from([("team".into(), "shop".into())]),
            type_: Some("kubernetes.io/basic-auth".into()),
            data: ["username", "password"]
                .map(|key| (key.to_owned(), SecretValue::new(format!("value of {key}").into_bytes())))
                .into(),
            ..PlainSecret::default()
        };
        seal(&secret, scope, targets).expect("seals")
    }

    fn names(lines: &Envelopes) -> Vec<&str> {
        lines.keys().map(String::as_str).collect()
    }

    #[test]
    fn items_get_new_keys_and_keep_their_readers() {
        let world = world();
        let before = sealed("shop", Scope::Strict, &targets(&[("here", &world.old), ("dr", &world.dr)]));
        let after = world.reseal(&before, &[]).expect("reseals");
        assert_eq!(names(&after.spec.envelopes), ["dr", "here"]);
        assert_eq!(after.spec.template, before.spec.template);
        assert_eq!(after.metadata, before.metadata);
        let plain = open(&before, &[&world.old]).expect("opens");
        for identity in [&world.new, &world.dr] {
            assert_eq!(open(&after, &[identity]).expect("opens"), plain);
        }
        assert!(open(&after, &[&world.old]).is_err());
        for (key, item) in &after.spec.items {
            assert_ne!(item.sealed.split(':').next(), before.spec.items[key].sealed.split(':').next());
        }
        // Who is named is added, and nobody else.
        let more = world.reseal(&after, &["shop-only"]).expect("reseals");
        assert_eq!(names(&more.spec.envelopes), ["dr", "here", "shop-only"]);
        assert_eq!(open(&more, &[&world.limited]).expect("opens"), plain);
    }

    #[test]
    fn items_with_the_same_readers_share_a_data_key_and_others_do_not() {
        let world = world();
        let mut before = sealed("shop", Scope::Strict, &targets(&[("prod", &world.old)]));
        let both = targets(&[("prod", &world.old), ("dr", &world.dr)]);
        for key in ["a", "b", "c"] {
            set(&mut before, key, &SecretValue::new(key.into()), &both, None).expect("sets");
        }
        let after = world.reseal(&before, &[]).expect("reseals");
        // Three for both, in common now; two for the cluster alone.
        assert_eq!(names(&after.spec.envelopes), ["dr", "prod"]);
        let own: Vec<_> = after.spec.items.iter().filter(|(_, item)| item.envelopes.is_some()).collect();
        assert_eq!(own.len(), 2);
        assert!(own.iter().all(|(_, item)| names(item.envelopes.as_ref().expect("own")) == ["prod"]));
        let ids: BTreeSet<_> =
            after.spec.items.values().map(|item| item.sealed.split(':').next().expect("an id")).collect();
        assert_eq!(ids.len(), 2);
        assert_eq!(open(&after, &[&world.new]), open(&before, &[&world.old]));
        assert!(open(&after, &[&world.dr]).is_err(), "not every item is for it");
    }

    #[test]
    fn no_recipient_comes_from_a_caller() {
        let world = world();
        let stranger = Identity::generate(RecipientKind::Hybrid).expect("randomness");
        let before = sealed("shop", Scope::Strict, &targets(&[("prod", &world.old), ("eve", &stranger)]));
        let refused = world.reseal(&before, &[]).expect_err("a stranger reads it");
        assert_eq!(refused.reason(), "unknown-recipient");
        assert!(refused.to_string().contains(&format!("eve ({})", stranger.recipient().fingerprint())));
        let before = sealed("shop", Scope::Strict, &targets(&[("prod", &world.old)]));
        for name in ["eve", "prod", "recovery\n", stranger.recipient().as_str()] {
            assert_eq!(world.reseal(&before, &[name]).expect_err("not configured").reason(), "unknown-recipient");
        }
        // A line that is in no item's use is dropped, whoever it is for.
        let mut unused = before.clone();
        for item in unused.spec.items.values_mut() {
            item.envelopes = Some(before.spec.envelopes.clone());
        }
        unused.spec.envelopes.insert("eve".into(), "nonsense".into());
        let after = world.reseal(&unused, &[]).expect("reseals");
        assert_eq!(names(&after.spec.envelopes), ["prod"]);
    }

    #[test]
    fn what_does_not_open_here_is_refused_whole() {
        let world = world();
        let prod = targets(&[("prod", &world.old)]);
        let before = sealed("shop", Scope::Strict, &prod);
        let mut moved = before.clone();
        moved.metadata.namespace = Some("live".into());
        assert_eq!(world.reseal(&moved, &[]).expect_err("moved").reason(), "malformed");
        let foreign = sealed("shop", Scope::Strict, &targets(&[("dr", &world.dr)]));
        assert_eq!(world.reseal(&foreign, &["dr"]).expect_err("not ours").reason(), "does-not-open");
        let mut damaged = before;
        let other = sealed("shop", Scope::Strict, &prod);
        damaged.spec.envelopes = other.spec.envelopes;
        let text = damaged.spec.items["password"].sealed.clone();
        damaged.spec.items.get_mut("username").expect("there").sealed = text;
        assert!(world.reseal(&damaged, &[]).is_err());
    }

    #[test]
    fn a_limited_recipient_gets_its_namespaces_only() {
        let world = world();
        let prod = targets(&[("prod", &world.old)]);
        let other = sealed("live", Scope::Strict, &prod);
        assert_eq!(world.reseal(&other, &["shop-only"]).expect_err("elsewhere").reason(), "other-namespace");
        let wide = sealed("shop", Scope::ClusterWide, &prod);
        assert_eq!(world.reseal(&wide, &["shop-only"]).expect_err("everywhere").reason(), "other-namespace");
        let named = sealed("shop", Scope::NamespaceWide, &prod);
        assert!(world.reseal(&named, &["shop-only"]).is_ok());
        // Nor through a line that the caller made up.
        let mut forged = other;
        let theirs = sealed("live", Scope::Strict, &targets(&[("shop-only", &world.limited)]));
        forged.spec.envelopes.extend(theirs.spec.envelopes);
        assert_eq!(world.reseal(&forged, &[]).expect_err("elsewhere").reason(), "other-namespace");
    }

    #[test]
    fn hybrid_does_not_become_classical() {
        let mut world = world();
        let weak = Identity::generate(RecipientKind::Classical).expect("randomness");
        let recipient = weak.recipient().clone();
        world.configured.push(Configured { name: "weak".into(), recipient, namespaces: None });
        let before = sealed("shop", Scope::Strict, &targets(&[("prod", &world.old)]));
        assert_eq!(world.reseal(&before, &["weak"]).expect_err("classical").reason(), "downgrade");
        let mixed = sealed("shop", Scope::Strict, &targets(&[("prod", &world.old), ("weak", &weak)]));
        assert!(world.reseal(&mixed, &[]).is_ok(), "somebody insisted before");
    }

    #[test]
    fn more_data_keys_than_a_writer_makes_are_compacted() {
        let world = world();
        let prod = targets(&[("prod", &world.old)]);
        let mut before = sealed("shop", Scope::Strict, &prod);
        let mut other = before.clone();
        for index in 0..50 {
            set(&mut before, &format!("a{index}"), &SecretValue::new(vec![1]), &prod, None).expect("sets");
            set(&mut other, &format!("b{index}"), &SecretValue::new(vec![2]), &prod, None).expect("sets");
        }
        // As a merge of two branches leaves it.
        before.spec.items.extend(other.spec.items);
        assert!(inspect(&before, Strictness::Writer).is_err());
        let after = world.reseal(&before, &[]).expect("reseals");
        assert_eq!(inspect(&after, Strictness::Writer).expect("sound").data_keys, 1);
        assert_eq!(open(&after, &[&world.new]), open(&before, &[&world.old]));
        // The same with an identity on the command line.
        let local =
            crate::rewrap::reseal(&before, &[&world.old], &prod, crate::rewrap::Succession::ByName { add: false });
        assert_eq!(open(&local.expect("reseals"), &[&world.old]), open(&before, &[&world.old]));
    }

    #[test]
    fn an_answer_is_taken_only_when_it_is_the_same_object_for_the_same_people() {
        let world = world();
        let before = sealed("shop", Scope::Strict, &targets(&[("prod", &world.old), ("dr", &world.dr)]));
        let answer = world.reseal(&before, &[]).expect("reseals");
        let known = targets(&[("prod", &world.new), ("dr", &world.dr)]);
        let prod = [world.new.recipient().fingerprint()];
        let told = |answer: &SealedSecret| check(&before, answer, known.as_slice(), &prod);
        assert_eq!(told(&answer), Ok(()));
        let changed = |change: &dyn Fn(&mut SealedSecret)| {
            let mut answer = answer.clone();
            change(&mut answer);
            told(&answer).expect_err("refused")
        };
        let other = sealed("shop", Scope::Strict, &known);
        let stranger = Identity::generate(RecipientKind::Hybrid).expect("randomness");
        let eve = sealed("shop", Scope::Strict, &targets(&[("prod", &world.new), ("eve", &stranger)]));
        assert_eq!(changed(&|a| a.metadata.name = Some("x".into())), AnswerRefused::Changed("metadata"));
        assert_eq!(
            changed(&|a| a.metadata.annotations = Some([("a".into(), "b".into())].into())),
            AnswerRefused::Changed("metadata")
        );
        assert_eq!(changed(&|a| a.spec.scope = Some(Scope::ClusterWide)), AnswerRefused::Changed("scope"));
        assert_eq!(changed(&|a| a.spec.template = None), AnswerRefused::Changed("template"));
        assert_eq!(changed(&|a| a.spec.suspend = Some(true)), AnswerRefused::Changed("suspend"));
        assert_eq!(changed(&|a| drop(a.spec.items.remove("password"))), AnswerRefused::Changed("set of items"));
        assert!(matches!(
            changed(&|a| a.spec = eve.spec.clone()),
            AnswerRefused::Changed(_) | AnswerRefused::Reader(_)
        ));
        assert!(matches!(
            changed(&|a| (a.spec.items, a.spec.envelopes) = (eve.spec.items.clone(), eve.spec.envelopes.clone())),
            AnswerRefused::Reader(_)
        ));
        assert!(matches!(changed(&|a| drop(a.spec.envelopes.remove("prod"))), AnswerRefused::Lost(_)));
        assert!(matches!(changed(&|a| a.spec.envelopes = other.spec.envelopes.clone()), AnswerRefused::Broken(_)));
        assert!(matches!(changed(&|a| a.spec.envelopes.clear()), AnswerRefused::Broken(_) | AnswerRefused::Lost(_)));
        assert!(matches!(told(&before), Err(AnswerRefused::Item(_))), "nothing was sealed afresh");
        // An item of another length.
        let mut longer = answer.clone();
        longer.spec.items.remove("password");
        set(&mut longer, "password", &SecretValue::new(vec![0; 500]), &known, None).expect("sets");
        assert!(matches!(told(&longer), Err(AnswerRefused::Item(_))));
    }
}
