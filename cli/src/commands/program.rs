//! `bulla completions` and `bulla man`

use clap::CommandFactory as _;

use super::Done;
use crate::cli::{CompletionsArgs, Kubeseal, ManArgs};
use crate::failure::{self, Result, shown};
use crate::{output, program};

pub fn completions(args: &CompletionsArgs) -> Result<Done> {
    output::data(&program::script(args.shell, args.program)?)?;
    Ok(Done::Well)
}

pub fn man(args: &ManArgs) -> Result<Done> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(program::command())
            .render(&mut page)
            .map_err(|error| failure::io("write", std::path::Path::new("-"), &error))?;
        output::data(&page)?;
        return Ok(Done::Well);
    };
    let fail = |error: std::io::Error| failure::io("write into", dir, &error);
    clap_mangen::generate_to(program::command(), dir).map_err(fail)?;
    clap_mangen::generate_to(Kubeseal::command(), dir).map_err(fail)?;
    output::say(&format!("wrote bulla.1, a page for each command, and kubeseal.1 into {}", shown(dir)));
    Ok(Done::Well)
}
