//! The fuzzer's bytes as a row of choices.

/// Choices made by the bytes of an input; when they are used up, always the first.
pub struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Choices { bytes }
    }

    /// Whether every byte is used up.
    pub fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.bytes {
            [first, rest @ ..] => {
                self.bytes = rest;
                *first
            }
            [] => 0,
        }
    }

    /// A number below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        let wide = if count > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (wide | usize::from(self.byte())) % count
    }

    /// True in about `times` of 256 cases.
    pub fn chance(&mut self, times: u8) -> bool {
        self.byte() > 255 - times
    }

    pub fn one_of<'c, T: ?Sized>(&mut self, all: &[&'c T]) -> &'c T {
        all[self.below(all.len())]
    }

    pub fn one_index(&mut self, all: &[usize]) -> usize {
        all[self.below(all.len())]
    }

    /// Up to `most` bytes as they are.
    pub fn raw(&mut self, most: usize) -> &'a [u8] {
        let len = self.below(most + 1).min(self.bytes.len());
        let (raw, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        raw
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }
}
