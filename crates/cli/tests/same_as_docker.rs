//! The same command lines through the real docker CLI and through ours, against a fake engine:
//! what is asked of the engine, what is printed, and the exit code must be the same. Docker's
//! CLI is the judge; without it these tests say so and check nothing.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod fake;

use fake::{Answer, FakeEngine, docker, normal, ours};
use serde_json::Value;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Runs a line through both and compares the requests.
fn same_requests(lines: &[&str]) {
    compare(lines, |line, theirs, mine| {
        let requests = |ran: &fake::Ran| -> Vec<(String, Value, Value)> {
            ran.seen
                .iter()
                .filter(|seen| !is_look_first(seen, &ran.seen))
                .map(|seen| {
                    let given = seen.query.iter().filter(|(_, values)| **values != [String::new()]);
                    let query: std::collections::BTreeMap<_, _> = given.collect();
                    (
                        seen.call.replace(ID, "c1"),
                        serde_json::to_value(query).unwrap(),
                        normal(&seen.body),
                    )
                })
                .collect()
        };
        let (mut theirs_seen, mut mine_seen) = (requests(theirs), requests(mine));
        for seen in [&mut theirs_seen, &mut mine_seen] {
            // Several containers are started at once: the calls come in any order.
            if seen.iter().all(|(call, ..)| call.ends_with("/start")) {
                seen.sort_by(|a, b| a.0.cmp(&b.0));
            }
        }
        if theirs_seen != mine_seen || theirs.code != mine.code {
            return Some(difference(line, &theirs_seen, &mine_seen, theirs, mine));
        }
        None
    });
}

/// Docker's CLI looks at a container before it execs in it or reads its logs, and waits for
/// containers that it starts in the background; ours need not.
fn is_look_first(seen: &fake::Seen, all: &[fake::Seen]) -> bool {
    let looks = seen.call == "GET /containers/c1/json" && all.len() > 1;
    looks || (seen.call.ends_with("/wait") && all[0].call == "POST /containers/create")
}

/// Runs a line through both and compares what is printed.
fn same_output(lines: &[&str]) {
    compare(lines, |line, theirs, mine| {
        let same = theirs.stdout == mine.stdout && theirs.code == mine.code;
        (!same).then(|| {
            format!(
                "{line}\n docker ({}):\n{}{}\n ours ({}):\n{}{}\n",
                theirs.code, theirs.stdout, theirs.stderr, mine.code, mine.stdout, mine.stderr
            )
        })
    });
}

/// Runs a line through both and compares the refusal.
fn same_refusal(lines: &[&str]) {
    compare(lines, |line, theirs, mine| {
        let words = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let same = theirs.code == mine.code && words(&theirs.stderr) == words(&mine.stderr);
        (!same || theirs.code == 0).then(|| {
            format!(
                "{line}\n docker ({}): {}\n ours ({}): {}\n",
                theirs.code,
                words(&theirs.stderr),
                mine.code,
                words(&mine.stderr)
            )
        })
    });
}

fn compare(lines: &[&str], judge: impl Fn(&str, &fake::Ran, &fake::Ran) -> Option<String>) {
    let Some(docker) = docker() else {
        eprintln!("NOT CHECKED: there is no docker CLI of version 28 or later on this machine to compare with");
        return;
    };
    let (_dir, ours) = ours();
    let engine = FakeEngine::start(answer);
    let mut differences = Vec::new();
    for line in lines {
        let arguments = words(line);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let theirs = engine.run(&docker, &arguments);
        let mine = engine.run(&ours, &arguments);
        differences.extend(judge(line, &theirs, &mine));
    }
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        lines.len(),
        differences.join("\n")
    );
}

fn difference(
    line: &str,
    theirs: &[(String, Value, Value)],
    mine: &[(String, Value, Value)],
    their_run: &fake::Ran,
    my_run: &fake::Ran,
) -> String {
    let mut text = format!(
        "{line}\n  codes {} {}\n  docker says {}\n  ours says {}\n",
        their_run.code, my_run.code, their_run.stderr, my_run.stderr
    );
    for index in 0..theirs.len().max(mine.len()) {
        match (theirs.get(index), mine.get(index)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => {
                text.push_str(&format!("  docker {} {}\n  ours   {} {}\n", a.0, a.1, b.0, b.1));
                text.push_str(&differing_fields("", &a.2, &b.2));
            }
            (a, b) => text.push_str(&format!("  docker {a:?}\n  ours   {b:?}\n")),
        }
    }
    text
}

fn differing_fields(path: &str, theirs: &Value, mine: &Value) -> String {
    match (theirs, mine) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter()
                .map(|key| {
                    let missing = Value::Null;
                    differing_fields(
                        &format!("{path}.{key}"),
                        a.get(key).unwrap_or(&missing),
                        b.get(key).unwrap_or(&missing),
                    )
                })
                .collect()
        }
        _ if theirs == mine => String::new(),
        _ => format!("    {path}: docker {theirs}, ours {mine}\n"),
    }
}

/// Words of a line; single quotes keep blanks.
fn words(line: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let (mut quoted, mut any) = (false, false);
    for letter in line.chars() {
        match letter {
            '\'' => (quoted, any) = (!quoted, true),
            ' ' if !quoted => {
                if any {
                    found.push(String::new());
                    any = false;
                }
            }
            other => {
                found.last_mut().unwrap().push(other);
                any = true;
            }
        }
    }
    if !any {
        found.pop();
    }
    found
}

fn json(text: impl Into<String>) -> Option<Answer> {
    Some((200, "application/json", text.into()))
}

fn answer(call: &str) -> Option<Answer> {
    let created = |body: &str| Some((201, "application/json", body.to_owned()));
    let done = || Some((204, "text/plain", String::new()));
    match call {
        "POST /containers/create" => created(&format!(r#"{{"Id":"{ID}","Warnings":[]}}"#)),
        "GET /containers/json" => json(include_str!("fake/containers.json")),
        "GET /containers/c1/json" => json(include_str!("fake/container.json")),
        "GET /containers/c1/changes" => {
            json(r#"[{"Path":"/a","Kind":0},{"Path":"/b","Kind":1},{"Path":"/c","Kind":2}]"#)
        }
        "GET /containers/c1/top" => json(
            r#"{"Titles":["PID","USER","COMMAND"],"Processes":[["1","root","sleep 60"],["22","nobody-at-all","sh"]]}"#,
        ),
        "POST /containers/c1/update" => json(r#"{"Warnings":null}"#),
        "POST /containers/c1/wait" => json(r#"{"StatusCode":7}"#),
        "GET /images/json" => json(include_str!("fake/images.json")),
        "GET /images/i1/history" => json(include_str!("fake/history.json")),
        "DELETE /images/i1" => json(r#"[{"Untagged":"i1:latest"},{"Deleted":"sha256:abc"}]"#),
        "POST /images/i1/tag" => Some((201, "text/plain", String::new())),
        "GET /networks" => json(include_str!("fake/networks.json")),
        "POST /networks/create" => created(&format!(r#"{{"Id":"{ID}","Warning":""}}"#)),
        "GET /volumes" => json(
            r#"{"Volumes":[{"CreatedAt":"2026-01-02T03:04:05Z","Driver":"local","Labels":{"a":"b"},"Mountpoint":"/m/v1","Name":"v1","Options":null,"Scope":"local"},{"CreatedAt":"2026-01-02T03:04:05Z","Driver":"other","Labels":null,"Mountpoint":"/m/v0","Name":"v0","Options":null,"Scope":"local"}],"Warnings":null}"#,
        ),
        "POST /volumes/create" => {
            created(r#"{"Name":"v","Driver":"local","Mountpoint":"/m","Labels":null,"Options":null,"Scope":"local"}"#)
        }
        "GET /system/df" => json(include_str!("fake/df.json")),
        "GET /events" => json(include_str!("fake/events.jsonl")),
        "POST /commit" => created(r#"{"Id":"sha256:abc"}"#),
        "POST /containers/prune" => json(r#"{"ContainersDeleted":["abc"],"SpaceReclaimed":12345}"#),
        "POST /images/prune" => {
            json(r#"{"ImagesDeleted":[{"Untagged":"x:1"},{"Deleted":"sha256:d"}],"SpaceReclaimed":1000}"#)
        }
        "POST /networks/prune" => json(r#"{"NetworksDeleted":["n1"]}"#),
        "POST /volumes/prune" => json(r#"{"VolumesDeleted":["v1"],"SpaceReclaimed":5}"#),
        "POST /build/prune" => json(r#"{"CachesDeleted":null,"SpaceReclaimed":0}"#),
        _ if call == format!("POST /containers/{ID}/start") => done(),
        "POST /containers/c1/exec" => created(r#"{"Id":"e1"}"#),
        "POST /exec/e1/start" => json(""),
        "GET /volumes/v1" => json(
            r#"{"CreatedAt":"2026-01-02T03:04:05Z","Driver":"local","Labels":{"a":"x","z":"1"},"Mountpoint":"/m","Name":"v1","Options":null,"Scope":"local"}"#,
        ),
        "GET /networks/n1" => json(r#"{"Name":"n1","Id":"abc","Containers":{}}"#),
        _ if call.starts_with("POST /containers/c") || call.starts_with("DELETE /") => done(),
        _ if call.starts_with("POST /networks/") => Some((200, "text/plain", String::new())),
        _ => None,
    }
}

#[test]
fn create_sends_the_same_body() {
    same_requests(&[
        "create busybox",
        "create busybox sh -c 'echo hi'",
        "create --name x -it busybox sh",
        "create -e A=1 -e FROM_HERE -e NOT_SET -e EMPTY= busybox",
        "create -l a=b -l c --label d=e=f busybox",
        "create -p 80 -p 8080:80 -p 127.0.0.1:9000-9002:90-92/udp -p '[::1]:1:1' --expose 70-72/sctp -P busybox",
        "create -v /a:/b -v /c -v name:/d:ro --tmpfs /t:size=1m --tmpfs /u --volumes-from other:ro busybox",
        "create --mount type=bind,source=/a,target=/b,readonly --mount type=volume,src=vol,dst=/c,volume-nocopy,volume-opt=o=p busybox",
        "create --mount type=tmpfs,dst=/t,tmpfs-size=10m,tmpfs-mode=1770 --mount type=volume,dst=/anon busybox",
        "create --mount type=bind,src=/a,dst=/b,bind-propagation=rslave,bind-recursive=disabled busybox",
        "create --mount type=image,src=alpine,dst=/i,image-subpath=etc busybox",
        "create -m 512m --memory-swap -1 --memory-reservation 10m --memory-swappiness 10 --kernel-memory 5m --oom-kill-disable --oom-score-adj -5 busybox",
        "create --cpus 1.5 -c 512 --cpu-period 1000 --cpu-quota 500 --cpuset-cpus 0-1 --cpuset-mems 0 --cpu-rt-period 5 --cpu-rt-runtime 4 busybox",
        "create --pids-limit 10 --ulimit nofile=10:20 --ulimit core=-1 --shm-size 1g --sysctl net.a=1 --sysctl kernel.shmmax=5 busybox",
        "create --blkio-weight 100 --blkio-weight-device /dev/sda:200 --device-read-bps /dev/sda:1mb --device-write-iops /dev/sda:7 busybox",
        "create --device /dev/null --device /dev/zero:/dev/z:r --device-cgroup-rule 'c 1:3 rwm' --gpus all busybox",
        "create --device vendor.com/class=name --gpus '\"device=0,1\",capabilities=utility' busybox",
        "create --cap-add NET_ADMIN --cap-add sys_time --cap-drop ALL --privileged --read-only busybox",
        "create --security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt systempaths=unconfined --security-opt label:disable busybox",
        "create --network host busybox",
        "create --network bridge busybox",
        "create --network mynet --network-alias a --network-alias b --ip 10.0.0.5 --ip6 fd00::5 --link other:o busybox",
        "create --network name=one,alias=x,driver-opt=a=b,gw-priority=5 --network two busybox",
        "create --network container:abc --ipc container:abc --pid container:abc busybox",
        "create --net mynet --net-alias z --mac-address 02:42:ac:11:00:02 busybox",
        "create --mac-address 02:42:ac:11:00:02 busybox",
        "create --ipc host --pid host --uts host --userns host --cgroupns private busybox",
        "create --link-local-ip 169.254.1.2 --network n busybox",
        "create --dns 1.1.1.1 --dns-search example.com --dns-option ndots:1 --add-host a:1.2.3.4 --add-host b=::1 --add-host c:host-gateway busybox",
        "create --health-cmd 'exit 0' --health-interval 5s --health-timeout 1m --health-retries 3 --health-start-period 2s --health-start-interval 1s busybox",
        "create --no-healthcheck busybox",
        "create --restart always busybox",
        "create --restart on-failure:3 busybox",
        "create --rm busybox",
        "create --log-driver json-file --log-opt max-size=1m --log-opt max-file=3 busybox",
        "create --entrypoint /bin/x --user 1000:1000 -w /w --hostname h --domainname d --init --stop-signal INT --stop-timeout 5 busybox",
        "create --entrypoint '' busybox",
        "create --group-add 5 --group-add audio --runtime runc --annotation a=b --storage-opt size=1g --cgroup-parent /x --isolation default busybox",
        "create --volume-driver local --attach stdin --attach STDOUT busybox",
        "create -a stderr busybox",
        "create --platform linux/amd64 busybox",
        "create --init=false --tty=false busybox",
        "create --pull never busybox",
        "container create --quiet busybox",
        "run -d busybox sleep 1",
        "run -d --rm --name x busybox",
        "run --detach=true -it busybox",
    ]);
}

#[test]
fn the_same_flags_are_refused_in_the_same_words() {
    same_refusal(&[
        "run --nosuch busybox",
        "run -y busybox",
        "run --memory",
        "run --memory abc busybox",
        "run --memory 5x busybox",
        "run -c abc busybox",
        "run --rm=maybe busybox",
        "run --health-interval 5 busybox",
        "run --health-interval 5y busybox",
        "run --health-interval=-5s busybox",
        "run --no-healthcheck --health-cmd x busybox",
        "run --cpus 1.23456789012 busybox",
        "run --cpus abc busybox",
        "run --blkio-weight 99999 busybox",
        "run --blkio-weight-device x busybox",
        "run --device-read-bps /dev/a busybox",
        "run --device-read-bps /dev/a:x busybox",
        "run --device-read-iops /dev/a:-1 busybox",
        "run --add-host x busybox",
        "run --add-host x:y busybox",
        "run --dns x busybox",
        "run --ulimit x=1 busybox",
        "run --ulimit nofile busybox",
        "run --ulimit nofile=5:1 busybox",
        "run --sysctl kernel.panic=1 busybox",
        "run --attach other busybox",
        "run --mount type=bind busybox",
        "run --mount x=y busybox",
        "run --mount type=bind,dst=/a,volume-nocopy busybox",
        "run --mount type=bind,dst=/a,ro=maybe busybox",
        "run --network name=a,x=y busybox",
        "run --network a --network a busybox",
        "run --network a --network host busybox",
        "run --mac-address zz busybox",
        "run -p x busybox",
        "run -p 1:x busybox",
        "run -p 99999 busybox",
        "run -p 80/abc busybox",
        "run -p 1.2.3:80:80 busybox",
        "run -p 1-2:3-5 busybox",
        "run --expose 1:2 busybox",
        "run --expose x busybox",
        "run --pid x busybox",
        "run --uts x busybox",
        "run --userns x busybox",
        "run --cgroupns x busybox",
        "run --restart :3 busybox",
        "run --restart on-failure:x busybox",
        "run --restart always --rm busybox",
        "run --security-opt x busybox",
        "run --security-opt seccomp=/nonexistent busybox",
        "run --storage-opt x busybox",
        "run --log-driver none --log-opt a=b busybox",
        "run --memory-swappiness 101 busybox",
        "run --env-file /nonexistent busybox",
        "run --label =x busybox",
        "run -e =x busybox",
        "run --device x:y:z:w busybox",
        "run --device /dev/null:/a:q busybox",
        "run --device-cgroup-rule x busybox",
        "run --gpus x=y busybox",
        "run --link a:b:c busybox",
        "run --pull sometimes busybox",
        "run -d -a stdout busybox",
        "run",
        "create",
        "run -it busybox",
        "ps extra",
        "ps --nosuch",
        "ps --filter x",
        "rm",
        "rename a",
        "inspect",
        "nosuch",
        "container nosuch",
        "-x",
        "exec c1",
        "start -a c1 c2",
        "stop -t x c1",
        "logs",
        "logs a b",
        "pull UPPER",
        "pull -a x:1",
        "tag a B",
        "update c1",
        "update --restart on-failure:x c1",
        "network create",
        "network create --gateway 1.2.3.4 n",
        "network create --subnet 10.0.0.0/8 --subnet 10.1.0.0/16 n",
        "network create --subnet 10.0.0.0/8 --gateway 11.0.0.1 n",
        "cp a b",
        "cp c1:/a c2:/b",
        "port c1 99",
        "load -i /nonexistent",
    ]);
}

#[test]
fn other_verbs_ask_the_same() {
    same_requests(&[
        "ps -a",
        "ps -n 2 --no-trunc -q",
        "ps -l",
        "ps -s --filter status=running --filter label=a=b --filter label=c",
        "ps --format '{{.ID}} {{.Size}}'",
        "images -a --filter dangling=true",
        "images busy*",
        "image ls --digests",
        "history --no-trunc i1",
        "rmi -f i1",
        "rmi --no-prune i1",
        "tag i1 me/other:2",
        "tag i1 other",
        "network ls --filter driver=bridge -q",
        "network create n",
        "network create -d bridge --subnet 10.1.0.0/16 --subnet fd00::/64 --gateway 10.1.0.1 --ip-range 10.1.5.0/24 --aux-address a=10.1.0.9 -o a=b --label l=1 --internal --attachable --ipv6 --ipv4=false n",
        "network create --config-only --ipam-driver x --ipam-opt y=z --scope local --config-from c n",
        "network connect n c1",
        "network connect --alias a,b --ip 10.0.0.5 --ip6 fd00::5 --link x:y --link-local-ip 1.2.3.4 --driver-opt a=b --gw-priority 3 n c1",
        "network disconnect -f n c1",
        "network prune -f --filter label=a",
        "volume create",
        "volume create -d local -o type=tmpfs -o device=tmpfs --label a=b v",
        "volume ls -f dangling=true -q",
        "volume rm -f v1",
        "volume prune -f",
        "volume prune -a -f --filter label=x",
        "container prune -f --filter until=1h",
        "image prune -f",
        "image prune -a -f --filter label!=x",
        "system prune -f",
        "system prune -a -f --volumes",
        "system df",
        "builder prune -f",
        "stop -t 5 -s INT c1",
        "stop --time 3 c1",
        "restart -t -1 c1",
        "kill c1",
        "kill -s HUP c1",
        "pause c1",
        "unpause c1",
        "rm -f -v c1",
        "rm -l c1",
        "rename c1 x",
        "start c1 c2",
        "wait c1",
        "diff c1",
        "top c1 aux -w",
        "port c1",
        "update -m 1g --cpus 2 --restart on-failure:2 --pids-limit 7 c1",
        "update --cpu-shares 5 --cpuset-cpus 1 --memory-swap -1 --blkio-weight 10 c1",
        "commit c1",
        "commit -a me -m text -c 'CMD x' -c 'ENV a=b' --pause=false c1 me/img:3",
        "inspect -s c1",
        "inspect v1",
        "inspect --type volume v1",
        "container inspect c1",
        "stop c2",
        "events --since 10 --until 1700000000 --filter type=container",
    ]);
}

#[test]
fn exec_and_logs_ask_the_same() {
    same_requests(&[
        "exec -d c1 true",
        "exec -d -e A=1 -e FROM_HERE -u 5 -w /x --privileged c1 sh -c 'a b'",
        "exec -d --detach-keys ctrl-a c1 sh",
        "logs --tail 5 --since 2024-01-02T03:04:05Z --until 1700000000.5 -t --details c1",
        "logs -f c1",
    ]);
}

#[test]
fn lists_print_the_same() {
    same_output(&[
        "ps",
        "ps -a --no-trunc",
        "ps -q",
        "ps -s",
        "ps --format json",
        "ps --format 'table {{.Names}}\\t{{.Image}}\\t{{.Ports}}'",
        "ps --format '{{.ID}} {{.Names}} {{.Labels}} {{.Label \"a\"}} {{.Mounts}} {{.Networks}} {{.LocalVolumes}}'",
        "ps --format '{{json .}}'",
        "ps --format '{{upper .Names}} {{.State}} {{.RunningFor}} {{.CreatedAt}}'",
        "ps --format '{{.Nothing}}'",
        "images",
        "images --digests",
        "images --no-trunc",
        "images -q",
        "images --format '{{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}} {{.Size}} {{.CreatedAt}}'",
        "images --format json",
        "history i1",
        "history --no-trunc -H=false i1",
        "history -q i1",
        "history --format '{{.ID}} {{.CreatedAt}} {{.Comment}}' i1",
        "network ls",
        "network ls --no-trunc",
        "network ls --format '{{.Name}} {{.IPv6}} {{.Internal}} {{.Labels}} {{.CreatedAt}}'",
        "network ls --format json",
        "volume ls",
        "volume ls -q",
        "volume ls --format '{{.Name}} {{.Mountpoint}} {{.Labels}} {{.Size}}'",
        "volume ls --format json",
        "system df",
        "system df -v",
        "system df --format '{{.Type}} {{.TotalCount}} {{.Size}} {{.Reclaimable}}'",
        "system df --format json",
        "events --since 0 --until 1",
        "events --since 0 --until 1 --format json",
        "events --since 0 --until 1 --format '{{.Type}} {{.Action}} {{.Actor.ID}} {{json .Actor.Attributes}}'",
        "diff c1",
        "top c1",
        "port c1",
        "port c1 80",
        "port c1 80/udp",
        "wait c1",
        "rmi i1",
        "container prune -f",
        "image prune -f",
        "network prune -f",
        "volume prune -f",
        "system prune -f --volumes",
        "inspect c1",
        "inspect -f '{{.State.Status}} {{.ID}} {{.HostConfig.Memory}} {{.Config.Env}} {{.Config.StopSignal}}|' c1",
        "inspect -f '{{json .State}} {{json .NetworkSettings.Ports}} {{json .Config.Cmd}} {{json .Mounts}}' c1",
        "inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}' c1",
        "inspect -f '{{index .Config.Labels \"a\"}} {{len .Mounts}} {{.Name}} {{.RestartCount}} {{.HostConfig.RestartPolicy.Name}}' c1",
        "inspect -f json c1",
        "volume inspect v1",
        "volume inspect -f '{{json .Labels}}' v1",
        "inspect nosuch c1",
        "container inspect nosuch",
    ]);
}
