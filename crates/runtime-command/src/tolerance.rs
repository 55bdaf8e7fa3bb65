//! What a document may say to no effect. Other runtimes have always let it pass, so documents say it;
//! the library, and with it the engine, refuse it. Here it is left out and told in the log.

use wharf_container_runtime::{host_has_selinux, mount_plan};
use wharf_oci::runtime::Spec;

/// Leaves out of `spec` what has no effect. Returns what that was.
pub(crate) fn leave_out(spec: &mut Spec) -> Vec<String> {
    let mut told = Vec::new();
    for mount in &mut spec.mounts {
        let is_bind = mount.kind.as_deref() == Some("bind")
            || mount
                .options
                .iter()
                .any(|word| word == "bind" || word == "rbind");
        if !is_bind {
            continue;
        }
        let destination = &mount.destination;
        mount.options.retain(|option| {
            let kept = !mount_plan::is_for_filesystem(option);
            if !kept {
                told.push(format!(
                    "mount option {option:?} has no meaning for a bind mount ({destination:?}): ignored"
                ));
            }
            kept
        });
    }
    let label = spec.linux.as_mut().map(|linux| &mut linux.mount_label);
    if let Some(label) = label
        && label.as_deref().is_some_and(|label| !label.is_empty())
        && !host_has_selinux()
    {
        *label = None;
        told.push("linux.mountLabel: SELinux is not enabled on this host: ignored".to_owned());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_effect_is_left_out() {
        let mut spec: Spec = serde_json::from_str(
            r#"{"ociVersion": "1.3.0", "mounts": [
                {"destination": "/a", "type": "bind", "source": "/x", "options": ["ro", "mode=755", "rslave"]},
                {"destination": "/b", "source": "/x", "options": ["rbind", "size=1k", "nosuid"]},
                {"destination": "/c", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}]}"#,
        )
        .unwrap();
        let told = leave_out(&mut spec);
        assert_eq!(told.len(), 2);
        assert_eq!(
            told[0],
            "mount option \"mode=755\" has no meaning for a bind mount (\"/a\"): ignored"
        );
        let left: Vec<String> = spec
            .mounts
            .iter()
            .map(|mount| mount.options.join(" "))
            .collect();
        assert_eq!(left, ["ro rslave", "rbind nosuid", "mode=755"]);
    }
}
