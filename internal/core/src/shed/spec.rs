//! What a shed is created with: checks of what a person asks for, and the server's defaults.

use crate::shed::mounts::look_up;
use shed_api::Scope;
use shed_api::git::Branch;
use shed_api::redact::redact_value;
use shed_api::shed::{CreateShed, Limits, Mount, Network};
use shed_api::size::parse_size;
use shed_model::shed::ShedSpec;
use shed_model::shed::repo::{self, Repo};
use shed_model::{Rejection, env};

use crate::settings::Settings;
use crate::{Error, Person};

/// The least memory a shed can live with.
const MIN_MEMORY_BYTES: u64 = 16 << 20;
/// The fewest processes a shed can live with: shed-init's two, tmux's two, a shell and what it starts.
const MIN_PIDS: u32 = 16;
/// An image's name.
const MAX_IMAGE_BYTES: usize = 512;

/// Checks a request, and fills in defaults for what it leaves out.
pub(crate) fn specify(
    settings: &Settings,
    person: &Person,
    request: &CreateShed,
) -> Result<(ShedSpec, Option<Repo>), Error> {
    let defaults = &settings.defaults;
    let repo = request.repo.as_deref().map(parse_repo).transpose()?;
    if request.no_start && repo.is_some() {
        let text = "a shed that is created without a start cannot clone a repository; start it, or leave out the repository";
        return Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
    }
    if let Some(branch) = &request.branch {
        check_branch(branch, repo.is_some())?;
    }
    let image = request.image.clone().unwrap_or_else(|| defaults.image.clone());
    check_image(settings, &image)?;
    let limits = limits(defaults.limits, request.cpus, request.memory.as_deref(), request.pids)?;
    if !request.mounts.is_empty() {
        person.may(Scope::Admin, "to mount directories of the host")?;
    }
    for mount in &request.mounts {
        settings.mounts.check(mount, person.local_uid, "/home/dev", look_up)?;
    }
    let network = network(defaults.network, person, request.network)?;
    let mut env = defaults.env.clone();
    env.extend(request.env.clone());
    env::check_shed(env.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    let mounts = defaults.mounts.iter().chain(&request.mounts).cloned().collect();
    let spec = ShedSpec {
        image,
        repo: repo.as_ref().map(|repo| repo.url.clone()),
        branch: request.branch.clone(),
        limits,
        network,
        mounts,
        env,
        allow_agent_forwarding: request.allow_agent_forwarding,
        git_identity: request.git_identity.clone(),
        cloned: repo.is_none(),
        notes: Vec::new(),
        made_volumes: false,
        removal_keeps_volumes: false,
    };
    Ok((spec, repo))
}

/// The network of a new shed. Open sheds reach what only the host and its cloud are meant to reach.
fn network(
    default: Network,
    person: &Person,
    requested: Option<Network>,
) -> Result<Network, Error> {
    let network = requested.unwrap_or(default);
    if network == Network::Open && default != Network::Open {
        person
            .may(Scope::Admin, "to create a shed with the network open, which reaches the host")?;
    }
    Ok(network)
}

pub(crate) fn parse_repo(given: &str) -> Result<Repo, Error> {
    repo::parse(given).map_err(|error| Error::Rejected(Rejection::Invalid(error.to_string())))
}

pub(crate) fn check_branch(branch: &str, has_repo: bool) -> Result<(), Error> {
    if !has_repo {
        return Err(Error::Rejected(Rejection::Invalid(
            "a branch was given without a repository".to_owned(),
        )));
    }
    Branch::try_from(branch.to_owned())?;
    Ok(())
}

/// Checks the form of an image's name, and that the server allows it.
pub(crate) fn check_image(settings: &Settings, image: &str) -> Result<(), Error> {
    check_image_name(image)?;
    if is_allowed_image(&settings.images, &settings.defaults.image, image) {
        return Ok(());
    }
    Err(Error::Rejected(Rejection::Forbidden(format!(
        "this server does not allow the image {image:?}; expected {:?} or one that matches [images] allow: {}",
        settings.defaults.image,
        settings.images.join(", ")
    ))))
}

/// Without a tag, a name is that of `latest`, in patterns too.
fn is_allowed_image(patterns: &[String], default: &str, image: &str) -> bool {
    let plain = image.strip_suffix(":latest").unwrap_or(image);
    let is = |pattern: &str| matches(pattern.strip_suffix(":latest").unwrap_or(pattern), plain);
    patterns.is_empty()
        || plain == default.strip_suffix(":latest").unwrap_or(default)
        || patterns.iter().any(|pattern| is(pattern))
}

/// Whether a text matches a pattern, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| matches(after, &rest[at..]))
        }),
    }
}

fn check_image_name(image: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    // An `@` is before a digest. Before a registry it would be after a password, which images have no use for.
    let (name, digest) = image.split_once('@').unwrap_or((image, "sha256:0"));
    let is_digest = digest.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.chars().all(|c| c.is_ascii_alphanumeric())
            && !hex.is_empty()
            && hex.chars().all(|c| c.is_ascii_hexdigit())
    });
    let good = !image.is_empty()
        && image.len() <= MAX_IMAGE_BYTES
        && image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
        && is_digest;
    if good {
        Ok(())
    } else {
        Err(Error::Rejected(Rejection::Invalid(format!(
            "invalid image {:?}; expected a name like debian:13 or ghcr.io/owner/image:tag",
            redact_value(image)
        ))))
    }
}

pub(crate) fn limits(
    before: Limits,
    cpus: Option<f64>,
    memory: Option<&str>,
    pids: Option<u32>,
) -> Result<Limits, Error> {
    let cpus = cpus.unwrap_or(before.cpus);
    if !(cpus.is_finite() && (0.01..=4096.0).contains(&cpus)) {
        return Err(Error::Rejected(Rejection::Invalid(format!(
            "invalid limit of CPUs {cpus}; expected 0.01 to 4096"
        ))));
    }
    let memory_bytes = match memory {
        Some(text) => parse_size(text)
            .map_err(|error| Error::Rejected(Rejection::Invalid(error.to_string())))?,
        None => before.memory_bytes,
    };
    if memory_bytes < MIN_MEMORY_BYTES {
        return Err(Error::Rejected(Rejection::Invalid(
            "a shed needs at least 16M of memory".to_owned(),
        )));
    }
    let pids = pids.unwrap_or(before.pids);
    if pids < MIN_PIDS {
        return Err(Error::Rejected(Rejection::Invalid(format!(
            "a shed needs at least {MIN_PIDS} processes"
        ))));
    }
    Ok(Limits { cpus, memory_bytes, pids })
}

/// Whether a person may give a shed this image. The image decides the groups and homes of the container's users, and so what
/// they can do to directories of the host. Whoever may create a shed may give it any image beside the default mounts.
pub(crate) fn check_new_image(
    default_mounts: &[Mount],
    person: &Person,
    spec: &ShedSpec,
    image: Option<&str>,
) -> Result<(), Error> {
    let is_same = image.is_none_or(|image| image == spec.image);
    if is_same || spec.mounts.iter().all(|mount| default_mounts.contains(mount)) {
        return Ok(());
    }
    person.may(Scope::Admin, "to change the image of a shed with directories of the host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_out_of_range_are_refused() {
        let before = Limits { cpus: 2.0, memory_bytes: 4 << 30, pids: 100 };
        assert_eq!(limits(before, None, None, None).unwrap(), before);
        assert_eq!(limits(before, Some(0.5), Some("1G"), Some(64)).unwrap().memory_bytes, 1 << 30);
        for (cpus, memory, pids) in [
            (Some(0.0), None, None),
            (Some(f64::NAN), None, None),
            (Some(-1.0), None, None),
            (None, Some("1M"), None),
            (None, Some("x"), None),
            (None, None, Some(1)),
        ] {
            assert!(limits(before, cpus, memory, pids).is_err(), "{cpus:?} {memory:?} {pids:?}");
        }
    }

    #[test]
    fn only_allowed_images_and_the_default_are_used() {
        let patterns = ["shed-*", "ghcr.io/acme/*:1.*", "debian"].map(str::to_owned);
        let allowed = |image| is_allowed_image(&patterns, "base:latest", image);
        for good in ["base", "shed-x:1", "shed-", "ghcr.io/acme/a/b:1.2", "debian:latest", "debian"]
        {
            assert!(allowed(good), "{good}");
        }
        for bad in
            ["base:2", "xshed-a", "ghcr.io/acme/a:2.1", "debian:13", "0123abcd", "docker.io/shed-x"]
        {
            assert!(!allowed(bad), "{bad}");
        }
        assert!(is_allowed_image(&[], "base", "any"));
    }

    #[test]
    fn open_needs_admin_unless_it_is_the_default() {
        let person =
            |scope| Person { actor: shed_api::Actor::Server, scope, sheds: None, local_uid: None };
        let (filtered, open) = (Network::Filtered, Network::Open);
        assert!(network(filtered, &person(Scope::Drive), Some(open)).is_err());
        assert_eq!(network(filtered, &person(Scope::Admin), Some(open)).unwrap(), open);
        assert_eq!(network(open, &person(Scope::Drive), None).unwrap(), open);
        assert_eq!(network(open, &person(Scope::Drive), Some(filtered)).unwrap(), filtered);
        assert_eq!(
            network(Network::None, &person(Scope::Drive), Some(filtered)).unwrap(),
            filtered
        );
    }

    #[test]
    fn another_image_beside_directories_of_the_host_needs_admin() {
        let person =
            |scope| Person { actor: shed_api::Actor::Server, scope, sheds: None, local_uid: None };
        let mount = |source: &str| Mount {
            source: source.to_owned(),
            target: "/mnt".to_owned(),
            read_only: false,
        };
        let plain = ShedSpec {
            image: "base".to_owned(),
            repo: None,
            branch: None,
            limits: Limits { cpus: 1.0, memory_bytes: 1 << 30, pids: 64 },
            network: shed_api::shed::Network::default(),
            mounts: Vec::new(),
            env: std::collections::BTreeMap::new(),
            allow_agent_forwarding: false,
            git_identity: None,
            cloned: true,
            notes: Vec::new(),
            made_volumes: true,
            removal_keeps_volumes: false,
        };
        let may = |mounts: &[Mount], scope, image| {
            let spec = ShedSpec { mounts: mounts.to_vec(), ..plain.clone() };
            check_new_image(&[mount("/default")], &person(scope), &spec, image).is_ok()
        };
        let own = [mount("/default"), mount("/srv")];
        assert!(!may(&own, Scope::Drive, Some("other")));
        assert!(may(&own, Scope::Admin, Some("other")));
        assert!(may(&own, Scope::Drive, Some("base")) && may(&own, Scope::Drive, None));
        assert!(
            may(&own[..1], Scope::Drive, Some("other")) && may(&[], Scope::Drive, Some("other"))
        );
    }

    #[test]
    fn names_of_images_branches_and_variables_are_plain() {
        for good in ["debian", "ghcr.io/a/b:1.2", "a@sha256:abc"] {
            assert!(check_image_name(good).is_ok());
        }
        for bad in ["", "-v", "a b", "a;b", "/etc", "me:pw@ghcr.io/a/b", "a@b", "a@sha256:xyz"] {
            assert!(check_image_name(bad).is_err());
        }
        assert!(check_branch("feature/x", true).is_ok());
        for bad in ["", "-x", "a..b", "a b", "a:b"] {
            assert!(check_branch(bad, true).is_err());
        }
        assert!(check_branch("x", false).is_err());
    }
}
