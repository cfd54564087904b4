//! shed-ssh.
