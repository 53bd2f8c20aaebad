//! What broke for users of other servers that speak Redis's protocol, case by case. The numbers are those of the list that
//! this project keeps of such reports; every test names the kind of report it comes from. What needs real clients is in
//! `conformance/` (its README says where).

#[path = "../common/mod.rs"]
mod common;

mod blocking;
mod operations;
mod scripts;
mod streams;

use common::{Client, config, start_with};
use redstart::config::Config;
use redstart::run::start::Running;

/// A server with two workers, where what two workers could break shows.
fn server() -> (Running, Client) {
    let running = start_with(Config { io_threads: 2, ..config() });
    let client = Client::connect(&running);
    (running, client)
}

/// Asserts a reply, as [`common::Reply`] is displayed.
#[track_caller]
fn check(client: &mut Client, command: &[&str], reply: &str) {
    assert_eq!(client.call(command).to_string(), reply, "{command:?}");
}

/// Asserts that a reply is an error that begins so.
#[track_caller]
fn refused(client: &mut Client, command: &[&str], error: &str) {
    let reply = client.call(command).to_string();
    assert!(reply.starts_with(&format!("-{error}")), "{command:?}: {reply}");
}
