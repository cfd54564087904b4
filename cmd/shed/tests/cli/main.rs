//! The client program against a server in this process, on the process engine.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod attach;
mod clones;
mod copies;
mod exec;
mod files;
mod many;
mod output;
mod reconnect;
mod run;
mod servers;
mod sessions;
mod sheds;
mod snapshots;
mod support;
mod trees;
mod workers;
