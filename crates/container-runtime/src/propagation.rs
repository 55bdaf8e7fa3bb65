//! Whether a bind can have the propagation asked for: mounts only travel where the host shares
//! the mount the source lies on.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use wharf_sys::mount::Propagation;

use crate::error::{Stage, StartError};
use crate::mount_plan::{Kind, PlannedMount};

/// Refuses binds that ask for mounts to travel where they cannot, in Docker's words.
pub(crate) fn check(mounts: &[PlannedMount]) -> Result<(), StartError> {
    let mut table = None;
    for mount in mounts {
        let (Kind::Bind { source, .. }, Some((propagation, _))) = (&mount.kind, mount.propagation)
        else {
            continue;
        };
        let wanted = match propagation {
            Propagation::Shared => &["shared:"][..],
            Propagation::Slave => &["shared:", "master:"],
            Propagation::Private | Propagation::Unbindable => continue,
        };
        let failed = |errno| mount.error(errno);
        let status =
            rustix::fs::statx(CWD, source.as_c_str(), AtFlags::empty(), StatxFlags::MNT_ID)
                .map_err(failed)?;
        let table = match &table {
            Some(table) => table,
            None => table.insert(std::fs::read_to_string("/proc/self/mountinfo").map_err(
                |error| crate::launch::io(Stage::Mount, &error, "/proc/self/mountinfo"),
            )?),
        };
        if let Some((place, fields)) = find(table, status.stx_mnt_id)
            && !fields
                .iter()
                .any(|field| wanted.iter().any(|word| field.starts_with(word)))
        {
            let kind = if propagation == Propagation::Shared {
                "shared"
            } else {
                "shared or slave"
            };
            let path = Path::new(&mount.source).display();
            let message = format!("path {path} is mounted on {place} but it is not a {kind} mount");
            return Err(StartError::refused(Stage::Config, message));
        }
    }
    Ok(())
}

/// The place and the optional fields of the mount `id`: `36 35 98:0 /root /place options
/// shared:1 master:2 - type source options`.
fn find(table: &str, id: u64) -> Option<(&str, Vec<&str>)> {
    table.lines().find_map(|line| {
        let mut words = line.split(' ');
        if words.next()?.parse::<u64>().ok()? != id {
            return None;
        }
        let place = words.nth(3)?;
        Some((
            place,
            words.skip(1).take_while(|word| *word != "-").collect(),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_are_found() {
        let table = "21 1 8:1 / / rw - ext4 /dev/sda rw\n36 21 0:5 / /mnt rw,nosuid shared:3 master:4 - tmpfs t rw\n";
        assert_eq!(
            find(table, 36),
            Some(("/mnt", vec!["shared:3", "master:4"]))
        );
        assert_eq!(find(table, 21), Some(("/", vec![])));
        assert_eq!(find(table, 5), None);
    }
}
