//! Which sessions may run, and when.

pub(crate) mod admission;
