//! Previews: the last rows of workers' screens.

use futures_util::Stream;
use shed_api::Scope;
use shed_api::worker::Preview;
use shed_model::Rejection;

use crate::access::Caller;
use crate::output::preview_stream::{PreviewReader, PreviewSources, Shown};
use crate::{Error, Person};

/// The first words of a refusal.
const ACTION: &str = "to see previews";

/// The previews of all workers.
#[derive(Clone)]
pub struct Previews {
    pub(crate) sources: PreviewSources,
}

impl Previews {
    /// Previews: of each worker the whole screen first, then what changed, at most five times a second. Ends with the
    /// server.
    pub fn watch(
        &self,
        person: &Person,
        shown: Shown,
    ) -> Result<impl Stream<Item = Preview> + Send + 'static, Error> {
        person.may(Scope::Read, ACTION)?;
        let registry = &self.sources.registry;
        match (&shown.shed, &shown.session) {
            (Some(shed), Some(session)) => {
                registry.managed(&Caller::read(person, shed, ACTION), session)?;
            }
            (Some(shed), None) => {
                registry.keeper(&Caller::read(person, shed, ACTION))?;
            }
            (None, Some(_)) => {
                return Err(Error::Rejected(Rejection::Invalid(
                    "a session was given without its shed".to_owned(),
                )));
            }
            (None, None) => {}
        }
        let reader = PreviewReader::new(self.sources.clone(), person.clone(), shown);
        Ok(futures_util::stream::unfold(reader, async |mut reader| {
            let preview = reader.next().await?;
            Some((preview, reader))
        }))
    }

    /// How many screens are kept for previews: none while nobody reads any.
    pub fn n_models(&self) -> usize {
        self.sources.models.n_models()
    }
}
