//! A whole day of work with the reference client: what people do with Docker, in one go.
//!
//! Each step checks what is printed and the exit code. The images are real: a static busybox, a
//! debootstrap system, nginx, redis and PostgreSQL from Debian packages.

use std::time::Duration;

use wharf_tests::registry::{Access, Registry};
use wharf_tests::{Daemon, Host, docker_client, fixtures, run, skip};

/// A full id, as `run -d` and `create` print it.
#[track_caller]
fn is_id(text: &str) -> String {
    let id = text.trim().to_owned();
    assert!(
        id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "`{text}` is no container id"
    );
    id
}

#[test]
fn morning_containers() {
    if docker_client().is_none() {
        return skip(
            "morning_containers",
            "no docker client 28.x on this machine",
        );
    }
    let host = Host::new();
    let daemon = Daemon::start(&host);
    let docker = |arguments: &[&str]| daemon.docker(arguments);

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
    docker(&["load", "-i", &fixtures::busybox().display().to_string()])
        .ok()
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
    daemon
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
    daemon
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
    docker(&["pause", "worker"]).ok().is("worker");
    docker(&["ps", "--filter", "status=paused", "--format", "{{.Status}}"])
        .ok()
        .says("(Paused)");
    docker(&["exec", "worker", "true"])
        .code(1)
        .complains("paused");
    docker(&["unpause", "worker"]).ok();
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
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while docker(&[
        "inspect",
        "flaky",
        "--format",
        "{{.RestartCount}} {{.State.Status}}",
    ])
    .ok()
    .text()
        != "2 exited"
    {
        assert!(
            std::time::Instant::now() < deadline,
            "two restarts expected"
        );
    }
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

#[test]
fn noon_networks_and_volumes() {
    if docker_client().is_none() {
        return skip(
            "noon_networks_and_volumes",
            "no docker client 28.x on this machine",
        );
    }
    let host = Host::new();
    let daemon = Daemon::start(&host);
    let docker = |arguments: &[&str]| daemon.docker(arguments);
    daemon.load(&fixtures::busybox());
    daemon.load(&fixtures::nginx());

    docker(&["network", "ls", "--format", "{{.Name}}:{{.Driver}}"])
        .ok()
        .says("bridge:bridge")
        .says("host:host")
        .says("none:null");
    docker(&["run", "--rm", "busybox", "ip", "-4", "addr", "show", "eth0"])
        .ok()
        .says("172.17.0.");
    docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "ip",
        "-o",
        "link",
    ])
    .ok()
    .never_says("eth0");
    docker(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "ip",
        "-o",
        "link",
    ])
    .ok()
    .says("lo");

    // nginx on a published port, its pages in a volume.
    docker(&["volume", "create", "--label", "kind=site", "site"])
        .ok()
        .is("site");
    docker(&["volume", "ls", "-q", "--filter", "label=kind=site"])
        .ok()
        .is("site");
    docker(&["volume", "inspect", "site", "--format", "{{.Driver}}"])
        .ok()
        .is("local");
    docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:8081:80",
        "-v",
        "site:/var/www/html",
        "nginx",
    ])
    .ok();
    host.fetch("http://127.0.0.1:8080/")
        .ok()
        .says("Welcome to nginx on Wharf");
    host.fetch("http://127.0.0.1:8081/").ok().says("Welcome");
    host.fetch("http://[::1]:8080/").ok().says("Welcome");
    docker(&["port", "web", "80/tcp"])
        .ok()
        .says("0.0.0.0:8080")
        .says("127.0.0.1:8081");
    docker(&["ps", "--format", "{{.Ports}}"])
        .ok()
        .says("0.0.0.0:8080->80/tcp");
    docker(&[
        "run",
        "--rm",
        "-v",
        "site:/site:ro",
        "busybox",
        "touch",
        "/site/x",
    ])
    .code(1);
    docker(&[
        "run",
        "--rm",
        "-v",
        "site:/site",
        "busybox",
        "sh",
        "-c",
        "echo changed > /site/index.html",
    ])
    .ok();
    host.fetch("http://127.0.0.1:8080/").ok().is("changed");
    docker(&["logs", "web"]).ok().says("GET / HTTP/1.1");
    docker(&["volume", "rm", "site"])
        .code(1)
        .complains("volume is in use");
    docker(&["run", "-d", "--name", "web2", "-p", "8080:80", "nginx"])
        .code(125)
        .complains("port is already allocated");
    docker(&["rm", "web2"]).ok();
    docker(&["rm", "-f", "web"]).ok();
    docker(&[
        "run",
        "--rm",
        "-v",
        "site:/site",
        "busybox",
        "cat",
        "/site/index.html",
    ])
    .ok()
    .is("changed");
    docker(&["volume", "rm", "site"]).ok();

    // Bind mounts and --mount.
    std::fs::create_dir_all(host.join("shared")).unwrap();
    std::fs::write(host.join("shared/note"), "from the host").unwrap();
    let bind = format!("{}:/shared:ro", host.join("shared").display());
    docker(&["run", "--rm", "-v", &bind, "busybox", "cat", "/shared/note"])
        .ok()
        .is("from the host");
    let mount = format!(
        "type=bind,source={},target=/m",
        host.join("shared").display()
    );
    docker(&[
        "run",
        "--rm",
        "--mount",
        &mount,
        "busybox",
        "sh",
        "-c",
        "echo more >> /m/note",
    ])
    .ok();
    assert!(
        std::fs::read_to_string(host.join("shared/note"))
            .unwrap()
            .contains("more")
    );
    docker(&[
        "run",
        "--rm",
        "--mount",
        "type=bind,source=/no/such/path,target=/m",
        "busybox",
        "true",
    ])
    .code(125)
    .complains("bind source path does not exist");

    // A user network: names, aliases, isolation, connect and disconnect.
    docker(&[
        "network",
        "create",
        "--subnet",
        "10.77.0.0/24",
        "--label",
        "a=b",
        "backend",
    ])
    .ok();
    docker(&[
        "network",
        "inspect",
        "backend",
        "--format",
        "{{(index .IPAM.Config 0).Subnet}}",
    ])
    .ok()
    .is("10.77.0.0/24");
    docker(&[
        "run",
        "-d",
        "--name",
        "api",
        "--network",
        "backend",
        "--network-alias",
        "service",
        "--ip",
        "10.77.0.9",
        "nginx",
    ])
    .ok();
    docker(&[
        "run",
        "--rm",
        "--network",
        "backend",
        "busybox",
        "wget",
        "-qO-",
        "http://api/",
    ])
    .ok()
    .says("Welcome");
    docker(&[
        "run",
        "--rm",
        "--network",
        "backend",
        "busybox",
        "wget",
        "-qO-",
        "http://service/",
    ])
    .ok()
    .says("Welcome");
    docker(&[
        "run",
        "--rm",
        "--network",
        "backend",
        "busybox",
        "nslookup",
        "api",
    ])
    .ok()
    .says("10.77.0.9");
    docker(&["run", "--rm", "busybox", "nc", "-w", "1", "10.77.0.9", "80"]).code(1);
    docker(&["run", "-d", "--name", "loner", "busybox", "sleep", "600"]).ok();
    docker(&["exec", "loner", "wget", "-qO-", "http://api/"]).code(1);
    docker(&["network", "connect", "backend", "loner"]).ok();
    docker(&["exec", "loner", "wget", "-qO-", "http://api/"])
        .ok()
        .says("Welcome");
    docker(&["network", "rm", "backend"])
        .code(1)
        .complains("has active endpoints");
    docker(&["network", "disconnect", "backend", "loner"]).ok();
    docker(&["exec", "loner", "ip", "addr"])
        .ok()
        .never_says("10.77.0.");
    docker(&[
        "run",
        "--rm",
        "--network",
        "container:api",
        "busybox",
        "wget",
        "-qO-",
        "http://127.0.0.1/",
    ])
    .ok()
    .says("Welcome");
    docker(&["rm", "-f", "api", "loner"]).ok();
    docker(&["network", "rm", "backend"]).ok().is("backend");
    docker(&["network", "prune", "-f"]).ok();

    // Links on the default bridge.
    docker(&["run", "-d", "--name", "target", "nginx"]).ok();
    docker(&[
        "run",
        "--rm",
        "--link",
        "target:alias",
        "busybox",
        "wget",
        "-qO-",
        "http://alias/",
    ])
    .ok()
    .says("Welcome");
    docker(&["rm", "-f", "target"]).ok();

    // Port ranges and -P.
    docker(&[
        "run",
        "-d",
        "--name",
        "ranged",
        "-p",
        "9000-9001:80-81",
        "nginx",
    ])
    .ok();
    docker(&["port", "ranged"])
        .ok()
        .says("80/tcp -> 0.0.0.0:9000")
        .says("81/tcp -> 0.0.0.0:9001");
    host.fetch("http://127.0.0.1:9000/").ok().says("Welcome");
    docker(&["rm", "-f", "ranged"]).ok();
    docker(&["run", "-d", "--name", "all", "-P", "nginx"]).ok();
    let published = docker(&["port", "all", "80"]).ok().text();
    let address = published
        .lines()
        .next()
        .unwrap()
        .replace("0.0.0.0", "127.0.0.1");
    host.fetch(&format!("http://{address}/"))
        .ok()
        .says("Welcome");
    docker(&["rm", "-f", "all"]).ok();
    // Perl is in every Debian; it echoes datagrams.
    let echo = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 17); bind(S, sockaddr_in(5353, INADDR_ANY)); \
                while (my $peer = recv(S, my $text, 512, 0)) { send(S, \"echo: $text\", 0, $peer) }";
    docker(&[
        "run",
        "-d",
        "--name",
        "udp",
        "-p",
        "5353:5353/udp",
        "nginx",
        "perl",
        "-e",
        echo,
    ])
    .ok();
    let ask = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(1)\n\
               for _ in range(20):\n    s.sendto(b'ping', ('127.0.0.1', 5353))\n    try:\n        print(s.recv(512).decode())\n        break\n    \
               except (socket.timeout, ConnectionRefusedError):\n        pass\n";
    let mut python = host.command("/usr/bin/python3");
    python.arg("-c").arg(ask);
    run(python, None).ok().is("echo: ping");
    docker(&["rm", "-f", "udp"]).ok();
}

#[test]
fn afternoon_databases() {
    if docker_client().is_none() {
        return skip(
            "afternoon_databases",
            "no docker client 28.x on this machine",
        );
    }
    let host = Host::new();
    let daemon = Daemon::start(&host);
    let docker = |arguments: &[&str]| daemon.docker(arguments);
    daemon.load(&fixtures::redis());
    daemon.load(&fixtures::postgres());

    docker(&["network", "create", "data"]).ok();
    docker(&[
        "run",
        "-d",
        "--name",
        "cache",
        "--network",
        "data",
        "-p",
        "6379:6379",
        "-v",
        "cache-data:/data",
        "--restart",
        "always",
        "redis",
    ])
    .ok();
    host.sh("for i in $(seq 50); do redis-cli ping 2>/dev/null | grep PONG && exit 0; busybox usleep 100000; done; exit 1").ok();
    host.sh("redis-cli set greeting hello").ok().says("OK");
    docker(&[
        "run",
        "--rm",
        "--network",
        "data",
        "redis",
        "redis-cli",
        "-h",
        "cache",
        "get",
        "greeting",
    ])
    .ok()
    .is("hello");
    docker(&["stop", "cache"]).ok();
    docker(&["rm", "cache"]).ok();
    docker(&[
        "run",
        "-d",
        "--name",
        "cache",
        "-p",
        "6379:6379",
        "-v",
        "cache-data:/data",
        "redis",
    ])
    .ok();
    host.sh("for i in $(seq 50); do redis-cli get greeting 2>/dev/null | grep hello && exit 0; busybox usleep 100000; done; exit 1").ok();

    docker(&[
        "run",
        "-d",
        "--name",
        "db",
        "-p",
        "127.0.0.1:5432:5432",
        "-v",
        "pg:/var/lib/postgresql",
        "--shm-size",
        "128m",
        "postgres:15",
    ])
    .ok();
    host.sh("for i in $(seq 100); do pg_isready -q -h 127.0.0.1 -U postgres && exit 0; busybox usleep 100000; done; exit 1").ok();
    host.sh("psql -h 127.0.0.1 -U postgres -c 'create table t (n int)' -c 'insert into t select generate_series(1, 1000)'").ok();
    host.sh("psql -h 127.0.0.1 -U postgres -Atc 'select sum(n) from t'")
        .ok()
        .is("500500");
    docker(&["stop", "db"]).ok();
    docker(&["inspect", "db", "--format", "{{.State.ExitCode}}"])
        .ok()
        .is("0");
    docker(&["rm", "db"]).ok();
    docker(&[
        "run",
        "-d",
        "--name",
        "db",
        "-p",
        "127.0.0.1:5432:5432",
        "-v",
        "pg:/var/lib/postgresql",
        "postgres:15",
    ])
    .ok();
    host.sh("for i in $(seq 100); do pg_isready -q -h 127.0.0.1 -U postgres && exit 0; busybox usleep 100000; done; exit 1").ok();
    host.sh("psql -h 127.0.0.1 -U postgres -Atc 'select count(*) from t'")
        .ok()
        .is("1000");
    docker(&["rm", "-f", "db", "cache"]).ok();
    docker(&["volume", "prune", "-f", "-a"]).ok().says("pg");
    docker(&["network", "rm", "data"]).ok();
}

#[test]
fn evening_images_and_registries() {
    if docker_client().is_none() {
        return skip(
            "evening_images_and_registries",
            "no docker client 28.x on this machine",
        );
    }
    let host = Host::new();
    let plain = Registry::start(&host, 5000, Access::Plain);
    let tls = Registry::start(&host, 5443, Access::Tls);
    let guarded = Registry::start(&host, 5001, Access::Password);
    plain
        .push_archive(&fixtures::busybox(), "tools/busybox:1")
        .ok();
    plain
        .push_archive(&fixtures::debian(), "debian:bookworm")
        .ok();
    tls.push_archive(&fixtures::busybox(), "busybox:tls").ok();
    guarded.push_archive(&fixtures::busybox(), "private:1").ok();
    let daemon = Daemon::start(&host);
    let docker = |arguments: &[&str]| daemon.docker(arguments);
    let name = |registry: &Registry<'_>, path: &str| format!("{}/{path}", registry.address);

    let busybox = name(&plain, "tools/busybox:1");
    docker(&["pull", &busybox])
        .ok()
        .says("Pull complete")
        .says("Digest: sha256:")
        .says("Status: Downloaded newer image for");
    docker(&["pull", &busybox])
        .ok()
        .says("Status: Image is up to date for");
    docker(&["run", "--rm", &busybox, "echo", "pulled"])
        .ok()
        .is("pulled");
    docker(&["pull", &name(&plain, "tools/busybox:none")])
        .code(1)
        .complains("not found");
    let debian = name(&plain, "debian:bookworm");
    docker(&["run", "--rm", &debian, "cat", "/etc/debian_version"])
        .ok()
        .says("12.")
        .complains("Unable to find image");
    docker(&["run", "--rm", &debian, "sh", "-c", "dpkg -l | grep -c ^ii"]).ok();

    docker(&["pull", &name(&tls, "busybox:tls")]).code(1);
    daemon
        .docker_with_input(
            &["login", "-u", "wharf", "--password-stdin", &tls.address],
            b"wrong",
        )
        .code(1);
    daemon
        .docker_with_input(
            &["login", "-u", "wharf", "--password-stdin", &tls.address],
            b"secret",
        )
        .ok()
        .says("Login Succeeded");
    docker(&["pull", "-q", &name(&tls, "busybox:tls")]).ok();
    docker(&["pull", &name(&guarded, "private:1")]).code(1);
    daemon
        .docker_with_input(
            &["login", "-u", "wharf", "--password-stdin", &guarded.address],
            b"secret",
        )
        .ok();
    docker(&["pull", "-q", &name(&guarded, "private:1")]).ok();
    docker(&["logout", &guarded.address]).ok();

    // Save, remove, load: the same image again.
    let before = docker(&["images", "-q", "--no-trunc", &debian]).ok().text();
    let saved = host.join("saved.tar").display().to_string();
    docker(&["save", "-o", &saved, &debian, &busybox]).ok();
    let mut skopeo = std::process::Command::new("skopeo");
    skopeo.args([
        "inspect",
        "--raw",
        &format!("docker-archive:{saved}:{debian}"),
    ]);
    run(skopeo, None).ok();
    docker(&["rmi", &debian])
        .ok()
        .says("Untagged")
        .says("Deleted: sha256:");
    docker(&["load", "-i", &saved]).ok().says("Loaded image: ");
    docker(&["images", "-q", "--no-trunc", &debian])
        .ok()
        .is(&before);
    docker(&["run", "--rm", &debian, "true"]).ok();

    // Import a bare tar.
    host.sh(
        "mkdir -p root/bin && cp /bin/busybox root/bin/ && tar -C root -cf bare.tar ."
            .replace("root", &host.join("root").display().to_string())
            .replace("bare.tar", &host.join("bare.tar").display().to_string())
            .as_str(),
    )
    .ok();
    docker(&[
        "import",
        "--change",
        "CMD [\"/bin/busybox\", \"echo\", \"imported\"]",
        &host.join("bare.tar").display().to_string(),
        "bare:1",
    ])
    .ok()
    .says("sha256:");
    docker(&["run", "--rm", "bare:1"]).ok().is("imported");

    docker(&[
        "run",
        "-d",
        "--name",
        "user",
        "bare:1",
        "/bin/busybox",
        "sleep",
        "100",
    ])
    .ok();
    docker(&["rmi", "bare:1"]).code(1).complains("conflict");
    docker(&["rm", "-f", "user"]).ok();
    docker(&["rmi", "-f", "bare:1"]).ok();
    docker(&["image", "prune", "-a", "-f"])
        .ok()
        .says("Total reclaimed space");
    docker(&["images", "-q"]).ok().is("");
}
