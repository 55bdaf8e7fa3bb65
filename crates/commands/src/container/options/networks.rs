//! Networks a container is attached to, and the settings of its endpoints.

use serde_json::{Map, Value};

use super::fail;
use super::object::Object;
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::network::Attachment;
use crate::parse::{names, network};

/// The networks and the settings of their endpoints.
pub(super) fn networks(m: &Matches, host: &mut Object) -> Outcome<Map<String, Value>> {
    host.list(
        "Dns",
        m.list("dns")
            .into_iter()
            .map(|text| text.trim().to_owned())
            .collect(),
    );
    let both = |a: &str, b: &str| {
        m.list(a)
            .into_iter()
            .chain(m.list(b))
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    host.list("DnsOptions", both("dns-option", "dns-opt"));
    host.texts("DnsSearch", m, "dns-search");
    let hosts: Result<Vec<String>, String> = m
        .list("add-host")
        .into_iter()
        .map(names::extra_host)
        .collect();
    host.list("ExtraHosts", hosts.map_err(Failure::new)?);
    host.texts("Links", m, "link");

    let attachments: Result<Vec<Attachment>, String> = both("network", "net")
        .iter()
        .map(|text| network::parse(text))
        .collect();
    let mut attachments = attachments.map_err(Failure::new)?;
    if attachments.is_empty() {
        attachments.push(Attachment {
            target: "default".to_owned(),
            ..Attachment::default()
        });
    }
    let user_defined = |target: &str| {
        !matches!(target, "default" | "bridge" | "host" | "none")
            && !target.starts_with("container:")
    };
    let defined = attachments
        .iter()
        .filter(|a| user_defined(&a.target))
        .count();
    apply_short_flags(
        m,
        &mut attachments[0],
        both("network-alias", "net-alias"),
        user_defined,
    )?;
    if defined > 0 && defined < attachments.len() {
        return fail(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        );
    }
    host.text("NetworkMode", &attachments[0].target);
    let alone = attachments.len() == 1;
    let mut endpoints = Map::new();
    for attachment in &attachments {
        let endpoint = endpoint(attachment, user_defined)?;
        if alone && endpoint.is_empty() {
            continue;
        }
        if endpoints
            .insert(attachment.target.clone(), Value::Object(endpoint))
            .is_some()
        {
            return fail(format!(
                "network \"{}\" is specified multiple times",
                attachment.target
            ));
        }
    }
    Ok(endpoints)
}

/// `--ip`, `--network-alias` and the like belong to the first network.
fn apply_short_flags(
    m: &Matches,
    first: &mut Attachment,
    aliases: Vec<String>,
    user_defined: impl Fn(&str) -> bool,
) -> Outcome {
    let conflict = |flag: &str, what: &str| {
        fail(format!(
            "conflicting options: cannot specify both --{flag} and per-network {what}"
        ))
    };
    if !aliases.is_empty() {
        if !first.aliases.is_empty() {
            return conflict("network-alias", "alias");
        }
        first.aliases = aliases;
    }
    // On the default bridge a link is a matter of the whole container.
    if user_defined(&first.target) {
        first.links = m.list("link").into_iter().map(str::to_owned).collect();
    }
    for (flag, slot, what) in [
        ("ip", &mut first.ip, "IPv4 address"),
        ("ip6", &mut first.ip6, "IPv6 address"),
        ("mac-address", &mut first.mac, "MAC address"),
    ] {
        let given = m.str(flag).trim();
        if given.is_empty() {
            continue;
        }
        if !slot.is_empty() {
            return conflict(flag, what);
        }
        given.clone_into(slot);
    }
    let link_local = m.list("link-local-ip");
    if !link_local.is_empty() {
        if !first.link_local.is_empty() {
            return conflict("link-local-ip", "link-local IP addresses");
        }
        first.link_local = link_local.into_iter().map(str::to_owned).collect();
    }
    Ok(())
}

fn endpoint(a: &Attachment, user_defined: impl Fn(&str) -> bool) -> Outcome<Map<String, Value>> {
    if !user_defined(&a.target) {
        if !a.aliases.is_empty() {
            return fail("network-scoped aliases are only supported for user-defined networks");
        }
        if !a.links.is_empty() {
            return fail("links are only supported for user-defined networks");
        }
    }
    let mut out = Object::default();
    let mut addresses = Object::default();
    addresses.text("IPv4Address", &a.ip);
    addresses.text("IPv6Address", &a.ip6);
    addresses.list("LinkLocalIPs", a.link_local.clone());
    out.object("IPAMConfig", addresses.0);
    out.list("Aliases", a.aliases.clone());
    out.list("Links", a.links.clone());
    out.text("MacAddress", &a.mac);
    out.pairs("DriverOpts", a.driver_options.clone());
    out.number("GwPriority", a.gateway_priority);
    Ok(out.0)
}
