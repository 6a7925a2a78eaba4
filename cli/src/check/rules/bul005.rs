//! BUL005: a secretGenerator with a literal value.

use bulla::manifest::Node;

use crate::check::cx::{Cx, GeneratorFile, Named, Taken, clean};
use crate::check::judge;
use crate::check::registry::{Rule, Severity};
use crate::check::value::{Verdict, assess};

pub const RULE: Rule = Rule {
    id: "BUL005",
    name: "kustomize-literal",
    severity: Severity::Error,
    summary: "a secretGenerator with a literal value",
    page: include_str!("../../../../docs/rules/BUL005.md"),
};

/// Looks at a kustomization: its generators and its patches.
pub fn kustomization(cx: &Cx<'_>, node: &Node) {
    for generator in node.get("secretGenerator").and_then(Node::items).unwrap_or_default() {
        secret_generator(cx, generator);
    }
    for generator in node.get("configMapGenerator").and_then(Node::items).unwrap_or_default() {
        config_map_generator(cx, generator);
    }
    patches(cx, node);
}

/// A generator that is a file of its own, or stands under `generators`.
pub fn builtin(cx: &Cx<'_>, node: &Node) {
    match node.get("kind").and_then(Node::scalar) {
        Some("SecretGenerator") => secret_generator(cx, node),
        Some("ConfigMapGenerator") => config_map_generator(cx, node),
        _ => {}
    }
}

fn named(generator: &Node) -> Option<&str> {
    let metadata = generator.get("metadata").and_then(|metadata| metadata.get("name"));
    generator.get("name").or(metadata).and_then(Node::scalar)
}

fn secret_generator(cx: &Cx<'_>, generator: &Node) {
    let name = clean(named(generator).unwrap_or("(no name)"));
    for literal in generator.get("literals").and_then(Node::items).unwrap_or_default() {
        let Some((key, value)) = literal.scalar().and_then(|text| text.split_once('=')) else { continue };
        let value = value.trim_matches(['"', '\'']);
        if assess(value) != Verdict::Value || judge::repeats(key, value) {
            continue;
        }
        let mut finding =
            cx.finding(&RULE, literal.span, format!("secretGenerator {name} has a literal value: {}", clean(key)));
        finding.help.push("seal it (bulla set FILE KEY), and list the file under resources".into());
        finding.object = format!("secretGenerator/{name}");
        finding.keys = vec![clean(key)];
        cx.add(finding);
    }
    reads(cx, generator, Taken::SecretEnv, Taken::SecretFile);
}

fn config_map_generator(cx: &Cx<'_>, generator: &Node) {
    let object = Named { kind: "ConfigMap".into(), namespace: None, name: named(generator).map(clean) };
    for literal in generator.get("literals").and_then(Node::items).unwrap_or_default() {
        if let Some((key, value)) = literal.scalar().and_then(|text| text.split_once('='))
            && judge::text(key, value.trim_matches(['"', '\'']))
        {
            super::bul014::report(cx, literal.span, key, Some(&object));
        }
    }
    reads(cx, generator, Taken::ConfigEnv, Taken::ConfigFile);
}

fn patches(cx: &Cx<'_>, node: &Node) {
    for field in ["patches", "patchesJson6902", "patchesStrategicMerge"] {
        for patch in node.get(field).and_then(Node::items).unwrap_or_default() {
            let kind = patch.get("target").and_then(|target| target.get("kind")).and_then(Node::scalar);
            let text = patch.get("patch").filter(|text| text.scalar().is_some()).unwrap_or(patch);
            let Some(value) = text.scalar() else { continue };
            if !value.contains('\n') && !value.trim_start().starts_with(['[', '{']) {
                continue;
            }
            let inner = cx.inner(text, value, None);
            let Ok(stream) = bulla::manifest::Stream::read_any(value) else { continue };
            for document in stream.documents() {
                if document.root.items().is_some() {
                    if kind == Some("Secret") {
                        super::bul001::patch(&inner, &document.root);
                    } else {
                        operations(&inner, &document.root);
                    }
                    for operation in document.root.items().unwrap_or_default() {
                        super::bul004::operation(&inner, operation, None);
                    }
                } else {
                    crate::check::tree::document(&inner, &document.root);
                }
            }
        }
    }
}

/// Operations of a JSON patch that put a variable or a field into an object that is no Secret.
fn operations(cx: &Cx<'_>, operations: &Node) {
    for operation in operations.items().unwrap_or_default() {
        let text = |key: &str| operation.get(key).and_then(Node::scalar);
        let (Some("add" | "replace"), Some(path), Some(entry)) = (text("op"), text("path"), operation.entry("value"))
        else {
            continue;
        };
        let last = path.rsplit('/').next().unwrap_or_default();
        if entry.value.scalar().is_none() {
            super::bul004::variable(cx, &entry.value, None);
            crate::check::tree::document(cx, &entry.value);
        } else if judge::node(last, &entry.value) {
            super::bul015::report(cx, entry.key.span, last, None);
        }
    }
}

/// Notes the files that a generator reads.
fn reads(cx: &Cx<'_>, generator: &Node, env: Taken, file: Taken) {
    for (field, taken) in [("env", env), ("envs", env), ("files", file)] {
        let node = generator.get(field);
        let all = node.and_then(Node::items).unwrap_or_default().iter().filter_map(Node::scalar);
        for text in node.and_then(Node::scalar).into_iter().chain(all) {
            let path = text.split_once('=').map_or(text, |(_, path)| path).to_owned();
            cx.report.borrow_mut().generated_from.push(GeneratorFile { path, taken });
        }
    }
}
