//! shed-api.
