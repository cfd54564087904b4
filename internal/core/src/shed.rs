//! A shed: its keeper, which is the only task that changes it, what operations do, and what is shown of it.

pub(crate) mod clone;
pub(crate) mod creation;
pub(crate) mod credential_relay;
pub(crate) mod disk_query;
pub(crate) mod engine_watch;
pub(crate) mod entered;
pub(crate) mod handle;
pub(crate) mod keeper;
pub(crate) mod mounts;
pub(crate) mod operations;
pub(crate) mod registry;
pub(crate) mod spec;
pub(crate) mod view;
