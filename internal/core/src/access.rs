//! Who asks, and what they may. Pure but for the secrets' hash.

use shed_model::Rejection;
use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use shed_api::{Actor, Scope, ShedName};

use crate::Error;

/// The beginning of every token, so that scanners for leaked secrets know one when they see it.
pub const TOKEN_PREFIX: &str = "shed_";

/// Somebody with a credential. Made by the doors from what the caller proved, checked by every call of [`crate::App`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Goes into every event.
    pub actor: Actor,
    /// What they may do.
    pub scope: Scope,
    /// The only sheds they may see; `None` means all.
    pub sheds: Option<BTreeSet<String>>,
    /// Their user on the server's host, if they came over the unix socket.
    pub local_uid: Option<u32>,
}

impl Person {
    /// The owner of the server's unix socket.
    pub fn local(user: String, uid: u32) -> Self {
        Self { actor: Actor::Local(user), scope: Scope::Admin, sheds: None, local_uid: Some(uid) }
    }

    /// The holder of a key or token.
    pub fn holder(actor: Actor, scope: Scope, sheds: Vec<String>) -> Self {
        let sheds = (!sheds.is_empty()).then(|| sheds.into_iter().collect());
        Self { actor, scope, sheds, local_uid: None }
    }

    /// Whether they may see a shed. One they may not see does not exist for them.
    pub fn sees(&self, shed: &str) -> bool {
        self.sheds.as_ref().is_none_or(|sheds| sheds.contains(shed))
    }

    /// Passes if their scope reaches `needed`.
    pub fn may(&self, needed: Scope, what: &str) -> Result<(), Error> {
        if self.scope >= needed {
            return Ok(());
        }
        Err(Error::Rejected(Rejection::Forbidden(format!(
            "{what} needs scope {needed}; yours is {}",
            self.scope
        ))))
    }

    /// Passes if they may do this with this shed. A shed they may not see is no shed.
    pub fn may_with(&self, shed: &ShedName, needed: Scope, what: &str) -> Result<(), Error> {
        if !self.sees(shed.as_str()) {
            return Err(Error::NoShed(shed.clone()));
        }
        self.may(needed, what)
    }

    /// Passes if what they ask concerns the whole server and they are not confined to some sheds.
    pub fn may_server(&self, needed: Scope, what: &str) -> Result<(), Error> {
        self.may(needed, what)?;
        if self.sheds.is_some() {
            return Err(Error::Rejected(Rejection::Forbidden(format!(
                "{what} needs a credential for all sheds"
            ))));
        }
        Ok(())
    }
}

/// What is stored of a token's secret.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(scope: Scope, sheds: &[&str]) -> Person {
        let sheds = sheds.iter().map(|name| (*name).to_owned()).collect();
        Person::holder(Actor::Token("t".to_owned()), scope, sheds)
    }

    #[test]
    fn a_scope_contains_the_ones_before_it() {
        let scopes = [Scope::Read, Scope::Drive, Scope::Admin];
        for (held, mine) in scopes.iter().enumerate() {
            for (asked, needed) in scopes.iter().enumerate() {
                assert_eq!(person(*mine, &[]).may(*needed, "x").is_ok(), held >= asked);
            }
        }
    }

    #[test]
    fn a_shed_outside_the_list_does_not_exist() {
        let reader = person(Scope::Admin, &["a"]);
        let (a, b): (ShedName, ShedName) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert!(reader.may_with(&a, Scope::Admin, "x").is_ok());
        assert!(matches!(reader.may_with(&b, Scope::Read, "x"), Err(Error::NoShed(_))));
        assert!(matches!(
            reader.may_server(Scope::Admin, "x"),
            Err(Error::Rejected(Rejection::Forbidden(_)))
        ));
    }
}
