//! systemd's manager object: scopes.

use crate::SystemdError;
use crate::connection::{Bus, Connection};
use crate::message::{Call, Message, Value, Writer};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A connection to a systemd.
#[derive(Debug)]
pub struct Manager(Connection);

impl Manager {
    /// Connects.
    pub fn connect(bus: Bus) -> Result<Self, SystemdError> {
        Connection::open(bus).map(Self)
    }

    fn call(
        &mut self,
        interface: &str,
        member: &'static str,
        signature: &str,
        write: impl FnOnce(&mut Writer),
    ) -> Result<Message, SystemdError> {
        let mut body = Writer::default();
        write(&mut body);
        let call = Call {
            destination: if self.0.is_bus { NAME } else { "" },
            path: PATH,
            interface,
            member,
            signature,
            body,
        };
        self.0.call(member, call)
    }

    /// Asks to be told of finished jobs.
    fn subscribe(&mut self) -> Result<(), SystemdError> {
        if self.0.is_bus {
            let mut body = Writer::default();
            body.text(&format!(
                "type='signal',sender='{NAME}',interface='{MANAGER}',member='JobRemoved'"
            ));
            self.0.call_bus("AddMatch", "s", body)?;
        }
        match self.call(MANAGER, "Subscribe", "", |_| {}) {
            Err(error) if error.is("AlreadySubscribed") => Ok(()),
            other => other.map(drop),
        }
    }

    fn wait_for_job(
        &mut self,
        call: &'static str,
        unit: &str,
        accepted: Message,
    ) -> Result<(), SystemdError> {
        let job = accepted
            .texts
            .into_iter()
            .next()
            .ok_or(SystemdError::Answer { call })?;
        // id, job, unit, result
        let result = self.0.wait_for(call, |message| {
            let [ended, _, result] = message.texts.as_slice() else {
                return None;
            };
            (message.member == "JobRemoved" && *ended == job).then(|| result.clone())
        })?;
        if result == "done" {
            Ok(())
        } else {
            Err(SystemdError::Job {
                unit: unit.to_owned(),
                result,
            })
        }
    }

    /// Starts a unit that lasts as long as its processes, and waits until it is there.
    pub fn start_transient_unit(
        &mut self,
        unit: &str,
        properties: &[(&str, Value)],
    ) -> Result<(), SystemdError> {
        const CALL: &str = "StartTransientUnit";
        self.subscribe()?;
        let start = |manager: &mut Self| {
            manager.call(MANAGER, CALL, "ssa(sv)a(sa(sv))", |body| {
                body.text(unit);
                body.text("replace");
                body.properties(properties);
                // No further units.
                body.array(8, |_| {});
            })
        };
        let accepted = match start(self) {
            Err(error) if error.is("UnitExists") => {
                // One that failed before is remembered until somebody has seen it.
                self.reset_failed(unit)?;
                start(self)?
            }
            other => other?,
        };
        self.wait_for_job(CALL, unit, accepted)
    }

    /// Changes settings of a unit until the machine goes down.
    pub fn set_unit_properties(
        &mut self,
        unit: &str,
        properties: &[(&str, Value)],
    ) -> Result<(), SystemdError> {
        self.call(MANAGER, "SetUnitProperties", "sba(sv)", |body| {
            body.text(unit);
            body.u32(1);
            body.properties(properties);
        })
        .map(drop)
    }

    /// Stops a unit and waits until it is gone. One that is gone already is fine.
    pub fn stop_unit(&mut self, unit: &str) -> Result<(), SystemdError> {
        const CALL: &str = "StopUnit";
        self.subscribe()?;
        let stopped = self.call(MANAGER, CALL, "ss", |body| {
            body.text(unit);
            body.text("replace");
        });
        match stopped {
            Err(error) if error.is("NoSuchUnit") => Ok(()),
            other => {
                self.wait_for_job(CALL, unit, other?)?;
                // So that its name is free; there is nothing to reset where it just went.
                match self.reset_failed(unit) {
                    Err(error) if error.is("NoSuchUnit") => Ok(()),
                    other => other,
                }
            }
        }
    }

    /// Moves processes of the caller's into the cgroup `below` a delegated unit's.
    pub fn attach_processes(
        &mut self,
        unit: &str,
        below: &str,
        processes: &[u32],
    ) -> Result<(), SystemdError> {
        self.call(MANAGER, "AttachProcessesToUnit", "ssau", |body| {
            body.text(unit);
            body.text(below);
            body.array(4, |body| processes.iter().for_each(|pid| body.u32(*pid)));
        })
        .map(drop)
    }

    fn reset_failed(&mut self, unit: &str) -> Result<(), SystemdError> {
        self.call(MANAGER, "ResetFailedUnit", "s", |body| body.text(unit))
            .map(drop)
    }

    /// A property of the manager that is a text: `Version`, `ControlGroup`.
    pub fn property(&mut self, name: &str) -> Result<String, SystemdError> {
        const CALL: &str = "Get";
        self.call("org.freedesktop.DBus.Properties", CALL, "ss", |body| {
            body.text(MANAGER);
            body.text(name);
        })?
        .texts
        .into_iter()
        .next()
        .ok_or(SystemdError::Answer { call: CALL })
    }
}
