//! `-p` and `--expose`: `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, both ports possibly ranges, or
//! `published=…,target=…,protocol=…`.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where one container port is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Address on the host, empty for all.
    pub host_ip: String,
    /// Port on the host, a range to choose from, or empty for any.
    pub host_port: String,
}

/// Published and exposed ports by `80/tcp`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ports(pub BTreeMap<String, Vec<Binding>>);

impl Ports {
    /// Adds one `-p`.
    pub fn publish(&mut self, spec: &str) -> Result<(), String> {
        let spec = standard_notation(spec)?;
        for (port, binding) in parse_spec(&spec)? {
            self.0.entry(port).or_default().push(binding);
        }
        Ok(())
    }

    /// Adds one `--expose`: `PORT[-PORT][/PROTOCOL]`.
    pub fn expose(&mut self, spec: &str) -> Result<(), String> {
        if spec.contains(':') {
            return Err(format!("invalid port format for --expose: {spec}"));
        }
        let (protocol, port) = split_protocol(spec);
        let (start, end) = range(&port).map_err(|error| {
            format!("invalid range format for --expose: {spec}, error: {error}")
        })?;
        for port in start..=end {
            self.0.entry(format!("{port}/{protocol}")).or_default();
        }
        Ok(())
    }
}

/// `published=80,target=80,protocol=tcp` in the form with colons.
fn standard_notation(spec: &str) -> Result<String, String> {
    if !spec.contains('=') {
        return Ok(spec.to_owned());
    }
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for pair in spec.split(',') {
        let parts = pair
            .split_once('=')
            .filter(|(_, value)| !value.contains('='));
        let Some((key, value)) = parts else {
            return Err(format!(
                "invalid publish opts format (should be name=value but got '{pair}')"
            ));
        };
        match key {
            "published" => published = value,
            "target" => target = value,
            "protocol" => protocol = value,
            // Docker drops `mode` and what it does not know.
            _ => {}
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn parse_spec(spec: &str) -> Result<Vec<(String, Binding)>, String> {
    let (address, host_port, container) = split(spec);
    let (protocol, container_port) = split_protocol(container);
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let host_ip = match address.strip_prefix('[') {
        Some(inside) => inside
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address {address}"))?,
        None => address,
    };
    // A zone (`fe80::1%eth0`) is not an address Docker accepts.
    if !host_ip.is_empty() && host_ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {host_ip}"));
    }
    if container_port.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let (start, end) =
        range(&container_port).map_err(|_| format!("invalid containerPort: {container_port}"))?;
    let host = match host_port {
        "" => None,
        text => Some(range(text).map_err(|_| format!("invalid hostPort: {text}"))?),
    };
    if let Some((host_start, host_end)) = host
        && end - start != host_end - host_start
        && end != start
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container_port} and {host_port}"
        ));
    }
    let ports = start..=end;
    Ok(ports
        .map(|port| {
            let host_port = match host {
                None => String::new(),
                // One container port: the engine picks one of the range.
                Some((first, last)) if start == end && first != last => format!("{first}-{last}"),
                Some((first, _)) => (first + (port - start)).to_string(),
            };
            (
                format!("{port}/{protocol}"),
                Binding {
                    host_ip: host_ip.to_owned(),
                    host_port,
                },
            )
        })
        .collect())
}

/// Address, host port and container port; the address may contain colons.
fn split(spec: &str) -> (&str, &str, &str) {
    let Some((front, container)) = spec.rsplit_once(':') else {
        return ("", "", spec);
    };
    match front.rsplit_once(':') {
        Some((address, host_port)) => (address, host_port, container),
        None => ("", front, container),
    }
}

/// Protocol in lower case and port of `80/udp`.
fn split_protocol(spec: &str) -> (String, String) {
    match spec.split_once('/') {
        _ if spec.is_empty() => (String::new(), String::new()),
        None => ("tcp".to_owned(), spec.to_owned()),
        Some(("", _)) => (String::new(), String::new()),
        Some((port, "")) => ("tcp".to_owned(), port.to_owned()),
        Some((port, protocol)) => (protocol.to_lowercase(), port.to_owned()),
    }
}

/// First and last port of `80` or `80-90`.
fn range(text: &str) -> Result<(u32, u32), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let port = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let syntax = || {
            format!(
                "strconv.ParseUint: parsing {}: invalid syntax",
                crate::matches::go_quote(part)
            )
        };
        if !digits {
            return Err(syntax());
        }
        part.parse::<u16>().map(u32::from).map_err(|_| {
            format!(
                "strconv.ParseUint: parsing {}: value out of range",
                crate::matches::go_quote(part)
            )
        })
    };
    let Some((start, end)) = text.split_once('-') else {
        let port = port(text)?;
        return Ok((port, port));
    };
    let (start, end) = (port(start)?, port(end)?);
    if end < start {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn published(specs: &[&str]) -> Result<Vec<(String, String, String)>, String> {
        let mut ports = Ports::default();
        specs.iter().try_for_each(|spec| ports.publish(spec))?;
        let flat = |(port, bindings): (String, Vec<Binding>)| {
            bindings
                .into_iter()
                .map(move |b| (port.clone(), b.host_ip, b.host_port))
                .collect::<Vec<_>>()
        };
        Ok(ports.0.into_iter().flat_map(flat).collect())
    }

    fn one(spec: &str) -> String {
        match published(&[spec]) {
            Ok(found) => found
                .iter()
                .map(|(p, ip, h)| format!("{p}={ip}:{h}"))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error,
        }
    }

    #[test]
    fn each_form_is_read() {
        assert_eq!(one("80"), "80/tcp=:");
        assert_eq!(one("8080:80/UDP"), "80/udp=:8080");
        assert_eq!(one("127.0.0.1::53"), "53/tcp=127.0.0.1:");
        assert_eq!(one("[::1]:1-2:3-4/sctp"), "3/sctp=::1:1 4/sctp=::1:2");
        assert_eq!(one("::1:80:80"), "80/tcp=::1:80");
        assert_eq!(one("8000-8010:80"), "80/tcp=:8000-8010");
        assert_eq!(one("published=1,target=2,protocol=udp"), "2/udp=:1");
    }

    #[test]
    fn wrong_forms_are_named() {
        assert_eq!(one("99999:80"), "invalid hostPort: 99999");
        assert_eq!(one("80:x"), "invalid containerPort: x");
        assert_eq!(one("80:80/foo"), "invalid proto: foo");
        assert_eq!(one("1.2.3:80:80"), "invalid IP address: 1.2.3");
        assert_eq!(
            one("1-2:3-5"),
            "invalid ranges specified for container and host Ports: 3-5 and 1-2"
        );
        assert_eq!(one("80:"), "invalid proto: ");
    }

    #[test]
    fn exposed_ports_have_no_binding() {
        let mut ports = Ports::default();
        ports.expose("5-6/udp").unwrap();
        assert_eq!(ports.0.keys().collect::<Vec<_>>(), ["5/udp", "6/udp"]);
        assert!(ports.expose("1:2").is_err() && ports.expose("x").is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_ranges_are_bounded(spec in "[-0-9a-z:/\\[\\].=,]{0,30}") {
            if let Ok(found) = published(&[&spec]) {
                prop_assert!(found.len() <= 65_536);
            }
        }
    }
}
