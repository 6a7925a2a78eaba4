//! Where is listed and watched, and which namespaces are served.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Engine;
use super::entry::Served;
use crate::args::Scope;
use crate::queue::Kind;
use crate::watch::{Event, NamespaceSeen, NativeSeen, SecretSeen, Source, TheirsSeen, list_once, watch as follow};

/// The ends of the channels.
pub(super) struct Inputs {
    pub(super) sealed: mpsc::Receiver<(usize, Event<NativeSeen>)>,
    pub(super) theirs: mpsc::Receiver<(usize, Event<TheirsSeen>)>,
    pub(super) secrets: mpsc::Receiver<(usize, Event<SecretSeen>)>,
    pub(super) namespaces: mpsc::Receiver<(usize, Event<NamespaceSeen>)>,
    pub(super) sealed_sender: mpsc::Sender<(usize, Event<NativeSeen>)>,
    pub(super) theirs_sender: mpsc::Sender<(usize, Event<TheirsSeen>)>,
    pub(super) secrets_sender: mpsc::Sender<(usize, Event<SecretSeen>)>,
    pub(super) namespaces_sender: mpsc::Sender<(usize, Event<NamespaceSeen>)>,
    /// The watches: they end with this.
    pub(super) tasks: JoinSet<()>,
}

impl Inputs {
    pub(super) fn new() -> Self {
        let (sealed_sender, sealed) = mpsc::channel(4);
        let (theirs_sender, theirs) = mpsc::channel(4);
        let (secrets_sender, secrets) = mpsc::channel(256);
        let (namespaces_sender, namespaces) = mpsc::channel(256);
        let tasks = JoinSet::new();
        Self {
            sealed,
            theirs,
            secrets,
            namespaces,
            sealed_sender,
            theirs_sender,
            secrets_sender,
            namespaces_sender,
            tasks,
        }
    }
}

impl Engine {
    pub(super) fn list_path(&self, prefix: &str, namespace: Option<&Arc<str>>, resource: &str) -> String {
        namespace.map_or_else(
            || format!("{prefix}/{resource}"),
            |namespace| format!("{prefix}/namespaces/{namespace}/{resource}"),
        )
    }

    /// Where native SealedSecrets, those of the other format, and Secrets are listed.
    pub(super) fn sources(&self, namespace: Option<&Arc<str>>) -> (Source, Option<Source>, Source) {
        let own = format!("/apis/{}", bulla::resource::API_VERSION);
        let sealed = Source { what: "sealedsecrets", ..Source::of(self.list_path(&own, namespace, "sealedsecrets")) };
        let theirs = self.context.bitnami.is_some().then(|| {
            let path = format!("/apis/{}", bulla::bitnami::API_VERSION);
            Source {
                what: "sealedsecrets of bitnami.com",
                labels: self.context.settings.bitnami.label_selector.clone(),
                ..Source::of(self.list_path(&path, namespace, "sealedsecrets"))
            }
        });
        let secrets = Source {
            what: "secrets",
            fields: Some(format!("type!={}", bulla::metadata::SEALING_KEY_TYPE)),
            streaming: true,
            ..Source::of(self.list_path("/api/v1", namespace, "secrets"))
        };
        (sealed, theirs, secrets)
    }

    pub(super) fn watch_objects(&self, inputs: &mut Inputs) {
        let each: Vec<Option<Arc<str>>> = match self.namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        let always = watch::Sender::new(true);
        for (number, namespace) in each.iter().enumerate() {
            let (sealed, theirs, secrets) = self.sources(namespace.as_ref());
            let api = self.context.api.clone();
            if let Some(theirs) = theirs {
                let (sender, room) = (inputs.theirs_sender.clone(), self.room.subscribe());
                inputs.tasks.spawn(follow(api.clone(), theirs, number, sender, room));
            }
            if self.kinds.contains(&Kind::Native) {
                let (sender, room) = (inputs.sealed_sender.clone(), self.room.subscribe());
                inputs.tasks.spawn(follow(api.clone(), sealed, number, sender, room));
            }
            let (sender, room) = (inputs.secrets_sender.clone(), always.subscribe());
            inputs.tasks.spawn(follow(api, secrets, number, sender, room));
        }
        // Kept as long as the watches: one that is gone counts as closed.
        inputs.tasks.spawn(async move { always.closed().await });
    }

    /// Namespaces are watched where all are served, for one that comes or goes changes what can be written; and where their
    /// labels decide which are served. Whether that must be known first.
    pub(super) fn watch_namespaces(&self, inputs: &mut Inputs) -> bool {
        let labels = match &self.context.settings.scope {
            Scope::All | Scope::Filtered(_) => None,
            Scope::Selected(labels) => Some(labels.clone()),
            Scope::Each(_) => return false,
        };
        let selected = labels.is_some();
        let source =
            Source { what: "namespaces", labels, streaming: true, ..Source::of("/api/v1/namespaces".to_owned()) };
        let always = watch::Sender::new(true);
        let (api, sender, room) = (self.context.api.clone(), inputs.namespaces_sender.clone(), always.subscribe());
        inputs.tasks.spawn(async move {
            let _always = always;
            follow(api, source, 0, sender, room).await;
        });
        selected
    }

    pub(super) fn see_namespace(&mut self, event: Event<NamespaceSeen>, inputs: &mut Inputs) {
        let selected = matches!(self.context.settings.scope, Scope::Selected(_));
        match event {
            Event::Restored | Event::Rewound => {}
            Event::Begin => self.selected.clear(),
            Event::Listed(NamespaceSeen(name)) if selected => {
                self.selected.insert(name.as_str().into());
                self.serve(&name, inputs);
            }
            Event::Listed(_) => {}
            Event::End if selected => {
                let listed = std::mem::take(&mut self.selected);
                if let Served::Some(served) = &self.served {
                    let gone: Vec<_> = served.difference(&listed).cloned().collect();
                    for namespace in gone {
                        self.serve_no_more(&namespace);
                    }
                }
                if inputs.tasks.len() == 1 {
                    self.watch_objects(inputs);
                }
            }
            Event::End => {}
            Event::Seen(NamespaceSeen(name)) => {
                if selected {
                    self.selected.insert(name.as_str().into());
                    self.serve(&name, inputs);
                }
                self.retry_failed(|key| *key.namespace == *name);
            }
            Event::Gone(NamespaceSeen(name)) => {
                self.retry_failed(|key| *key.namespace == *name);
                if selected {
                    self.selected.remove(name.as_str());
                    self.serve_no_more(&name);
                }
            }
        }
    }

    /// A namespace whose labels are others now: its Secrets stay as they are.
    pub(super) fn serve_no_more(&mut self, name: &str) {
        if let Served::Some(served) = &mut self.served
            && served.remove(name)
        {
            let gone: Vec<_> = self.entries.keys().filter(|key| *key.namespace == *name).cloned().collect();
            tracing::info!(namespace = name, objects = gone.len(), "the namespace is not served any more");
            for key in gone {
                self.forget(&key);
            }
            self.orphans.retain(|key, _| *key.namespace != *name);
        }
    }

    /// A namespace that is selected from now on: what was there before is listed, once the watches run.
    pub(super) fn serve(&mut self, name: &str, inputs: &mut Inputs) {
        let namespace: Arc<str> = name.into();
        let Served::Some(served) = &mut self.served else { return };
        if !served.insert(namespace.clone()) || inputs.tasks.len() == 1 {
            return;
        }
        tracing::info!(namespace = name, "the namespace is served from now on");
        let (sealed, theirs, secrets) = self.sources(Some(&namespace));
        let (api, room) = (self.context.api.clone(), self.room.subscribe());
        let (to_sealed, to_secrets) = (inputs.sealed_sender.clone(), inputs.secrets_sender.clone());
        let (to_theirs, native) = (inputs.theirs_sender.clone(), self.kinds.contains(&Kind::Native));
        inputs.tasks.spawn(async move {
            // Secrets first: a SealedSecret is looked at when it is seen.
            let always = watch::Sender::new(true);
            if list_once(api.clone(), secrets, 0, to_secrets, always.subscribe()).await {
                if native {
                    list_once(api.clone(), sealed, 0, to_sealed, room.clone()).await;
                }
                if let Some(theirs) = theirs {
                    list_once(api, theirs, 0, to_theirs, room).await;
                }
            }
        });
    }
}
