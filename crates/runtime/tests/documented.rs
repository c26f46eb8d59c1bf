//! docs/compat/oci-runtime.md names every field of config.json, and only
//! tests that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page() -> String {
    read(&project().join("docs/compat/oci-runtime.md"))
}

/// `foo_bar` as `fooBar`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        all + &head.to_uppercase() + tail
    })
}

/// Property names of the types that config.json is read into.
fn properties() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in ["mod", "process", "linux", "resources"] {
        let text = read(&project().join(format!("crates/runtime/src/spec/{file}.rs")));
        let mut renamed = None;
        for line in text.lines().map(str::trim) {
            if let Some((_, rest)) = line.split_once("rename = \"") {
                renamed = rest.split('"').next().map(str::to_owned);
            }
            let field = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": "));
            if let Some((name, _)) = field.filter(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            {
                found.insert(renamed.take().unwrap_or_else(|| camel_case(name)));
            }
        }
    }
    found
}

#[test]
fn every_field_of_the_specification_has_its_place() {
    let page = page();
    // Between backticks, as words of a path or alone.
    let words: BTreeSet<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric()))
        .collect();
    let properties = properties();
    assert!(properties.len() > 100, "the types were read: {properties:?}");
    let missing: Vec<_> = properties
        .iter()
        .filter(|name| !words.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}

fn sources(directory: &Path, found: &mut String) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&read(&path));
        }
    }
}

#[test]
fn every_test_it_names_exists() {
    let mut code = String::new();
    for part in [
        "crates/runtime/src",
        "crates/runtime/tests",
        "crates/cgroup/src",
        "crates/cgroup/tests",
    ] {
        sources(&project().join(part), &mut code);
    }
    let page = page();
    // Further below are the programs of others.
    let (ours, _) = page.split_once("\n## Suites\n").expect("a part on suites");
    let is_name = |word: &&str| {
        word.matches('_').count() > 1
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
    };
    let named: BTreeSet<&str> = ours
        .split('*')
        .skip(1)
        .step_by(2)
        .flat_map(|text| text.split([' ', ',', ';', ':', '\n']))
        .filter(is_name)
        .collect();
    assert!(named.len() > 50, "the page was read: {named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !code.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "there is no such test: {missing:?}");
}
