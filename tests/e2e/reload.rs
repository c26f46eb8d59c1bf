//! SIGHUP: the configuration file is read again by a running engine.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use wharf_testkit::Sandbox;
use wharf_testkit::process::is_alive;

const SOON: Duration = Duration::from_secs(20);

/// Another configuration file, and the signal.
fn reload(s: &Sandbox, text: &str) {
    std::fs::write(s.path("config.toml"), text).unwrap();
    hang_up(s);
}

fn hang_up(s: &Sandbox) {
    let pid = s.engine_pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

/// The lines of the engine's log about reloads so far.
fn told(s: &Sandbox, words: &str) -> usize {
    s.engine_log().lines().filter(|line| line.contains(words)).count()
}

#[track_caller]
fn tells(s: &Sandbox, words: &str) {
    s.eventually(SOON, &format!("the log tells {words:?}"), || told(s, words) > 0);
}

fn info(s: &Sandbox, format: &str) -> String {
    s.docker(&["info", "-f", format]).ok().to_owned()
}

/// The cgroup file `pids.max` of a container, wherever that controller is mounted.
fn pids_limit(s: &Sandbox, name: &str) -> String {
    s.docker(&[
        "exec",
        name,
        "sh",
        "-c",
        "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true",
    ])
    .ok()
    .to_owned()
}

#[test]
fn a_signal_puts_the_file_in_force_and_containers_do_not_notice() {
    let s = Sandbox::configured("labels = ['rack=7']\n");
    s.import_busybox();
    s.docker(&["run", "-d", "--name", "before", "busybox", "sleep", "600"])
        .ok();
    let pid = s.docker(&["inspect", "-f", "{{.State.Pid}}", "before"]);
    let pid: u32 = pid.ok().parse().unwrap();
    assert_eq!(info(&s, "{{.Labels}} {{.Debug}}"), "[rack=7] false");
    reload(
        &s,
        "labels = ['rack=8', 'row=1']\nlog-level = 'debug'\ninsecure-registries = ['registry.lan:5000']\n\
         registry-mirrors = ['https://mirror.lan']\nmax-concurrent-uploads = 2\ndefault-pids-limit = 77\n\
         log-driver = 'local'\nhosts = ['unix:///nowhere.sock']\n[runtimes]\nmine = '/bin/mine'\n",
    );
    tells(&s, "configuration reloaded");
    s.eventually(SOON, "what needs a restart is told", || {
        told(&s, "need a restart of the engine: hosts") == 1
    });
    assert_eq!(
        info(&s, "{{.Labels}} {{.Debug}} {{.LoggingDriver}}"),
        "[rack=8 row=1] true local"
    );
    assert_eq!(info(&s, "{{.RegistryConfig.Mirrors}}"), "[https://mirror.lan/]");
    assert_eq!(
        info(
            &s,
            "{{(index .RegistryConfig.IndexConfigs \"registry.lan:5000\").Secure}}"
        ),
        "false"
    );
    assert_eq!(info(&s, "{{(index .Runtimes \"mine\").Path}}"), "/bin/mine");
    assert!(is_alive(pid), "the container does not notice");
    s.docker(&["exec", "before", "true"]).ok();
    assert_eq!(pids_limit(&s, "before"), "4096", "it keeps what it has");
    s.docker(&["run", "-d", "--name", "after", "busybox", "sleep", "600"])
        .ok();
    assert_eq!(pids_limit(&s, "after"), "77");
    let driver = s.docker(&["inspect", "-f", "{{.HostConfig.LogConfig.Type}}", "after"]);
    assert_eq!(driver.ok(), "local");
    the_event_is_dockers(&s);
}

fn the_event_is_dockers(s: &Sandbox) {
    let (_, events) = s.api(
        "GET",
        "/events?since=0&until=1&filters=%7B%22type%22%3A%5B%22daemon%22%5D%7D",
        "",
    );
    assert!(events.is_null(), "nothing happened in 1970: {events}");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let path = format!(
        "/events?since=0&until={}&filters=%7B%22type%22%3A%5B%22daemon%22%5D%7D",
        now.as_secs() + 1
    );
    let (_, event) = s.api("GET", &path, "");
    assert_eq!(
        (&event["Type"], &event["Action"]),
        (&"daemon".into(), &"reload".into()),
        "{event}"
    );
    assert_eq!(event["Actor"]["ID"].as_str().unwrap(), info(s, "{{.ID}}"));
    let attributes = &event["Actor"]["Attributes"];
    let check = |key: &str, expected: &str| assert_eq!(attributes[key], expected, "{key} of {attributes}");
    check("name", &info(s, "{{.Name}}"));
    check("debug", "true");
    check("labels", r#"["rack=8","row=1"]"#);
    check("insecure-registries", r#"["registry.lan:5000"]"#);
    check("registry-mirrors", r#"["https://mirror.lan"]"#);
    check("max-concurrent-uploads", "2");
    check("live-restore", "true");
    check("default-runtime", "wharf-runtime");
    assert!(
        attributes["runtimes"].as_str().unwrap().contains("mine:/bin/mine"),
        "{attributes}"
    );
}

#[test]
fn a_file_that_is_wrong_anywhere_changes_nothing() {
    let s = Sandbox::configured("labels = ['good']\n");
    let check = |text: &str, words: &str| {
        let before = told(&s, "the configuration is as before");
        reload(&s, &format!("labels = ['bad']\n{text}"));
        s.eventually(SOON, &format!("{text} is refused"), || {
            told(&s, "the configuration is as before") > before
        });
        assert!(told(&s, words) > 0, "{words} is not told:\n{}", s.engine_log());
        assert_eq!(info(&s, "{{.Labels}}"), "[good]", "{text}");
    };
    check("no-such-key = 1", "no-such-key");
    check("log-level = '=nonsense='", "invalid log-level");
    check("log-driver = 'pigeon'", "no log driver named 'pigeon'");
    check("registry-mirrors = ['mirror']", "invalid mirror");
    check("default-runtime = 'nobody'", "default runtime 'nobody' does not exist");
    check("reserve-memory-bytes = 9000000000000000", "leaves containers nothing");
    check("hosts = ['ftp://x']", "invalid address");
    check("max-concurrent-downloads = 0", "max-concurrent-downloads");
    std::fs::remove_file(s.path("config.toml")).unwrap();
    hang_up(&s);
    s.eventually(SOON, "a missing file is refused", || {
        told(&s, "cannot read the configuration file") > 0
    });
    let events = s.events(&["type=daemon"]);
    assert!(events.is_empty(), "{events:?}");
    reload(&s, "labels = ['better']\n");
    s.eventually(SOON, "a good file is taken", || info(&s, "{{.Labels}}") == "[better]");
}

#[test]
fn signals_without_a_file_and_in_great_number_end_no_engine() {
    let s = Sandbox::start();
    for _ in 0..200 {
        hang_up(&s);
    }
    tells(&s, "configuration reloaded: nothing changed");
    assert_eq!(s.api("GET", "/_ping", "").0, 200);
}

#[test]
fn the_unit_has_systemd_send_the_signal() {
    let unit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/wharf.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    assert!(unit.contains("\nExecReload=/bin/kill -HUP $MAINPID\n"), "{unit}");
}
