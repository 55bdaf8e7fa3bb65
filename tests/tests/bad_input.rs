//! Wrong variants of every command of the day of work: Docker's exit code, a message that names the
//! cause, and no trace left.

use wharf_tests::traces::runs_are_settled;
use wharf_tests::waiting::{becomes, eventually};
use wharf_tests::{Daemon, Host, fixtures};

/// A wrong command: arguments, exit code, and what must be said on standard error.
type Wrong<'a> = (&'a [&'a str], i32, &'a str);

/// Everything a half-done command could leave.
fn traces(daemon: &Daemon<'_>) -> String {
    let mut text = String::new();
    for arguments in [
        &["ps", "-aq"][..],
        &["volume", "ls", "-q"],
        &["network", "ls", "-q"],
        &["images", "-aq"],
    ] {
        text.push_str(&daemon.wharf(arguments).ok().stdout);
    }
    let find = format!(
        // The directories made ahead for the next container change with each.
        "cd {} && find data/containers* data/volumes exec/containers exec/records exec/exits -path '*/ready-*' -prune -o -print 2>/dev/null | sort",
        daemon.host.join("engine").display()
    );
    text.push_str(&daemon.host.sh(&find).stdout);
    text
}

fn try_all(daemon: &Daemon<'_>, wrongs: &[Wrong<'_>]) {
    runs_are_settled(daemon);
    let before = traces(daemon);
    let mut unexpected = Vec::new();
    for (arguments, code, message) in wrongs {
        // Both clients must end alike.
        for (client, out) in [
            ("docker", daemon.docker(arguments)),
            ("wharf", daemon.wharf(arguments)),
        ] {
            if out.code != *code || !format!("{}{}", out.stdout, out.stderr).contains(message) {
                let (found, said) = (out.code, out.stderr.trim());
                unexpected.push(format!("{client} {arguments:?}: {code} and `{message}` expected, got {found} and: {said}"));
            }
        }
        // What was begun goes a moment after the answer.
        eventually(&format!("{arguments:?} leaves nothing behind"), || {
            let now = traces(daemon);
            if now == before {
                Ok(())
            } else {
                Err(format!("{now} instead of {before}; {unexpected:?}"))
            }
        });
    }
    assert!(
        unexpected.is_empty(),
        "{} of {}:\n{}",
        unexpected.len(),
        wrongs.len() * 2,
        unexpected.join("\n")
    );
}

#[test]
fn containers() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    daemon
        .wharf(&[
            "run", "-d", "--name", "taken", "-p", "8080:80", "busybox", "sleep", "100000",
        ])
        .ok();
    daemon
        .wharf(&["create", "--name", "resting", "busybox", "true"])
        .ok();
    // The pool of network namespaces is filled in the background: the first start triggers it.
    daemon.wharf(&["run", "--rm", "busybox", "true"]).ok();
    let missing = host.join("no-such-folder").display().to_string();
    let missing_mount = format!("type=bind,source={missing},target=/x");
    let missing_env = format!("{missing}/env");
    try_all(
        &daemon,
        &[
            (
                &["run", "--rm", "--pull", "never", "unknown-image"],
                125,
                "No such image: unknown-image:latest",
            ),
            (
                &["create", "--pull", "never", "unknown-image"],
                1,
                "No such image: unknown-image:latest",
            ),
            (&["run", "-d", "UPPER"], 125, "must be lowercase"),
            (
                &["run", "--name", "taken", "busybox"],
                125,
                "is already in use by container",
            ),
            (
                &["run", "--name", "bad/name", "busybox"],
                125,
                "Invalid container name",
            ),
            (
                &["run", "--rm", "-p", "8080:80", "busybox"],
                125,
                "port is already allocated",
            ),
            (
                &["run", "--rm", "-p", "70000:80", "busybox"],
                125,
                "invalid",
            ),
            (
                &["run", "--rm", "--frobnicate", "busybox"],
                125,
                "unknown flag: --frobnicate",
            ),
            (&["run"], 1, "requires at least 1 argument"),
            (
                &["run", "--rm", "--mount", &missing_mount, "busybox", "true"],
                125,
                "bind source path does not exist",
            ),
            (
                &["run", "--rm", "--env-file", &missing_env, "busybox", "true"],
                125,
                "no such file or directory",
            ),
            (
                &["run", "--rm", "-m", "1m", "busybox", "true"],
                125,
                "Minimum memory limit allowed is 6MB",
            ),
            (
                &["run", "--rm", "--cpus", "1000", "busybox", "true"],
                125,
                "range of CPUs is from 0.01 to",
            ),
            (
                &["run", "--rm", "--ulimit", "nofile=x", "busybox", "true"],
                125,
                "invalid",
            ),
            (
                &["run", "--rm", "--restart", "always", "busybox", "true"],
                125,
                "conflicting options",
            ),
            (
                &["run", "--rm", "--network", "no-such-net", "busybox", "true"],
                125,
                "network no-such-net not found",
            ),
            (
                &["run", "--rm", "--runtime", "no-such", "busybox", "true"],
                125,
                "no-such",
            ),
            (
                &["run", "--rm", "--log-driver", "no-such", "busybox", "true"],
                125,
                "no-such",
            ),
            (
                &["run", "--rm", "--log-opt", "frob=1", "busybox", "true"],
                125,
                "unknown log opt 'frob'",
            ),
            (
                &["run", "--rm", "--cap-add", "NOPE", "busybox", "true"],
                125,
                "invalid",
            ),
            (
                &["run", "--rm", "--security-opt", "frob=1", "busybox", "true"],
                125,
                "frob",
            ),
            (
                &[
                    "run",
                    "--rm",
                    "--sysctl",
                    "kernel.panic=1",
                    "busybox",
                    "true",
                ],
                125,
                "kernel.panic",
            ),
            (
                &["run", "--rm", "--device", "/dev/no-such", "busybox", "true"],
                127,
                "/dev/no-such",
            ),
            (
                &["run", "--rm", "-u", "ghost", "busybox", "true"],
                125,
                "unable to find user ghost",
            ),
            (
                &["run", "--rm", "-v", "relative/path:/x", "busybox", "true"],
                125,
                "includes invalid characters for a local volume name",
            ),
            (
                &["run", "--rm", "-v", "/x:y", "busybox", "true"],
                125,
                "invalid",
            ),
            (
                &["run", "--rm", "--tmpfs", "relative", "busybox", "true"],
                125,
                "relative",
            ),
            (
                &["run", "--rm", "-w", "relative", "busybox", "true"],
                125,
                "relative",
            ),
            (
                &["run", "--rm", "busybox", "no-such-program"],
                127,
                "executable file not found in $PATH",
            ),
            (
                &["run", "--rm", "busybox", "/no/such/program"],
                127,
                "no such file or directory",
            ),
            (&["run", "--rm", "busybox", "/etc"], 126, ""),
            (
                &["run", "--rm", "--stop-signal", "SIGNOPE", "busybox", "true"],
                125,
                "SIGNOPE",
            ),
            (&["start", "ghost"], 1, "No such container: ghost"),
            (&["stop", "ghost"], 1, "No such container: ghost"),
            (&["kill", "resting"], 1, "is not running"),
            (&["kill", "-s", "NOPE", "taken"], 1, "invalid signal: NOPE"),
            (&["pause", "resting"], 1, "is not running"),
            (&["unpause", "taken"], 1, "is not paused"),
            (&["exec", "resting", "true"], 1, "is not running"),
            (
                &["exec", "taken", "no-such-program"],
                127,
                "executable file not found in $PATH",
            ),
            (
                &["exec", "-u", "ghost", "taken", "true"],
                126,
                "unable to find user ghost",
            ),
            (
                &["attach", "resting"],
                1,
                "cannot attach to a stopped container",
            ),
            (&["rm", "taken"], 1, "cannot remove"),
            (&["rm", "ghost"], 1, "No such container: ghost"),
            (
                &["rename", "resting", "taken"],
                1,
                "is already in use by container",
            ),
            (&["inspect", "ghost"], 1, "No such object: ghost"),
            (&["logs", "ghost"], 1, "No such container: ghost"),
            (&["logs", "--tail", "x", "taken"], 1, ""),
            (&["port", "taken", "81"], 1, "No public port '81' published"),
            (&["top", "resting"], 1, "is not running"),
            (&["wait", "ghost"], 1, "No such container: ghost"),
            (&["ps", "--filter", "nope=x"], 1, "nope"),
            (&["ps", "--format", "{{.Nope}}"], 1, "Nope"),
            (&["ps", "--format", "{{"], 1, "unclosed action"),
            (
                &["network", "create", "--subnet", "nonsense", "net"],
                1,
                "nonsense",
            ),
            (&["network", "create", "bridge"], 1, "predefined"),
            (&["network", "rm", "bridge"], 1, "pre-defined network"),
            (&["network", "rm", "ghost"], 1, "network ghost not found"),
            (
                &["network", "connect", "ghost", "taken"],
                1,
                "network ghost not found",
            ),
            (
                &["network", "create", "-d", "no-such-driver", "net"],
                1,
                "no-such-driver",
            ),
            (&["volume", "inspect", "ghost"], 1, "no such volume"),
            (&["volume", "rm", "ghost"], 1, "no such volume"),
            (
                &["volume", "create", "-d", "no-such-driver", "vol"],
                1,
                "no-such-driver",
            ),
            (
                &["volume", "create", "--opt", "nonsense=1", "vol"],
                1,
                "nonsense",
            ),
        ],
    );
}

#[test]
fn images() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    daemon
        .wharf(&["run", "-d", "--name", "user", "busybox", "sleep", "100000"])
        .ok();
    let garbage = host.join("garbage.tar");
    std::fs::write(
        &garbage,
        b"this is no archive at all, but it is long enough to look at".repeat(100),
    )
    .unwrap();
    let torn = host.join("torn.tar");
    let whole = std::fs::read(fixtures::busybox()).unwrap();
    std::fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
    let (garbage, torn) = (garbage.display().to_string(), torn.display().to_string());
    let missing = host.join("missing.tar").display().to_string();
    try_all(
        &daemon,
        &[
            (&["load", "-i", &garbage], 1, ""),
            (&["load", "-i", &torn], 1, ""),
            (&["load", "-i", &missing], 1, "no such file or directory"),
            (&["import", &garbage, "x:1"], 1, ""),
            (&["pull", "127.0.0.1:1/no/such:x"], 1, "connection refused"),
            (&["pull", "bad@name"], 1, "invalid reference format"),
            (&["tag", "ghost", "x:1"], 1, "No such image: ghost:latest"),
            (
                &["tag", "busybox", "Bad:Name:x"],
                1,
                "is not a valid repository/tag",
            ),
            (&["rmi", "ghost"], 1, "No such image: ghost:latest"),
            (&["rmi", "busybox"], 1, "conflict: unable to"),
            (
                &["save", "-o", &missing, "ghost"],
                1,
                "No such image: ghost:latest",
            ),
            (&["history", "ghost"], 1, "No such image: ghost:latest"),
            (&["image", "inspect", "ghost"], 1, "No such image: ghost"),
            (&["images", "--filter", "nope=x"], 1, "nope"),
        ],
    );
}

#[test]
fn full_disk() {
    let host = Host::new();
    // The engine's data root on an 80 MB file system of its own.
    let image = host.join("disk.img");
    let mounted = host.join("engine");
    host.sh(&format!(
        "truncate -s 80M {i} && mkfs.ext4 -q {i} && mkdir -p {m} && mount -o loop {i} {m}",
        i = image.display(),
        m = mounted.display()
    ))
    .ok();
    let daemon = Daemon::start(&host);
    daemon.load(&fixtures::busybox());
    let before = traces(&daemon);
    daemon
        .docker(&["load", "-i", &fixtures::debian().display().to_string()])
        .code(1)
        .complains("space left on device");
    becomes(&before, || traces(&daemon));
    // The failed load gave its space back, and the engine works on.
    daemon
        .wharf(&["run", "--rm", "busybox", "echo", "still fine"])
        .ok()
        .is("still fine");
    host.eventually(&format!(
        "test $(df --output=avail {} | tail -1) -gt 40000",
        mounted.display()
    ));
    daemon
        .wharf(&[
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "dd if=/dev/zero of=/big bs=1M count=200",
        ])
        .code(1)
        .complains("No space left on device");
    // What it wrote goes after the answer; until then there is no room for another one.
    host.eventually(&format!(
        "test $(df --output=avail {} | tail -1) -gt 40000",
        mounted.display()
    ));
    daemon
        .wharf(&["run", "--rm", "busybox", "echo", "and again"])
        .ok()
        .is("and again");
    host.sh(&format!("umount -l {}", mounted.display())).ok();
}

#[test]
fn daemon_flags_and_files() {
    let host = Host::new();
    let refuse = |arguments: &[&str], message: &str| {
        let mut command = host.command(wharf_tests::wharf_binary());
        command
            .arg("daemon")
            .args(["--data-root"])
            .arg(host.join("d"))
            .arg("--exec-root")
            .arg(host.join("e"));
        command.arg("--pidfile").arg(host.join("p")).args(arguments);
        wharf_tests::run(command, None).code(1).complains(message);
        assert!(
            !host.join("d").exists(),
            "a refused daemon made its data root"
        );
    };
    let config = host.join("daemon.json");
    let config_text = config.display().to_string();
    std::fs::write(&config, "{\"frobnicate\": true}").unwrap();
    refuse(&["--config-file", &config_text], "frobnicate");
    std::fs::write(&config, "{\"debug\": tru").unwrap();
    refuse(&["--config-file", &config_text], "daemon.json");
    std::fs::write(&config, "{\"debug\": true}").unwrap();
    refuse(&["--config-file", &config_text, "--debug"], "debug");
    refuse(&["--host", "tcp://0.0.0.0:2375"], "without TLS");
    refuse(&["--host", "gopher://x"], "gopher");
    refuse(&["--log-level", "loud"], "loud");
    refuse(&["--no-such-flag"], "unknown flag: --no-such-flag");
}
