//! Elements of a table whose hashes are so alike that splitting does not part them: in order of hash and key.
//!
//! A sorted sequence in chunks of at most [`CHUNK`] elements. Complexity: O(log n) comparisons to find one, and moving a
//! chunk and now and then the list of chunks to insert or remove one, however equal the hashes are.
//!
//! Invariant: no chunk is empty.

use super::Keyed;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Overflow<T> {
    chunks: Vec<Vec<Record<T>>>,
    len: usize,
}

#[derive(Debug)]
struct Record<T> {
    hash: u64,
    element: T,
}

/// A chunk, and a position in it.
pub(super) type Spot = (usize, usize);

const CHUNK: usize = 128;

impl<T: Keyed> Overflow<T> {
    pub(super) fn new() -> Self {
        Overflow { chunks: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Record<T>>()).sum();
        size_of::<Self>() + self.chunks.capacity() * size_of::<Vec<Record<T>>>() + chunks
    }

    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<Spot> {
        self.search(hash, key).ok()
    }

    pub(super) fn at(&self, (chunk, idx): Spot) -> &T {
        &self.chunks[chunk][idx].element
    }

    pub(super) fn at_mut(&mut self, (chunk, idx): Spot) -> &mut T {
        &mut self.chunks[chunk][idx].element
    }

    /// Adds an element that is not there yet; where it is then.
    pub(super) fn insert(&mut self, hash: u64, element: T) -> Spot {
        let (Ok((mut chunk, mut idx)) | Err((mut chunk, mut idx))) = self.search(hash, element.key());
        if self.chunks.is_empty() {
            self.chunks.push(Vec::new());
        }
        if self.chunks[chunk].len() == CHUNK {
            let upper = self.chunks[chunk].split_off(CHUNK / 2);
            self.chunks.insert(chunk + 1, upper);
            if idx > CHUNK / 2 {
                (chunk, idx) = (chunk + 1, idx - CHUNK / 2);
            }
        }
        self.chunks[chunk].insert(idx, Record { hash, element });
        self.len += 1;
        (chunk, idx)
    }

    pub(super) fn remove(&mut self, (chunk, idx): Spot) -> T {
        self.len -= 1;
        let removed = self.chunks[chunk].remove(idx);
        self.join(chunk);
        if chunk > 0 {
            self.join(chunk - 1);
        }
        removed.element
    }

    /// The `nth` in order.
    pub(super) fn nth(&self, mut nth: usize) -> Option<&T> {
        for chunk in &self.chunks {
            if nth < chunk.len() {
                return Some(&chunk[nth].element);
            }
            nth -= chunk.len();
        }
        None
    }

    /// All of them with their hashes, from this hash on.
    pub(super) fn starting_at(&self, hash: u64) -> impl Iterator<Item = (u64, &T)> {
        let (chunk, idx) = self.first_of(hash);
        let records = self.chunks[chunk.min(self.chunks.len())..].iter().flatten().skip(idx);
        records.map(|record| (record.hash, &record.element))
    }

    /// The same, to change them.
    pub(super) fn starting_at_mut(&mut self, hash: u64) -> impl Iterator<Item = (u64, &mut T)> {
        let (chunk, idx) = self.first_of(hash);
        let chunk = chunk.min(self.chunks.len());
        let records = self.chunks[chunk..].iter_mut().flatten().skip(idx);
        records.map(|record| (record.hash, &mut record.element))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().map(|record| &record.element)
    }

    pub(super) fn into_elements(self) -> impl Iterator<Item = T> {
        self.chunks.into_iter().flatten().map(|record| record.element)
    }

    /// Where an element is, or where it would be inserted.
    fn search(&self, hash: u64, key: &[u8]) -> Result<Spot, Spot> {
        let place = |record: &Record<T>| record.hash.cmp(&hash).then_with(|| record.element.key().cmp(key));
        let behind = self.chunks.partition_point(|chunk| place(&chunk[0]).is_le());
        let chunk = behind.saturating_sub(1);
        let Some(records) = self.chunks.get(chunk) else { return Err((0, 0)) };
        match records.binary_search_by(place) {
            Ok(idx) => Ok((chunk, idx)),
            Err(idx) => Err((chunk, idx)),
        }
    }

    /// The first element that has this hash or a greater one.
    fn first_of(&self, hash: u64) -> Spot {
        let behind = self.chunks.partition_point(|chunk| chunk[0].hash < hash);
        let chunk = behind.saturating_sub(1);
        (chunk, self.chunks.get(chunk).map_or(0, |records| records.partition_point(|record| record.hash < hash)))
    }

    /// Drops a chunk if it is empty, and joins it with the next if both are of few elements.
    fn join(&mut self, chunk: usize) {
        if self.chunks[chunk].is_empty() {
            self.chunks.remove(chunk);
        } else if let Some(next) = self.chunks.get(chunk + 1)
            && self.chunks[chunk].len() + next.len() <= CHUNK / 2
        {
            let next = self.chunks.remove(chunk + 1);
            self.chunks[chunk].extend(next);
        }
    }
}
