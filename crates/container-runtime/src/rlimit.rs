//! Resource limits by their names.

use rustix::process::{Resource, Rlimit};

use crate::error::{Stage, StartError};

/// The limits of the document with the kernel's numbers, which messages show.
pub(crate) fn prepare(
    limits: &[wharf_oci::runtime::Rlimit],
) -> Result<Vec<(Resource, u32, Rlimit)>, StartError> {
    let mut prepared: Vec<(Resource, u32, Rlimit)> = Vec::with_capacity(limits.len());
    for limit in limits {
        let refuse = |what: &str| {
            StartError::refused(Stage::Config, format!("rlimit {:?} {what}", limit.kind))
        };
        let (resource, number) = resource(&limit.kind).ok_or_else(|| refuse("does not exist"))?;
        if prepared.iter().any(|(_, known, _)| *known == number) {
            return Err(refuse("is given twice"));
        }
        if limit.soft > limit.hard {
            return Err(refuse("has a soft limit above its hard limit"));
        }
        let value = |limit: u64| (limit != u64::MAX).then_some(limit);
        prepared.push((
            resource,
            number,
            Rlimit {
                current: value(limit.soft),
                maximum: value(limit.hard),
            },
        ));
    }
    Ok(prepared)
}

fn resource(name: &str) -> Option<(Resource, u32)> {
    Some(match name {
        "RLIMIT_CPU" => (Resource::Cpu, 0),
        "RLIMIT_FSIZE" => (Resource::Fsize, 1),
        "RLIMIT_DATA" => (Resource::Data, 2),
        "RLIMIT_STACK" => (Resource::Stack, 3),
        "RLIMIT_CORE" => (Resource::Core, 4),
        "RLIMIT_RSS" => (Resource::Rss, 5),
        "RLIMIT_NPROC" => (Resource::Nproc, 6),
        "RLIMIT_NOFILE" => (Resource::Nofile, 7),
        "RLIMIT_MEMLOCK" => (Resource::Memlock, 8),
        "RLIMIT_AS" => (Resource::As, 9),
        "RLIMIT_LOCKS" => (Resource::Locks, 10),
        "RLIMIT_SIGPENDING" => (Resource::Sigpending, 11),
        "RLIMIT_MSGQUEUE" => (Resource::Msgqueue, 12),
        "RLIMIT_NICE" => (Resource::Nice, 13),
        "RLIMIT_RTPRIO" => (Resource::Rtprio, 14),
        "RLIMIT_RTTIME" => (Resource::Rttime, 15),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked() {
        let limit = |kind: &str, soft, hard| wharf_oci::runtime::Rlimit {
            kind: kind.into(),
            soft,
            hard,
        };
        let prepared = prepare(&[limit("RLIMIT_NOFILE", 5, u64::MAX)]).unwrap();
        assert_eq!(prepared[0].1, 7);
        assert_eq!(
            prepared[0].2,
            Rlimit {
                current: Some(5),
                maximum: None
            }
        );
        assert!(prepare(&[limit("RLIMIT_NOFILE", 6, 5)]).is_err());
        assert!(prepare(&[limit("RLIMIT_X", 1, 1)]).is_err());
        assert!(prepare(&[limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_CPU", 1, 1)]).is_err());
    }
}
