//! Problems: errors in a form that programs can match on and people can act on (RFC 9457).

use serde::{Deserialize, Serialize};

/// The media type of a problem over HTTP.
pub const PROBLEM_JSON: &str = "application/problem+json";

// `tt` for the word, as in `words!`.
macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $word:tt, $http:literal, $exit:ident;)*) => {
        /// Stable code of a kind of problem. `/api/docs` and `docs/API.md` describe each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum Code {
            $($(#[doc = $doc])* #[serde(rename = $word)] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The value of `code` and the end of `type`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What the code means, for people.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii(),)* }
            }

            /// The HTTP status of a response with this problem.
            pub fn http_status(self) -> u16 {
                match self { $(Self::$variant => $http,)* }
            }

            /// The exit status of a command that ended with this problem.
            pub fn exit_status(self) -> u8 {
                match self { $(Self::$variant => exit::$exit,)* }
            }
        }
    };
}

/// Exit statuses of the client, for scripts. `exec`, `attach` and `console` pass the remote command's status on instead.
pub mod exit {
    /// Everything requested was done, or was already so.
    pub const OK: u8 = 0;
    /// The operation failed.
    pub const FAILED: u8 = 1;
    /// The arguments or the request are invalid.
    pub const USAGE: u8 = 2;
    /// A named object does not exist.
    pub const NOT_FOUND: u8 = 3;
    /// An object exists already, or its state or another operation excludes the request.
    pub const CONFLICT: u8 = 4;
    /// A server, an engine or a shed could not be reached.
    pub const UNREACHABLE: u8 = 5;
    /// The key or token does not allow the request.
    pub const DENIED: u8 = 6;
}

codes! {
    /// The request is invalid: an unknown field, a wrong type or a value out of range.
    InvalidRequest = "invalid-request", 400, USAGE;
    /// A shed, session or worker name does not match its pattern.
    InvalidName = "invalid-name", 400, USAGE;
    /// The token is missing, unknown or expired.
    Unauthorized = "unauthorized", 401, DENIED;
    /// The scope or the shed list of the key or token does not allow the request.
    Forbidden = "forbidden", 403, DENIED;
    /// The Host or Origin of the request is not this server.
    HostNotAllowed = "host-not-allowed", 403, DENIED;
    /// No route has this path.
    RouteNotFound = "route-not-found", 404, NOT_FOUND;
    /// No shed has this name.
    ShedNotFound = "shed-not-found", 404, NOT_FOUND;
    /// No session of the shed has this name or id.
    SessionNotFound = "session-not-found", 404, NOT_FOUND;
    /// No worker of the session has this name or id.
    WorkerNotFound = "worker-not-found", 404, NOT_FOUND;
    /// No image has this name, neither locally nor at its registry.
    ImageNotFound = "image-not-found", 404, NOT_FOUND;
    /// No key, token or other object has this id.
    NotFound = "not-found", 404, NOT_FOUND;
    /// The route exists, but not with this method.
    MethodNotAllowed = "method-not-allowed", 405, USAGE;
    /// A shed with this name exists already.
    ShedExists = "shed-exists", 409, CONFLICT;
    /// A session with this name exists already in the shed.
    SessionExists = "session-exists", 409, CONFLICT;
    /// An existing container, volume, key or other object conflicts with the request.
    Conflict = "conflict", 409, CONFLICT;
    /// A worker with this name exists already in the session.
    WorkerExists = "worker-exists", 409, CONFLICT;
    /// Uncommitted files or unpushed commits would be lost.
    WorkWouldBeLost = "work-would-be-lost", 409, CONFLICT;
    /// A git command failed.
    GitFailed = "git-failed", 422, FAILED;
    /// The kernel or the container engine does not support confined processes.
    ConfineUnavailable = "confine-unavailable", 409, CONFLICT;
    /// The current status of the shed or session, or a running operation, excludes the request.
    Busy = "busy", 409, CONFLICT;
    /// The shed is stopped or paused, but must run for this request.
    NotRunning = "not-running", 409, CONFLICT;
    /// A body, a line or a list exceeds its limit.
    TooLarge = "too-large", 413, USAGE;
    /// The route is a WebSocket, and the request does not ask for one.
    UpgradeRequired = "upgrade-required", 426, USAGE;
    /// Too many requests or connections.
    RateLimited = "rate-limited", 429, FAILED;
    /// The repository could not be cloned.
    CloneFailed = "clone-failed", 502, FAILED;
    /// The container engine reported an error.
    EngineFailed = "engine-failed", 502, FAILED;
    /// The container engine does not answer.
    EngineUnreachable = "engine-unreachable", 503, UNREACHABLE;
    /// The shed runs, but its shed-init does not answer.
    ShedUnreachable = "shed-unreachable", 503, UNREACHABLE;
    /// The shed's image has no tmux.
    TmuxNotAvailable = "tmux-not-available", 503, FAILED;
    /// The shed could not be started.
    StartFailed = "start-failed", 503, FAILED;
    /// The server is shutting down; try again later.
    ShuttingDown = "shutting-down", 503, UNREACHABLE;
    /// The operation exceeded its time limit.
    TimedOut = "timed-out", 504, FAILED;
    /// A program in the shed could not be started: not found, no permission, or no such directory.
    ExecFailed = "exec-failed", 422, FAILED;
    /// Nothing in the shed listens at the address.
    ConnectFailed = "connect-failed", 502, UNREACHABLE;
    /// A disk is full.
    DiskFull = "disk-full", 507, FAILED;
    /// Internal error; see the server's log, under the request id.
    Internal = "internal", 500, FAILED;
}

/// An error response (RFC 9457), with the media type `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// URI reference that identifies the kind of problem: `/api/docs#CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem for people: the code with spaces.
    pub title: String,
    /// The HTTP status of the response.
    pub status: u16,
    /// The kind of problem for programs.
    pub code: Code,
    /// What is wrong in this case and why, for people: lower case, no full stop.
    pub detail: String,
    /// How to fix it: a command to paste, or one sentence. Absent when there is nothing to suggest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The exit status that a shell gives a command that cannot be started: 127 if it does not exist, 126 if it cannot be
    /// executed. Only for code `exec-failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<u8>,
    /// Id of the request in the server's log, as in the header `x-request-id`. Absent in streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/api/docs#{}", code.as_str()),
            title: code.as_str().replace('-', " "),
            status: code.http_status(),
            code,
            detail: detail.into(),
            hint: None,
            exit_status: None,
            request_id: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_deserialized_as_it_was_serialized() {
        let problem = Problem::new(Code::ShedNotFound, "no shed \"x\"").hint("shed list");
        let text = serde_json::to_string(&problem).unwrap();
        assert!(text.contains(r#""type":"/api/docs#shed-not-found""#), "{text}");
        assert!(text.contains(r#""code":"shed-not-found""#), "{text}");
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }

    #[test]
    fn codes_are_distinct_and_have_error_statuses() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| (400..600).contains(&code.http_status())));
        assert!(Code::ALL.iter().all(|code| code.exit_status() != exit::OK));
    }
}
