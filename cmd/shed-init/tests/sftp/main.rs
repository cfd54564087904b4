//! `shed-init sftp` with the real OpenSSH client, and with packets that no correct client sends.
#![cfg(test)]

mod files;
mod names;
mod openssh;
mod protocol;
mod raw;
