//! The names by which one daemon finds its things in the kernel again, beside other daemons'.

use crate::error::{NetworkError, Result};

/// What marks this daemon's things.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    suffix: Option<String>,
}

impl Instance {
    /// The default instance, or the one with a suffix of at most eight of `[a-z0-9]`.
    pub(crate) fn new(suffix: Option<&str>) -> Result<Self> {
        if let Some(suffix) = suffix {
            let valid = (1..=8).contains(&suffix.len())
                && suffix
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if !valid {
                return Err(NetworkError::invalid(format!(
                    "invalid instance suffix `{suffix}`: one to eight of [a-z0-9] expected"
                )));
            }
        }
        Ok(Self {
            suffix: suffix.map(str::to_owned),
        })
    }

    /// The nftables table.
    pub(crate) fn table(&self) -> String {
        self.suffix
            .as_ref()
            .map_or_else(|| "wharf".to_owned(), |suffix| format!("wharf-{suffix}"))
    }

    /// The alias of every bridge and veth of ours.
    pub(crate) fn alias(&self) -> String {
        format!("wharf/{}", self.suffix.as_deref().unwrap_or("default"))
    }

    /// Names for the default bridge, best first.
    pub(crate) fn bridge_names(&self) -> Vec<String> {
        match &self.suffix {
            None => vec!["docker0".to_owned(), "wharf0".to_owned()],
            Some(suffix) => vec![format!("wharf-{suffix}")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_have_names_of_their_own() {
        let default = Instance::new(None).unwrap();
        assert_eq!(
            (default.table().as_str(), default.alias().as_str()),
            ("wharf", "wharf/default")
        );
        let other = Instance::new(Some("ab12cd34")).unwrap();
        assert_eq!(other.table(), "wharf-ab12cd34");
        assert!(other.bridge_names()[0].len() < 16);
        for bad in ["", "abcdefghi", "A", "a-b"] {
            assert!(Instance::new(Some(bad)).is_err(), "{bad}");
        }
    }
}
