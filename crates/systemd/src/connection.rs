//! A connection: to the system's or a user's bus, or where there is none to systemd itself.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::SystemdError;
use crate::message::{Call, FIXED, Kind, Message, Writer, length};

/// How long an answer may take, jobs included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages that came unasked and are kept for somebody who waits for them.
const KEPT_MAX: usize = 256;

/// Whose systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// The machine's.
    System,
    /// The calling user's.
    User,
    /// Whoever owns systemd's name on the bus at this address.
    At(&'static str),
}

impl Bus {
    /// The machine's for root, else the user's.
    pub fn of_caller() -> Self {
        if rustix::process::geteuid().is_root() && !in_user_namespace() {
            Self::System
        } else {
            Self::User
        }
    }

    /// Where to knock, in this order; with `true` for a bus.
    fn addresses(self) -> Vec<(PathBuf, bool)> {
        let runtime_dir = || {
            let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            let usual = || Some(PathBuf::from(format!("/run/user/{}", user_outside()?)));
            named.filter(|dir| dir.is_absolute()).or_else(usual)
        };
        match self {
            Self::At(address) => socket_of(address)
                .map(|path| (path, true))
                .into_iter()
                .collect(),
            Self::System => vec![
                (
                    named("DBUS_SYSTEM_BUS_ADDRESS")
                        .unwrap_or_else(|| "/run/dbus/system_bus_socket".into()),
                    true,
                ),
                ("/run/systemd/private".into(), false),
            ],
            Self::User => {
                let bus = named("DBUS_SESSION_BUS_ADDRESS")
                    .or_else(|| runtime_dir().map(|dir| dir.join("bus")));
                let private = runtime_dir().map(|dir| dir.join("systemd/private"));
                let all = [
                    bus.map(|path| (path, true)),
                    private.map(|path| (path, false)),
                ];
                all.into_iter().flatten().collect()
            }
        }
    }
}

/// The socket in an address like `unix:path=/run/x,guid=…`, the first that is one.
fn named(variable: &str) -> Option<PathBuf> {
    let text = std::env::var(variable).ok()?;
    socket_of(&text)
}

fn socket_of(text: &str) -> Option<PathBuf> {
    text.split(';').find_map(|address| {
        let options = address.strip_prefix("unix:")?;
        let path = options
            .split(',')
            .find_map(|option| option.strip_prefix("path="))?;
        path.starts_with('/').then(|| PathBuf::from(path))
    })
}

/// Whether our root is somebody else outside.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_ascii_whitespace().collect();
    words != ["0", "0", "4294967295"]
}

/// The calling user's number outside of its user namespace.
fn user_outside() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    outside(&map, rustix::process::geteuid().as_raw())
}

fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let distance = id.checked_sub(inside.ok()?)?;
        (distance < count.ok()?).then(|| outside.ok()?.checked_add(distance))?
    })
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
    /// There is a bus between us and systemd.
    pub(crate) is_bus: bool,
    serial: u32,
    signals: Vec<Message>,
}

impl Connection {
    /// Connects and introduces itself.
    pub fn open(bus: Bus) -> Result<Self, SystemdError> {
        let mut last = SystemdError::Connect {
            address: "no address: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set"
                .to_owned(),
            source: io::ErrorKind::NotFound.into(),
        };
        for (path, is_bus) in bus.addresses() {
            let address = path.display().to_string();
            match UnixStream::connect(&path) {
                Ok(stream) => return Self::begin(stream, &address, is_bus),
                Err(source) => last = SystemdError::Connect { address, source },
            }
        }
        Err(last)
    }

    fn begin(stream: UnixStream, address: &str, is_bus: bool) -> Result<Self, SystemdError> {
        let silent = |source| SystemdError::Silent {
            call: "authentication",
            source,
        };
        stream.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(silent)?;
        let mut connection = Self {
            stream: BufReader::new(stream),
            is_bus,
            serial: 0,
            signals: Vec::new(),
        };
        // Who we are is what the kernel says; a number of our own could be one of a namespace.
        let mut say = |line: &str, expected: &str| {
            connection.stream.get_mut().write_all(line.as_bytes())?;
            let mut answer = String::new();
            // Lines of this dialogue are short; a peer that sends more is none.
            (&mut connection.stream).take(1024).read_line(&mut answer)?;
            Ok::<_, io::Error>(match answer.starts_with(expected) {
                true => None,
                false => Some(answer.trim().to_owned()),
            })
        };
        let refused = match say("\0AUTH EXTERNAL\r\n", "DATA").map_err(silent)? {
            None => say("DATA\r\n", "OK ").map_err(silent)?,
            refused => refused,
        };
        if let Some(answer) = refused {
            let address = address.to_owned();
            return Err(SystemdError::Refused { address, answer });
        }
        let begin = connection.stream.get_mut().write_all(b"BEGIN\r\n");
        begin.map_err(silent)?;
        if is_bus {
            connection.call_bus("Hello", "", Writer::default())?;
        }
        Ok(connection)
    }

    /// Calls a method of the bus itself.
    pub(crate) fn call_bus(
        &mut self,
        member: &'static str,
        signature: &str,
        body: Writer,
    ) -> Result<Message, SystemdError> {
        let call = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            signature,
            body,
        };
        self.call(member, call)
    }

    /// Calls and waits for the answer.
    pub(crate) fn call(
        &mut self,
        name: &'static str,
        call: Call<'_>,
    ) -> Result<Message, SystemdError> {
        let silent = |source| SystemdError::Silent { call: name, source };
        self.serial += 1;
        let serial = self.serial;
        let bytes = call.encode(serial);
        self.stream.get_mut().write_all(&bytes).map_err(silent)?;
        loop {
            let message = self.receive().map_err(silent)?;
            match message.kind {
                Kind::Return if message.reply_to == serial => return Ok(message),
                Kind::Error if message.reply_to == serial => {
                    return Err(SystemdError::Call {
                        call: name,
                        name: message.error,
                        message: message.texts.into_iter().next().unwrap_or_default(),
                    });
                }
                Kind::Signal if self.signals.len() < KEPT_MAX => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// Waits for a signal that `wanted` makes something of, those that came already included.
    pub(crate) fn wait_for<T>(
        &mut self,
        name: &'static str,
        wanted: impl Fn(&Message) -> Option<T>,
    ) -> Result<T, SystemdError> {
        for message in std::mem::take(&mut self.signals) {
            if let Some(found) = wanted(&message) {
                return Ok(found);
            }
        }
        loop {
            let message = self
                .receive()
                .map_err(|source| SystemdError::Silent { call: name, source })?;
            if message.kind == Kind::Signal
                && let Some(found) = wanted(&message)
            {
                return Ok(found);
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let mut fixed = [0; FIXED];
        self.stream.read_exact(&mut fixed)?;
        let mut bytes = fixed.to_vec();
        bytes.resize(length(&fixed).ok_or_else(wrong)?, 0);
        self.stream.read_exact(&mut bytes[FIXED..])?;
        Message::decode(&bytes).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_by_their_number_outside() {
        let map = "0 1000 1\n1 100000 65536\n";
        assert_eq!(outside(map, 0), Some(1000));
        assert_eq!(outside(map, 33), Some(100_032));
        assert_eq!(outside(map, 70_000), None);
        assert_eq!(outside("0 0 4294967295\n", 1000), Some(1000));
    }

    #[test]
    fn addresses_are_read() {
        let path = |text: &str| socket_of(text).map(|path| path.display().to_string());
        assert_eq!(path("unix:path=/run/x,guid=1").as_deref(), Some("/run/x"));
        assert_eq!(
            path("tcp:host=a;unix:guid=1,path=/y").as_deref(),
            Some("/y")
        );
        assert_eq!(path("unix:abstract=/tmp/x"), None);
    }
}
