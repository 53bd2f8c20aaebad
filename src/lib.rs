//! Redstart: a Redis-protocol server.
