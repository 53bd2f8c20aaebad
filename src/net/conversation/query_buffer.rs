//! What a client has sent and the server has not run yet: an unfinished command, or what follows one that waits. Redis calls
//! it the query buffer.

/// Bytes in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct QueryBuffer {
    bytes: Vec<u8>,
    /// So many of them, at the beginning, have been run. They are removed when they are as many as the others: a client that
    /// sends many commands at once, each of which waits, has each byte moved at most once.
    done: usize,
    /// Bytes that were ever moved to the beginning.
    #[cfg(test)]
    pub(super) moved_bytes: usize,
}

impl QueryBuffer {
    /// The bytes that have not been run.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.done
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are allocated.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends what has come.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes room for `len` more bytes and, where it is known how long the command under way will be, for `wanted` bytes of
    /// it, up to a limit: a client that announces much has not sent it yet.
    pub(super) fn make_room(&mut self, len: usize, wanted: usize) {
        let wanted = wanted.min((2 * self.len()).max(GROW_AT_ONCE));
        let room = wanted.saturating_sub(self.len());
        if room > len {
            self.bytes.reserve_exact(room);
        }
    }

    /// So many bytes of [`QueryBuffer::unread`] have been run.
    pub(super) fn consume(&mut self, len: usize) {
        self.done += len.min(self.len());
        if self.is_empty() {
            self.bytes.clear();
            self.done = 0;
            // The next command may be as long; the cron has the room given back if it is not needed.
            if self.bytes.capacity() > GROW_AT_ONCE {
                self.bytes = Vec::new();
            }
        } else if self.done >= self.len() {
            self.remove_done();
        }
    }

    /// Gives back what is allocated beyond the bytes that have not been run.
    pub(super) fn shrink(&mut self) {
        self.remove_done();
        self.bytes.shrink_to_fit();
    }

    fn remove_done(&mut self) {
        #[cfg(test)]
        {
            self.moved_bytes += if self.done > 0 { self.len() } else { 0 };
        }
        self.bytes.drain(..self.done);
        self.done = 0;
    }
}

/// Most room made for an announced argument before its bytes have come.
const GROW_AT_ONCE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_moved_at_most_once() {
        let mut buffer = QueryBuffer::default();
        let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        buffer.extend(&sent);
        let mut run = 0;
        while !buffer.is_empty() {
            assert_eq!(buffer.unread(), &sent[run..]);
            buffer.consume(10);
            run += 10;
        }
        assert!(buffer.moved_bytes <= sent.len(), "{}", buffer.moved_bytes);
    }

    #[test]
    fn what_has_been_run_takes_no_more_than_what_has_not() {
        let mut buffer = QueryBuffer::default();
        for _ in 0..1000 {
            buffer.extend(&[7; 1000]);
            buffer.consume(999);
            assert!(buffer.bytes.len() <= 2 * buffer.len() + 1000);
        }
        buffer.shrink();
        assert_eq!((buffer.len(), buffer.capacity()), (1000, 1000));
        buffer.consume(usize::MAX);
        assert_eq!((buffer.len(), buffer.unread()), (0, &[][..]));
    }
}
