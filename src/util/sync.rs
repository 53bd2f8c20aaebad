//! The locks of this crate. Taken from here only, so that a checker can swap them in one place.
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
