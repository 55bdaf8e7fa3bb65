//! The static rules: what `nft list table inet wharf` shows, apart from the elements.
//!
//! ```text
//! publish      dnat by host address, any address, port range       (prerouting, output)
//! direct       container addresses are not reached from outside    (raw prerouting)
//! forward      user → within → internal → known → published → drop what else enters a bridge
//! postrouting  masquerade outgoing, from loopback, and hairpin
//! relayed      output, rootless: a relayed connection keeps its socket's mark …
//! answers      prerouting, rootless: … and its answers get it
//! user         empty: the administrator's own rules, before ours
//! ```

use super::message::{
    ADDRESS4, ADDRESS6, Compare, Field, Hook, IFNAME, IPV4, IPV6, Meta, PORT, PROTOCOL, Rule,
    STATE_KNOWN, SetDefinition, Transaction,
};
use crate::answers::{ANSWER, MARK};

pub(super) const ADDR4: &str = "addr4";
pub(super) const ANY4: &str = "any4";
pub(super) const RANGE4: &str = "range4";
pub(super) const ADDR6: &str = "addr6";
pub(super) const ANY6: &str = "any6";
pub(super) const RANGE6: &str = "range6";
pub(super) const NETS4: &str = "nets4";
pub(super) const NETS6: &str = "nets6";
pub(super) const MASQUERADE4: &str = "masquerade4";
pub(super) const MASQUERADE6: &str = "masquerade6";
pub(super) const BRIDGES: &str = "bridges";
pub(super) const INTERNAL: &str = "internal";
pub(super) const WITHIN: &str = "within";
/// The chain whose rules are the administrator's.
pub(super) const USER: &str = "user";

/// What of the rules depends on the daemon's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// Container addresses may be reached from outside the host.
    pub(crate) direct_routing: bool,
    /// IPv4 forwarding was off before us: hosts beyond our bridges must not gain a router by it.
    pub(crate) guard4: bool,
    /// The same for IPv6.
    pub(crate) guard6: bool,
    /// Relayed connections carry their clients' addresses.
    pub(crate) relayed: bool,
}

const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const SETS: [SetDefinition; 13] = [
    map(ADDR4, &[ADDRESS4, PROTOCOL, PORT], &[ADDRESS4, PORT], false),
    map(ANY4, &[PROTOCOL, PORT], &[ADDRESS4, PORT], false),
    map(RANGE4, &[PROTOCOL, PORT], &[ADDRESS4], true),
    map(ADDR6, &[ADDRESS6, PROTOCOL, PORT], &[ADDRESS6, PORT], false),
    map(ANY6, &[PROTOCOL, PORT], &[ADDRESS6, PORT], false),
    map(RANGE6, &[PROTOCOL, PORT], &[ADDRESS6], true),
    map(NETS4, &[ADDRESS4], &[], true),
    map(NETS6, &[ADDRESS6], &[], true),
    map(MASQUERADE4, &[ADDRESS4], &[], true),
    map(MASQUERADE6, &[ADDRESS6], &[], true),
    map(BRIDGES, &[IFNAME], &[], false),
    map(INTERNAL, &[IFNAME], &[], false),
    map(WITHIN, &[IFNAME, IFNAME], &[], false),
];

const fn map(
    name: &'static str,
    key: &'static [Field],
    data: &'static [Field],
    interval: bool,
) -> SetDefinition {
    SetDefinition {
        name,
        key,
        data,
        interval,
    }
}

/// One IP version: its number, and where its header has the addresses.
#[derive(Debug, Clone, Copy)]
struct Version {
    family: u8,
    source: u32,
    destination: u32,
    length: u32,
    addr: &'static str,
    any: &'static str,
    range: &'static str,
    nets: &'static str,
    masquerade: &'static str,
}

const VERSIONS: [Version; 2] = [
    Version {
        family: IPV4,
        source: 12,
        destination: 16,
        length: 4,
        addr: ADDR4,
        any: ANY4,
        range: RANGE4,
        nets: NETS4,
        masquerade: MASQUERADE4,
    },
    Version {
        family: IPV6,
        source: 8,
        destination: 24,
        length: 16,
        addr: ADDR6,
        any: ANY6,
        range: RANGE6,
        nets: NETS6,
        masquerade: MASQUERADE6,
    },
];

/// Chains whose rules are ours.
const CHAINS: [&str; 8] = [
    "answers",
    "relayed",
    "publish",
    "direct",
    "prerouting",
    "output",
    "postrouting",
    "forward",
];

/// Adds all chains, sets and rules to a transaction that made sure of the table. What is there
/// already is emptied, but for the administrator's chain.
pub(super) fn build(transaction: &mut Transaction, options: Options) {
    for set in &SETS {
        transaction.add_set(set);
    }
    for name in ["publish", USER] {
        transaction.add_chain(name, None);
    }
    let nat = |number, priority| {
        Some(Hook {
            kind: "nat",
            number,
            priority,
        })
    };
    let filter = |number, priority| {
        Some(Hook {
            kind: "filter",
            number,
            priority,
        })
    };
    transaction.add_chain("direct", filter(0, -300));
    // After the kernel has found the connection, before it chooses a route.
    transaction.add_chain("answers", filter(0, -150));
    transaction.add_chain("relayed", filter(3, -150));
    transaction.add_chain("prerouting", nat(0, -100));
    transaction.add_chain("output", nat(3, -100));
    transaction.add_chain("postrouting", nat(4, 100));
    transaction.add_chain("forward", filter(2, 0));
    for chain in CHAINS {
        transaction.flush_chain(chain);
    }
    for set in &SETS {
        transaction.flush_set(set.name);
    }
    if options.relayed {
        relayed(transaction);
    }
    publish(transaction);
    direct(transaction, options);
    translate(transaction);
    leave(transaction);
    forward(transaction, options);
}

fn relayed(transaction: &mut Transaction) {
    let mark = MARK.to_ne_bytes();
    let leaving = Rule::new()
        .load_meta(Meta::Mark, 0)
        .compare(Compare::Equal, 0, &mark)
        .mark_connection();
    transaction.add_rule("relayed", &leaving);
    let coming = Rule::new()
        .only_answers()
        .connection_marked(MARK)
        .load(0, &ANSWER.to_ne_bytes())
        .mark_packet();
    transaction.add_rule("answers", &coming);
}

fn publish(transaction: &mut Transaction) {
    for version in VERSIONS {
        let words = version.length / 4;
        let destination =
            |rule: Rule| rule.load_packet(NETWORK, version.destination, version.length, 0);
        let service = |rule: Rule, word| {
            rule.load_meta(Meta::Protocol, word)
                .load_packet(TRANSPORT, 2, 2, word + 1)
        };
        let here = || Rule::new().family(version.family);
        let by_address = service(destination(here()), words).map(version.addr);
        transaction.add_rule("publish", &by_address.dnat(version.family, Some(words)));
        transaction.add_rule(
            "publish",
            &service(here(), 0)
                .map(version.any)
                .dnat(version.family, Some(words)),
        );
        transaction.add_rule(
            "publish",
            &service(here(), 0)
                .map(version.range)
                .dnat(version.family, None),
        );
    }
}

fn direct(transaction: &mut Transaction, options: Options) {
    // route_localnet on the bridges would let a container reach the host's loopback services.
    transaction.add_rule(
        "direct",
        &loopback_destination(from_bridge(Rule::new())).drop_packet(),
    );
    if options.direct_routing {
        return;
    }
    transaction.add_rule("direct", &from_bridge(Rule::new()).return_to_caller());
    let lo = Rule::new().name(Meta::InputName, Compare::Equal, "lo");
    transaction.add_rule("direct", &lo.return_to_caller());
    for version in VERSIONS {
        let to_ours = Rule::new()
            .family(version.family)
            .load_packet(NETWORK, version.destination, version.length, 0)
            .in_set(version.nets, 0, false);
        transaction.add_rule(
            "direct",
            &to_ours.destination_local(Compare::Different).drop_packet(),
        );
    }
}

fn translate(transaction: &mut Transaction) {
    // What another machine sends to 127.0.0.1 must meet the kernel's own refusal.
    let spoofed = loopback_destination(Rule::new().name(Meta::InputName, Compare::Different, "lo"));
    transaction.add_rule("prerouting", &spoofed.return_to_caller());
    transaction.add_rule(
        "prerouting",
        &Rule::new()
            .destination_local(Compare::Equal)
            .jump("publish"),
    );
    // IPv6 has no route_localnet: the relay serves [::1].
    let mut loopback6 = [0_u8; 16];
    loopback6[15] = 1;
    let to_loopback6 = Rule::new()
        .family(IPV6)
        .load_packet(NETWORK, 24, 16, 0)
        .compare(Compare::Equal, 0, &loopback6);
    transaction.add_rule("output", &to_loopback6.return_to_caller());
    transaction.add_rule(
        "output",
        &Rule::new()
            .destination_local(Compare::Equal)
            .jump("publish"),
    );
}

fn leave(transaction: &mut Transaction) {
    for version in VERSIONS {
        let outwards = Rule::new()
            .family(version.family)
            .load_packet(NETWORK, version.source, version.length, 0)
            .in_set(version.masquerade, 0, false)
            .load_meta(Meta::OutputName, 0)
            .in_set(BRIDGES, 0, true);
        transaction.add_rule("postrouting", &outwards.masquerade());
    }
    let from_loopback = to_bridge(Rule::new())
        .family(IPV4)
        .load_packet(NETWORK, 12, 1, 0)
        .compare(Compare::Equal, 0, &[127])
        .masquerade();
    transaction.add_rule("postrouting", &from_loopback);
    for version in VERSIONS {
        let hairpin = Rule::new()
            .family(version.family)
            .load_packet(NETWORK, version.source, version.length, 0)
            .in_set(version.nets, 0, false)
            .load_packet(NETWORK, version.destination, version.length, 0)
            .in_set(version.nets, 0, false)
            .translated();
        transaction.add_rule("postrouting", &hairpin.masquerade());
    }
}

fn forward(transaction: &mut Transaction, options: Options) {
    let mut add = |rule: Rule| transaction.add_rule("forward", &rule);
    add(Rule::new().jump(USER));
    let within = Rule::new()
        .load_meta(Meta::InputName, 0)
        .load_meta(Meta::OutputName, 4);
    add(within.in_set(WITHIN, 0, false).accept());
    add(Rule::new()
        .load_meta(Meta::InputName, 0)
        .in_set(INTERNAL, 0, false)
        .drop_packet());
    add(Rule::new()
        .load_meta(Meta::OutputName, 0)
        .in_set(INTERNAL, 0, false)
        .drop_packet());
    add(Rule::new().state(STATE_KNOWN).accept());
    add(to_bridge(Rule::new()).translated().accept());
    add(to_bridge(Rule::new()).drop_packet());
    if !options.guard4 && !options.guard6 {
        return;
    }
    add(from_bridge(Rule::new()).accept());
    // Other engines' bridges have their own rules.
    for prefix in ["br-", "docker", "wharf", "podman", "cni", "virbr"] {
        add(Rule::new().name_prefix(Meta::InputName, prefix).accept());
        add(Rule::new().name_prefix(Meta::OutputName, prefix).accept());
    }
    for (guarded, family) in [(options.guard4, IPV4), (options.guard6, IPV6)] {
        if guarded {
            add(Rule::new().family(family).drop_packet());
        }
    }
}

fn from_bridge(rule: Rule) -> Rule {
    rule.load_meta(Meta::InputName, 0).in_set(BRIDGES, 0, false)
}

fn to_bridge(rule: Rule) -> Rule {
    rule.load_meta(Meta::OutputName, 0)
        .in_set(BRIDGES, 0, false)
}

fn loopback_destination(rule: Rule) -> Rule {
    rule.family(IPV4)
        .load_packet(NETWORK, 16, 1, 0)
        .compare(Compare::Equal, 0, &[127])
}
