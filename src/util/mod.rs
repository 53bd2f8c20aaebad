//! What every layer uses: the clock, the locks, the random source, patterns and quoting.
pub mod clock;
pub mod glob;
pub mod quote;
pub mod rng;
pub mod sync;
