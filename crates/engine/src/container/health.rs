//! Health probes: a task per container with one, which runs the probe as an exec session.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use wharf_api_types::container::{ContainerConfig, Health, HealthConfig, HealthcheckResult};
use wharf_api_types::exec::{CreateExec, StartExec};
use wharf_api_types::time;
use wharf_shim_protocol::{Request, Target};

use super::exec::ExecClient;
use super::live::Container;
use crate::Engine;

const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const START_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const RETRIES_DEFAULT: i64 = 3;
/// Probes kept for inspect.
const LOG_MAX: usize = 5;
/// Bytes of a probe's output kept.
const OUTPUT_MAX: usize = 4096;

/// What is known about a container's health.
#[derive(Debug)]
pub struct HealthState {
    status: Status,
    failing_streak: i64,
    log: VecDeque<HealthcheckResult>,
    task: Option<AbortHandle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Starting,
    Healthy,
    Unhealthy,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl Drop for HealthState {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl HealthState {
    fn new() -> Self {
        Self {
            status: Status::Starting,
            failing_streak: 0,
            log: VecDeque::new(),
            task: None,
        }
    }

    /// Docker's word for the status.
    pub fn word(&self) -> &'static str {
        self.status.word()
    }

    /// For inspect.
    pub fn to_wire(&self) -> Health {
        Health {
            status: self.word().to_owned(),
            failing_streak: self.failing_streak,
            log: self.log.iter().cloned().collect(),
        }
    }

    /// Books a probe; true when the status changed.
    fn book(&mut self, result: HealthcheckResult, retries: i64, in_start_period: bool) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if self.status != Status::Starting || !in_start_period {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.status = Status::Unhealthy;
            }
        }
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        self.log.push_back(result);
        self.status != before
    }
}

/// The probe's command; `None` where there is no probe.
fn command(config: &ContainerConfig) -> Option<Vec<String>> {
    let test = &config.healthcheck.as_ref()?.test;
    match test.first().map(String::as_str) {
        Some("CMD") => Some(test[1..].to_vec()),
        Some("CMD-SHELL") => {
            let mut words = config
                .shell
                .clone()
                .unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            words.push(test.get(1)?.clone());
            Some(words)
        }
        _ => None,
    }
}

fn duration(nanos: i64, default: Duration) -> Duration {
    match u64::try_from(nanos) {
        Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos),
        _ => default,
    }
}

impl Engine {
    /// Begins to probe a container that has just started.
    pub(super) fn start_health(&self, container: &Arc<Container>) {
        let (command, config) = {
            let cell = container.read();
            let config = &cell.record.config;
            match (command(config), &config.healthcheck) {
                (Some(command), Some(health)) => (command, health.clone()),
                _ => return,
            }
        };
        // The state first: the task finds it.
        container.write().health = Some(HealthState::new());
        let task = tokio::spawn(self.clone().probe_on_and_on(
            Arc::clone(container),
            command,
            config,
        ));
        if let Some(health) = &mut container.write().health {
            health.task = Some(task.abort_handle());
        }
    }

    /// Stops probing; the last status stays visible.
    pub(super) fn stop_health(&self, container: &Container) {
        if let Some(health) = &mut container.write().health {
            if let Some(task) = health.task.take() {
                task.abort();
            }
            // Docker: a stopped container is neither.
            if health.status == Status::Healthy {
                health.status = Status::Unhealthy;
            }
        }
    }

    async fn probe_on_and_on(
        self,
        container: Arc<Container>,
        command: Vec<String>,
        config: HealthConfig,
    ) {
        let started = tokio::time::Instant::now();
        let start_period = duration(config.start_period, Duration::ZERO);
        let interval = duration(config.interval, INTERVAL_DEFAULT);
        let start_interval = duration(config.start_interval, START_INTERVAL_DEFAULT);
        let retries = if config.retries == 0 {
            RETRIES_DEFAULT
        } else {
            config.retries
        };
        loop {
            let starting = container
                .read()
                .health
                .as_ref()
                .is_some_and(|health| health.status == Status::Starting);
            let in_start_period = started.elapsed() < start_period;
            tokio::time::sleep(if starting && in_start_period {
                start_interval
            } else {
                interval
            })
            .await;
            if container.read().record.state.paused {
                continue;
            }
            let result = self
                .probe(
                    &container,
                    &command,
                    duration(config.timeout, TIMEOUT_DEFAULT),
                )
                .await;
            let in_start_period = started.elapsed() < start_period;
            let changed = match &mut container.write().health {
                Some(health) => health
                    .book(result, retries, in_start_period)
                    .then(|| health.word()),
                None => return,
            };
            if let Some(word) = changed {
                let action = format!("health_status: {word}");
                self.events.publish(
                    "container",
                    action,
                    container.id.as_str(),
                    container.event_attributes([]),
                );
            }
        }
    }

    async fn probe(
        &self,
        container: &Arc<Container>,
        command: &[String],
        timeout: Duration,
    ) -> HealthcheckResult {
        let start = time::now();
        let request = CreateExec {
            cmd: Some(command.to_vec()),
            attach_stdout: true,
            attach_stderr: true,
            ..CreateExec::default()
        };
        let outcome = match self.exec_create(container.id.as_str(), request) {
            Ok(id) => {
                let outcome = tokio::time::timeout(timeout, self.run_probe(container, &id)).await;
                self.forget_exec(container, &id);
                outcome
            }
            Err(error) => Ok(Err(error)),
        };
        let (exit_code, output) = match outcome {
            Ok(Ok((code, output))) => (i64::from(code), output),
            Ok(Err(error)) => (-1, wharf_fault::chain(&error)),
            Err(_) => (
                -1,
                format!("Health check exceeded timeout ({})", seconds(timeout)),
            ),
        };
        HealthcheckResult {
            start,
            end: time::now(),
            exit_code,
            output,
        }
    }

    async fn run_probe(
        &self,
        container: &Arc<Container>,
        id: &str,
    ) -> wharf_fault::Result<(i32, String)> {
        let failed = |source: std::io::Error| {
            wharf_fault::Error::system("cannot run the health check").caused_by(source)
        };
        let session = self.exec_check(id, &StartExec::default())?;
        let guard = ProbeGuard {
            container: Arc::clone(container),
            id: id.to_owned(),
        };
        let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        theirs.set_nonblocking(true).map_err(failed)?;
        let mut ours = UnixStream::from_std(ours).map_err(failed)?;
        let mut ended = session.ended.subscribe();
        self.exec_start(
            &session,
            &StartExec::default(),
            Some(ExecClient {
                socket: theirs.into(),
                raw: true,
            }),
        )
        .await?;
        let mut output = Vec::new();
        let read = async {
            let mut chunk = [0_u8; 1024];
            while let Ok(count @ 1..) = ours.read(&mut chunk).await {
                // The rest is read, so that the probe is not stopped, and dropped.
                let room = OUTPUT_MAX - output.len().min(OUTPUT_MAX);
                output.extend_from_slice(&chunk[..count.min(room)]);
            }
        };
        let (_, code) = tokio::join!(read, async {
            ended
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|code| *code)
        });
        guard.disarm();
        Ok((
            code.unwrap_or(-1),
            String::from_utf8_lossy(&output).into_owned(),
        ))
    }
}

/// Kills a probe that is given up.
struct ProbeGuard {
    container: Arc<Container>,
    id: String,
}

impl ProbeGuard {
    /// The probe ended by itself.
    fn disarm(mut self) {
        self.id.clear();
    }
}

impl Drop for ProbeGuard {
    fn drop(&mut self) {
        if !self.id.is_empty()
            && let Ok(link) = self.container.link()
        {
            let target = Target::Exec(std::mem::take(&mut self.id));
            tokio::spawn(async move {
                drop(
                    link.command(
                        Request::Signal {
                            target,
                            signal: super::signal::KILL,
                            all: false,
                            origin: Default::default(),
                        },
                        &[],
                    )
                    .await,
                );
            });
        }
    }
}

/// As Go prints short durations.
fn seconds(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i64) -> HealthcheckResult {
        HealthcheckResult {
            exit_code,
            ..HealthcheckResult::default()
        }
    }

    #[test]
    fn a_streak_of_failures_makes_unhealthy() {
        let mut health = HealthState::new();
        assert!(!health.book(result(1), 3, true));
        assert_eq!(health.failing_streak, 0);
        assert!(health.book(result(0), 3, true));
        assert_eq!(health.word(), "healthy");
        assert!(!health.book(result(1), 3, false));
        assert!(!health.book(result(1), 3, false));
        assert!(health.book(result(1), 3, false));
        assert_eq!(health.word(), "unhealthy");
        assert!(health.book(result(0), 3, false));
        assert_eq!(health.to_wire().log.len(), 5);
    }

    #[test]
    fn probe_commands() {
        let config = |test: &[&str]| ContainerConfig {
            healthcheck: Some(HealthConfig {
                test: test.iter().map(|w| (*w).to_owned()).collect(),
                ..HealthConfig::default()
            }),
            ..ContainerConfig::default()
        };
        assert_eq!(command(&config(&["NONE"])), None);
        assert_eq!(command(&config(&["CMD", "a", "b"])).unwrap(), ["a", "b"]);
        assert_eq!(
            command(&config(&["CMD-SHELL", "a b"])).unwrap(),
            ["/bin/sh", "-c", "a b"]
        );
        assert_eq!(command(&config(&[])), None);
    }
}
