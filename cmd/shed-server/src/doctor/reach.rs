//! Checks what a shed can reach and should not: the cloud's metadata address, and listeners of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use shed_api::ShedStatus;
use shed_api::stream::ExecRequest;
use shed_client::Client;

use crate::globals::Globals;
use shed_report::{Check, Verdict, check};

/// Clouds hand out credentials at this address without authentication.
const METADATA: &str = "169.254.169.254 80";
/// The most listeners of the host that are tried.
const MAX_PORTS: usize = 64;
/// Name servers stay reachable: the engine's resolver asks those of the host from within the shed's network.
const DNS: u16 = 53;
/// Runs in a shed. Reads `ADDRESS PORT` lines and prints those that accept a connection; the address `gateway` stands for
/// the shed's default gateway. Connects in parallel, because a filtered port takes the whole timeout of one second.
const PROBE: &str = r#"
gateway=$(while read -r _ destination gateway _; do
    if [ "$destination" = 00000000 ]; then
        printf '%d.%d.%d.%d' "0x${gateway:6:2}" "0x${gateway:4:2}" "0x${gateway:2:2}" "0x${gateway:0:2}"
        break
    fi
done < /proc/net/route)
while read -r address port; do
    [ "$address" = gateway ] && address=$gateway
    [ -n "$address" ] || continue
    ( timeout 1 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$address" "$port" 2> /dev/null && echo "$address $port" ) &
done
wait
"#;

/// Tries the connections from the first running shed that has a filtered network.
pub(crate) async fn check_reach(client: &Client, globals: &Globals) -> Vec<Check> {
    let what = "reach from a shed";
    let sheds = match client.sheds().await {
        Ok(list) => list.sheds,
        Err(error) => return vec![check(what, Verdict::Fail, error.to_string())],
    };
    let filtered = |network| network == shed_api::shed::Network::Filtered;
    let running = |status| status == ShedStatus::Running;
    let Some(shed) = sheds.iter().find(|shed| running(shed.status) && filtered(shed.network))
    else {
        let why = "not checked: no shed with a filtered network is running";
        return vec![check(what, Verdict::Pass, why)];
    };
    let mut lines = format!("{METADATA}\n");
    for port in listening().into_iter().filter(|port| *port != DNS).take(MAX_PORTS) {
        writeln!(lines, "gateway {port}").ok();
    }
    let request = ExecRequest {
        argv: ["bash", "-c", PROBE].map(ToOwned::to_owned).to_vec(),
        stdin: Some(lines),
        timeout: Some(20.0),
        env: BTreeMap::new(),
        directory: None,
        session: None,
        root: false,
        stdin_base64: None,
    };
    let result = match client.exec(&shed.name, &request).await {
        Ok(result) => result,
        Err(error) => return vec![check(what, Verdict::Warn, format!("{}: {error}", shed.name))],
    };
    let remedy = globals.paste("firewall install");
    let reached: Vec<&str> = result.stdout.lines().collect();
    let metadata = if reached.contains(&METADATA) {
        check(
            "metadata address",
            Verdict::Warn,
            format!(
                "sheds can reach 169.254.169.254, where clouds hand out credentials; install the rules as root on the \
                 engine's host: {remedy}"
            ),
        )
    } else {
        check("metadata address", Verdict::Pass, "sheds cannot reach 169.254.169.254")
    };
    let ports: Vec<&str> = reached
        .iter()
        .filter(|line| **line != METADATA)
        .filter_map(|line| line.split_once(' ').map(|(_, port)| port))
        .collect();
    let host = if ports.is_empty() {
        check("host listeners", Verdict::Pass, "sheds cannot reach listeners of this host")
    } else {
        let ports = ports.join(", ");
        check(
            "host listeners",
            Verdict::Warn,
            format!(
                "sheds can reach ports {ports} of this host; bind them to 127.0.0.1, or install the rules as root: {remedy}"
            ),
        )
    };
    vec![metadata, host]
}

/// Ports on which this host listens on other addresses than loopback.
fn listening() -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        ports.extend(listeners(&std::fs::read_to_string(file).unwrap_or_default()));
    }
    ports
}

/// Parses `/proc/net/tcp`: the second word is `ADDRESS:PORT` in hexadecimal, the fourth is `0A` for a listener.
fn listeners(text: &str) -> impl Iterator<Item = u16> {
    text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        let listens = words.nth(1)? == "0A";
        // 127.x.x.x ends with 7F in the kernel's byte order; ::1 with 01000000.
        let loopback = if address.len() == 8 {
            address.ends_with("7F")
        } else {
            address == "00000000000000000000000001000000"
        };
        (listens && !loopback).then(|| u16::from_str_radix(port, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_on_loopback_are_left_out() {
        let text = "  sl  local_address rem_address   st tx_queue\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
             1: 00000000:0016 00000000:0000 0A 00000000:00000000\n\
             2: 0A00020F:0016 0A000202:D431 01 00000000:00000000\n";
        assert_eq!(listeners(text).collect::<Vec<_>>(), [22]);
        let text = "  sl\n 0: 00000000000000000000000001000000:0050 0:0 0A 0\n\
             1: 00000000000000000000000000000000:0051 0:0 0A 0\n";
        assert_eq!(listeners(text).collect::<Vec<_>>(), [0x51]);
    }
}
