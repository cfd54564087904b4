//! shed-server.

fn main() {}
