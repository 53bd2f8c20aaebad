//! The wire: requests in, replies out. Pure functions of bytes.
pub mod output;
pub mod reply;
pub mod request;
