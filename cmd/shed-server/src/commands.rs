//! Commands that work whether or not the server runs, one file each.

pub(crate) mod adopt;
pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod firewall;
pub(crate) mod keys;
pub(crate) mod man;
pub(crate) mod restore;
pub(crate) mod tokens;
