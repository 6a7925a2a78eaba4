//! Secrets to SealedSecrets.

use bulla::bitnami::{Certificate, scope_of, seal};
use bulla::manifest::{PlainView, Tree};
use bulla::scope::Scope;

use super::{cert, connect, input, output};
use crate::cli::{KubesealArgs, ScopeArg};
use crate::failure::{Failure, Result, printable};
use crate::output as say;

/// The scope that was typed.
pub fn asked(args: &KubesealArgs) -> Option<Scope> {
    args.scope.map(|scope| match scope.0 {
        ScopeArg::Strict => Scope::Strict,
        ScopeArg::NamespaceWide => Scope::NamespaceWide,
        ScopeArg::ClusterWide => Scope::ClusterWide,
    })
}

/// An error for a Secret without data, unless that is meant.
pub fn not_empty(args: &KubesealArgs, file: &str, views: &[PlainView]) -> Result<()> {
    if args.allow_empty_data || views.iter().all(|view| !view.secret.data.is_empty()) {
        return Ok(());
    }
    Err(Failure::new(
        "secret.data is empty in input Secret, assuming this is an error and aborting. To work with empty data, \
         --allow-empty-data can be used",
    )
    .in_file(file))
}

/// The namespace of the flags, the kubeconfig or the Pod.
pub fn namespace(args: &KubesealArgs) -> Result<String> {
    connect::namespace(&args.cluster)?.ok_or_else(|| {
        Failure::new(
            "input secret has no namespace and cannot infer the namespace automatically when no kube config is available",
        )
        .help("add \"namespace:\" under metadata, or pass --namespace")
    })
}

pub fn run(args: &KubesealArgs) -> Result<()> {
    let format = output::format(args)?;
    // What is wrong with the input is said before a cluster is asked.
    let input = input::read(args)?;
    let stream = input.stream()?;
    let mut views = input::secrets(&input.file, &stream)?;
    not_empty(args, &input.file, &views)?;
    let name = args.name.as_deref().filter(|name| !name.is_empty());
    if name.is_some() && views.len() > 1 {
        return Err(Failure::new(format!("--name would give {} Secrets one name", views.len())).in_file(&input.file));
    }
    let mut scopes = Vec::new();
    let mut common = None;
    for view in &mut views {
        let place = view.secret.name.clone();
        let secret = &mut view.secret;
        if let Some(name) = name {
            secret.name = Some(name.to_owned());
        }
        if secret.name.as_ref().is_none_or(String::is_empty) {
            return Err(Failure::new("missing metadata.name in input Secret")
                .in_file(&input.file)
                .help("add it, or pass --name"));
        }
        let annotated = scope_of(Some(&secret.annotations));
        let scope = asked(args).unwrap_or(annotated);
        if annotated > scope {
            say::warn(&format!("--scope {scope} counts, not the annotation that says {annotated}"));
        }
        scopes.push(scope);
        let flag = args.cluster.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        match (&secret.namespace, flag) {
            (Some(own), Some(flag)) if !own.is_empty() => {
                if own != flag {
                    let name = printable(place.as_deref().unwrap_or_default());
                    say::warn(&format!("the Secret {name} names its namespace: {own} counts, not --namespace {flag}"));
                }
            }
            (Some(own), _) if !own.is_empty() => {}
            _ if scope == Scope::ClusterWide && flag.is_none() => secret.namespace = None,
            _ => {
                if common.is_none() {
                    common = Some(namespace(args)?);
                }
                secret.namespace.clone_from(&common);
            }
        }
        if view.dropped.iter().any(|dropped| dropped.field == "metadata.finalizers") {
            say::warn("metadata.finalizers is left out");
        }
    }
    let certificate = cert::valid(args)?;
    let sealed =
        views.iter().zip(scopes).map(|(view, scope)| tree(view, scope, &certificate)).collect::<Result<Vec<_>>>()?;
    output::write(args, output::text(sealed, format).as_bytes(), false)
}

fn tree(view: &PlainView, scope: Scope, certificate: &Certificate) -> Result<Tree> {
    let sealed = seal(&view.secret, scope, certificate).map_err(|error| Failure::new(error.to_string()))?;
    Ok(Tree::bitnami(&sealed))
}
