//! What a check prints: lines on standard output and, on a terminal, a bar on standard error that shows how far it is.

use std::fmt;
use std::io::{self, BufRead, Write};

/// Cells of the bar.
const CELLS: u64 = 40;

/// Where a check prints and asks.
pub(super) struct Console<'a> {
    out: &'a mut dyn Write,
    input: &'a mut dyn BufRead,
    bar: Option<Bar>,
}

#[derive(Default)]
struct Bar {
    total_bytes: u64,
    /// The offset at which it is drawn again.
    next: u64,
    is_drawn: bool,
}

impl<'a> Console<'a> {
    /// Prints to `out` and asks `input`; `has_bar` says that somebody looks at standard error.
    pub(super) fn new(out: &'a mut dyn Write, input: &'a mut dyn BufRead, has_bar: bool) -> Self {
        Console { out, input, bar: has_bar.then(Bar::default) }
    }

    /// Prints a line.
    pub(super) fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        self.wipe();
        writeln!(self.out, "{text}")
    }

    /// Prints a line of any bytes.
    pub(super) fn bytes(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.wipe();
        parts.iter().try_for_each(|part| self.out.write_all(part))?;
        self.out.write_all(b"\n")
    }

    /// Whether the answer to a question begins with y.
    pub(super) fn agrees(&mut self, question: &str) -> io::Result<bool> {
        self.wipe();
        write!(self.out, "{question}")?;
        self.out.flush()?;
        let mut answer = String::new();
        self.input.read_line(&mut answer)?;
        Ok(answer.starts_with(['y', 'Y']))
    }

    /// A file of so many bytes is read next.
    pub(super) fn begin(&mut self, total_bytes: u64) {
        self.wipe();
        if let Some(bar) = &mut self.bar {
            (bar.total_bytes, bar.next) = (total_bytes, step(total_bytes));
        }
    }

    /// So many bytes of it have been read.
    pub(super) fn progress(&mut self, offset: u64) {
        let Some(bar) = &mut self.bar else { return };
        if offset < bar.next {
            return;
        }
        bar.next = offset + step(bar.total_bytes);
        bar.is_drawn = true;
        let share = |whole: u64| offset.saturating_mul(whole).checked_div(bar.total_bytes).unwrap_or(whole).min(whole);
        let filled = share(CELLS) as usize;
        let (done, left) = ("#".repeat(filled), ".".repeat(CELLS as usize - filled));
        eprint!("\r[{done}{left}] {:3}% of {} MB", share(100), bar.total_bytes >> 20);
    }

    /// Takes the bar away before something else is printed.
    pub(super) fn wipe(&mut self) {
        if let Some(bar) = self.bar.as_mut().filter(|bar| bar.is_drawn) {
            bar.is_drawn = false;
            eprint!("\r{:70}\r", "");
        }
    }
}

/// Bytes between two drawings.
fn step(total_bytes: u64) -> u64 {
    (total_bytes / 200).max(1 << 20)
}
