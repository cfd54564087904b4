//! Single requests and their answers.

use std::fmt::Write as _;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shed_api::Problem;

use crate::{Client, ClientError};

/// Largest answer that is read into memory.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How long the server may be silent before the connection counts as lost. It sends a heartbeat every 20 seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(50);

impl Client {
    /// Sends a GET request and reads the answer as JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.ask(Method::GET, path, None).await?;
        self.read_json(answer).await
    }

    /// Sends a JSON body and reads the answer as JSON.
    pub(crate) async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let answer = self.ask(method, path, Some(self.encode(body)?)).await?;
        self.read_json(answer).await
    }

    /// Sends a JSON body, or none, and ignores the body of the answer.
    pub(crate) async fn send_only<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<(), ClientError> {
        let body = body.map(|body| self.encode(body)).transpose()?;
        self.ask(method, path, body).await.map(drop)
    }

    /// A body as JSON.
    pub(crate) fn encode<B: Serialize>(&self, body: &B) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(body).map_err(|error| self.protocol(error))
    }

    /// Sends a request and returns the answer if its status is a success.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.ask_with(method, path, body, &[(ACCEPT, "application/json, text/plain;q=0.8")]).await
    }

    /// As [`Client::ask`], with these headers.
    pub(crate) async fn ask_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(HeaderName, &str)],
    ) -> Result<Response<Incoming>, ClientError> {
        let answer = self.exchange(method, path, body, headers).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.read_problem(answer).await) }
    }

    /// Sends a request and returns the answer, whatever its status.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(HeaderName, &str)],
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.dial().await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.lost(&error))?;
        // Runs until the body of the answer has been read or dropped.
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, self.address.authority());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())));
        let request = request.map_err(|error| self.protocol(error))?;
        sender.send_request(request).await.map_err(|error| self.lost(&error))
    }

    /// Reads the body of an answer as JSON.
    pub(crate) async fn read_json<T: DeserializeOwned>(
        &self,
        answer: Response<Incoming>,
    ) -> Result<T, ClientError> {
        let bytes = self.read_bytes(answer).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.protocol(error))
    }

    /// Reads the body of an answer, at most [`MAX_ANSWER_BYTES`].
    pub(crate) async fn read_bytes(
        &self,
        answer: Response<Incoming>,
    ) -> Result<Bytes, ClientError> {
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok(body.map_err(|error| self.protocol(error))?.to_bytes())
    }

    /// Reads the problem in an answer that is not a success.
    pub(crate) async fn read_problem(&self, answer: Response<Incoming>) -> ClientError {
        let status = answer.status();
        match self.read_bytes(answer).await {
            Ok(bytes) => match serde_json::from_slice::<Problem>(&bytes) {
                Ok(problem) => ClientError::Problem(Box::new(problem)),
                Err(_) => self.protocol(format!("status {status} without a problem document")),
            },
            Err(error) => error,
        }
    }

    /// The error for an answer that is not one of the API.
    pub(crate) fn protocol(&self, why: impl std::fmt::Display) -> ClientError {
        ClientError::Protocol { address: self.address.to_string(), why: why.to_string() }
    }

    /// The error for a failed exchange: lost if the server closed the connection, else unreachable.
    pub(crate) fn lost(&self, error: &hyper::Error) -> ClientError {
        let mut inner: &dyn std::error::Error = error;
        while let Some(source) = inner.source() {
            inner = source;
        }
        let why = inner.to_string();
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            self.lost_because("closed by the server")
        } else {
            ClientError::Unreachable { address: self.address.to_string(), why }
        }
    }

    /// The error for a connection that was lost for this reason.
    pub(crate) fn lost_because(&self, why: &str) -> ClientError {
        ClientError::Lost { address: self.address.to_string(), why: why.to_owned() }
    }

    /// The error for a server that has sent nothing for [`SILENCE`].
    pub(crate) fn silent(&self) -> ClientError {
        self.silent_for(SILENCE)
    }

    /// The server was silent for this time.
    pub(crate) fn silent_for(&self, time: Duration) -> ClientError {
        self.lost_because(&format!("no answer for {} seconds", time.as_secs()))
    }
}

/// Text escaped as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(escaped, "%{byte:02X}").ok();
        }
    }
    // `.` and `..` would be resolved.
    match escaped.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_escaped() {
        for (text, escaped) in [
            ("a-b_c.$1", "a-b_c.$1"),
            ("a/b", "a%2Fb"),
            ("..", "%2E%2E"),
            ("ü ?#", "%C3%BC%20%3F%23"),
        ] {
            assert_eq!(segment(text), escaped);
        }
    }
}
