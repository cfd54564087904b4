//! shed-testing.
