//! What a viewer writes: input, sizes and images.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use shed_api::name::printable;
use shed_api::session::Input;
use shed_api::stream::ExecRequest;
use shed_api::worker::WorkerStatus;
use shed_model::Rejection;

use crate::access::Caller;
use crate::exec;
use crate::output::images;
use crate::output::viewers::{Subject, Viewing, clamped};
use crate::session::submit::Pane;
use crate::shed::registry::Registry;
use crate::{Error, Person};

/// The largest image that can be given to a worker, in bytes.
pub const MAX_IMAGE_BYTES: usize = images::MAX_IMAGE_BYTES;
/// How long saving an image may take, in seconds.
const SAVE_LIMIT: f64 = 30.0;

/// The writing half of a viewer.
#[derive(Clone)]
pub struct InputWriter {
    registry: Registry,
    person: Person,
    subject: Subject,
    viewing: Arc<Viewing>,
    read_only: bool,
}

impl InputWriter {
    pub(crate) fn new(
        registry: Registry,
        person: Person,
        subject: Subject,
        viewing: Arc<Viewing>,
        read_only: bool,
    ) -> Self {
        Self { registry, person, subject, viewing, read_only }
    }

    /// Writes bytes to the worker as they are. Waits while the worker does not read. A read-only viewer's are dropped.
    pub async fn input(&self, bytes: Vec<u8>) -> Result<(), Error> {
        if self.read_only || bytes.is_empty() {
            return Ok(());
        }
        self.viewing.input(bytes).await
    }

    /// The viewer's size, in cells.
    pub fn resize(&self, cols: u16, rows: u16) {
        self.viewing.resize(clamped(cols, rows));
    }

    /// Makes this viewer the primary one, whose size the terminal has.
    pub fn claim(&self) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::Rejected(Rejection::Forbidden(
                "a read-only viewer cannot set the size".to_owned(),
            )));
        }
        self.viewing.claim();
        Ok(())
    }

    /// Whether input is dropped.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Saves an image, given as base64, in the shed, and pastes its path.
    pub async fn image(&self, data: &str, mime_type: &str) -> Result<(), Error> {
        if self.read_only {
            return Ok(());
        }
        let invalid = |text: &str| Error::Rejected(Rejection::Invalid(text.to_owned()));
        if data.len() / 4 * 3 > MAX_IMAGE_BYTES + 3 {
            let text = format!("the image is larger than {} MiB", MAX_IMAGE_BYTES >> 20);
            return Err(Error::Rejected(Rejection::TooLarge(text)));
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(data);
        let bytes = bytes.map_err(|error| {
            Error::Rejected(Rejection::Invalid(format!("invalid image: {error}")))
        })?;
        let (is, suffix) = images::kind(&bytes)
            .ok_or_else(|| invalid("invalid image; expected PNG, JPEG, GIF or WebP"))?;
        if is != mime_type {
            return Err(invalid(&format!("the image is {is}, not {mime_type}")));
        }
        let row = self.subject.row();
        if row.is_none_or(|row| row.status != WorkerStatus::Running) {
            return Err(self.subject.does_not_run());
        }
        let name = uuid::Uuid::new_v4().simple();
        let path = format!("{}/{name}.{suffix}", images::DIR);
        self.run(&["mkdir", "-p", "-m", "700", images::DIR], Vec::new()).await?;
        self.run(&["dd", &format!("of={path}"), "bs=65536"], bytes).await?;
        self.paste(path).await
    }

    /// Pastes text into the worker's window, as terminals do.
    async fn paste(&self, text: String) -> Result<(), Error> {
        let subject = &self.subject;
        let (link, row) = (subject.link()?, subject.row());
        let window = subject.window().ok_or_else(|| subject.does_not_run())?;
        let program = row.and_then(|row| subject.server.settings.sessions.program_of(&row));
        let pane = Pane {
            turns: &subject.server.turns,
            link: &link,
            shed: &subject.shed,
            session: &subject.session,
            target: &window,
        };
        let input = Input { text: Some(text), ..Input::default() };
        pane.submit(&input, |_| program).await
    }

    async fn run(&self, argv: &[&str], stdin: Vec<u8>) -> Result<(), Error> {
        let request = ExecRequest {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: BTreeMap::new(),
            directory: None,
            session: None,
            root: false,
            stdin: None,
            stdin_base64: None,
            timeout: Some(SAVE_LIMIT),
        };
        let caller = Caller::drive(&self.person, &self.subject.shed, "to run commands");
        let server = &self.subject.server;
        let ran = exec::run_to_end(server, &self.registry, &caller, request, stdin).await?;
        if ran.exit == 0 {
            return Ok(());
        }
        let why = printable(ran.stderr.trim());
        Err(Error::Rejected(Rejection::Invalid(format!("the image was not saved: {why}"))))
    }
}
