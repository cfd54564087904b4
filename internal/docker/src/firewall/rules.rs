//! The text of the rules, for each tool. Pure.

use std::fmt::Write as _;

use super::Tool;

/// Where clouds answer programs of a machine without authentication, credentials included: all link-local addresses (most
/// clouds), Azure's, and Alibaba's.
const METADATA_V4: [&str; 3] = ["169.254.0.0/16", "168.63.129.16", "100.100.100.200"];
/// The same for IPv6: link-local, and those of AWS, Google and Oracle.
const METADATA_V6: [&str; 4] = ["fe80::/10", "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe"];
/// Neighbour discovery, without which IPv6 does not work at all: router solicitation, neighbour solicitation and
/// advertisement. Number and name by nft.
const DISCOVERY: [(u8, &str); 3] =
    [(133, "nd-router-solicit"), (135, "nd-neighbor-solicit"), (136, "nd-neighbor-advert")];

/// An address family, which iptables has a program for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// The program that prints rules.
    pub(super) fn save(self) -> &'static str {
        match self {
            Self::V4 => "iptables-save",
            Self::V6 => "ip6tables-save",
        }
    }

    /// The program that applies rules, all or none.
    pub(super) fn restore(self) -> &'static str {
        match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        }
    }
}

/// Input of `nft -f` that replaces the table: in one transaction, whether or not there was one.
///
/// Answers to connections that the host made pass, and so does DNS: the engine's resolver asks the host's name servers from
/// within the shed's network, and in some clouds these are at a metadata address.
pub(super) fn nft(name: &str, bridge: &str) -> String {
    let discovery = DISCOVERY.map(|(_, name)| name).join(", ");
    let (v4, v6) = (METADATA_V4.join(", "), METADATA_V6.join(", "));
    let passes = format!(
        "    iifname != \"{bridge}\" accept\n    ct state established,related accept\n    \
         tcp dport 53 accept\n    udp dport 53 accept\n"
    );
    format!(
        "table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n  \
         chain input {{\n    type filter hook input priority 0; policy accept;\n{passes}    \
         icmpv6 type {{ {discovery} }} accept\n    reject\n  }}\n  \
         chain forward {{\n    type filter hook forward priority 0; policy accept;\n{passes}    \
         ip daddr {{ {v4} }} reject\n    ip6 daddr {{ {v6} }} reject\n  }}\n}}\n"
    )
}

/// Input of `iptables-restore --noflush` that replaces the chain and the jump to it, given what `iptables-save` prints.
///
/// The jump is in `PREROUTING` of the table `mangle`, before routing decides between the host and another one, and out of the
/// way of those who manage the table `filter`. Only dropping is possible there.
pub(super) fn iptables(family: Family, name: &str, bridge: &str, saved: &str) -> String {
    let mut text = format!("*mangle\n:{name} - [0:0]\n");
    let mut add = |rule: &str| writeln!(text, "-A {name} {rule}").ok(); // writing to a String does not fail
    add("-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN");
    add("-p tcp -m tcp --dport 53 -j RETURN");
    add("-p udp -m udp --dport 53 -j RETURN");
    if family == Family::V6 {
        for (number, _) in DISCOVERY {
            add(&format!("-p ipv6-icmp -m icmp6 --icmpv6-type {number} -j RETURN"));
        }
    }
    // IPv6 has no broadcast: the kernel refuses a rule about it.
    let kinds: &[&str] = match family {
        Family::V4 => &["LOCAL", "BROADCAST", "MULTICAST"],
        Family::V6 => &["LOCAL", "MULTICAST"],
    };
    for kind in kinds {
        add(&format!("-m addrtype --dst-type {kind} -j DROP"));
    }
    let metadata: &[&str] = if family == Family::V4 { &METADATA_V4 } else { &METADATA_V6 };
    for address in metadata {
        add(&format!("-d {address} -j DROP"));
    }
    for jump in jumps(name, saved) {
        writeln!(text, "{}", jump.replacen("-A", "-D", 1)).ok();
    }
    text + &format!("-I PREROUTING 1 -i {bridge} -j {name}\nCOMMIT\n")
}

/// Input of `iptables-restore --noflush` that removes the chain and the jumps to it; `None` if there is no such chain.
pub(super) fn iptables_removal(name: &str, saved: &str) -> Option<String> {
    iptables_lines(name, saved).next()?;
    let mut text = "*mangle\n".to_owned();
    for jump in jumps(name, saved) {
        writeln!(text, "{}", jump.replacen("-A", "-D", 1)).ok();
    }
    Some(text + &format!("-F {name}\n-X {name}\nCOMMIT\n"))
}

/// The lines of `iptables-save` about the chain.
pub(super) fn iptables_lines<'a>(name: &'a str, saved: &'a str) -> impl Iterator<Item = &'a str> {
    let about = move |line: &&str| line.split([' ', ':']).any(|word| word == name);
    saved.lines().filter(about)
}

/// The rules that jump to the chain.
fn jumps<'a>(name: &'a str, saved: &'a str) -> impl Iterator<Item = &'a str> {
    let jump = format!(" -j {name}");
    iptables_lines(name, saved).filter(move |line| line.starts_with("-A ") && line.ends_with(&jump))
}

/// Whether the rules that a tool lists are for this bridge, and for all address families.
pub(super) fn names_bridge(tool: Tool, listed: &str, bridge: &str, n_families: usize) -> bool {
    match tool {
        Tool::Nft => listed.contains(&format!("\"{bridge}\"")) && listed.contains("reject"),
        Tool::Iptables => {
            let jump = format!("-A PREROUTING -i {bridge} -j ");
            let count = |text: &str| listed.matches(text).count();
            count(&jump) == n_families && count("--dst-type LOCAL -j DROP") == n_families
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_refuses_the_host_and_metadata_and_passes_answers_and_dns() {
        let text = nft("shed-x", "br-1");
        assert!(text.starts_with("table inet shed-x\ndelete table inet shed-x\n"), "{text}");
        let (input, forward) = text.split_once("chain forward").unwrap();
        for chain in [input, forward] {
            let passes = chain.find("ct state established,related accept").unwrap();
            assert!(chain.find("iifname != \"br-1\" accept").unwrap() < passes, "{text}");
            assert!(passes < chain.find("reject").unwrap(), "{text}");
        }
        assert!(input.contains("nd-neighbor-solicit") && input.ends_with("reject\n  }\n  "));
        assert!(forward.contains("169.254.0.0/16") && forward.contains("fd00:ec2::254"));
        assert!(
            names_bridge(Tool::Nft, &text, "br-1", 2)
                && !names_bridge(Tool::Nft, &text, "br-10", 2)
        );
    }

    #[test]
    fn a_chain_is_replaced_with_its_jumps_and_nothing_else() {
        let saved = "*mangle\n:PREROUTING ACCEPT [0:0]\n:shed-x - [0:0]\n:shed-xy - [0:0]\n\
                     -A PREROUTING -i br-0 -j shed-x\n-A PREROUTING -i br-9 -j shed-xy\n\
                     -A shed-x -d 169.254.0.0/16 -j DROP\nCOMMIT\n";
        let text = iptables(Family::V4, "shed-x", "br-1", saved);
        let jumps: Vec<&str> = text.lines().filter(|line| line.contains("PREROUTING")).collect();
        assert_eq!(jumps, ["-D PREROUTING -i br-0 -j shed-x", "-I PREROUTING 1 -i br-1 -j shed-x"]);
        assert!(!text.contains("shed-xy") && !text.contains("icmp6"), "{text}");
        assert!(iptables(Family::V6, "shed-x", "br-1", "").contains("--icmpv6-type 135 -j RETURN"));
        let removal = iptables_removal("shed-x", saved).unwrap();
        assert_eq!(
            removal,
            "*mangle\n-D PREROUTING -i br-0 -j shed-x\n-F shed-x\n-X shed-x\nCOMMIT\n"
        );
        assert_eq!(iptables_removal("shed-z", saved), None);
        assert!(!iptables(Family::V6, "shed-x", "br-1", "").contains("BROADCAST"));
        let installed = text.replace("-I PREROUTING 1", "-A PREROUTING");
        let names = |bridge, n| names_bridge(Tool::Iptables, &installed, bridge, n);
        assert!(names("br-1", 1) && !names("br-1", 2) && !names("br-9", 1));
    }
}
