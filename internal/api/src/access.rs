//! Access: scopes, actors, SSH keys and API tokens.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::name::ShedName;

words! {
    /// The permissions of a key or token. Each scope includes the ones before it: `read`, `drive`, `admin`.
    Scope "scope" {
        /// View sheds, sessions, output and events; attach read-only.
        Read = "read",
        /// Also use sheds: attach, type, run commands as `dev`, forward ports; create, start, stop and delete sheds and
        /// sessions.
        Drive = "drive",
        /// Also what reaches beyond a shed's `dev`: root in a shed, host mounts, keys and tokens.
        Admin = "admin",
    }
}

/// Who caused an event. Displayed as `kind:name`; the name was chosen by an admin or is a checked shed name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A process on the server's unix socket, by its user name, or its uid if it has none.
    Local(String),
    /// An SSH key, by its name.
    Key(String),
    /// An API token, by its name.
    Token(String),
    /// Something that happened inside a shed without a request to the server.
    Shed(ShedName),
    /// The server itself, for example a restart or a reconciliation.
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

/// An SSH public key that may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Key {
    /// Stable id, for `DELETE /api/keys/{id}`.
    pub id: String,
    /// Name of the key, unique among the keys of a server. Events show it as `key:NAME`.
    pub name: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// Algorithm and base64 key, without a comment: `ssh-ed25519 AAAA…`.
    pub public_key: String,
    /// The permissions of its owner.
    pub scope: Scope,
    /// Names of the only sheds the key may access; empty means all.
    #[serde(default)]
    pub sheds: Vec<String>,
    /// Time the key was added.
    pub created_at: DateTime<Utc>,
    /// Time of the last successful login, up to a minute late; absent if there was none.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// `POST /api/keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Name of the key, at most 100 characters, unique among the keys of a server.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,100}$")
    )]
    pub name: String,
    /// One line as in `id_ed25519.pub`; its comment is dropped.
    pub public_key: String,
    /// The permissions of its owner.
    pub scope: Scope,
    /// Names of the only sheds the key may access; empty or absent means all.
    #[serde(default)]
    pub sheds: Vec<String>,
}

/// An API token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Token {
    /// Stable id, for `DELETE /api/tokens/{id}`.
    pub id: String,
    /// Name of the token, unique among the tokens of a server. Events show it as `token:NAME`.
    pub name: String,
    /// The permissions of its owner.
    pub scope: Scope,
    /// Names of the only sheds the token may access; empty means all.
    #[serde(default)]
    pub sheds: Vec<String>,
    /// Time the token was created.
    pub created_at: DateTime<Utc>,
    /// Time from which the token is refused; absent if it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
    /// Time of the last successful use, up to a minute late; absent if there was none.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// `POST /api/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Name of the token, at most 100 characters, unique among the tokens of a server.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,100}$")
    )]
    pub name: String,
    /// The permissions of its owner.
    pub scope: Scope,
    /// Names of the only sheds the token may access; empty or absent means all.
    #[serde(default)]
    pub sheds: Vec<String>,
    /// Seconds until it expires; absent means never.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
}

/// The response to `POST /api/tokens`: the only time the secret is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssuedToken {
    /// Stable id, for `DELETE /api/tokens/{id}`.
    pub id: String,
    /// The secret, for the header `Authorization: Bearer …`. The server stores only its hash.
    pub token: String,
    /// Time from which the token is refused; absent if it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
}

/// `GET /api/keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyList {
    /// All keys, sorted by name.
    pub keys: Vec<Key>,
}

/// `GET /api/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenList {
    /// All tokens, sorted by name.
    pub tokens: Vec<Token>,
}
