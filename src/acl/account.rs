//! What connections hold of a user: one place that a change of the user reaches.

use crate::acl::user::User;
use crate::util::sync::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A user as connections hold it. The user in it may be replaced at any time.
#[derive(Debug)]
pub struct Account {
    name: Box<[u8]>,
    user: RwLock<Arc<User>>,
    /// The user has all rights: nothing need be checked.
    is_free: AtomicBool,
    is_deleted: AtomicBool,
}

impl Account {
    /// An account of this user.
    pub fn new(user: User) -> Self {
        Account {
            name: user.name.clone(),
            is_free: AtomicBool::new(user.has_all_rights()),
            user: RwLock::new(Arc::new(user)),
            is_deleted: AtomicBool::new(false),
        }
    }

    /// The account of the server's own work, which may do everything.
    pub fn of_server() -> Self {
        let account = Account::new(User::new(b"", true));
        account.is_free.store(true, Ordering::Release);
        account
    }

    /// The user's name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The user as it is now.
    pub fn user(&self) -> Arc<User> {
        self.user.read().clone()
    }

    /// Whether the user may do everything.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.is_free.load(Ordering::Acquire)
    }

    /// Whether the user is gone. Connections of it are being closed.
    pub fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    /// Puts a changed user into force.
    pub(super) fn replace(&self, user: User) {
        let mut current = self.user.write();
        self.is_free.store(user.has_all_rights(), Ordering::Release);
        *current = Arc::new(user);
    }

    /// Takes all rights away, for good: a command under way on another thread is the last that had them.
    pub(super) fn delete(&self) {
        self.is_deleted.store(true, Ordering::Release);
        self.replace(User::new(&self.name, false));
    }
}
