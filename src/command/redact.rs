//! Secrets in commands, kept out of SLOWLOG and MONITOR.
//!
//! Options are walked as their commands' handlers walk them, so no key, name or value is taken for an option. Where a
//! handler would give up, the walk goes on: a password behind a mistake is a secret all the same. (Redis shows it, and
//! all of an AUTH of three arguments.)

use crate::command::spec::{Command, Secrets};
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
    match command.secrets {
        Secrets::None => {}
        Secrets::From(first) => (first..argv.len()).for_each(&mut hide),
        Secrets::Options(first, options) => hide_options(argv, first, options, &mut hide),
        Secrets::Directives(first) => (first..argv.len())
            .step_by(2)
            .filter(|index| Directive::find(argv[*index]).is_some_and(Directive::is_sensitive))
            .for_each(|index| hide(index + 1)),
    }
    shown
}

/// Hides the secrets behind [`Secrets::Options`]. Words that are no options have no arguments.
fn hide_options(argv: &[&[u8]], first: usize, options: &[(&str, usize, usize)], hide: &mut dyn FnMut(usize)) {
    let mut at = first;
    while let Some(word) = argv.get(at) {
        let option = options.iter().find(|(name, ..)| word.eq_ignore_ascii_case(name.as_bytes()));
        let (_, arguments, secrets) = option.copied().unwrap_or_default();
        (1..=secrets).for_each(|behind| hide(at + behind));
        at = (at + 1).saturating_add(arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::registry;

    #[test]
    fn secrets_are_hidden() {
        let registry = registry();
        for (line, expected) in [
            ("SET auth x", "SET auth x"),
            ("AUTH pass", "AUTH (redacted)"),
            ("AUTH user pass", "AUTH (redacted) (redacted)"),
            ("AUTH user pass x", "AUTH (redacted) (redacted) (redacted)"),
            ("HELLO 3", "HELLO 3"),
            ("HELLO 3 AUTH user pass SETNAME x", "HELLO 3 AUTH (redacted) (redacted) SETNAME x"),
            ("HELLO 3 SETNAME auth AUTH user pass", "HELLO 3 SETNAME auth AUTH (redacted) (redacted)"),
            ("HELLO 3 auth auth pass Auth user auth", "HELLO 3 auth (redacted) (redacted) Auth (redacted) (redacted)"),
            ("HELLO x FOO AUTH user pass", "HELLO x FOO AUTH (redacted) (redacted)"),
            ("HELLO AUTH user pass", "HELLO AUTH (redacted) (redacted)"),
            ("HELLO 3 AUTH pass", "HELLO 3 AUTH (redacted)"),
            ("MIGRATE h 1 auth 0 9 AUTH pass", "MIGRATE h 1 auth 0 9 AUTH (redacted)"),
            (
                "MIGRATE auth auth2 k auth 9 COPY AUTH2 u p REPLACE",
                "MIGRATE auth auth2 k auth 9 COPY AUTH2 (redacted) (redacted) REPLACE",
            ),
            ("MIGRATE h 1 k 0 9 AUTH keys KEYS auth k", "MIGRATE h 1 k 0 9 AUTH (redacted) KEYS auth k"),
            ("MIGRATE h 1 k 0 9 FOO AUTH pass", "MIGRATE h 1 k 0 9 FOO AUTH (redacted)"),
            ("ACL SETUSER bob >pass", "ACL SETUSER (redacted) (redacted)"),
            ("ACL GETUSER bob", "ACL GETUSER bob"),
            ("CONFIG SET masterauth x timeout 3", "CONFIG SET masterauth (redacted) timeout 3"),
            ("CONFIG SET timeout masterauth requirepass x", "CONFIG SET timeout masterauth requirepass (redacted)"),
            ("CONFIG SET requirepass", "CONFIG SET requirepass"),
        ] {
            let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let expected: Vec<&[u8]> = expected.split(' ').map(str::as_bytes).collect();
            let command = registry.resolve(&argv).unwrap().command;
            assert_eq!(*shown(command, &argv), *expected, "{line}");
        }
    }
}
