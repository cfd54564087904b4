//! Fetching an image, and how far that is.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;
use shed_engine::{EngineError, Report};
use tokio::time::timeout;

use crate::engine::Inner;
use crate::image::with_tag;
use crate::words::Trouble;

/// How long a registry may be silent at first. Docker itself gives up after fifteen seconds.
const FIRST_NEWS_LIMIT: Duration = Duration::from_secs(20);
/// How long a fetch that goes on may be silent: a big layer on a slow disk is.
const NEWS_LIMIT: Duration = Duration::from_secs(300);
/// How much of a layer is done when it has arrived and is not unpacked yet.
const ARRIVED: f64 = 0.7;

impl Inner {
    /// Fetches an image to its end.
    pub(crate) async fn pull(&self, name: &str, report: &Report) -> Result<(), EngineError> {
        let live = self.client.live().await?;
        let options = CreateImageOptions {
            from_image: Some(with_tag(name)),
            ..CreateImageOptions::default()
        };
        report(format!("fetching image {name}"), None);
        let mut news = live.docker.create_image(Some(options), None, None);
        let mut progress = Progress::default();
        let mut limit = FIRST_NEWS_LIMIT;
        loop {
            let info = match timeout(limit, news.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(info))) => info,
                Ok(Some(Err(error))) => return Err(self.client.trouble(&error).about_image(name)),
                Err(_) => {
                    let why = format!("nothing arrived for {} seconds", limit.as_secs());
                    return Err(Trouble::Late(why).about_image(name));
                }
            };
            limit = NEWS_LIMIT;
            if let Some(percent) = progress.take(&info) {
                report(format!("fetching image {name}"), Some(percent));
            }
        }
    }
}

/// How far a fetch is: each layer counts the same, since their sizes are told only one after the other.
#[derive(Debug, Default)]
struct Progress {
    /// From 0 to 1, by layer.
    layers: BTreeMap<String, f64>,
    told: Option<u8>,
}

impl Progress {
    /// The percentage, if it grew.
    fn take(&mut self, info: &CreateImageInfo) -> Option<u8> {
        let detail = info.progress_detail.as_ref();
        let (status, id) = (info.status.as_deref()?, info.id.as_ref()?);
        let amounts = detail.and_then(|detail| Some((detail.current?, detail.total?)));
        let done = part_done(status, amounts)?;
        self.layers.insert(id.clone(), done);
        #[expect(clippy::cast_precision_loss, reason = "an image has some hundred layers at most")]
        let part = self.layers.values().sum::<f64>() / self.layers.len() as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and 100"
        )]
        let percent = (part * 100.0).clamp(0.0, 100.0) as u8;
        if self.told.is_some_and(|told| told >= percent) {
            return None;
        }
        self.told = Some(percent);
        Some(percent)
    }
}

/// How much of a layer is done; `None` for lines that are about no layer.
fn part_done(status: &str, amounts: Option<(i64, i64)>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "percents of sizes")]
    let part = amounts
        .filter(|(_, total)| *total > 0)
        .map_or(0.0, |(current, total)| (current as f64 / total as f64).clamp(0.0, 1.0));
    match status {
        "Pulling fs layer" | "Waiting" => Some(0.0),
        "Downloading" => Some(part * ARRIVED),
        "Verifying Checksum" | "Download complete" => Some(ARRIVED),
        "Extracting" => Some(ARRIVED + part * (1.0 - ARRIVED)),
        "Pull complete" | "Already exists" => Some(1.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn line(id: &str, status: &str, current: i64) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(100) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn the_percentage_only_grows_and_ends_at_all() {
        let mut progress = Progress::default();
        let told: Vec<Option<u8>> = [
            line("latest", "Pulling from library/x", 0),
            line("a", "Pulling fs layer", 0),
            line("b", "Pulling fs layer", 0),
            line("a", "Downloading", 50),
            line("a", "Downloading", 50),
            line("a", "Download complete", 0),
            line("b", "Downloading", 10),
            line("c", "Waiting", 0),
            line("a", "Pull complete", 0),
            line("b", "Pull complete", 0),
            line("c", "Already exists", 0),
        ]
        .iter()
        .map(|line| progress.take(line))
        .collect();
        let expected = [
            None,
            Some(0),
            None,
            Some(17),
            None,
            Some(35),
            Some(38),
            None,
            None,
            Some(66),
            Some(100),
        ];
        assert_eq!(told, expected);
        assert_eq!(progress.take(&CreateImageInfo::default()), None);
    }
}
