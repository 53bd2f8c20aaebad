//! Encoded bytes on their way to a client, in blocks: each is given back as soon as it is sent, so that a reader who is
//! never quite through has no more kept than it has yet to read, to within one block.

use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes waiting to be sent, in order.
#[derive(Debug, Default)]
pub struct Output {
    blocks: VecDeque<Block>,
    /// How many bytes of the first block are sent.
    sent: usize,
    /// Bytes not sent yet.
    len: usize,
    /// What the blocks take.
    memory: usize,
}

#[derive(Debug)]
enum Block {
    Own(Vec<u8>),
    /// A long message, which all who hear it share.
    Shared(Bytes),
}

/// Up to this length a block is added to. Source: Redis 7.2, whose blocks of replies are as long.
pub const BLOCK_BYTES: usize = 16 * 1024;
/// Room in a block that is not given back: asking for it back would cost more.
const SLACK_BYTES: usize = BLOCK_BYTES;
/// A block of which so much, and more than half, is sent is cut.
const CUT_BYTES: usize = 1 << 20;

impl Block {
    fn bytes(&self) -> &[u8] {
        match self {
            Block::Own(bytes) => bytes,
            Block::Shared(bytes) => bytes,
        }
    }

    fn memory(&self) -> usize {
        let room = match self {
            Block::Own(bytes) => bytes.capacity(),
            Block::Shared(bytes) => bytes.len(),
        };
        room + size_of::<Block>()
    }
}

impl Output {
    /// Bytes not sent yet.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it takes, in bytes; a shared block counts in full for each who has it, as in Redis, where each has its own.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The bytes to be sent next; empty when there are none.
    pub fn first(&self) -> &[u8] {
        self.blocks.front().map_or(&[], |block| &block.bytes()[self.sent..])
    }

    /// So many bytes of [`Output::first`] are sent.
    pub fn advance(&mut self, len: usize) {
        self.sent += len;
        self.len -= len;
        let Some(block) = self.blocks.front_mut() else { return };
        let whole = block.bytes().len();
        if self.sent == whole {
            self.memory -= block.memory();
            self.sent = 0;
            self.blocks.pop_front();
        } else if let Block::Own(bytes) = block
            && self.sent >= CUT_BYTES.max(whole / 2)
        {
            let before = bytes.capacity();
            bytes.drain(..std::mem::take(&mut self.sent));
            bytes.shrink_to_fit();
            self.memory -= before - bytes.capacity();
        }
    }

    /// Appends a copy of bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.blocks.back_mut() {
            Some(Block::Own(last)) if last.len() + bytes.len() <= BLOCK_BYTES => {
                let before = last.capacity();
                last.extend_from_slice(bytes);
                self.memory += last.capacity() - before;
                self.len += bytes.len();
            }
            _ => self.push_block(Block::Own(bytes.to_vec())),
        }
    }

    /// Appends bytes, taking them out of `bytes`, but not the first `from`, which are sent already. Few are copied; then
    /// `bytes` keeps its room.
    pub fn push_from(&mut self, bytes: &mut Vec<u8>, from: usize) {
        if bytes.len() - from <= BLOCK_BYTES {
            self.push(&bytes[from..]);
            bytes.clear();
            return;
        }
        let mut own = std::mem::take(bytes);
        let is_first = self.blocks.is_empty();
        if !is_first {
            own.drain(..from);
        }
        if own.capacity() - own.len() > SLACK_BYTES {
            own.shrink_to_fit();
        }
        self.push_block(Block::Own(own));
        if is_first {
            (self.sent, self.len) = (from, self.len - from);
        }
    }

    /// Appends a message that others get, too; one that is short is copied.
    pub fn push_shared(&mut self, bytes: &Bytes) {
        if bytes.len() <= BLOCK_BYTES {
            self.push(bytes);
        } else {
            self.push_block(Block::Shared(bytes.clone()));
        }
    }

    /// Appends what waits in another queue.
    pub fn append(&mut self, mut other: Output) {
        if self.blocks.is_empty() {
            *self = other;
            return;
        }
        if other.blocks.len() == 1 && other.len <= BLOCK_BYTES {
            return self.push(other.first());
        }
        if other.sent > 0 {
            let first = other.first().to_vec();
            other.advance(first.len());
            self.push(&first);
        }
        self.len += other.len;
        self.memory += other.memory;
        self.blocks.append(&mut other.blocks);
    }

    /// All of it in one piece.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        while !self.is_empty() {
            let piece = self.first();
            let len = piece.len();
            bytes.extend_from_slice(piece);
            self.advance(len);
        }
        bytes
    }

    /// Puts bytes before the last `after` ones, of which none is sent. O(blocks behind them).
    pub fn insert(&mut self, after: usize, bytes: Vec<u8>) {
        let (mut behind, mut idx) = (0, self.blocks.len());
        while behind < after && idx > 0 {
            idx -= 1;
            behind += self.blocks[idx].bytes().len();
        }
        self.len += bytes.len();
        if behind > after
            && let Some(Block::Own(block)) = self.blocks.get_mut(idx)
        {
            let (before, at) = (block.capacity(), behind - after);
            block.splice(at..at, bytes);
            self.memory += block.capacity() - before;
            return;
        }
        assert_eq!(behind, after, "what others sent does not stand within a reply");
        let block = Block::Own(bytes);
        self.memory += block.memory();
        self.blocks.insert(idx, block);
    }

    /// Takes the last `len` bytes away again.
    pub fn take_back(&mut self, len: usize) {
        let mut left = len.min(self.len);
        self.len -= left;
        while left > 0 {
            let Some(mut last) = self.blocks.pop_back() else { return };
            self.memory -= last.memory();
            let sent = if self.blocks.is_empty() { self.sent } else { 0 };
            let unsent = last.bytes().len() - sent;
            if unsent > left {
                match &mut last {
                    Block::Own(bytes) => bytes.truncate(bytes.len() - left),
                    Block::Shared(bytes) => bytes.truncate(bytes.len() - left),
                }
                self.memory += last.memory();
                self.blocks.push_back(last);
                return;
            }
            left -= unsent;
        }
        if self.blocks.is_empty() {
            self.sent = 0;
        }
    }

    fn push_block(&mut self, block: Block) {
        self.len += block.bytes().len();
        self.memory += block.memory();
        self.blocks.push_back(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    /// Any mix of appending, sending and taking back gives the bytes of a plain vector, and counts its memory.
    #[test]
    fn it_is_a_queue_of_bytes() {
        let mut rng = SmallRng::seed_from_u64(5);
        let (mut output, mut model) = (Output::default(), VecDeque::<u8>::new());
        for step in 0..20_000_u32 {
            let len = [3, 100, 5000, BLOCK_BYTES, BLOCK_BYTES + 1, 70_000][rng.random_range(0..6)];
            let bytes: Vec<u8> = (0..len).map(|idx| (step as usize + idx) as u8).collect();
            match rng.random_range(0..9) {
                0 => output.push(&bytes),
                1 => output.push_shared(&Bytes::from(bytes.clone())),
                2 => {
                    let from = rng.random_range(0..=len);
                    let mut own = bytes.clone();
                    output.push_from(&mut own, from);
                    model.extend(&bytes[from..]);
                    continue;
                }
                3 => {
                    let mut other = Output::default();
                    other.push(&bytes);
                    other.push_from(&mut bytes.clone(), 0);
                    other.advance(other.first().len().min(2));
                    output.append(other);
                    model.extend(bytes[2..].iter().chain(&bytes));
                    continue;
                }
                4 => {
                    output.take_back(len);
                    model.truncate(model.len() - len.min(model.len()));
                    continue;
                }
                _ => {
                    let sent = rng.random_range(0..=output.first().len());
                    assert!(output.first()[..sent].iter().eq(model.range(..sent)));
                    output.advance(sent);
                    model.drain(..sent);
                    assert_eq!(output.memory(), output.blocks.iter().map(Block::memory).sum::<usize>());
                    assert_eq!((output.len(), output.is_empty()), (model.len(), output.first().is_empty()));
                    continue;
                }
            }
            model.extend(&bytes);
        }
        output.take_back(usize::MAX);
        assert_eq!((output.len(), output.memory()), (0, 0));
    }

    #[test]
    fn who_is_a_little_behind_has_little_kept() {
        let mut output = Output::default();
        for _ in 0..10_000 {
            output.push(&[7; 10_000]);
            while output.len() > 100_000 {
                output.advance(output.first().len().min(3000));
            }
            assert!(output.memory() < 100_000 + 3 * BLOCK_BYTES, "{}", output.memory());
        }
        // One long reply: cut as it is read.
        output.push_from(&mut vec![7; 100 << 20], 0);
        while output.len() > 10 << 20 {
            output.advance(output.first().len().min(60_000));
        }
        assert!(output.memory() <= 21 << 20, "{}", output.memory());
    }
}
