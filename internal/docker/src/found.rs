//! Translates an inspected container into the port's description of it. Pure.

use std::path::Path;

use bollard::models::{
    ContainerInspectResponse, ContainerState as DockerState, ContainerStateStatusEnum, HostConfig,
    MountType,
};
use shed_api::ShedName;
use shed_api::shed::{Limits, Mount};
use shed_engine::local::HostDirs;
use shed_engine::{ContainerState, Found};

use crate::config::{LINK_DIR, PROGRAM_DIR};
use crate::labels::{self, Labels};
use crate::network::Networks;

/// The description of a container, if it belongs to this server.
pub(crate) fn found(
    container: ContainerInspectResponse,
    labels: &Labels,
    host_dirs: &HostDirs,
    networks: &Networks,
) -> Option<Found> {
    let config = container.config.unwrap_or_default();
    let own = config.labels.unwrap_or_default();
    let shed = labels.owner(&own)?;
    let host = container.host_config.unwrap_or_default();
    let env = labels::given_env(&own, &config.env.unwrap_or_default());
    let created_at = labels::created_at(&own).or(container.created?.parse().ok())?;
    let binds = binds(&host);
    let program = binds.iter().find(|mount| mount.target == PROGRAM_DIR);
    Some(Found {
        shed,
        id: container.id?,
        state: state(&container.state.unwrap_or_default()),
        created_at,
        repo: labels::repo(&own),
        image: config.image.unwrap_or_default(),
        limits: limits(&host),
        network: networks.of_mode(host.network_mode.as_deref()),
        stranded: program.is_some_and(|mount| Path::new(&mount.source) != host_dirs.program_dir),
        mounts: binds
            .into_iter()
            .filter(|mount| mount.target != PROGRAM_DIR && mount.target != LINK_DIR)
            .collect(),
        env,
    })
}

/// The shed a container belongs to and the name of its image, to decide whether it can be reused.
pub(crate) fn owner(
    container: &ContainerInspectResponse,
    labels: &Labels,
) -> Option<(ShedName, String)> {
    let config = container.config.as_ref()?;
    let shed = labels.owner(config.labels.as_ref()?)?;
    Some((shed, config.image.clone().unwrap_or_default()))
}

fn state(state: &DockerState) -> ContainerState {
    match state.status {
        Some(ContainerStateStatusEnum::CREATED) => ContainerState::Created,
        Some(
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::RESTARTING
            | ContainerStateStatusEnum::STOPPING,
        ) => ContainerState::Running,
        Some(ContainerStateStatusEnum::PAUSED) => ContainerState::Paused,
        Some(
            ContainerStateStatusEnum::EMPTY
            | ContainerStateStatusEnum::REMOVING
            | ContainerStateStatusEnum::EXITED
            | ContainerStateStatusEnum::DEAD,
        )
        | None => ContainerState::Exited {
            code: state.exit_code.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
        },
    }
}

fn limits(host: &HostConfig) -> Limits {
    #[expect(clippy::cast_precision_loss, reason = "thousandths of a CPU are exact up to millions")]
    let cpus = host.nano_cpus.unwrap_or_default() as f64 / 1e9;
    Limits {
        cpus,
        memory_bytes: host.memory.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
        pids: host.pids_limit.and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
    }
}

fn binds(host: &HostConfig) -> Vec<Mount> {
    let mounts = host.mounts.iter().flatten();
    mounts
        .filter(|mount| mount.typ == Some(MountType::BIND))
        .filter_map(|mount| {
            Some(Mount {
                source: mount.source.clone()?,
                target: mount.target.clone()?,
                read_only: mount.read_only.unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bollard::models::ContainerConfig;
    use chrono::{TimeZone as _, Utc};
    use shed_engine::ContainerPlan;

    use super::*;

    #[test]
    fn a_created_container_reads_back_as_planned() {
        let labels =
            Labels { server_id: "me".to_owned(), prefix: "p".to_owned(), extra: BTreeMap::new() };
        let mount =
            Mount { source: "/srv".to_owned(), target: "/data".to_owned(), read_only: true };
        let plan = ContainerPlan {
            shed: "a".parse().unwrap(),
            created_at: Utc.timestamp_opt(1_700_000_000, 123_456_789).unwrap(),
            repo: Some("https://example.com/x".to_owned()),
            image: "debian:12".to_owned(),
            limits: Limits { cpus: 0.5, memory_bytes: 1 << 30, pids: 99 },
            network: shed_api::shed::Network::Open,
            mounts: vec![mount],
            env: BTreeMap::from([("A".to_owned(), "b=c".to_owned())]),
            home: "/home/dev".to_owned(),
        };
        let host_dirs = HostDirs { links_dir: "/links".into(), program_dir: "/programs/x".into() };
        let networks = Networks::new("net".to_owned());
        let body = crate::config::container(&plan, &host_dirs, &labels, &networks, 2.0);
        let mut env = body.env.clone().unwrap();
        env.push("PATH=/bin".to_owned());
        let inspected = ContainerInspectResponse {
            id: Some("0123".to_owned()),
            created: Some("2020-01-01T00:00:00Z".to_owned()),
            state: Some(DockerState {
                status: Some(ContainerStateStatusEnum::EXITED),
                exit_code: Some(137),
                oom_killed: Some(true),
                ..DockerState::default()
            }),
            host_config: body.host_config,
            config: Some(ContainerConfig {
                image: body.image,
                labels: body.labels,
                env: Some(env),
                ..ContainerConfig::default()
            }),
            ..ContainerInspectResponse::default()
        };
        let expected = Found {
            shed: plan.shed,
            id: "0123".to_owned(),
            state: ContainerState::Exited { code: 137, out_of_memory: true },
            created_at: plan.created_at,
            repo: plan.repo,
            image: plan.image,
            limits: plan.limits,
            network: plan.network,
            mounts: plan.mounts,
            env: plan.env,
            stranded: false,
        };
        assert_eq!(
            found(inspected.clone(), &labels, &host_dirs, &networks),
            Some(expected.clone())
        );
        let moved = HostDirs { program_dir: "/programs/y".into(), ..host_dirs.clone() };
        let stranded = Found { stranded: true, ..expected };
        assert_eq!(found(inspected.clone(), &labels, &moved, &networks), Some(stranded));
        let other = Labels { server_id: "you".to_owned(), ..labels };
        assert_eq!(found(inspected, &other, &host_dirs, &networks), None);
    }
}
