//! `HostConfig.UsernsMode`, as text and as what it means.
//!
//! ```text
//! ""                                             as the daemon is set up (userns-remap)
//! host                                           the daemon's own namespace
//! auto[:size=N,uidmapping=C:H:N,gidmapping=C:H:N]  a range nobody else has
//! keep-id[:uid=N,gid=N,size=N,host-uid=N,host-gid=N]  the same, and one user of the host is himself
//! private:uidmapping=C:H:N,…,gidmapping=C:H:N,…    these ids (one of the two is for both)
//! private:subuidname=NAME,subgidname=NAME          the entries of NAME in /etc/subuid, /etc/subgid
//! container:NAME                                 that container's namespace
//! ```
//!
//! `auto`, `keep-id` and their options are Podman's. Who calls a daemon is said by `host-uid` and
//! `host-gid`: Wharf's command line adds them, and the server where the client is on a unix
//! socket.

use super::id_map::Extent;

/// A mode, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As the daemon is set up.
    Daemon,
    /// No namespace of its own.
    Host,
    /// A range nobody else has.
    Auto(Auto),
    /// A range nobody else has, with one user of the host in it.
    KeepId(KeepId),
    /// Exactly these ids.
    Private(Private),
    /// Another container's.
    Container(String),
}

/// Options of `auto`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Auto {
    /// How many ids.
    pub size: Option<u32>,
    /// Users that must be these.
    pub uids: Vec<Extent>,
    /// Groups that must be these.
    pub gids: Vec<Extent>,
}

/// Options of `keep-id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeepId {
    /// The caller on the host.
    pub host_uid: Option<u32>,
    /// His group on the host.
    pub host_gid: Option<u32>,
    /// Whom he is in the container.
    pub uid: Option<u32>,
    /// His group in the container.
    pub gid: Option<u32>,
    /// How many ids.
    pub size: Option<u32>,
}

/// Options of `private`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Private {
    /// Users.
    pub uids: Vec<Extent>,
    /// Groups.
    pub gids: Vec<Extent>,
    /// Whose entries of `/etc/subuid` the users are.
    pub subuid_name: Option<String>,
    /// Whose entries of `/etc/subgid` the groups are.
    pub subgid_name: Option<String>,
}

impl Mode {
    /// Reads a mode, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(|why| {
            // Docker's words where there is nothing to add.
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            format!("invalid user namespace mode: {text}{why}")
        })
    }

    fn read(text: &str) -> Result<Self, Option<String>> {
        let (kind, options) = match text.split_once(':') {
            Some((kind, options)) => (kind, Some(options)),
            None => (text, None),
        };
        match (kind, options) {
            ("", None) => Ok(Self::Daemon),
            ("host", None) => Ok(Self::Host),
            ("container", Some(name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            ("auto", _) => Ok(Self::Auto(Auto::read(pairs(options)?)?)),
            ("keep-id", _) => Ok(Self::KeepId(KeepId::read(pairs(options)?)?)),
            ("private", Some(_)) => Ok(Self::Private(Private::read(pairs(options)?)?)),
            ("private", None) => Err(Some(
                "private needs a mapping: private:uidmapping=0:100000:65536, or auto".to_owned(),
            )),
            ("ns" | "nomap", _) => Err(Some("not supported by this version of Wharf".to_owned())),
            _ => Err(None),
        }
    }
}

type Pairs<'a> = Vec<(&'a str, &'a str)>;

fn pairs(options: Option<&str>) -> Result<Pairs<'_>, String> {
    let pair = |option| match str::split_once(option, '=') {
        Some((key, value)) if !value.is_empty() => Ok((key, value)),
        _ => Err(format!("{option:?} is not OPTION=VALUE")),
    };
    match options {
        Some(options) => options.split(',').map(pair).collect(),
        None => Ok(Vec::new()),
    }
}

impl Auto {
    fn read(pairs: Pairs<'_>) -> Result<Self, String> {
        let mut auto = Self::default();
        for (key, value) in pairs {
            match key {
                "size" => once(&mut auto.size, key, size(value))?,
                "uidmapping" => auto.uids.push(Extent::parse(value)?),
                "gidmapping" => auto.gids.push(Extent::parse(value)?),
                other => return Err(format!("unknown option {other:?} of auto")),
            }
        }
        Ok(auto)
    }
}

impl KeepId {
    fn read(pairs: Pairs<'_>) -> Result<Self, String> {
        let mut keep = Self::default();
        for (key, value) in pairs {
            let target = match key {
                "uid" => &mut keep.uid,
                "gid" => &mut keep.gid,
                "host-uid" => &mut keep.host_uid,
                "host-gid" => &mut keep.host_gid,
                "size" => &mut keep.size,
                other => return Err(format!("unknown option {other:?} of keep-id")),
            };
            let number = if key == "size" {
                size(value)
            } else {
                id(value)
            };
            once(target, key, number)?;
        }
        Ok(keep)
    }
}

impl Private {
    fn read(pairs: Pairs<'_>) -> Result<Self, String> {
        let mut private = Self::default();
        for (key, value) in pairs {
            match key {
                "uidmapping" => private.uids.push(Extent::parse(value)?),
                "gidmapping" => private.gids.push(Extent::parse(value)?),
                "subuidname" => once(&mut private.subuid_name, key, Ok(value.to_owned()))?,
                "subgidname" => once(&mut private.subgid_name, key, Ok(value.to_owned()))?,
                other => return Err(format!("unknown option {other:?} of private")),
            }
        }
        if !private.uids.is_empty() && private.subuid_name.is_some()
            || !private.gids.is_empty() && private.subgid_name.is_some()
        {
            return Err("a mapping and the name of its owner exclude each other".to_owned());
        }
        Ok(private)
    }
}

fn once<T>(target: &mut Option<T>, key: &str, value: Result<T, String>) -> Result<(), String> {
    if target.is_some() {
        return Err(format!("{key} is given twice"));
    }
    *target = Some(value?);
    Ok(())
}

fn number(text: &str) -> Option<u32> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn size(text: &str) -> Result<u32, String> {
    number(text)
        .filter(|size| *size > 0)
        .ok_or_else(|| format!("{text:?} is not a number of ids"))
}

fn id(text: &str) -> Result<u32, String> {
    number(text)
        .filter(|id| *id < u32::MAX)
        .ok_or_else(|| format!("{text:?} is not an id"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn modes_are_read() {
        assert_eq!(Mode::parse(""), Ok(Mode::Daemon));
        assert_eq!(Mode::parse("host"), Ok(Mode::Host));
        assert_eq!(
            Mode::parse("container:web"),
            Ok(Mode::Container("web".into()))
        );
        assert_eq!(Mode::parse("auto"), Ok(Mode::Auto(Auto::default())));
        assert_eq!(
            Mode::parse("auto:size=8192,uidmapping=0:1000:1,gidmapping=5:6:7,uidmapping=1:1:1"),
            Ok(Mode::Auto(Auto {
                size: Some(8192),
                uids: vec![(0, 1000, 1).into(), (1, 1, 1).into()],
                gids: vec![(5, 6, 7).into()],
            }))
        );
        assert_eq!(
            Mode::parse("keep-id:uid=10,gid=11,host-uid=1000,host-gid=1001"),
            Ok(Mode::KeepId(KeepId {
                host_uid: Some(1000),
                host_gid: Some(1001),
                uid: Some(10),
                gid: Some(11),
                size: None,
            }))
        );
        assert_eq!(
            Mode::parse("private:subuidname=alice,gidmapping=0:9:9"),
            Ok(Mode::Private(Private {
                gids: vec![(0, 9, 9).into()],
                subuid_name: Some("alice".into()),
                ..Private::default()
            }))
        );
    }

    #[test]
    fn wrong_modes_are_named() {
        for (text, why) in [
            ("bogus", ""),
            ("host:x", ""),
            ("container:", ""),
            ("container", ""),
            (":", ""),
            ("auto:", ": \"\" is not OPTION=VALUE"),
            ("auto:size", ": \"size\" is not OPTION=VALUE"),
            ("auto:size=0", ": \"0\" is not a number of ids"),
            ("auto:size=1,size=2", ": size is given twice"),
            ("auto:colour=red", ": unknown option \"colour\" of auto"),
            (
                "auto:uidmapping=1:2",
                ": \"1:2\" is not CONTAINER_ID:HOST_ID:SIZE",
            ),
            ("keep-id:uid=4294967295", ": \"4294967295\" is not an id"),
            ("keep-id:uid=-1", ": \"-1\" is not an id"),
            (
                "private",
                ": private needs a mapping: private:uidmapping=0:100000:65536, or auto",
            ),
            (
                "private:uidmapping=0:1:1,subuidname=a",
                ": a mapping and the name of its owner exclude each other",
            ),
            (
                "ns:/proc/1/ns/user",
                ": not supported by this version of Wharf",
            ),
        ] {
            assert_eq!(
                Mode::parse(text).unwrap_err(),
                format!("invalid user namespace mode: {text}{why}")
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_mode_or_an_error_that_shows_it(
            text in "(auto|keep-id|private|host|container|:|,|=|size|uidmapping|gidmapping|subuidname|host-uid|uid|[0-9]{1,11}|.){0,12}"
        ) {
            match Mode::parse(&text) {
                Ok(_) => {}
                Err(message) => {
                    let start = format!("invalid user namespace mode: {text}");
                    prop_assert!(message.starts_with(&start));
                }
            }
        }
    }
}
