//! shed-store.
