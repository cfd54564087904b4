//! Translates a plan into Docker's container configuration: what a shed's container is allowed, given and denied. Pure.
//!
//! A container never has a capability beyond the seven listed here, a way to gain privileges, the engine's socket, a
//! published port, a device, a host namespace, or a disabled memory or process limit.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType,
    RestartPolicy, RestartPolicyNameEnum,
};
use shed_api::shed::Limits;
use shed_engine::local::{HostDirs, link_dir};
use shed_engine::{ContainerPlan, STOP_LIMIT};

use crate::labels::{Labels, VOLUMES};
use crate::network::Networks;

/// Directory of shed-init in a container.
pub(crate) const PROGRAM_DIR: &str = "/opt/shed";
/// File name of shed-init in [`PROGRAM_DIR`].
const PROGRAM: &str = "shed-init";
/// Flag of shed-init where directories of the host are mounted: otherwise the image's groups would decide who of the host's
/// groups `dev` is.
const ONLY_OWN_GROUP: &str = "--only-own-group";
/// Directory of the link's socket in a container.
pub(crate) const LINK_DIR: &str = "/run/shed/link/host";
/// Parent of [`LINK_DIR`]. Only root may enter it, so that `dev` never reaches the link's socket, whoever owns that on the
/// host.
const LINK_GUARD: &str = "/run/shed/link";
/// Where shed-init listens for programs inside the container, and the parent of the directory of tmux's socket.
const RUN_DIR: &str = "/run/shed/box";
/// Mount points of the first and last of [`VOLUMES`]; the home's mount point is in the plan.
const WORKSPACE: &str = "/workspace";
const WORKTREES: &str = "/worktrees";

/// All that root in a container may do beyond an ordinary user: own and open files of `dev`, become `dev`, end its processes.
const CAPABILITIES: [&str; 7] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "KILL"];
/// Mount options of two tmpfs that hold sockets and nothing else. Small, since files in a tmpfs count as memory in use.
const GUARD_OPTIONS: &str = "mode=0700,size=64k";
const RUN_OPTIONS: &str = "mode=0755,size=64k";
/// Size of `/dev/shm`, which browsers and databases need. Docker's own default.
const SHM_BYTES: u64 = 64 << 20;
/// Shared memory is at most the memory limit divided by this: if it were larger, a full `/dev/shm` would leave a shed in
/// which every new process is killed.
const SHM_PART: u64 = 4;
/// Size and number of log files. Only shed-init writes to a container's log, and little.
const LOG_SIZE: &str = "1m";
const LOG_FILES: &str = "2";

/// The create request of a shed's container. `n_cpus` is the number of CPUs the engine has.
pub(crate) fn container(
    plan: &ContainerPlan,
    host_dirs: &HostDirs,
    labels: &Labels,
    networks: &Networks,
    n_cpus: f64,
) -> ContainerCreateBody {
    let mut env = vec![format!("SHED_NAME={}", plan.shed)];
    let given = plan.env.iter().filter(|(name, _)| *name != "SHED_NAME");
    env.extend(given.map(|(name, value)| format!("{name}={value}")));
    ContainerCreateBody {
        image: Some(plan.image.clone()),
        hostname: Some(plan.shed.to_string()),
        // Overrides the image's user: shed-init must be root to start processes as `dev`.
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec![format!("{PROGRAM_DIR}/{PROGRAM}")]),
        cmd: Some(if plan.mounts.is_empty() {
            Vec::new()
        } else {
            vec![ONLY_OWN_GROUP.to_owned()]
        }),
        env: Some(env),
        labels: Some(labels.for_container(plan)),
        stop_signal: Some("SIGTERM".to_owned()),
        stop_timeout: i64::try_from(STOP_LIMIT.as_secs()).ok(),
        tty: Some(false),
        // The image's health check would test a program that does not run.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host_config(plan, host_dirs, labels, networks, n_cpus)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(
    plan: &ContainerPlan,
    host_dirs: &HostDirs,
    labels: &Labels,
    networks: &Networks,
    n_cpus: f64,
) -> HostConfig {
    let strings = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect());
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let Amounts { memory, nano_cpus, pids } = amounts(plan.limits, n_cpus);
    let shm = SHM_BYTES.min(plan.limits.memory_bytes / SHM_PART);
    HostConfig {
        cap_drop: strings(&["ALL"]),
        cap_add: strings(&CAPABILITIES),
        // Without a profile here, Docker's default seccomp profile applies.
        security_opt: strings(&["no-new-privileges"]),
        privileged: Some(false),
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(nano_cpus),
        pids_limit: Some(pids),
        shm_size: i64::try_from(shm).ok(),
        // The server restarts containers itself, since it knows which ones should run.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        init: Some(false),
        ipc_mode: Some("private".to_owned()),
        // Otherwise a shed sees the paths of all control groups of the host, which name other containers.
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some([("max-size", LOG_SIZE), ("max-file", LOG_FILES)].map(pair).into()),
        }),
        network_mode: Some(networks.name(plan.network).to_owned()),
        tmpfs: Some(HashMap::from([(LINK_GUARD, GUARD_OPTIONS), (RUN_DIR, RUN_OPTIONS)].map(pair))),
        mounts: Some(mounts(plan, host_dirs, labels)),
        ..HostConfig::default()
    }
}

fn mounts(plan: &ContainerPlan, host_dirs: &HostDirs, labels: &Labels) -> Vec<Mount> {
    let targets = [WORKSPACE, &plan.home, WORKTREES];
    let volumes = VOLUMES.iter().zip(targets).map(|(what, target)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(labels.volume(&plan.shed, what)),
        target: Some(target.to_owned()),
        ..Mount::default()
    });
    let link_dir = link_dir(&host_dirs.links_dir, &plan.shed);
    let own = [(&host_dirs.program_dir, PROGRAM_DIR), (&link_dir, LINK_DIR)];
    let own = own.map(|(source, target)| bind(&source.to_string_lossy(), target, true));
    let given = plan.mounts.iter().map(|mount| bind(&mount.source, &mount.target, mount.read_only));
    volumes.chain(own).chain(given).collect()
}

fn bind(source: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            // A recursive bind would leave mounts below the source writable: read-only applies to one mount.
            non_recursive: Some(read_only),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

/// The update request that sets new limits on an existing container.
pub(crate) fn update(limits: Limits, n_cpus: f64) -> ContainerUpdateBody {
    let Amounts { memory, nano_cpus, pids } = amounts(limits, n_cpus);
    ContainerUpdateBody {
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(nano_cpus),
        pids_limit: Some(pids),
        ..ContainerUpdateBody::default()
    }
}

struct Amounts {
    memory: i64,
    nano_cpus: i64,
    pids: i64,
}

/// Converts limits to Docker's units. CPUs are capped at the number the engine has: Docker refuses more.
fn amounts(limits: Limits, n_cpus: f64) -> Amounts {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float to integer saturates")]
    let nano_cpus = (limits.cpus.min(n_cpus) * 1e9).round() as i64;
    Amounts {
        memory: i64::try_from(limits.memory_bytes).unwrap_or(i64::MAX),
        nano_cpus,
        pids: i64::from(limits.pids),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;
    use shed_api::shed::Network;

    use super::*;

    fn plan() -> ContainerPlan {
        let mount = |read_only| shed_api::shed::Mount {
            source: "/srv/data".to_owned(),
            target: "/data".to_owned(),
            read_only,
        };
        ContainerPlan {
            shed: "a".parse().unwrap(),
            created_at: DateTime::UNIX_EPOCH,
            repo: None,
            image: "i".to_owned(),
            limits: Limits { cpus: 3.5, memory_bytes: 64 << 20, pids: 64 },
            network: Network::None,
            mounts: vec![mount(true), mount(false)],
            env: BTreeMap::from(
                [("SHED_NAME", "liar"), ("A", "b c")].map(|(k, v)| (k.to_owned(), v.to_owned())),
            ),
            home: "/home/node".to_owned(),
        }
    }

    fn host_dirs() -> HostDirs {
        HostDirs { links_dir: "/links".into(), program_dir: "/programs/x".into() }
    }

    fn labels() -> Labels {
        Labels { server_id: "me".to_owned(), prefix: "p".to_owned(), extra: BTreeMap::new() }
    }

    #[test]
    fn paths_in_a_container_match_those_of_shed_init() {
        assert_eq!(PROGRAM_DIR, shed_link::CONTAINER_PROGRAM_DIR);
        assert_eq!(PROGRAM, shed_link::PROGRAM);
        assert_eq!(ONLY_OWN_GROUP, shed_link::ONLY_OWN_GROUP);
        assert_eq!(LINK_DIR, shed_link::CONTAINER_LINK_DIR);
        assert_eq!(RUN_DIR, shed_link::CONTAINER_RUN_DIR);
        assert!(LINK_DIR.starts_with(LINK_GUARD));
    }

    #[test]
    fn limits_are_converted_and_never_disabled() {
        let host =
            container(&plan(), &host_dirs(), &labels(), &Networks::new("net".to_owned()), 2.0)
                .host_config
                .unwrap();
        assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!((host.nano_cpus, host.pids_limit), (Some(2_000_000_000), Some(64)));
        assert_eq!(host.shm_size, Some(16 << 20));
        let update = update(Limits { cpus: 0.25, memory_bytes: 1 << 40, pids: 7 }, 2.0);
        assert_eq!((update.nano_cpus, update.memory), (Some(250_000_000), Some(1 << 40)));
    }

    #[test]
    fn a_container_runs_as_root_with_seven_capabilities_and_nothing_of_the_host() {
        let body =
            container(&plan(), &host_dirs(), &labels(), &Networks::new("net".to_owned()), 2.0);
        assert_eq!(body.user.as_deref(), Some("0:0"));
        assert_eq!(body.env.unwrap(), ["SHED_NAME=a", "A=b c"]);
        let host = body.host_config.unwrap();
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.cap_add.unwrap().len(), 7);
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!((host.pid_mode, host.uts_mode, host.devices), (None, None, None));
        assert_eq!((host.port_bindings, host.binds), (None, None));
    }

    #[test]
    fn only_requested_mounts_exist_and_the_home_volume_is_at_the_home() {
        let mounts = mounts(&plan(), &host_dirs(), &labels());
        let mounted: Vec<String> = mounts
            .iter()
            .map(|mount| {
                let text = |text: &Option<String>| text.clone().unwrap();
                let only = if mount.read_only == Some(true) { " ro" } else { "" };
                format!("{} {}{only}", text(&mount.source), text(&mount.target))
            })
            .collect();
        let expected = [
            "p-a-workspace /workspace",
            "p-a-home /home/node",
            "p-a-worktrees /worktrees",
            "/programs/x /opt/shed ro",
            "/links/a /run/shed/link/host ro",
            "/srv/data /data ro",
            "/srv/data /data",
        ];
        assert_eq!(mounted, expected);
    }
}
