//! The handlers, one file for each noun. A handler parses the request, calls the App and converts the result.

pub(crate) mod access;
pub(crate) mod docs;
pub(crate) mod exec;
pub(crate) mod health;
pub(crate) mod many;
pub(crate) mod previews;
pub(crate) mod sessions;
pub(crate) mod sheds;
pub(crate) mod streams;
pub(crate) mod tree;
pub(crate) mod worker_ws;
pub(crate) mod workers;
