//! Exec sessions: further processes in a running container.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use wharf_api_types::exec::{CreateExec, ExecInspect, ExecProcessConfig, StartExec};
use wharf_fault::{Error, Result};
use wharf_ids::hex_id;
use wharf_oci::runtime::{Capabilities, ConsoleSize, Process};
use wharf_shim_protocol::{AttachMode, ExecStart, Reply, Request, Target, files};

use super::attach::detach_keys;
use super::client_socket::{ClientSocket, frame};
use super::live::Container;
use super::security::SeccompChoice;
use super::shim_link::LinkError;
use super::{apparmor, security, spec};
use crate::Engine;

/// Most sessions kept for one container; the oldest that ended goes first.
const SESSIONS_MAX: usize = 128;

/// One session.
#[derive(Debug)]
pub struct ExecSession {
    /// Its id.
    pub id: String,
    container: Arc<Container>,
    request: CreateExec,
    detach_keys: Vec<u8>,
    state: Mutex<ExecState>,
    /// Ends of the session, for who waits for it.
    pub(super) ended: tokio::sync::watch::Sender<Option<i32>>,
}

#[derive(Debug, Default)]
struct ExecState {
    started: bool,
    running: bool,
    exit_code: Option<i32>,
    pid: i32,
    /// A copy of the client's socket: the client sees the end of the stream only when the exit
    /// code is known.
    client: Option<OwnedFd>,
}

impl ExecSession {
    fn lock(&self) -> MutexGuard<'_, ExecState> {
        self.state
            .lock()
            .expect("no code panics while it holds this lock")
    }

    fn take_client(&self) -> Option<OwnedFd> {
        self.lock().client.take()
    }

    /// Whether it has a terminal.
    pub fn tty(&self) -> bool {
        self.request.tty
    }
}

/// A client of a starting session.
#[derive(Debug)]
pub struct ExecClient {
    /// Its socket, non-blocking.
    pub socket: OwnedFd,
    /// Without stream frames even without a terminal.
    pub raw: bool,
}

impl Engine {
    /// Prepares a session; nothing runs yet.
    pub fn exec_create(&self, reference: &str, mut request: CreateExec) -> Result<String> {
        let container = self.containers.find(reference)?;
        require_running(&container)?;
        if request.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        if !request.working_dir.is_empty() && !request.working_dir.starts_with('/') {
            return Err(Error::invalid(format!(
                "Cwd must be an absolute path: {}",
                request.working_dir
            )));
        }
        for variable in request.env.iter().flatten() {
            if variable.is_empty() || variable.starts_with('=') || variable.contains('\0') {
                return Err(Error::invalid(format!(
                    "invalid environment variable: {variable}"
                )));
            }
        }
        if request.user.is_empty() {
            request
                .user
                .clone_from(&container.read().record.config.user);
        }
        let keys = if request.detach_keys.is_empty() {
            None
        } else {
            Some(request.detach_keys.as_str())
        };
        let session = Arc::new(ExecSession {
            id: hex_id(),
            detach_keys: detach_keys(keys)?,
            container: Arc::clone(&container),
            request,
            state: Mutex::new(ExecState::default()),
            ended: tokio::sync::watch::Sender::new(None),
        });
        self.register(&session);
        self.publish_exec("exec_create", &session, &[]);
        Ok(session.id.clone())
    }

    fn register(&self, session: &Arc<ExecSession>) {
        let mut sessions = self
            .containers
            .execs
            .lock()
            .expect("no code panics while it holds this lock");
        let mut cell = session.container.write();
        cell.execs.push(session.id.clone());
        if cell.execs.len() > SESSIONS_MAX {
            let idle = cell
                .execs
                .iter()
                .position(|id| sessions.get(id).is_none_or(|known| !known.lock().running));
            if let Some(at) = idle {
                let oldest = cell.execs.remove(at);
                sessions.remove(&oldest);
            }
        }
        sessions.insert(session.id.clone(), Arc::clone(session));
    }

    /// A session by id.
    pub fn exec_find(&self, id: &str) -> Result<Arc<ExecSession>> {
        let sessions = self
            .containers
            .execs
            .lock()
            .expect("no code panics while it holds this lock");
        sessions
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    /// Checks a start. Errors with an HTTP status come from here, before HTTP is left.
    pub fn exec_check(&self, id: &str, request: &StartExec) -> Result<Arc<ExecSession>> {
        let session = self.exec_find(id)?;
        if request.console_size.is_some() && !request.tty {
            return Err(Error::invalid("console size is only supported with tty"));
        }
        require_running(&session.container)?;
        {
            let mut state = session.lock();
            if state.exit_code.is_some() {
                return Err(Error::conflict(format!(
                    "exec command {id} has already run"
                )));
            }
            if state.started {
                return Err(Error::conflict(format!(
                    "exec command {id} is already running"
                )));
            }
            state.started = true;
        }
        Ok(session)
    }

    /// Runs a session that [`Engine::exec_check`] let pass. With a client a failure is also told
    /// in its stream, as Docker does.
    pub async fn exec_start(
        &self,
        session: &Arc<ExecSession>,
        request: &StartExec,
        client: Option<ExecClient>,
    ) -> Result<()> {
        let raw = session.request.tty || client.as_ref().is_some_and(|client| client.raw);
        // Kept for the failure's text: the original goes to the shim.
        session.lock().client = client
            .as_ref()
            .and_then(|client| client.socket.try_clone().ok());
        let result = self.run_exec(session, request, client).await;
        if let Err(error) = &result
            && let Some(socket) = session
                .take_client()
                .and_then(|socket| ClientSocket::new(socket).ok())
        {
            let text = format!("{}\r\n", wharf_fault::chain(error));
            let bytes = if raw {
                text.into_bytes()
            } else {
                frame(1, text.as_bytes())
            };
            drop(socket.write_all(&bytes).await);
        }
        result
    }

    async fn run_exec(
        &self,
        session: &Arc<ExecSession>,
        request: &StartExec,
        client: Option<ExecClient>,
    ) -> Result<()> {
        let container = &session.container;
        let link = container.link()?;
        let wanted = &session.request;
        let process = self.exec_process(session, request)?;
        let attach = client.as_ref().map(|client| AttachMode {
            stdin: wanted.attach_stdin,
            stdout: wanted.attach_stdout,
            stderr: wanted.attach_stderr,
            multiplexed: !wanted.tty && !client.raw,
            detach_keys: session.detach_keys.clone(),
            token: self.containers.client_token(),
        });
        let fds: Vec<OwnedFd> = client.into_iter().map(|client| client.socket).collect();
        let seccomp_bpf = {
            let cell = container.read();
            let host = &cell.record.host_config;
            let capabilities = security::capabilities(host, &self.containers.host.capabilities);
            // The default profile is for ordinary processes; one that somebody chose is for all.
            match security::parse(host)?.seccomp {
                SeccompChoice::Default if wanted.privileged => None,
                choice => self
                    .containers
                    .seccomp
                    .filter(host, &choice, &capabilities)?,
            }
        };
        let start = ExecStart {
            exec_id: session.id.clone(),
            process,
            user: Some(wanted.user.clone()),
            seccomp_bpf,
            open_stdin: wanted.attach_stdin,
            attach,
            group_add: container
                .read()
                .record
                .host_config
                .group_add
                .clone()
                .unwrap_or_default(),
        };
        let order = if wanted.privileged {
            let run_dir = container.read().run.as_ref().map(|run| run.run_dir.clone());
            Some(Order::write(
                &run_dir.ok_or_else(|| container.not_running())?,
                &start,
            )?)
        } else {
            None
        };
        session.lock().running = true;
        self.publish_exec("exec_start", session, &[]);
        let failed = |error: LinkError, code: i32| {
            let mut state = session.lock();
            state.running = false;
            state.exit_code = Some(code);
            session.ended.send_replace(Some(code));
            Error::from(error)
        };
        let answer = link.request(Request::Exec(Box::new(start)), &fds).await;
        drop(order);
        match answer {
            Ok((Reply::ExecStarted { pid }, _)) => {
                session.lock().pid = pid;
                Ok(())
            }
            Ok(_) => Err(Error::system("the shim gave a wrong answer")),
            Err(LinkError::Refused(failure)) => {
                // Docker: 126 for whatever is not a missing program.
                let code = if failure.exit_code == 127 { 127 } else { 126 };
                Err(failed(LinkError::Refused(failure), code))
            }
            Err(error) => Err(failed(error, 137)),
        }
    }

    fn exec_process(&self, session: &ExecSession, request: &StartExec) -> Result<Process> {
        let wanted = &session.request;
        let cell = session.container.read();
        let record = &cell.record;
        let capabilities = if wanted.privileged {
            self.containers
                .host
                .capabilities
                .iter()
                .map(|name| (*name).to_owned())
                .collect()
        } else {
            security::capabilities(&record.host_config, &self.containers.host.capabilities)
        };
        let security = security::parse(&record.host_config)?;
        let size = request
            .console_size
            .or(wanted.console_size)
            .filter(|size| size[0] > 0 && size[1] > 0);
        let mut env = spec::environment(record, &[]);
        if wanted.tty && !record.config.tty {
            env = spec::override_env(vec!["TERM=xterm".to_owned()], &env);
        }
        let env = spec::override_env(env, wanted.env.as_deref().unwrap_or_default());
        let cwd = [&wanted.working_dir, &record.config.working_dir]
            .into_iter()
            .find(|dir| !dir.is_empty());
        Ok(Process {
            terminal: wanted.tty,
            console_size: size.map(|[height, width]| ConsoleSize {
                height: height.into(),
                width: width.into(),
            }),
            args: wanted.cmd.clone().unwrap_or_default(),
            env,
            cwd: cwd.cloned().unwrap_or_else(|| "/".to_owned()),
            capabilities: Some(Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            }),
            rlimits: spec::rlimits(&record.host_config, &self.default_ulimits()),
            no_new_privileges: security
                .no_new_privileges
                .unwrap_or(self.config.daemon.no_new_privileges),
            apparmor_profile: apparmor::profile(
                self.containers.host.apparmor,
                record.host_config.privileged,
                &security.apparmor,
            ),
            selinux_label: Some(record.labels.process.clone()).filter(|label| !label.is_empty()),
            oom_score_adj: Some(
                i32::try_from(record.host_config.oom_score_adj).unwrap_or_default(),
            ),
            ..Process::default()
        })
    }

    /// What a session is and how it went.
    pub fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        let session = self.exec_find(id)?;
        let request = &session.request;
        let mut words = request.cmd.iter().flatten().cloned();
        let state = session.lock();
        Ok(ExecInspect {
            id: session.id.clone(),
            running: state.running,
            exit_code: state.exit_code.map(i64::from),
            process_config: ExecProcessConfig {
                tty: request.tty,
                entrypoint: words.next().unwrap_or_default(),
                arguments: words.collect(),
                privileged: Some(request.privileged),
                user: request.user.clone(),
            },
            open_stdin: request.attach_stdin,
            open_stderr: request.attach_stderr,
            open_stdout: request.attach_stdout,
            can_remove: state.exit_code.is_some(),
            container_id: session.container.id.to_string(),
            detach_keys: Some(request.detach_keys.clone()),
            pid: i64::from(state.pid),
        })
    }

    /// Sets the size of a session's terminal.
    pub async fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let session = self.exec_find(id)?;
        let link = session.container.link()?;
        let target = Target::Exec(session.id.clone());
        link.command(
            Request::Resize {
                target,
                width,
                height,
            },
            &[],
        )
        .await
        .map_err(Error::from)
    }

    /// Books the end of a session.
    pub(super) fn exec_ended(&self, container: &Container, id: &str, exit_code: i32) {
        let Ok(session) = self.exec_find(id) else {
            return;
        };
        {
            let mut state = session.lock();
            state.running = false;
            state.exit_code = Some(exit_code);
        }
        session.ended.send_replace(Some(exit_code));
        drop(session.take_client());
        debug_assert_eq!(container.id, session.container.id);
        self.publish_exec("exec_die", &session, &[("exitCode", exit_code.to_string())]);
    }

    /// The client of a session has gone, the session goes on.
    pub(super) fn exec_client_gone(&self, id: &str) {
        if let Ok(session) = self.exec_find(id) {
            drop(session.take_client());
        }
    }

    /// The container ended, and with it its sessions.
    pub(super) fn end_execs(&self, container: &Container) {
        // The sessions' lock comes first everywhere: the container's must be free by then.
        let ids = container.read().execs.clone();
        for id in ids {
            let running = self
                .exec_find(&id)
                .is_ok_and(|session| session.lock().running);
            if running {
                self.exec_ended(container, &id, 137);
            }
        }
    }

    /// The container is gone, and with it its sessions.
    pub(super) fn forget_execs(&self, container: &Container) {
        let ids = std::mem::take(&mut container.write().execs);
        let mut sessions = self
            .containers
            .execs
            .lock()
            .expect("no code panics while it holds this lock");
        for id in ids {
            sessions.remove(&id);
        }
    }

    /// Forgets a session nobody will ask for.
    pub(super) fn forget_exec(&self, container: &Container, id: &str) {
        let mut sessions = self
            .containers
            .execs
            .lock()
            .expect("no code panics while it holds this lock");
        container.write().execs.retain(|known| known != id);
        sessions.remove(id);
    }

    /// Ids of the sessions that run, for inspect.
    pub(super) fn running_execs(&self, ids: &[String]) -> Option<Vec<String>> {
        let sessions = self
            .containers
            .execs
            .lock()
            .expect("no code panics while it holds this lock");
        let running = |id: &&String| {
            sessions
                .get(*id)
                .is_some_and(|session| session.lock().running)
        };
        let ids: Vec<String> = ids.iter().filter(running).cloned().collect();
        (!ids.is_empty()).then_some(ids)
    }

    fn publish_exec(&self, action: &str, session: &ExecSession, more: &[(&str, String)]) {
        let mut attributes = session
            .container
            .event_attributes([("execID", session.id.clone())]);
        for (key, value) in more {
            attributes.insert((*key).to_owned(), value.clone());
        }
        let action = match action {
            "exec_die" => action.to_owned(),
            action => format!(
                "{action}: {}",
                session
                    .request
                    .cmd
                    .iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        };
        self.events.publish(
            "container",
            action,
            session.container.id.as_str(),
            attributes,
        );
    }
}

fn require_running(container: &Container) -> Result<()> {
    let cell = container.read();
    let state = &cell.record.state;
    let id = &container.id;
    if state.paused {
        return Err(Error::conflict(format!(
            "Container {id} is paused, unpause the container before exec"
        )));
    }
    if state.restarting {
        return Err(Error::conflict(format!(
            "Container {id} is restarting, wait until the container is running"
        )));
    }
    if cell.run.is_none() {
        return Err(container.not_running());
    }
    Ok(())
}

/// The daemon's word for an exec with more privileges than its container: the shim may have been
/// taken over, and who starts the process asks for this file. It is there until the answer.
struct Order(PathBuf);

impl Order {
    fn write(run_dir: &Path, start: &ExecStart) -> Result<Self> {
        let path = files::exec_order(run_dir, &start.exec_id)
            .ok_or_else(|| Error::system(format!("{:?} is no exec's id", start.exec_id)))?;
        files::write_atomically(&path, start, false).map_err(|source| {
            Error::system(format!("cannot write {}", path.display())).caused_by(source)
        })?;
        Ok(Self(path))
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        // The run directory goes with the container, which may have ended meanwhile.
        drop(std::fs::remove_file(&self.0));
    }
}
