//! Further processes in a running container.

use std::io::{Read, Write};

use wharf_container_runtime::{ExecConfig, Running, Stage, Stdio, exec};
use wharf_oci::runtime::Process;

use crate::Test;
use crate::sandbox::{Outcome, Sandbox, end, pipes, read_terminal, reap};

pub(crate) const TESTS: &[Test] = &[
    ("exec_joins_everything", joins_everything),
    ("exec_has_its_own_user_and_directory", user_and_directory),
    ("exec_with_terminal", terminal),
    ("exec_of_missing_program_fails", missing_program),
    ("exec_in_ended_container_fails", ended),
    ("exec_is_limited_as_the_container", confined),
];

pub(crate) fn config(arguments: &[&str]) -> ExecConfig {
    let process = Process {
        args: arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect(),
        env: vec![wharf_oci::defaults::PATH.to_owned()],
        capabilities: Some(wharf_oci::defaults::capabilities(
            &wharf_oci::defaults::CAPABILITIES,
        )),
        ..Process::default()
    };
    ExecConfig {
        process,
        ..ExecConfig::default()
    }
}

fn run(container: &Running, config: &ExecConfig) -> Outcome {
    let (stdio, [mut out, mut err]) = pipes();
    let executed = exec(container, config, stdio).unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    out.read_to_string(&mut stdout).unwrap();
    err.read_to_string(&mut stderr).unwrap();
    Outcome {
        code: reap(executed.pid),
        stdout,
        stderr,
    }
}

fn joins_everything(sandbox: &Sandbox) {
    let (container, _output) = sandbox
        .container(&["sh", "-c", "echo here >/marker; exec sleep 1000"])
        .start();
    let script = "for n in mnt pid net uts ipc; do test $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) && echo $n; \
                  done | xargs; hostname; cat /proc/1/comm; test \"$(cat /proc/self/cgroup)\" = \"$(cat /proc/1/cgroup)\" && echo same; \
                  pwd; exit 5";
    // The program may not have written the marker yet; everything else is there from the start.
    let outcome = run(&container, &config(&["sh", "-c", script]));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[..2], ["mnt pid net uts ipc", "box"], "{outcome:?}");
    assert_eq!(lines[3..], ["same", "/"], "{outcome:?}");
    assert_eq!(outcome.code, 5);
    end(container);
}

fn user_and_directory(sandbox: &Sandbox) {
    let (container, _output) = sandbox.container(&["sleep", "1000"]).start();
    let mut config = config(&[
        "sh",
        "-c",
        "id -u; id -G; pwd; echo $HOME; grep CapEff /proc/self/status; echo x >/dev/stdout",
    ]);
    config.user = Some("web".into());
    config.group_add = vec!["disk".into()];
    config.process.cwd = "/var/www".into();
    let outcome = run(&container, &config);
    assert_eq!(
        outcome.stdout, "33\n33 4 6\n/var/www\n/var/www\nCapEff:\t0000000000000000\nx\n",
        "{outcome:?}"
    );
    config.user = Some("nobody".into());
    let error = exec(&container, &config, pipes().0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unable to find user nobody: no matching entries in passwd file"
    );
    end(container);
}

fn terminal(sandbox: &Sandbox) {
    let (container, _output) = sandbox.container(&["sleep", "1000"]).start();
    let mut config = config(&["sh", "-c", "tty; read line; echo got $line; stty size"]);
    config.process.terminal = true;
    let mut executed = exec(&container, &config, Stdio::Terminal).unwrap();
    let master = executed.terminal.take().unwrap();
    wharf_sys::terminal::resize(&master, 120, 40).unwrap();
    let mut writer = std::fs::File::from(master.try_clone().unwrap());
    writer.write_all(b"word\n").unwrap();
    drop(writer);
    let text = read_terminal(master);
    assert!(
        text.contains("/dev/pts/0\r\n") && text.contains("got word\r\n40 120\r\n"),
        "{text}"
    );
    assert_eq!(reap(executed.pid), 0);
    end(container);
}

fn missing_program(sandbox: &Sandbox) {
    let (container, _output) = sandbox.container(&["sleep", "1000"]).start();
    let error = exec(&container, &config(&["nonesuch"]), pipes().0).unwrap_err();
    assert_eq!(
        error.docker_exec_message(),
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nonesuch\": executable file \
         not found in $PATH: unknown"
    );
    assert_eq!(error.exit_code(), 127);
    end(container);
}

fn ended(sandbox: &Sandbox) {
    let (container, _output) = sandbox.container(&["sleep", "1000"]).start();
    wharf_container_runtime::kill(&container, rustix::process::Signal::KILL).unwrap();
    reap(container.pid);
    let error = exec(&container, &config(&["true"]), pipes().0).unwrap_err();
    assert_eq!(error.stage, Stage::NotRunning, "{error:?}");
    container.cgroup.unwrap().remove().unwrap();
}

fn confined(sandbox: &Sandbox) {
    let prepared = sandbox.container(&["sleep", "1000"]);
    let (container, _output) = prepared.start();
    let mut config = config(&[
        "sh",
        "-c",
        "unshare -U true; grep -E '^(Seccomp|CapBnd):' /proc/self/status",
    ]);
    config.seccomp = prepared.config.seccomp.clone();
    let outcome = run(&container, &config);
    assert_eq!(
        outcome.stdout, "CapBnd:\t00000000a80425fb\nSeccomp:\t2\n",
        "{outcome:?}"
    );
    // `exec --privileged`
    config.seccomp = None;
    config.process.capabilities = Some(crate::sandbox::all_capabilities());
    let outcome = run(&container, &config);
    assert!(
        outcome.stdout.ends_with("Seccomp:\t0\n") && outcome.stderr.is_empty(),
        "{outcome:?}"
    );
    end(container);
}
