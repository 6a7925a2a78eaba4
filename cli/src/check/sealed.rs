//! Sealed files, looked at without any key: the library says what is wrong, the rules say under which name.

use bulla::bitnami::{CLUSTER_WIDE, NAMESPACE_WIDE, scope_of};
use bulla::manifest::{Node, Object, Stream};
use bulla::open::{ErrorClass, Problem, ProblemKind, Strictness, inspect};
use bulla::scope::Scope;

use super::cx::{Cx, Named, Seen};
use super::finding::Finding;
use super::registry::Rule;
use super::{lenient, rules, value};
use crate::failure::{self, Failure};
use crate::model::Sealed;

/// Looks at the SealedSecrets of a file.
pub fn file(cx: &Cx<'_>, text: &str) {
    let native = text.contains(bulla::resource::API_VERSION);
    let bitnami = text.contains("bitnami.com/v1alpha1");
    if !native && !bitnami {
        return;
    }
    if bitnami && let Ok(stream) = Stream::read_any(text) {
        stream.documents().iter().for_each(|document| others(cx, &document.root));
    }
    if !native {
        return;
    }
    match Stream::read(text.as_bytes()) {
        Ok(stream) => stream.objects().filter(Object::is_sealed).for_each(|object| one(cx, &stream, object)),
        // A template is nobody's sealed file yet.
        Err(_) if lenient::is_templated(text) => {}
        Err(error) => {
            let failed = failure::manifest(cx.file, None, &error);
            let already =
                cx.report.borrow().findings.iter().any(|finding| matches!(finding.rule.id, "BUL013" | "BUL001"));
            if !already {
                cx.add(from_failure(cx, &rules::bul102::RULE, *failed));
            }
        }
    }
}

fn one(cx: &Cx<'_>, stream: &Stream, object: Object<'_>) {
    let sealed = match Sealed::read(cx.file, stream, object) {
        Ok(sealed) => sealed,
        Err(failed) => {
            cx.add(from_failure(cx, &rules::bul102::RULE, *failed));
            return;
        }
    };
    let named = Named {
        kind: "SealedSecret".into(),
        namespace: sealed.object.metadata.namespace.clone(),
        name: sealed.object.metadata.name.clone(),
    };
    if let Some(name) = named.name.clone() {
        let seen = Seen { namespace: named.namespace.clone(), name, file: cx.file.to_owned(), span: object.span() };
        cx.report.borrow_mut().sealed.push(seen);
    }
    let in_file = sealed.in_file(cx.file, stream);
    let inspected = inspect(&sealed.object, Strictness::Writer);
    if let Ok(inspected) = &inspected {
        let file = super::policy::SealedFile::of(cx.file, stream.text(), &sealed, inspected);
        cx.report.borrow_mut().files_sealed.push(file);
    }
    if let Err(problems) = inspected {
        for problem in problems.as_slice() {
            let mut finding = from_failure(cx, rule_of(problem), *in_file.problem(problem));
            finding.object = named.path();
            finding.keys = vec![problem.site.to_string()];
            cx.add(finding);
        }
    } else if let Ok(mut json) = serde_json::to_value(&sealed.object) {
        if let Some(fields) = json.as_object_mut() {
            fields.insert("apiVersion".into(), bulla::resource::API_VERSION.into());
            fields.insert("kind".into(), bulla::resource::KIND.into());
        }
        cx.report.borrow_mut().live.push((named.called(), object.span(), cx.file.to_owned(), json));
    }
}

fn rule_of(problem: &Problem) -> &'static Rule {
    match (&problem.kind, problem.kind.class()) {
        (_, ErrorClass::Misplaced) => &rules::bul101::RULE,
        (_, ErrorClass::MissingEnvelope) | (ProblemKind::EmptyEnvelopes, _) => &rules::bul103::RULE,
        _ => &rules::bul102::RULE,
    }
}

/// A finding of what the library's error says.
pub fn from_failure(cx: &Cx<'_>, rule: &'static Rule, failed: Failure) -> Finding {
    let mut finding = cx.finding(rule, bulla::manifest::Span::default(), failed.message);
    if let Some(location) = failed.location {
        finding.span.line = location.line.unwrap_or_default();
        finding.span.column = location.column.unwrap_or_default();
        finding.excerpt = location.excerpt;
    }
    finding.label = failed.label;
    finding.help = failed.help;
    finding
}

/// SealedSecrets of Bitnami's format, in Lists too: that what stands there is ciphertext at all.
fn others(cx: &Cx<'_>, node: &Node) {
    let is = |key: &str, value: &str| node.get(key).and_then(Node::scalar) == Some(value);
    if !(is("kind", "SealedSecret") && is("apiVersion", "bitnami.com/v1alpha1")) {
        node.get("items").and_then(Node::items).unwrap_or_default().iter().for_each(|item| others(cx, item));
        return;
    }
    let named = Named::of(node);
    if let Some(name) = named.name.clone() {
        let seen =
            Seen { namespace: named.namespace.clone(), name, file: cx.file.to_owned(), span: cx.place(node.span) };
        cx.report.borrow_mut().sealed.push(seen);
    }
    let metadata = node.get("metadata");
    let annotations = metadata.and_then(|metadata| metadata.get("annotations"));
    let texts = annotations.and_then(Node::entries).unwrap_or_default().iter();
    let texts =
        texts.filter_map(|entry| Some((entry.key.scalar()?.to_owned(), entry.value.scalar()?.to_owned()))).collect();
    let key = |within: Option<&Node>, key: &str| {
        within.and_then(|within| within.entry(key)).map_or(node.span, |entry| entry.key.span)
    };
    let scope = scope_of(Some(&texts));
    let scope_at = key(annotations, if scope == Scope::ClusterWide { CLUSTER_WIDE } else { NAMESPACE_WIDE });
    let places = [node.span, scope_at, key(metadata, "namespace")];
    let file = super::policy::SealedFile::of_bitnami(cx, &named, scope, places);
    cx.report.borrow_mut().files_sealed.push(file);
    let spec = node.get("spec");
    let data = spec.and_then(|spec| spec.get("encryptedData")).and_then(Node::entries).unwrap_or_default();
    let whole =
        spec.and_then(|spec| spec.get("data")).filter(|whole| whole.scalar().is_some_and(|text| !text.is_empty()));
    if let Some(whole) = whole.filter(|whole| !whole.is_null() && !data.is_empty()) {
        let message = "spec.data, of the older form, is there beside spec.encryptedData: it opens nowhere";
        let mut finding = cx.finding(&rules::bul102::RULE, whole.span, message);
        finding.help.push("remove spec.data".into());
        finding.object = named.path();
        cx.add(finding);
    }
    for entry in data {
        let Some(key) = entry.key.scalar() else { continue };
        // A mapping or a list is no ciphertext either.
        let bare = entry.value.scalar().unwrap_or("-").trim();
        // Examples end in dots; templates come later.
        if bare.is_empty()
            || bare.ends_with("...")
            || bare.ends_with('…')
            || bare.starts_with('<')
            || value::assess(bare) == value::Verdict::Reference
        {
            continue;
        }
        // Length of the wrapped key, the key of 128 bytes or more, a tag of 16 bytes.
        let sound = value::decode(bare).is_some_and(|bytes| {
            let Some((head, rest)) = bytes.split_first_chunk::<2>() else { return false };
            let wrapped = usize::from(u16::from_be_bytes(*head));
            (128..=2048).contains(&wrapped) && rest.len() >= wrapped + 16
        });
        if !sound {
            let key = super::cx::clean(key);
            let mut finding =
                cx.finding(&rules::bul102::RULE, entry.key.span, format!("{key} is no ciphertext of this format"));
            finding.help.push("take the file from Git as it was, or seal the value again".into());
            finding.object = named.path();
            finding.keys = vec![key];
            cx.add(finding);
        }
    }
}
