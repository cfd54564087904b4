//! A plan in Docker's words: what a shed's container is allowed, given and denied. Pure.
//!
//! It never has: a capability beyond the seven, a way to new privileges, the engine's socket, a port of the host's, a
//! device, a namespace of the host's, a memory or process limit that is off.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, RestartPolicy,
    RestartPolicyNameEnum,
};
use shed_api::shed::{Limits, Network};
use shed_engine::BoxPlan;
use shed_engine::STOP_LIMIT;

use crate::labels::{Labels, VOLUMES};

/// Where shed-init's directory is in a box.
pub(crate) const PROGRAM_DIR: &str = "/opt/shed";
/// shed-init's name there.
const PROGRAM: &str = "shed-init";
/// Where the link's directory is in a box.
pub(crate) const LINK_DIR: &str = "/run/shed/link/host";
/// Above it: only root passes, so that `dev` never reaches the link's socket, whoever owns it on the host.
const LINK_GUARD: &str = "/run/shed/link";
/// Where shed-init listens for the programs of the box.
const RUN_DIR: &str = "/run/shed/box";
/// Where volumes go, in the order of [`VOLUMES`]; the home is the plan's.
const WORKSPACE: &str = "/workspace";
const WORKTREES: &str = "/worktrees";

/// All that root in a box may do beyond an ordinary user: own and open files of `dev`'s, become `dev`, end its processes.
const CAPABILITIES: [&str; 7] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "KILL"];
/// They hold sockets and nothing else. What is in a tmpfs counts as memory that nothing frees.
const GUARD_OPTIONS: &str = "mode=0700,size=64k";
const RUN_OPTIONS: &str = "mode=0755,size=64k";
/// Browsers and databases want shared memory; Docker's own default.
const SHM_BYTES: u64 = 64 << 20;
/// Of the memory limit, at most one part in so many is shared memory: a full one must not leave a shed in which every new
/// process is killed.
const SHM_PART: u64 = 4;
/// Only shed-init writes to a container's log, and little.
const LOG_SIZE: &str = "1m";
const LOG_FILES: &str = "2";

/// Everything the API wants to know of a new container. `n_cpus` is what the engine has.
pub(crate) fn container(
    plan: &BoxPlan,
    labels: &Labels,
    network: &str,
    n_cpus: f64,
) -> ContainerCreateBody {
    let mut env = vec![format!("SHED_NAME={}", plan.shed)];
    let given = plan.env.iter().filter(|(name, _)| *name != "SHED_NAME");
    env.extend(given.map(|(name, value)| format!("{name}={value}")));
    ContainerCreateBody {
        image: Some(plan.image.clone()),
        hostname: Some(plan.shed.to_string()),
        // Whatever the image says: shed-init must be root to make others `dev`.
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec![format!("{PROGRAM_DIR}/{PROGRAM}")]),
        cmd: Some(Vec::new()),
        env: Some(env),
        labels: Some(labels.for_container(plan)),
        stop_signal: Some("SIGTERM".to_owned()),
        stop_timeout: i64::try_from(STOP_LIMIT.as_secs()).ok(),
        tty: Some(false),
        // It would test a program that is not run.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host_config(plan, labels, network, n_cpus)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(plan: &BoxPlan, labels: &Labels, network: &str, n_cpus: f64) -> HostConfig {
    let words = |list: &[&str]| Some(list.iter().map(|word| (*word).to_owned()).collect());
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let Amounts { memory, nano_cpus, pids } = amounts(plan.limits, n_cpus);
    let shm = SHM_BYTES.min(plan.limits.memory_bytes / SHM_PART);
    HostConfig {
        cap_drop: words(&["ALL"]),
        cap_add: words(&CAPABILITIES),
        // Docker's own seccomp profile holds when none is named.
        security_opt: words(&["no-new-privileges"]),
        privileged: Some(false),
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: Some(nano_cpus),
        pids_limit: Some(pids),
        shm_size: i64::try_from(shm).ok(),
        // The server starts again what ran: it knows what people want.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        init: Some(false),
        ipc_mode: Some("private".to_owned()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some([("max-size", LOG_SIZE), ("max-file", LOG_FILES)].map(pair).into()),
        }),
        network_mode: Some(match plan.network {
            Network::Open => network.to_owned(),
            Network::None => "none".to_owned(),
        }),
        tmpfs: Some(HashMap::from([(LINK_GUARD, GUARD_OPTIONS), (RUN_DIR, RUN_OPTIONS)].map(pair))),
        mounts: Some(mounts(plan, labels)),
        ..HostConfig::default()
    }
}

fn mounts(plan: &BoxPlan, labels: &Labels) -> Vec<Mount> {
    let targets = [WORKSPACE, &plan.home, WORKTREES];
    let volumes = VOLUMES.iter().zip(targets).map(|(what, target)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(labels.volume(&plan.shed, what)),
        target: Some(target.to_owned()),
        ..Mount::default()
    });
    let own = [(&plan.program_dir, PROGRAM_DIR), (&plan.link_dir, LINK_DIR)];
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
            // What is mounted below the source would stay writable: read-only holds for one mount.
            non_recursive: Some(read_only),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

/// New limits for a container that is there.
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

/// Limits in Docker's units. More CPUs than there are is as many as there are: Docker refuses it otherwise.
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

    use super::*;

    fn plan() -> BoxPlan {
        let mount = |read_only| shed_api::shed::Mount {
            source: "/srv/data".to_owned(),
            target: "/data".to_owned(),
            read_only,
        };
        BoxPlan {
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
            link_dir: "/links/a".into(),
            program_dir: "/programs/x".into(),
        }
    }

    fn labels() -> Labels {
        Labels { server_id: "me".to_owned(), prefix: "p".to_owned(), extra: BTreeMap::new() }
    }

    #[test]
    fn paths_in_a_box_are_those_shed_init_knows() {
        assert_eq!(PROGRAM_DIR, shed_link::BOX_PROGRAM_DIR);
        assert_eq!(PROGRAM, shed_link::PROGRAM);
        assert_eq!(LINK_DIR, shed_link::BOX_LINK_DIR);
        assert_eq!(RUN_DIR, shed_link::BOX_RUN_DIR);
        assert!(LINK_DIR.starts_with(LINK_GUARD));
    }

    #[test]
    fn limits_are_docker_s_and_never_off() {
        let host = container(&plan(), &labels(), "net", 2.0).host_config.unwrap();
        assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!((host.nano_cpus, host.pids_limit), (Some(2_000_000_000), Some(64)));
        assert_eq!(host.shm_size, Some(16 << 20));
        let update = update(Limits { cpus: 0.25, memory_bytes: 1 << 40, pids: 7 }, 2.0);
        assert_eq!((update.nano_cpus, update.memory), (Some(250_000_000), Some(1 << 40)));
    }

    #[test]
    fn a_container_is_root_s_with_seven_capabilities_and_nothing_of_the_host_s() {
        let body = container(&plan(), &labels(), "net", 2.0);
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
    fn only_what_was_asked_for_is_mounted_and_the_homes_volume_is_at_home() {
        let mounts = mounts(&plan(), &labels());
        let told: Vec<String> = mounts
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
        assert_eq!(told, expected);
    }
}
