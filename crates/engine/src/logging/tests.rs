//! Options against Docker's words, plans, defaults.

use super::*;
use crate::config::Tunables;

fn log(driver: &str, options: &[(&str, &str)]) -> LogConfig {
    let pairs = options
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    LogConfig {
        driver: driver.to_owned(),
        options: Some(pairs.collect()),
    }
}

/// `driver key=value ...`
fn parsed(text: &str) -> LogConfig {
    let mut words = text.split(' ');
    let driver = words.next().expect("a driver");
    let options: Vec<_> = words.map(|word| word.split_once('=').expect("a value")).collect();
    log(driver, &options)
}

/// Options, and Docker's words for what is wrong with them.
const WRONG: [(&str, &str); 39] = [
    ("nothing", "logger: no log driver named 'nothing' is registered"),
    ("json-file x=1", "unknown log opt 'x' for json-file log driver"),
    ("json-file max-file=0", "max-file cannot be less than 1"),
    ("json-file max-file=x", "strconv.Atoi: parsing \"x\": invalid syntax"),
    ("json-file max-size=x", "invalid size: 'x'"),
    ("json-file max-size=0", "max-size must be a positive number"),
    (
        "json-file compress=true max-size=1m",
        "compress cannot be true when max-file is less than 2 or max-size is not set",
    ),
    ("json-file mode=fast", "logger: logging mode not supported: fast"),
    (
        "json-file max-buffer-size=1m",
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ),
    (
        "syslog mode=non-blocking max-buffer-size=x",
        "error parsing option max-buffer-size: invalid size: 'x'",
    ),
    (
        "gelf cache-disabled=perhaps",
        "invalid value for option cache-disabled: perhaps",
    ),
    ("local x=1", "unknown log opt 'x' for log driver local"),
    (
        "local max-file=1",
        "compression cannot be enabled when max file count is 1",
    ),
    ("local max-size=x", "invalid value for max-size: x: invalid size: 'x'"),
    ("syslog x=1", "unknown log opt 'x' for syslog log driver"),
    ("syslog syslog-address=http://h", "unsupported scheme: 'http'"),
    ("syslog syslog-address=localhost:514", "unsupported scheme: 'localhost'"),
    (
        "syslog syslog-address=unix:///no/log",
        "stat /no/log: no such file or directory",
    ),
    ("syslog syslog-facility=mine", "invalid syslog facility"),
    ("syslog syslog-facility=24", "invalid syslog facility"),
    ("syslog syslog-format=rfc1", "Invalid syslog format"),
    ("journald x=1", "unknown log opt 'x' for journald log driver"),
    ("gelf", "gelf-address is a required parameter"),
    ("gelf gelf-address=http://h:1", "gelf: endpoint needs to be TCP or UDP"),
    (
        "gelf gelf-address=udp://h",
        "gelf: please provide gelf-address as proto://host:port",
    ),
    (
        "gelf gelf-address=tcp://h:1 gelf-compression-type=gzip",
        "compression is only supported on UDP",
    ),
    (
        "gelf gelf-address=udp://h:1 gelf-compression-type=x",
        "unknown value \"x\" for log opt \"gelf-compression-type\" for gelf log driver",
    ),
    (
        "gelf gelf-address=udp://h:1 gelf-compression-level=10",
        "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver",
    ),
    (
        "gelf gelf-address=udp://h:1 gelf-tcp-max-reconnect=1",
        "\"gelf-tcp-max-reconnect\" is only valid for TCP",
    ),
    (
        "gelf gelf-address=tcp://h:1 gelf-tcp-max-reconnect=-1",
        "\"gelf-tcp-max-reconnect\" must be a positive integer",
    ),
    (
        "gelf gelf-address=udp://h:1 x=1",
        "unknown log opt \"x\" for gelf log driver",
    ),
    ("fluentd x=1", "unknown log opt 'x' for fluentd log driver"),
    (
        "fluentd fluentd-address=http://h",
        "invalid fluentd-address (http://h): unsupported scheme: 'http'",
    ),
    (
        "fluentd fluentd-address=tcp://h/p",
        "invalid fluentd-address (tcp://h/p): should not contain a path element",
    ),
    (
        "fluentd fluentd-address=unix:///",
        "invalid fluentd-address (unix:///): path is empty",
    ),
    (
        "fluentd fluentd-async=x",
        "strconv.ParseBool: parsing \"x\": invalid syntax",
    ),
    (
        "fluentd fluentd-max-retries=4294967295",
        "invalid fluentd-max-retries: value out of range",
    ),
    (
        "fluentd fluentd-async-reconnect-interval=1ms",
        "invalid value for fluentd-async-reconnect-interval: value (\"1ms\") must be between 100ms and 10s",
    ),
    (
        "fluentd fluentd-write-timeout=-1s",
        "invalid value for fluentd-write-timeout: value must be a duration that is non-negative",
    ),
];

#[test]
fn wrong_options_are_refused_in_dockers_words() {
    for (text, expected) in WRONG {
        let error = check(&parsed(text)).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn sound_options_are_taken() {
    for text in [
        "none x=1",
        "json-file max-size=10m max-file=3 compress=true labels=a,b env-regex=^A tag={{.Name}} mode=non-blocking",
        "json-file max-size=-1",
        "local max-size=1k compress=false max-file=1",
        "syslog syslog-address=tcp+tls://h:6514 syslog-tls-skip-verify=true syslog-facility=local7 syslog-format=rfc5424",
        "syslog syslog-address=udp://[::1]:514 mode=non-blocking max-buffer-size=4m cache-max-size=1m cache-disabled=false",
        "journald tag={{.ImageName}}/{{.Name}}",
        "gelf gelf-address=udp://h:12201 gelf-compression-level=-1 gelf-compression-type=none",
        "fluentd fluentd-address=h:1 fluentd-async=true fluentd-retry-wait=1s fluentd-request-ack=true",
    ] {
        check(&parsed(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn defaults_are_the_engines_where_the_container_says_nothing() {
    let defaults = LogDefaults {
        driver: "local".into(),
        options: BTreeMap::from([
            ("max-size".into(), "1m".into()),
            ("cache-disabled".into(), "true".into()),
        ]),
        ..LogDefaults::default()
    };
    let filled = |mut log: LogConfig| {
        defaults.fill(&mut log);
        log
    };
    assert_eq!(
        filled(log("", &[])),
        log("local", &[("max-size", "1m"), ("cache-disabled", "true")])
    );
    assert_eq!(
        filled(log("local", &[("max-size", "2m")])),
        log("local", &[("max-size", "2m"), ("cache-disabled", "true")])
    );
    assert_eq!(
        filled(log("journald", &[])),
        log("journald", &[("cache-disabled", "true")])
    );
    assert!(defaults.validate().is_ok());
    let wrong = LogDefaults {
        options: BTreeMap::from([("x".into(), "1".into())]),
        ..LogDefaults::default()
    };
    let error = wrong.validate().expect_err("refused").to_string();
    assert_eq!(
        error,
        "failed to set log opts: unknown log opt 'x' for json-file log driver"
    );
}

fn record(log: LogConfig) -> ContainerRecord {
    let mut record: ContainerRecord = serde_json::from_value(serde_json::json!({
        "id": "a".repeat(64), "name": "web", "created": 0, "image_id": format!("sha256:{}", "b".repeat(64)),
        "config": {"image": "busybox:1", "labels": {"tier": "front", "other": "x"}, "env": ["MODE=fast", "SECRET=s"]},
        "host": {}, "path": "sh", "args": ["-c", "x"], "state": {}, "dir": "/d",
    }))
    .expect("a record");
    record.host.log_config = log;
    record
}

fn planned(text: &str) -> LogPlan {
    let config = Config::new("/r", "/n", "i", "/s");
    plan(&config, &record(parsed(text)), Path::new("/log"))
        .expect(text)
        .expect("a plan")
}

#[test]
fn logs_are_bounded_whatever_the_driver() {
    let bounds = |text: &str| {
        let plan = planned(text);
        (plan.max_bytes, plan.max_files, plan.compress, plan.no_file)
    };
    assert_eq!(bounds("json-file"), (20 << 20, 3, false, false));
    assert_eq!(bounds("json-file max-size=1m"), (1_000_000, 1, false, false));
    assert_eq!(bounds("json-file max-size=-1"), (0, 1, false, false));
    assert_eq!(bounds("local"), (20 << 20, 5, true, false));
    assert_eq!(bounds("syslog"), (20 << 20, 5, true, false));
    assert_eq!(
        bounds("syslog cache-max-size=1k cache-max-file=2"),
        (1000, 2, true, false)
    );
    assert_eq!(bounds("syslog cache-disabled=true"), (20 << 20, 5, true, true));
}

#[test]
fn labels_variables_and_tags_accompany_lines() {
    let plan = planned("json-file labels=tier labels-regex=^oth env-regex=MO tag={{.ImageName}}/{{.Name}}/{{.ID}}");
    let expected = [
        ("MODE", "fast"),
        ("other", "x"),
        ("tag", "busybox:1/web/aaaaaaaaaaaa"),
        ("tier", "front"),
    ];
    let found: Vec<_> = plan
        .attrs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(found, expected);
    let mut config = log("syslog", &[("tag", "{{upper .Name}}-{{.DaemonName}}")]);
    assert_eq!(
        tag::of(&Options::of(&config), &record(config.clone())).expect("a tag"),
        "WEB-docker"
    );
    config.options = Some(BTreeMap::from([("tag".into(), "{{.Name".into())]));
    assert!(check(&config).is_err());
}

#[test]
fn a_hyphenated_label_is_a_field_of_the_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("socket");
    let config = Config::new("/r", "/n", "i", "/s");
    config.live.replace(Tunables {
        logging: LogDefaults {
            journal: socket.clone(),
            ..LogDefaults::default()
        },
        ..Tunables::default()
    });
    let mut record = record(log("journald", &[("labels", "_a-b.c")]));
    record.config.labels.insert("_a-b.c".into(), "v".into());
    let error = plan(&config, &record, Path::new("/log"))
        .expect_err("no journal")
        .to_string();
    assert_eq!(
        error,
        "failed to initialize logging driver: journald is not enabled on this host"
    );
    std::fs::write(&socket, "").expect("a stand-in");
    let plan = plan(&config, &record, Path::new("/log"))
        .expect("a plan")
        .expect("a log");
    let wharf_shim::target::Format::Journald { fields } = plan.target.expect("a target").format else {
        panic!("not the journal's format");
    };
    assert_eq!(fields.get("A_B_C").map(String::as_str), Some("v"));
    assert_eq!(fields.get("CONTAINER_NAME").map(String::as_str), Some("web"));
}
