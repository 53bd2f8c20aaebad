//! Packed collections that no current Redis writes: ziplist (until 7.0) and zipmap (until 2.6). Read only.
//!
//! ```text
//! ziplist  bytes(4) tail-offset(4) entries(2) entry* FF                      numbers little endian
//! entry    previous-size(1, or FE and 4) header data
//! header   00llllll  01llllll <1>  10...... <4>            string of that length, big endian
//!          C0 <2>  D0 <4>  E0 <8>  F0 <3>  FE <1>          signed integer, little endian
//!          F1..FD                                          the integer 0..12
//! zipmap   count(1) (len field len free(1) value spare)* FF   len: 0..FD, or FE and 4 bytes
//! ```
//!
//! Both are checked from end to end before the first entry is given out, so that giving them out cannot fail.

const ZIPLIST_HEADER: usize = 10;
const END: u8 = 0xff;

/// The entries of a ziplist, one by one.
#[derive(Debug)]
pub(crate) struct Ziplist {
    blob: Vec<u8>,
    at: usize,
}

impl Ziplist {
    /// Takes a ziplist in which every size, offset and count is right.
    pub(crate) fn new(blob: Vec<u8>) -> Option<Ziplist> {
        let entries_end = blob.len().checked_sub(1).filter(|end| *end >= ZIPLIST_HEADER)?;
        let [b0, b1, b2, b3, t0, t1, t2, t3, c0, c1, ..] = *blob.as_slice() else { return None };
        let bytes = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        let tail = u32::from_le_bytes([t0, t1, t2, t3]) as usize;
        let count = usize::from(u16::from_le_bytes([c0, c1]));
        if bytes != blob.len() || blob[entries_end] != END || tail > entries_end {
            return None;
        }
        let (mut at, mut seen, mut previous, mut last) = (ZIPLIST_HEADER, 0, 0, None);
        while at < entries_end {
            let entry = entry(&blob[..entries_end], at)?;
            if entry.previous_size != previous {
                return None;
            }
            (previous, last) = (entry.end - at, Some(at));
            seen += 1;
            at = entry.end;
        }
        let tail_right = last.is_none_or(|last| last == tail);
        let count_right = count == usize::from(u16::MAX) || count == seen;
        (tail_right && count_right).then_some(Ziplist { blob, at: ZIPLIST_HEADER })
    }

    /// Whether the number of entries left is even.
    pub(crate) fn is_paired(&self) -> bool {
        let mut rest = Ziplist { blob: Vec::new(), at: self.at };
        let mut count = 0usize;
        while let Some(entry) = entry(&self.blob[..self.blob.len() - 1], rest.at) {
            rest.at = entry.end;
            count += 1;
        }
        count.is_multiple_of(2)
    }
}

impl Iterator for Ziplist {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let entry = entry(&self.blob[..self.blob.len() - 1], self.at)?;
        self.at = entry.end;
        Some(match entry.data {
            Data::Int(value) => value.to_string().into_bytes(),
            Data::Str { from } => self.blob[from..entry.end].to_vec(),
        })
    }
}

struct Entry {
    previous_size: usize,
    data: Data,
    /// Where the next entry begins.
    end: usize,
}

enum Data {
    Int(i64),
    Str { from: usize },
}

/// The entry at `at`, if it lies wholly within `entries`.
fn entry(entries: &[u8], at: usize) -> Option<Entry> {
    let mut cursor = Cursor { bytes: entries, at };
    let previous_size = match cursor.byte()? {
        0xfe => u32::from_le_bytes(cursor.array()?) as usize,
        END => return None,
        size => size.into(),
    };
    let header = cursor.byte()?;
    let data = match header {
        0x00..0x40 => cursor.skip(usize::from(header))?,
        0x40..0x80 => {
            let low = cursor.byte()?;
            cursor.skip(usize::from(header & 0x3f) << 8 | usize::from(low))?
        }
        0x80..0xc0 => {
            let len = u32::from_be_bytes(cursor.array()?);
            cursor.skip(len as usize)?
        }
        0xc0 => Data::Int(i16::from_le_bytes(cursor.array()?).into()),
        0xd0 => Data::Int(i32::from_le_bytes(cursor.array()?).into()),
        0xe0 => Data::Int(i64::from_le_bytes(cursor.array()?)),
        0xf0 => {
            let [low, middle, high] = cursor.array()?;
            Data::Int(i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8))
        }
        0xfe => Data::Int(i8::from_le_bytes(cursor.array()?).into()),
        0xf1..=0xfd => Data::Int(i64::from(header & 0xf) - 1),
        _ => return None,
    };
    Some(Entry { previous_size, data, end: cursor.at })
}

/// The fields and values of a zipmap, one pair after the other.
#[derive(Debug)]
pub(crate) struct Zipmap {
    blob: Vec<u8>,
    at: usize,
}

impl Zipmap {
    /// Takes a zipmap in which every size and the count are right, and which is not empty.
    pub(crate) fn new(blob: Vec<u8>) -> Option<Zipmap> {
        let [count, .., END] = *blob.as_slice() else { return None };
        let end = blob.len() - 1;
        let (mut at, mut seen) = (1, 0);
        while at < end {
            at = pair(&blob[..end], at)?.end;
            seen += 1;
        }
        // 254 and more are written as 254.
        (seen > 0 && (count == 254 || usize::from(count) == seen)).then_some(Zipmap { blob, at: 1 })
    }
}

impl Iterator for Zipmap {
    type Item = (Vec<u8>, Vec<u8>);

    fn next(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let pair = pair(&self.blob[..self.blob.len() - 1], self.at)?;
        self.at = pair.end;
        Some((self.blob[pair.field].to_vec(), self.blob[pair.value].to_vec()))
    }
}

struct Pair {
    field: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
    end: usize,
}

fn pair(entries: &[u8], at: usize) -> Option<Pair> {
    let mut cursor = Cursor { bytes: entries, at };
    let len = zipmap_len(&mut cursor)?;
    let from = cursor.at;
    cursor.skip(len)?;
    let field = from..cursor.at;
    let len = zipmap_len(&mut cursor)?;
    let spare = cursor.byte()?;
    let from = cursor.at;
    cursor.skip(len)?;
    let value = from..cursor.at;
    cursor.skip(spare.into())?;
    Some(Pair { field, value, end: cursor.at })
}

fn zipmap_len(cursor: &mut Cursor<'_>) -> Option<usize> {
    match cursor.byte()? {
        END => None,
        0xfe => Some(u32::from_le_bytes(cursor.array()?) as usize),
        len => Some(len.into()),
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(array)
    }

    fn skip(&mut self, len: usize) -> Option<Data> {
        let from = self.at;
        self.at = from.checked_add(len).filter(|end| *end <= self.bytes.len())?;
        Some(Data::Str { from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// "2" and "5", the example in Redis's own description of the format.
    const TWO_AND_FIVE: [u8; 15] = [15, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0xf3, 2, 0xf6, 0xff];

    #[test]
    fn small_ziplist() {
        let list = Ziplist::new(TWO_AND_FIVE.to_vec()).expect("well formed");
        assert!(list.is_paired());
        assert_eq!(list.collect::<Vec<_>>(), [b"2".to_vec(), b"5".to_vec()]);
    }

    #[test]
    fn every_integer_and_string_form() {
        let entries: [(&[u8], &[u8]); 9] = [
            (&[0xfe, 0x80], b"-128"),
            (&[0xc0, 0xff, 0x7f], b"32767"),
            (&[0xf0, 0xff, 0xff, 0xff], b"-1"),
            (&[0xd0, 0, 0, 0, 0x80], b"-2147483648"),
            (&[0xe0, 1, 0, 0, 0, 0, 0, 0, 0], b"1"),
            (&[0xf1], b"0"),
            (&[0xfd], b"12"),
            (&[0x40, 3, b'a', b'b', b'c'], b"abc"),
            (&[0x80, 0, 0, 0, 2, b'd', b'e'], b"de"),
        ];
        let mut blob = vec![0; ZIPLIST_HEADER];
        let (mut previous, mut last) = (0, 0);
        for (bytes, _) in entries {
            last = blob.len();
            blob.push(previous);
            blob.extend_from_slice(bytes);
            previous = (bytes.len() + 1) as u8;
        }
        blob.push(END);
        let len = (blob.len() as u32).to_le_bytes();
        blob[..4].copy_from_slice(&len);
        blob[4..8].copy_from_slice(&(last as u32).to_le_bytes());
        blob[8..10].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        let list = Ziplist::new(blob).expect("well formed");
        assert!(!list.is_paired());
        assert_eq!(list.collect::<Vec<_>>(), entries.map(|(_, text)| text.to_vec()));
    }

    #[test]
    fn zipmap_with_spare_bytes() {
        let map = Zipmap::new(b"\x02\x03foo\x03\x02bar..\x00\x05\x00world\xff".to_vec()).expect("well formed");
        let pairs = [(b"foo".to_vec(), b"bar".to_vec()), (b"".to_vec(), b"world".to_vec())];
        assert_eq!(map.collect::<Vec<_>>(), pairs);
        for wrong in ["", "\x00", "\x01\x03foo\x03\x00bar"] {
            assert!(Zipmap::new(wrong.as_bytes().to_vec()).is_none());
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(mut blob in proptest::collection::vec(any::<u8>(), 0..200), fix in any::<bool>()) {
            let len = (blob.len() as u32).to_le_bytes();
            if fix && let [a, b, c, d, .., last] = blob.as_mut_slice() {
                [*a, *b, *c, *d] = len;
                *last = END;
            }
            if let Some(list) = Ziplist::new(blob.clone()) {
                list.is_paired();
                prop_assert!(list.count() <= blob.len());
            }
            if let Some(map) = Zipmap::new(blob.clone()) {
                prop_assert!(map.count() <= blob.len());
            }
        }

        #[test]
        fn damaged_ziplists_never_panic(at in 0usize..15, byte in any::<u8>()) {
            let mut blob = TWO_AND_FIVE.to_vec();
            blob[at] = byte;
            if let Some(list) = Ziplist::new(blob) {
                prop_assert!(list.count() <= 15);
            }
        }
    }
}
