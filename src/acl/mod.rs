//! Access control: the users of a server, what each may do, and who was refused.
//!
//! | file | what |
//! |---|---|
//! | `catalog.rs` | the commands and categories that rules speak of |
//! | `listed.rs` | words of rules, by word and in order |
//! | `selector.rs` | one set of rights: commands, key patterns, channels |
//! | `user.rs` | a user: passwords and selectors |
//! | `account.rs` | what connections hold of a user; changed while they do |
//! | `file.rs` | `user` lines of an ACL file |
//! | `log.rs` | ACL LOG, and the counts of refusals |
//!
//! Every register here is a tree: adding and finding is O(log n), and what is taken away gives its memory back. Nothing but
//! memory bounds how many users, selectors and patterns ACL SETUSER makes; `acllog-max-len` bounds the log.
//!
//! A user is a value: a change makes a new one, which replaces the old one in its [`Account`]. The map of accounts has
//! a lock of its own, under which nothing else is locked but an account.

pub mod account;
pub mod catalog;
pub mod file;
mod listed;
pub mod log;
pub mod selector;
pub mod user;

pub use account::Account;
pub use catalog::Catalog;
pub use selector::{Asked, Denial, Needs, Reason, Selector};
pub use user::User;

use crate::acl::log::AclLog;
use crate::acl::user::merge_selectors;
use crate::util::sync::{Mutex, RwLock};
use crate::util::text;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the user that every connection begins as.
pub const DEFAULT_USER: &[u8] = b"default";

/// The users of one server.
#[derive(Debug)]
pub struct Acl {
    catalog: Catalog,
    default: Arc<Account>,
    /// By name, the default user included.
    accounts: RwLock<BTreeMap<Box<[u8]>, Arc<Account>>>,
    /// Held while users are changed, so that changes do not cross.
    changing: Mutex<()>,
    pub log: AclLog,
}

/// A user before and after ACL SETUSER.
#[derive(Debug)]
pub struct Change {
    pub account: Arc<Account>,
    /// None for a new user.
    pub before: Option<Arc<User>>,
    pub after: Arc<User>,
}

impl Acl {
    /// The default user alone, with this password or, without one, open to everybody.
    pub fn new(catalog: Catalog, password: Option<&[u8]>) -> Self {
        let mut user = User::all_powerful(DEFAULT_USER, &catalog);
        if let Some(password) = password {
            user.set_only_password(Some(password));
        }
        let default = Arc::new(Account::new(user));
        let accounts = BTreeMap::from([(Box::from(DEFAULT_USER), default.clone())]);
        Acl { catalog, default, accounts: RwLock::new(accounts), changing: Mutex::default(), log: AclLog::default() }
    }

    /// The commands that rules speak of.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The account that connections begin with. It is never replaced or deleted.
    pub fn default_account(&self) -> &Arc<Account> {
        &self.default
    }

    /// Whether a connection that has not shown a password may do nothing yet.
    pub fn requires_auth(&self) -> bool {
        let user = self.default.user();
        !user.nopass || !user.enabled
    }

    /// The account of this name.
    pub fn find(&self, name: &[u8]) -> Option<Arc<Account>> {
        self.accounts.read().get(name).cloned()
    }

    /// All accounts by name.
    pub fn all(&self) -> Vec<Arc<Account>> {
        self.accounts.read().values().cloned().collect()
    }

    /// The account of `name` if it is enabled and `password` is one of its own.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<Arc<Account>> {
        // Hashed whatever comes of it: the time taken does not tell which names there are.
        let digest: [u8; 32] = Sha256::digest(password).into();
        let account = self.find(name)?;
        let user = account.user();
        (user.enabled && (user.nopass || user.has_password(&digest))).then_some(account)
    }

    /// ACL SETUSER: applies `rules` to a user, which is made if there is none; all of them or, on an error, none.
    /// `all_channels` is what `acl-pubsub-default` gives a new selector. The error is Redis's text without its code.
    pub fn set_user(&self, name: &[u8], rules: &[&[u8]], all_channels: bool) -> Result<Change, Vec<u8>> {
        let _one_at_a_time = self.changing.lock();
        let rules = merge_selectors(rules)
            .map_err(|start| text::fill("Unmatched parenthesis in acl selector starting at '{}'.", &[rules[start]]))?;
        let found = self.find(name);
        let before = found.as_ref().map(|account| account.user());
        let mut user = before.as_deref().map_or_else(|| User::new(name, all_channels), User::clone);
        for rule in &rules {
            user.apply(rule, &self.catalog, all_channels).map_err(|error| {
                text::fill("Error in ACL SETUSER modifier '{}': {}", &[rule, error.to_string().as_bytes()])
            })?;
        }
        let account = match found {
            Some(account) => {
                account.replace(user);
                account
            }
            None => {
                let account = Arc::new(Account::new(user));
                self.accounts.write().insert(name.into(), account.clone());
                account
            }
        };
        let after = account.user();
        Ok(Change { account, before, after })
    }

    /// `requirepass`: the default user's only password; None lets everybody in.
    pub fn set_default_password(&self, password: Option<&[u8]>) {
        let _one_at_a_time = self.changing.lock();
        let mut user = User::clone(&self.default.user());
        user.set_only_password(password);
        self.default.replace(user);
    }

    /// ACL DELUSER: takes a user away; none if there is no such user, or it is the default user.
    pub fn delete_user(&self, name: &[u8]) -> Option<Arc<Account>> {
        let _one_at_a_time = self.changing.lock();
        if name == DEFAULT_USER {
            return None;
        }
        let account = self.accounts.write().remove(name)?;
        account.delete();
        Some(account)
    }

    /// ACL LOAD: these users instead of those there are. A default user that is not among them is as at the first
    /// start. The accounts that are gone: all but the default one, even if a user of the same name is there again.
    pub fn replace_all(&self, users: Vec<User>) -> Vec<Arc<Account>> {
        let _one_at_a_time = self.changing.lock();
        let mut default = None;
        let mut accounts = BTreeMap::from([(Box::from(DEFAULT_USER), self.default.clone())]);
        for user in users {
            if *user.name == *DEFAULT_USER {
                default = Some(user);
            } else {
                accounts.insert(user.name.clone(), Arc::new(Account::new(user)));
            }
        }
        self.default.replace(default.unwrap_or_else(|| User::all_powerful(DEFAULT_USER, &self.catalog)));
        let mut old = std::mem::replace(&mut *self.accounts.write(), accounts);
        old.remove(DEFAULT_USER);
        old.values().for_each(|account| account.delete());
        old.into_values().collect()
    }

    /// The users of `user` lines in the configuration, name and rules each. Errors are what the log is told.
    pub fn load_configured(&self, lines: &[&[Vec<u8>]], all_channels: bool) -> Result<(), Vec<u8>> {
        for line in lines {
            let (name, rules) = line.split_first().ok_or(b"A user without a name")?;
            if selector::has_blanks(name) {
                return Err(b"Spaces not allowed in ACL usernames".to_vec());
            }
            let rules: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
            let mut user = User::new(name, all_channels);
            let rules =
                merge_selectors(&rules).map_err(|_| text::fill("Unmatched parenthesis in the user '{}'", &[name]))?;
            for rule in rules {
                user.apply(&rule, &self.catalog, all_channels).map_err(|error| {
                    let reason = error.to_string();
                    let parts: [&[u8]; 3] = [&rule, name, reason.as_bytes()];
                    text::fill("Error loading ACL rule '{}' for the user named '{}': {}", &parts)
                })?;
            }
            if name == DEFAULT_USER {
                self.default.replace(user);
            } else {
                self.accounts.write().insert(name.as_slice().into(), Arc::new(Account::new(user)));
            }
        }
        Ok(())
    }

    /// The users as `user` lines, by name, as ACL LIST shows them.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        self.all().iter().map(|account| account.user().line()).collect()
    }

    /// The same for the ACL file.
    pub fn file_lines(&self) -> Vec<Vec<u8>> {
        self.all().iter().map(|account| account.user().file_line()).collect()
    }

    /// The same for the configuration.
    pub fn config_lines(&self) -> Vec<Vec<u8>> {
        self.all().iter().map(|account| account.user().config_line()).collect()
    }
}
