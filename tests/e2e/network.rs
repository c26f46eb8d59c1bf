//! Networks: names, addresses, published ports, live changes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use wharf_testkit::Sandbox;

const SERVE: &str = "mkdir -p /www && echo served > /www/index.html && exec httpd -f -p 80 -h /www";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn fetch(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_published_port_reaches_the_container() {
    let s = Sandbox::with_busybox();
    let port = free_port();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        &format!("{port}:80"),
        "busybox",
        "sh",
        "-c",
        SERVE,
    ])
    .ok();
    let reached = || fetch(&format!("127.0.0.1:{port}")).is_ok_and(|t| t.contains("served"));
    s.eventually(Duration::from_secs(5), "the port answers on loopback", reached);
    let ip = s
        .docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"])
        .ok()
        .to_owned();
    assert!(fetch(&format!("{ip}:80")).unwrap().contains("served"));
    assert!(
        s.docker(&["port", "web"])
            .ok()
            .contains(&format!("80/tcp -> 0.0.0.0:{port}"))
    );
    s.docker(&["rm", "-f", "web"]).ok();
    assert!(fetch(&format!("127.0.0.1:{port}")).is_err());
}

#[test]
fn names_and_aliases_resolve_on_user_networks() {
    let s = Sandbox::with_busybox();
    s.docker(&["network", "create", "app"]).ok();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "db",
        "--network",
        "app",
        "--network-alias",
        "store",
        "busybox",
        "sleep",
        "60",
    ])
    .ok();
    let ip = s
        .docker(&["inspect", "-f", "{{.NetworkSettings.Networks.app.IPAddress}}", "db"])
        .ok()
        .to_owned();
    for name in ["db", "store"] {
        let out = s.docker(&[
            "run",
            "--rm",
            "--network",
            "app",
            "busybox",
            "ping",
            "-c",
            "1",
            "-W",
            "2",
            name,
        ]);
        assert!(out.ok().contains(&format!("({ip})")), "{out}");
    }
    let other = s.docker(&["run", "--rm", "busybox", "ping", "-c", "1", "-W", "1", "db"]);
    assert_ne!(other.code, 0, "another network must not know the name: {other}");
}

#[test]
fn networks_are_isolated_until_connected() {
    let s = Sandbox::with_busybox();
    for name in ["red", "blue"] {
        s.docker(&["network", "create", name]).ok();
        s.docker(&[
            "run",
            "-d",
            "--name",
            &format!("in-{name}"),
            "--network",
            name,
            "busybox",
            "sleep",
            "60",
        ])
        .ok();
    }
    let ip = s
        .docker(&[
            "inspect",
            "-f",
            "{{.NetworkSettings.Networks.blue.IPAddress}}",
            "in-blue",
        ])
        .ok()
        .to_owned();
    let ping = || s.docker(&["exec", "in-red", "ping", "-c", "1", "-W", "1", &ip]).code;
    assert_ne!(ping(), 0);
    s.docker(&["network", "connect", "blue", "in-red"]).ok();
    assert_eq!(ping(), 0);
    s.docker(&["network", "disconnect", "blue", "in-red"]).ok();
    assert_ne!(ping(), 0);
    s.docker(&["network", "rm", "blue"]).fails(1, "has active endpoints");
}

#[test]
fn a_restart_keeps_joined_containers_connected() {
    let s = Sandbox::with_busybox();
    s.docker(&["run", "-d", "--name", "owner", "busybox", "sleep", "60"])
        .ok();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "joined",
        "--network",
        "container:owner",
        "busybox",
        "sleep",
        "60",
    ])
    .ok();
    let address = || {
        s.docker(&[
            "exec",
            "joined",
            "sh",
            "-c",
            "ip -4 -o addr show eth0 | awk '{print $4}'",
        ])
        .ok()
        .to_owned()
    };
    let before = address();
    s.docker(&["restart", "-t", "0", "owner"]).ok();
    assert_eq!(address(), before);
}

#[test]
fn joined_containers_stay_with_their_owner_whenever_the_engine_is_killed() {
    let mut s = Sandbox::with_busybox();
    let sleep = ["busybox", "sleep", "600"];
    let run = |s: &Sandbox, name: &str, options: &[&str]| {
        let named = ["run", "-d", "--name", name];
        s.docker(&[&named[..], options, &sleep].concat()).ok();
    };
    run(&s, "owner", &["--restart", "always"]);
    run(&s, "joined", &["--network", "container:owner"]);
    let namespace = |s: &Sandbox, name: &str| {
        let told = s.docker(&[
            "exec",
            name,
            "sh",
            "-c",
            "readlink /proc/1/ns/net; ip -o link show eth0",
        ]);
        told.stdout
    };
    let together = |s: &Sandbox, when: &str| {
        s.eventually(Duration::from_secs(20), when, || {
            let own = namespace(s, "owner");
            own.contains("eth0") && own == namespace(s, "joined")
        });
    };
    together(&s, "they are in one namespace");
    // The owner ends, and its policy starts it again in the next engine.
    for point in [
        "end/noticed",
        "end/recorded",
        "end/released",
        "start/journalled",
        "net/connect/paired",
        "start/connected",
        "start/joined",
    ] {
        s.terminate();
        s.boot_armed(&format!("kill:{point}"));
        let pid = s.docker(&["inspect", "-f", "{{.State.Pid}}", "owner"]).ok().to_owned();
        let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status();
        assert!(killed.unwrap().success());
        assert!(s.ends_within(Duration::from_secs(20)), "{point} was not passed");
        s.boot();
        together(&s, point);
    }
    // It is stopped, and started in another engine or half started in one.
    s.docker(&["stop", "-t", "0", "owner"]).ok();
    s.kill();
    s.boot_armed("kill:start/joined");
    s.docker(&["start", "owner"]);
    assert!(s.ends_within(Duration::from_secs(20)));
    s.boot();
    s.docker(&["start", "owner"]).ok();
    together(&s, "stopped, and started again");
}

#[test]
fn an_interface_that_a_killed_engine_had_half_made_is_made_again() {
    let mut s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "box",
        "--restart",
        "always",
        "busybox",
        "sleep",
        "600",
    ])
    .ok();
    let gateway = s.docker(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "box"]);
    let gateway = gateway.ok().to_owned();
    let ports = std::fs::read_dir(format!("/sys/class/net/{}0/brif", s.instance())).unwrap();
    let ports: Vec<String> = ports
        .map(|port| port.unwrap().file_name().into_string().unwrap())
        .collect();
    let [port] = &ports[..] else {
        panic!("one port: {ports:?}")
    };
    s.kill();
    let removed = std::process::Command::new("ip").args(["link", "del", port]).status();
    assert!(removed.unwrap().success());
    let died = s.boot_to_die("kill:net/connect/paired", Duration::from_secs(20));
    assert!(died, "the interface was not made again");
    s.boot();
    s.docker(&["exec", "box", "ping", "-c", "1", "-w", "5", &gateway]).ok();
}

#[test]
fn subnets_and_addresses_can_be_chosen() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "network",
        "create",
        "--subnet",
        "10.231.7.0/24",
        "--gateway",
        "10.231.7.1",
        "fixed",
    ])
    .ok();
    let out = s.docker(&[
        "run",
        "--rm",
        "--network",
        "fixed",
        "--ip",
        "10.231.7.77",
        "busybox",
        "sh",
        "-c",
        "ip -4 -o addr show eth0 | awk '{print $4}'; ip route | awk '/default/ {print $3}'",
    ]);
    assert_eq!(out.ok(), "10.231.7.77/24\n10.231.7.1");
    assert_ne!(
        s.docker(&["network", "create", "--subnet", "10.231.7.0/25", "overlaps"])
            .code,
        0
    );
}

#[test]
fn hosts_and_resolver_files_follow_the_flags() {
    let s = Sandbox::with_busybox();
    let out = s.docker(&[
        "run",
        "--rm",
        "-h",
        "box",
        "--add-host",
        "db:10.9.8.7",
        "--dns",
        "9.9.9.9",
        "--dns-search",
        "corp.example",
        "busybox",
        "sh",
        "-c",
        "grep -E 'db|box' /etc/hosts | awk '{print $2}'; grep -v '^#' /etc/resolv.conf",
    ]);
    assert_eq!(out.ok(), "db\nbox\nnameserver 9.9.9.9\nsearch corp.example");
}
