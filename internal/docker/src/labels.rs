//! Names and labels of this server's containers, volumes and network. Pure.
//!
//! A name alone proves nothing: an object that carries this server's id is ours; every other object is foreign and is never
//! used, changed or removed.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, SecondsFormat, Utc};
use shed_api::ShedName;
use shed_engine::ContainerPlan;

/// Marks every object of a shed.
const SHED: &str = "shed";
/// The shed's name.
pub(crate) const NAME: &str = "shed.name";
/// Creation time of the shed, RFC 3339.
const CREATED: &str = "shed.created";
/// The repository that was cloned, without credentials.
const REPO: &str = "shed.repo";
/// The id of the server it belongs to.
pub(crate) const SERVER: &str = "shed.server";
/// Names of the environment variables given at creation, separated by commas. Their values are in the container's
/// environment.
const ENV: &str = "shed.env";
/// Purpose of a volume: one of [`VOLUMES`].
pub(crate) const VOLUME: &str = "shed.volume";
/// Unique to each creation: distinguishes a volume that was just created from one that existed.
const MADE: &str = "shed.made";
/// Marks containers that are created to probe an image and never started.
pub(crate) const PROBE: &str = "shed.probe";

/// Value of [`SHED`] and [`PROBE`].
const TRUE: &str = "true";

/// Purposes of volumes, as in their names and labels.
pub(crate) const VOLUMES: [&str; 3] = ["workspace", "home", "worktrees"];

/// Names and labels of one server's objects.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    /// Id of the server.
    pub(crate) server_id: String,
    /// Prefix of every name.
    pub(crate) prefix: String,
    /// Additional labels for every object.
    pub(crate) extra: BTreeMap<String, String>,
}

impl Labels {
    /// Name of a shed's container.
    pub(crate) fn container(&self, shed: &ShedName) -> String {
        format!("{}-{shed}", self.prefix)
    }

    /// Name of one of a shed's volumes.
    pub(crate) fn volume(&self, shed: &ShedName, what: &str) -> String {
        format!("{}-{shed}-{what}", self.prefix)
    }

    /// Labels of the network. They name no shed, so that it belongs to none.
    pub(crate) fn for_network(&self) -> HashMap<String, String> {
        self.with(&[(SHED, TRUE)])
    }

    /// Labels of a container that probes an image.
    pub(crate) fn for_probe(&self) -> HashMap<String, String> {
        // Override labels of a shed's container that the image may contain.
        self.with(&[(PROBE, TRUE), (SHED, ""), (NAME, "")])
    }

    /// Labels of a volume; `nonce` is unique to this creation.
    pub(crate) fn for_volume(
        &self,
        shed: &ShedName,
        what: &str,
        nonce: &str,
    ) -> HashMap<String, String> {
        self.with(&[(SHED, TRUE), (NAME, shed.as_str()), (VOLUME, what), (MADE, nonce)])
    }

    /// Labels of a shed's container. Every label that is read later is set, so that none is inherited from the image.
    pub(crate) fn for_container(&self, plan: &ContainerPlan) -> HashMap<String, String> {
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

    /// The shed of this server that an object belongs to, if any.
    pub(crate) fn owner(&self, labels: &HashMap<String, String>) -> Option<ShedName> {
        let is = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
        let ours = is(SHED, TRUE) && is(SERVER, &self.server_id);
        labels.get(NAME).filter(|_| ours)?.parse().ok()
    }

    /// Whether an object belongs to this server, with or without a shed.
    pub(crate) fn is_ours(&self, labels: &HashMap<String, String>) -> bool {
        labels.get(SERVER) == Some(&self.server_id)
    }

    /// A list filter for containers and volumes of this server's sheds.
    pub(crate) fn filter(&self, more: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
        let server = [(SHED, TRUE), (SERVER, self.server_id.as_str())];
        filter(server.iter().chain(more))
    }

    /// A list filter for this server's probe containers.
    pub(crate) fn probe_filter(&self) -> HashMap<String, Vec<String>> {
        filter([(PROBE, TRUE), (SERVER, self.server_id.as_str())].iter())
    }
}

fn filter<'a>(
    labels: impl Iterator<Item = &'a (&'a str, &'a str)>,
) -> HashMap<String, Vec<String>> {
    let pairs = labels.map(|(key, value)| format!("{key}={value}")).collect();
    HashMap::from([("label".to_owned(), pairs)])
}

/// Whether a volume was created by the request that carried `nonce`.
pub(crate) fn was_created(labels: &HashMap<String, String>, nonce: &str) -> bool {
    labels.get(MADE).is_some_and(|found| found == nonce)
}

/// Creation time of a container's shed.
pub(crate) fn created_at(labels: &HashMap<String, String>) -> Option<DateTime<Utc>> {
    let text = labels.get(CREATED)?;
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

/// The repository that was cloned into a container's shed.
pub(crate) fn repo(labels: &HashMap<String, String>) -> Option<String> {
    labels.get(REPO).filter(|repo| !repo.is_empty()).cloned()
}

/// The variables of an environment that were given at creation.
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
    fn only_objects_with_this_servers_id_are_ours() {
        let shed: ShedName = "a".parse().unwrap();
        let ours = labels("me").for_volume(&shed, "home", "1");
        assert_eq!(labels("me").owner(&ours), Some(shed.clone()));
        assert_eq!(labels("you").owner(&ours), None);
        assert!(was_created(&ours, "1") && !was_created(&ours, "2"));
        assert_eq!(labels("me").owner(&labels("me").for_probe()), None);
        assert_eq!(labels("me").owner(&HashMap::new()), None);
        let mut bad = ours;
        bad.insert(NAME.to_owned(), "../x".to_owned());
        assert_eq!(labels("me").owner(&bad), None);
    }

    #[test]
    fn only_variables_given_at_creation_are_returned() {
        let labels = HashMap::from([(ENV.to_owned(), "A,B".to_owned())]);
        let env = ["PATH=/bin", "A=1=2", "B=", "AB=3", "odd"].map(str::to_owned);
        let given = given_env(&labels, &env);
        let expected = [("A", "1=2"), ("B", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(given, BTreeMap::from(expected));
        assert!(given_env(&HashMap::new(), &["=x".to_owned()]).is_empty());
    }
}
