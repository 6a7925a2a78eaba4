//! Which editor, and how it is started.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

/// `$VISUAL`, else `$EDITOR`, else vi.
pub fn chosen() -> OsString {
    let set = |name: &str| std::env::var_os(name).filter(|text| !text.as_bytes().trim_ascii().is_empty());
    set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".into())
}

/// The command for a file. As Git does it: what has anything of a shell in it is a shell's, and the file's name never is.
pub fn command(editor: &OsStr, file: &Path) -> Command {
    const OF_A_SHELL: &[u8] = b"|&;<>()$`\\\"' \t\n*?[#~=%";
    let mut command = if editor.as_bytes().iter().any(|byte| OF_A_SHELL.contains(byte)) {
        let mut script = editor.to_owned();
        script.push(" \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(editor);
        command
    } else {
        Command::new(editor)
    };
    if is_vim(editor) {
        // No swap file, no viminfo, no backup, no undo file: they would hold values, and some of them are elsewhere.
        command.args(["-n", "-i", "NONE", "-c", "set nobackup nowritebackup noundofile"]);
    }
    command.arg(file);
    command
}

/// Whether the first word of the command is one of the vims, under whatever name it is installed.
fn is_vim(editor: &OsStr) -> bool {
    let Some(word) = editor.as_bytes().split(u8::is_ascii_whitespace).find(|word| !word.is_empty()) else {
        return false;
    };
    let word = Path::new(OsStr::from_bytes(word));
    let found = if word.components().count() > 1 {
        std::fs::canonicalize(word).ok()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find_map(|folder| std::fs::canonicalize(folder.join(word)).ok())
    };
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = found.as_deref().map_or_else(|| name(word), name);
    ["vim", "nvim", "gvim"]
        .iter()
        .any(|vim| name == *vim || name.strip_prefix(vim).is_some_and(|rest| rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;

    use super::command;

    fn words(editor: &str, file: &str) -> Vec<String> {
        let command = command(OsStr::new(editor), Path::new(file));
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_shell_sees_the_editor_and_never_the_file() {
        let hostile = "/x/$(touch y); '\"";
        assert_eq!(words("ed", hostile), ["ed", hostile]);
        assert_eq!(words("code --wait", hostile), ["sh", "-c", "code --wait \"$@\"", "code --wait", hostile]);
        assert_eq!(words("'/a b/ed'", "f"), ["sh", "-c", "'/a b/ed' \"$@\"", "'/a b/ed'", "f"]);
    }

    #[test]
    fn vim_is_told_to_leave_nothing() {
        assert!(words("/nowhere/nvim", "f").contains(&"NONE".to_owned()));
        assert!(words("/nowhere/nvim -f", "f").contains(&"NONE".to_owned()));
        assert!(!words("/nowhere/vimdiff-like", "f").contains(&"NONE".to_owned()));
    }
}
