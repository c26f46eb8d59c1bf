//! Dockerfiles built by the unmodified `docker build` on the classic endpoint.

use std::path::PathBuf;
use wharf_testkit::{Output, Sandbox};

fn context(s: &Sandbox, files: &[(&str, &str)]) -> PathBuf {
    let dir = s.path("context");
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn build(s: &Sandbox, files: &[(&str, &str)], flags: &[&str]) -> Output {
    let dir = context(s, files).to_string_lossy().into_owned();
    s.docker(&[&["build", "-t", "built"], flags, &[&dir]].concat())
}

#[test]
fn every_instruction_leaves_its_mark() {
    let s = Sandbox::with_busybox();
    let dockerfile = r#"ARG BASE=busybox
FROM $BASE AS maker
RUN mkdir /out && echo made > /out/made
FROM busybox
ARG WHO=nobody
ENV GREETING="hello $WHO"
LABEL tier=web
WORKDIR /srv
COPY --from=maker /out/made ./
COPY --chown=www-data:www-data a.txt b.txt ./
ADD packed.tar /unpacked/
RUN echo "$GREETING" > greeting
USER www-data
EXPOSE 8080
VOLUME /data
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["cat made greeting; stat -c %U a.txt; cat /unpacked/inside; id -un"]
"#;
    let packed = s.path("pack");
    std::fs::create_dir_all(&packed).unwrap();
    std::fs::write(packed.join("inside"), "inside\n").unwrap();
    let dir = context(&s, &[("Dockerfile", dockerfile), ("a.txt", "a"), ("b.txt", "b")]);
    wharf_testkit::image::pack(&packed, &dir.join("packed.tar")).unwrap();
    s.docker(&["build", "-t", "built", "--build-arg", "WHO=you", &dir.to_string_lossy()])
        .ok();
    assert_eq!(
        s.docker(&["run", "--rm", "built"]).ok(),
        "made\nhello you\nwww-data\ninside\nwww-data"
    );
    let config = s.docker(&[
        "inspect",
        "-f",
        "{{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{json .Config.Labels}} {{.Config.WorkingDir}}",
        "built",
    ]);
    assert_eq!(config.ok(), r#"{"8080/tcp":{}} {"/data":{}} {"tier":"web"} /srv"#);
}

#[test]
fn a_second_build_comes_from_the_cache_until_content_changes() {
    let s = Sandbox::with_busybox();
    let files = [("Dockerfile", "FROM busybox\nCOPY f /f\nRUN cat /f > /g\n"), ("f", "1")];
    let id = |s: &Sandbox| s.docker(&["images", "-q", "--no-trunc", "built"]).ok().to_owned();
    build(&s, &files, &[]).ok();
    let first = id(&s);
    assert_eq!(build(&s, &files, &[]).ok().matches("Using cache").count(), 2);
    assert_eq!(id(&s), first);
    let changed = build(&s, &[files[0], ("f", "2")], &[]);
    assert_eq!(changed.ok().matches("Using cache").count(), 0);
    assert_ne!(id(&s), first);
}

#[test]
fn a_dockerignore_keeps_files_out() {
    let s = Sandbox::with_busybox();
    let files = [
        (
            "Dockerfile",
            "FROM busybox\nCOPY . /c\nRUN find /c -type f | sort > /list\n",
        ),
        (
            ".dockerignore",
            "*.log\n!keep.log\nsub/**/skip\n.dockerignore\nDockerfile\n",
        ),
        ("a.log", ""),
        ("keep.log", ""),
        ("sub/x/skip", ""),
        ("sub/x/take", ""),
    ];
    build(&s, &files, &[]).ok();
    assert_eq!(
        s.docker(&["run", "--rm", "built", "cat", "/list"]).ok(),
        "/c/keep.log\n/c/sub/x/take"
    );
}

#[test]
fn a_failing_step_fails_the_build_and_leaves_nothing() {
    let s = Sandbox::with_busybox();
    let out = build(&s, &[("Dockerfile", "FROM busybox\nRUN exit 3\n")], &[]);
    out.fails(3, "returned a non-zero code: 3");
    assert_eq!(s.docker(&["ps", "-aq"]).ok(), "");
    assert_eq!(s.docker(&["images", "-q", "built"]).ok(), "");
}

#[test]
fn two_identical_builds_at_once_beside_a_prune_both_succeed() {
    let s = Sandbox::with_busybox();
    let dir = context(
        &s,
        &[("Dockerfile", "FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\n")],
    );
    let start = |tag: &str| {
        s.docker_command()
            .args(["build", "-t", tag])
            .arg(&dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut builds: Vec<_> = ["one", "two", "three"].into_iter().map(start).collect();
    s.docker(&["image", "prune", "-f"]).ok();
    for build in &mut builds {
        assert!(build.wait().unwrap().success());
    }
    assert_eq!(s.docker(&["run", "--rm", "two", "cat", "/1", "/2"]).ok(), "1\n2");
}
