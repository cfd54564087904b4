//! What a shed is created with: checks of what a person asks for, and the server's defaults.

use crate::shed::mounts::look_up;
use shed_api::Scope;
use shed_api::git::Branch;
use shed_api::shed::{CreateShed, Limits, Mount};
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
    check_image(&image)?;
    let limits = limits(defaults.limits, request.cpus, request.memory.as_deref(), request.pids)?;
    if !request.mounts.is_empty() {
        person.may(Scope::Admin, "to mount directories of the host")?;
    }
    for mount in &request.mounts {
        settings.mounts.check(mount, person.local_uid, "/home/dev", look_up)?;
    }
    let mut env = defaults.env.clone();
    env.extend(request.env.clone());
    env::check_shed(env.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    let mounts = defaults.mounts.iter().chain(&request.mounts).cloned().collect();
    let spec = ShedSpec {
        image,
        repo: repo.as_ref().map(|repo| repo.url.clone()),
        branch: request.branch.clone(),
        limits,
        network: request.network.unwrap_or(defaults.network),
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

pub(crate) fn check_image(image: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    let good = !image.is_empty()
        && image.len() <= MAX_IMAGE_BYTES
        && image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && image.chars().all(plain);
    if good {
        Ok(())
    } else {
        Err(Error::Rejected(Rejection::Invalid(format!(
            "invalid image {image:?}; expected a name like debian:13 or ghcr.io/owner/image:tag"
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
            assert!(check_image(good).is_ok());
        }
        for bad in ["", "-v", "a b", "a;b", "/etc"] {
            assert!(check_image(bad).is_err());
        }
        assert!(check_branch("feature/x", true).is_ok());
        for bad in ["", "-x", "a..b", "a b", "a:b"] {
            assert!(check_branch(bad, true).is_err());
        }
        assert!(check_branch("x", false).is_err());
    }
}
