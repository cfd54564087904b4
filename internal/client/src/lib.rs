//! shed-client.
