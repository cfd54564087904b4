//! Calls for the lifecycle of sessions, their workers and the output of workers.

use std::borrow::Cow;

use base64::Engine as _;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Response};
use shed_api::git::Risk;
use shed_api::session::Session;
use shed_api::worker::{NewWorker, OutputHits, OutputPage, Restart, Worker, WorkerList};
use tokio::time::timeout;

use crate::calls::{NO_BODY, session_path};
use crate::request::{SILENCE, segment};
use crate::{Client, ClientError};

fn workers_path(shed: &str, session: &str) -> String {
    format!("{}/workers", session_path(shed, session))
}

fn worker_path(shed: &str, session: &str, worker: &str) -> String {
    format!("{}/{}", workers_path(shed, session), segment(worker))
}

/// A query string of the parameters that have a value; empty without any.
pub(crate) fn query(parts: &[(&str, Option<String>)]) -> String {
    let given = parts.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let given: Vec<String> =
        given.map(|(key, value)| format!("{key}={}", segment(value))).collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

impl Client {
    /// `POST …/sessions/{s}/{verb}` for `terminate`, `freeze`, `thaw`, `adopt`.
    pub async fn session_operation(
        &self,
        shed: &str,
        session: &str,
        verb: &str,
    ) -> Result<Session, ClientError> {
        let path = format!("{}/{verb}", session_path(shed, session));
        let answer = self.ask(Method::POST, &path, None).await?;
        self.read_json(answer).await
    }

    /// `POST …/sessions/{s}/restart`.
    pub async fn restart_session(
        &self,
        shed: &str,
        session: &str,
        restart: &Restart,
    ) -> Result<Session, ClientError> {
        let path = format!("{}/restart", session_path(shed, session));
        self.send(Method::POST, &path, restart).await
    }

    /// `GET …/sessions/{s}/risk`.
    pub async fn session_risk(&self, shed: &str, session: &str) -> Result<Risk, ClientError> {
        self.get(&format!("{}/risk", session_path(shed, session))).await
    }

    /// `GET …/sessions/{s}/workers`.
    pub async fn workers(&self, shed: &str, session: &str) -> Result<WorkerList, ClientError> {
        self.get(&workers_path(shed, session)).await
    }

    /// `GET …/workers/{w}`.
    pub async fn worker(
        &self,
        shed: &str,
        session: &str,
        worker: &str,
    ) -> Result<Worker, ClientError> {
        self.get(&worker_path(shed, session, worker)).await
    }

    /// `POST …/sessions/{s}/workers`.
    pub async fn add_worker(
        &self,
        shed: &str,
        session: &str,
        request: &NewWorker,
    ) -> Result<Worker, ClientError> {
        self.send(Method::POST, &workers_path(shed, session), request).await
    }

    /// `POST …/workers/{w}/restart`.
    pub async fn restart_worker(
        &self,
        shed: &str,
        session: &str,
        worker: &str,
        restart: &Restart,
    ) -> Result<Worker, ClientError> {
        let path = format!("{}/restart", worker_path(shed, session, worker));
        self.send(Method::POST, &path, restart).await
    }

    /// `DELETE …/workers/{w}`.
    pub async fn remove_worker(
        &self,
        shed: &str,
        session: &str,
        worker: &str,
    ) -> Result<(), ClientError> {
        self.send_only(Method::DELETE, &worker_path(shed, session, worker), NO_BODY).await
    }

    /// `GET …/workers/{w}/output`: a page that starts at offset `from` and has at most `max` bytes. If there is no output yet
    /// the server waits for some, at most `wait` seconds.
    pub async fn output_page(
        &self,
        shed: &str,
        session: &str,
        worker: &str,
        from: u64,
        max: Option<u64>,
        wait: Option<u64>,
    ) -> Result<OutputPage, ClientError> {
        let text = |number: Option<u64>| number.map(|number| number.to_string());
        let query = query(&[("from", text(Some(from))), ("max", text(max)), ("wait", text(wait))]);
        self.get(&format!("{}/output{query}", worker_path(shed, session, worker))).await
    }

    /// `GET …/workers/{w}/output`: a page with the last `lines` lines.
    pub async fn output_tail(
        &self,
        shed: &str,
        session: &str,
        worker: &str,
        lines: u32,
    ) -> Result<OutputPage, ClientError> {
        let path = worker_path(shed, session, worker);
        self.get(&format!("{path}/output?lines={lines}")).await
    }

    /// `GET …/workers/{w}/search`: lines that contain `text`, from offset `from` on.
    pub async fn search_output(
        &self,
        shed: &str,
        session: &str,
        worker: &str,
        text: &str,
        from: u64,
    ) -> Result<OutputHits, ClientError> {
        let query = query(&[("q", Some(text.to_owned())), ("from", Some(from.to_string()))]);
        self.get(&format!("{}/search{query}", worker_path(shed, session, worker))).await
    }

    /// `GET …/workers/{w}/output/cast`: an asciicast recording of the output between two offsets.
    pub async fn output_cast(
        &self,
        shed: &str,
        session: &str,
        worker: &str,
        from: Option<u64>,
        to: Option<u64>,
    ) -> Result<Download, ClientError> {
        let (from, to) = (from.map(|at| at.to_string()), to.map(|at| at.to_string()));
        let query = query(&[("from", from), ("to", to)]);
        let path = format!("{}/output/cast{query}", worker_path(shed, session, worker));
        self.download(&path).await
    }

    async fn download(&self, path: &str) -> Result<Download, ClientError> {
        let answer = self.ask_with(Method::GET, path, None, &[]).await?;
        Ok(Download::new(self, answer))
    }
}

/// An answer of any length, read in chunks.
#[derive(Debug)]
pub struct Download {
    client: Client,
    body: Incoming,
}

impl Download {
    pub(crate) fn new(client: &Client, answer: Response<Incoming>) -> Self {
        Self { client: client.clone(), body: answer.into_body() }
    }

    /// The next chunk; `None` after the last. Fails after 50 seconds without one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let Ok(frame) = timeout(SILENCE, self.body.frame()).await else {
                return Err(self.client.silent());
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.client.lost(&error)),
                // Trailers are ignored.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// The exact bytes of a page of output. The error is a message: the server sent invalid base64.
pub fn page_bytes(page: &OutputPage) -> Result<Cow<'_, [u8]>, String> {
    match &page.base64 {
        None => Ok(Cow::Borrowed(page.text.as_bytes())),
        Some(exact) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(exact);
            decoded.map(Cow::Owned).map_err(|error| format!("invalid page of output: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_only_parameters_with_a_value() {
        assert_eq!(query(&[("from", None), ("to", None)]), "");
        let given = [("q", Some("a&b=%".to_owned())), ("to", None), ("n", Some("1".to_owned()))];
        assert_eq!(query(&given), "?q=a%26b%3D%25&n=1");
    }

    #[test]
    fn a_page_has_its_exact_bytes() {
        let mut page = OutputPage {
            start: 0,
            end: 2,
            log_end: 2,
            log_start: 0,
            epoch: 1,
            gap: 0,
            text: "a\u{fffd}".to_owned(),
            base64: None,
        };
        assert_eq!(page_bytes(&page).unwrap(), "a\u{fffd}".as_bytes());
        page.base64 = Some("Yf8=".to_owned());
        assert_eq!(page_bytes(&page).unwrap(), &b"a\xff"[..]);
        page.base64 = Some("?".to_owned());
        assert!(page_bytes(&page).is_err());
    }
}
