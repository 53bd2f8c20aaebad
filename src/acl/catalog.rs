//! The commands and categories that rules speak of, by the names Redis gave them: `rename-command` changes nothing here.

use std::collections::HashMap;

/// The commands of a server, each with its subcommands right behind it; a command's number is its place.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    entries: Vec<Entry>,
    by_name: HashMap<&'static str, u16>,
    categories: &'static [(u32, &'static str)],
}

/// A command or, as `container|name`, a subcommand.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: &'static str,
    /// A union of the bits of its categories.
    pub categories: u32,
    /// How many of the entries behind it are its subcommands.
    pub subcommands: u16,
}

impl Catalog {
    /// A catalog of commands with the bits of their categories, and of the categories' names.
    pub fn new(
        commands: impl Iterator<Item = (&'static str, u32)>,
        categories: &'static [(u32, &'static str)],
    ) -> Self {
        let mut catalog = Catalog { categories, ..Catalog::default() };
        let mut container = 0;
        for (number, (name, bits)) in (0..).zip(commands) {
            if name.contains('|') {
                catalog.entries[container].subcommands += 1;
            } else {
                container = catalog.entries.len();
            }
            catalog.by_name.insert(name, number);
            catalog.entries.push(Entry { name, categories: bits, subcommands: 0 });
        }
        catalog
    }

    /// All commands and subcommands, by number.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// One of them.
    pub fn entry(&self, number: u16) -> &Entry {
        &self.entries[usize::from(number)]
    }

    /// The number of a command (`get`) or subcommand (`config|get`), in any case.
    pub fn find(&self, name: &[u8]) -> Option<u16> {
        let lower = String::from_utf8(name.to_ascii_lowercase()).ok()?;
        self.by_name.get(lower.as_str()).copied()
    }

    /// A command and its subcommands.
    pub fn family(&self, number: u16) -> std::ops::RangeInclusive<u16> {
        number..=number + self.entry(number).subcommands
    }

    /// The bit of a category, in any case.
    pub fn category(&self, name: &[u8]) -> Option<u32> {
        self.categories.iter().find(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(bit, _)| *bit)
    }

    /// The categories' names.
    pub fn category_names(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.categories.iter().map(|(_, name)| *name)
    }
}

#[cfg(test)]
pub(super) fn sample() -> Catalog {
    const CATEGORIES: &[(u32, &str)] = &[(1, "read"), (2, "write"), (4, "slow"), (8, "admin")];
    let commands = [
        ("get", 1),
        ("set", 2),
        ("config", 4),
        ("config|get", 12),
        ("config|set", 8),
        ("select", 0),
        ("debug", 8),
        ("publish", 0),
    ];
    Catalog::new(commands.into_iter(), CATEGORIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_families() {
        let catalog = sample();
        assert_eq!(catalog.find(b"GET"), Some(0));
        assert_eq!(catalog.find(b"config|Set"), Some(4));
        assert_eq!(catalog.family(2), 2..=4);
        assert_eq!(catalog.family(3), 3..=3);
        for unknown in ["", "|", "get|", "get|x", "config|", "config|get|x", "\u{e9}"] {
            assert_eq!(catalog.find(unknown.as_bytes()), None, "{unknown}");
        }
        assert_eq!(catalog.category(b"READ"), Some(1));
        assert_eq!(catalog.category(b"all"), None);
    }
}
