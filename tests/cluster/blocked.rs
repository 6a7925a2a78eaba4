//! What stands in the way: the object says what, nothing else waits for it, and when it goes the Secret is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulla::resource::TemplateMetadata;
use bulla_tests::{Component, Program, Signal, binary, eventually, write_private};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Config, ResourceExt as _};
use serde_json::{Value, json};

use super::world::{SOON, World};

/// A label of the Secret, which says who is to refuse it.
const BY: &str = "refused-by";

fn refused_by(who: &str) -> impl FnOnce(&mut bulla::resource::SecretTemplate) {
    let labels = [(BY.to_owned(), who.to_owned())].into();
    move |template| template.metadata = Some(TemplateMetadata { labels, ..TemplateMetadata::default() })
}

/// A policy whose refusal quotes the value, and a webhook that does not answer; for Secrets of one namespace with the label.
fn refusals(name: &str, namespace: &str) -> String {
    let selectors = |who: &str| {
        json!({
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "objectSelector": {"matchLabels": { BY: who }},
        })
    };
    let rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"],
    });
    let mut constraints = selectors("policy");
    constraints["resourceRules"] = json!([rule]);
    let group = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": constraints,
            "validations": [{"expression": "false", "messageExpression": "'no: ' + object.data.a"}],
        },
    });
    let binding = json!({
        "apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    let mut webhook = selectors("webhook");
    for (key, value) in [
        ("name", json!("refuses.bulla.dev")),
        ("admissionReviewVersions", json!(["v1"])),
        ("sideEffects", json!("None")),
        ("failurePolicy", json!("Fail")),
        ("timeoutSeconds", json!(1)),
        ("clientConfig", json!({"url": "https://127.0.0.1:1/"})),
        ("rules", json!([rule])),
    ] {
        webhook[key] = value;
    }
    let webhook = json!({
        "apiVersion": group, "kind": "ValidatingWebhookConfiguration", "metadata": {"name": name}, "webhooks": [webhook],
    });
    [policy, binding, webhook].map(|document| document.to_string()).join("\n---\n")
}

#[tokio::test]
async fn what_a_quota_a_policy_or_a_webhook_refuses_says_so_and_is_made_later() -> Result<()> {
    let mut world = World::new("blocked").await?;
    let manifest = refusals(&world.app, &world.app);
    world.cluster.apply(&manifest).await?;
    // Once it is in force, and so that it is known what the API server's words are.
    let mut probe: Secret = serde_json::from_value(json!({"metadata": {"name": "probe", "labels": { BY: "policy" }}}))?;
    probe.string_data = Some([("a".to_owned(), "quoted-value".to_owned())].into());
    eventually("the policy to be in force", SOON, async || {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let refusal = world.secrets().create(&params, &probe).await.err().context("it is let in")?.to_string();
        // As it is on the wire: in base64.
        ensure!(refusal.contains("no: cXVvdGVkLXZhbHVl"), "{refusal}");
        Ok(())
    })
    .await?;
    for who in ["policy", "webhook"] {
        let sealed = world.seal_as(who, &[("a", "hunter2-blocked")], refused_by(who)).await?;
        world.create(&sealed).await?;
    }
    let denied = world.ready("policy", "AdmissionDenied").await?;
    ensure!(denied.status == "False" && !denied.message.contains("no:"), "{denied:?}");
    let unanswered = world.ready("webhook", "Unavailable").await?;
    ensure!(unanswered.status == "False", "{unanswered:?}");
    world.make("good", &[("a", "hunter2-good")]).await?;

    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.app);
    let none = json!({"count/secrets": "0"});
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": none}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
    // Nobody here counts.
    let counted = Patch::Merge(json!({"status": {"hard": none, "used": none}}));
    quotas.patch_status("none", &PatchParams::default(), &counted).await?;
    let probe: Secret = serde_json::from_value(json!({"metadata": {"name": "probe"}}))?;
    eventually("the quota to be in force", SOON, async || {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        ensure!(world.secrets().create(&params, &probe).await.is_err(), "it is let in");
        Ok(())
    })
    .await?;
    let sealed = world.seal("quota", &[("a", "hunter2-quota")]).await?;
    world.create(&sealed).await?;
    world.ready("quota", "QuotaExceeded").await?;
    // What is there already goes on.
    world.meddle("good", json!({"data": {"a": "eA=="}})).await?;
    world.holds("good", &[("a", "hunter2-good")]).await?;

    quotas.delete("none", &DeleteParams::default()).await?;
    bulla_tests::delete(&world.client, &manifest, &[]).await?;
    for (name, value) in [("quota", "hunter2-quota"), ("policy", "hunter2-blocked"), ("webhook", "hunter2-blocked")] {
        world.holds(name, &[("a", value)]).await?;
        world.ready(name, "Applied").await?;
        world.event(&world.app, name, "Recovered").await?;
    }
    world.finish().await
}

#[tokio::test]
async fn what_is_being_deleted_is_waited_for_and_not_acted_on() -> Result<()> {
    let mut world = World::alone("leaving").await?;
    let data = [("a", "hunter2-leaving")];
    for name in ["db", "held"] {
        world.make(name, &data).await?;
    }
    // A Secret that a finalizer keeps.
    world.meddle("db", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await?;
    let first = world.secrets().get("db").await?.uid();
    world.delete_secret("db").await?;
    world.ready("db", "SecretTerminating").await?;
    // A SealedSecret that one keeps: its Secret is nobody's business any more.
    let finalizers = |value: Value| Patch::Merge(json!({"metadata": {"finalizers": value}}));
    world.sealed().patch("held", &PatchParams::default(), &finalizers(json!(["example.com/hold"]))).await?;
    world.sealed().delete("held", &DeleteParams::default()).await?;
    world.delete_secret("held").await?;
    world.make("good", &data).await?;
    ensure!(world.secrets().get_opt("held").await?.is_none(), "it was made again");
    world.sealed().patch("held", &PatchParams::default(), &finalizers(Value::Null)).await?;
    // When the old one is gone.
    world.meddle("db", json!({"metadata": {"finalizers": null}})).await?;
    let second = world.holds("db", &data).await?.uid();
    ensure!(first != second);
    world.ready("db", "Applied").await?;

    // A namespace that has begun to end, and whose Secrets go first.
    world.cluster.pause(Component::ControllerManager)?;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.app, &DeleteParams::default()).await?;
    world.delete_secret("db").await?;
    let ready = world.ready("db", "NamespaceTerminating").await?;
    ensure!(ready.status == "False", "{ready:?}");
    world.cluster.resume(Component::ControllerManager)?;
    eventually("the namespace's end", SOON, async || {
        ensure!(namespaces.get_opt(&world.app).await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    ensure!(world.get("http", "/healthz").await?.0 == 200);
    world.stop().await
}

/// A deletion that comes between the write of a Secret and that of the status, which a webhook holds up here: it is not lost.
#[tokio::test]
async fn a_secret_that_is_deleted_while_its_status_is_written_is_made_again() -> Result<()> {
    let mut world = World::new("between").await?;
    let data = [("a", "hunter2-between")];
    world.make("db", &data).await?;
    // It takes connections and says nothing; the API server goes on without it after three seconds.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://{}/", listener.local_addr()?);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": world.app},
        "webhooks": [{
            "name": "silent.bulla.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "timeoutSeconds": 3, "clientConfig": {"url": url},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.app}},
            "rules": [{"apiGroups": ["bulla.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                "resources": ["sealedsecrets/status"]}],
        }],
    });
    world.cluster.apply(&webhook.to_string()).await?;
    eventually("the webhook to be asked", SOON, async || {
        let same = Patch::Merge(json!({"status": {"lastHandledReconcileAt": null}}));
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        world.sealed().patch_status("db", &params, &same).await?;
        ensure!(asked.load(Ordering::Relaxed) > 0, "not yet");
        Ok(())
    })
    .await?;
    let before = asked.load(Ordering::Relaxed);
    world.meddle("db", json!({"data": {"a": "eA=="}})).await?;
    let first = world.holds("db", &data).await?.uid();
    eventually("the status to be under way", SOON, async || {
        ensure!(asked.load(Ordering::Relaxed) > before, "not yet");
        Ok(())
    })
    .await?;
    world.delete_secret("db").await?;
    let second = world.holds("db", &data).await?.uid();
    ensure!(first != second);
    bulla_tests::delete(&world.client, &webhook.to_string(), &[]).await?;
    world.ready("db", "Applied").await?;
    world.finish().await
}

/// A token of the controller's service account that is good as long as a Secret is there.
async fn bound_token(world: &World, name: &str) -> Result<String> {
    let bound: Secret = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    let bound = world.key_secrets().create(&PostParams::default(), &bound).await?;
    let spec = TokenRequestSpec {
        expiration_seconds: Some(3600),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(name.to_owned()),
            uid: bound.uid(),
        }),
        ..TokenRequestSpec::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.system);
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request("bulla", &PostParams::default(), &request).await?;
    Ok(answer.status.context("an answer without a status")?.token)
}

/// The kubelet writes the next token into the file in time; whoever is late reads it within a minute, and goes on.
#[tokio::test]
async fn a_token_that_is_no_longer_valid_is_read_again() -> Result<()> {
    let mut world = World::bare("tokens").await?;
    let (first, second) = (bound_token(&world, "first").await?, bound_token(&world, "second").await?);
    let path = world.cluster.service_account_kubeconfig(&world.system, "bulla", world.dir.path()).await?;
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let file = world.dir.path().join("token");
    write_private(&file, first.as_bytes())?;
    config["users"][0]["user"] = json!({ "tokenFile": file });
    write_private(&path, config.to_string().as_bytes())?;
    let controller = Program::launch(binary("bulla-controller")?)
        .args(["--namespace", &world.system, "--watch-namespace", &world.app, "--log-level", "debug"])
        .args(["--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--leader-elect=false"])
        .env("KUBECONFIG", &path)
        .spawn()?;
    world.make("before", &[("a", "hunter2-tokens")]).await?;

    world.key_secrets().delete("first", &DeleteParams::default()).await?;
    let mut config: Config = world.cluster.client_config()?;
    config.auth_info = kube::config::AuthInfo { token: Some(first.clone().into()), ..Default::default() };
    let with_first: Api<Secret> = Api::namespaced(Client::try_from(config)?, &world.app);
    eventually("the first token to be refused", SOON, async || {
        let refused = with_first.list(&ListParams::default()).await.err().context("it is good")?;
        ensure!(matches!(&refused, kube::Error::Api(status) if status.code == 401), "{refused}");
        Ok(())
    })
    .await?;
    let sealed = world.seal("after", &[("a", "hunter3-tokens")]).await?;
    world.create(&sealed).await?;
    let next = world.dir.path().join("token.next");
    write_private(&next, second.as_bytes())?;
    std::fs::rename(next, file)?;
    eventually("the Secret", Duration::from_secs(150), async || {
        ensure!(controller.status()?.is_none(), "it ended: {}", controller.log());
        world.secrets().get("after").await.map(drop).with_context(|| controller.log())
    })
    .await?;
    world.ready("after", "Applied").await?;
    world.meddle("before", json!({"data": {"a": "eA=="}})).await?;
    world.holds("before", &[("a", "hunter2-tokens")]).await?;
    controller.signal(Signal::Term)?;
    ensure!(controller.wait(SOON).await?.success(), "{}", controller.log());
    let log = controller.log();
    ensure!(!log.contains(&first) && !log.contains(&second) && !log.contains("hunter"), "{log}");
    world.finish().await
}

/// The API server's own fairness turns the controller away (429) as long as it has no share; then everything is done.
#[tokio::test]
async fn an_api_server_that_asks_to_slow_down_is_obeyed() -> Result<()> {
    let mut world = World::new("slow").await?;
    world.make("before", &[("a", "hunter2-slow")]).await?;
    let sealed = world.seal("meanwhile", &[("a", "hunter3-slow")]).await?;
    let group = "flowcontrol.apiserver.k8s.io/v1";
    let level = json!({
        "apiVersion": group, "kind": "PriorityLevelConfiguration", "metadata": {"name": world.app},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"}}},
    });
    // Everything but its Lease, or it would end.
    let subjects = json!([{"kind": "ServiceAccount", "serviceAccount": {"name": "bulla", "namespace": world.system}}]);
    let rules = json!([{
        "verbs": ["*"], "apiGroups": ["", "bulla.dev"], "resources": ["secrets", "sealedsecrets", "sealedsecrets/status"],
        "namespaces": ["*"], "clusterScope": true,
    }]);
    let schema = json!({
        "apiVersion": group, "kind": "FlowSchema", "metadata": {"name": world.app},
        "spec": {"priorityLevelConfiguration": {"name": world.app}, "matchingPrecedence": 50,
            "rules": [{"subjects": subjects, "resourceRules": rules}]},
    });
    let manifest = format!("{level}\n---\n{schema}");
    world.cluster.apply(&manifest).await?;
    let throttled = async || {
        let metrics = world.get("metrics", "/metrics").await?.1;
        ensure!(metrics.contains("outcome=\"throttled\""), "nothing was refused yet: {metrics}");
        Ok(())
    };
    // Many at once, until the API server has taken the schema in. One request alone it lets through.
    let mut number = 0;
    eventually("the controller to be turned away", SOON, async || {
        let names: Vec<_> = (number..number + 20).map(|number| format!("misplaced-{number}")).collect();
        number += names.len();
        let more = names.iter().map(async |name| {
            let mut more = sealed.clone();
            more.metadata.name = Some(name.clone());
            world.create(&more).await
        });
        futures::future::try_join_all(more).await?;
        throttled().await
    })
    .await?;
    world.create(&sealed).await?;
    bulla_tests::delete(&world.client, &manifest, &[]).await?;
    world.holds("meanwhile", &[("a", "hunter3-slow")]).await?;
    world.ready("meanwhile", "Applied").await?;
    for number in 0..number {
        world.ready(&format!("misplaced-{number}"), "Misplaced").await?;
    }
    world.meddle("before", json!({"data": {"a": "eA=="}})).await?;
    world.holds("before", &[("a", "hunter2-slow")]).await?;
    world.finish().await
}
