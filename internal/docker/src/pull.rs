//! Pulls an image and reports progress.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;
use shed_engine::{EngineError, Report};
use tokio::time::timeout;

use crate::engine::Inner;
use crate::failure::Failure;
use crate::image::with_tag;

/// How long a pull may take to report something for the first time. Docker itself gives up on a registry after 15 seconds.
const FIRST_REPORT_LIMIT: Duration = Duration::from_secs(20);
/// How long a pull may be silent later: extracting a large layer on a slow disk reports nothing.
const REPORT_LIMIT: Duration = Duration::from_secs(300);
/// The share of a layer's work that is done when it is downloaded and not extracted yet.
const DOWNLOADED: f64 = 0.7;

impl Inner {
    /// Pulls an image and waits for the end.
    pub(crate) async fn pull(&self, name: &str, report: &Report) -> Result<(), EngineError> {
        let live = self.client.live().await?;
        let options = CreateImageOptions {
            from_image: Some(with_tag(name)),
            ..CreateImageOptions::default()
        };
        report(format!("fetching image {name}"), None);
        let mut reports = live.docker.create_image(Some(options), None, None);
        let mut progress = Progress::default();
        let mut limit = FIRST_REPORT_LIMIT;
        loop {
            let info = match timeout(limit, reports.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(info))) => info,
                Ok(Some(Err(error))) => return Err(self.client.failure(&error).about_image(name)),
                Err(_) => {
                    let why = format!("nothing arrived for {} seconds", limit.as_secs());
                    return Err(Failure::TimedOut(why).about_image(name));
                }
            };
            limit = REPORT_LIMIT;
            if let Some(percent) = progress.take(&info) {
                report(format!("fetching image {name}"), Some(percent));
            }
        }
    }
}

/// The progress of a pull. Every layer has the same weight, since Docker reports their sizes one after the other.
#[derive(Debug, Default)]
struct Progress {
    /// The part done, from 0 to 1, by layer id.
    layers: BTreeMap<String, f64>,
    /// The last percentage that was reported.
    reported: Option<u8>,
}

impl Progress {
    /// Takes in one report; the percentage, if it grew.
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
        if self.reported.is_some_and(|reported| reported >= percent) {
            return None;
        }
        self.reported = Some(percent);
        Some(percent)
    }
}

/// The part of a layer that is done, from 0 to 1; `None` for a report that is not about a layer.
fn part_done(status: &str, amounts: Option<(i64, i64)>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "percents of sizes")]
    let part = amounts
        .filter(|(_, total)| *total > 0)
        .map_or(0.0, |(current, total)| (current as f64 / total as f64).clamp(0.0, 1.0));
    match status {
        "Pulling fs layer" | "Waiting" => Some(0.0),
        "Downloading" => Some(part * DOWNLOADED),
        "Verifying Checksum" | "Download complete" => Some(DOWNLOADED),
        "Extracting" => Some(DOWNLOADED + part * (1.0 - DOWNLOADED)),
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
    fn the_percentage_only_grows_and_ends_at_100() {
        let mut progress = Progress::default();
        let reported: Vec<Option<u8>> = [
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
        assert_eq!(reported, expected);
        assert_eq!(progress.take(&CreateImageInfo::default()), None);
    }
}
