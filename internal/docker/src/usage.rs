//! Resource usage and disk usage of containers and volumes, from Docker's measurements. Pure.

use std::collections::HashMap;

use bollard::models::{ContainerCpuStats, ContainerMemoryStats, ContainerStatsResponse};
use serde_json::Value;
use shed_api::ShedName;
use shed_api::shed::{DiskUse, Stats};

use crate::labels::{Labels, VOLUME};

/// Resource usage of a running container; `None` if it does not run.
pub(crate) fn stats(shed: &ShedName, measured: &ContainerStatsResponse) -> Option<Stats> {
    let memory = measured.memory_stats.as_ref()?;
    let used = memory.usage?;
    let now = measured.cpu_stats.as_ref()?;
    let networks = measured.networks.iter().flat_map(HashMap::values);
    let (mut network_in_bytes, mut network_out_bytes) = (0, 0);
    for network in networks {
        network_in_bytes += network.rx_bytes.unwrap_or_default();
        network_out_bytes += network.tx_bytes.unwrap_or_default();
    }
    let pids = measured.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or_default();
    Some(Stats {
        name: shed.to_string(),
        cpus: measured.precpu_stats.as_ref().map_or(0.0, |before| cpus(before, now)),
        memory_bytes: used.saturating_sub(cache(memory)),
        memory_limit_bytes: memory.limit.unwrap_or_default(),
        pids: u32::try_from(pids).unwrap_or(u32::MAX),
        network_in_bytes,
        network_out_bytes,
    })
}

/// CPUs in use between two samples. The system's time is the sum over all its CPUs.
fn cpus(before: &ContainerCpuStats, now: &ContainerCpuStats) -> f64 {
    let own = |stats: &ContainerCpuStats| stats.cpu_usage.as_ref()?.total_usage;
    let (Some(from), Some(to)) = (own(before), own(now)) else {
        return 0.0;
    };
    let (Some(all_from), Some(all_to)) = (before.system_cpu_usage, now.system_cpu_usage) else {
        return 0.0;
    };
    let (used, passed) = (to.saturating_sub(from), all_to.saturating_sub(all_from));
    if passed == 0 {
        return 0.0;
    }
    let n_cpus = f64::from(now.online_cpus.unwrap_or(1).max(1));
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a second or two")]
    let part = used as f64 / passed as f64;
    part * n_cpus
}

/// The page cache in bytes, which the kernel reclaims when memory is needed. The kernel counts files in a tmpfs as part of
/// it although it cannot reclaim them, so they are subtracted.
fn cache(memory: &ContainerMemoryStats) -> u64 {
    let value = |key: &str| memory.stats.as_ref().and_then(|stats| stats.get(key)).copied();
    // cgroup v1 reports own values and totals of the whole tree; v2 reports only totals.
    let files = value("total_cache").or_else(|| value("file"));
    let shared = value("total_shmem").or_else(|| value("shmem")).unwrap_or_default();
    files.unwrap_or_default().saturating_sub(shared)
}

/// Disk usage of this server's containers and volumes, from the response of `/system/df`.
pub(crate) fn disk(answer: &Value, labels: &Labels) -> Vec<DiskUse> {
    // API 1.52 renamed these lists.
    let list = |old: &str, new: &str| {
        let items = answer.get(old).or_else(|| answer.get(new)?.get("Items"));
        items.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let row = |item: &Value, what: Option<&str>, size: &Value| {
        let own = labels_of(item);
        let what = what.or(own.get(VOLUME).map(String::as_str))?;
        Some(DiskUse {
            name: labels.owner(&own)?.to_string(),
            what: what.to_owned(),
            // -1 means "not measured".
            n_bytes: size.as_u64().unwrap_or_default(),
            kept: false,
        })
    };
    let containers = list("Containers", "ContainerUsage");
    let containers =
        containers.iter().filter_map(|item| row(item, Some("container"), &item["SizeRw"]));
    let volumes = list("Volumes", "VolumeUsage");
    let volumes = volumes.iter().filter_map(|item| row(item, None, &item["UsageData"]["Size"]));
    containers.chain(volumes).collect()
}

fn labels_of(item: &Value) -> HashMap<String, String> {
    let pairs = item.get("Labels").and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bollard::models::ContainerCpuUsage;
    use serde_json::json;

    use super::*;

    fn cpu(own: u64, all: u64) -> ContainerCpuStats {
        ContainerCpuStats {
            cpu_usage: Some(ContainerCpuUsage {
                total_usage: Some(own),
                ..ContainerCpuUsage::default()
            }),
            system_cpu_usage: Some(all),
            online_cpus: Some(4),
            ..ContainerCpuStats::default()
        }
    }

    fn memory(stats: &[(&str, u64)]) -> ContainerMemoryStats {
        let stats = stats.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        ContainerMemoryStats {
            usage: Some(1000),
            stats: Some(stats),
            ..ContainerMemoryStats::default()
        }
    }

    #[test]
    fn cpu_usage_is_computed_between_two_samples() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(cpus(&cpu(100, 1000), &cpu(600, 3000)), 1.0));
        assert!(close(cpus(&cpu(100, 1000), &cpu(600, 1000)), 0.0));
        assert!(close(cpus(&cpu(100, 1000), &cpu(50, 3000)), 0.0));
        assert!(close(cpus(&ContainerCpuStats::default(), &cpu(50, 3000)), 0.0));
    }

    #[test]
    fn the_page_cache_is_left_out_on_both_kinds_of_cgroup() {
        assert_eq!(
            cache(&memory(&[("total_cache", 300), ("total_shmem", 100), ("cache", 9)])),
            200
        );
        assert_eq!(cache(&memory(&[("file", 300), ("shmem", 50)])), 250);
        assert_eq!(cache(&memory(&[])), 0);
    }

    #[test]
    fn a_stopped_container_has_no_stats() {
        let shed: ShedName = "a".parse().unwrap();
        assert_eq!(stats(&shed, &ContainerStatsResponse::default()), None);
        let running = ContainerStatsResponse {
            memory_stats: Some(memory(&[("file", 300)])),
            cpu_stats: Some(cpu(1, 2)),
            ..ContainerStatsResponse::default()
        };
        assert_eq!(stats(&shed, &running).unwrap().memory_bytes, 700);
    }

    #[test]
    fn disk_usage_is_read_under_old_and_new_names_and_only_for_our_objects() {
        let labels =
            Labels { server_id: "me".to_owned(), prefix: "p".to_owned(), extra: BTreeMap::new() };
        let own =
            json!({"shed": "true", "shed.server": "me", "shed.name": "a", "shed.volume": "home"});
        let other =
            json!({"shed": "true", "shed.server": "you", "shed.name": "a", "shed.volume": "home"});
        let volumes = json!([
            {"Labels": own, "UsageData": {"Size": 7}},
            {"Labels": own, "UsageData": {"Size": -1}},
            {"Labels": other, "UsageData": {"Size": 9}},
            {"Labels": null},
        ]);
        let containers = json!([{"Labels": own, "SizeRw": 5}, {"Labels": own}]);
        let old = json!({"Volumes": volumes, "Containers": containers});
        let new =
            json!({"VolumeUsage": {"Items": volumes}, "ContainerUsage": {"Items": containers}});
        for answer in [old, new] {
            let rows: Vec<(String, u64)> =
                disk(&answer, &labels).into_iter().map(|row| (row.what, row.n_bytes)).collect();
            let expected = [("container", 5), ("container", 0), ("home", 7), ("home", 0)];
            assert_eq!(rows, expected.map(|(what, n)| (what.to_owned(), n)));
        }
        assert!(disk(&json!({"Volumes": null}), &labels).is_empty());
    }
}
