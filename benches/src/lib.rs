//! What the criterion benches in `benches/` share; `compare/` holds the runs against other servers.

use criterion::Criterion;
use std::time::Duration;

/// Some seconds a bench: enough to see a change of a few per cent on a quiet machine.
pub fn criterion() -> Criterion {
    let short = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    short.sample_size(30).without_plots()
}
