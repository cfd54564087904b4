//! shed-docker.
