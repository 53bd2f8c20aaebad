//! Secrets in commands, kept out of SLOWLOG and MONITOR.

use crate::command::spec::Command;
use crate::config::Directive;
use std::borrow::Cow;

/// What stands in the place of a secret.
const REDACTED: &[u8] = b"(redacted)";

/// The arguments as they may be shown.
pub fn shown<'a, 'b>(command: &Command, argv: &'b [&'a [u8]]) -> Cow<'b, [&'a [u8]]> {
    let mut shown = Cow::Borrowed(argv);
    let mut hide = |index: usize| {
        if index < argv.len() {
            shown.to_mut()[index] = REDACTED;
        }
    };
    let after = |word: &str| argv.iter().position(|argument| argument.eq_ignore_ascii_case(word.as_bytes()));
    match command.name {
        "auth" => (1..argv.len()).for_each(&mut hide),
        "hello" => after("auth").into_iter().flat_map(|at| [at + 1, at + 2]).for_each(&mut hide),
        "migrate" => {
            after("auth").into_iter().for_each(|at| hide(at + 1));
            after("auth2").into_iter().flat_map(|at| [at + 1, at + 2]).for_each(&mut hide);
        }
        "acl|setuser" => (2..argv.len()).for_each(&mut hide),
        "config|set" => (2..argv.len())
            .step_by(2)
            .filter(|index| Directive::find(argv[*index]).is_some_and(Directive::is_sensitive))
            .for_each(|index| hide(index + 1)),
        _ => {}
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table::Registry;

    #[test]
    fn secrets_are_hidden() {
        let registry = Registry::default();
        for (line, expected) in [
            ("SET auth x", "SET auth x"),
            ("AUTH user pass", "AUTH (redacted) (redacted)"),
            ("HELLO 3 AUTH user pass SETNAME x", "HELLO 3 AUTH (redacted) (redacted) SETNAME x"),
            ("ACL SETUSER bob >pass", "ACL SETUSER (redacted) (redacted)"),
            ("ACL GETUSER bob", "ACL GETUSER bob"),
            ("CONFIG SET masterauth x timeout 3", "CONFIG SET masterauth (redacted) timeout 3"),
            ("CONFIG SET requirepass", "CONFIG SET requirepass"),
        ] {
            let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let expected: Vec<&[u8]> = expected.split(' ').map(str::as_bytes).collect();
            let command = registry.resolve(&argv).unwrap().command;
            assert_eq!(*shown(command, &argv), *expected, "{line}");
        }
    }
}
