//! One key of the keyspace in one allocation: header, expiry, key and a small value together.
//!
//! ```text
//! +-----------+-------------------+---------------+------------------+-------------+-----------+-------------+
//! | lru|flags | key_len | val_len | key_len       | expire_at_ms     | fixed       | key bytes | value bytes |
//! | 24 | 8    | 19      | 13      | u64, if LONG  | i64, if EXPIRES  | if not STR  | key_len   | val_len, STR|
//! +-----------+-------------------+---------------+------------------+-------------+-----------+-------------+
//! ```
//!
//! `fixed` is the integer (INT, 8 bytes) or the `V` itself (OBJECT), at a multiple of 8. Keys from 512 KiB on are LONG. A
//! key of 16 bytes takes 56 with a string of 32, 32 with an integer, 40 with a `V` of 16, and the 8 of its slot; 8 more
//! if it expires.
#![allow(unsafe_code)]

use crate::prefetch::prefetch;
use crate::table::Keyed;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Strings up to this many bytes live inside the entry; longer ones belong in a `V`.
pub const INLINE_MAX: usize = 4096;

/// A key with its expiry and its value; `V` is what a value is when it is neither a small string nor an integer.
#[derive(Debug)]
pub struct Entry<V: Send + 'static> {
    place: NonNull<u8>,
    owns: PhantomData<Box<V>>,
}

/// What an entry holds.
#[derive(Debug)]
pub enum Content<'a, V> {
    /// A string kept inside the entry.
    Str(&'a [u8]),
    /// A string that is an integer.
    Int(i64),
    /// Anything else.
    Object(&'a V),
}

/// A value to put into an entry.
#[derive(Debug)]
pub enum NewContent<'a, V> {
    /// At most [`INLINE_MAX`] bytes.
    Str(&'a [u8]),
    /// A string that is an integer.
    Int(i64),
    /// Anything else.
    Object(V),
}

// SAFETY: an entry owns its allocation and its V, as a Box would.
unsafe impl<V: Send + 'static> Send for Entry<V> {}

const EXPIRES: u8 = 1;
const STR: u8 = 0;
const INT: u8 = 2;
const OBJECT: u8 = 4;
/// An OBJECT whose V was moved out: all that is left to do is to free the allocation.
const TAKEN: u8 = INT | OBJECT;
const KIND: u8 = INT | OBJECT;
const RAW: u8 = 8;
const MARK: u8 = 16;
const LONG: u8 = 32;
/// Everything behind the header but key and value is a field of 8 bytes, or a V.
const HEADER: usize = 8;
const FIELD: usize = 8;
const ALIGN: usize = 8;
const KEY_LEN_BITS: u32 = 19;
/// What does not fit stands in the field of LONG.
const KEY_LEN_MAX: usize = (1 << KEY_LEN_BITS) - 1;
const _: () = assert!(INLINE_MAX < 1 << (32 - KEY_LEN_BITS) && EXPIRES == 1);

impl<V: Send + 'static> Entry<V> {
    /// Where an allocation's fields may lie: a V is read in place, so it must not ask for more than the allocation has.
    const FITS: () = assert!(align_of::<V>() <= ALIGN && size_of::<V>().is_multiple_of(ALIGN) && FIELD == ALIGN);

    /// A new entry; `expire_at_ms` is Unix time. The LRU field starts at 0.
    pub fn new(key: &[u8], content: NewContent<'_, V>, expire_at_ms: Option<i64>) -> Self {
        let (kind, value): (u8, &[u8]) = match &content {
            NewContent::Str(value) => (STR, value),
            NewContent::Int(_) => (INT, &[]),
            NewContent::Object(_) => (OBJECT, &[]),
        };
        assert!(value.len() <= INLINE_MAX, "longer strings are objects");
        let long = if key.len() > KEY_LEN_MAX { LONG } else { 0 };
        let flags = kind | long | if expire_at_ms.is_some() { EXPIRES } else { 0 };
        let place = allocate(Self::size_for(flags, key.len(), value.len()));
        let mut entry: Self = Entry { place, owns: PhantomData };
        entry.write(0, u32::from(flags).to_ne_bytes());
        entry.write_lens(key.len().min(KEY_LEN_MAX), value.len());
        if long != 0 {
            entry.write(HEADER, key.len().to_ne_bytes());
        }
        if let Some(at) = expire_at_ms {
            entry.write(expiry_offset(flags), at.to_ne_bytes());
        }
        let offset = Self::key_offset_for(flags);
        entry.copy_in(offset, key);
        entry.copy_in(offset + key.len(), value);
        match content {
            NewContent::Str(_) => {}
            NewContent::Int(value) => entry.write(fixed_offset(flags), value.to_ne_bytes()),
            // SAFETY: the place of an OBJECT's V is aligned and inside the allocation (`object_ptr`), and nothing is there
            // yet that would have to be dropped.
            NewContent::Object(object) => unsafe { entry.object_ptr().write(object) },
        }
        entry
    }

    /// When the key expires, Unix time in ms.
    #[inline]
    pub fn expire_at_ms(&self) -> Option<i64> {
        (self.flags() & EXPIRES != 0).then(|| i64::from_ne_bytes(self.read(expiry_offset(self.flags()))))
    }

    /// The value.
    #[inline]
    pub fn content(&self) -> Content<'_, V> {
        match self.flags() & KIND {
            STR => Content::Str(self.bytes(self.key_offset() + self.key_len(), self.val_len())),
            INT => Content::Int(self.int()),
            OBJECT => {
                // SAFETY: `new` wrote a V there, which lives until `take_object` or `drop`.
                Content::Object(unsafe { &*self.object_ptr() })
            }
            _ => unreachable!("nobody sees an entry between taking its object and dropping it"),
        }
    }

    /// The object, to change it.
    #[inline]
    pub fn object_mut(&mut self) -> Option<&mut V> {
        // SAFETY: as in `content`; `&mut self` makes the borrow unique.
        (self.flags() & KIND == OBJECT).then(|| unsafe { &mut *self.object_ptr() })
    }

    /// The inline string, to change it without changing its length.
    pub fn str_mut(&mut self) -> Option<&mut [u8]> {
        let offset = self.key_offset() + self.key_len();
        (self.flags() & KIND == STR).then(|| self.bytes_mut(offset, self.val_len()))
    }

    /// Puts another value in, keeping key, expiry and LRU; returns the object that was there. The entry is
    /// changed in place when its size allows. Clears the RAW mark.
    pub fn replace(&mut self, content: NewContent<'_, V>) -> Option<V> {
        let expire_at_ms = self.expire_at_ms();
        self.replace_all(content, expire_at_ms)
    }

    /// [`Entry::replace`], and the expiry with it.
    pub fn replace_all(&mut self, content: NewContent<'_, V>, expire_at_ms: Option<i64>) -> Option<V> {
        let same_head = expire_at_ms.is_some() == (self.flags() & EXPIRES != 0);
        match &content {
            NewContent::Str(value) if same_head && self.flags() & KIND == STR && self.fits(value.len()) => {
                self.write_lens(self.key_len().min(KEY_LEN_MAX), value.len());
                let offset = self.key_offset() + self.key_len();
                self.copy_in(offset, value);
            }
            NewContent::Int(value) if same_head && self.flags() & KIND == INT => {
                self.write(fixed_offset(self.flags()), value.to_ne_bytes());
            }
            _ => return self.rebuild(content, expire_at_ms),
        }
        if let Some(at) = expire_at_ms {
            self.write(expiry_offset(self.flags()), at.to_ne_bytes());
        }
        self.set_raw(false);
        None
    }

    /// Sets or clears the expiry (Unix time in ms).
    pub fn set_expire_at_ms(&mut self, expire_at_ms: Option<i64>) {
        if let (Some(at), true) = (expire_at_ms, self.flags() & EXPIRES != 0) {
            self.write(expiry_offset(self.flags()), at.to_ne_bytes());
            return;
        }
        if expire_at_ms.is_none() && self.flags() & EXPIRES == 0 {
            return;
        }
        let (raw, mark) = (self.is_raw(), self.is_marked());
        let lru = self.lru();
        let mut rebuilt = match self.flags() & KIND {
            OBJECT => {
                let object = self.take_object();
                Entry::new(self.key(), NewContent::Object(object), expire_at_ms)
            }
            INT => Entry::new(self.key(), NewContent::Int(self.int()), expire_at_ms),
            _ => {
                let value = self.bytes(self.key_offset() + self.key_len(), self.val_len());
                Entry::new(self.key(), NewContent::Str(value), expire_at_ms)
            }
        };
        rebuilt.set_raw(raw);
        rebuilt.set_marked(mark);
        rebuilt.set_lru(lru);
        *self = rebuilt;
    }

    /// A copy: key, expiry, value; LRU starts at 0.
    pub fn duplicate(&self) -> Self
    where
        V: Clone,
    {
        let content = match self.content() {
            Content::Str(bytes) => NewContent::Str(bytes),
            Content::Int(value) => NewContent::Int(value),
            Content::Object(object) => NewContent::Object(object.clone()),
        };
        let mut copy = Entry::new(self.key(), content, self.expire_at_ms());
        copy.set_raw(self.is_raw());
        copy
    }

    /// The 24 bits of LRU clock or LFU counter.
    #[inline]
    pub fn lru(&self) -> u32 {
        u32::from_ne_bytes(self.read(0)) >> 8
    }

    /// Sets the 24 bits of LRU clock or LFU counter.
    #[inline]
    pub fn set_lru(&mut self, lru: u32) {
        self.write(0, (lru << 8 | u32::from(self.flags())).to_ne_bytes());
    }

    /// Whether a short string was made by a command that leaves Redis's raw encoding behind (APPEND, SETRANGE).
    pub fn is_raw(&self) -> bool {
        self.flags() & RAW != 0
    }

    /// See [`Entry::is_raw`].
    pub fn set_raw(&mut self, raw: bool) {
        let flags = if raw { self.flags() | RAW } else { self.flags() & !RAW };
        self.write(0, (self.lru() << 8 | u32::from(flags)).to_ne_bytes());
    }

    /// A mark that whoever owns the entry puts on it; see the keyspace's walk. False in a new entry.
    #[inline]
    pub fn is_marked(&self) -> bool {
        self.flags() & MARK != 0
    }

    /// See [`Entry::is_marked`].
    #[inline]
    pub fn set_marked(&mut self, marked: bool) {
        let flags = if marked { self.flags() | MARK } else { self.flags() & !MARK };
        self.write(0, (self.lru() << 8 | u32::from(flags)).to_ne_bytes());
    }

    /// Bytes of the entry's own allocation.
    pub fn memory_bytes(&self) -> usize {
        self.size()
    }

    /// Takes the entry apart: its object, if it holds one.
    pub fn into_object(mut self) -> Option<V> {
        (self.flags() & KIND == OBJECT).then(|| self.take_object())
    }

    fn rebuild(&mut self, content: NewContent<'_, V>, expire_at_ms: Option<i64>) -> Option<V> {
        let old = (self.flags() & KIND == OBJECT).then(|| self.take_object());
        let mut rebuilt = Entry::new(self.key(), content, expire_at_ms);
        rebuilt.set_lru(self.lru());
        rebuilt.set_marked(self.is_marked());
        *self = rebuilt;
        old
    }

    /// Moves the object out; the entry is good for nothing but its key and being dropped then.
    fn take_object(&mut self) -> V {
        assert!(self.flags() & KIND == OBJECT, "only an object can be taken out of an entry");
        let flags = self.flags() & !KIND | TAKEN;
        self.write(0, (self.lru() << 8 | u32::from(flags)).to_ne_bytes());
        // SAFETY: a V is there, and the kind has just changed, so it is moved out once. TAKEN keeps the layout of OBJECT.
        unsafe { self.object_ptr().read() }
    }

    #[inline]
    fn flags(&self) -> u8 {
        u32::from_ne_bytes(self.read(0)) as u8
    }

    #[inline]
    fn key_len(&self) -> usize {
        if self.flags() & LONG == 0 {
            self.lens() as usize & KEY_LEN_MAX
        } else {
            usize::from_ne_bytes(self.read(HEADER))
        }
    }

    #[inline]
    fn val_len(&self) -> usize {
        (self.lens() >> KEY_LEN_BITS) as usize
    }

    #[inline]
    fn lens(&self) -> u32 {
        u32::from_ne_bytes(self.read(4))
    }

    #[inline]
    fn write_lens(&mut self, key_len: usize, val_len: usize) {
        self.write(4, (key_len as u32 | (val_len as u32) << KEY_LEN_BITS).to_ne_bytes());
    }

    #[inline]
    fn key_offset(&self) -> usize {
        Self::key_offset_for(self.flags())
    }

    #[inline]
    fn int(&self) -> i64 {
        i64::from_ne_bytes(self.read(fixed_offset(self.flags())))
    }

    /// Where an OBJECT's V is: aligned for it, and inside the allocation of such an entry.
    #[inline]
    fn object_ptr(&self) -> *mut V {
        let () = Self::FITS;
        debug_assert!(self.flags() & OBJECT != 0);
        // SAFETY: `size_for` counts a V at that offset, a multiple of ALIGN, as the allocation's own address is.
        // JUSTIFICATION: a V of its own allocation takes 16 to 32 bytes more a key, and a cache miss more a command.
        unsafe { self.place.as_ptr().add(fixed_offset(self.flags())).cast() }
    }

    /// Where the key begins.
    #[inline]
    fn key_offset_for(flags: u8) -> usize {
        fixed_offset(flags)
            + match flags & KIND {
                STR => 0,
                INT => size_of::<i64>(),
                _ => size_of::<V>(),
            }
    }

    #[inline]
    fn size_for(flags: u8, key_len: usize, val_len: usize) -> usize {
        (Self::key_offset_for(flags) + key_len + val_len).next_multiple_of(ALIGN)
    }

    fn fits(&self, val_len: usize) -> bool {
        Self::size_for(self.flags(), self.key_len(), val_len) == self.size()
    }

    #[inline]
    fn size(&self) -> usize {
        Self::size_for(self.flags(), self.key_len(), self.val_len())
    }

    #[inline]
    fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        debug_assert!(offset + N <= HEADER || offset + N <= expiry_offset(self.flags()) || offset + N <= self.size());
        // SAFETY: the fields read lie inside the allocation (`size_for` counts them); bytes have no alignment.
        // JUSTIFICATION: one allocation a key takes 56 bytes where boxed key and boxed value take more than Redis.
        unsafe { self.place.as_ptr().add(offset).cast::<[u8; N]>().read() }
    }

    #[inline]
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        // SAFETY: as in `read`; `&mut self` makes the access unique.
        unsafe { self.place.as_ptr().add(offset).cast::<[u8; N]>().write(bytes) }
    }

    #[inline]
    fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        // SAFETY: key and value lie inside the allocation and were written when it was made.
        unsafe { std::slice::from_raw_parts(self.place.as_ptr().add(offset), len) }
    }

    #[inline]
    fn bytes_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.place.as_ptr().add(offset), len) }
    }

    #[inline]
    fn copy_in(&mut self, offset: usize, from: &[u8]) {
        // SAFETY: `offset + from.len()` lies inside the allocation (`size_for` or `fits` counted it), and `from`
        // cannot overlap memory that `&mut self` owns.
        unsafe { self.place.as_ptr().add(offset).copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }
}

impl<V: Send + 'static> Keyed for Entry<V> {
    #[inline]
    fn key(&self) -> &[u8] {
        self.bytes(self.key_offset(), self.key_len())
    }

    /// Without what a V points at.
    fn bytes(&self) -> usize {
        self.size()
    }

    /// Most entries of a short key and a short value are of 56 bytes or less, in one line of the cache or in two.
    #[inline]
    fn prefetch(&self) {
        const LAST_WORD: usize = 48;
        prefetch(self.place.as_ptr());
        prefetch(self.place.as_ptr().wrapping_add(LAST_WORD));
    }

    fn prefetch_whole(&self) {
        const LINES: usize = 3;
        (0..LINES).for_each(|line| prefetch(self.place.as_ptr().wrapping_add(64 * line)));
    }
}

impl<V: Send + 'static> Drop for Entry<V> {
    fn drop(&mut self) {
        if self.flags() & KIND == OBJECT {
            drop(self.take_object());
        }
        let layout = layout(self.size());
        // SAFETY: allocated by `allocate` with this very layout, and not used again.
        unsafe { dealloc(self.place.as_ptr(), layout) }
    }
}

#[inline]
fn expiry_offset(flags: u8) -> usize {
    HEADER + FIELD * usize::from(flags & LONG != 0)
}

/// Where the integer or the V is, or the key of a STR.
#[inline]
fn fixed_offset(flags: u8) -> usize {
    expiry_offset(flags) + FIELD * usize::from(flags & EXPIRES)
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("keys are below proto-max-bulk-len and inline values short")
}

fn allocate(size: usize) -> NonNull<u8> {
    let layout = layout(size);
    // SAFETY: the size is at least the header's.
    let place = unsafe { alloc(layout) };
    NonNull::new(place).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content_of(entry: &Entry<String>) -> String {
        match entry.content() {
            Content::Str(value) => String::from_utf8_lossy(value).into_owned(),
            Content::Int(value) => format!("int {value}"),
            Content::Object(value) => format!("object {value}"),
        }
    }

    #[test]
    fn holds_each_kind_with_and_without_expiry() {
        for expire in [None, Some(1_700_000_000_123)] {
            let contents = [
                (NewContent::Str(b"hello"), "hello"),
                (NewContent::Int(-5), "int -5"),
                (NewContent::Object("list".to_owned()), "object list"),
            ];
            for (content, expected) in contents {
                let mut entry = Entry::new(b"some:key", content, expire);
                entry.set_lru(0xab_cdef);
                assert_eq!(entry.key(), b"some:key");
                assert_eq!(entry.expire_at_ms(), expire);
                assert_eq!(content_of(&entry), expected);
                assert_eq!(entry.lru(), 0xab_cdef);
            }
        }
    }

    #[test]
    fn every_kind_replaces_every_other_and_keeps_key_expiry_and_lru() {
        let make = |kind: usize, n: usize| match kind {
            0 => NewContent::Str(if n.is_multiple_of(2) { b"short" as &[u8] } else { b"a string of another length" }),
            1 => NewContent::Int(n as i64),
            _ => NewContent::Object(format!("o{n}")),
        };
        let mut entry: Entry<String> = Entry::new(b"k", NewContent::Int(1), Some(5));
        entry.set_lru(77);
        for n in 0..60 {
            entry.replace(make(n * 7 % 3, n));
            match n % 5 {
                0 => entry.set_expire_at_ms(None),
                1 => entry.set_expire_at_ms(Some(n as i64)),
                2 => drop(entry.replace_all(make(n % 3, n), Some(9))),
                _ => {}
            }
            assert_eq!(entry.key(), b"k");
            assert_eq!(entry.lru(), 77);
        }
    }

    #[test]
    fn a_typical_key_takes_56_bytes() {
        for (content, expire, bytes) in [
            (NewContent::Str(&[b'v'; 32]), None, 56),
            (NewContent::Str(&[b'v'; 32]), Some(1), 64),
            (NewContent::Int(1), None, 32),
            (NewContent::Object([0_u64, 0]), None, 40),
        ] {
            assert_eq!(Entry::<[u64; 2]>::new(&[b'k'; 16], content, expire).memory_bytes(), bytes);
        }
        assert_eq!(size_of::<Option<Entry<String>>>(), 8);
    }

    #[test]
    fn keys_and_strings_of_any_length_come_back() {
        for key_len in [0, 1, KEY_LEN_MAX - 1, KEY_LEN_MAX, KEY_LEN_MAX + 1, 3_000_000] {
            for (value_len, expire) in [(0, None), (INLINE_MAX, Some(-7)), (9, Some(i64::MAX)), (INLINE_MAX, None)] {
                let (key, value) = (vec![b'k'; key_len], vec![b'v'; value_len]);
                let mut entry: Entry<String> = Entry::new(&key, NewContent::Str(&value), expire);
                assert_eq!((entry.key(), content_of(&entry).as_bytes()), (&key[..], &value[..]));
                for content in [NewContent::Object("o".to_owned()), NewContent::Str(b"short"), NewContent::Int(4)] {
                    entry.replace(content);
                    assert_eq!((entry.key(), entry.expire_at_ms()), (&key[..], expire));
                }
                assert_eq!(content_of(&entry), "int 4");
            }
        }
    }

    #[test]
    fn the_raw_mark_survives_expire_and_falls_with_a_new_value() {
        let mut entry: Entry<String> = Entry::new(b"k", NewContent::Str(b"v"), None);
        entry.set_raw(true);
        entry.set_expire_at_ms(Some(1));
        assert!(entry.is_raw());
        entry.replace(NewContent::Str(b"w"));
        assert!(!entry.is_raw());
    }
}
