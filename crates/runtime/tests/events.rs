//! Measurements and out-of-memory notices by the command line. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

/// `events` in the background, ended with the test.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn start(bundle: &Bundle, interval: &str) -> Self {
        let mut child = bundle
            .command(&["events", "--interval", interval, &bundle.id])
            .stdout(Stdio::piped())
            .spawn()
            .expect("events");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, lines }
    }

    /// The next event of a kind; the end of the output fails the test.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let line = self.lines.next().expect("an event").expect("a line");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if event["type"] == kind {
                return event;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn stats_have_the_shape_that_callers_of_runc_read() {
    let mut bundle = Bundle::new("sleep 100");
    bundle.set(
        "/linux/resources",
        json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 20 } }),
    );
    bundle.start().ok();
    let out = bundle.cli(&["events", "--stats", &bundle.id]).ok();
    let event: Value = serde_json::from_str(&out).expect("one JSON document");
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(bundle.id)));
    let data = &event["data"];
    assert!(
        data["cpu"]["usage"]["total"].as_u64().is_some_and(|ns| ns > 0),
        "{data}"
    );
    assert!(data["cpu"]["usage"]["user"].is_u64() && data["cpu"]["usage"]["kernel"].is_u64());
    assert_eq!(data["pids"], json!({ "current": 1, "limit": 20 }));
    assert_eq!(data["memory"]["usage"]["limit"], json!(64 << 20));
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(data["memory"]["raw"].is_object());
    for key in ["blkio", "hugetlb", "intel_rdt", "cpuset"] {
        assert!(data[key].is_object(), "{key} in {data}");
    }
    assert_eq!(data["network_interfaces"], Value::Null, "only loopback is there");
}

#[test]
fn the_network_interfaces_of_the_container_are_measured() {
    let mut bundle = Bundle::new("ip link add br7 type bridge && ip link set br7 up && touch /tmp/up; sleep 100");
    let caps = json!(["CAP_NET_ADMIN", "CAP_NET_RAW"]);
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": caps, "effective": caps, "permitted": caps }),
    );
    bundle.start().ok();
    bundle.await_file("tmp/up");
    let out = bundle.cli(&["events", "--stats", &bundle.id]).ok();
    let event: Value = serde_json::from_str(&out).expect("JSON");
    let interface = &event["data"]["network_interfaces"][0];
    assert_eq!(interface["Name"], "br7", "{event}");
    for direction in ["Rx", "Tx"] {
        for figure in ["Bytes", "Packets", "Errors", "Dropped"] {
            assert!(interface[format!("{direction}{figure}")].is_u64(), "{event}");
        }
    }
}

#[test]
fn events_follow_the_container_to_its_end() {
    let bundle = Bundle::new("sleep 100");
    bundle.start().ok();
    let mut follower = Follower::start(&bundle, "50ms");
    follower.next("stats");
    follower.next("stats");
    bundle.cli(&["kill", &bundle.id, "KILL"]).ok();
    assert!(follower.lines.by_ref().all(|line| line.is_ok()));
    assert!(follower.child.wait().expect("events").success());
    let outcome = bundle.cli(&["events", "--stats", &bundle.id]);
    assert!(outcome.stderr.contains("is not running"), "{outcome:?}");
    for wrong in ["0s", "soon", "-1s"] {
        let interval = format!("--interval={wrong}");
        assert_eq!(bundle.cli(&["events", &interval, &bundle.id]).code, 1, "{wrong}");
    }
}

#[test]
fn running_out_of_memory_is_an_event() {
    let mut bundle = Bundle::new("sleep 100");
    bundle.set(
        "/linux/resources",
        json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } }),
    );
    bundle.start().ok();
    let mut follower = Follower::start(&bundle, "100ms");
    follower.next("stats");
    let eater = "head -c 64m /dev/zero | tail >/dev/null";
    bundle.cli(&["exec", &bundle.id, "sh", "-c", eater]);
    let event = follower.next("oom");
    assert_eq!(event, json!({ "type": "oom", "id": bundle.id }));
}
