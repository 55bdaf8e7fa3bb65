//! `docker network create`.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::cli::{Cli, println, say_error};
use crate::command::{Args, Command, Flag};
use crate::matches::Matches;
use crate::outcome::{Failure, Outcome};
use crate::parse::env::pair;

pub(crate) static COMMAND: Command = Command {
    usage: "[OPTIONS] NETWORK",
    short: "Create a network",
    long: None,
    aliases: &[],
    args: Args::Exact(1),
    flags: &[
        Flag::bool("attachable", "Enable manual container attachment"),
        Flag::map(
            "aux-address",
            "Auxiliary IPv4 or IPv6 addresses used by Network driver",
        )
        .default("map[]"),
        Flag::string(
            "config-from",
            "The network from which to copy the configuration",
        ),
        Flag::bool("config-only", "Create a configuration only network"),
        Flag::string("driver", "Driver to manage the Network")
            .short('d')
            .default("bridge"),
        Flag::csv("gateway", "IPv4 or IPv6 Gateway for the master subnet"),
        Flag::bool("ingress", "Create swarm routing-mesh network"),
        Flag::bool("internal", "Restrict external access to the network"),
        Flag::csv("ip-range", "Allocate container ip from a sub-range"),
        Flag::string("ipam-driver", "IP Address Management Driver").default("default"),
        Flag::map("ipam-opt", "Set IPAM driver specific options").default("map[]"),
        Flag::bool("ipv4", "Enable or disable IPv4 address assignment").default("true"),
        Flag::bool("ipv6", "Enable or disable IPv6 address assignment"),
        Flag::list("label", "Set metadata on a network"),
        Flag::map("opt", "Set driver specific options")
            .short('o')
            .default("map[]"),
        Flag::string("scope", "Control the network's scope"),
        Flag::csv(
            "subnet",
            "Subnet in CIDR format that represents a network segment",
        ),
    ],
    interspersed: true,
    run,
};

fn run(cli: &Cli, m: &Matches) -> Outcome {
    for flag in ["ingress"] {
        if m.bool(flag) {
            return Err(Failure::new(format!("--{flag} is not available yet")));
        }
    }
    let pairs = |flag: &str| -> Map<String, Value> {
        m.list(flag)
            .into_iter()
            .map(pair)
            .map(|(key, value)| (key, json!(value)))
            .collect()
    };
    let config = ipam(
        &m.list("subnet"),
        &m.list("ip-range"),
        &m.list("gateway"),
        &pairs("aux-address"),
    )
    .map_err(Failure::new)?;
    let mut body = json!({
        "Name": m.args[0],
        "Driver": m.last("driver").unwrap_or("bridge"),
        "Scope": m.str("scope"),
        "IPAM": {
            "Driver": m.last("ipam-driver").unwrap_or("default"),
            "Options": pairs("ipam-opt"),
            "Config": config,
        },
        "Internal": m.bool("internal"),
        "Attachable": m.bool("attachable"),
        "Ingress": false,
        "ConfigOnly": m.bool("config-only"),
        "Options": pairs("opt"),
        "Labels": pairs("label"),
    });
    // Absent means that the engine decides.
    for (key, flag) in [("EnableIPv4", "ipv4"), ("EnableIPv6", "ipv6")] {
        if m.given(flag) {
            body[key] = json!(m.bool(flag));
        }
    }
    let from = m.str("config-from");
    if !from.is_empty() {
        body["ConfigFrom"] = json!({"Network": from});
    }
    let client = cli.client()?;
    let answer = cli.block_on(client.post("/networks/create", Some(body)))?;
    let text = |key: &str| answer[key].as_str().unwrap_or_default();
    if !text("Warning").is_empty() {
        say_error(&format!("WARNING: {}", text("Warning")));
    }
    Ok(println(text("Id"))?)
}

/// Puts ranges, gateways and reserved addresses to the subnet they belong to.
fn ipam(
    subnets: &[&str],
    ranges: &[&str],
    gateways: &[&str],
    reserved: &Map<String, Value>,
) -> Result<Vec<Value>, String> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut parsed: Vec<(Block, Map<String, Value>)> = Vec::new();
    for text in subnets {
        let block = Block::parse(text)?;
        if parsed.iter().any(|(other, _)| other.overlaps(&block)) {
            return Err("multiple overlapping subnet configuration is not supported".to_owned());
        }
        let mut entry = Map::new();
        entry.insert("Subnet".to_owned(), json!(text));
        parsed.push((block, entry));
    }
    let find = |parsed: &mut Vec<(Block, Map<String, Value>)>, address: IpAddr| {
        parsed.iter().position(|(block, _)| block.contains(address))
    };
    for text in ranges {
        let range = Block::parse(text)?;
        let at = find(&mut parsed, range.address).filter(|at| parsed[*at].0.bits <= range.bits);
        let at = at.ok_or_else(|| format!("no matching subnet for range {text}"))?;
        if parsed[at]
            .1
            .insert("IPRange".to_owned(), json!(text))
            .is_some()
        {
            return Err("cannot configure multiple ranges (".to_owned()
                + text
                + ") on the same subnet ("
                + subnets[at]
                + ")");
        }
    }
    for text in gateways {
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("invalid gateway address: {text}"))?;
        let at = find(&mut parsed, address)
            .ok_or_else(|| format!("no matching subnet for gateway {text}"))?;
        if parsed[at]
            .1
            .insert("Gateway".to_owned(), json!(text))
            .is_some()
        {
            return Err("cannot configure multiple gateways (".to_owned()
                + text
                + ") on the same subnet ("
                + subnets[at]
                + ")");
        }
    }
    for (name, value) in reserved {
        let text = value.as_str().unwrap_or_default();
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("no matching subnet for aux-address {text}"))?;
        let at = find(&mut parsed, address)
            .ok_or_else(|| format!("no matching subnet for aux-address {text}"))?;
        let entry = parsed[at]
            .1
            .entry("AuxiliaryAddresses")
            .or_insert_with(|| json!({}));
        entry[name.as_str()] = json!(text);
    }
    Ok(parsed
        .into_iter()
        .map(|(_, entry)| Value::Object(entry))
        .collect())
}

/// A subnet in CIDR form.
#[derive(Debug, Clone, Copy)]
struct Block {
    address: IpAddr,
    bits: u32,
}

impl Block {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("invalid CIDR address: {text}");
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits: u32 = bits.parse().map_err(|_| bad())?;
        if bits > if address.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        Ok(Self { address, bits })
    }

    /// The address as a number in the upper bits.
    fn number(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => u128::from(v6),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
        self.address.is_ipv4() == address.is_ipv4()
            && Self::number(self.address) & mask == Self::number(address) & mask
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_goes_to_its_subnet() {
        let reserved = Map::from_iter([("a".to_owned(), json!("10.0.0.9"))]);
        let config = ipam(
            &["10.0.0.0/8", "fd00::/64"],
            &["10.0.0.0/24"],
            &["fd00::1", "10.0.0.1"],
            &reserved,
        )
        .unwrap();
        assert_eq!(
            config,
            [
                json!({"Subnet": "10.0.0.0/8", "IPRange": "10.0.0.0/24", "Gateway": "10.0.0.1", "AuxiliaryAddresses": {"a": "10.0.0.9"}}),
                json!({"Subnet": "fd00::/64", "Gateway": "fd00::1"}),
            ]
        );
    }

    #[test]
    fn what_belongs_nowhere_is_refused() {
        let none = Map::new();
        let error = |s: &[&str], r: &[&str], g: &[&str]| ipam(s, r, g, &none).unwrap_err();
        assert_eq!(
            error(&["10.0.0.0/8", "10.1.0.0/16"], &[], &[]),
            "multiple overlapping subnet configuration is not supported"
        );
        assert_eq!(
            error(&[], &[], &["10.0.0.1"]),
            "every ip-range or gateway must have a corresponding subnet"
        );
        assert_eq!(
            error(&["10.0.0.0/8"], &[], &["11.0.0.1"]),
            "no matching subnet for gateway 11.0.0.1"
        );
        assert_eq!(
            error(&["10.0.0.0"], &[], &[]),
            "invalid CIDR address: 10.0.0.0"
        );
    }
}
