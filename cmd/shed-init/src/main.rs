//! shed-init.

fn main() {}
