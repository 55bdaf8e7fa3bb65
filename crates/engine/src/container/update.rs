//! Changing the limits and the restart policy of a container, running or not.

use wharf_api_types::container::HostConfig;
use wharf_fault::{Error, Result};
use wharf_oci::runtime::{BlockIo, Memory, Pids, Resources};
use wharf_shim_protocol::Request;

use super::live::RunRecord;
use super::record::Phase;
use super::shim_link::ShimLink;
use super::{limits, restart_policy, spec};
use crate::Engine;

impl Engine {
    /// Changes what `change` says (zero is not said) and returns warnings. What cannot be put into
    /// force on a running container is not kept either.
    pub async fn container_update(
        &self,
        reference: &str,
        mut change: HostConfig,
    ) -> Result<Vec<String>> {
        restart_policy::validate(&change.restart_policy)?;
        let warnings = limits::check(
            &mut change,
            &self.containers.host.limits,
            limits::Limits::Update,
        )?;
        let container = self.containers.find(reference)?;
        let failed = |error: Error| {
            let text = wharf_fault::chain(&error);
            let id = &container.id;
            Error::new(
                error.kind(),
                format!("Cannot update container {id}: {text}"),
            )
        };
        let _op = container.op.lock().await;
        let (before, run) = {
            let mut cell = container.write();
            if cell.gone || cell.record.state.removing || cell.record.state.phase == Phase::Dead {
                return Err(failed(Error::conflict(
                    "container is marked for removal and cannot be \"update\"",
                )));
            }
            let changed = merge(&cell.record.host_config, &change).map_err(failed)?;
            let before = std::mem::replace(&mut cell.record.host_config, changed);
            let run = cell
                .run
                .as_ref()
                .map(|run| (run.kept.clone(), run.link.clone()));
            // Without a cgroup there are no limits: they were discarded above.
            let run = run.filter(|(kept, _)| !kept.cgroup_path.is_empty());
            (before, run)
        };
        let mut done = self.containers.persist_now(&container).await;
        if let (Ok(()), Some(run)) = (&done, run) {
            let resources = resources(&change, &container.read().record.host_config);
            done = apply(run, resources).await;
            if done.is_err() && container.read().run.is_none() {
                // It ended meanwhile; the next run has the new limits.
                done = Ok(());
            }
        }
        if let Err(error) = done {
            container.write().record.host_config = before;
            self.containers.persist(&container);
            return Err(failed(error));
        }
        self.events.publish(
            "container",
            "update",
            container.id.as_str(),
            container.event_attributes([]),
        );
        Ok(warnings)
    }
}

/// The settings after the change, unless the two contradict each other.
fn merge(current: &HostConfig, change: &HostConfig) -> Result<HostConfig> {
    let conflict = |text: &str| Err(Error::conflict(text));
    // CPUs are a period and a quota by another name.
    for (contradicts, text) in [
        (
            change.nano_cpus > 0 && current.cpu_period > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            change.nano_cpus > 0 && current.cpu_quota > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            change.cpu_period > 0 && current.nano_cpus > 0,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            change.cpu_quota > 0 && current.nano_cpus > 0,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            change.memory > current.memory_swap && change.memory != 0 && change.memory_swap == 0,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
    ] {
        if contradicts {
            return conflict(text);
        }
    }
    let (mut merged, nothing) = (current.clone(), HostConfig::default());
    macro_rules! take {
        ($($field:ident)*) => {$(
            if change.$field != nothing.$field {
                merged.$field = change.$field.clone();
            }
        )*};
    }
    take! {
        blkio_weight cpu_shares nano_cpus cpu_period cpu_quota cpu_realtime_period
        cpu_realtime_runtime cpuset_cpus cpuset_mems memory memory_swap memory_reservation
    }
    if let Some(limit) = change.pids_limit {
        merged.pids_limit = (limit > 0).then_some(limit);
    }
    if merged.memory > 0 && merged.memory_swap > 0 && merged.memory_swap < merged.memory {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if !change.restart_policy.name.is_empty() {
        if current.auto_remove && !restart_policy::is_none(&change.restart_policy) {
            return conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            );
        }
        merged.restart_policy = change.restart_policy.clone();
    }
    Ok(merged)
}

/// What a running container's cgroup is to be told.
fn resources(change: &HostConfig, merged: &HostConfig) -> Resources {
    // Memory and swap are one setting in two numbers.
    let both = change.memory != 0 || change.memory_swap != 0;
    let said = |value: i64| (value != 0).then_some(value);
    let memory = Memory {
        limit: said(merged.memory).filter(|_| both),
        swap: said(merged.memory_swap).filter(|_| both),
        reservation: said(change.memory_reservation),
        ..Memory::default()
    };
    Resources {
        memory: (memory != Memory::default()).then_some(memory),
        cpu: spec::cpu(change),
        pids: change.pids_limit.map(|limit| Pids {
            limit: Some(if limit > 0 { limit } else { -1 }),
        }),
        block_io: (change.blkio_weight > 0).then(|| BlockIo {
            weight: Some(change.blkio_weight),
            ..BlockIo::default()
        }),
        ..Resources::default()
    }
}

/// Another runtime keeps limits in its own state, too, and is asked to change them.
async fn apply((run, link): (RunRecord, ShimLink), resources: Resources) -> Result<()> {
    if run.runtime.is_some() {
        if resources != Resources::default() {
            let resources = Box::new(resources);
            link.command(Request::Update { resources }, &[]).await?;
        }
        return Ok(());
    }
    // Lowering a memory limit makes the kernel look for memory to give back: not on a worker thread.
    let work = move || {
        run.cgroup()
            .map_err(|source| {
                Error::system("cannot open the container's cgroup").caused_by(source)
            })?
            .update(&resources)
            .map_err(Error::from_fault)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| Error::system("cannot change limits").caused_by(source))?
}

#[cfg(test)]
mod tests {
    use wharf_api_types::container::RestartPolicy;

    use super::*;

    fn limited() -> HostConfig {
        HostConfig {
            memory: 64 << 20,
            memory_swap: 128 << 20,
            cpu_quota: 50_000,
            ..HostConfig::default()
        }
    }

    fn refused(current: &HostConfig, change: HostConfig) -> String {
        merge(current, &change).unwrap_err().to_string()
    }

    #[test]
    fn contradictions_are_refused_in_dockers_words() {
        let d = HostConfig::default;
        assert_eq!(
            refused(
                &limited(),
                HostConfig {
                    nano_cpus: 1,
                    ..d()
                }
            ),
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
        );
        assert_eq!(
            refused(
                &limited(),
                HostConfig {
                    memory: 256 << 20,
                    ..d()
                }
            ),
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        );
        let always = RestartPolicy {
            name: "always".into(),
            maximum_retry_count: 0,
        };
        let fleeting = HostConfig {
            auto_remove: true,
            ..d()
        };
        assert_eq!(
            refused(
                &fleeting,
                HostConfig {
                    restart_policy: always,
                    ..d()
                }
            ),
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        );
    }

    #[test]
    fn only_what_changes_reaches_the_cgroup() {
        let change = HostConfig {
            memory_swap: 96 << 20,
            pids_limit: Some(0),
            ..HostConfig::default()
        };
        let merged = merge(&limited(), &change).unwrap();
        let resources = resources(&change, &merged);
        let memory = resources.memory.unwrap();
        assert_eq!(
            (memory.limit, memory.swap),
            (Some(64 << 20), Some(96 << 20))
        );
        assert_eq!(
            (resources.cpu, resources.pids),
            (None, Some(Pids { limit: Some(-1) }))
        );
        assert_eq!((merged.pids_limit, merged.cpu_quota), (None, 50_000));
    }
}
