//! One of two values in one pointer, told apart by a low bit of its address: what a collection that is either packed or
//! big keeps in its key's entry.
//!
//! ```text
//! ....000   a listpack         ....010   an intset         ....001   a big form, boxed
//! ```
//!
//! Either value is viewed in place: both are the pointer itself, marked in a way that each of them knows how to read.
//!
//! JUSTIFICATION: as an enum it is 16 bytes, and inside the enum of all types 24: 16 bytes more in each of a million entries.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, transmute_copy};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What is one pointer that some of the low bits are known of.
///
/// # Safety
/// The type is a `NonNull` of any kind or a transparent wrapper of one. For as long as a value lives, the bits of `SET`
/// are 1 in it and the bits of `CLEAR` are 0.
pub(crate) unsafe trait Word {
    const SET: usize;
    const CLEAR: usize;
}

/// A `P` or a `B`: of a `B`, BIT is set.
#[repr(transparent)]
pub(crate) struct Either<P: Word, B: Word, const BIT: usize> {
    word: NonNull<u8>,
    owns: PhantomData<(P, B)>,
}

/// Which of both it is.
#[derive(Debug)]
pub(crate) enum Form<P, B> {
    Packed(P),
    Big(B),
}

// SAFETY: it is one of both, and owns it.
unsafe impl<P: Word + Send, B: Word + Send, const BIT: usize> Send for Either<P, B, BIT> {}
// SAFETY: it lends one of both.
unsafe impl<P: Word + Sync, B: Word + Sync, const BIT: usize> Sync for Either<P, B, BIT> {}
// SAFETY: a transparent pointer; what is true of both is true of either.
unsafe impl<P: Word, B: Word, const BIT: usize> Word for Either<P, B, BIT> {
    const SET: usize = P::SET & B::SET;
    const CLEAR: usize = P::CLEAR & B::CLEAR;
}

impl<P: Word, B: Word, const BIT: usize> Either<P, B, BIT> {
    const TOLD_APART: () = {
        assert!(BIT.is_power_of_two() && P::CLEAR & BIT != 0 && B::SET & BIT != 0);
        assert!(size_of::<P>() == size_of::<NonNull<u8>>() && size_of::<B>() == size_of::<NonNull<u8>>());
    };

    pub(crate) fn packed(packed: P) -> Self {
        // SAFETY: a word is a pointer.
        unsafe { Self::from_word(packed) }
    }

    pub(crate) fn big(big: B) -> Self {
        // SAFETY: a word is a pointer.
        unsafe { Self::from_word(big) }
    }

    #[inline]
    pub(crate) fn form(&self) -> Form<&P, &B> {
        let word = &raw const self.word;
        // SAFETY: the bit tells which of both was put in; either is a transparent pointer, and so is what holds it.
        unsafe { if self.is_big() { Form::Big(&*word.cast()) } else { Form::Packed(&*word.cast()) } }
    }

    #[inline]
    pub(crate) fn form_mut(&mut self) -> Form<&mut P, &mut B> {
        let is_big = self.is_big();
        let word = &raw mut self.word;
        // SAFETY: as in `form`; whatever is put in its place through this reference is of the same type, so the bit stays.
        unsafe { if is_big { Form::Big(&mut *word.cast()) } else { Form::Packed(&mut *word.cast()) } }
    }

    #[inline]
    fn is_big(&self) -> bool {
        self.word.addr().get() & BIT != 0
    }

    /// # Safety
    /// `W` is P or B.
    unsafe fn from_word<W: Word>(word: W) -> Self {
        let () = Self::TOLD_APART;
        // SAFETY: a word is a pointer and nothing else (`Word`); it is not dropped here, so it has one owner again.
        let word = unsafe { transmute_copy::<ManuallyDrop<W>, NonNull<u8>>(&ManuallyDrop::new(word)) };
        Self { word, owns: PhantomData }
    }
}

impl<P: Word, B: Word, const BIT: usize> Drop for Either<P, B, BIT> {
    #[inline]
    fn drop(&mut self) {
        match self.form_mut() {
            // SAFETY: nobody uses it after this; the pointer itself needs no drop.
            Form::Packed(packed) => unsafe { std::ptr::drop_in_place(packed) },
            // SAFETY: the same.
            Form::Big(big) => unsafe { std::ptr::drop_in_place(big) },
        }
    }
}

impl<P: Word + Clone, B: Word + Clone, const BIT: usize> Clone for Either<P, B, BIT> {
    fn clone(&self) -> Self {
        match self.form() {
            Form::Packed(packed) => Self::packed(packed.clone()),
            Form::Big(big) => Self::big(big.clone()),
        }
    }
}

impl<P: Word + fmt::Debug, B: Word + fmt::Debug, const BIT: usize> fmt::Debug for Either<P, B, BIT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.form().fmt(f)
    }
}

/// A box whose pointer is odd.
#[repr(transparent)]
pub(crate) struct OddBox<T>(NonNull<u8>, PhantomData<Box<T>>);

// SAFETY: it owns a T, as a Box would.
unsafe impl<T: Send> Send for OddBox<T> {}
// SAFETY: it lends a T, as a Box would.
unsafe impl<T: Sync> Sync for OddBox<T> {}
// SAFETY: a transparent pointer; `new` adds 1 to an even address.
unsafe impl<T> Word for OddBox<T> {
    const SET: usize = 1;
    const CLEAR: usize = 0;
}

impl<T> OddBox<T> {
    pub(crate) fn new(value: T) -> Self {
        const { assert!(align_of::<T>() >= 2 && size_of::<T>() >= 2) };
        let place = NonNull::from(Box::leak(Box::new(value))).cast::<u8>();
        // SAFETY: a T has more than one byte.
        Self(unsafe { place.add(1) }, PhantomData)
    }

    #[inline]
    fn place(&self) -> NonNull<T> {
        // SAFETY: `new` added 1.
        unsafe { self.0.sub(1) }.cast()
    }
}

impl<T> Deref for OddBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `new` put a T there, which lives as long as `self`.
        unsafe { self.place().as_ref() }
    }
}

impl<T> DerefMut for OddBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `self` is borrowed alone.
        unsafe { self.place().as_mut() }
    }
}

impl<T> Drop for OddBox<T> {
    fn drop(&mut self) {
        // SAFETY: `new` took it out of a Box, and the owner is gone after this.
        drop(unsafe { Box::from_raw(self.place().as_ptr()) });
    }
}

impl<T: Clone> Clone for OddBox<T> {
    fn clone(&self) -> Self {
        Self::new(T::clone(self))
    }
}

impl<T: fmt::Debug> fmt::Debug for OddBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::intset::IntSet;
    use crate::encoding::listpack::Listpack;

    type Small = Either<Listpack, IntSet, 2>;
    type Any = Either<Small, OddBox<Vec<String>>, 1>;

    fn shown(any: &Any) -> String {
        match any.form() {
            Form::Packed(small) => match small.form() {
                Form::Packed(list) => format!("listpack {list:?}"),
                Form::Big(set) => format!("intset {set:?}"),
            },
            Form::Big(words) => format!("big {words:?}"),
        }
    }

    /// One of each kind that holds `n`.
    fn made(kind: u64, n: i64) -> Any {
        let (mut list, mut set) = (Listpack::new(), IntSet::new());
        list.push_back(n);
        set.insert(n);
        match kind % 3 {
            0 => Any::packed(Small::packed(list)),
            1 => Any::packed(Small::big(set)),
            _ => Any::big(OddBox::new(vec![n.to_string()])),
        }
    }

    #[test]
    fn each_of_three_is_told_from_the_others_changed_and_dropped() {
        assert_eq!(size_of::<Option<Any>>(), 8);
        let expected = ["listpack [Int(7), Int(9)]", "intset {7, 9}", "big [\"7\", \"9\"]"];
        for (kind, expected) in (0..).zip(expected) {
            let mut any = made(kind, 7);
            let before = any.clone();
            match any.form_mut() {
                Form::Packed(small) => match small.form_mut() {
                    Form::Packed(list) => (1..400).for_each(|_| list.push_back(9)),
                    Form::Big(set) => drop(set.insert(9)),
                },
                Form::Big(words) => words.push("9".to_owned()),
            }
            if let Form::Packed(small) = any.form_mut()
                && let Form::Packed(list) = small.form_mut()
            {
                list.remove_range(2, 1000);
            }
            assert_eq!(shown(&any), expected);
            assert_eq!(shown(&before), shown(&made(kind, 7)));
            // Each in the place of each.
            for other in 0..3 {
                any = made(other, 5);
                assert_eq!(shown(&any), shown(&made(other, 5)));
            }
        }
    }
}
