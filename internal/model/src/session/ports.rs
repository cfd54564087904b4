//! Port numbers reserved for each session.

use std::collections::BTreeSet;

/// The first port of the first block.
pub const FIRST_PORT: u16 = 20_000;
/// How many ports a block has.
pub const PORTS: u16 = 10;
/// How many blocks a shed has; further sessions get none.
pub const PORT_BLOCKS: u16 = 1_000;

/// The first port of a block.
pub fn port(block: u16) -> u16 {
    FIRST_PORT + block * PORTS
}

/// The first block that is not taken; `None` when all are.
pub fn free_block(taken: &BTreeSet<u16>) -> Option<u16> {
    (0..PORT_BLOCKS).find(|block| !taken.contains(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_block_is_taken() {
        assert_eq!(free_block(&BTreeSet::from([0, 2])), Some(1));
        assert_eq!(free_block(&(0..PORT_BLOCKS).collect()), None);
        assert_eq!(port(PORT_BLOCKS - 1), 29_990);
    }

    #[test]
    fn blocks_follow_each_other() {
        assert_eq!((port(0), port(1), port(2)), (20_000, 20_010, 20_020));
        assert_eq!(free_block(&BTreeSet::new()), Some(0));
        assert_eq!(free_block(&(0..PORT_BLOCKS - 1).collect()), Some(999));
    }
}
