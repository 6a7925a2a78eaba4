//! Looks: how one begins, what follows from its end, and rights that were missing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulla::resource::{GROUP, KIND};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::ObjectMeta;
use tokio::task::JoinSet;

use super::entry::Entry;
use super::{Engine, FOLLOWED, LOGGED, MOST, REPAIRS, REVIEW, REVIEWS, STALLED};
use crate::api::{Failure, own_path, their_path};
use crate::bitnami;
use crate::bitnami::args::Mode;
use crate::events::{Note, reference_of};
use crate::metrics::Reason;
use crate::object::Object;
use crate::queue::{Kind, ObjectKey, back_off};
use crate::reconcile::{Known, Outcome, Right, reconcile};
use crate::status::{Standing, Verdict};

impl Engine {
    /// Asks whether rights that were missing have been given.
    pub(super) fn review(&mut self, reviews: &mut JoinSet<Vec<(Arc<str>, Right)>>) {
        self.next_review = Instant::now() + REVIEW;
        let api = self.context.api.clone();
        let mut asked = Vec::new();
        while asked.len() < REVIEWS
            && let Some(right) = self.denied.pop_first()
        {
            asked.push(right);
        }
        reviews.spawn(async move {
            let mut still = Vec::new();
            let mut given = Vec::new();
            for (namespace, (verb, resource)) in asked {
                let (group, plain) = match resource {
                    "secrets" => ("", resource),
                    "sealedsecrets.bitnami.com" => (bulla::bitnami::GROUP, "sealedsecrets"),
                    "sealedsecrets.bitnami.com/status" => (bulla::bitnami::GROUP, "sealedsecrets/status"),
                    _ => (GROUP, resource),
                };
                match api.allowed(&namespace, verb, group, plain).await {
                    Ok(true) => given.push((namespace, (verb, resource))),
                    _ => still.push((namespace, (verb, resource))),
                }
            }
            // What is still missing goes to the end of the line: marked by an empty right in between.
            given.push(("".into(), ("", "")));
            given.extend(still);
            given
        });
    }

    pub(super) fn given(&mut self, answers: Vec<(Arc<str>, Right)>) {
        let mut answers = answers.into_iter();
        let given: HashSet<Arc<str>> = answers
            .by_ref()
            .take_while(|(namespace, _)| !namespace.is_empty())
            .map(|(namespace, _)| namespace)
            .collect();
        self.denied.extend(answers);
        if !given.is_empty() {
            self.retry_failed(|key| given.contains(&key.namespace));
        }
    }

    pub(super) fn start(&mut self, key: ObjectKey, looks: &mut JoinSet<(ObjectKey, Outcome)>) {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.queue.done(&key, Instant::now());
            return;
        };
        entry.touched = false;
        let trust = !entry.distrust;
        let known = entry.secret.map_or(Known::Absent, Known::Seen);
        let given = entry.waiting.take();
        if let Some(given) = &given {
            self.buffered = self.buffered.saturating_sub(given.weight());
        }
        let context = self.context.clone();
        looks.spawn(async move {
            let started = Instant::now();
            let outcome = match (given, &context.bitnami) {
                (Some(Object::Bitnami(given)), Some(shared)) => {
                    bitnami::reconcile::reconcile(&context, shared, &key, Some(given), known, trust).await
                }
                (_, Some(shared)) if key.kind == Kind::Bitnami => {
                    bitnami::reconcile::reconcile(&context, shared, &key, None, known, trust).await
                }
                (Some(Object::Native(given)), _) => reconcile(&context, &key, Some(given), known, trust).await,
                (_, _) => reconcile(&context, &key, None, known, trust).await,
            };
            let reason = Reason { reason: reason_of(&outcome).to_owned() };
            context.metrics.looks.get_or_create(&reason).observe(started.elapsed().as_secs_f64());
            (key, outcome)
        });
    }

    /// How it stands, for the metrics too.
    pub(super) fn stand(&self, key: &ObjectKey, entry: &mut Entry, verdict: Option<&Verdict>) {
        let objects = &self.context.metrics.objects;
        let before = std::mem::replace(&mut entry.standing, verdict.map(|verdict| (verdict.standing, verdict.reason)));
        if let Some(shared) = self.context.bitnami.as_ref().filter(|_| key.kind == Kind::Bitnami)
            && self.context.settings.bitnami.mode == Mode::Observe
        {
            shared.observed(key, before.map(|(_, reason)| reason), verdict);
            return;
        }
        if let Some((_, before)) = before {
            objects.get_or_create(&Reason { reason: before.to_owned() }).dec();
        }
        if let Some(verdict) = verdict {
            objects.get_or_create(&Reason { reason: verdict.reason.to_owned() }).inc();
        }
    }

    /// The same under the established controller's name, and what is forgotten with an object.
    pub(super) fn tell_stands(&self, key: &ObjectKey, synced: Option<bool>) {
        if let Some(shared) = self.context.bitnami.as_ref().filter(|_| key.kind == Kind::Bitnami) {
            shared.metrics.stands(&key.namespace, &key.name, synced);
            if synced.is_none() {
                shared.hints.forget(&key.namespace, &key.name);
            }
        }
    }

    /// One line for each kind of failure, not for each object and attempt.
    pub(super) fn log(&mut self, key: &ObjectKey, failure: &Failure, now: Instant) {
        let again = |(before, at): &(Failure, Instant)| before == failure && now.duration_since(*at) < LOGGED;
        if !matches!(failure, Failure::NotLeading) && !self.logged.as_ref().is_some_and(again) {
            tracing::warn!(object = %key, %failure, "a SealedSecret or its status was not reached; trying again");
            self.logged = Some((failure.clone(), now));
        }
    }

    pub(super) fn finish(&mut self, key: &ObjectKey, outcome: Outcome) {
        let now = Instant::now();
        let again = self.queue.done(key, now);
        let vanished = self.vanished.remove(key);
        let reason = reason_of(&outcome);
        self.context.metrics.reconciliations.get_or_create(&Reason { reason: reason.to_owned() }).inc();
        if let Some(failure) = &outcome.failure {
            self.log(key, failure, now);
        }
        if let Some(pause) = outcome.pause {
            // It was said to one request and is meant for all.
            self.hold_until = self.hold_until.max(Some(now + pause.min(Duration::from_secs(60))));
        }
        if let Some(right) = outcome.denied {
            self.denied.insert((key.namespace.clone(), right));
        }
        if outcome.gone {
            if !again {
                self.forget(key);
            }
            return;
        }
        let Some(mut entry) = self.entries.remove(key) else { return };
        if let Some(verdict) = &outcome.verdict {
            self.stand(key, &mut entry, Some(verdict));
            entry.distrust = false;
        }
        let looked_at = outcome.secret.flatten();
        match outcome.secret {
            // It was deleted since: what became of that decides `touched`.
            Some(Some(id)) if vanished == Some(id.uid) => {}
            Some(Some(id)) if entry.secret.is_none_or(|seen| seen.uid != id.uid || seen.is_older(id)) => {
                entry.secret = Some(id);
                // Seen in no list, but not gone either.
                entry.secret_epoch = self.secrets.epoch(self.watch_of(key));
            }
            Some(None) if !entry.touched => entry.secret = None,
            _ => {}
        }
        if outcome.verdict.is_some() && !outcome.again {
            entry.applied = outcome.applied;
        }
        let mut contested = None;
        if let Some(manager) = outcome.repaired {
            let fight = entry.fight.get_or_insert_default();
            fight.repairs.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
            fight.repairs.push(now);
            if fight.repairs.len() >= REPAIRS {
                fight.repairs.clear();
                fight.calm_until = Some(now + MOST);
                contested = Some(manager);
            }
        }
        let standing = outcome.verdict.as_ref().map(|verdict| (verdict.standing, verdict.reason));
        let touched = match standing {
            Some((Standing::Ready | Standing::Suspended, reason)) if !outcome.again => {
                entry.attempts = 0;
                entry.touched && entry.secret != entry.applied && FOLLOWED.contains(&reason)
            }
            Some((Standing::Stalled, _)) if !outcome.again => {
                let touched = entry.touched && entry.secret != looked_at;
                if !touched {
                    self.add_at(key, now + back_off(12, STALLED));
                }
                touched
            }
            _ => {
                let pause = back_off(entry.attempts.into(), MOST).max(outcome.pause.unwrap_or_default());
                entry.attempts = entry.attempts.saturating_add(1);
                self.add_at(key, now + pause);
                false
            }
        };
        self.entries.insert(key.clone(), entry);
        if touched {
            self.touched(key);
        }
        if let Some(manager) = contested {
            self.contested(key, manager);
        }
    }

    pub(super) fn watch_of(&self, key: &ObjectKey) -> usize {
        self.namespaces.iter().position(|namespace| *namespace == key.namespace).unwrap_or_default()
    }

    pub(super) fn contested(&self, key: &ObjectKey, manager: Option<String>) {
        let who = manager.map_or_else(|| "somebody".to_owned(), |manager| format!("{manager:?}"));
        let text = format!("{who} keeps changing the Secret; it is put back again in ten minutes");
        tracing::warn!(object = %key, message = text, "drift");
        let about = ObjectMeta {
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            ..ObjectMeta::default()
        };
        let (context, key) = (self.context.clone(), key.clone());
        tokio::spawn(async move {
            let (path, api_version) = match key.kind {
                Kind::Native => (own_path(&key.namespace, "sealedsecrets"), bulla::resource::API_VERSION),
                Kind::Bitnami => (their_path(&key.namespace), bulla::bitnami::API_VERSION),
            };
            // An event is found by the object's uid.
            let uid = context.api.get_metadata(&path, &key.name).await.ok().and_then(|metadata| metadata.uid);
            let about = ObjectReference { uid, ..reference_of(api_version, KIND, &about) };
            context.events.publish(about, &Note::warning("DriftContested", text)).await;
        });
    }
}

fn reason_of(outcome: &Outcome) -> &'static str {
    outcome.verdict.as_ref().map_or(if outcome.gone { "Gone" } else { "Unreached" }, |verdict| verdict.reason)
}
