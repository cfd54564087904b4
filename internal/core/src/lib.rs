//! shed-core.
