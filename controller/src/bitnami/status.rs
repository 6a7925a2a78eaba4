//! What the status of a SealedSecret of this format says: `Synced`, as the established controller says it, always first (its
//! definition's columns show the first condition); and `Applied`, which is ours and fits its schema: what was written, so
//! that a restart asks for nothing.

use bulla::bitnami::{APPLIED, BitnamiCondition, BitnamiStatus, SYNCED, opened_by};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::reconcile::SecretId;

/// Whose a Secret was when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The SealedSecret's: its controller.
    Owned,
    /// Handed over by its annotation.
    Managed,
    /// Somebody else's, who lets us add keys.
    Patched,
    /// The same, and handed over.
    PatchedAndManaged,
    /// Made by us without an owner.
    Made,
    /// The native twin's.
    Superseded,
}

impl Whose {
    const ALL: [Self; 6] =
        [Self::Owned, Self::Managed, Self::Patched, Self::PatchedAndManaged, Self::Made, Self::Superseded];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Owned => "Owned",
            Self::Managed => "Managed",
            Self::Patched => "Patched",
            Self::PatchedAndManaged => "PatchedAndManaged",
            Self::Made => "Made",
            Self::Superseded => "Superseded",
        }
    }

    /// Whether a Secret that is deleted is made again.
    pub const fn is_recreated(self) -> bool {
        matches!(self, Self::Owned | Self::Managed | Self::PatchedAndManaged)
    }
}

/// What was written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whose it is.
    pub whose: Whose,
    /// The Secret's uid.
    pub uid: String,
    /// The Secret's resourceVersion.
    pub version: String,
    /// [`super::plan::inputs`].
    pub inputs: String,
    /// The beginnings of the fingerprints of the keys that opened it, the last item's first.
    pub keys: Vec<u32>,
}

impl Applied {
    /// From a status; `None` when there is none, or not one of ours.
    pub fn read(status: Option<&BitnamiStatus>) -> Option<Self> {
        let status = status?;
        let condition = status.conditions.iter().find(|condition| condition.type_ == APPLIED)?;
        let reason = condition.reason.as_deref()?;
        let whose = Whose::ALL.into_iter().find(|whose| whose.as_str() == reason)?;
        let mut words = condition.message.as_deref()?.split(' ');
        let mut word = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        let (uid, version, inputs) = (word("secret")?, word("version")?, word("inputs")?);
        Some(Self { whose, uid, version, inputs, keys: opened_by(status) })
    }

    fn message(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(|key| format!("{key:08x}")).collect();
        let keys = if keys.is_empty() { "-".to_owned() } else { keys.join(",") };
        format!("secret={} version={} inputs={} key={keys}", self.uid, self.version, self.inputs)
    }

    /// Which Secret it is.
    pub fn secret(&self) -> SecretId {
        SecretId::new(&self.uid, &self.version)
    }
}

fn find<'a>(status: Option<&'a BitnamiStatus>, type_: &str) -> Option<&'a BitnamiCondition> {
    status?.conditions.iter().find(|condition| condition.type_ == type_)
}

/// What the status becomes. `error` is the message of a failure; `applied`, when there is nothing new, is kept. Conditions that we
/// don't know stay.
pub fn next(
    old: Option<&BitnamiStatus>,
    generation: Option<i64>,
    error: Option<&str>,
    applied: Option<&Applied>,
    now: Timestamp,
) -> BitnamiStatus {
    let now = || Timestamp::from_second(now.as_second()).map(Time).ok();
    let (status, message) = error.map_or(("True", None), |error| ("False", Some(error.to_owned())));
    let before = find(old, SYNCED);
    let observed = old.and_then(|status| status.observed_generation);
    let message_of = |condition: &BitnamiCondition| condition.message.clone().filter(|message| !message.is_empty());
    let unchanged =
        before.filter(|before| before.status == status && message_of(before) == message && observed == generation);
    let synced = unchanged.cloned().unwrap_or_else(|| BitnamiCondition {
        type_: SYNCED.to_owned(),
        status: status.to_owned(),
        last_update_time: now(),
        last_transition_time: match before {
            Some(before) if before.status == status => before.last_transition_time.clone(),
            _ => now(),
        },
        reason: before.and_then(|before| before.reason.clone()),
        message,
    });
    let mine = match applied {
        None => find(old, APPLIED).cloned(),
        Some(applied) => {
            let (reason, message) = (applied.whose.as_str().to_owned(), applied.message());
            let same = find(old, APPLIED)
                .filter(|before| before.reason.as_ref() == Some(&reason) && before.message.as_ref() == Some(&message));
            Some(same.cloned().unwrap_or_else(|| BitnamiCondition {
                type_: APPLIED.to_owned(),
                status: "True".to_owned(),
                last_update_time: now(),
                last_transition_time:
                    find(old, APPLIED).and_then(|before| before.last_transition_time.clone()).or_else(now),
                reason: Some(reason),
                message: Some(message),
            }))
        }
    };
    let others = old.into_iter().flat_map(|status| &status.conditions);
    let others = others.filter(|condition| ![SYNCED, APPLIED].contains(&condition.type_.as_str())).cloned();
    let conditions = std::iter::once(synced).chain(mine).chain(others).collect();
    BitnamiStatus { observed_generation: generation, conditions }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bulla::bitnami::is_synced;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn applied(version: &str) -> Applied {
        Applied {
            whose: Whose::Owned,
            uid: "3d9".into(),
            version: version.into(),
            inputs: "iabc".into(),
            keys: vec![0xab],
        }
    }

    fn times(condition: &BitnamiCondition) -> (i64, i64) {
        let second = |time: &Option<Time>| time.as_ref().map_or(-1, |time| time.0.as_second());
        (second(&condition.last_update_time), second(&condition.last_transition_time))
    }

    #[test]
    fn times_are_those_of_the_established_controller() {
        let first = next(None, Some(1), None, Some(&applied("1")), at(10));
        assert_eq!(times(&first.conditions[0]), (10, 10));
        assert_eq!((first.conditions[0].status.as_str(), first.conditions[0].message.as_ref()), ("True", None));
        // Nothing new: nothing changes, whatever the time.
        assert_eq!(next(Some(&first), Some(1), None, Some(&applied("1")), at(20)), first);
        // Another generation does not flip it, and is an update.
        let second = next(Some(&first), Some(2), None, Some(&applied("2")), at(20));
        assert_eq!(times(&second.conditions[0]), (20, 10));
        assert_eq!(second.observed_generation, Some(2));
        let failed = next(Some(&second), Some(2), Some("no"), None, at(30));
        assert_eq!(times(&failed.conditions[0]), (30, 30));
        assert_eq!(failed.conditions[0].message.as_deref(), Some("no"));
        assert_eq!(Applied::read(Some(&failed)), Some(applied("2")), "what was written last is kept");
        let otherwise = next(Some(&failed), Some(2), Some("never"), None, at(40));
        assert_eq!(times(&otherwise.conditions[0]), (40, 30));
        // Put back after drift: nobody else's business.
        let repaired = next(Some(&second), Some(2), None, Some(&applied("9")), at(50));
        assert_eq!(repaired.conditions[0], second.conditions[0]);
        assert_eq!(Applied::read(Some(&repaired)), Some(applied("9")));
    }

    #[test]
    fn synced_comes_first_and_what_others_say_stays() {
        let json = serde_json::json!({
            "conditions": [
                {"type": "Other", "status": "Unknown"},
                {"type": "Synced", "status": "True", "lastUpdateTime": "2020-01-01T00:00:00Z", "message": "", "reason": ""},
            ],
            "observedGeneration": 3,
        });
        let old: BitnamiStatus = serde_json::from_value(json).unwrap();
        let new = next(Some(&old), Some(3), None, Some(&applied("1")), at(10));
        let types: Vec<_> = new.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Synced", "Applied", "Other"]);
        assert_eq!(new.conditions[0], old.conditions[1], "a Synced that says the same stays as it is");
        assert!(is_synced(Some(&new), Some(3)) && !is_synced(Some(&new), Some(4)) && !is_synced(None, None));
    }

    #[test]
    fn memory_is_read_back_or_not_at_all() {
        for whose in Whose::ALL {
            for keys in [vec![], vec![7], vec![0xffff_ffff, 7]] {
                let written = Applied { whose, keys, ..applied("5") };
                assert_eq!(Applied::read(Some(&next(None, Some(1), None, Some(&written), at(1)))), Some(written));
            }
        }
        for (reason, message) in
            [("Owned", "secret=a"), ("Nobodys", "secret=a version=b inputs=c key=-"), ("Owned", "")]
        {
            let json = serde_json::json!({"conditions": [
                {"type": "Applied", "status": "True", "reason": reason, "message": message},
            ]});
            assert_eq!(Applied::read(Some(&serde_json::from_value(json).unwrap())), None, "{message}");
        }
    }
}
