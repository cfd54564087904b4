//! The handlers, one file per noun. Each checks nothing: it reads the request, calls the App and words the answer.

pub(crate) mod access;
pub(crate) mod docs;
pub(crate) mod exec;
pub(crate) mod health;
pub(crate) mod previews;
pub(crate) mod sessions;
pub(crate) mod sheds;
pub(crate) mod streams;
pub(crate) mod worker_ws;
