//! Sealed files in an editor: the text that is shown, the place where it lies, the program that changes it.

pub mod buffer;
pub mod editor;
pub mod session;
