//! `shed-init sftp` as its clients see it: the real OpenSSH client, and packets no good client would send.
#![cfg(test)]

mod files;
mod names;
mod openssh;
mod protocol;
mod raw;
