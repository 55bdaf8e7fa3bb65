//! The embedded DNS server, and networks joined and left by running containers.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

mod lab;

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use lab::{Host, ask, container, inside, ipv4, on_host, port, refused, run, serve, spec, within};
use wharf_network::{EndpointRequest, LiveContainer, Networks, Protocol, Sandbox};

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// Asks 127.0.0.11 in the calling thread's namespace over UDP.
fn resolve(name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(lab::PATIENCE)).unwrap();
    socket.connect("127.0.0.11:53").unwrap();
    socket.send(&query(name, kind)).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, 4711);
    answer
}

fn resolve_tcp(name: &str, kind: RecordType) -> Message {
    let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
    stream.set_read_timeout(Some(lab::PATIENCE)).unwrap();
    let bytes = query(name, kind);
    stream
        .write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(&bytes).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| match &record.data {
            RData::A(A(ip)) => ip.to_string(),
            RData::PTR(PTR(name)) => name.to_utf8(),
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

/// A DNS server on the neighbour that knows example.com only.
fn upstream(host: &Host) {
    let socket = host.outside(|| UdpSocket::bind("192.0.2.2:53").unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
            answer.add_queries(asked.queries.iter().cloned());
            let name = asked.queries[0].name().clone();
            if name.to_utf8().eq_ignore_ascii_case("example.com.") {
                answer.add_answer(Record::from_rdata(
                    name,
                    60,
                    RData::A(A([203, 0, 113, 9].into())),
                ));
            } else {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&answer.to_vec().unwrap(), from).ok();
        }
    });
}

#[test]
fn names_of_user_defined_networks() {
    on_host(|host| {
        upstream(host);
        let networks = host.open();
        networks.create(spec("net")).unwrap();
        let mut request = container("Web", &["net"]);
        request.endpoints[0].aliases = vec!["www".to_owned()];
        let web = networks.prepare(&request).unwrap();
        let mut asking = container("client", &["net"]);
        asking.endpoints[0].links = vec![("Web".to_owned(), "linked".to_owned())];
        let client = networks.prepare(&asking).unwrap();
        assert_eq!(client.dns_sockets.len(), 2);
        assert!(client.files.resolv_conf.contains("nameserver 127.0.0.11\n"));
        assert!(
            client
                .files
                .resolv_conf
                .contains("# ExtServers: [host(192.0.2.2)]\n")
        );
        let address = ipv4(&web).to_string();
        within(&client, || {
            for name in [
                "web.",
                "WEB.",
                "www.",
                "web-host.",
                "web.net.",
                "linked.",
                "client.",
            ] {
                let found = addresses(&resolve(name, RecordType::A));
                let expected = if name == "client." {
                    ipv4(&client).to_string()
                } else {
                    address.clone()
                };
                // The hostname is `Web-host`.
                assert_eq!(found, [expected], "{name}");
            }
            assert_eq!(
                addresses(&resolve(
                    &format!("{}.", &request.container_id[..12]),
                    RecordType::A
                )),
                std::slice::from_ref(&address)
            );
            assert_eq!(
                addresses(&resolve_tcp("web.", RecordType::A)),
                std::slice::from_ref(&address)
            );
            let empty = resolve("web.", RecordType::AAAA);
            assert_eq!(
                (empty.metadata.response_code, empty.answers.len()),
                (ResponseCode::NoError, 0)
            );
            let octets: Vec<&str> = address.split('.').rev().collect();
            let reverse = resolve(
                &format!("{}.in-addr.arpa.", octets.join(".")),
                RecordType::PTR,
            );
            assert_eq!(addresses(&reverse), ["Web.net."]);
            assert_eq!(
                addresses(&resolve("example.com.", RecordType::A)),
                ["203.0.113.9"]
            );
            let unknown = resolve("unknown.example.", RecordType::A);
            assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
            // The container's own server may have the port.
            UdpSocket::bind("0.0.0.0:53").unwrap();
        });
        networks.rename(&request.container_id, "renamed");
        within(&client, || {
            assert_eq!(
                addresses(&resolve("renamed.", RecordType::A)),
                std::slice::from_ref(&address)
            );
            assert_eq!(
                resolve("web.", RecordType::A).metadata.response_code,
                ResponseCode::NXDomain
            );
        });
        networks.release(&request.container_id);
        within(&client, || {
            assert_eq!(
                resolve("renamed.", RecordType::A).metadata.response_code,
                ResponseCode::NXDomain
            );
        });
    });
}

#[test]
fn internal_networks_forward_nothing() {
    on_host(|host| {
        upstream(host);
        let networks = host.open();
        let mut inner = spec("inner");
        inner.internal = true;
        networks.create(inner).unwrap();
        let one = networks.prepare(&container("one", &["inner"])).unwrap();
        within(&one, || {
            assert_eq!(addresses(&resolve("one.", RecordType::A)).len(), 1);
            let answer = resolve("example.com.", RecordType::A);
            assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        });
    });
}

/// A process in the container's namespace, for what goes by process id.
struct Process(std::process::Child);

impl Process {
    fn start(sandbox: &Sandbox) -> Self {
        let netns = sandbox.netns.as_ref().unwrap();
        Self(inside(netns.as_fd(), || {
            std::process::Command::new("sleep")
                .arg("60")
                .spawn()
                .unwrap()
        }))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn networks_are_joined_and_left_live() {
    on_host(|host| {
        let networks = host.open();
        networks.create(spec("net")).unwrap();
        let mut inner = spec("inner");
        inner.internal = true;
        networks.create(inner).unwrap();
        let mut request = container("one", &["inner"]);
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let one = networks.prepare(&request).unwrap();
        let process = Process::start(&one);
        serve(&one, 80);
        let other = networks.prepare(&container("other", &["net"])).unwrap();
        serve(&other, 80);
        // Without a way out nothing is published.
        assert!(one.ports.is_empty());
        assert!(host.outside(|| refused("192.0.2.1:8080")));

        let wanted = EndpointRequest {
            network: "net".to_owned(),
            aliases: vec!["uno".to_owned()],
            ..Default::default()
        };
        let change = networks
            .connect(&request.container_id, process.pid(), &wanted)
            .unwrap();
        assert_eq!(change.endpoints.len(), 2);
        assert_eq!(change.endpoints[1].ifname, "eth1");
        assert!(change.endpoints[1].is_gateway);
        assert!(change.files.hosts.contains(&format!(
            "{}\tone-host",
            change.endpoints[1].ipv4.unwrap().0
        )));
        assert_eq!(change.ports[0].host_port, 8080);
        host.outside(|| ask("192.0.2.1:8080")).unwrap();
        within(&one, || ask(&format!("{}:80", ipv4(&other)))).unwrap();
        within(&other, || {
            assert_eq!(addresses(&resolve("uno.", RecordType::A)).len(), 1)
        });
        let refusal = networks
            .connect(&request.container_id, process.pid(), &wanted)
            .unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "endpoint with name one already exists in network net"
        );

        // A second way out takes over, and gives back.
        let bridge = EndpointRequest {
            network: "bridge".to_owned(),
            gateway_priority: 5,
            ..Default::default()
        };
        let change = networks
            .connect(&request.container_id, process.pid(), &bridge)
            .unwrap();
        assert!(within(&one, || run("ip", &["route"])).contains("default via 172.17.0.1 dev eth2"));
        host.outside(|| ask("192.0.2.1:8080")).unwrap();
        assert_eq!(change.ports.len(), 2);
        networks
            .disconnect(&request.container_id, process.pid(), "bridge")
            .unwrap();
        assert!(within(&one, || run("ip", &["route"])).contains("dev eth1"));
        host.outside(|| ask("192.0.2.1:8080")).unwrap();

        let change = networks
            .disconnect(&request.container_id, process.pid(), "net")
            .unwrap();
        assert_eq!((change.endpoints.len(), change.ports.len()), (1, 0));
        assert!(!within(&one, lab::links).contains(&"eth1".to_owned()));
        assert!(host.outside(|| refused("192.0.2.1:8080")));
        let refusal = networks
            .disconnect(&request.container_id, process.pid(), "net")
            .unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("is not connected to network net"),
            "{refusal}"
        );
        networks.release(&container("other", &[]).container_id);
        networks.remove("net").unwrap();
    });
}

#[test]
fn the_first_user_network_brings_dns_to_a_container_of_the_default_bridge() {
    on_host(|host| {
        let networks = host.open();
        networks.create(spec("net")).unwrap();
        let request = container("one", &["bridge"]);
        let one = networks.prepare(&request).unwrap();
        assert!(one.dns_sockets.is_empty());
        let process = Process::start(&one);
        let wanted = EndpointRequest {
            network: "net".to_owned(),
            ..Default::default()
        };
        let change = networks
            .connect(&request.container_id, process.pid(), &wanted)
            .unwrap();
        assert_eq!(change.dns_sockets.len(), 2);
        assert!(change.files.resolv_conf.contains("127.0.0.11"));
        within(&one, || {
            assert_eq!(addresses(&resolve("one.", RecordType::A)).len(), 1)
        });
    });
}

#[test]
fn queries_are_answered_again_after_a_restart() {
    on_host(|host| {
        let networks = host.open();
        networks.create(spec("net")).unwrap();
        let request = container("one", &["net"]);
        let one = networks.prepare(&request).unwrap();
        let kept: Vec<OwnedFd> = one
            .dns_sockets
            .iter()
            .map(|socket| socket.try_clone().unwrap())
            .collect();
        drop(networks);
        // A query that comes while nobody is there waits in the socket.
        let waiting = within(&one, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(lab::PATIENCE)).unwrap();
            socket.connect("127.0.0.11:53").unwrap();
            std::thread::sleep(Duration::from_millis(50));
            socket.send(&query("one.", RecordType::A)).unwrap();
            socket
        });
        let again = Networks::open(
            host.store("state.redb"),
            host.config(),
            host.runtime.handle().clone(),
        )
        .unwrap();
        let failures = again.reconcile(vec![LiveContainer {
            request: request.clone(),
            pid: std::process::id(),
            sandbox_id: one.sandbox_id.clone(),
            endpoints: one.endpoints.clone(),
            ports: Vec::new(),
        }]);
        assert!(failures.is_empty(), "{failures:?}");
        again.resume_dns(&request.container_id, kept).unwrap();
        let mut buffer = [0; 512];
        let length = waiting.recv(&mut buffer).unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(addresses(&answer), [ipv4(&one).to_string()]);
        within(&one, || {
            assert_eq!(addresses(&resolve("one.", RecordType::A)).len(), 1)
        });
    });
}
