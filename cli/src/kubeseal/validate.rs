//! Whether SealedSecrets open, as the controller says.

use super::connect::Controller;
use super::input;
use crate::cli::KubesealArgs;
use crate::failure::{Failure, Result, printable};

pub fn run(args: &KubesealArgs) -> Result<()> {
    let input = input::read(args)?;
    let stream = input.stream()?;
    let found = input::sealed(&input.file, &stream)?;
    let controller = Controller::connect(args)?;
    for (index, view) in &found {
        let cant = |why: &str| {
            Failure::new(format!("cannot validate sealed secret: {why}")).at(&input.file, None, view.places.object)
        };
        let Some(object) = stream.object(*index) else { continue };
        let answer = controller.post("/v1/verify", object.node().to_json().to_string().into_bytes());
        let answer = answer.map_err(|why| cant(&why))?;
        match answer.status {
            200 => {}
            409 => {
                let metadata = &view.sealed.metadata;
                let part = |part: &Option<String>| printable(part.as_deref().unwrap_or_default());
                return Err(Failure::new("unable to decrypt sealed secret")
                    .at(&input.file, None, view.places.object)
                    .detail(format!("{}/{}", part(&metadata.namespace), part(&metadata.name))));
            }
            _ => return Err(cant(&answer.why())),
        }
    }
    Ok(())
}
