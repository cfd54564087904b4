//! shed.

fn main() {}
