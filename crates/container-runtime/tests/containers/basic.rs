//! Programs, streams, terminals, exit codes, errors.

use std::io::Read;

use rustix::process::Signal;
use wharf_container_runtime::{Stage, Stdio, create};

use crate::Test;
use crate::sandbox::{Sandbox, end, finish, pipes, read_terminal, reap};

pub(crate) const TESTS: &[Test] = &[
    ("program_runs_and_its_exit_code_is_kept", program_runs),
    ("namespaces_are_the_containers_own", namespaces),
    ("streams_and_environment_arrive", streams),
    ("missing_programs_are_dockers_errors", missing_programs),
    ("foreign_format_is_the_programs_failure", foreign_format),
    ("working_directory_is_made", working_directory),
    ("terminal_is_the_containers_console", terminal),
    ("create_waits_for_start", two_phases),
    ("without_a_process_there_is_nothing_to_start", no_process),
    ("killed_container_reports_its_signal", killed),
    ("init_reaps_and_passes_signals_on", init),
    ("nothing_is_inherited", nothing_inherited),
    ("nothing_shows_on_the_host", no_trace),
];

fn program_runs(sandbox: &Sandbox) {
    assert_eq!(sandbox.container(&["true"]).run().code, 0);
    assert_eq!(
        sandbox.container(&["/bin/sh", "-c", "exit 42"]).run().code,
        42
    );
}

fn namespaces(sandbox: &Sandbox) {
    let outcome = sandbox
        .shell("echo $$; hostname; ls /proc | grep -c '^[0-9]'; ip link | grep -c '^[0-9]'; ls /");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[..2], ["1", "box"], "{outcome:?}");
    assert!(lines[2].parse::<u32>().unwrap() <= 4, "{outcome:?}");
    assert!(
        lines[3].parse::<u32>().unwrap() >= 1 && !lines.contains(&"eth0"),
        "{outcome:?}"
    );
    assert!(
        lines.contains(&"bin") && !lines.contains(&"boot"),
        "{outcome:?}"
    );
}

fn streams(sandbox: &Sandbox) {
    let mut container = sandbox.container(&[
        "sh",
        "-c",
        "echo out; echo err >&2; echo $FOO $HOME; cat; pwd",
    ]);
    container.process().env = vec!["PATH=/bin".into(), "FOO=bar".into()];
    let outcome = container.run();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\nbar /root\n/\n", "err\n")
    );
}

fn missing_programs(sandbox: &Sandbox) {
    let error = |program: &str| sandbox.container(&[program]).error();
    let not_in_path = error("nonesuch");
    assert_eq!(
        not_in_path.docker_create_message(),
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create \
         failed: unable to start container process: exec: \"nonesuch\": executable file not found in $PATH: unknown"
    );
    assert_eq!(not_in_path.exit_code(), 127);
    let missing = error("/nonesuch");
    assert_eq!(
        missing.to_string(),
        r#"exec: "/nonesuch": stat /nonesuch: no such file or directory"#
    );
    assert_eq!(missing.exit_code(), 127);
    assert_eq!(error("/etc").to_string(), r#"exec: "/etc": is a directory"#);
    let denied = error("/etc/passwd");
    assert_eq!(
        denied.to_string(),
        r#"exec: "/etc/passwd": permission denied"#
    );
    assert_eq!(denied.exit_code(), 126);
    assert_eq!(error("").stage, Stage::ProgramNotInPath);
}

fn foreign_format(sandbox: &Sandbox) {
    let container = sandbox.container(&["/bad"]);
    std::fs::write(container.upper.join("bad"), "not a program").unwrap();
    rustix::fs::chmod(
        container.upper.join("bad"),
        rustix::fs::Mode::from_raw_mode(0o755),
    )
    .unwrap();
    let outcome = container.run();
    assert_eq!(
        (outcome.code, outcome.stderr.as_str()),
        (255, "exec /bad: exec format error\n")
    );
}

fn working_directory(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["pwd"]);
    container.process().cwd = "/new/deep/place".into();
    assert_eq!(container.run().stdout, "/new/deep/place\n");
    let mut container = sandbox.container(&["pwd"]);
    container.process().cwd = "/etc/passwd/x".into();
    assert_eq!(container.error().stage, Stage::WorkingDirectory);
}

fn terminal(sandbox: &Sandbox) {
    let mut container = sandbox.container(&[
        "sh",
        "-c",
        "tty; test -t 0 && stty size; ls -l /dev/console; echo hi >/dev/console",
    ]);
    container.process().terminal = true;
    container.process().console_size = Some(wharf_oci::runtime::ConsoleSize {
        height: 33,
        width: 99,
    });
    let mut running =
        wharf_container_runtime::run(&container.config, Vec::new(), Stdio::Terminal).unwrap();
    let text = read_terminal(running.terminal.take().unwrap());
    assert_eq!(reap(running.pid), 0, "{text}");
    assert!(
        text.contains("/dev/pts/0\r\n33 99\r\n") && text.contains("hi\r\n"),
        "{text}"
    );
    running.cgroup.unwrap().remove().unwrap();
}

fn two_phases(sandbox: &Sandbox) {
    let container = sandbox.container(&["sh", "-c", "echo started"]);
    let (stdio, mut output) = pipes();
    let created = create(&container.config, Vec::new(), stdio).unwrap();
    rustix::io::ioctl_fionbio(&output[0], true).unwrap();
    assert_eq!(
        output[0].read(&mut [0; 8]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    rustix::io::ioctl_fionbio(&output[0], false).unwrap();
    let running = created.start().unwrap();
    assert_eq!(finish(running, output).stdout, "started\n");
    let (stdio, _output) = pipes();
    let container = sandbox.container(&["nonesuch"]);
    assert_eq!(
        create(&container.config, Vec::new(), stdio)
            .unwrap_err()
            .stage,
        Stage::ProgramNotInPath
    );
}

fn no_process(sandbox: &Sandbox) {
    let mut container = sandbox.container(&["true"]);
    container.config.spec.process = None;
    let created = create(&container.config, Vec::new(), pipes().0).unwrap();
    let error = created.start().unwrap_err();
    assert_eq!(error.to_string(), "no command specified");
    assert_eq!(container.error().to_string(), "no command specified");
}

fn killed(sandbox: &Sandbox) {
    let (running, output) = sandbox.container(&["sleep", "1000"]).start();
    wharf_container_runtime::kill(&running, Signal::KILL).unwrap();
    assert_eq!(finish(running, output).code, 137);
}

fn init(sandbox: &Sandbox) {
    let script = "trap 'echo got it; exit 7' TERM; echo $$; (sleep 0.01 &) ; echo ready; while :; do sleep 0.02; done";
    let mut container = sandbox.container(&["sh", "-c", script]);
    container.config.init = true;
    container.config.user = Some("web".into());
    let (running, mut output) = container.start();
    let mut seen = String::new();
    let mut byte = [0];
    while !seen.ends_with("ready\n") {
        if output[0].read(&mut byte).unwrap() == 0 {
            panic!("{seen:?} {:?}", finish(running, output));
        }
        seen.push(char::from(byte[0]));
    }
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", running.pid.as_raw_nonzero())).unwrap();
    assert!(cmdline.starts_with(b"/sbin/docker-init\0--\0sh\0"));
    wharf_container_runtime::kill(&running, Signal::TERM).unwrap();
    let outcome = finish(running, output);
    assert_eq!(
        (seen.as_str(), outcome.stdout.as_str(), outcome.code),
        ("2\nready\n", "got it\n", 7)
    );
}

fn nothing_inherited(sandbox: &Sandbox) {
    let leaked = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let outcome = sandbox.shell("ls /proc/self/fd | xargs");
    // The fourth is the directory being listed.
    assert_eq!(outcome.stdout, "0 1 2 3\n", "{outcome:?}");
    let status = sandbox
        .container(&["grep", "Sig[BI]", "/proc/self/status"])
        .run();
    assert_eq!(
        status.stdout,
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    );
}

fn no_trace(sandbox: &Sandbox) {
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (running, _output) = sandbox.container(&["sleep", "1000"]).start();
    assert_eq!(
        std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
        before
    );
    let path = running.cgroup.as_ref().unwrap().path().to_owned();
    end(running);
    assert!(
        !std::path::Path::new("/sys/fs/cgroup/memory")
            .join(&path[1..])
            .exists()
    );
}
