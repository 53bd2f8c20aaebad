//! What a handler sees of the keyspace: one database of the locked shards.
//!
//! Reads count hits and misses and touch the LRU field; both reads and writes delete a key whose time is over first,
//! recording that. Nothing here announces a change: the handler does, with `ctx.changed`.

use crate::config::KeyspaceEvents;
use crate::feed::records::Target;
use crate::keyspace::Key;
use crate::keyspace::effects::{Effects, KeyEvent};
use crate::keyspace::lock::Locked;
use crate::keyspace::shard::ShardDb;
use crate::keyspace::value::{Entry, StringRef, Typed, Value};
use redstart_types::entry::{Content, INLINE_MAX, NewContent};
use redstart_types::number;
use redstart_types::table::Place;
use std::ops::Range;

/// A key holds another type than the command works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongType;

/// One database, as far as it is locked.
#[derive(Debug)]
pub struct Db<'a, 'g> {
    pub locked: &'a mut Locked<'g>,
    /// Which database.
    pub index: usize,
    pub effects: &'a mut Effects,
    /// Unix time, one reading a command.
    pub now_ms: i64,
    pub access: Access,
}

/// How this server treats the keys it looks at.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Delete keys whose time is over (a master); a replica only hides them.
    pub deletes_expired: bool,
    /// What to put into the LRU field on access; None leaves it (CLIENT NO-TOUCH).
    pub touch: Option<Touch>,
}

/// The two uses of an entry's 24 bits.
#[derive(Debug, Clone, Copy)]
pub enum Touch {
    /// Seconds of the LRU clock.
    Lru(u32),
    /// LFU: minutes now, log factor, decay time in minutes, and a random number for the counter.
    Lfu { minutes: u16, log_factor: u32, decay_minutes: u32, random: u32 },
}

/// What a new value keeps of the old one's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// As it was.
    Keep,
    /// None.
    Clear,
    /// Unix time in ms.
    At(i64),
}

impl<'g> Db<'_, 'g> {
    /// The same database under a shorter borrow, for a command run inside another.
    pub fn reborrow(&mut self) -> Db<'_, 'g> {
        Db { locked: self.locked, index: self.index, effects: self.effects, now_ms: self.now_ms, access: self.access }
    }

    /// The entry of a key, for reading. Counts a hit or a miss.
    #[inline]
    pub fn read(&mut self, key: Key<'_>) -> Option<&Entry> {
        let Some(place) = self.live(key) else {
            self.effects.misses += 1;
            self.notify(KeyspaceEvents::KEY_MISS, "keymiss", key);
            return None;
        };
        self.effects.hits += 1;
        self.touch(key, place);
        Some(self.shard_db(key).keys.at(place))
    }

    /// The entry of a key, for changing it. No hit or miss is counted.
    #[inline]
    pub fn write(&mut self, key: Key<'_>) -> Option<&mut Entry> {
        let place = self.live(key)?;
        self.touch(key, place);
        Some(self.shard_db_mut(key).entry_mut(place))
    }

    /// The entry of a key without counting, touching or deleting: for looking at several at once. Keys whose time
    /// is over are not seen.
    #[inline]
    pub fn peek(&self, key: Key<'_>) -> Option<&Entry> {
        let entry = self.shard_db(key).keys.get(key.hash, key.bytes)?;
        (!self.is_over(entry)).then_some(entry)
    }

    /// The entry of a key, to see how it is kept (OBJECT): counted, but neither touched nor missed by an event.
    pub fn inspect(&mut self, key: Key<'_>) -> Option<&Entry> {
        let Some(place) = self.live(key) else {
            self.effects.misses += 1;
            return None;
        };
        self.effects.hits += 1;
        Some(self.shard_db(key).keys.at(place))
    }

    /// The entry of a key, to see what it is (EXISTS, TTL, TYPE): counted as by [`Db::read`], not touched.
    pub fn look(&mut self, key: Key<'_>) -> Option<&Entry> {
        let touch = self.access.touch.take();
        let is_there = self.read(key).is_some();
        self.access.touch = touch;
        if is_there { self.peek(key) } else { None }
    }

    /// Whether a key exists; if its time is over it is deleted.
    pub fn is_alive(&mut self, key: Key<'_>) -> bool {
        self.live(key).is_some()
    }

    /// The string at a key.
    #[inline]
    pub fn string(&mut self, key: Key<'_>) -> Result<Option<StringRef<'_>>, WrongType> {
        self.read(key).map(|entry| StringRef::of(entry).ok_or(WrongType)).transpose()
    }

    /// The string at a key, as [`Db::peek`] sees it; None for another type as well.
    pub fn peek_string(&self, key: Key<'_>) -> Option<StringRef<'_>> {
        self.peek(key).and_then(StringRef::of)
    }

    /// The collection at a key, for reading.
    #[inline]
    pub fn read_as<T: Typed>(&mut self, key: Key<'_>) -> Result<Option<&T>, WrongType> {
        self.read(key).map(|entry| typed::<T>(entry)).transpose()
    }

    /// The collection at a key, as [`Db::peek`] sees it.
    pub fn peek_as<T: Typed>(&self, key: Key<'_>) -> Result<Option<&T>, WrongType> {
        self.peek(key).map(|entry| typed::<T>(entry)).transpose()
    }

    /// The collection at a key, for changing it.
    #[inline]
    pub fn write_as<T: Typed>(&mut self, key: Key<'_>) -> Result<Option<&mut T>, WrongType> {
        self.write(key).map(|entry| entry.object_mut().and_then(T::of_mut).ok_or(WrongType)).transpose()
    }

    /// The collection at a key, made by `make` when there is no such key.
    #[inline]
    pub fn write_or_insert<T: Typed>(&mut self, key: Key<'_>, make: impl FnOnce() -> T) -> Result<&mut T, WrongType> {
        if self.live(key).is_none() {
            self.insert(key, NewContent::Object(make().wrap()), None);
        }
        let found = self.write_as(key)?;
        Ok(found.expect("it was there or has just been inserted"))
    }

    /// Sets a key to a string. An integer's text is stored as an integer.
    #[inline]
    pub fn set_string(&mut self, key: Key<'_>, value: &[u8], expiry: Expiry) {
        self.set_content(key, string_content(value), expiry);
    }

    /// Sets a key to a string of at most [`INLINE_MAX`] bytes, kept as text even if it is an integer's.
    pub fn set_text(&mut self, key: Key<'_>, value: &[u8], expiry: Expiry) {
        self.set_content(key, NewContent::Str(value), expiry);
    }

    /// Sets a key to an integer.
    pub fn set_int(&mut self, key: Key<'_>, value: i64, expiry: Expiry) {
        self.set_content(key, NewContent::Int(value), expiry);
    }

    /// Sets a key to a string that OBJECT ENCODING calls raw even when it is short.
    pub fn set_raw_string(&mut self, key: Key<'_>, value: Vec<u8>, expiry: Expiry) {
        if value.len() > INLINE_MAX {
            return self.set_content(key, NewContent::Object(Value::long_string(value)), expiry);
        }
        self.set_content(key, NewContent::Str(&value), expiry);
        if let Some(entry) = self.shard_db_mut(key).keys.get_mut(key.hash, key.bytes) {
            entry.set_raw(true);
        }
    }

    /// Lets `edit` change the bytes of the string at a key, in place where that is possible: those in the ranges
    /// `touched`, and what it appends. A missing key counts as an empty string and is made. What is left is a raw
    /// string, and the expiry is kept.
    pub fn edit_string<R>(
        &mut self,
        key: Key<'_>,
        touched: impl IntoIterator<Item = Range<usize>>,
        edit: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> Result<R, WrongType> {
        let mut bytes = Vec::new();
        if let Some(entry) = self.write(key) {
            if let Some(Value::String(bytes)) = entry.object_mut() {
                return Ok(bytes.edit(touched, edit));
            }
            bytes = StringRef::of(entry).ok_or(WrongType)?.to_vec();
        }
        let result = edit(&mut bytes);
        self.set_raw_string(key, bytes, Expiry::Keep);
        Ok(result)
    }

    /// Sets a key to any value.
    pub fn set_value(&mut self, key: Key<'_>, value: Value, expiry: Expiry) {
        match value {
            Value::String(bytes) => self.set_string(key, &bytes, expiry),
            value => self.set_content(key, NewContent::Object(value), expiry),
        }
    }

    /// Sets a key to content in an entry's own form; what was there goes.
    pub fn set_content(&mut self, key: Key<'_>, content: NewContent<'_, Value>, expiry: Expiry) {
        let Some(place) = self.live(key) else {
            let at = if let Expiry::At(at) = expiry { Some(at) } else { None };
            return self.insert(key, content, at);
        };
        self.touch(key, place);
        let db = self.shard_db_mut(key);
        let entry = db.touched_entry_mut(place);
        let before = entry.expire_at_ms();
        let after = match expiry {
            Expiry::Keep => before,
            Expiry::Clear => None,
            Expiry::At(at) => Some(at),
        };
        if db.is_owed(place) {
            // What goes away is given to the walk rather than copied.
            let mut entry = Entry::new(key.bytes, content, after);
            entry.set_lru(db.keys.at(place).lru());
            db.discard(key.hash, key.bytes);
            db.insert(key.hash, entry);
        } else {
            let old = db.touched_entry_mut(place).replace_all(content, after);
            db.expiry_changed(key, before, after);
            if let Some(old) = old {
                self.effects.free(old, self.effects.lazy_overwrite);
            }
        }
        // In Redis, who waits for a key of another type than it had goes on waiting then, for ever.
        self.wake(key);
    }

    /// When a key expires (Unix ms); None when it does not exist or does not expire.
    pub fn expire_at_ms(&self, key: Key<'_>) -> Option<i64> {
        self.peek(key).and_then(Entry::expire_at_ms)
    }

    /// Sets or clears the expiry of a key; false when there is no such key.
    pub fn set_expiry(&mut self, key: Key<'_>, at_ms: Option<i64>) -> bool {
        let Some(place) = self.live(key) else { return false };
        let db = self.shard_db_mut(key);
        let entry = db.entry_mut(place);
        let before = entry.expire_at_ms();
        entry.set_expire_at_ms(at_ms);
        db.expiry_changed(key, before, at_ms);
        true
    }

    /// Takes a key out, for [`Db::put`] to put it in elsewhere; None when there is none.
    pub fn take(&mut self, key: Key<'_>) -> Option<Entry> {
        self.live(key)?;
        self.wake_on_deletion(key);
        self.shard_db_mut(key).take(key.hash, key.bytes)
    }

    /// Deletes a key; whether it was there.
    pub fn delete(&mut self, key: Key<'_>) -> bool {
        self.discard(key, self.effects.lazy_overwrite)
    }

    /// Deletes the key that a result was to be stored under, though its time may be over; whether it was there.
    pub fn displace(&mut self, key: Key<'_>) -> bool {
        let is_there = self.shard_db(key).keys.get(key.hash, key.bytes).is_some();
        self.discard_any(key, self.effects.lazy_overwrite);
        is_there
    }

    /// Deletes a key, whose value counts as freed lazily or not; whether it was there.
    pub fn discard(&mut self, key: Key<'_>, lazily: bool) -> bool {
        if self.live(key).is_none() {
            return false;
        }
        self.discard_any(key, lazily);
        true
    }

    /// [`Db::discard`] of a key whose time may be over (eviction).
    pub fn discard_any(&mut self, key: Key<'_>, lazily: bool) {
        if let Some(gone) = self.shard_db_mut(key).discard(key.hash, key.bytes) {
            if let Some(entry) = gone {
                self.free(entry, lazily);
            }
            self.wake_on_deletion(key);
        }
    }

    /// Puts the value and the expiry of an entry taken out elsewhere under a key that is not there. Its access time
    /// is now.
    pub fn put(&mut self, key: Key<'_>, entry: Entry) {
        let expire_at_ms = entry.expire_at_ms();
        let is_raw = entry.is_raw();
        match entry.content() {
            Content::Str(bytes) => self.insert(key, NewContent::Str(bytes), expire_at_ms),
            Content::Int(value) => self.insert(key, NewContent::Int(value), expire_at_ms),
            Content::Object(_) => {
                let object = entry.into_object().expect("its content is an object");
                let has_dead = matches!(&object, Value::ZSet(zset) if zset.has_dead());
                self.insert(key, NewContent::Object(object), expire_at_ms);
                if has_dead {
                    self.shard_db_mut(key).sweep_later(key.bytes);
                }
            }
        }
        if is_raw && let Some(entry) = self.shard_db_mut(key).keys.get_mut(key.hash, key.bytes) {
            entry.set_raw(true);
        }
    }

    /// Deletes a key whose collection has become empty; whether it did.
    pub fn delete_if_vacant<T: Typed>(&mut self, key: Key<'_>) -> bool {
        let is_vacant = matches!(self.peek_as::<T>(key), Ok(Some(value)) if value.is_vacant());
        if is_vacant {
            self.shard_db_mut(key).discard(key.hash, key.bytes);
            self.wake_on_deletion(key);
        }
        is_vacant
    }

    /// Number of keys in this database (all shards must be locked).
    pub fn len(&self) -> usize {
        self.locked.iter().map(|shard| shard.dbs[self.index].keys.len()).sum()
    }

    /// Whether this database has no key (all shards must be locked).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of this database that lives in the key's shard.
    #[inline]
    pub fn shard_db(&self, key: Key<'_>) -> &ShardDb {
        &self.locked.shard(key.hash).dbs[self.index]
    }

    /// The same, to change it.
    #[inline]
    pub fn shard_db_mut(&mut self, key: Key<'_>) -> &mut ShardDb {
        &mut self.locked.shard_mut(key.hash).dbs[self.index]
    }

    /// Whether an entry's time is over.
    #[inline]
    pub fn is_over(&self, entry: &Entry) -> bool {
        entry.expire_at_ms().is_some_and(|at| at <= self.now_ms)
    }

    /// Deletes a key because its time is over, whoever noticed.
    pub fn expire(&mut self, key: Key<'_>) {
        if let Some(gone) = self.shard_db_mut(key).discard(key.hash, key.bytes) {
            if let Some(entry) = gone {
                self.free(entry, self.effects.lazy_delete);
            }
            self.wake_on_deletion(key);
            self.effects.expired += 1;
            self.deleted_by_server(key, KeyspaceEvents::EXPIRED, "expired");
        }
    }

    /// Records that the server itself deleted a key (expiry, eviction).
    pub fn deleted_by_server(&mut self, key: Key<'_>, class: KeyspaceEvents, event: &'static str) {
        if self.effects.recording {
            let name: &[u8] = if self.effects.lazy_delete { b"UNLINK" } else { b"DEL" };
            self.effects.records.push(self.index, Target::Everybody, &[name, key.bytes]);
        }
        self.notify(class, event, key);
        self.touched(key);
    }

    /// Notes a keyspace event if anybody wants its class.
    #[inline]
    pub fn notify(&mut self, class: KeyspaceEvents, event: &'static str, key: Key<'_>) {
        if self.effects.notify.contains(class) {
            self.effects.events.push(KeyEvent { class, event, db: self.index, key: key.bytes.into() });
        }
    }

    /// Raises the flags of who watches a key and notes it for who tracks keys. Part of every change.
    #[inline]
    pub fn touched(&mut self, key: Key<'_>) {
        let index = self.index;
        let shard = self.locked.shard_mut(key.hash);
        if shard.watched > 0 {
            shard.watched -= shard.dbs[index].tell_watchers(key);
        }
        if self.effects.tracking {
            self.effects.tracked.push(key.bytes.into());
        }
    }

    /// Notes who waits for a key that may have something for them: their commands run again. Of itself this happens to keys
    /// that appear or become another type; a stream has more to give without that (XADD, XGROUP DESTROY).
    #[inline]
    pub fn wake(&mut self, key: Key<'_>) {
        if !self.shard_db(key).waiters.is_empty() {
            self.is_ready(key);
        }
    }

    /// Notes who waits for the end of a key.
    #[inline]
    fn wake_on_deletion(&mut self, key: Key<'_>) {
        let waiters = &self.shard_db(key).waiters;
        if !waiters.is_empty() && waiters.want_deletion(key.bytes) {
            self.is_ready(key);
        }
    }

    #[cold]
    fn is_ready(&mut self, key: Key<'_>) {
        if self.shard_db_mut(key).waiters.mark_ready(key.bytes) {
            self.effects.ready.push_back((self.index, key.bytes.into()));
        }
    }

    fn free(&mut self, entry: Entry, lazily: bool) {
        if let Some(object) = entry.into_object() {
            self.effects.free(object, lazily);
        }
    }

    /// The place of a key that exists and whose time is not over.
    #[inline]
    fn live(&mut self, key: Key<'_>) -> Option<Place> {
        let keys = &self.shard_db(key).keys;
        let place = keys.locate(key.hash, key.bytes)?;
        if !self.is_over(keys.at(place)) {
            return Some(place);
        }
        if self.access.deletes_expired {
            self.expire(key);
        }
        None
    }

    fn insert(&mut self, key: Key<'_>, content: NewContent<'_, Value>, expire_at_ms: Option<i64>) {
        let mut entry = Entry::new(key.bytes, content, expire_at_ms);
        entry.set_lru(match self.access.touch {
            Some(Touch::Lru(clock)) => clock,
            Some(Touch::Lfu { minutes, .. }) => u32::from(minutes) << 8 | u32::from(LFU_INITIAL),
            None => 0,
        });
        let hides_expired = !self.access.deletes_expired;
        let db = self.shard_db_mut(key);
        if hides_expired {
            // A replica hides a key whose time is over; a new value takes its place.
            db.discard(key.hash, key.bytes);
        }
        db.insert(key.hash, entry);
        self.wake(key);
        self.notify(KeyspaceEvents::NEW, "new", key);
    }

    #[inline]
    fn touch(&mut self, key: Key<'_>, place: Place) {
        let Some(touch) = self.access.touch else { return };
        let entry = self.shard_db_mut(key).touched_entry_mut(place);
        let before = entry.lru();
        let after = match touch {
            Touch::Lru(clock) => clock,
            Touch::Lfu { minutes, log_factor, decay_minutes, random } => {
                let counter = lfu_decayed(before, minutes, decay_minutes);
                u32::from(minutes) << 8 | u32::from(lfu_incremented(counter, log_factor, random))
            }
        };
        if after != before {
            entry.set_lru(after);
        }
    }
}

/// A new key's LFU counter, so that it is not evicted at once.
const LFU_INITIAL: u8 = 5;

/// The LRU clock: seconds, 24 bits of them.
pub fn lru_clock(now_ms: i64) -> u32 {
    (now_ms / 1000) as u32 & LRU_MASK
}

/// Seconds since an LRU field was written.
pub fn lru_idle_seconds(lru: u32, now_ms: i64) -> u32 {
    lru_clock(now_ms).wrapping_sub(lru) & LRU_MASK
}

const LRU_MASK: u32 = 0xff_ffff;

/// The LFU clock: minutes, 16 bits of them.
pub fn lfu_minutes(now_ms: i64) -> u16 {
    (now_ms / 60_000) as u16
}

/// The LFU counter of a 24-bit field after the decay that is due now. Source: Redis 7.2 `lfu-decay-time`.
pub fn lfu_decayed(lru: u32, minutes: u16, decay_minutes: u32) -> u8 {
    let elapsed = u32::from(minutes.wrapping_sub((lru >> 8) as u16));
    let periods = elapsed.checked_div(decay_minutes).unwrap_or(0);
    (lru as u8).saturating_sub(periods.min(255) as u8)
}

/// One more access: the counter grows with a chance of 1 in (its value over the initial one) * `log_factor` + 1.
fn lfu_incremented(counter: u8, log_factor: u32, random: u32) -> u8 {
    let above = f64::from(counter.saturating_sub(LFU_INITIAL));
    let chance = 1.0 / (above * f64::from(log_factor) + 1.0);
    if f64::from(random) / f64::from(u32::MAX) < chance { counter.saturating_add(1) } else { counter }
}

fn typed<T: Typed>(entry: &Entry) -> Result<&T, WrongType> {
    match entry.content() {
        Content::Object(value) => T::of(value).ok_or(WrongType),
        _ => Err(WrongType),
    }
}

fn string_content(value: &[u8]) -> NewContent<'_, Value> {
    if value.len() > INLINE_MAX {
        return NewContent::Object(Value::long_string(value.to_vec()));
    }
    match value.first() {
        Some(b'0'..=b'9' | b'-') if value.len() <= 20 => {
            number::parse_int(value).map_or(NewContent::Str(value), NewContent::Int)
        }
        _ => NewContent::Str(value),
    }
}
