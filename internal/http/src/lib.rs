//! shed-http.
