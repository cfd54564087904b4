//! Who may do what: scopes, actors, SSH keys and API tokens.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::name::ShedName;

/// What a key or token may do. Each scope contains the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// See sheds, sessions, output and events; attach read-only.
    Read,
    /// Also use sheds: attach, type, run commands as `dev`, forward ports; make, start, stop and delete sheds and sessions.
    Drive,
    /// Also what reaches beyond a shed's `dev`: root in a shed, mounts of the host, keys and tokens.
    Admin,
}

impl Scope {
    /// The word used on the command line and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Drive => "drive",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        match given {
            "read" => Ok(Self::Read),
            "drive" => Ok(Self::Drive),
            "admin" => Ok(Self::Admin),
            _ => Err(format!("{given:?} is no scope: use read, drive or admin")),
        }
    }
}

/// Who caused an event. Shown as `kind:name`; the name was chosen by an admin or is a checked shed name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A process on the server's unix socket, by its user name or number.
    Local(String),
    /// An SSH key, by the name it was added under.
    Key(String),
    /// An API token, by its name.
    Token(String),
    /// The inside of a shed: something done by hand there.
    Shed(ShedName),
    /// The server itself: reconciliation, restarts.
    Server,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(user) => write!(f, "local:{user}"),
            Self::Key(name) => write!(f, "key:{name}"),
            Self::Token(name) => write!(f, "token:{name}"),
            Self::Shed(name) => write!(f, "shed:{name}"),
            Self::Server => f.write_str("server"),
        }
    }
}

/// An SSH public key that may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Key {
    /// Stable id, for `DELETE /api/keys/{id}`.
    pub id: String,
    /// The name it was added under; unique among the keys of a server.
    pub name: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// Algorithm and base64, without comment.
    pub public_key: String,
    /// What its holder may do.
    pub scope: Scope,
    /// The only sheds it may see; empty means all.
    #[serde(default)]
    pub sheds: Vec<String>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// Its last successful login, at most a minute stale.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// `POST /api/keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// A name for people, at most 100 characters.
    pub name: String,
    /// One line as in `id_ed25519.pub`; the comment is dropped.
    pub public_key: String,
    /// What its holder may do.
    pub scope: Scope,
    /// The only sheds it may see; empty or absent means all.
    #[serde(default)]
    pub sheds: Vec<String>,
}

/// An API token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    /// Stable id, for `DELETE /api/tokens/{id}`.
    pub id: String,
    /// The name it was made under.
    pub name: String,
    /// What its holder may do.
    pub scope: Scope,
    /// The only sheds it may see; empty means all.
    #[serde(default)]
    pub sheds: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// After this moment it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// Its last successful use, at most a minute stale.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// `POST /api/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// A name for people, at most 100 characters.
    pub name: String,
    /// What its holder may do.
    pub scope: Scope,
    /// The only sheds it may see; empty or absent means all.
    #[serde(default)]
    pub sheds: Vec<String>,
    /// Seconds until it expires; absent means never.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
}

/// The answer to `POST /api/tokens`: the only time the secret is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssuedToken {
    /// Stable id, for `DELETE /api/tokens/{id}`.
    pub id: String,
    /// The secret, for `Authorization: Bearer …`. Only its hash is stored.
    pub token: String,
    /// When it expires.
    pub expires_at: Option<DateTime<Utc>>,
}

/// `GET /api/keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyList {
    /// Sorted by name.
    pub keys: Vec<Key>,
}

/// `GET /api/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenList {
    /// Sorted by name.
    pub tokens: Vec<Token>,
}
