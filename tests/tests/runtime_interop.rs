//! Other engines on `wharf runtime`: Debian's Podman, containerd and Docker run, enter, limit, pause
//! and end containers through it, each in a host of its own.

use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use wharf_tests::waiting::PATIENCE;
use wharf_tests::{Host, Output, fixtures, run, run_with_open_input, skip};

/// Where a program is, if this machine has it.
fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
}

/// Whether all are there; a note if not.
fn are_there(test: &str, names: &[&str]) -> bool {
    let missing: Vec<&&str> = names
        .iter()
        .filter(|name| program(name).is_none())
        .collect();
    if !missing.is_empty() {
        skip(test, &format!("{missing:?} not installed"));
    }
    missing.is_empty()
}

/// `wharf` under the name of an OCI runtime.
fn runtime(host: &Host) -> String {
    let link = host.join("wharf-runtime");
    std::os::unix::fs::symlink(wharf_tests::wharf_binary(), &link).unwrap();
    link.display().to_string()
}

/// A host whose cgroups are of one kind only: hybrid ones are not what these engines expect.
fn host() -> Host {
    let host = Host::new();
    host.sh("umount /sys/fs/cgroup/unified 2>/dev/null; true")
        .ok();
    host
}

/// A daemon, ended with its host.
struct Daemon(Child);

impl Daemon {
    /// Starts it and waits until it says that it is ready.
    fn start(host: &Host, name: &str, arguments: &[&str]) -> Self {
        let path = host.join("ready.sock");
        let ready = UnixDatagram::bind(&path).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = std::fs::File::create(host.join("daemon.log")).unwrap();
        let mut command = host.command(program(name).unwrap());
        command
            .args(arguments)
            .env("NOTIFY_SOCKET", &path)
            // containerd leaves the folder of a restored checkpoint there.
            .env("TMPDIR", host.join("."))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let daemon = Self(command.spawn().unwrap());
        let mut message = [0; 4096];
        loop {
            let count = ready.recv(&mut message).unwrap();
            if message[..count].starts_with(b"READY=1") {
                return daemon;
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs `command` with output to a file: what stays behind may keep it open.
fn detached(mut command: Command) -> Output {
    let file = tempfile::tempfile().unwrap();
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file.try_clone().unwrap())
        .status()
        .unwrap();
    let mut text = String::new();
    let mut file = file;
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut text).unwrap();
    Output {
        command: format!("{command:?}"),
        stderr: text.clone(),
        stdout: text,
        code: status.code().unwrap_or(-1),
    }
}

/// The same command with a terminal around it.
fn with_terminal(host: &Host, command: &Command) -> Output {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words
        // What `nsenter` was needed for is done by the shell below.
        .skip_while(|word| *word != "--")
        .skip(1)
        .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")))
        .collect();
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!(
            "{}='{}' ",
            name.to_string_lossy(),
            value?.to_string_lossy()
        ))
    });
    let line: String = variables.chain([words.join(" ")]).collect();
    let mut script = host.command("script");
    // The engine's own choice of variables, also of those it goes without.
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.args(["-q", "-e", "-c", &line, "/dev/null"]);
    // At the end of its input `script` types an end of file, upon which Podman stops showing output:
    // with any runtime, some of what the program writes then would be lost now and then.
    run_with_open_input(script)
}

/// What the limit of the one container's memory is below `parent`, by the kernel.
fn memory_limit(host: &Host) -> String {
    let parent = host.cgroup_parent();
    let limits = format!(
        "find /sys/fs/cgroup/memory{parent}/* /sys/fs/cgroup{parent}/* \
         -name memory.limit_in_bytes -o -name memory.max 2>/dev/null | xargs cat | sort -n | head -n 1"
    );
    host.sh(&limits).text()
}

/// Counts in memory, and says so.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.1; done";

#[test]
fn podman() {
    if !are_there("podman", &["podman", "conmon"]) {
        return;
    }
    let host = host();
    let runtime = runtime(&host);
    let settings = host.join("containers.conf");
    std::fs::write(
        &settings,
        format!(
            "[containers]\ndefault_ulimits = [\"nofile=10000:10000\", \"nproc=10000:10000\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"wharf\"\n\
             [engine.runtimes]\nwharf = [\"{runtime}\"]\n"
        ),
    )
    .unwrap();
    let directory = |name: &str| host.join(name).display().to_string();
    let (root, run_root, temporary) = (directory("root"), directory("run"), directory("tmp"));
    let parent = host.cgroup_parent();
    let podman = |arguments: &[&str]| {
        let mut command = host.command(program("podman").unwrap());
        command
            .env("CONTAINERS_CONF", &settings)
            // It would look for its credentials there.
            .env_remove("DOCKER_CONFIG")
            .args([
                "--root",
                &root,
                "--runroot",
                &run_root,
                "--tmpdir",
                &temporary,
            ])
            .args(["--storage-driver", "vfs"])
            .args(arguments);
        command
    };
    let say = |arguments: &[&str]| run(podman(arguments), None);
    let archive = fixtures::busybox().display().to_string();
    let loaded = say(&["load", "-q", "-i", &archive]).ok().text();
    let image = loaded.rsplit(": ").next().unwrap().to_owned();
    let run_flags = ["--net", "none", "--cgroup-parent", &parent];
    let create = |more: &[&str]| {
        let mut all = vec!["run"];
        all.extend(run_flags);
        all.extend(more);
        podman(&all)
    };
    run(create(&["--rm", &image, "echo", "hello"]), None)
        .ok()
        .is("hello");
    run(create(&["--rm", &image, "sh", "-c", "exit 7"]), None).code(7);
    run(create(&["--rm", &image, "nonexistent"]), None)
        .code(127)
        .complains("executable file not found in $PATH");
    let limits = ["--memory", "64m", "--pids-limit", "30"];
    let mut all = vec!["-d", "--name", "c1"];
    all.extend(limits);
    all.extend([&image, "sleep", "1000"]);
    detached(create(&all)).ok();
    assert_eq!(memory_limit(&host), "67108864");
    say(&["exec", "c1", "sh", "-c", "echo inside; exit 3"])
        .code(3)
        .is("inside");
    with_terminal(
        &host,
        &podman(&[
            "exec",
            "-it",
            "c1",
            "sh",
            "-c",
            "test -t 0 && echo a terminal",
        ]),
    )
    .ok()
    .says("a terminal");
    say(&["top", "c1"]).ok().says("sleep 1000");
    say(&["stats", "--no-stream", "c1"]).ok().says("67.11MB");
    say(&["pause", "c1"]).ok();
    say(&["inspect", "--format", "{{.State.Status}}", "c1"])
        .ok()
        .is("paused");
    say(&["unpause", "c1"]).ok();
    say(&["kill", "c1"]).ok();
    say(&["wait", "c1"]).ok().is("137");
    say(&["rm", "c1"]).ok();
    match wharf_tests::criu::provide(&host) {
        Ok(()) => {
            let counter = ["-d", "--name", "c2", &image, "sh", "-c", COUNTER];
            detached(create(&counter)).ok();
            let until = |limit: u32| {
                // Between being opened and being written the file is empty.
                let line = format!(
                    "until n=$(cat /count) && test \"$n\" && test $n -gt {limit}; do sleep 0.05; done; echo $n"
                );
                say(&["exec", "c2", "sh", "-c", &line]).ok().text()
            };
            let before = until(3).parse().unwrap();
            say(&["container", "checkpoint", "c2"]).ok();
            detached(podman(&["container", "restore", "c2"])).ok();
            until(before);
            say(&["rm", "-f", "-t", "0", "c2"]).ok();
        }
        Err(reason) => skip("podman checkpoint", &reason),
    }
    with_terminal(
        &host,
        &create(&[
            "--rm",
            "-it",
            &image,
            "sh",
            "-c",
            "test -t 0 && echo a terminal",
        ]),
    )
    .ok()
    .says("a terminal");
}

#[test]
fn containerd() {
    if !are_there(
        "containerd",
        &["containerd", "ctr", "containerd-shim-runc-v2"],
    ) {
        return;
    }
    let host = host();
    let runtime = runtime(&host);
    let (settings, socket) = (host.join("containerd.toml"), "/run/containerd.sock");
    std::fs::write(
        &settings,
        format!(
            "version = 2\nroot = \"{}\"\nstate = \"/run/containerd\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{socket}\"\n",
            host.join("root").display()
        ),
    )
    .unwrap();
    let _daemon = Daemon::start(
        &host,
        "containerd",
        &["--config", &settings.display().to_string()],
    );
    let ctr = |arguments: &[&str]| {
        let mut command = host.command(program("ctr").unwrap());
        command.args(["--address", socket]).args(arguments);
        command
    };
    let say = |arguments: &[&str]| run(ctr(arguments), None);
    let archive = fixtures::busybox().display().to_string();
    say(&["images", "import", "--snapshotter", "native", &archive]).ok();
    let image = say(&["images", "list", "-q"]).ok().text();
    let create = |id: &str, flags: &[&str], arguments: &[&str]| {
        let cgroup = format!("{}/{id}", host.cgroup_parent());
        let mut all = vec!["run", "--snapshotter", "native", "--cgroup", &cgroup];
        all.extend([
            "--runtime",
            "io.containerd.runc.v2",
            "--runc-binary",
            &runtime,
        ]);
        all.extend(flags);
        all.extend([image.as_str(), id]);
        all.extend(arguments);
        ctr(&all)
    };
    run(create("t1", &["--rm"], &["echo", "hello"]), None)
        .ok()
        .is("hello");
    run(create("t2", &["--rm"], &["sh", "-c", "exit 7"]), None).code(7);
    run(create("t3", &["--rm"], &["nonexistent"]), None)
        .code(1)
        .complains("OCI runtime create failed: create failed: unable to start container process: exec: \"nonexistent\": executable file not found in $PATH");
    let script = "echo up; exec sleep 1000";
    let mut running = create(
        "t4",
        &["--rm", "--memory-limit", "67108864"],
        &["sh", "-c", script],
    )
    .stdin(Stdio::null())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut up = [0; 3];
    running.stdout.take().unwrap().read_exact(&mut up).unwrap();
    assert_eq!(&up, b"up\n");
    assert_eq!(memory_limit(&host), "67108864");
    say(&[
        "task",
        "exec",
        "--exec-id",
        "e1",
        "t4",
        "sh",
        "-c",
        "echo inside; exit 3",
    ])
    .code(3)
    .is("inside");
    with_terminal(
        &host,
        &ctr(&[
            "task",
            "exec",
            "-t",
            "--exec-id",
            "e2",
            "t4",
            "sh",
            "-c",
            "test -t 0 && echo a terminal",
        ]),
    )
    .ok()
    .says("a terminal");
    with_terminal(
        &host,
        &create(
            "t5",
            &["--rm", "-t"],
            &["sh", "-c", "test -t 0 && echo a terminal"],
        ),
    )
    .ok()
    .says("a terminal");
    say(&["task", "pause", "t4"]).ok();
    say(&["task", "list"]).ok().says("PAUSED");
    say(&["task", "resume", "t4"]).ok();
    say(&["task", "list"]).ok().says("RUNNING");
    say(&["task", "ps", "t4"]).ok().says("PID");
    say(&["task", "metrics", "t4"]).ok().says("67108864");
    say(&["task", "kill", "-s", "SIGKILL", "t4"]).ok();
    assert_eq!(running.wait().unwrap().code(), Some(137));
    match wharf_tests::criu::provide(&host) {
        Ok(()) => {
            detached(create("t6", &["--detach"], &["sh", "-c", COUNTER])).ok();
            let until = |id: &str, limit: u32| {
                // Between being opened and being written the file is empty.
                let line = format!(
                    "until n=$(cat /count) && test \"$n\" && test $n -gt {limit}; do sleep 0.05; done; echo $n"
                );
                say(&["task", "exec", "--exec-id", "e3", id, "sh", "-c", &line])
                    .ok()
                    .text()
            };
            let before = until("t6", 3).parse().unwrap();
            // The process, and what it has written, in an image of its own.
            let save = ["--rw", "--image", "--task", "t6", "saved"];
            say(&[&["containers", "checkpoint"], &save[..]].concat()).ok();
            say(&["task", "kill", "-s", "SIGKILL", "t6"]).ok();
            say(&["task", "delete", "t6"]);
            say(&["containers", "delete", "t6"]).ok();
            detached(ctr(&[
                "containers",
                "restore",
                "--rw",
                "--live",
                "t7",
                "saved",
            ]))
            .ok();
            until("t7", before);
            say(&["task", "kill", "-s", "SIGKILL", "t7"]).ok();
            say(&["task", "delete", "t7"]);
            say(&["containers", "delete", "t7"]).ok();
        }
        Err(reason) => skip("containerd checkpoint", &reason),
    }
    say(&["containers", "list", "-q"]).ok().is("");
}

#[test]
fn docker() {
    if !are_there("docker", &["dockerd", "docker", "containerd"]) {
        return;
    }
    let host = host();
    let runtime = runtime(&host);
    let directory = |name: &str| host.join(name).display().to_string();
    let settings = host.join("daemon.json");
    std::fs::write(
        &settings,
        format!(
            r#"{{"runtimes": {{"wharf": {{"path": "{runtime}"}}}}, "default-runtime": "wharf", "experimental": true,
                "data-root": "{}", "exec-root": "/run/docker", "pidfile": "/run/docker.pid",
                "hosts": ["unix:///run/docker.sock"], "bridge": "none", "iptables": false,
                "storage-driver": "vfs", "cgroup-parent": "{}"}}"#,
            directory("root"),
            host.cgroup_parent()
        ),
    )
    .unwrap();
    let _daemon = Daemon::start(
        &host,
        "dockerd",
        &["--config-file", &settings.display().to_string()],
    );
    let docker = |arguments: &[&str]| {
        let mut command = host.command(program("docker").unwrap());
        command
            .env("DOCKER_HOST", "unix:///run/docker.sock")
            .args(arguments);
        command
    };
    let say = |arguments: &[&str]| run(docker(arguments), None);
    let archive = fixtures::busybox().display().to_string();
    let loaded = say(&["load", "-q", "-i", &archive]).ok().text();
    let image = loaded.rsplit(": ").next().unwrap().to_owned();
    let create = |more: &[&str]| {
        let mut all = vec!["run", "--network", "none"];
        all.extend(more);
        say(&all)
    };
    create(&["--rm", &image, "echo", "hello"]).ok().is("hello");
    create(&["--rm", &image, "sh", "-c", "exit 7"]).code(7);
    create(&["--rm", &image, "nonexistent"])
        .code(127)
        .complains("executable file not found in $PATH");
    create(&["--rm", "--privileged", &image, "ls", "/dev/ptmx"]).ok();
    create(&["--rm", "--init", &image, "ps"])
        .ok()
        .says("docker-init");
    create(&[
        "-d", "--name", "c1", "--memory", "64m", &image, "sleep", "1000",
    ])
    .ok();
    assert_eq!(memory_limit(&host), "67108864");
    say(&["exec", "c1", "sh", "-c", "echo inside; exit 3"])
        .code(3)
        .is("inside");
    with_terminal(
        &host,
        &docker(&[
            "exec",
            "-it",
            "c1",
            "sh",
            "-c",
            "test -t 0 && echo a terminal",
        ]),
    )
    .ok()
    .says("a terminal");
    say(&["top", "c1"]).ok().says("sleep 1000");
    say(&["stats", "--no-stream", "c1"]).ok().says("64MiB");
    say(&["pause", "c1"]).ok();
    say(&["ps"]).ok().says("(Paused)");
    say(&["unpause", "c1"]).ok();
    say(&["update", "--memory", "96m", "--memory-swap", "96m", "c1"]).ok();
    assert_eq!(memory_limit(&host), "100663296");
    say(&["kill", "c1"]).ok();
    say(&["wait", "c1"]).ok().is("137");
    say(&["rm", "c1"]).ok();
    match wharf_tests::criu::provide(&host) {
        Ok(()) => {
            create(&["-d", "--name", "c2", &image, "sh", "-c", COUNTER]).ok();
            // Of the two halves this Docker has one: before it asks a runtime to restore, it fails to hand the
            // checkpoint to containerd ("content ... already exists").
            say(&["checkpoint", "create", "c2", "saved"])
                .ok()
                .is("saved");
            say(&["wait", "c2"]).ok().is("137");
            say(&["checkpoint", "ls", "c2"]).ok().says("saved");
            say(&["rm", "c2"]).ok();
        }
        Err(reason) => skip("docker checkpoint", &reason),
    }
}
