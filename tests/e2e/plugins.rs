//! Volume plugins: what a user of Docker sees of them, each mount given back once, and what hangs holds up nobody else.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use wharf_testkit::Sandbox;

use crate::plugin_server::{Mood, PLUGIN_SECONDS, PluginServer, SOON, configuration};

/// Far more than any of these takes on an idle machine.
const PROMPT: Duration = Duration::from_secs(5);

/// An engine with plugins of its own, the plugin `shelf`, and `busybox`.
fn with_shelf() -> (Sandbox, PluginServer) {
    let s = Sandbox::configured(&configuration());
    s.import_busybox();
    let shelf = PluginServer::start(&s.path("plugins"), "shelf");
    (s, shelf)
}

/// Nothing is mounted any more, and the plugin saw nothing that it should not.
fn settled(s: &Sandbox, plugin: &PluginServer) {
    s.eventually(SOON, "all mounts are given back", || plugin.mounted().is_empty());
    assert_eq!(plugin.faults(), Vec::<String>::new());
}

fn pairs(calls: &[String]) -> (usize, usize) {
    let count = |what: &str| calls.iter().filter(|call| call.starts_with(what)).count();
    (count("Mount "), count("Unmount "))
}

#[test]
fn a_volume_of_a_plugin_is_used_like_any_other() {
    let (s, shelf) = with_shelf();
    made_and_seen(&s, &shelf);
    used_by_containers(&s, &shelf);
    removed_by_name_only(&s, &shelf);
    settled(&s, &shelf);
    let (mounts, unmounts) = pairs(&shelf.calls());
    assert_eq!(mounts, unmounts);
    told_by_events(&s);
}

/// `v1` is made once, and shown with all that the plugin and the record know of it.
fn made_and_seen(s: &Sandbox, shelf: &PluginServer) {
    let create = ["volume", "create", "-d", "shelf"];
    let described = ["-o", "colour=red", "--label", "a=b", "v1"];
    assert_eq!(s.docker(&[&create[..], &described].concat()).ok(), "v1");
    assert_eq!(shelf.options("v1"), serde_json::json!({"colour": "red"}));
    let again = s.docker(&[&create[..], &["v1"]].concat());
    assert_eq!(again.ok(), "v1", "it is there");
    assert_eq!(shelf.count("Create v1"), 1);
    let listed = s.docker(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]);
    assert_eq!(listed.ok(), "shelf v1");
    let format =
        "{{.Driver}} {{.Scope}} {{.Status.shelf}} {{.Labels.a}} {{.Options.colour}} {{.CreatedAt}} [{{.Mountpoint}}]";
    let seen = s.docker(&["volume", "inspect", "-f", format, "v1"]);
    assert_eq!(seen.ok(), "shelf global 7 b red 2024-05-06T07:08:09Z []");
    let info = s.docker(&["info", "-f", "{{.Plugins.Volume}}"]);
    assert!(info.ok().contains("[local shelf]"), "{info}");
}

/// `c1` writes into `v1`, another container reads it; each has a mount of its own while it runs.
fn used_by_containers(s: &Sandbox, shelf: &PluginServer) {
    let write = ["busybox", "sh", "-c", "echo hi >/x/f; sleep 1000"];
    let run = ["run", "-d", "--name", "c1", "-v", "v1:/x"];
    s.docker(&[&run[..], &write].concat()).ok();
    s.eventually(SOON, "the file is on the shelf", || {
        shelf.folder("v1").join("f").exists()
    });
    let place = shelf.folder("v1").to_string_lossy().into_owned();
    assert_eq!(shelf.mounted(), ["v1"]);
    let told = s.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "v1"]);
    assert_eq!(told.ok(), place);
    let format = "{{range .Mounts}}{{.Driver}} {{.Name}} {{.Source}}{{end}}";
    let mount = s.docker(&["inspect", "-f", format, "c1"]);
    assert_eq!(mount.ok(), format!("shelf v1 {place}"));
    let read = s.docker(&["run", "--rm", "--volumes-from", "c1", "busybox", "cat", "/x/f"]);
    assert_eq!(read.ok(), "hi");
    assert_eq!(shelf.mounted(), ["v1"], "the other container's mount is over");
}

/// Neither while it is used nor by a prune.
fn removed_by_name_only(s: &Sandbox, shelf: &PluginServer) {
    s.docker(&["volume", "rm", "v1"])
        .fails(1, "remove v1: volume is in use");
    s.docker(&["rm", "-f", "c1"]).ok();
    s.wharf(&["volume", "prune", "-a", "-f"]).ok();
    assert_eq!(shelf.volumes(), ["v1"], "prune is for local volumes");
    s.docker(&["volume", "rm", "v1"]).ok();
    // An older docker says it in words of its own.
    s.wharf(&["volume", "inspect", "v1"]).fails(1, "get v1: no such volume");
    assert!(shelf.volumes().is_empty());
}

fn told_by_events(s: &Sandbox) {
    assert_eq!(
        s.events(&["type=volume", "volume=v1"]),
        ["create", "mount", "mount", "unmount", "unmount", "destroy"]
    );
    let past = ["events", "--since", "0", "--until", "1s", "--filter", "volume=v1"];
    let driver = ["--format", "{{.Actor.Attributes.driver}}"];
    let events = s.docker(&[&past[..], &driver].concat());
    assert!(events.ok().lines().all(|driver| driver == "shelf"), "{events}");
}

#[test]
fn drivers_are_chosen_and_names_conflict_as_with_docker() {
    let (s, shelf) = with_shelf();
    let missing = "error looking up volume plugin nobody: plugin \"nobody\" not found";
    s.docker(&["volume", "create", "-d", "nobody", "v1"])
        .fails(1, &format!("create v1: {missing}"));
    s.docker(&[
        "run",
        "--rm",
        "--volume-driver",
        "nobody",
        "-v",
        "v1:/x",
        "busybox",
        "true",
    ])
    .fails(125, missing);
    s.docker(&["volume", "create", "-d", "../shelf", "v1"])
        .fails(1, "not found");
    assert_eq!(
        s.api("POST", "/volumes/create", r#"{"Name":"v1","Driver":"nobody"}"#).0,
        404
    );

    let write = ["busybox", "sh", "-c", "echo hi >/x/f"];
    let run = |args: &[&str]| s.docker(&[&["run", "--rm"], args, &write[..]].concat()).ok().to_owned();
    run(&["--volume-driver", "shelf", "-v", "a1:/x"]);
    run(&[
        "--mount",
        "type=volume,src=a2,dst=/x,volume-driver=shelf,volume-opt=k=v,volume-label=l=m",
    ]);
    assert_eq!(shelf.options("a2"), serde_json::json!({"k": "v"}));
    assert_eq!(s.docker(&["volume", "inspect", "-f", "{{.Labels.l}}", "a2"]).ok(), "m");
    run(&["-v", "a1:/x"]); // its driver is known
    run(&["--volume-driver", "shelf", "-v", "pool/a3:/x"]);
    shelf.make("own/a4");
    run(&["-v", "own/a4:/x"]); // the plugin knows it
    for name in ["a1", "a2", "pool/a3", "own/a4"] {
        assert!(shelf.folder(name).join("f").exists(), "{name}");
    }
    let listed = s.docker(&["volume", "ls", "-q", "--filter", "driver=shelf"]);
    assert_eq!(
        listed.ok().lines().collect::<Vec<_>>(),
        ["a1", "a2", "own/a4", "pool/a3"]
    );
    assert_eq!(s.docker(&["volume", "ls", "-q", "--filter", "driver=local"]).ok(), "");
    let gone = s.docker(&["volume", "rm", "pool/a3"]);
    assert_eq!(gone.ok(), "pool/a3");

    s.docker(&["volume", "create", "here"]).ok();
    s.docker(&["volume", "create", "-d", "shelf", "here"]).fails(
        1,
        "create here: driver 'local' already has volume 'here': volume name must be unique",
    );
    s.docker(&["volume", "create", "-d", "local", "a1"]).fails(
        1,
        "create a1: driver 'shelf' already has volume 'a1': volume name must be unique",
    );
    assert_eq!(
        s.api("POST", "/volumes/create", r#"{"Name":"a1","Driver":"local"}"#).0,
        409
    );
    shelf.lose("a2");
    s.docker(&["volume", "create", "-d", "local", "a2"]).ok(); // its record was out of date

    // Anonymous volumes go with their container.
    let before = shelf.volumes();
    run(&["--volume-driver", "shelf", "-v", "/x"]);
    assert_eq!(shelf.volumes(), before);
    assert_eq!(
        shelf.calls().iter().filter(|call| call.starts_with("Remove ")).count(),
        2
    );
    settled(&s, &shelf);
}

#[test]
fn two_drivers_do_not_make_one_volume_at_once() {
    let (s, shelf) = with_shelf();
    shelf.mood("VolumeDriver.Get", Mood::Late);
    let mut theirs = spawned(&s, &["volume", "create", "-d", "shelf", "v1"]);
    s.eventually(SOON, "the plugin is asked", || shelf.count("Get v1") == 1);
    let mut ours = spawned(&s, &["volume", "create", "-d", "local", "v1"]);
    s.eventually(SOON, "the other waits, or is done", || {
        s.wharf(&["ops"]).stdout.contains("another operation on the volume") || ours.try_wait().unwrap().is_some()
    });
    shelf.recover();
    let made = [&mut theirs, &mut ours].map(|command| command.wait().unwrap().success());
    let listed = s.docker(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]);
    // Theirs is first, unless its plugin had no time to answer.
    let expected = match made {
        [true, false] => ("shelf v1", vec!["v1".to_owned()]),
        [false, true] => ("local v1", Vec::new()),
        both => panic!("{both:?}: {listed}"),
    };
    assert_eq!((listed.ok(), shelf.volumes()), expected);
}

#[test]
fn plugins_are_found_by_spec_files_too_and_may_be_for_something_else() {
    let s = Sandbox::configured(&configuration());
    let dir = s.path("plugins");
    std::fs::create_dir_all(dir.join("deep")).unwrap();
    let far = PluginServer::start_tcp(&dir, "far");
    std::fs::write(dir.join("far.spec"), format!("tcp://127.0.0.1:{}\n", far.port())).unwrap();
    s.docker(&["volume", "create", "-d", "far", "v1"]).ok();
    let described = serde_json::json!({"Name": "deep", "Addr": format!("http://127.0.0.1:{}", far.port())});
    std::fs::write(dir.join("deep/deep.json"), described.to_string()).unwrap();
    s.docker(&["volume", "create", "-d", "deep", "v2"]).ok();
    assert_eq!(far.volumes(), ["v1", "v2"]);
    std::fs::write(dir.join("odd.spec"), "nowhere").unwrap();
    s.docker(&["volume", "create", "-d", "odd", "v3"]).fails(1, "odd.spec");
    let other = PluginServer::start(&dir, "other");
    other.mood("Plugin.Activate", Mood::Babble(r#"{"Implements":["NetworkDriver"]}"#));
    s.docker(&["volume", "create", "-d", "other", "v3"])
        .fails(1, "Plugin does not implement the requested driver: plugin=\"other\"");
    let listed = s.docker(&["volume", "ls"]);
    assert!(listed.ok().contains("v1") && listed.stderr.is_empty(), "{listed}");
    s.docker(&["plugin", "install", "shelf"])
        .fails(1, "managed plugins are not supported by this engine");
}

#[test]
fn a_stopped_container_is_looked_into_and_filled_through_the_plugin() {
    let (s, shelf) = with_shelf();
    let dockerfile = "FROM busybox\nRUN mkdir -p /seed && echo grain >/seed/corn\n";
    s.docker_fed(&["build", "-q", "-t", "seeded", "-"], dockerfile.as_bytes())
        .ok();
    s.docker(&[
        "create",
        "--name",
        "c1",
        "--volume-driver",
        "shelf",
        "-v",
        "v1:/seed",
        "seeded",
        "true",
    ])
    .ok();
    assert_eq!(
        std::fs::read_to_string(shelf.folder("v1").join("corn")).unwrap(),
        "grain\n"
    );
    settled(&s, &shelf);
    assert_eq!(pairs(&shelf.calls()), (1, 1), "mounted to be filled");
    let file = s.path("more");
    std::fs::write(&file, "more\n").unwrap();
    s.docker(&["cp", &file.to_string_lossy(), "c1:/seed/more"]).ok();
    assert_eq!(
        std::fs::read_to_string(shelf.folder("v1").join("more")).unwrap(),
        "more\n"
    );
    let back = s.docker(&["cp", "c1:/seed/more", "-"]);
    assert!(back.ok().contains("more"), "{back}");
    settled(&s, &shelf);
    let (mounts, unmounts) = pairs(&shelf.calls());
    assert!(mounts > 1 && mounts == unmounts, "{mounts} {unmounts}");
    s.docker(&["rm", "c1"]).ok();
    assert_eq!(pairs(&shelf.calls()), (mounts, unmounts));
}

#[test]
fn a_mount_is_given_back_once_whenever_the_engine_is_killed() {
    let (mut s, shelf) = with_shelf();
    s.docker(&["volume", "create", "-d", "shelf", "v1"]).ok();
    let check = |s: &Sandbox, mounts: usize, unmounts: usize, what: &str| {
        s.eventually(SOON, what, || pairs(&shelf.calls()) == (mounts, unmounts));
        assert_eq!(shelf.faults(), Vec::<String>::new(), "{what}");
    };
    // Between Mount and the start of the process.
    s.terminate();
    s.boot_armed("kill:start/mounted");
    s.docker(&[
        "create",
        "--name",
        "c1",
        "-v",
        "v1:/x:nocopy",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    s.docker(&["start", "c1"]);
    assert!(s.ends_within(SOON));
    assert_eq!(shelf.mounted().len(), 1, "the killed engine had it mounted");
    s.boot();
    check(&s, 1, 1, "the next engine unmounts");
    assert_eq!(s.docker(&["inspect", "-f", "{{.State.Status}}", "c1"]).ok(), "created");
    // While it runs: the mount lives as long as the container uses it.
    s.docker(&["start", "c1"]).ok();
    s.kill();
    s.boot();
    s.docker(&["exec", "c1", "touch", "/x/f"]).ok();
    check(&s, 2, 1, "the next engine keeps the mount");
    s.docker(&["stop", "-t", "0", "c1"]).ok();
    check(&s, 2, 2, "and gives it back");
    // It ends while no engine runs.
    s.docker(&["start", "c1"]).ok();
    let pid = s.docker(&["inspect", "-f", "{{.State.Pid}}", "c1"]).ok().to_owned();
    s.kill();
    assert!(
        std::process::Command::new("kill")
            .args(["-KILL", &pid])
            .status()
            .unwrap()
            .success()
    );
    s.boot();
    check(&s, 3, 3, "what ended alone is given back");
    // The engine dies when it has noticed the end, and when it has recorded it.
    for (done, point) in ["kill:end/noticed", "kill:end/recorded", "kill:end/released"]
        .iter()
        .enumerate()
    {
        s.terminate();
        s.boot_armed(point);
        s.docker(&["start", "c1"]).ok();
        s.docker(&["stop", "-t", "0", "c1"]);
        assert!(s.ends_within(SOON), "{point}");
        s.boot();
        check(&s, 4 + done, 4 + done, point);
    }
    // A removal that was interrupted.
    s.docker(&["start", "c1"]).ok();
    s.terminate();
    s.boot_armed("kill:remove/journalled");
    s.docker(&["rm", "-f", "c1"]);
    assert!(s.ends_within(SOON));
    s.boot();
    check(&s, 7, 7, "the removal is completed");
    s.eventually(SOON, "it is removed", || s.docker(&["ps", "-aq"]).ok().is_empty());
    s.docker(&["volume", "rm", "v1"]).ok();
}

#[test]
fn an_unmount_is_sent_again_only_where_its_answer_was_lost() {
    let (mut s, shelf) = with_shelf();
    let use_it = [
        "run",
        "--rm",
        "--volume-driver",
        "shelf",
        "-v",
        "v1:/x:nocopy",
        "busybox",
        "true",
    ];
    s.terminate();
    s.boot_armed("kill:volume-unmount/unmounted");
    s.docker(&use_it);
    assert!(s.ends_within(SOON));
    assert_eq!(
        pairs(&shelf.calls()),
        (1, 1),
        "the killed engine has the answer and no note of it"
    );
    s.boot();
    s.eventually(SOON, "the next engine asks once more", || {
        pairs(&shelf.calls()) == (1, 2)
    });
    let known = ["unmount of v1, which is not mounted by this id"];
    assert_eq!(shelf.faults(), known, "by the same id");
    // Neither the next one nor one that the plugin refuses it to asks a third time.
    s.eventually(SOON, "it is noted", || {
        !s.wharf(&["ops"]).stdout.contains("volume-unmount")
    });
    s.kill();
    s.boot();
    shelf.mood("VolumeDriver.Unmount", Mood::Refuse("what is that?"));
    s.docker(&use_it).ok();
    s.eventually(SOON, "the refusal is noted", || {
        pairs(&shelf.calls()) == (2, 3) && !s.wharf(&["ops"]).stdout.contains("volume-unmount")
    });
    s.kill();
    s.boot();
    shelf.recover();
    s.docker(&use_it).ok();
    s.eventually(SOON, "each of the others is sent once", || {
        pairs(&shelf.calls()) == (3, 4)
    });
    assert_eq!(shelf.faults(), known);
}

/// Listing, inspecting, reading logs and running others go on as if nothing hung.
fn others_go_on(s: &Sandbox) {
    for path in [
        "/containers/json?all=1",
        "/containers/other/json",
        "/containers/other/logs?stdout=1",
    ] {
        let begin = Instant::now();
        assert_eq!(s.api("GET", path, "").0, 200);
        eprintln!("GET {path} beside the hung plugin: {:?}", begin.elapsed());
        assert!(begin.elapsed() < PROMPT, "{path}");
    }
    let mut slowest = Duration::ZERO;
    let mut check = |args: &[&str]| {
        let begin = Instant::now();
        s.docker(args).ok();
        let took = begin.elapsed();
        assert!(took < PROMPT, "{args:?} took {took:?}");
        slowest = slowest.max(took);
    };
    check(&["ps", "-a"]);
    check(&["inspect", "other"]);
    check(&["logs", "other"]);
    check(&["run", "--rm", "busybox", "true"]);
    check(&["run", "--rm", "-v", "local1:/x", "busybox", "true"]);
    check(&["info"]);
    check(&["volume", "ls"]);
    eprintln!("slowest command beside the hung plugin: {slowest:?}");
}

#[test]
fn a_hung_plugin_holds_up_nobody_else_and_what_needs_it_says_so() {
    let (mut s, shelf) = with_shelf();
    let other = ["run", "-d", "--name", "other", "busybox", "sh", "-c"];
    s.docker(&[&other[..], &["echo here; sleep 1000"]].concat()).ok();
    s.docker(&["volume", "create", "-d", "shelf", "v1"]).ok();
    let sleep = ["-v", "v1:/x", "busybox", "sleep", "1000"];
    s.docker(&[&["create", "--name", "stuck"], &sleep[..]].concat()).ok();
    s.docker(&[&["run", "-d", "--name", "user"], &sleep[..]].concat()).ok();
    shelf.hang();
    what_needs_it_fails(&s);
    volumes_are_told_from_memory(&s);
    what_ends_is_told_as_ended(&s);
    the_next_engine_does_not_wait(&mut s);
    shelf.recover();
    all_is_well_again(&s, &shelf);
}

/// A start of `stuck` and a new volume wait for the plugin, are seen to, and fail in time; others go on meanwhile.
fn what_needs_it_fails(s: &Sandbox) {
    let begin = Instant::now();
    let start = spawned(s, &["start", "stuck"]);
    let create = spawned(s, &["volume", "create", "-d", "shelf", "v2"]);
    s.eventually(SOON, "the operations are seen to wait for the plugin", || {
        let ops = s.wharf(&["ops"]).stdout;
        ops.contains("VolumeDriver.Mount of volume v1") && ops.contains("VolumeDriver.Get of volume v2")
    });
    others_go_on(s);
    let silent = "plugin \"shelf\" did not answer VolumeDriver";
    fails_with(start, &["volume 'v1'", &format!("{silent}.Mount within")]);
    fails_with(create, &["create v2", &format!("{silent}.Get within")]);
    assert!(begin.elapsed() < Duration::from_secs(PLUGIN_SECONDS) + SOON);
}

fn volumes_are_told_from_memory(s: &Sandbox) {
    let listed = s.docker(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]);
    assert!(listed.ok().contains("shelf v1"), "what is known is listed: {listed}");
    let (_, answer) = s.api("GET", "/volumes", "");
    let warning = answer["Warnings"][0].as_str().unwrap_or_default().to_owned();
    assert!(warning.starts_with("list shelf: plugin \"shelf\""), "{warning}");
    assert!(s.wharf(&["volume", "ls"]).stderr.contains("WARNING: list shelf"));
}

/// `user` ends; it can be removed when the plugin answers.
fn what_ends_is_told_as_ended(s: &Sandbox) {
    s.docker(&["kill", "user"]).ok();
    s.eventually(SOON, "it is shown as ended", || {
        s.docker(&["inspect", "-f", "{{.State.Status}}", "user"]).ok() == "exited"
    });
    let remove = spawned(s, &["rm", "-f", "user"]);
    others_go_on(s);
    let stuck_on = ["volume v1 is not unmounted", "plugin \"shelf\"", "VolumeDriver.Unmount"];
    fails_with(remove, &stuck_on);
    fails_with(spawned(s, &["volume", "rm", "v1"]), &["v1"]);
}

fn the_next_engine_does_not_wait(s: &mut Sandbox) {
    s.kill();
    let took = s.boot();
    assert!(took < PROMPT, "the engine took {took:?} to start");
    eprintln!("start of an engine beside the hung plugin: {took:?}");
    others_go_on(s);
}

fn all_is_well_again(s: &Sandbox, shelf: &PluginServer) {
    s.docker(&["rm", "-f", "user"]).ok();
    s.eventually(SOON, "it starts again", || s.docker(&["start", "stuck"]).code == 0);
    s.docker(&["rm", "-f", "stuck"]).ok();
    s.eventually(SOON, "all mounts are given back", || shelf.mounted().is_empty());
    s.docker(&["volume", "rm", "v1"]).ok();
    s.docker(&["rm", "-f", "other"]).ok();
}

fn spawned(s: &Sandbox, args: &[&str]) -> Child {
    let mut command = s.docker_command();
    let command = command.args(args).stderr(Stdio::piped()).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn fails_with(command: Child, words: &[&str]) {
    let said = command.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success(), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn what_does_not_need_a_plugin_does_not_ask_it() {
    let (mut s, shelf) = with_shelf();
    let here = ["busybox", "sh", "-c", "echo here; sleep 1000"];
    s.docker(&[&["run", "-d", "--name", "other"], &here[..]].concat()).ok();
    let with = ["run", "-d", "--name", "user", "--volume-driver", "shelf", "-v", "v1:/x"];
    s.docker(&[&with[..], &here].concat()).ok();
    s.docker(&["volume", "create", "local1"]).ok();
    let bind = format!("{}:/x", s.path("").display());
    shelf.hang();
    for engine in ["the engine that knows it", "the next engine"] {
        let asked = shelf.asked();
        let mut slowest = Duration::ZERO;
        let mut check = |args: &[&str]| {
            let begin = Instant::now();
            s.docker(args).ok();
            slowest = slowest.max(begin.elapsed());
            assert_eq!(shelf.asked(), asked, "{engine} asked for {args:?}: {:?}", shelf.calls());
        };
        check(&["ps", "-a"]);
        check(&["ps", "-a", "--filter", "volume=v1"]);
        for name in ["other", "user"] {
            check(&["inspect", name]);
            check(&["logs", name]);
            check(&["exec", name, "true"]);
        }
        check(&["run", "--rm", "busybox", "true"]);
        check(&["run", "--rm", "-v", "local1:/x", "busybox", "true"]);
        check(&["run", "--rm", "-v", "/x", "busybox", "true"]);
        check(&["run", "--rm", "-v", &bind, "busybox", "true"]);
        check(&["restart", "-t", "0", "other"]);
        check(&["info"]);
        check(&["system", "df"]);
        eprintln!("{engine}: slowest command without the plugin that has just hung: {slowest:?}");
        s.kill();
        s.boot();
    }
    shelf.recover();
    s.docker(&["rm", "-f", "-v", "user", "other"]).ok();
    settled(&s, &shelf);
}

#[test]
fn plugins_that_hang_are_asked_for_an_unknown_volume_side_by_side() {
    let (s, shelf) = with_shelf();
    let others: Vec<_> = (0..7)
        .map(|n| PluginServer::start(&s.path("plugins"), &format!("a{n}")))
        .collect();
    s.docker(&["volume", "ls"]).ok(); // all are known, and have answered so far
    for plugin in others.iter().chain([&shelf]) {
        plugin.hang();
    }
    let begin = Instant::now();
    s.docker(&["volume", "inspect", "nobody-s"]).fails(1, "nobody-s");
    let took = begin.elapsed();
    eprintln!("asking eight plugins that hang: {took:?}");
    // Each has two seconds.
    assert!(took < Duration::from_secs(10), "{took:?}");
    for plugin in others.iter().chain([&shelf]) {
        assert_eq!(plugin.count("Get nobody-s"), 1);
        plugin.recover();
    }
}

#[test]
fn a_plugin_that_is_gone_can_be_done_without() {
    let (s, shelf) = with_shelf();
    s.docker(&["volume", "create", "-d", "shelf", "v1"]).ok();
    s.docker(&["volume", "create", "-d", "shelf", "v2"]).ok();
    s.docker(&["run", "-d", "--name", "c1", "-v", "v1:/x", "busybox", "sleep", "1000"])
        .ok();
    drop(shelf);
    let listed = s.docker(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"]);
    assert_eq!(listed.ok(), "shelf v1\nshelf v2");
    let lookup = "error looking up volume plugin shelf: plugin \"shelf\" not found";
    s.docker(&["volume", "inspect", "v1"]).fails(
        1,
        &format!("get v1: error while checking if volume \"v1\" exists in driver \"shelf\": {lookup}"),
    );
    s.docker(&["run", "--rm", "-v", "v1:/x", "busybox", "true"])
        .fails(125, lookup);
    s.docker(&["volume", "rm", "v2"]).fails(1, "plugin \"shelf\" not found");
    s.docker(&["volume", "rm", "-f", "v2"]).ok();
    assert_eq!(s.docker(&["volume", "ls", "-q"]).ok(), "v1");
    s.docker(&["stop", "-t", "0", "c1"]).ok();
    s.docker(&["rm", "c1"]).fails(1, "volume v1 is not unmounted");
    s.docker(&["rm", "-f", "c1"]).ok();
    s.docker(&["volume", "rm", "-f", "v1"]).ok();
    assert_eq!(s.docker(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn a_plugin_that_comes_late_is_waited_for_by_what_needs_it() {
    let (s, shelf) = with_shelf();
    s.docker(&["volume", "create", "-d", "shelf", "v1"]).ok();
    s.docker(&["create", "--name", "c1", "-v", "v1:/x:nocopy", "busybox", "true"])
        .ok();
    drop(shelf);
    let mut start = s.docker_command();
    let mut start = start.args(["start", "-a", "c1"]).spawn().unwrap();
    let shelf = PluginServer::start(&s.path("plugins"), "shelf");
    shelf.make("v1");
    assert!(start.wait().unwrap().success());
    settled(&s, &shelf);
    s.docker(&["rm", "c1"]).ok();
}

#[test]
fn answers_that_are_none_fail_what_asked_and_leave_nothing_mounted() {
    let (s, shelf) = with_shelf();
    s.docker(&["volume", "create", "-d", "shelf", "v1"]).ok();
    s.docker(&["create", "--name", "c1", "-v", "v1:/x:nocopy", "busybox", "true"])
        .ok();
    let start = |mood: Mood, words: &str| {
        shelf.mood("VolumeDriver.Mount", mood);
        let said = s.docker(&["start", "c1"]);
        assert!(said.code == 1 && said.stderr.contains(words), "{words}\n{said}");
        shelf.recover();
        s.eventually(SOON, "nothing stays mounted", || shelf.mounted().is_empty());
    };
    start(
        Mood::Refuse("the shelf is full"),
        "error while mounting volume 'v1': the shelf is full",
    );
    start(
        Mood::Status(500, "<html>no</html>"),
        "VolumeDriver.Mount: <html>no</html>",
    );
    start(
        Mood::Babble("{\"Mountpoint\":"),
        "no valid answer to VolumeDriver.Mount",
    );
    start(
        Mood::Babble("{\"Mountpoint\":\"\"}"),
        "its mountpoint \"\" is not an absolute path",
    );
    start(Mood::Babble("{\"Mountpoint\":\"mnt/a\"}"), "is not an absolute path");
    start(
        Mood::Babble("{\"Mountpoint\":\"/mnt/../etc\"}"),
        "is not an absolute path",
    );
    start(
        Mood::Babble("{\"Mountpoint\":7}"),
        "no valid answer to VolumeDriver.Mount",
    );
    start(Mood::Flood, "is longer than");
    let create = |mood: Mood, words: &str| {
        shelf.mood("VolumeDriver.Create", mood);
        s.docker(&["volume", "create", "-d", "shelf", "v9"]).fails(1, words);
        shelf.recover();
    };
    create(Mood::Refuse("not today"), "create v9: not today");
    create(
        Mood::Status(404, "{\"Err\":\"what?\"}"),
        "create v9: VolumeDriver.Create: what?",
    );
    create(Mood::Flood, "create v9: plugin \"shelf\" gave no valid answer");
    assert_eq!(s.docker(&["volume", "ls", "-q"]).ok(), "v1");
    shelf.mood("VolumeDriver.List", Mood::Babble("[[[["));
    let (status, answer) = s.api("GET", "/volumes", "");
    assert_eq!((status, answer["Volumes"][0]["Name"].as_str()), (200, Some("v1")));
    assert!(
        answer["Warnings"][0]
            .as_str()
            .unwrap_or_default()
            .contains("VolumeDriver.List"),
        "{answer}"
    );
    shelf.recover();
    shelf.mood("VolumeDriver.Remove", Mood::Refuse("it is nailed down"));
    s.docker(&["rm", "c1"]).ok();
    s.docker(&["volume", "rm", "v1"])
        .fails(1, "remove v1: it is nailed down");
    shelf.recover();
    s.docker(&["volume", "rm", "v1"]).ok();
}
