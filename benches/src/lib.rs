//! Criterion benches live in `benches/`; `compare/` holds the runs against other servers.
