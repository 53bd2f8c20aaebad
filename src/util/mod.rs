//! What every layer uses: the clock, the locks, the random source, maps by number, patterns, quoting and texts.
pub mod clock;
pub mod glob;
pub mod id_map;
pub mod quote;
pub mod rng;
pub mod sync;
pub mod text;
