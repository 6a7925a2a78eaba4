//! `bulla init`

use std::path::{Path, PathBuf};

use super::Done;
use super::recipients::{
    ClusterPin, certificate_in, certificate_line, from_cluster, from_file, line, name_of, noted_certificate,
    write_certificate, write_pin,
};
use crate::cli::InitArgs;
use crate::failure::{Failure, Result};
use crate::policy::edit::{New, new_text};
use crate::policy::{Finder, Glob, NAME};
use crate::rsa::Rsa;
use crate::{files, output};

pub fn run(args: &InitArgs) -> Result<Done> {
    let root = root()?;
    let glob = args.rule.as_deref().unwrap_or("**");
    Glob::new(glob).map_err(|why| Failure::usage(format!("--rule: {why}")))?;
    if let Some(rsa) = certificate_in(args.file.as_deref())? {
        return with_certificate(args, &root, glob, &rsa);
    }
    let pin = match &args.file {
        Some(file) => from_file(file)?,
        None => from_cluster(&args.cluster)?,
    };
    let name = super::recipients::name(args.name.as_deref(), &pin)?;
    if let Some(policy) = Finder::new(None).find(&root)?.policy {
        if let Some(there) = policy.recipient(&name)
            && policy.pin(there)?.listed.recipient == pin.listed.recipient
        {
            output::say(&format!("{name} is in {} already, with this key: nothing to do", policy.file));
            return Ok(Done::Well);
        }
        return Err(Failure::new(format!("{} is there already and is not overwritten", policy.file))
            .help(format!("another recipient: bulla recipients add {name} … --rule GLOB"))
            .help("the same one with another key: bulla recipients update"));
    }
    let mut all = vec![(pin.noted(&name), pin.listed.clone())];
    for (index, listed) in pin.recovery.iter().enumerate() {
        let label = listed.name.clone().filter(|label| *label != name).unwrap_or_else(|| match index {
            0 => "recovery".to_owned(),
            index => format!("recovery-{}", index + 1),
        });
        let new = New { name: label.clone(), file: format!(".bulla/{label}.pub"), always: true, ..New::default() };
        all.push((new, listed.clone()));
    }
    // The keys first: a policy that names files which are not there would be broken.
    for (new, listed) in &all {
        write_pin(&root, &new.file, listed)?;
    }
    let news: Vec<New> = all.iter().map(|(new, _)| new.clone()).collect();
    let text = new_text(&news, glob, &[&name]);
    let path = root.join(NAME);
    crate::policy::read(NAME, &root, text.as_bytes())?;
    files::create(&path, text.as_bytes())?;
    let width = news.iter().map(|new| new.name.len()).max().unwrap_or(0) + 6;
    for (index, (new, listed)) in all.iter().enumerate() {
        let from = if index == 0 { pin.from.clone() } else { "the cluster's recovery recipient".to_owned() };
        output::say(&line(&new.name, width, listed, &from));
    }
    let written: Vec<&str> = news.iter().map(|new| new.file.as_str()).collect();
    output::say(&format!(
        "wrote {NAME} and {}; commit {} and protect .bulla/ with CODEOWNERS",
        written.join(", "),
        if written.len() == 1 { "both" } else { "them" }
    ));
    if pin.recovery.is_empty() {
        output::warn(if pin.context.is_some() {
            "no recovery recipient. If this cluster is lost, so is every secret:\n         \
             bulla keygen -w recovery.txt   (keep it offline)\n         \
             bulla recipients add recovery recovery.txt.pub --always"
        } else {
            "no recovery recipient. If this identity is lost, so is every secret:\n         \
             bulla keygen -w recovery.txt   (keep it offline)\n         \
             bulla recipients add recovery recovery.txt.pub --always"
        });
    }
    Ok(Done::Well)
}

/// A policy for files of Bitnami's format.
fn with_certificate(args: &InitArgs, root: &Path, glob: &str, rsa: &Rsa) -> Result<Done> {
    let name = name_of(args.name.as_deref(), &rsa.name)?;
    if let Some(policy) = Finder::new(None).find(root)?.policy {
        return Err(Failure::new(format!("{} is there already and is not overwritten", policy.file))
            .help(format!("one recipient more: bulla recipients add {name} FILE --rule GLOB")));
    }
    let new = noted_certificate(&name);
    write_certificate(root, &new.file, rsa)?;
    let text = new_text(std::slice::from_ref(&new), glob, &[&name]);
    crate::policy::read(NAME, root, text.as_bytes())?;
    files::create(&root.join(NAME), text.as_bytes())?;
    output::say(&certificate_line(&name, rsa));
    output::say(&format!("wrote {NAME} and {}; commit both and protect .bulla/ with CODEOWNERS", new.file));
    Ok(Done::Well)
}

/// The repository's root; outside of one, this folder.
pub fn root() -> Result<PathBuf> {
    let here = std::env::current_dir()
        .and_then(std::fs::canonicalize)
        .map_err(|error| crate::failure::io("look at", Path::new("."), &error))?;
    let root = here.ancestors().find(|folder| std::fs::symlink_metadata(folder.join(".git")).is_ok());
    Ok(root.map_or(here.clone(), Path::to_owned))
}

impl ClusterPin {
    /// What is written down of it.
    pub fn noted(&self, name: &str) -> New {
        New {
            name: name.to_owned(),
            file: format!(".bulla/{name}.pub"),
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            controller_namespace: self.controller_namespace.clone(),
            always: false,
        }
    }
}
