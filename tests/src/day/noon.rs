//! Noon: networks, names, published ports, volumes and bind mounts.

use super::Engine;
use crate::{eventually, fixtures, run};

/// A shell line that fetches a page, once the server listens.
fn patient_wget(url: &str) -> String {
    format!("for i in $(seq 600); do wget -qO- {url} && exit 0; usleep 100000; done; exit 1")
}

/// Networks and volumes.
pub fn noon(engine: &impl Engine) {
    let docker = |arguments: &[&str]| engine.docker(arguments);
    let host = engine.host();
    engine.load(&fixtures::busybox());
    engine.load(&fixtures::nginx());

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
    // Servers write down what they have answered.
    eventually("the request is logged", || {
        let log = docker(&["logs", "web"]).ok().stdout;
        if log.contains("GET / HTTP/1.1") {
            Ok(())
        } else {
            Err(log)
        }
    });
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
    engine
        .sh("mkdir shared; printf 'from the host' > shared/note")
        .ok();
    let shared = engine.folder().join("shared");
    let bind = format!("{}:/shared:ro", shared.display());
    docker(&["run", "--rm", "-v", &bind, "busybox", "cat", "/shared/note"])
        .ok()
        .is("from the host");
    let mount = format!("type=bind,source={},target=/m", shared.display());
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
    engine.sh("cat shared/note").ok().says("more");
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
    // The first to ask waits until the server listens.
    docker(&[
        "run",
        "--rm",
        "--network",
        "backend",
        "busybox",
        "sh",
        "-c",
        &patient_wget("http://api/"),
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
        "sh",
        "-c",
        &patient_wget("http://alias/"),
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
    let ask = "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(1)\n\
               for _ in range(600):\n    s.sendto(b'ping', ('127.0.0.1', 5353))\n    try:\n        print(s.recv(512).decode())\n        break\n    \
               except (socket.timeout, ConnectionRefusedError):\n        time.sleep(0.1)\n";
    let mut python = host.command("/usr/bin/python3");
    python.arg("-c").arg(ask);
    run(python, None).ok().is("echo: ping");
    docker(&["rm", "-f", "udp"]).ok();
}
