//! Who asks, and what they may do.

pub(crate) mod keys;

use shed_model::Rejection;
use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use shed_api::{Actor, Scope, ShedName};

use crate::Error;

/// The beginning of every token, by which scanners for leaked secrets recognize one.
pub const TOKEN_PREFIX: &str = "shed_";

/// An authenticated caller. Created by a door from the verified credential, checked by every call of [`crate::App`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Recorded in the events of what they do.
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

    /// Whether they may see a shed. A shed that they may not see does not exist for them.
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

    /// Passes if they may do this with this shed. One that they may not see is not found.
    pub fn may_with(&self, shed: &ShedName, needed: Scope, what: &str) -> Result<(), Error> {
        if !self.sees(shed.as_str()) {
            return Err(Error::NoShed(shed.clone()));
        }
        self.may(needed, what)
    }

    /// Passes if their scope reaches `needed` and their credential is for all sheds.
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

/// Who asks, about which shed, and to do what. A service makes one for each call; what it calls takes it as one value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) person: &'a Person,
    pub(crate) shed: &'a ShedName,
    /// The scope that the action takes.
    pub(crate) needs: Scope,
    /// The first words of a refusal, as in "to delete a session".
    pub(crate) action: &'static str,
}

impl<'a> Caller<'a> {
    /// Somebody who wants to see something of a shed.
    pub(crate) fn read(person: &'a Person, shed: &'a ShedName, action: &'static str) -> Self {
        Self { person, shed, needs: Scope::Read, action }
    }

    /// Somebody who wants to change something in a shed.
    pub(crate) fn drive(person: &'a Person, shed: &'a ShedName, action: &'static str) -> Self {
        Self { person, shed, needs: Scope::Drive, action }
    }

    /// Passes if they may.
    pub(crate) fn authorize(&self) -> Result<(), Error> {
        self.person.may_with(self.shed, self.needs, self.action)
    }

    /// What goes into the events of what they do.
    pub(crate) fn actor(&self) -> Actor {
        self.person.actor.clone()
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
