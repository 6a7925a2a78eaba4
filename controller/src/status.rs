//! What a status says, and the contract with Argo CD and Flux: `Ready` is always there, at most one of `Reconciling` and
//! `Stalled`, and only when True. No times but those of transitions, no counters: an equal status is not written.

use bulla::resource::{Applied, Condition, SealedSecretStatus};
use k8s_openapi::jiff::Timestamp;

/// How it stands with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The content is in place.
    Ready,
    /// Not yet, and nobody has to do anything about the object itself.
    Reconciling,
    /// Not, and it will not be until somebody changes something.
    Stalled,
    /// Left as it is, on request.
    Suspended,
}

/// What is said about an object: one word for programs, one sentence for people. Fixed texts and public names only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it stands.
    pub standing: Standing,
    /// One word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl Verdict {
    /// The content is in place.
    pub fn ready() -> Self {
        Self {
            standing: Standing::Ready,
            reason: "Applied",
            message: "the Secret is what the SealedSecret says".to_owned(),
        }
    }

    /// Not yet.
    pub fn reconciling(reason: &'static str, message: impl Into<String>) -> Self {
        Self { standing: Standing::Reconciling, reason, message: message.into() }
    }

    /// Not until somebody changes something.
    pub fn stalled(reason: &'static str, message: impl Into<String>) -> Self {
        Self { standing: Standing::Stalled, reason, message: message.into() }
    }

    /// On request.
    pub fn suspended() -> Self {
        Self {
            standing: Standing::Suspended,
            reason: "Suspended",
            message: "spec.suspend is true: the Secret is left as it is".to_owned(),
        }
    }
}

/// The condition of this type.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// A condition, with the time of its last transition.
pub fn make_condition(
    old: &[Condition],
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let last_transition_time = condition(old, type_)
        .filter(|before| before.status == status)
        .map_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), |before| before.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        observed_generation: generation,
        last_transition_time,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// What an object's status becomes. `applied` is what was written last, kept through failures; `handled` is the value of
/// `bulla.dev/reconcile-at` that was acted on.
pub fn next(
    old: Option<&SealedSecretStatus>,
    generation: Option<i64>,
    verdict: &Verdict,
    applied: Option<Applied>,
    handled: Option<String>,
    now: Timestamp,
) -> SealedSecretStatus {
    let before = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let make = |type_: &str, status: &str| {
        make_condition(before, type_, status, verdict.reason, &verdict.message, generation, now)
    };
    let was = condition(before, "Ready").map_or("Unknown", |ready| ready.status.as_str());
    let mut conditions = vec![make(
        "Ready",
        match verdict.standing {
            Standing::Ready => "True",
            Standing::Reconciling | Standing::Stalled => "False",
            Standing::Suspended => was,
        },
    )];
    match verdict.standing {
        Standing::Reconciling => conditions.push(make("Reconciling", "True")),
        Standing::Stalled => conditions.push(make("Stalled", "True")),
        Standing::Ready | Standing::Suspended => {}
    }
    SealedSecretStatus { observed_generation: generation, conditions, applied, last_handled_reconcile_at: handled }
}

/// The condition of objects whose data keys a compromised key opens.
const KEY_COMPROMISED: &str = "KeyCompromised";

/// Whether a status says that a data key is exposed.
pub fn says_compromised(status: &SealedSecretStatus) -> bool {
    condition(&status.conditions, KEY_COMPROMISED).is_some()
}

/// Adds to a status that a data key is exposed.
pub fn mark_compromised(
    status: &mut SealedSecretStatus,
    old: Option<&SealedSecretStatus>,
    exposed: bool,
    generation: Option<i64>,
    now: Timestamp,
) {
    if exposed {
        let before = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
        let text = "a key that is marked compromised opens it: change its values, and seal it afresh (bulla reseal --fresh --live)";
        let made = make_condition(before, KEY_COMPROMISED, "True", KEY_COMPROMISED, text, generation, now);
        status.conditions.push(made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn shown(status: &SealedSecretStatus) -> Vec<(String, String, String)> {
        status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.last_transition_time.clone())).collect()
    }

    #[test]
    fn conditions_keep_the_contract() {
        let verdicts = [
            (Verdict::ready(), vec![("Ready", "True")]),
            (Verdict::reconciling("NoKey", "x"), vec![("Ready", "False"), ("Reconciling", "True")]),
            (Verdict::stalled("Malformed", "x"), vec![("Ready", "False"), ("Stalled", "True")]),
            (Verdict::suspended(), vec![("Ready", "Unknown")]),
        ];
        for (verdict, expected) in verdicts {
            let status = next(None, Some(3), &verdict, None, None, at(0));
            let found: Vec<_> = status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
            assert_eq!(found, expected, "{verdict:?}");
            assert!(status.conditions.iter().all(|c| c.observed_generation == Some(3)));
            assert_eq!(status.observed_generation, Some(3));
        }
    }

    #[test]
    fn times_change_with_the_status_only() {
        let first = next(None, Some(1), &Verdict::ready(), None, None, at(10));
        let same = next(Some(&first), Some(1), &Verdict::ready(), None, None, at(20));
        assert_eq!(first, same);
        let failed = next(Some(&same), Some(2), &Verdict::stalled("X", "x"), None, None, at(30));
        assert_eq!(shown(&failed)[0].2, "1970-01-01T00:00:30Z");
        let otherwise = next(Some(&failed), Some(2), &Verdict::stalled("Y", "y"), None, None, at(40));
        assert_eq!(shown(&otherwise), shown(&failed), "another reason is no transition");
    }

    #[test]
    fn suspending_keeps_ready() {
        let ready = next(None, Some(1), &Verdict::ready(), None, None, at(10));
        let suspended = next(Some(&ready), Some(2), &Verdict::suspended(), None, None, at(20));
        assert_eq!(shown(&suspended), shown(&ready));
        assert_eq!(suspended.conditions[0].reason, "Suspended");
    }
}
