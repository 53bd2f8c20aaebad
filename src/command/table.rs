//! Lookup of commands by name, and of keys in their arguments.

use crate::acl::Catalog;
use crate::command::error::CmdError;
use crate::command::spec::{Begin, Command, Find, KEY_NOT_KEY, KEY_VARIABLE, KeySpec, acl};
use crate::util::text;
use std::collections::HashMap;

/// A command and its number, which indexes its statistics.
#[derive(Debug, Clone, Copy)]
pub struct CommandRef {
    pub command: &'static Command,
    pub id: u16,
}

/// The commands of one server by name, as `rename-command` left them.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Names in lower case, at [`place`]. It may be known which share a place: clients look names up, and add none.
    by_name: Vec<Vec<(Box<[u8]>, CommandRef)>>,
    /// Every command and subcommand; the index is its id.
    all: Vec<&'static Command>,
    /// The ids of subcommands by `container|name`.
    subcommands: HashMap<&'static str, u16, foldhash::fast::FixedState>,
}

/// Places for names, some four times as many as there are commands.
const PLACES: usize = 1024;

impl Registry {
    /// The commands of these families, under their own names.
    pub fn new(families: &[&'static [Command]]) -> Self {
        let by_name = vec![Vec::new(); PLACES];
        let mut registry = Registry { by_name, all: Vec::new(), subcommands: HashMap::default() };
        for command in families.iter().copied().flatten() {
            let id = registry.add(command);
            registry.by_name[place(command.name.as_bytes())]
                .push((command.name.as_bytes().into(), CommandRef { command, id }));
            for subcommand in command.subcommands {
                let id = registry.add(subcommand);
                registry.subcommands.insert(subcommand.name, id);
            }
        }
        registry
    }

    fn add(&mut self, command: &'static Command) -> u16 {
        self.all.push(command);
        u16::try_from(self.all.len() - 1).expect("there are fewer than 65536 commands")
    }

    /// What ACL rules can speak of; a command's number is its id.
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.all.iter().map(|command| (command.name, command.categories())), acl::NAMES)
    }

    /// Every command and subcommand; the index is its id.
    pub fn all(&self) -> &[&'static Command] {
        &self.all
    }

    /// The commands that can be called by name, without subcommands.
    pub fn commands(&self) -> impl Iterator<Item = CommandRef> {
        self.by_name.iter().flatten().map(|(_, found)| *found)
    }

    /// Some command, for work of the server's own that none of its clients asked for.
    pub fn first(&self) -> CommandRef {
        self.command(0)
    }

    /// The command of this number.
    pub fn command(&self, id: u16) -> CommandRef {
        CommandRef { command: self.all[usize::from(id)], id }
    }

    /// The command of this name in any case; a container, not its subcommand.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<CommandRef> {
        let found = self.by_name[place(name)].iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, found)| *found)
    }

    /// The command or, for a container, the subcommand that `argv` calls.
    #[inline]
    pub fn resolve(&self, argv: &[&[u8]]) -> Result<CommandRef, CmdError> {
        let found = self.find(argv[0]).ok_or_else(|| unknown_command(argv))?;
        if found.command.subcommands.is_empty() || argv.len() < 2 {
            return Ok(found);
        }
        self.subcommand(found.command, argv[1]).ok_or_else(|| unknown_subcommand(found.command, argv[1]))
    }

    /// A container's subcommand of this name in any case.
    pub fn subcommand(&self, container: &Command, name: &[u8]) -> Option<CommandRef> {
        let is_named = |command: &&Command| {
            let own = command.name.split_once('|').map_or(command.name, |(_, own)| own);
            name.eq_ignore_ascii_case(own.as_bytes())
        };
        let command = container.subcommands.iter().find(is_named)?;
        Some(CommandRef { command, id: *self.subcommands.get(command.name)? })
    }

    /// Applies `rename-command`: an empty new name takes the command away. Errors are Redis's own.
    pub fn rename(&mut self, name: &[u8], new_name: &[u8]) -> Result<(), &'static str> {
        let found = self.find(name).ok_or("No such command in rename-command")?;
        self.by_name[place(name)].retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        if new_name.is_empty() {
            return Ok(());
        }
        if self.find(new_name).is_some() {
            return Err("Target command name already exists");
        }
        self.by_name[place(new_name)].push((new_name.to_ascii_lowercase().into(), found));
        Ok(())
    }
}

/// Where a name stands, in any case: its length and four of its letters tell nearly all commands apart.
#[inline]
fn place(name: &[u8]) -> usize {
    let [.., last] = name else { return 0 };
    let letter = |position: usize| u32::from(name[position.min(name.len() - 1)] | 0x20);
    let letters = letter(0) | letter(1) << 8 | letter(name.len() / 2) << 16 | u32::from(last | 0x20) << 24;
    (letters.wrapping_add(name.len() as u32).wrapping_mul(0x9e37_79b1) >> 22) as usize
}

/// The positions in `argv` of the keys that `command`'s specs find, with the flags of their spec. Arguments that do
/// not fit (a count that is no number, too few arguments) end a spec: the handler answers the syntax error.
pub fn key_positions(command: &Command, argv: &[&[u8]], mut each: impl FnMut(usize, u16)) {
    if let Some(find_keys) = command.find_keys {
        return find_keys(argv, &mut each);
    }
    for spec in command.keys {
        if spec.flags & KEY_NOT_KEY == 0 {
            let flags = command
                .variable_flags
                .filter(|_| spec.flags & KEY_VARIABLE != 0)
                .map_or(spec.flags, |flags| flags(argv));
            spec_positions(spec, argv, |position| each(position, flags));
        }
    }
}

/// The positions that one spec finds; false when the arguments do not fit it.
pub fn spec_positions(spec: &KeySpec, argv: &[&[u8]], mut each: impl FnMut(usize)) -> bool {
    let argc = argv.len() as i64;
    let Some(begin) = begin(spec.begin, argv) else { return true };
    let (first, last, step) = match spec.find {
        Find::Range { last, step, limit } => {
            let last = match (last, limit) {
                (0.., _) => begin + i64::from(last),
                (_, 0 | 1) => argc + i64::from(last),
                (_, limit) => begin + (argc - begin) / i64::from(limit) + i64::from(last),
            };
            (begin, last, i64::from(step))
        }
        Find::KeyNum { count, first, step } => {
            let count = argv.get((begin + i64::from(count)) as usize).and_then(|arg| super::call::parse_count(arg));
            let Some(count) = count else { return false };
            if count == 0 {
                return false;
            }
            let first = begin + i64::from(first);
            (first, first.saturating_add(count.saturating_sub(1).saturating_mul(i64::from(step))), i64::from(step))
        }
        Find::Unknown => return true,
    };
    if first < 1 || first >= argc || last >= argc {
        return false;
    }
    (first..=last).step_by(step as usize).for_each(|position| each(position as usize));
    true
}

fn begin(begin: Begin, argv: &[&[u8]]) -> Option<i64> {
    match begin {
        Begin::Index(index) => Some(i64::from(index)),
        Begin::Keyword(word, from) => {
            let is_word = |position: &usize| argv[*position].eq_ignore_ascii_case(word.as_bytes());
            let found = if from >= 0 {
                // Nothing can follow the last argument.
                (from as usize..argv.len().saturating_sub(1)).find(is_word)
            } else {
                (1..argv.len().saturating_sub(from.unsigned_abs() as usize - 1)).rev().find(is_word)
            };
            found.map(|position| position as i64 + 1)
        }
        Begin::Unknown => None,
    }
}

fn unknown_command(argv: &[&[u8]]) -> CmdError {
    let mut args = Vec::new();
    for arg in &argv[1..] {
        if args.len() >= SHOWN_BYTES {
            break;
        }
        args.extend(text::fill("'{}' ", &[text::first(SHOWN_BYTES - args.len(), arg)]));
    }
    let name = text::first(SHOWN_BYTES, argv[0]);
    CmdError::quoting("ERR unknown command '{}', with args beginning with: {}", &[name, &args])
}

fn unknown_subcommand(container: &Command, name: &[u8]) -> CmdError {
    let container = container.name.to_ascii_uppercase();
    let parts = [text::first(SHOWN_BYTES, name), container.as_bytes()];
    CmdError::quoting("ERR unknown subcommand '{}'. Try {} HELP.", &parts)
}

/// Of a name, and of all arguments together.
const SHOWN_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use crate::commands;

    #[test]
    fn few_names_share_a_place() {
        let registry = commands::registry();
        let most = registry.by_name.iter().map(Vec::len).max();
        assert!(most <= Some(4), "{most:?} names at one place");
        for found in registry.commands() {
            let upper = found.command.name.to_ascii_uppercase();
            assert_eq!(registry.find(upper.as_bytes()).map(|other| other.id), Some(found.id), "{upper}");
        }
        assert!(registry.find(b"").is_none());
    }
}
