//! Options of the `local` driver.

use std::collections::BTreeMap;

use wharf_fault::{Error, Result};

/// Refuses options the driver does not have, and parts of a mount without the others.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for name in options.keys() {
        match name.as_str() {
            "type" | "o" | "device" => {}
            "size" => return Err(Error::invalid("quota size requested but no quota support")),
            _ => return Err(Error::invalid(format!("invalid option: {name:?}"))),
        }
    }
    let has = |name: &str| options.get(name).is_some_and(|value| !value.is_empty());
    let needs: [(&str, &[&str]); 3] = [
        ("device", &["type"]),
        ("type", &["device"]),
        ("o", &["device", "type"]),
    ];
    for (given, required) in needs {
        if has(given)
            && let Some(missing) = required.iter().find(|required| !has(required))
        {
            return Err(Error::invalid(format!(
                "missing required option: {missing:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    #[test]
    fn a_mount_needs_all_its_parts() {
        let check = |pairs: &[(&str, &str)]| {
            let options = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            super::check(&options).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(
            check(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]),
            Ok(())
        );
        assert_eq!(
            check(&[("type", "tmpfs")]),
            Err("missing required option: \"device\"".into())
        );
        assert_eq!(
            check(&[("o", "size=1m"), ("device", "x")]),
            Err("missing required option: \"type\"".into())
        );
        assert_eq!(
            check(&[("color", "red")]),
            Err("invalid option: \"color\"".into())
        );
    }
}
