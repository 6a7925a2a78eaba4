//! Where `BULLA_LAYOUT` is set, the linker puts together what small commands run (docs/decisions/0045). It has to know GNU's
//! linker scripts, which GNU's own and LLVM's do, so that it is not done unasked.
#![allow(clippy::disallowed_macros, clippy::print_stdout, reason = "how cargo is told")]

fn main() {
    println!("cargo::rerun-if-env-changed=BULLA_LAYOUT");
    println!("cargo::rerun-if-changed=layout.ld");
    let linux = std::env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux");
    if linux
        && std::env::var_os("BULLA_LAYOUT").is_some()
        && let Some(here) = std::env::var_os("CARGO_MANIFEST_DIR")
    {
        let script = std::path::Path::new(&here).join("layout.ld");
        println!("cargo::rustc-link-arg-bin=bulla=-Wl,-T,{}", script.display());
    }
}
