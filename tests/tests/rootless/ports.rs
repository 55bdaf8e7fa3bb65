//! Published ports: TCP and UDP, IPv4 and IPv6, from here and from another machine, with the client's own
//! address, whichever program connects the namespaces.

use wharf_tests::user::{HOST_ADDRESS, HOST_ADDRESS_6, NEIGHBOUR, NEIGHBOUR_6, User};
use wharf_tests::{Host, fixtures};

use crate::ready;

/// Prints what a server says to a connection or datagram: `ask tcp|udp ADDRESS PORT`.
const ASK: &str = r#"
import socket, sys, time
kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
for _ in range(200):
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        try:
            s.connect((address, port))
            s.send(b"who am I\n")
            answer = s.recv(512)
        except OSError:
            time.sleep(0.05)
            continue
        if answer:
            print(answer.decode().strip())
            sys.exit(0)
        time.sleep(0.05)
sys.exit("no answer")
"#;

/// Tells every client its own address, on port 7: arguments `tcp|udp 4|6`. Perl is in every Debian.
const SERVER: &str = r#"
my ($kind, $family) = @ARGV;
my $six = $family == 6;
socket(S, $six ? AF_INET6 : AF_INET, $kind eq "tcp" ? SOCK_STREAM : SOCK_DGRAM, 0) or die;
bind(S, $six ? pack_sockaddr_in6(7, inet_pton(AF_INET6, "::")) : pack_sockaddr_in(7, INADDR_ANY)) or die;
sub name { (getnameinfo($_[0], NI_NUMERICHOST | NI_NUMERICSERV))[1] . "\n" }
if ($kind eq "tcp") {
    listen(S, 8) or die;
    while (my $client = accept(C, S)) { syswrite(C, name($client)); close(C) }
} else {
    while (my $client = recv(S, my $text, 512, 0)) { send(S, name($client), 0, $client) }
}
"#;

#[test]
fn ports_are_published_through_pasta() {
    if ready("ports_are_published_through_pasta") {
        let host = Host::new();
        let user = User::new(&host);
        published(&user, "-f '[p]asta --quiet'");
    }
}

#[test]
fn ports_are_published_through_slirp4netns() {
    if ready("ports_are_published_through_slirp4netns") {
        let host = Host::new();
        let user = User::new(&host);
        host.sh("mount --bind /dev/null /usr/bin/pasta").ok();
        published(&user, "slirp4netns");
    }
}

fn published(user: &User<'_>, uplink: &str) {
    std::fs::write(user.host.join("ask.py"), ASK).unwrap();
    user.wharf(&["version"]).ok();
    user.load(&fixtures::debian());
    user.sh(&format!("pgrep {uplink}")).ok();
    let docker = |arguments: &[&str]| user.docker(arguments);
    docker(&[
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "fd00:77::/64",
        "six",
    ])
    .ok();
    for (name, network, port) in [("four", "bridge", "7000"), ("both", "six", "7001")] {
        let server = |kind: &str| {
            let published = format!("{port}:7/{kind}");
            let family = if network == "six" { "6" } else { "4" };
            docker(&[
                "run",
                "-d",
                "--name",
                &format!("{name}-{kind}"),
                "--network",
                network,
                "-p",
                &published,
                "debian:bookworm",
                "perl",
                "-MSocket=:all",
                "-e",
                SERVER,
                kind,
                family,
            ])
            .ok();
        };
        server("tcp");
        server("udp");
        let ask = user.host.join("ask.py").display().to_string();
        for kind in ["tcp", "udp"] {
            let from_here = |address: &str| {
                user.host
                    .sh(&format!("python3 {ask} {kind} {address} {port}"))
                    .ok()
            };
            let from_there = |address: &str| {
                user.neighbour(&format!("python3 {ask} {kind} {address} {port}"))
                    .ok()
            };
            // Loopback means the container itself in there: such clients come from the gateway.
            from_here("127.0.0.1").never_says("127.0.0.1");
            from_here("::1").never_says("[::1]");
            from_here(HOST_ADDRESS);
            // Another machine's client is who it is.
            from_there(HOST_ADDRESS).says(NEIGHBOUR);
            let six = from_there(HOST_ADDRESS_6);
            if network == "six" {
                six.says(NEIGHBOUR_6);
            }
        }
    }
    // One address only.
    docker(&[
        "run",
        "-d",
        "--name",
        "local",
        "-p",
        "127.0.0.1:7002:7",
        "debian:bookworm",
        "perl",
        "-MSocket=:all",
        "-e",
        SERVER,
        "tcp",
        "4",
    ])
    .ok();
    let ask = user.host.join("ask.py").display().to_string();
    user.host
        .sh(&format!("python3 {ask} tcp 127.0.0.1 7002"))
        .ok();
    user.neighbour(&format!(
        "curl -s --max-time 5 telnet://{HOST_ADDRESS}:7002"
    ))
    .code(7);
    user.sh("kill -TERM $(cat $XDG_RUNTIME_DIR/wharf.pid)").ok();
}
