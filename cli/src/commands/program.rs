//! `bulla completions` and `bulla man`

use super::Done;
use crate::cli::{CompletionsArgs, ManArgs};
use crate::failure::{self, Result, shown};
use crate::{output, program};

pub fn completions(args: &CompletionsArgs) -> Result<Done> {
    output::data(&program::script(args.shell)?)?;
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
    output::say(&format!("wrote bulla.1 and a page for each command into {}", shown(dir)));
    Ok(Done::Well)
}
