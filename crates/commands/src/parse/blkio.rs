//! Block device options: `/dev/sda:WEIGHT`, `/dev/sda:RATE`.

use serde_json::{Value, json};

use super::size;

fn device(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text
        .split_once(':')
        .filter(|(_, value)| !value.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// `--blkio-weight-device`.
pub fn weight(text: &str) -> Result<Value, String> {
    let (path, value) = device(text)?;
    match value.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => {
            Ok(json!({"Path": path, "Weight": weight}))
        }
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// `--device-read-bps`, `--device-write-bps`: bytes per second.
pub fn bytes(text: &str) -> Result<Value, String> {
    let (path, value) = device(text)?;
    let rate = size::parse(value).map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// `--device-read-iops`, `--device-write-iops`: operations per second.
pub fn operations(text: &str) -> Result<Value, String> {
    let (path, value) = device(text)?;
    let rate = value.parse::<u64>().map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// Checks for the flag table.
pub fn check_weight(text: &str) -> Result<(), String> {
    weight(text).map(drop)
}

/// Checks for the flag table.
pub fn check_bytes(text: &str) -> Result<(), String> {
    bytes(text).map(drop)
}

/// Checks for the flag table.
pub fn check_operations(text: &str) -> Result<(), String> {
    operations(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_rates_are_read() {
        assert_eq!(
            weight("/dev/sda:20"),
            Ok(json!({"Path": "/dev/sda", "Weight": 20}))
        );
        assert_eq!(
            bytes("/dev/sda:1mb"),
            Ok(json!({"Path": "/dev/sda", "Rate": 1_048_576}))
        );
        assert_eq!(
            operations("/dev/sda:7"),
            Ok(json!({"Path": "/dev/sda", "Rate": 7}))
        );
        assert!(
            weight("/dev/sda:5").is_err()
                && bytes("sda:1").is_err()
                && operations("/dev/sda:1k").is_err()
        );
        assert!(bytes("/dev/sda").is_err());
    }
}
