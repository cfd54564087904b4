//! Images: whether one is present, and the home of its user.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    DownloadFromContainerOptions, ListContainersOptions, RemoveContainerOptions,
};
use futures_util::StreamExt as _;
use shed_engine::{EngineError, ImageFacts, Report};

use crate::client::Live;
use crate::containers::{CHANGE_LIMIT, QUERY_LIMIT};
use crate::engine::Inner;
use crate::failure::Failure;
use crate::passwd::{self, Entry, MAX_BYTES};

/// Symbolic links that are followed to an image's user database.
const MAX_LINKS: usize = 4;
/// A container that probes an image lives for some tenths of a second. One that is this old, or older than this process,
/// was left by a server that died.
const PROBE_AGE: Duration = Duration::from_secs(600);

impl Inner {
    /// The id of an image, which is pulled if it is not present.
    pub(crate) async fn have_image(
        &self,
        name: &str,
        report: &Report,
    ) -> Result<String, EngineError> {
        check_name(name)?;
        if let Some(id) = self.image_id(name).await? {
            return Ok(id);
        }
        self.pull(name, report).await?;
        let gone = || no_image(name, "it was pulled and is missing now");
        self.image_id(name).await?.ok_or_else(gone)
    }

    async fn image_id(&self, name: &str) -> Result<Option<String>, EngineError> {
        let live = self.client.live().await?;
        let asked = live.docker.inspect_image(name);
        match self.client.ask(QUERY_LIMIT, "inspect an image", asked).await {
            Ok(image) => Ok(image.id),
            Err(failure) if failure.is_missing() => Ok(None),
            // 400: Docker considers the name invalid.
            Err(failure) if failure.status() == Some(400) => Err(failure.about_image(name)),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The facts about a present image, cached by its id. Read from a container that is created and never started.
    pub(crate) async fn look_into(&self, id: &str, name: &str) -> Result<ImageFacts, EngineError> {
        if let Some(home) = self.known_home(id) {
            return Ok(ImageFacts { home });
        }
        let live = self.client.live().await?;
        let body = ContainerCreateBody {
            image: Some(id.to_owned()),
            // Never run. Docker refuses to create a container of an image without a command.
            entrypoint: Some(vec!["/".to_owned()]),
            labels: Some(self.labels.for_probe()),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let asked = live.docker.create_container(None, body);
        let probe = self.client.ask(CHANGE_LIMIT, "probe an image", asked).await;
        let probe = probe.map_err(|failure| failure.about_image(name))?;
        let passwd = self.read_passwd(&live, &probe.id).await;
        self.remove_probe(&live, &probe.id).await;
        let home = passwd::home(&passwd?);
        self.remember_home(id, &home);
        self.sweep_probes(&live).await;
        Ok(ImageFacts { home })
    }

    /// The user database of an image; empty if it has none.
    async fn read_passwd(&self, live: &Live, probe: &str) -> Result<String, Failure> {
        let mut path = "/etc/passwd".to_owned();
        for _ in 0..MAX_LINKS {
            let asked = read_archive(live, probe, &path);
            let archive = match self.client.ask(QUERY_LIMIT, "read a file of an image", asked).await
            {
                Err(failure) if failure.is_missing() => break,
                archive => archive?,
            };
            match passwd::first_entry(&archive) {
                Some(Entry::File(bytes)) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Some(Entry::Link(link)) => path = passwd::follow(&link),
                Some(Entry::Other) | None => break,
            }
        }
        Ok(String::new())
    }

    async fn remove_probe(&self, live: &Live, id: &str) {
        let options =
            RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        let asked = live.docker.remove_container(id, Some(options));
        if let Err(error) = self.client.ask(CHANGE_LIMIT, "remove a container", asked).await {
            tracing::warn!(%error, "a container that probed an image was left behind");
        }
    }

    /// Removes probe containers of a server that died while it probed an image.
    pub(crate) async fn sweep_probes(&self, live: &Live) {
        let filters = Some(self.labels.probe_filter());
        let options =
            ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let asked = live.docker.list_containers(Some(options));
        let Ok(list) = self.client.ask(QUERY_LIMIT, "list containers", asked).await else {
            // The next probe tries again.
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for probe in list {
            let made = probe.created.and_then(|at| u64::try_from(at).ok()).map(Duration::from_secs);
            let old = made.is_some_and(|made| {
                now.saturating_sub(made) > PROBE_AGE || made.as_secs() < self.since.as_secs()
            });
            if let Some(id) = probe.id.filter(|_| old) {
                self.remove_probe(live, &id).await;
            }
        }
    }
}

async fn read_archive(
    live: &Live,
    container: &str,
    path: &str,
) -> Result<Vec<u8>, bollard::errors::Error> {
    let options = DownloadFromContainerOptions { path: path.to_owned() };
    let mut chunks = live.docker.download_from_container(container, Some(options));
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() > MAX_BYTES {
            break;
        }
    }
    Ok(bytes)
}

fn no_image(image: &str, why: &str) -> EngineError {
    EngineError::NoImage { image: image.to_owned(), why: why.to_owned() }
}

/// Checks that an image name is safe as part of a request path: `..` in it would address something else.
pub(crate) fn check_name(name: &str) -> Result<(), EngineError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    let good = name.split('/').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(plain)
    });
    if good {
        Ok(())
    } else {
        Err(no_image(name, "invalid image name; expected [HOST/]NAME[:TAG]"))
    }
}

/// The name with a tag, `latest` by default: without one Docker would pull every tag.
pub(crate) fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_are_refused() {
        for good in ["debian", "ghcr.io/a/b:1.2", "localhost:5000/x", "a@sha256:0f", "a.b_c-d"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in
            ["", "a/../../containers/x", "/a", "a//b", "a/", ".a", "a/./b", "a?b", "a%2fb", "a b"]
        {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_single_tag_is_pulled() {
        assert_eq!(with_tag("localhost:5000/x"), "localhost:5000/x:latest");
        assert_eq!(with_tag("a/b:1"), "a/b:1");
        assert_eq!(with_tag("a@sha256:0f"), "a@sha256:0f");
    }
}
