//! Published ports: every way to reach them, and the ways there must not be.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

mod lab;

use lab::{
    ask, ask_udp, container, eventually, ipv4, on_host, port, refused, run, serve, spec, within,
};
use wharf_network::{NetworkError, Protocol, SubnetRequest};

#[test]
fn a_published_port_is_reached_from_everywhere() {
    on_host(|host| {
        let networks = host.open();
        let mut request = container("web", &["bridge"]);
        request.ports = vec![
            port(Protocol::Tcp, None, 8080, 80),
            port(Protocol::Udp, None, 8080, 80),
        ];
        let web = networks.prepare(&request).unwrap();
        assert_eq!(web.ports.len(), 4, "{:?}", web.ports);
        serve(&web, 80);
        let other = networks.prepare(&container("other", &["bridge"])).unwrap();

        assert_eq!(host.outside(|| ask("192.0.2.1:8080")).unwrap(), "192.0.2.2");
        assert_eq!(
            host.outside(|| ask_udp("192.0.2.1:8080")).unwrap(),
            "192.0.2.2"
        );
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "172.17.0.1");
        assert_eq!(ask_udp("127.0.0.1:8080").unwrap(), "172.17.0.1");
        ask("192.0.2.1:8080").unwrap();
        // The container itself, and another one, through the host's address.
        within(&web, || ask("192.0.2.1:8080")).unwrap();
        within(&web, || ask_udp("192.0.2.1:8080")).unwrap();
        within(&other, || ask("192.0.2.1:8080")).unwrap();
        within(&other, || ask("172.17.0.1:8080")).unwrap();
        // IPv6 comes through the relay: the container has none.
        ask("[::1]:8080").unwrap();
        ask_udp("[::1]:8080").unwrap();
        host.outside(|| ask("[2001:db8::1]:8080")).unwrap();
        host.outside(|| ask_udp("[2001:db8::1]:8080")).unwrap();

        networks.release(&request.container_id);
        assert!(refused("127.0.0.1:8080"));
        assert!(host.outside(|| refused("192.0.2.1:8080")));
        // The port is free at once.
        let mut again = container("again", &["bridge"]);
        again.ports = request.ports.clone();
        networks.prepare(&again).unwrap();
    });
}

#[test]
fn what_is_not_published_is_not_reached() {
    on_host(|host| {
        let networks = host.open();
        let mut request = container("web", &["bridge"]);
        request.ports = vec![port(Protocol::Tcp, Some("127.0.0.1"), 8080, 80)];
        let web = networks.prepare(&request).unwrap();
        serve(&web, 80);
        serve(&web, 81);
        let address = ipv4(&web);
        ask("127.0.0.1:8080").unwrap();
        ask(&format!("{address}:81")).unwrap();
        assert!(host.outside(|| refused("192.0.2.1:8080")));
        assert!(host.outside(|| refused(&format!("{address}:80"))));
        assert!(host.outside(|| refused(&format!("{address}:81"))));
        // Published on loopback only: a neighbour that claims the address is not let in.
        host.outside(|| {
            run("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
            run("ip", &["route", "add", "127.0.0.1/32", "via", "192.0.2.1"]);
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            assert!(refused("127.0.0.1:8080"));
        });
    });
}

#[test]
fn containers_do_not_reach_the_hosts_loopback() {
    on_host(|host| {
        let networks = host.open();
        let sandbox = networks.prepare(&container("evil", &["bridge"])).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:7777").unwrap();
        within(&sandbox, || {
            run("ip", &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
            run("ip", &["route", "add", "127.0.0.1/32", "via", "172.17.0.1"]);
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            assert!(refused("127.0.0.1:7777"));
        });
        drop(listener);
    });
}

#[test]
fn a_range_is_one_element_and_works_at_its_ends() {
    on_host(|host| {
        let networks = host.open();
        let mut request = container("many", &["bridge"]);
        request.ports = (20_000..=59_999)
            .map(|n| port(Protocol::Tcp, None, n, n))
            .collect();
        let many = networks.prepare(&request).unwrap();
        assert_eq!(
            many.ports
                .iter()
                .filter(|binding| binding.host_ip.is_ipv4())
                .count(),
            40_000
        );
        let table = run("nft", &["list", "map", "inet", "wharf", "range4"]);
        assert!(table.contains("tcp . 20000-59999 : 172.17.0.2"), "{table}");
        for port in [20_000, 59_999] {
            serve(&many, port);
            assert_eq!(
                host.outside(|| ask(&format!("192.0.2.1:{port}"))).unwrap(),
                "192.0.2.2"
            );
        }
        networks.release(&request.container_id);
        assert!(!run("nft", &["list", "map", "inet", "wharf", "range4"]).contains("20000"));
    });
}

#[test]
fn taken_ports_are_refused_and_nothing_stays() {
    on_host(|host| {
        let networks = host.open();
        let mut first = container("first", &["bridge"]);
        first.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        networks.prepare(&first).unwrap();
        let message = |error: NetworkError| wharf_fault::chain(&error);

        let mut second = container("second", &["bridge"]);
        second.ports = vec![
            port(Protocol::Tcp, None, 9090, 80),
            port(Protocol::Tcp, Some("127.0.0.1"), 8080, 80),
        ];
        let text = message(networks.prepare(&second).unwrap_err());
        assert!(
            text.starts_with(
                "driver failed programming external connectivity on endpoint second ("
            ),
            "{text}"
        );
        assert!(
            text.ends_with("): Bind for 127.0.0.1:8080 failed: port is already allocated"),
            "{text}"
        );

        let taken = std::net::TcpListener::bind("0.0.0.0:7070").unwrap();
        second.ports = vec![
            port(Protocol::Tcp, None, 9090, 80),
            port(Protocol::Tcp, None, 7070, 80),
        ];
        let text = message(networks.prepare(&second).unwrap_err());
        assert!(
            text.contains("failed to bind host port for 0.0.0.0:7070:172.17.0."),
            "{text}"
        );
        assert!(text.ends_with(":80/tcp: address already in use"), "{text}");
        drop(taken);

        second.ports = vec![port(Protocol::Tcp, Some("203.0.113.1"), 9090, 80)];
        let text = message(networks.prepare(&second).unwrap_err());
        assert!(text.ends_with("cannot assign requested address"), "{text}");

        // 9090 was reserved each time before the failure: it is free.
        second.ports = vec![port(Protocol::Tcp, None, 9090, 80)];
        let second = networks.prepare(&second).unwrap();
        serve(&second, 80);
        ask("127.0.0.1:9090").unwrap();
        let listed = networks.inspect("bridge").unwrap().endpoints.len();
        assert_eq!(listed, 2);
    });
}

#[test]
fn ports_are_chosen_from_ranges() {
    on_host(|host| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40100").unwrap();
        let networks = host.open();
        let mut request = container("web", &["bridge"]);
        let mut range = port(Protocol::Tcp, None, 8000, 80);
        range.host_port_end = 8001;
        request.ports = vec![
            range.clone(),
            range.clone(),
            port(Protocol::Tcp, None, 0, 81),
        ];
        let web = networks.prepare(&request).unwrap();
        let ports: Vec<u16> = web
            .ports
            .iter()
            .filter(|binding| binding.host_ip.is_ipv4())
            .map(|binding| binding.host_port)
            .collect();
        assert!(
            ports.iter().any(|port| (40_000..=40_100).contains(port)),
            "{ports:?}"
        );
        assert!(ports.contains(&8000), "{ports:?}");
        let mut second = container("second", &["bridge"]);
        second.ports = vec![range.clone()];
        assert_eq!(networks.prepare(&second).unwrap().ports[0].host_port, 8001);
        let mut third = container("third", &["bridge"]);
        third.ports = vec![range];
        let text = wharf_fault::chain(&networks.prepare(&third).unwrap_err());
        assert!(text.ends_with("all ports are allocated"), "{text}");
    });
}

#[test]
fn ipv6_containers_are_published_in_the_kernel() {
    on_host(|host| {
        let networks = host.open();
        let mut six = spec("six");
        six.ipv6 = Some(true);
        six.subnets = vec![SubnetRequest {
            subnet: Some("fd00:1::/64".parse().unwrap()),
            ..SubnetRequest::default()
        }];
        networks.create(six).unwrap();
        let mut request = container("web", &["six"]);
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let web = networks.prepare(&request).unwrap();
        assert_eq!(web.endpoints[0].ipv6.unwrap().0.to_string(), "fd00:1::2");
        serve(&web, 80);
        assert_eq!(
            host.outside(|| ask("[2001:db8::1]:8080")).unwrap(),
            "2001:db8::2"
        );
        ask("[::1]:8080").unwrap();
        // And outwards with the host's address.
        lab::serve_in(std::os::fd::AsFd::as_fd(&host.neighbour), 9000);
        assert_eq!(
            within(&web, || ask("[2001:db8::2]:9000")).unwrap(),
            "2001:db8::1"
        );
        assert_eq!(within(&web, || ask("192.0.2.2:9000")).unwrap(), "192.0.2.1");
    });
}

#[test]
fn a_flush_heals() {
    on_host(|host| {
        let networks = host.open();
        let mut request = container("web", &["bridge"]);
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let web = networks.prepare(&request).unwrap();
        serve(&web, 80);
        let before = run("nft", &["list", "ruleset"]);
        run("nft", &["flush", "ruleset"]);
        eventually("the table is back", || {
            run("nft", &["list", "ruleset"]) == before
        });
        assert_eq!(host.outside(|| ask("192.0.2.1:8080")).unwrap(), "192.0.2.2");
        run("nft", &["flush", "chain", "inet", "wharf", "publish"]);
        eventually("the rules are back", || {
            run("nft", &["list", "ruleset"]) == before
        });
        run(
            "nft",
            &[
                "delete",
                "element",
                "inet",
                "wharf",
                "any4",
                "{ tcp . 8080 }",
            ],
        );
        eventually("the element is back", || {
            run("nft", &["list", "ruleset"]) == before
        });
        // A start while the table is away does not fail.
        run("nft", &["delete", "table", "inet", "wharf"]);
        let mut second = container("second", &["bridge"]);
        second.ports = vec![port(Protocol::Tcp, None, 8081, 80)];
        let second = networks.prepare(&second).unwrap();
        serve(&second, 80);
        ask("192.0.2.1:8081").unwrap();
    });
}

#[test]
fn a_udp_client_follows_the_port_to_its_next_owner() {
    on_host(|host| {
        let networks = host.open();
        let mut request = container("first", &["bridge"]);
        request.ports = vec![port(Protocol::Udp, Some("192.0.2.1"), 5353, 53)];
        let client = host.outside(|| {
            let socket = std::net::UdpSocket::bind("192.0.2.2:4000").unwrap();
            socket
                .set_read_timeout(Some(std::time::Duration::from_millis(200)))
                .unwrap();
            socket.connect("192.0.2.1:5353").unwrap();
            socket
        });
        let answered = || {
            client.send(b"who").ok();
            let mut buffer = [0; 64];
            // Through the relay it would be the bridge.
            client
                .recv(&mut buffer)
                .is_ok_and(|length| buffer[..length] == *b"192.0.2.2")
        };
        // Before anybody has it, the kernel already remembers the client.
        assert!(!answered());
        for name in ["first", "second"] {
            request.container_name = name.to_owned();
            let sandbox = networks.prepare(&request).unwrap();
            serve(&sandbox, 53);
            eventually("the container sees the client itself", answered);
            networks.release(&request.container_id);
            // The test's server keeps the namespace; the address must not answer any more.
            run("ip", &["link", "del", &sandbox.endpoints[0].host_ifname]);
        }
    });
}

#[test]
fn the_administrators_rules_come_first_and_stay() {
    on_host(|host| {
        let networks = host.open();
        let mut request = container("web", &["bridge"]);
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let web = networks.prepare(&request).unwrap();
        serve(&web, 80);
        host.outside(|| ask("192.0.2.1:8080")).unwrap();
        run(
            "nft",
            &[
                "add",
                "rule",
                "inet",
                "wharf",
                "user",
                "ip saddr { 192.0.2.2, 192.0.2.3 } drop",
            ],
        );
        assert!(host.outside(|| refused("192.0.2.1:8080")));
        // A repair of ours and a restart leave them.
        run("nft", &["flush", "chain", "inet", "wharf", "publish"]);
        let rules = || run("nft", &["list", "chain", "inet", "wharf", "publish"]);
        eventually("the rules are back", || rules().contains("dnat"));
        drop(networks);
        let again = host.open();
        let user = run("nft", &["list", "chain", "inet", "wharf", "user"]);
        assert!(user.contains("192.0.2.2, 192.0.2.3"), "{user}");
        // Deleting them is the administrator's right.
        run("nft", &["flush", "chain", "inet", "wharf", "user"]);
        let web = again.prepare(&request).unwrap();
        serve(&web, 80);
        host.outside(|| ask("192.0.2.1:8080")).unwrap();
    });
}

#[test]
fn a_table_of_another_form_is_replaced() {
    on_host(|host| {
        run("nft", &["add", "table", "inet", "wharf"]);
        run("nft", &["add", "chain", "inet", "wharf", "forward"]);
        run(
            "nft",
            &["add", "set", "inet", "wharf", "any4", "{ type ipv4_addr; }"],
        );
        let networks = host.open();
        let mut request = container("web", &["bridge"]);
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let web = networks.prepare(&request).unwrap();
        serve(&web, 80);
        host.outside(|| ask("192.0.2.1:8080")).unwrap();
    });
}

#[test]
fn an_address_that_can_not_be_served_is_refused() {
    on_host(|host| {
        let config = wharf_network::Config {
            userland_proxy: false,
            ..host.config()
        };
        let networks = host.open_with("state.redb", config);
        let mut request = container("web", &["bridge"]);
        request.ports = vec![port(Protocol::Tcp, Some("::1"), 8080, 80)];
        let text = networks.prepare(&request).unwrap_err().to_string();
        assert!(text.contains("cannot publish port 80 on ::1"), "{text}");
        // Without the relay there is IPv4 only, translated by the kernel.
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let web = networks.prepare(&request).unwrap();
        assert_eq!(web.ports.len(), 1);
        serve(&web, 80);
        ask("127.0.0.1:8080").unwrap();
        host.outside(|| ask("192.0.2.1:8080")).unwrap();
        let mut other = container("other", &["bridge"]);
        other.ports = vec![port(Protocol::Sctp, None, 8080, 80)];
        match networks.prepare(&other) {
            Ok(_) => {}
            Err(error) => {
                let text = wharf_fault::chain(&error);
                assert!(text.ends_with("/sctp: protocol not supported"), "{text}");
            }
        }
    });
}
