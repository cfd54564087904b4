//! shed-link.
