//! The morning: images in, runs and exit codes, a container that stays, restarts, events.

use super::{Engine, is_id};
use crate::fixtures;
use crate::waiting::becomes;

/// Containers.
pub fn morning(engine: &impl Engine) {
    let docker = |arguments: &[&str]| engine.docker(arguments);

    // What is this?
    docker(&["version"])
        .ok()
        .says("Server:")
        .says("API version:");
    docker(&["info"])
        .ok()
        .says("Storage Driver: overlay")
        .says("Containers: 0");
    docker(&["images", "-q"]).ok().is("");
    docker(&["ps", "-aq"]).ok().is("");

    // Images in.
    engine
        .load(&fixtures::busybox())
        .says("Loaded image: busybox:latest");
    docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok()
        .is("busybox:latest");
    docker(&[
        "image",
        "inspect",
        "busybox",
        "--format",
        "{{.Os}} {{index .Config.Cmd 0}} {{len .RootFS.Layers}}",
    ])
    .ok()
    .is("linux sh 1");
    docker(&["history", "-q", "busybox"]).ok();
    docker(&["tag", "busybox", "example.test/tools/busybox:v1"])
        .ok()
        .is("");
    docker(&["images", "-q", "--filter", "reference=example.test/*/*"]).ok();
    docker(&["rmi", "example.test/tools/busybox:v1"])
        .ok()
        .says("Untagged: example.test/tools/busybox:v1");

    // First runs and their exit codes.
    docker(&["run", "--rm", "busybox", "echo", "hello world"])
        .ok()
        .is("hello world");
    docker(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ])
    .code(7)
    .says("out")
    .complains("err");
    docker(&["run", "--rm", "busybox", "no-such-program"])
        .code(127)
        .complains("executable file not found in $PATH");
    docker(&["run", "--rm", "busybox", "/etc"]).code(126);
    docker(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "sleep 100 & kill -9 $!; wait $!",
    ])
    .code(137);
    docker(&["run", "--no-such-flag", "busybox"])
        .code(125)
        .complains("unknown flag: --no-such-flag");
    docker(&["run", "--rm", "--pull", "never", "no-such-image"])
        .code(125)
        .complains("No such image: no-such-image:latest");
    engine
        .docker_with_input(
            &["run", "--rm", "-i", "busybox", "wc", "-c"],
            b"twelve bytes",
        )
        .ok()
        .is("12");
    docker(&["ps", "-aq"]).ok().is("");

    // Identity, environment, limits.
    docker(&[
        "run",
        "--rm",
        "--hostname",
        "box",
        "--domainname",
        "test",
        "busybox",
        "hostname",
    ])
    .ok()
    .is("box");
    docker(&["run", "--rm", "-u", "www-data", "busybox", "id"])
        .ok()
        .says("uid=33(www-data)");
    docker(&[
        "run",
        "--rm",
        "-u",
        "1000:29",
        "--group-add",
        "audio",
        "busybox",
        "id",
        "-G",
    ])
    .ok()
    .says("29");
    docker(&["run", "--rm", "-w", "/work/deep", "busybox", "pwd"])
        .ok()
        .is("/work/deep");
    docker(&[
        "run",
        "--rm",
        "-e",
        "A=1",
        "-e",
        "B=two words",
        "busybox",
        "sh",
        "-c",
        "echo $A-$B",
    ])
    .ok()
    .is("1-two words");
    docker(&[
        "run",
        "--rm",
        "--entrypoint",
        "echo",
        "busybox",
        "from",
        "entrypoint",
    ])
    .ok()
    .is("from entrypoint");
    docker(&["run", "--rm", "--read-only", "busybox", "touch", "/x"])
        .code(1)
        .complains("Read-only file system");
    docker(&[
        "run",
        "--rm",
        "--tmpfs",
        "/t:size=1m",
        "busybox",
        "sh",
        "-c",
        "mount | grep ' /t '",
    ])
    .ok()
    .says("size=1024k");
    docker(&[
        "run",
        "--rm",
        "--shm-size",
        "32m",
        "busybox",
        "df",
        "-k",
        "/dev/shm",
    ])
    .ok()
    .says("32768");
    docker(&[
        "run",
        "--rm",
        "--ulimit",
        "nofile=123:456",
        "busybox",
        "sh",
        "-c",
        "ulimit -n; ulimit -Hn",
    ])
    .ok()
    .is("123\n456");
    docker(&[
        "run",
        "--rm",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "busybox",
        "cat",
        "/proc/sys/net/ipv4/ip_forward",
    ])
    .ok()
    .is("1");
    docker(&[
        "run",
        "--rm",
        "--cap-drop",
        "ALL",
        "busybox",
        "grep",
        "CapEff",
        "/proc/self/status",
    ])
    .ok()
    .says("0000000000000000");
    docker(&[
        "run",
        "--rm",
        "--cap-drop",
        "CHOWN",
        "busybox",
        "chown",
        "1",
        "/etc/passwd",
    ])
    .code(1);
    docker(&[
        "run",
        "--rm",
        "--privileged",
        "busybox",
        "sh",
        "-c",
        "mount -t tmpfs t /tmp && echo mounted",
    ])
    .ok()
    .is("mounted");
    docker(&[
        "run",
        "--rm",
        "--security-opt",
        "no-new-privileges",
        "busybox",
        "grep",
        "NoNewPrivs",
        "/proc/self/status",
    ])
    .ok()
    .says("1");
    docker(&[
        "run",
        "--rm",
        "busybox",
        "grep",
        "Seccomp:",
        "/proc/self/status",
    ])
    .ok()
    .says("2");
    docker(&[
        "run",
        "--rm",
        "--security-opt",
        "seccomp=unconfined",
        "busybox",
        "grep",
        "Seccomp:",
        "/proc/self/status",
    ])
    .ok()
    .says("0");
    if engine.has_cgroups() {
        limits(engine);
    } else {
        docker(&["run", "--rm", "-m", "32m", "busybox", "true"])
            .ok()
            .complains("Limitation discarded");
    }
    docker(&[
        "run",
        "--rm",
        "--device",
        "/dev/null:/dev/nothing",
        "busybox",
        "ls",
        "-l",
        "/dev/nothing",
    ])
    .ok()
    .says("1,");
    docker(&["run", "--rm", "--init", "busybox", "cat", "/proc/1/comm"])
        .ok()
        .says("init");
    docker(&[
        "run",
        "--rm",
        "--add-host",
        "db:10.1.2.3",
        "busybox",
        "grep",
        "db",
        "/etc/hosts",
    ])
    .ok()
    .says("10.1.2.3");
    docker(&[
        "run",
        "--rm",
        "--dns",
        "9.9.9.9",
        "--dns-search",
        "example.test",
        "busybox",
        "cat",
        "/etc/resolv.conf",
    ])
    .ok()
    .says("9.9.9.9")
    .says("example.test");

    // A container that stays.
    let id = is_id(
        &docker(&[
            "run",
            "-d",
            "--name",
            "worker",
            "--label",
            "tier=back",
            "busybox",
            "sh",
            "-c",
            "echo started; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done",
        ])
        .ok()
        .stdout,
    );
    docker(&["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"])
        .ok()
        .is("worker busybox running");
    docker(&["ps", "-q", "--no-trunc", "--filter", "label=tier=back"])
        .ok()
        .is(&id);
    docker(&["ps", "-q", "--filter", "name=nothing"])
        .ok()
        .is("");
    docker(&[
        "inspect",
        "worker",
        "--format",
        "{{.State.Status}} {{.Name}} {{.Config.Labels.tier}}",
    ])
    .ok()
    .is("running /worker back");
    docker(&["exec", "worker", "echo", "in there"])
        .ok()
        .is("in there");
    docker(&[
        "exec",
        "-u",
        "nobody",
        "-w",
        "/tmp",
        "-e",
        "X=y",
        "worker",
        "sh",
        "-c",
        "id -un; pwd; echo $X",
    ])
    .ok()
    .is("nobody\n/tmp\ny");
    docker(&["exec", "worker", "sh", "-c", "exit 9"]).code(9);
    docker(&["exec", "worker", "nope"]).code(127);
    engine
        .docker_with_input(&["exec", "-i", "worker", "cat"], b"through exec")
        .ok()
        .is("through exec");
    docker(&["exec", "-d", "worker", "touch", "/tmp/detached"]).ok();
    docker(&["top", "worker"])
        .ok()
        .says("PID")
        .says("sleep 0.1");
    docker(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.PIDs}}",
        "worker",
    ])
    .ok()
    .says("worker ");
    if engine.has_cgroups() {
        pause(engine);
    } else {
        docker(&["pause", "worker"])
            .code(1)
            .complains("it has no cgroup");
    }
    docker(&["rename", "worker", "labourer"]).ok().is("");
    docker(&["port", "labourer"]).ok().is("");
    docker(&["stop", "labourer"]).ok().is("labourer");
    docker(&["wait", "labourer"]).ok().is("3");
    docker(&["logs", "labourer"]).ok().is("started\nbye");
    docker(&["logs", "--tail", "1", "labourer"]).ok().is("bye");
    docker(&["logs", "-t", "--since", "1h", "labourer"])
        .ok()
        .says("Z started");
    docker(&["ps", "-a", "--format", "{{.Status}}"])
        .ok()
        .says("Exited (3)");
    docker(&["start", "labourer"]).ok().is("labourer");
    docker(&["kill", "-s", "KILL", "labourer"]).ok();
    docker(&["wait", "labourer"]).ok().is("137");
    docker(&["restart", "-t", "0", "labourer"]).ok();
    docker(&["rm", "labourer"])
        .code(1)
        .complains("cannot remove");
    docker(&["rm", "-f", "labourer"]).ok().is("labourer");
    docker(&["inspect", "labourer"])
        .code(1)
        .complains("No such object: labourer");

    // Restart policies.
    docker(&[
        "run",
        "-d",
        "--name",
        "flaky",
        "--restart",
        "on-failure:2",
        "busybox",
        "false",
    ])
    .ok();
    docker(&["wait", "flaky"]).ok();
    let format = "{{.RestartCount}} {{.State.Status}}";
    becomes(&"2 exited".to_owned(), || {
        docker(&["inspect", "flaky", "--format", format])
            .ok()
            .text()
    });
    docker(&["rm", "flaky"]).ok();

    // Create, start attached, events, prune.
    is_id(
        &docker(&[
            "create",
            "--name",
            "later",
            "busybox",
            "sh",
            "-c",
            "echo now; exit 4",
        ])
        .ok()
        .stdout,
    );
    docker(&["start", "-a", "later"]).code(4).is("now");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let soon = (now.as_secs() + 1).to_string();
    docker(&[
        "events",
        "--since",
        "10m",
        "--until",
        // The client rounds relative times down to seconds, so "now" would leave out this second.
        &soon,
        "--filter",
        "container=later",
        "--format",
        "{{.Action}}",
    ])
    .ok()
    .says("create")
    .says("die");
    docker(&["container", "prune", "-f"])
        .ok()
        .says("Total reclaimed space");
    docker(&["ps", "-aq"]).ok().is("");
    docker(&["system", "df"]).ok().says("Images");
}

fn limits(engine: &impl Engine) {
    let docker = |arguments: &[&str]| engine.docker(arguments);
    docker(&[
        "run",
        "--rm",
        "--pids-limit",
        "20",
        "busybox",
        "sh",
        "-c",
        "for i in $(seq 40); do sleep 5 & done; echo done",
    ])
    .code(2);
    docker(&[
        "run",
        "--rm",
        "-m",
        "32m",
        "busybox",
        "sh",
        "-c",
        "tail /dev/zero",
    ])
    .code(137);
}

fn pause(engine: &impl Engine) {
    let docker = |arguments: &[&str]| engine.docker(arguments);
    docker(&["pause", "worker"]).ok().is("worker");
    docker(&["ps", "--filter", "status=paused", "--format", "{{.Status}}"])
        .ok()
        .says("(Paused)");
    docker(&["exec", "worker", "true"])
        .code(1)
        .complains("paused");
    docker(&["unpause", "worker"]).ok();
}
