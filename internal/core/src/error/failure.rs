//! Why an operation on a shed failed.

use shed_api::Code;
use shed_engine::EngineError;
use shed_store::StoreError;

use super::Error;

/// Why an operation on a shed failed: stored with the shed as its reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The problem code.
    pub code: Code,
    /// One line with the subject and the reason.
    pub text: String,
    /// A command that may help, to paste into a shell.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without hint.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let problem = Error::Engine(error).problem();
        Self { code: problem.code, text: problem.detail, hint: problem.hint }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let problem = Error::Store(error).problem();
        Self { code: problem.code, text: problem.detail, hint: problem.hint }
    }
}

#[cfg(test)]
mod tests {
    use shed_link::Refusal;

    use super::*;

    #[test]
    fn an_old_shed_init_has_a_hint_with_the_name_of_its_shed() {
        let refused = Error::Refused(Refusal::Unsupported).of_shed(&"web".parse().unwrap());
        let problem = refused.problem();
        assert_eq!(problem.code, Code::Conflict);
        assert_eq!(problem.hint.as_deref(), Some("shed restart web"));
        let other = Error::Refused(Refusal::TimedOut).of_shed(&"web".parse().unwrap());
        assert_eq!(other.problem().code, Code::TimedOut);
    }
}
