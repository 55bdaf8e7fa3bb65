//! Networks and sandboxes: what containers reach, how networks come, change and go.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as expected"
)]

mod lab;

use std::os::fd::AsFd as _;

use lab::{
    ask, container, eventually, has_table, ipv4, links, on_host, port, refused, run, serve,
    serve_in, spec, within,
};
use wharf_fault::{Fault as _, Kind};
use wharf_network::{Config, LiveContainer, Mode, Networks, Protocol, SubnetRequest};

#[test]
fn containers_on_the_default_bridge() {
    on_host(|host| {
        let networks = host.open();
        let one = networks.prepare(&container("one", &["bridge"])).unwrap();
        let two = networks.prepare(&container("two", &["default"])).unwrap();
        let endpoint = &one.endpoints[0];
        assert_eq!(endpoint.ipv4.unwrap().0.to_string(), "172.17.0.2");
        assert_eq!(endpoint.mac.unwrap().to_string(), "02:42:ac:11:00:02");
        assert_eq!(endpoint.gateway4.unwrap().to_string(), "172.17.0.1");
        assert!(endpoint.is_gateway && endpoint.dns_names.is_empty());
        assert_eq!(two.endpoints[0].ipv4.unwrap().0.to_string(), "172.17.0.3");
        serve(&one, 80);
        assert_eq!(within(&two, || ask("172.17.0.2:80")).unwrap(), "172.17.0.3");
        assert_eq!(ask("172.17.0.2:80").unwrap(), "172.17.0.1");
        serve_in(host.neighbour.as_fd(), 9000);
        assert_eq!(within(&two, || ask("192.0.2.2:9000")).unwrap(), "192.0.2.1");
        let inside = within(&one, || run("ip", &["addr"]));
        assert!(
            inside.contains("::1/128") && !inside.contains("fe80"),
            "{inside}"
        );
        assert!(
            inside.contains("inet 172.17.0.2/16 brd 172.17.255.255 scope global eth0"),
            "{inside}"
        );
        assert_eq!(
            one.files
                .resolv_conf
                .lines()
                .find(|line| line.starts_with("nameserver")),
            Some("nameserver 192.0.2.2")
        );
        assert!(
            one.files.hosts.ends_with("172.17.0.2\tone-host\n"),
            "{}",
            one.files.hosts
        );
        assert_eq!(one.files.hostname, "one-host\n");
        assert_eq!(networks.inspect("bridge").unwrap().endpoints.len(), 2);
        networks.rename(&container("one", &[]).container_id, "uno");
        assert!(
            networks
                .inspect("bridge")
                .unwrap()
                .endpoints
                .iter()
                .any(|e| e.container_name == "uno")
        );
    });
}

#[test]
fn the_other_modes() {
    on_host(|host| {
        let networks = host.open();
        let mut request = container("lonely", &[]);
        request.mode = Mode::None;
        let none = networks.prepare(&request).unwrap();
        assert_eq!(within(&none, links), ["lo"]);
        assert!(within(&none, || run("ip", &["addr"])).contains("127.0.0.1/8"));
        assert_eq!(none.endpoints[0].network_name, "none");
        request = container("open", &[]);
        request.mode = Mode::Host;
        let open = networks.prepare(&request).unwrap();
        assert!(open.netns.is_none());
        assert_eq!(
            open.files.hosts,
            std::fs::read_to_string("/etc/hosts").unwrap()
        );
        assert_eq!(networks.inspect("host").unwrap().endpoints.len(), 1);
        networks.release(&request.container_id);
        assert!(networks.inspect("host").unwrap().endpoints.is_empty());
    });
}

#[test]
fn a_mac_address_is_given_on_request() {
    on_host(|host| {
        let networks = host.open();
        let mut request = container("one", &["bridge"]);
        request.endpoints[0].mac = Some("02:00:00:00:00:07".parse().unwrap());
        let one = networks.prepare(&request).unwrap();
        assert!(
            within(&one, || run("ip", &["link", "show", "eth0"])).contains("02:00:00:00:00:07")
        );
        serve(&one, 80);
        ask("172.17.0.2:80").unwrap();
    });
}

#[test]
fn networks_are_separate() {
    on_host(|host| {
        let networks = host.open();
        networks.create(spec("front")).unwrap();
        networks.create(spec("back")).unwrap();
        let front = networks.prepare(&container("front1", &["front"])).unwrap();
        let back = networks.prepare(&container("back1", &["back"])).unwrap();
        let both = networks
            .prepare(&container("both", &["front", "back"]))
            .unwrap();
        for sandbox in [&front, &back, &both] {
            serve(sandbox, 80);
        }
        assert_eq!(within(&both, links).len(), 3);
        let to_back = format!("{}:80", ipv4(&back));
        assert!(within(&front, || refused(&to_back)));
        within(&both, || ask(&to_back)).unwrap();
        within(&both, || ask(&format!("{}:80", ipv4(&front)))).unwrap();
        ask(&to_back).unwrap();
        // A published port is reached from another network by the host's address.
        let mut request = container("published", &["back"]);
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let published = networks.prepare(&request).unwrap();
        serve(&published, 80);
        within(&front, || ask("192.0.2.1:8080")).unwrap();
        assert!(within(&front, || refused(&format!(
            "{}:80",
            ipv4(&published)
        ))));
    });
}

#[test]
fn internal_networks_have_no_way_out() {
    on_host(|host| {
        let networks = host.open();
        let mut inner = spec("inner");
        inner.internal = true;
        networks.create(inner).unwrap();
        let one = networks.prepare(&container("one", &["inner"])).unwrap();
        let two = networks.prepare(&container("two", &["inner"])).unwrap();
        assert_eq!(one.endpoints[0].gateway4, None);
        serve(&one, 80);
        serve_in(host.neighbour.as_fd(), 9000);
        within(&two, || ask(&format!("{}:80", ipv4(&one)))).unwrap();
        assert!(within(&two, || refused("192.0.2.2:9000")));
        within(&two, || {
            let gateway = networks.inspect("inner").unwrap().network.subnets[0]
                .gateway
                .to_string();
            run("ip", &["route", "add", "default", "via", &gateway]);
            assert!(refused("192.0.2.2:9000"));
        });
    });
}

#[test]
fn icc_off_keeps_containers_apart() {
    on_host(|host| {
        let networks = host.open();
        let mut apart = spec("apart");
        apart.options.insert(
            "com.docker.network.bridge.enable_icc".to_owned(),
            "false".to_owned(),
        );
        networks.create(apart).unwrap();
        let mut request = container("one", &["apart"]);
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let one = networks.prepare(&request).unwrap();
        let two = networks.prepare(&container("two", &["apart"])).unwrap();
        serve(&one, 80);
        assert!(within(&two, || refused(&format!("{}:80", ipv4(&one)))));
        ask(&format!("{}:80", ipv4(&one))).unwrap();
        host.outside(|| ask("192.0.2.1:8080")).unwrap();
    });
}

#[test]
fn networks_are_made_found_and_removed() {
    on_host(|host| {
        let networks = host.open();
        let mut own = spec("own");
        own.subnets = vec![SubnetRequest {
            subnet: Some("10.9.0.0/24".parse().unwrap()),
            ..SubnetRequest::default()
        }];
        let made = networks.create(own.clone()).unwrap();
        assert_eq!(networks.find(&made.id[..5]).unwrap().name, "own");
        assert_eq!(networks.find("own").unwrap().id, made.id);
        let refusal = networks.create(own.clone()).unwrap_err();
        assert_eq!(
            (refusal.kind(), refusal.to_string().as_str()),
            (Kind::Conflict, "network with name own already exists")
        );
        own.name = "overlapping".to_owned();
        assert_eq!(networks.create(own).unwrap_err().kind(), Kind::Forbidden);
        assert!(run("ip", &["addr", "show", &made.bridge]).contains("10.9.0.1/24"));

        let mut request = container("one", &["own"]);
        request.endpoints[0].ipv4 = Some("10.9.0.77".parse().unwrap());
        let one = networks.prepare(&request).unwrap();
        assert_eq!(ipv4(&one).to_string(), "10.9.0.77");
        let mut second = container("two", &["own"]);
        second.endpoints[0].ipv4 = Some("10.9.0.77".parse().unwrap());
        assert_eq!(
            networks.prepare(&second).unwrap_err().to_string(),
            "Address already in use"
        );
        second.endpoints[0].ipv4 = Some("10.8.0.77".parse().unwrap());
        assert!(
            networks
                .prepare(&second)
                .unwrap_err()
                .to_string()
                .contains("10.8.0.77")
        );
        let refusal = networks.remove("own").unwrap_err();
        let text = refusal.to_string();
        assert!(
            text.starts_with(&format!(
                "error while removing network: network own id {}",
                made.id
            )),
            "{text}"
        );
        assert!(
            text.contains("has active endpoints (name:\"one\" id:\""),
            "{text}"
        );
        networks.release(&request.container_id);
        networks.remove("own").unwrap();
        assert!(!links().contains(&made.bridge));
        assert_eq!(
            networks.find("own").unwrap_err().to_string(),
            "network own not found"
        );
        for name in ["bridge", "host", "none"] {
            let text = networks.remove(name).unwrap_err().to_string();
            assert_eq!(
                text,
                format!("{name} is a pre-defined network and cannot be removed")
            );
        }
        assert_eq!(networks.list().len(), 3);
    });
}

#[test]
fn a_failed_start_leaves_nothing() {
    on_host(|host| {
        let config = Config {
            pool_size: 0,
            ..host.config()
        };
        let networks = host.open_with("state.redb", config);
        networks.create(spec("net")).unwrap();
        let before = (links(), run("nft", &["list", "ruleset"]));
        let mut request = container("one", &["net", "missing"]);
        assert_eq!(
            networks.prepare(&request).unwrap_err().to_string(),
            "network missing not found"
        );
        request = container("one", &["net"]);
        let taken = std::net::TcpListener::bind("0.0.0.0:7070").unwrap();
        request.ports = vec![
            port(Protocol::Tcp, None, 7071, 80),
            port(Protocol::Tcp, None, 7070, 80),
        ];
        networks.prepare(&request).unwrap_err();
        drop(taken);
        assert_eq!((links(), run("nft", &["list", "ruleset"])), before);
        assert!(networks.inspect("net").unwrap().endpoints.is_empty());
        networks.remove("net").unwrap();
    });
}

/// Forgets a daemon as a crash would: nothing is given back.
fn crash(networks: Networks) {
    std::mem::forget(networks);
}

#[test]
fn a_restart_takes_over_what_runs_and_removes_the_rest() {
    on_host(|host| {
        let networks = host.open();
        networks.create(spec("net")).unwrap();
        let mut request = container("web", &["net"]);
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let web = networks.prepare(&request).unwrap();
        serve(&web, 80);
        let gone = networks.prepare(&container("gone", &["bridge"])).unwrap();
        let gone_veth = gone.endpoints[0].host_ifname.clone();
        // What a crash in the middle of `network create` could leave.
        run("ip", &["link", "add", "br-feedfeedfeed", "type", "bridge"]);
        run(
            "ip",
            &["link", "set", "br-feedfeedfeed", "alias", "wharf/default"],
        );
        run(
            "nft",
            &[
                "add",
                "element",
                "inet",
                "wharf",
                "any4",
                "{ tcp . 99 : 172.17.0.99 . 80 }",
            ],
        );
        // Only the threads stay of the first daemon; its store is another file's worth of locks.
        drop(networks);

        let second = Networks::open(
            host.store("state.redb"),
            host.config(),
            host.runtime.handle().clone(),
        )
        .unwrap();
        let failures = second.reconcile(vec![LiveContainer {
            request: request.clone(),
            pid: std::process::id(),
            sandbox_id: web.sandbox_id.clone(),
            endpoints: web.endpoints.clone(),
            ports: web.ports.clone(),
        }]);
        assert!(failures.is_empty(), "{failures:?}");
        assert!(!links().contains(&"br-feedfeedfeed".to_owned()));
        eventually("the veth of the container that is gone is gone", || {
            !links().contains(&gone_veth)
        });
        assert!(!run("nft", &["list", "table", "inet", "wharf"]).contains("172.17.0.99"));
        assert_eq!(host.outside(|| ask("192.0.2.1:8080")).unwrap(), "192.0.2.2");
        ask("[::1]:8080").unwrap();
        // Address and port are taken.
        let mut other = container("other", &["net"]);
        other.ports = request.ports.clone();
        assert!(
            second
                .prepare(&other)
                .unwrap_err()
                .to_string()
                .ends_with("port is already allocated")
        );
        other.ports.clear();
        assert_ne!(ipv4(&second.prepare(&other).unwrap()), ipv4(&web));
        assert!(
            second
                .remove("net")
                .unwrap_err()
                .to_string()
                .contains("has active endpoints")
        );
        second.release(&request.container_id);
        assert!(host.outside(|| refused("192.0.2.1:8080")));
        drop(gone);
    });
}

#[test]
fn instances_live_beside_each_other_and_leave_nothing() {
    on_host(|host| {
        let before = links();
        let default = host.open();
        let other = host.open_with(
            "other.redb",
            Config {
                instance: Some("ab12".to_owned()),
                ..host.config()
            },
        );
        assert!(has_table("wharf") && has_table("wharf-ab12"));
        let mut request = container("web", &["bridge"]);
        request.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let one = default.prepare(&request).unwrap();
        assert_eq!(ipv4(&one).to_string(), "172.17.0.2");
        request.ports = vec![port(Protocol::Tcp, None, 8081, 80)];
        let two = other.prepare(&request).unwrap();
        assert_eq!(ipv4(&two).to_string(), "172.18.0.2");
        serve(&one, 80);
        serve(&two, 80);
        host.outside(|| ask("192.0.2.1:8080")).unwrap();
        host.outside(|| ask("192.0.2.1:8081")).unwrap();
        // The other daemon's port collides like any program's.
        let mut third = container("third", &["bridge"]);
        third.ports = vec![port(Protocol::Tcp, None, 8081, 80)];
        let text = wharf_fault::chain(&default.prepare(&third).unwrap_err());
        assert!(text.ends_with("address already in use"), "{text}");
        for networks in [default, other] {
            networks.release(&request.container_id);
            networks.tear_down().unwrap();
        }
        drop((one, two));
        eventually("only what was there before is left", || links() == before);
        assert!(!has_table("wharf") && !has_table("wharf-ab12"));
    });
}

#[test]
fn a_foreign_docker0_is_left_alone() {
    on_host(|host| {
        run("ip", &["link", "add", "docker0", "type", "bridge"]);
        run("ip", &["addr", "add", "172.17.0.1/16", "dev", "docker0"]);
        let networks = host.open();
        let bridge = networks.find("bridge").unwrap();
        assert_eq!(bridge.bridge, "wharf0");
        assert_eq!(bridge.subnets[0].subnet.to_string(), "172.18.0.0/16");
        networks.tear_down().unwrap();
        assert!(links().contains(&"docker0".to_owned()));
    });
}

#[test]
fn networks_survive_a_restart() {
    on_host(|host| {
        let networks = host.open();
        let made = networks.create(spec("net")).unwrap();
        let bridge = networks.find("bridge").unwrap();
        drop(networks);
        // As after a reboot.
        run("ip", &["link", "del", &made.bridge]);
        run("ip", &["link", "del", "docker0"]);
        run("nft", &["flush", "ruleset"]);
        let again = host.open();
        assert_eq!(again.find("net").unwrap().id, made.id);
        assert_eq!(again.find("bridge").unwrap().id, bridge.id);
        let one = again.prepare(&container("one", &["net"])).unwrap();
        serve(&one, 80);
        ask(&format!("{}:80", ipv4(&one))).unwrap();
        crash(again);
    });
}

#[test]
fn forwarding_for_others_stays_off() {
    on_host(|host| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let networks = host.open();
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
                .unwrap()
                .trim(),
            "1"
        );
        let rules = run("nft", &["list", "chain", "inet", "wharf", "forward"]);
        assert!(rules.contains("meta nfproto ipv4 drop"), "{rules}");
        drop(networks);
        let again = host.open();
        assert!(
            run("nft", &["list", "chain", "inet", "wharf", "forward"])
                .contains("meta nfproto ipv4 drop")
        );
        drop(again);
    });
}

#[test]
fn the_default_bridge_as_configured() {
    on_host(|host| {
        let networks = host.open_with(
            "state.redb",
            Config {
                bip: Some(("10.5.0.1".parse().unwrap(), 24)),
                fixed_cidr: Some("10.5.0.128/25".parse().unwrap()),
                ipv6: true,
                mtu: 1400,
                ..host.config()
            },
        );
        let mut request = container("one", &["bridge"]);
        request.ports = vec![port(Protocol::Tcp, Some("192.0.2.1"), 8080, 80)];
        request.extra_hosts = vec!["gate:host-gateway".to_owned()];
        let one = networks.prepare(&request).unwrap();
        assert_eq!(ipv4(&one).to_string(), "10.5.0.128");
        let ipv6 = one.endpoints[0].ipv6.unwrap().0;
        assert_eq!(ipv6.octets()[0], 0xfd);
        assert!(
            one.files.hosts.contains("10.5.0.1\tgate\n"),
            "{}",
            one.files.hosts
        );
        assert!(within(&one, || run("ip", &["link", "show", "eth0"])).contains("mtu 1400"));
        assert!(within(&one, || run("ip", &["-6", "route"])).contains("default via fd"));
        serve(&one, 80);
        host.outside(|| ask("192.0.2.1:8080")).unwrap();
        assert!(refused("127.0.0.1:8080"));
        ask(&format!("[{ipv6}]:80")).unwrap();
        serve_in(host.neighbour.as_fd(), 9000);
        assert_eq!(
            within(&one, || ask("[2001:db8::2]:9000")).unwrap(),
            "2001:db8::1"
        );
        assert_eq!(networks.inspect("bridge").unwrap().network.subnets.len(), 2);
    });
}

#[test]
fn many_starts_at_once() {
    on_host(|host| {
        let networks = host.open();
        networks.create(spec("net")).unwrap();
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let networks = &networks;
                scope.spawn(move || {
                    for round in 0..5 {
                        let network = if round % 2 == 0 { "bridge" } else { "net" };
                        let mut request = container(&format!("c{worker}-{round}"), &[network]);
                        request.container_id = format!("{worker:032x}{round:032x}");
                        request.ports = vec![port(Protocol::Tcp, None, 0, 80)];
                        let sandbox = networks.prepare(&request).unwrap();
                        serve(&sandbox, 80);
                        ask(&format!("192.0.2.1:{}", sandbox.ports[0].host_port)).unwrap();
                        networks.release(&request.container_id);
                    }
                });
            }
        });
        assert!(networks.list().iter().all(|view| view.endpoints.is_empty()));
        let table = run("nft", &["list", "map", "inet", "wharf", "any4"]);
        assert!(!table.contains("elements"), "{table}");
    });
}

#[test]
fn settings_of_an_interface_are_made_before_it_is_up() {
    on_host(|host| {
        let networks = host.open();
        networks.create(spec("net")).unwrap();
        let mut request = container("one", &["net"]);
        let options = &mut request.endpoints[0].driver_options;
        options.insert(
            "com.docker.network.endpoint.ifname".to_owned(),
            "lan7".to_owned(),
        );
        options.insert(
            "com.docker.network.endpoint.sysctls".to_owned(),
            "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0".to_owned(),
        );
        let one = networks.prepare(&request).unwrap();
        assert_eq!(one.endpoints[0].ifname, "lan7");
        let read = || {
            std::fs::read_to_string(
                "/proc/thread-self/root/proc/sys/net/ipv4/conf/lan7/log_martians",
            )
        };
        assert_eq!(within(&one, read).unwrap().trim(), "1");
        for bad in [
            "net.ipv4.conf.eth0.log_martians=1",
            "kernel.IFNAME.x=1",
            "net.ipv4.conf.IFNAME.../../x=1",
            "x",
        ] {
            let options = &mut request.endpoints[0].driver_options;
            options.insert(
                "com.docker.network.endpoint.sysctls".to_owned(),
                bad.to_owned(),
            );
            assert_eq!(
                networks.prepare(&request).unwrap_err().kind(),
                Kind::InvalidParameter,
                "{bad}"
            );
        }
    });
}

#[test]
fn a_bridge_that_somebody_removed_comes_back() {
    on_host(|host| {
        let networks = host.open();
        networks.create(spec("net")).unwrap();
        let bridge = networks.find("net").unwrap().bridge;
        run("ip", &["link", "del", &bridge]);
        let one = networks.prepare(&container("one", &["net"])).unwrap();
        serve(&one, 80);
        ask(&format!("{}:80", ipv4(&one))).unwrap();
        networks.release(&container("one", &[]).container_id);
        run("ip", &["link", "del", &bridge]);
        networks.remove("net").unwrap();
        // The ready namespaces were on the bridge that is gone.
        networks.prepare(&container("two", &["bridge"])).unwrap();
        run("ip", &["link", "del", "docker0"]);
        let three = networks.prepare(&container("three", &["bridge"])).unwrap();
        serve(&three, 80);
        ask(&format!("{}:80", ipv4(&three))).unwrap();
    });
}

#[test]
fn texts_can_not_add_lines_to_files() {
    on_host(|host| {
        let networks = host.open();
        let mut request = container("one", &["bridge"]);
        request.hostname = "a\n203.0.113.1 registry".to_owned();
        assert_eq!(
            networks.prepare(&request).unwrap_err().kind(),
            Kind::InvalidParameter
        );
        request.hostname = "a".to_owned();
        request.dns.search = vec!["x\nnameserver 203.0.113.1".to_owned()];
        assert_eq!(
            networks.prepare(&request).unwrap_err().kind(),
            Kind::InvalidParameter
        );
    });
}
