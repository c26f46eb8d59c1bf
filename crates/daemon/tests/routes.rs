//! The routes of images, networks, volumes and system over a real engine, by raw HTTP and by the
//! `docker` CLI.

use serde_json::{Value, json};
use wharf_testkit::{Sandbox, http};

/// A request that must answer with `status`; its JSON.
#[track_caller]
fn expect(sandbox: &Sandbox, status: u16, method: &str, path: &str, body: &Value) -> Value {
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let (found, answer) = sandbox.api(method, path, &text);
    assert_eq!(found, status, "{method} {path} {body}: {answer}");
    answer
}

#[test]
fn versions_are_negotiated_and_unknown_routes_say_so() {
    let sandbox = Sandbox::start();
    let check = |path: &str, status: u16, message: &str| {
        let answer = expect(&sandbox, status, "GET", path, &Value::Null);
        let told = answer["message"].as_str().unwrap_or_default();
        assert!(told.contains(message), "{path}: {told}");
    };
    check("/v1.24/version", 200, "");
    check("/v1.51/version", 200, "");
    check(
        "/v1.52/version",
        400,
        "client version 1.52 is too new. Maximum supported API version is 1.51",
    );
    check(
        "/v1.9/version",
        400,
        "client version 1.9 is too old. Minimum supported API version is 1.24",
    );
    check("/nosuch", 404, "page not found");
    check("/v1.50/nosuch", 404, "page not found");
    check("/vbanana/version", 404, "page not found");
    let unknown = http::request(&sandbox.socket(), "GET", "/nosuch", b"").expect("an answer");
    assert!(!unknown.head.contains("Api-Version:"), "{}", unknown.head);
    let known = http::request(&sandbox.socket(), "GET", "/v1.30/images/json", b"").expect("an answer");
    for header in [
        "Api-Version: 1.51",
        "Ostype: linux",
        "Docker-Experimental: false",
        "Content-Type: application/json\r\n",
    ] {
        assert!(known.head.contains(header), "{header} is missing in {}", known.head);
    }
}

#[test]
fn networks_are_created_checked_and_removed() {
    let sandbox = Sandbox::start();
    let create = |body: Value, status: u16| expect(&sandbox, status, "POST", "/networks/create", &body);
    create(json!({}), 400);
    create(json!({"Name": "bridge"}), 403);
    create(json!({"Name": "x", "Driver": "host"}), 403);
    create(json!({"Name": "x", "Driver": "nodriver"}), 404);
    create(json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "banana"}]}}), 400);
    create(json!({"Name": "x", "ConfigFrom": {"Network": "none-such"}}), 404);
    let pool = json!({"Config": [{"Subnet": "10.211.7.0/24", "Gateway": "10.211.7.9"}]});
    create(json!({"Name": "n", "Labels": {"k": "v"}, "IPAM": pool}), 201);
    create(json!({"Name": "n"}), 409);
    create(
        json!({"Name": "m", "IPAM": {"Config": [{"Subnet": "10.211.7.0/25"}]}}),
        403,
    );
    let found = expect(&sandbox, 200, "GET", "/networks/n", &Value::Null);
    assert_eq!(found["IPAM"]["Config"], pool["Config"]);
    assert_eq!(
        (&found["Labels"], &found["Containers"]),
        (&json!({"k": "v"}), &json!({}))
    );
    let listed = expect(
        &sandbox,
        200,
        "GET",
        "/networks?filters=%7B%22label%22%3A%5B%22k%22%5D%7D",
        &Value::Null,
    );
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(listed[0].get("Containers"), None);
    expect(
        &sandbox,
        400,
        "GET",
        "/networks?filters=%7B%22bogus%22%3A%5B%22k%22%5D%7D",
        &Value::Null,
    );
    expect(&sandbox, 403, "DELETE", "/networks/bridge", &Value::Null);
    let id = found["Id"].as_str().expect("an id");
    expect(
        &sandbox,
        204,
        "DELETE",
        &format!("/networks/{}", &id[..12]),
        &Value::Null,
    );
    expect(&sandbox, 404, "DELETE", "/networks/n", &Value::Null);
}

#[test]
fn networks_outlive_their_engine() {
    let mut sandbox = Sandbox::start();
    sandbox
        .docker(&["network", "create", "--subnet", "10.211.8.0/24", "n"])
        .ok();
    let before = sandbox.api("GET", "/networks", "").1;
    sandbox.kill();
    sandbox.boot();
    assert_eq!(sandbox.api("GET", "/networks", "").1, before);
}

#[test]
fn volumes_are_created_once_and_removed() {
    let sandbox = Sandbox::start();
    let create = |body: Value, status: u16| expect(&sandbox, status, "POST", "/volumes/create", &body);
    for bad in ["a", "-ab", "a/b", "../bad"] {
        create(json!({"Name": bad}), 400);
    }
    create(json!({"Name": "v1", "Driver": "nodriver"}), 404);
    let first = create(json!({"Name": "v1", "Labels": {"a": "b"}}), 201);
    assert_eq!(first["Labels"], json!({"a": "b"}));
    assert_eq!(create(json!({"Name": "v1"}), 201), first);
    let anonymous = create(json!({}), 201);
    assert_eq!(anonymous["Name"].as_str().map(str::len), Some(64));
    let (_, pruned) = sandbox.api("POST", "/volumes/prune", "");
    assert_eq!(pruned["VolumesDeleted"], json!([anonymous["Name"]]));
    expect(&sandbox, 204, "DELETE", "/volumes/v1", &Value::Null);
    expect(&sandbox, 404, "DELETE", "/volumes/v1", &Value::Null);
    expect(&sandbox, 204, "DELETE", "/volumes/v1?force=1", &Value::Null);
}

#[test]
fn images_are_imported_tagged_saved_loaded_and_removed() {
    let sandbox = Sandbox::with_busybox();
    sandbox.docker(&["tag", "busybox", "localhost:5000/a/b:t"]).ok();
    let by_name = expect(&sandbox, 200, "GET", "/images/localhost:5000/a/b:t/json", &Value::Null);
    let encoded = expect(
        &sandbox,
        200,
        "GET",
        "/images/localhost%3A5000%2Fa%2Fb%3At/json",
        &Value::Null,
    );
    assert_eq!(by_name, encoded);
    assert_eq!(by_name["RepoTags"], json!(["busybox:latest", "localhost:5000/a/b:t"]));
    let tar = sandbox.path("saved.tar");
    sandbox
        .docker(&["save", "-o", &tar.to_string_lossy(), "localhost:5000/a/b:t"])
        .ok();
    let removed = expect(&sandbox, 200, "DELETE", "/images/localhost:5000/a/b:t", &Value::Null);
    assert_eq!(removed, json!([{"Untagged": "localhost:5000/a/b:t"}]));
    let loaded = sandbox.docker(&["load", "-i", &tar.to_string_lossy()]);
    assert!(loaded.ok().contains("Loaded image: localhost:5000/a/b:t"));
    let listed = sandbox.docker(&[
        "images",
        "--filter",
        "reference=localhost:5000/*/*",
        "--format",
        "{{.Tag}}",
    ]);
    assert_eq!(listed.ok().trim(), "t");
    expect(&sandbox, 400, "POST", "/images/busybox/tag?repo=UPPER", &Value::Null);
    let missing = expect(&sandbox, 404, "GET", "/images/none/json", &Value::Null);
    assert_eq!(missing["message"], "No such image: none:latest");
}

#[test]
fn the_embedded_image_needs_no_registry() {
    let sandbox = Sandbox::start();
    let pulled = sandbox.docker(&["pull", "-q", "hello"]);
    assert_eq!(pulled.ok().trim(), "docker.io/library/hello:latest");
    let cmd = sandbox.docker(&["image", "inspect", "-f", "{{json .Config.Cmd}}", "hello"]);
    assert_eq!(cmd.ok().trim(), "[\"/hello\"]");
}

#[test]
fn pulls_that_cannot_work_end_with_a_status() {
    let sandbox = Sandbox::start();
    let pull = |query: &str| sandbox.api("POST", &format!("/images/create?{query}"), "").0;
    assert_eq!(pull("fromImage=UPPER"), 400);
    assert_eq!(pull("fromSrc=http://x/y.tar"), 501);
    assert_eq!(pull(""), 400);
    assert!(pull("fromImage=127.0.0.1:1/none&tag=x") >= 400);
}

#[test]
fn bodies_must_be_sound_json_of_the_right_shape() {
    let sandbox = Sandbox::start();
    let send = |path: &str, body: &str| sandbox.api("POST", path, body).0;
    for body in [
        "[]",
        "null",
        "\"x\"",
        "5",
        "{",
        "{}{}",
        "{} x",
        "{\"Name\":5}",
        "{\"IPAM\":[]}",
        "{\"Labels\":[\"a\"]}",
    ] {
        assert_eq!(send("/networks/create", body), 400, "{body}");
    }
    assert_eq!(send("/containers/create", "{\"Image\":\"x\",\"Cmd\":\"sleep 5\"}"), 400);
    assert_eq!(send("/containers/create", "{\"Image\":\"x\",\"HostConfig\":[]}"), 400);
}

#[test]
fn swarm_and_plugins_answer_as_outside_a_swarm() {
    let sandbox = Sandbox::start();
    for path in ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"] {
        let answer = expect(&sandbox, 503, "GET", path, &Value::Null);
        assert!(
            answer["message"]
                .as_str()
                .is_some_and(|m| m.starts_with("This node is not a swarm manager."))
        );
    }
    assert_eq!(expect(&sandbox, 200, "GET", "/plugins", &Value::Null), json!([]));
}

#[test]
fn the_docker_cli_reads_version_and_info() {
    let sandbox = Sandbox::start();
    let version = sandbox.docker(&["version", "-f", "{{.Server.APIVersion}} {{.Server.Platform.Name}}"]);
    assert_eq!(version.ok().trim(), "1.51 Wharf");
    let info = sandbox.docker(&["info", "-f", "{{.OSType}} {{.Swarm.LocalNodeState}} {{.DockerRootDir}}"]);
    assert_eq!(info.ok().trim(), format!("linux inactive {}", sandbox.root().display()));
}
