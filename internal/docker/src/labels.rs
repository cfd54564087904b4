//! How things of ours are named and how they are known again. Pure.
//!
//! A name alone proves nothing: what carries this server's id is ours, everything else is somebody else's and is never
//! taken, changed or removed.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, SecondsFormat, Utc};
use shed_api::ShedName;
use shed_engine::BoxPlan;

/// On everything of a shed's.
const SHED: &str = "shed";
/// The shed's name.
pub(crate) const NAME: &str = "shed.name";
/// When the shed was created.
const CREATED: &str = "shed.created";
/// What was cloned, without credentials.
const REPO: &str = "shed.repo";
/// The id of the server it belongs to.
pub(crate) const SERVER: &str = "shed.server";
/// The names of the variables people gave; the values are in the container's environment anyway.
const ENV: &str = "shed.env";
/// What a volume is for.
pub(crate) const VOLUME: &str = "shed.volume";
/// Differs with each volume that is made: tells one that was just made from one that was there.
const MADE: &str = "shed.made";
/// On containers that are never started, made to look into an image.
pub(crate) const PROBE: &str = "shed.probe";

/// What [`SHED`] and [`PROBE`] say.
const TRUE: &str = "true";

/// What volumes are for: their word in names and labels.
pub(crate) const VOLUMES: [&str; 3] = ["workspace", "home", "worktrees"];

/// Names and marks of one server's things.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    /// Its id.
    pub(crate) server_id: String,
    /// What names begin with.
    pub(crate) prefix: String,
    /// Put on everything besides.
    pub(crate) extra: BTreeMap<String, String>,
}

impl Labels {
    /// A shed's container.
    pub(crate) fn container(&self, shed: &ShedName) -> String {
        format!("{}-{shed}", self.prefix)
    }

    /// One of a shed's volumes.
    pub(crate) fn volume(&self, shed: &ShedName, what: &str) -> String {
        format!("{}-{shed}-{what}", self.prefix)
    }

    /// For the network. Without a shed's name, so that it is nobody's.
    pub(crate) fn for_network(&self) -> HashMap<String, String> {
        self.with(&[(SHED, TRUE)])
    }

    /// For a container that looks into an image.
    pub(crate) fn for_probe(&self) -> HashMap<String, String> {
        // An image may bring the mark of a shed's container along.
        self.with(&[(PROBE, TRUE), (SHED, ""), (NAME, "")])
    }

    /// For a volume; `made` is in no other.
    pub(crate) fn for_volume(
        &self,
        shed: &ShedName,
        what: &str,
        made: &str,
    ) -> HashMap<String, String> {
        self.with(&[(SHED, TRUE), (NAME, shed.as_str()), (VOLUME, what), (MADE, made)])
    }

    /// For a container. All that are ever read are set: what is not would come from the image.
    pub(crate) fn for_container(&self, plan: &BoxPlan) -> HashMap<String, String> {
        let created = plan.created_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let names: Vec<&str> = plan.env.keys().map(String::as_str).collect();
        self.with(&[
            (SHED, TRUE),
            (NAME, plan.shed.as_str()),
            (CREATED, &created),
            (REPO, plan.repo.as_deref().unwrap_or_default()),
            (ENV, &names.join(",")),
        ])
    }

    fn with(&self, labels: &[(&str, &str)]) -> HashMap<String, String> {
        let mine = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let extra = self.extra.iter().map(|(key, value)| (key.clone(), value.clone()));
        extra.chain(mine).chain([(SERVER.to_owned(), self.server_id.clone())]).collect()
    }

    /// Whether something belongs to a shed of this server, and to which.
    pub(crate) fn owner(&self, labels: &HashMap<String, String>) -> Option<ShedName> {
        let is = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
        let ours = is(SHED, TRUE) && is(SERVER, &self.server_id);
        labels.get(NAME).filter(|_| ours)?.parse().ok()
    }

    /// Whether something belongs to this server and to no shed.
    pub(crate) fn is_ours(&self, labels: &HashMap<String, String>) -> bool {
        labels.get(SERVER) == Some(&self.server_id)
    }

    /// A filter for lists: containers and volumes of sheds of this server.
    pub(crate) fn filter(&self, more: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
        let server = [(SHED, TRUE), (SERVER, self.server_id.as_str())];
        filter(server.iter().chain(more))
    }

    /// A filter for lists: containers of this server that look into images.
    pub(crate) fn probe_filter(&self) -> HashMap<String, Vec<String>> {
        filter([(PROBE, TRUE), (SERVER, self.server_id.as_str())].iter())
    }
}

fn filter<'a>(
    labels: impl Iterator<Item = &'a (&'a str, &'a str)>,
) -> HashMap<String, Vec<String>> {
    let words = labels.map(|(key, value)| format!("{key}={value}")).collect();
    HashMap::from([("label".to_owned(), words)])
}

/// Whether a volume was made by the one who asked for it with `made`.
pub(crate) fn was_made(labels: &HashMap<String, String>, made: &str) -> bool {
    labels.get(MADE).is_some_and(|found| found == made)
}

/// When the shed of a container was created.
pub(crate) fn created_at(labels: &HashMap<String, String>) -> Option<DateTime<Utc>> {
    let text = labels.get(CREATED)?;
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

/// What was cloned into it.
pub(crate) fn repo(labels: &HashMap<String, String>) -> Option<String> {
    labels.get(REPO).filter(|repo| !repo.is_empty()).cloned()
}

/// Those variables of an environment that people gave.
pub(crate) fn given_env(
    labels: &HashMap<String, String>,
    env: &[String],
) -> BTreeMap<String, String> {
    let names: Vec<&str> =
        labels.get(ENV).map(|names| names.split(',').collect()).unwrap_or_default();
    let pairs = env.iter().filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(name, _)| names.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(server_id: &str) -> Labels {
        let extra = BTreeMap::from([(NAME.to_owned(), "spoof".to_owned())]);
        Labels { server_id: server_id.to_owned(), prefix: "p".to_owned(), extra }
    }

    #[test]
    fn only_what_carries_this_servers_id_is_ours() {
        let shed: ShedName = "a".parse().unwrap();
        let ours = labels("me").for_volume(&shed, "home", "1");
        assert_eq!(labels("me").owner(&ours), Some(shed.clone()));
        assert_eq!(labels("you").owner(&ours), None);
        assert!(was_made(&ours, "1") && !was_made(&ours, "2"));
        assert_eq!(labels("me").owner(&labels("me").for_probe()), None);
        assert_eq!(labels("me").owner(&HashMap::new()), None);
        let mut bad = ours;
        bad.insert(NAME.to_owned(), "../x".to_owned());
        assert_eq!(labels("me").owner(&bad), None);
    }

    #[test]
    fn only_given_variables_are_given() {
        let labels = HashMap::from([(ENV.to_owned(), "A,B".to_owned())]);
        let env = ["PATH=/bin", "A=1=2", "B=", "AB=3", "odd"].map(str::to_owned);
        let given = given_env(&labels, &env);
        let expected = [("A", "1=2"), ("B", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(given, BTreeMap::from(expected));
        assert!(given_env(&HashMap::new(), &["=x".to_owned()]).is_empty());
    }
}
