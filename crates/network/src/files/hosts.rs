//! /etc/hosts.

use std::net::IpAddr;

use crate::error::{NetworkError, Result};

/// What a hosts file is made of.
#[derive(Debug, Default)]
pub(crate) struct HostsInput<'a> {
    /// Whether the container's namespace has IPv6.
    pub(crate) ipv6: bool,
    /// `--add-host` with addresses filled in, and legacy links: address and names of each line.
    pub(crate) extra: Vec<(IpAddr, String)>,
    /// The container's own addresses, of all its endpoints.
    pub(crate) own: Vec<IpAddr>,
    pub(crate) hostname: &'a str,
    pub(crate) domainname: &'a str,
}

/// Renders the file (libnetwork/etchosts Build and the sandbox's own lines).
pub(crate) fn render_hosts(input: &HostsInput<'_>) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    if input.ipv6 {
        text.push_str(
            "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n\
             ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
        );
    }
    for (address, names) in &input.extra {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    if !input.hostname.is_empty() {
        let names = own_names(input.hostname, input.domainname);
        for address in &input.own {
            text.push_str(&format!("{address}\t{names}\n"));
        }
    }
    text
}

/// `host.domain host` where there is a domain, in the hostname itself or beside it.
fn own_names(hostname: &str, domainname: &str) -> String {
    let full = if domainname.is_empty() {
        hostname.to_owned()
    } else {
        format!("{hostname}.{domainname}")
    };
    match full.split_once('.') {
        Some((short, _)) if !short.is_empty() => format!("{full} {short}"),
        _ => full,
    }
}

/// Splits `--add-host` entries (`name:address`, `name=address`) and replaces `host-gateway` by
/// the gateway's addresses.
pub(crate) fn resolve_extra_hosts(
    entries: &[String],
    gateways: &[IpAddr],
) -> Result<Vec<(IpAddr, String)>> {
    let mut lines = Vec::new();
    for entry in entries {
        let bad = || NetworkError::invalid(format!("bad format for add-host: {entry:?}"));
        // An IPv6 address has colons itself: the first separator counts.
        let (name, address) = entry.split_once(['=', ':']).ok_or_else(bad)?;
        if name.is_empty()
            || name
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || c == '#')
        {
            return Err(bad());
        }
        if address == "host-gateway" {
            if gateways.is_empty() {
                return Err(NetworkError::invalid(
                    "unable to derive the IP value for host-gateway".to_owned(),
                ));
            }
            lines.extend(gateways.iter().map(|gateway| (*gateway, name.to_owned())));
            continue;
        }
        let plain = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(address);
        let address = plain.parse().map_err(|_| {
            NetworkError::invalid(format!("invalid IP address in add-host: {address:?}"))
        })?;
        lines.push((address, name.to_owned()));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_plain_container() {
        let text = render_hosts(&HostsInput {
            ipv6: true,
            own: vec![ip("172.17.0.2")],
            hostname: "0123456789ab",
            ..HostsInput::default()
        });
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n172.17.0.2\t0123456789ab\n"
        );
    }

    #[test]
    fn extra_hosts_links_and_domain() {
        let extra = resolve_extra_hosts(
            &[
                "db:10.0.0.5".to_owned(),
                "v6=[fd00::5]".to_owned(),
                "gw:host-gateway".to_owned(),
            ],
            &[ip("172.17.0.1")],
        )
        .unwrap();
        let text = render_hosts(&HostsInput {
            ipv6: false,
            extra,
            own: vec![ip("172.17.0.2"), ip("fd00::2")],
            hostname: "web",
            domainname: "example.com",
        });
        assert_eq!(
            text,
            "127.0.0.1\tlocalhost\n10.0.0.5\tdb\nfd00::5\tv6\n172.17.0.1\tgw\n\
             172.17.0.2\tweb.example.com web\nfd00::2\tweb.example.com web\n"
        );
    }

    #[test]
    fn bad_extra_hosts_are_named() {
        for bad in [
            "x",
            ":1.2.3.4",
            "a:1.2.3",
            "a\n127.0.0.1 b:1.2.3.4",
            "a:host-gateway",
        ] {
            assert!(
                resolve_extra_hosts(&[bad.to_owned()], &[]).is_err(),
                "{bad}"
            );
        }
    }
}
