//! One set of rights: which commands, on which keys, with which channels.
//!
//! Commands are one bit each, by their number in the catalog. The rules that led there are kept in order, so that the
//! selector can be shown, and saved, as it was written. Source: Redis 7.2 ACL rules.

use crate::acl::catalog::Catalog;
use crate::acl::listed::Listed;
use crate::util::{glob, quote};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// What a command does with a key, as far as rights go: bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs(u8);

impl Needs {
    /// The key must match, whatever the pattern allows.
    pub const NOTHING: Needs = Needs(0);
    pub const READ: Needs = Needs(1);
    pub const WRITE: Needs = Needs(2);
    pub const BOTH: Needs = Needs(3);

    /// Both together.
    pub const fn and(self, other: Needs) -> Needs {
        Needs(self.0 | other.0)
    }

    const fn covers(self, wanted: Needs) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

/// Shows the positions in argv of a command's keys, and what it does with each.
pub type FindKeys<'a> = &'a dyn Fn(&mut dyn FnMut(usize, Needs));

/// A command that somebody wants to run.
pub struct Asked<'a> {
    /// Its number in the catalog.
    pub command: u16,
    /// Anybody may run it (AUTH, HELLO, QUIT, RESET).
    pub is_open: bool,
    pub argv: &'a [&'a [u8]],
    pub keys: FindKeys<'a>,
    /// The positions in argv of the channels it publishes to or subscribes to.
    pub channels: Range<usize>,
    /// The channels are patterns (PSUBSCRIBE).
    pub channels_are_patterns: bool,
}

/// Why a command is refused. A later reason is told rather than an earlier one when selectors differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Command,
    Key,
    Channel,
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denial {
    pub reason: Reason,
    /// Where in argv the key or channel stands; 0 for a command.
    pub position: usize,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleError {
    Unknown,
    Syntax,
    KeysAfterAll,
    ChannelsAfterAll,
    NoSuchPassword,
    BadHash,
    FirstArgOfSubcommand,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::Syntax => "Syntax error",
            RuleError::KeysAfterAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
                 Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::ChannelsAfterAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
        })
    }
}

/// One set of rights.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    all_keys: bool,
    all_channels: bool,
    /// `+@all` and nothing taken away since: the bits need not be looked at.
    all_commands: bool,
    /// Commands that the catalog does not have are allowed too: shown as `+@all` in front.
    begins_with_all: bool,
    allowed: Vec<u64>,
    /// First arguments, in lower case, with which a command is allowed that otherwise is not.
    first_args: BTreeMap<u16, BTreeSet<Vec<u8>>>,
    /// Key patterns and what each allows.
    keys: Listed<Vec<u8>, Needs>,
    channels: Listed<Vec<u8>, ()>,
    /// The rules for commands since `+@all` or `-@all`: the name in lower case, and whether it is allowed.
    rules: Listed<Vec<u8>, bool>,
}

impl Selector {
    /// No rights; with all channels if `acl-pubsub-default` says so.
    pub fn new(all_channels: bool) -> Self {
        Selector { all_channels, ..Selector::default() }
    }

    /// A selector from `(rule rule ...)`.
    pub fn parse(text: &[u8], catalog: &Catalog, all_channels: bool) -> Result<Self, RuleError> {
        let inner = text.strip_prefix(b"(").and_then(|text| text.strip_suffix(b")")).ok_or(RuleError::Syntax)?;
        let mut selector = Selector::new(all_channels);
        // Quotes that do not match leave no rules, as in Redis: no rights.
        for rule in quote::split(inner).unwrap_or_default() {
            selector.apply(&rule, catalog)?;
        }
        Ok(selector)
    }

    /// Whether it allows everything.
    pub fn has_all_rights(&self) -> bool {
        self.all_keys && self.all_channels && self.all_commands
    }

    /// Whether it allows all channels.
    pub fn has_all_channels(&self) -> bool {
        self.all_channels
    }

    /// The channel patterns it allows.
    pub fn channels(&self) -> impl Iterator<Item = &[u8]> {
        self.channels.iter().map(|(pattern, ())| pattern.as_slice())
    }

    /// Applies one rule. On an error nothing has changed.
    pub fn apply(&mut self, rule: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"allkeys" | b"~*" => self.set_keys(true),
            b"resetkeys" => self.set_keys(false),
            b"allchannels" | b"&*" => self.set_channels(true),
            b"resetchannels" => self.set_channels(false),
            b"allcommands" | b"+@all" => self.set_commands(true, catalog),
            b"nocommands" | b"-@all" => self.set_commands(false, catalog),
            _ => return self.apply_named(rule, catalog),
        }
        Ok(())
    }

    fn apply_named(&mut self, rule: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        match rule {
            [b'~', pattern @ ..] => self.add_keys(pattern, Needs::BOTH),
            [b'%', rest @ ..] => {
                let (allows, pattern) = parse_permissions(rest)?;
                self.add_keys(pattern, allows)
            }
            [b'&', pattern @ ..] => self.add_channels(pattern),
            [sign @ (b'+' | b'-'), b'@', category @ ..] => self.set_category(category, *sign == b'+', catalog),
            [b'+', name @ ..] if name.contains(&b'|') => self.add_part(name, catalog),
            [sign @ (b'+' | b'-'), name @ ..] => {
                let number = catalog.find(name).ok_or(RuleError::Unknown)?;
                self.set_family(number, *sign == b'+', catalog);
                self.note_rule(*sign == b'+', catalog.entry(number).name.as_bytes());
                Ok(())
            }
            _ => Err(RuleError::Syntax),
        }
    }

    fn set_keys(&mut self, all: bool) {
        self.all_keys = all;
        self.keys.clear();
    }

    fn set_channels(&mut self, all: bool) {
        self.all_channels = all;
        self.channels.clear();
    }

    fn set_commands(&mut self, all: bool, catalog: &Catalog) {
        (self.all_commands, self.begins_with_all) = (all, all);
        let words = catalog.entries().len().div_ceil(64);
        self.allowed = vec![if all { u64::MAX } else { 0 }; words];
        self.first_args.clear();
        self.rules.clear();
    }

    fn add_keys(&mut self, pattern: &[u8], allows: Needs) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::KeysAfterAll);
        }
        if has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        let known = self.keys.add(pattern.to_vec(), allows);
        *known = known.and(allows);
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::ChannelsAfterAll);
        }
        if has_blanks(pattern) {
            return Err(RuleError::Syntax);
        }
        self.channels.add(pattern.to_vec(), ());
        Ok(())
    }

    /// `+container|subcommand`, or `+command|first-argument` for a command without subcommands.
    fn add_part(&mut self, name: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        let bar = name.iter().rposition(|byte| *byte == b'|').ok_or(RuleError::Syntax)?;
        let (command, part) = (&name[..bar], &name[bar + 1..]);
        let number = catalog.find(command).ok_or(RuleError::Unknown)?;
        let entry = catalog.entry(number);
        if entry.name.contains('|') {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        // A blank would not survive being shown and read again.
        if part.is_empty() || has_blanks(part) {
            return Err(RuleError::Syntax);
        }
        if entry.subcommands > 0 {
            let subcommand = catalog.find(name).ok_or(RuleError::Unknown)?;
            self.set_family(subcommand, true, catalog);
        } else {
            self.first_args.entry(number).or_default().insert(part.to_ascii_lowercase());
        }
        self.note_rule(true, &name.to_ascii_lowercase());
        Ok(())
    }

    fn set_category(&mut self, name: &[u8], allow: bool, catalog: &Catalog) -> Result<(), RuleError> {
        let bit = catalog.category(name).ok_or(RuleError::Unknown)?;
        self.note_rule(allow, &[b"@", name.to_ascii_lowercase().as_slice()].concat());
        for (number, entry) in (0..).zip(catalog.entries()) {
            if entry.categories & bit != 0 {
                self.set_family(number, allow, catalog);
            }
        }
        Ok(())
    }

    /// Allows or forbids a command with all its subcommands.
    fn set_family(&mut self, number: u16, allow: bool, catalog: &Catalog) {
        self.allowed.resize(catalog.entries().len().div_ceil(64), 0);
        for number in catalog.family(number) {
            let (word, bit) = place(number);
            if allow {
                self.allowed[word] |= bit;
            } else {
                self.allowed[word] &= !bit;
                self.all_commands = false;
            }
        }
        self.first_args.remove(&number);
    }

    /// Keeps a rule, instead of earlier ones that it makes void: those of the same name, and of its parts.
    fn note_rule(&mut self, allow: bool, name: &[u8]) {
        self.rules.remove(name);
        self.rules.remove_all(&[name, b"|"].concat());
        self.rules.add(name.to_vec(), allow);
    }

    /// Whether the command may run under this selector.
    pub fn check(&self, asked: &Asked<'_>) -> Result<(), Denial> {
        if !self.all_commands && !asked.is_open && !self.allows_command(asked) {
            return Err(Denial { reason: Reason::Command, position: 0 });
        }
        if !self.all_keys {
            let mut refused = None;
            (asked.keys)(&mut |position, needs| {
                if refused.is_none() && !self.allows_key(asked.argv[position], needs) {
                    refused = Some(position);
                }
            });
            if let Some(position) = refused {
                return Err(Denial { reason: Reason::Key, position });
            }
        }
        let mut channels = asked.channels.clone();
        if !self.all_channels
            && let Some(position) =
                channels.find(|position| !self.allows_channel(asked.argv[*position], asked.channels_are_patterns))
        {
            return Err(Denial { reason: Reason::Channel, position });
        }
        Ok(())
    }

    fn allows_command(&self, asked: &Asked<'_>) -> bool {
        let (word, bit) = place(asked.command);
        if self.allowed.get(word).is_some_and(|word| word & bit != 0) {
            return true;
        }
        let first = asked.argv.get(1);
        let allowed = self.first_args.get(&asked.command);
        first.zip(allowed).is_some_and(|(first, allowed)| allowed.contains(&first.to_ascii_lowercase()))
    }

    fn allows_key(&self, key: &[u8], needs: Needs) -> bool {
        self.keys.iter().any(|(pattern, allows)| allows.covers(needs) && glob::matches(pattern, key))
    }

    /// Whether a channel may be used; a pattern must be there letter by letter.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        let matches = || self.channels().any(|known| glob::matches(known, channel));
        self.all_channels || if is_pattern { self.channels.contains(channel) } else { matches() }
    }

    /// Whether this key may be read.
    pub fn reads_key(&self, key: &[u8]) -> bool {
        self.all_keys || self.allows_key(key, Needs::READ)
    }

    /// Whether every key there is may be read.
    pub fn reads_all_keys(&self) -> bool {
        self.all_keys || self.keys.iter().any(|(pattern, allows)| allows.covers(Needs::READ) && pattern == b"*")
    }

    /// The rules for commands: `+@all -get`.
    pub fn commands_text(&self) -> Vec<u8> {
        let mut text = if self.begins_with_all { b"+@all".to_vec() } else { b"-@all".to_vec() };
        for (name, allow) in self.rules.in_order() {
            text.extend_from_slice(if *allow { b" +" } else { b" -" });
            text.extend_from_slice(name);
        }
        text
    }

    /// The key patterns: `~a %R~b`.
    pub fn keys_text(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let shown = |(pattern, allows): (&Vec<u8>, &Needs)| {
            let sign: &[u8] = match *allows {
                Needs::READ => b"%R~",
                Needs::WRITE => b"%W~",
                _ => b"~",
            };
            [sign, pattern].concat()
        };
        self.keys.in_order().into_iter().map(shown).collect::<Vec<_>>().join(&b' ')
    }

    /// The channel patterns: `&a &b`.
    pub fn channels_text(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let shown = |(known, ()): (&Vec<u8>, &())| [b"&", known.as_slice()].concat();
        self.channels.in_order().into_iter().map(shown).collect::<Vec<_>>().join(&b' ')
    }

    /// All its rules, as ACL LIST shows them.
    pub fn text(&self) -> Vec<u8> {
        let mut parts = Vec::new();
        let reset = if self.all_channels { Vec::new() } else { b"resetchannels".to_vec() };
        parts.extend([self.keys_text(), reset, self.channels_text(), self.commands_text()]);
        parts.retain(|part| !part.is_empty());
        parts.join(&b' ')
    }

    /// All its rules, as they can be set again: that is what they are shown as, but for the key pattern `*` that
    /// `%RW~*` sets. Shown as `~*` it would be every key, and no pattern could follow.
    pub fn rules(&self) -> Vec<Vec<u8>> {
        let every_key = |rule: &[u8]| rule == b"~*" && !self.all_keys;
        let rule = |rule: &[u8]| if every_key(rule) { b"%RW~*".to_vec() } else { rule.to_vec() };
        // No rule holds a blank.
        self.text().split(|byte| *byte == b' ').map(rule).collect()
    }

    /// The same in parentheses. A word that is read otherwise than it is written there is quoted: for its quotes, or
    /// because it ends as the selector does.
    pub fn parenthesized_rules(&self) -> Vec<u8> {
        let word = |rule: Vec<u8>| if rule.ends_with(b")") { quote::quoted(&rule) } else { quote::word(&rule) };
        let words: Vec<Vec<u8>> = self.rules().into_iter().map(word).collect();
        [b"(", words.join(&b' ').as_slice(), b")"].concat()
    }
}

/// `RW~pattern`, behind the `%`. Redis 7.2.6 takes a lone `%`, and panics when that is shown (CVE-2024-51741).
fn parse_permissions(rule: &[u8]) -> Result<(Needs, &[u8]), RuleError> {
    let mut allows = Needs::NOTHING;
    let mut rest = rule;
    while let [letter, tail @ ..] = rest {
        rest = tail;
        let more = match letter.to_ascii_uppercase() {
            b'R' => Needs::READ,
            b'W' => Needs::WRITE,
            b'~' => break,
            _ => return Err(RuleError::Syntax),
        };
        if allows.covers(more) {
            return Err(RuleError::Syntax);
        }
        allows = allows.and(more);
    }
    if allows == Needs::NOTHING { Err(RuleError::Syntax) } else { Ok((allows, rest)) }
}

/// Where a command's bit is.
fn place(number: u16) -> (usize, u64) {
    (usize::from(number) / 64, 1 << (number % 64))
}

/// Whether there is a blank or a zero byte: names and patterns with one could not be shown unambiguously.
pub fn has_blanks(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, 0 | b' ' | b'\t'..=b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::catalog::sample;

    fn selector(rules: &str) -> Selector {
        let catalog = sample();
        let mut selector = Selector::new(false);
        for rule in rules.split(' ').filter(|rule| !rule.is_empty()) {
            selector.apply(rule.as_bytes(), &catalog).unwrap_or_else(|error| panic!("{rule}: {error}"));
        }
        selector
    }

    /// What comes of a command: `get k` reads, `set k` writes, `publish c` publishes; `config get` is a subcommand.
    fn check(selector: &Selector, command: &str) -> Result<(), Reason> {
        let argv: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let catalog = sample();
        let name = if argv[0] == b"config" { [argv[0], b"|", argv[1]].concat() } else { argv[0].to_vec() };
        let needs = match argv[0] {
            b"get" => Some(Needs::READ),
            b"set" => Some(Needs::WRITE),
            _ => None,
        };
        let keys = |each: &mut dyn FnMut(usize, Needs)| needs.into_iter().for_each(|needs| each(1, needs));
        let asked = Asked {
            command: catalog.find(&name).unwrap(),
            is_open: false,
            argv: &argv,
            keys: &keys,
            channels: if argv[0] == b"publish" { 1..2 } else { 0..0 },
            channels_are_patterns: false,
        };
        selector.check(&asked).map_err(|denial| denial.reason)
    }

    #[test]
    fn commands_keys_and_channels() {
        let all = selector("+@all ~* &*");
        assert!(all.has_all_rights());
        assert_eq!(check(&all, "config set"), Ok(()));
        let some = selector("+@read +config +select|0 %R~r* %W~w* ~rw* &news:*");
        for (command, expected) in [
            ("get r1", Ok(())),
            ("get rw1", Ok(())),
            ("get w1", Err(Reason::Key)),
            ("set r1", Err(Reason::Command)),
            ("config get", Ok(())),
            ("config set", Ok(())),
            ("select 0", Ok(())),
            ("select 1", Err(Reason::Command)),
            ("select", Err(Reason::Command)),
            ("publish news:1", Err(Reason::Command)),
        ] {
            assert_eq!(check(&some, command), expected, "{command}");
        }
        let writer = selector("+set +publish %W~w* &news:*");
        assert_eq!(check(&writer, "set w"), Ok(()));
        assert_eq!(check(&writer, "set r"), Err(Reason::Key));
        assert_eq!(check(&writer, "publish news:1"), Ok(()));
        assert_eq!(check(&writer, "publish old"), Err(Reason::Channel));
        assert!(writer.allows_channel(b"news:*", true) && !writer.allows_channel(b"news:1", true));
    }

    #[test]
    fn the_rules_are_kept_in_order() {
        for (rules, expected) in [
            ("", "-@all"),
            ("+@all -@write -@read +get", "+@all -@write -@read +get"),
            ("+@all -@read +get -@READ", "+@all +get -@read"),
            ("+GET +get -get", "-@all -get"),
            ("+config|get +CONFIG|set +config", "-@all +config"),
            ("+config|get +config -config|set +config|get", "-@all +config -config|set +config|get"),
            ("+select|0 +select|0 +select|1", "-@all +select|0 +select|1"),
            ("+debug|segfault +debug", "-@all +debug"),
            ("+get -@all -@admin", "-@all -@admin"),
            ("-@read +@all", "+@all"),
        ] {
            let selector = selector(rules);
            assert_eq!(String::from_utf8(selector.commands_text()).unwrap(), expected, "{rules}");
        }
        assert_eq!(check(&selector("+config -config|set"), "config get"), Ok(()));
        assert_eq!(check(&selector("+config -config|set"), "config set"), Err(Reason::Command));
        // A container's category is its subcommands' too.
        assert_eq!(check(&selector("+@slow"), "config set"), Ok(()));
        assert_eq!(check(&selector("+@all -config +config|get"), "config get"), Ok(()));
    }

    #[test]
    fn a_selector_shown_can_be_read_again() {
        for (rules, expected) in [
            ("%R~a %W~a ~b %rW~c %W~d", "~a ~b ~c %W~d resetchannels -@all"),
            ("~* &* +@all", "~* &* +@all"),
            ("&a &b &a +get", "resetchannels &a &b -@all +get"),
            ("%R~", "%R~ resetchannels -@all"),
        ] {
            let text = String::from_utf8(selector(rules).text()).unwrap();
            assert_eq!(text, expected);
            assert_eq!(selector(&text).text(), text.as_bytes());
        }
    }

    #[test]
    fn wrong_rules_are_named_and_change_nothing() {
        for (before, rule, expected) in [
            ("", "", RuleError::Syntax),
            ("", "on", RuleError::Syntax),
            ("", "%", RuleError::Syntax),
            ("", "%~a", RuleError::Syntax),
            ("", "%RR~a", RuleError::Syntax),
            ("", "%X~a", RuleError::Syntax),
            ("", "~a b", RuleError::Syntax),
            ("", "&a\0b", RuleError::Syntax),
            ("~*", "~a", RuleError::KeysAfterAll),
            ("&*", "&a", RuleError::ChannelsAfterAll),
            ("", "+", RuleError::Unknown),
            ("", "+|", RuleError::Unknown),
            ("", "+nosuch", RuleError::Unknown),
            ("", "-config|nosuch", RuleError::Unknown),
            ("", "+config|nosuch", RuleError::Unknown),
            ("", "+get|a|b", RuleError::Unknown),
            ("", "+config|get|x", RuleError::FirstArgOfSubcommand),
            ("", "+config|", RuleError::Syntax),
            ("", "+select|", RuleError::Syntax),
            ("", "+select|a b", RuleError::Syntax),
            ("", "+@nosuch", RuleError::Unknown),
            ("", "-@", RuleError::Unknown),
        ] {
            let mut selector = selector(before);
            let text = selector.text();
            assert_eq!(selector.apply(rule.as_bytes(), &sample()), Err(expected), "{rule}");
            assert_eq!(selector.text(), text, "{rule}");
        }
    }

    #[test]
    fn selectors_are_read_from_parentheses() {
        let parse = |text: &str| Selector::parse(text.as_bytes(), &sample(), false);
        assert_eq!(parse("( ~a   +get )").unwrap().text(), b"~a resetchannels -@all +get");
        assert_eq!(parse("()").unwrap().text(), b"resetchannels -@all");
        assert_eq!(parse("(~a \"b)").unwrap().text(), b"resetchannels -@all");
        for wrong in ["(", ")", "(~a", "(on)", "(())", "(%)"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(Selector::parse(b"()", &sample(), true).unwrap().has_all_channels());
    }
}
