//! Problems: what went wrong, in a form a program can match on and a person can act on (RFC 9457).

use serde::{Deserialize, Serialize};

/// The media type of a problem over HTTP.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $word:literal, $http:literal, $exit:ident;)*) => {
        /// A stable name for a kind of problem. `docs/API.md` has a paragraph for each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum Code {
            $($(#[doc = $doc])* #[serde(rename = $word)] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in `code` and at the end of `type`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What it means, in a sentence.
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
    /// Everything asked for was done, or was already so.
    pub const OK: u8 = 0;
    /// It was tried and failed.
    pub const FAILED: u8 = 1;
    /// What was asked makes no sense as it stands.
    pub const USAGE: u8 = 2;
    /// A named thing does not exist.
    pub const NOT_FOUND: u8 = 3;
    /// It exists already, or something else is going on that excludes it.
    pub const CONFLICT: u8 = 4;
    /// A server, an engine or a shed could not be reached.
    pub const UNREACHABLE: u8 = 5;
    /// The key or token does not allow it.
    pub const DENIED: u8 = 6;
}

codes! {
    /// The request itself is wrong: unknown field, wrong type, impossible value.
    InvalidRequest = "invalid-request", 400, USAGE;
    /// A shed or session name outside its pattern.
    InvalidName = "invalid-name", 400, USAGE;
    /// No token, or one that is unknown or expired.
    Unauthorized = "unauthorized", 401, DENIED;
    /// The key's or token's scope or shed list does not allow it.
    Forbidden = "forbidden", 403, DENIED;
    /// The request's Host or Origin is not this server.
    HostNotAllowed = "host-not-allowed", 403, DENIED;
    /// No route of this name.
    RouteNotFound = "route-not-found", 404, NOT_FOUND;
    /// No shed of this name.
    ShedNotFound = "shed-not-found", 404, NOT_FOUND;
    /// No session of this name in the shed.
    SessionNotFound = "session-not-found", 404, NOT_FOUND;
    /// No worker of this name in the session.
    WorkerNotFound = "worker-not-found", 404, NOT_FOUND;
    /// No image of this name, here or at its registry.
    ImageNotFound = "image-not-found", 404, NOT_FOUND;
    /// No key, token or other thing of this id.
    NotFound = "not-found", 404, NOT_FOUND;
    /// The route exists, but not with this method.
    MethodNotAllowed = "method-not-allowed", 405, USAGE;
    /// A shed of this name exists.
    ShedExists = "shed-exists", 409, CONFLICT;
    /// A session of this name exists.
    SessionExists = "session-exists", 409, CONFLICT;
    /// A container, volume, key or other thing stands in the way and is not ours to take.
    Conflict = "conflict", 409, CONFLICT;
    /// A worker of this name exists in the session.
    WorkerExists = "worker-exists", 409, CONFLICT;
    /// Commits that are nowhere else, or files that are not committed, would be lost.
    WorkWouldBeLost = "work-would-be-lost", 409, CONFLICT;
    /// git refused it.
    GitFailed = "git-failed", 422, FAILED;
    /// The kernel or the container engine does not allow processes to be confined.
    ConfineUnavailable = "confine-unavailable", 409, CONFLICT;
    /// The shed is in a status that excludes this now.
    Busy = "busy", 409, CONFLICT;
    /// The shed is stopped or paused and this needs it running.
    NotRunning = "not-running", 409, CONFLICT;
    /// A body, a line or a list is over its limit.
    TooLarge = "too-large", 413, USAGE;
    /// More requests or connections than allowed.
    RateLimited = "rate-limited", 429, FAILED;
    /// The repository could not be cloned.
    CloneFailed = "clone-failed", 502, FAILED;
    /// The engine answered with an error of its own.
    EngineFailed = "engine-failed", 502, FAILED;
    /// The container engine does not answer.
    EngineUnreachable = "engine-unreachable", 503, UNREACHABLE;
    /// The shed runs but its shed-init does not answer.
    ShedUnreachable = "shed-unreachable", 503, UNREACHABLE;
    /// There is no tmux in the shed's image.
    TmuxNotAvailable = "tmux-not-available", 503, FAILED;
    /// The shed did not come up.
    StartFailed = "start-failed", 503, FAILED;
    /// The server is going away.
    ShuttingDown = "shutting-down", 503, UNREACHABLE;
    /// It took longer than its limit.
    TimedOut = "timed-out", 504, FAILED;
    /// A program in the shed could not be started (not found, no permission, no directory).
    ExecFailed = "exec-failed", 422, FAILED;
    /// No address in the shed answers there.
    ConnectFailed = "connect-failed", 502, UNREACHABLE;
    /// A disk is full.
    DiskFull = "disk-full", 507, FAILED;
    /// A fault of ours; the log has more under the request id.
    Internal = "internal", 500, FAILED;
}

/// A problem as it travels. `detail` names the thing and says why; `hint` is a command to paste.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// A URI reference for the kind: `/api/docs#code`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind for programs.
    pub code: Code,
    /// This case in words: lower case, no full stop.
    pub detail: String,
    /// What to do about it: a command to paste, or one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Finds this request in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem without hint.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/api/docs#{}", code.as_str()),
            title: code.as_str().replace('-', " "),
            status: code.http_status(),
            code,
            detail: detail.into(),
            hint: None,
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
    fn a_problem_reads_back_as_written() {
        let problem = Problem::new(Code::ShedNotFound, "no shed \"x\"").hint("shed list");
        let text = serde_json::to_string(&problem).unwrap();
        assert!(text.contains(r#""type":"/api/docs#shed-not-found""#), "{text}");
        assert!(text.contains(r#""code":"shed-not-found""#), "{text}");
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }

    #[test]
    fn codes_are_distinct_error_statuses() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| (400..600).contains(&code.http_status())));
        assert!(Code::ALL.iter().all(|code| code.exit_status() != exit::OK));
    }
}
