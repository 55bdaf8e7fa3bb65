//! `--device`: `HOST[:CONTAINER][:rwm]`, or a CDI name `vendor.com/class=name`.

use serde_json::{Value, json};

/// What one `--device` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// An element of `HostConfig.Devices`.
    Node(Value),
    /// A qualified CDI name.
    Cdi(String),
}

/// Parses one `--device`.
pub fn parse(text: &str) -> Result<Device, String> {
    if is_cdi(text) {
        return Ok(Device::Cdi(text.to_owned()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let bad = || format!("bad format for path: {text}");
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] if is_mode(mode) => (*host, *container, *mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(bad()),
    };
    if host.is_empty() || container.is_empty() {
        return Err(bad());
    }
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(Device::Node(
        json!({"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": permissions}),
    ))
}

fn is_mode(text: &str) -> bool {
    let once = |letter| text.matches(letter).count() <= 1;
    !text.is_empty()
        && text.chars().all(|c| "rwm".contains(c))
        && once('r')
        && once('w')
        && once('m')
}

/// `vendor/class=name`, with a vendor that cannot be a path.
fn is_cdi(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else {
        return false;
    };
    let Some((vendor, class)) = kind.split_once('/') else {
        return false;
    };
    let letter = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = |part: &str, more: &str| {
        part.chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    letter(vendor)
        && letter(class)
        && plain(vendor, "_-.")
        && plain(class, "_-")
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && plain(name, "_-.:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        let node = |h: &str, c: &str, p: &str| {
            Ok(Device::Node(
                json!({"PathOnHost": h, "PathInContainer": c, "CgroupPermissions": p}),
            ))
        };
        assert_eq!(parse("/dev/null"), node("/dev/null", "/dev/null", "rwm"));
        assert_eq!(parse("/dev/null:rw"), node("/dev/null", "/dev/null", "rw"));
        assert_eq!(parse("/dev/a:/dev/b:m"), node("/dev/a", "/dev/b", "m"));
        assert_eq!(
            parse("vendor.com/gpu=0"),
            Ok(Device::Cdi("vendor.com/gpu=0".into()))
        );
        assert!(
            parse("/dev/a:/dev/b:x").is_err() && parse("").is_err() && parse("a:b:c:d").is_err()
        );
    }
}
