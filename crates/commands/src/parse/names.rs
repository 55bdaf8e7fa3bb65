//! Small checks of single values: hosts, addresses, links, streams, labels.

use std::net::IpAddr;

use crate::matches::go_quote;

/// `--add-host name:address` or `name=address`; `host-gateway` is an address too.
pub fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {}", go_quote(text));
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(bad)?;
    if name.is_empty() || address.is_empty() {
        return Err(bad());
    }
    // Brackets around an IPv6 address are taken off.
    let address = address
        .strip_prefix('[')
        .and_then(|inside| inside.strip_suffix(']'))
        .unwrap_or(address);
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        return Err(format!(
            "invalid IP address in add-host: {}",
            go_quote(address)
        ));
    }
    Ok(format!("{name}:{address}"))
}

/// A check of `--add-host`.
pub fn check_extra_host(text: &str) -> Result<(), String> {
    extra_host(text).map(drop)
}

/// A check of an IP address.
pub fn check_ip(text: &str) -> Result<(), String> {
    match text.trim().parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// A check of a DNS search domain; `.` means none at all.
pub fn check_dns_search(text: &str) -> Result<(), String> {
    let text = text.trim();
    let label = |label: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.len() <= 63 && label.chars().all(plain)
    };
    if text == "." || (text.len() <= 255 && text.trim_end_matches('.').split('.').all(label)) {
        return Ok(());
    }
    Err(format!("{text} is not a valid domain"))
}

/// A check of `--link name[:alias]`.
pub fn check_link(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if text.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(())
}

/// A check of `-a`.
pub fn check_attach(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// A check of a label.
pub fn check_label(text: &str) -> Result<(), String> {
    let name = text.split('=').next().unwrap_or_default().trim();
    if name.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if name.contains(char::is_whitespace) {
        return Err(format!("label {} contains whitespaces", go_quote(name)));
    }
    Ok(())
}

/// A check of a `key=value` pair whose value is needed.
pub fn check_sysctl(text: &str) -> Result<(), String> {
    const KERNEL: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let (name, _) = text
        .split_once('=')
        .ok_or_else(|| format!("sysctl '{text}' is not allowed"))?;
    if KERNEL.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.") {
        return Ok(());
    }
    Err(format!("sysctl '{text}' is not allowed"))
}

/// A MAC address: six or eight bytes in the forms with colons, dashes or dots.
pub fn is_mac(text: &str) -> bool {
    let text = text.trim();
    let hex =
        |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    let form = |separator: char, len: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, len))
    };
    form(':', 2, &[6, 8]) || form('-', 2, &[6, 8]) || form('.', 4, &[3, 4])
}

/// A capability in the form the API keeps: `CAP_SYS_ADMIN`; `ALL` stays.
pub fn capability(text: &str) -> String {
    let upper = text.trim().to_uppercase();
    if upper == "ALL" || upper == "RESET" || upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_may_use_either_separator() {
        assert_eq!(extra_host("h:1.2.3.4").unwrap(), "h:1.2.3.4");
        assert_eq!(extra_host("h=::1").unwrap(), "h:::1");
        assert_eq!(extra_host("h=[::1]").unwrap(), "h:::1");
        assert_eq!(extra_host("h:host-gateway").unwrap(), "h:host-gateway");
        assert_eq!(
            extra_host("h").unwrap_err(),
            "bad format for add-host: \"h\""
        );
        assert_eq!(
            extra_host("h:x").unwrap_err(),
            "invalid IP address in add-host: \"x\""
        );
    }

    #[test]
    fn macs_and_capabilities() {
        assert!(
            is_mac("02:42:ac:11:00:02") && is_mac("02-42-ac-11-00-02") && is_mac("0242.ac11.0002")
        );
        assert!(!is_mac("02:42") && !is_mac("zz:42:ac:11:00:02"));
        assert_eq!(capability("sys_admin"), "CAP_SYS_ADMIN");
        assert_eq!(capability("all"), "ALL");
    }
}
