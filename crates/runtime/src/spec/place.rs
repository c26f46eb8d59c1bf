//! Places in a configuration's text, as its users call them: fields, not
//! columns.

use serde_json::Value;
use std::fmt::Write as _;

/// Longer names are cut: they are the author's own.
const MAX_NAME: usize = 64;
/// Deeper places are cut: no field lies there.
const MAX_DEPTH: usize = 16;
/// Sections whose texts reach the kernel. Annotations and what the
/// specification does not know may hold anything.
const SECTIONS: [&str; 7] = ["process", "root", "hostname", "domainname", "mounts", "hooks", "linux"];

/// Fields that are objects.
const OBJECTS: [&str; 21] = [
    "blockIO",
    "capabilities",
    "consoleSize",
    "cpu",
    "execCPUAffinity",
    "hooks",
    "intelRdt",
    "ioPriority",
    "linux",
    "memory",
    "memoryPolicy",
    "network",
    "personality",
    "pids",
    "process",
    "resources",
    "root",
    "scheduler",
    "seccomp",
    "timeOffsets",
    "user",
];
/// Fields that are lists of objects.
const LISTS: [&str; 23] = [
    "args",
    "createContainer",
    "createRuntime",
    "devices",
    "gidMappings",
    "hugepageLimits",
    "mounts",
    "namespaces",
    "poststart",
    "poststop",
    "prestart",
    "priorities",
    "rlimits",
    "startContainer",
    "syscalls",
    "throttleReadBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteBpsDevice",
    "throttleWriteIOPSDevice",
    "uidMappings",
    "weightDevice",
    "env",
    "options",
];

/// The field at which reading stopped.
pub(crate) fn of_error(text: &[u8], error: &serde_json::Error) -> String {
    let before = text.split(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    let line: usize = before.map(|line| line.len() + 1).sum();
    let end = (line + error.column()).min(text.len());
    let mut walk = Walk::new(&text[..end]);
    walk.find(|_| false);
    walk.place()
}

/// The first list where the specification has an object, which would be
/// taken for the object's values in order.
pub(super) fn of_list_for_object(text: &[u8]) -> Option<String> {
    let mut walk = Walk::new(text);
    walk.find(Walk::is_list_for_object).then(|| walk.place())
}

/// The first field of a known section whose text holds a NUL byte.
pub(super) fn of_nul(text: &[u8]) -> Option<String> {
    // A NUL can only be written as an escape; nearly no configuration holds one.
    text.windows(6).any(|part| part == b"\\u0000").then_some(())?;
    let value: Value = serde_json::from_slice(text).ok()?;
    let mut sections = value.as_object()?.iter();
    sections.find_map(|(name, value)| {
        let is_known = SECTIONS.contains(&name.as_str());
        is_known.then(|| nul_below(name, value)).flatten()
    })
}

fn nul_below(place: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(|| place.to_owned()),
        Value::Array(list) => {
            let mut items = list.iter().enumerate();
            items.find_map(|(index, item)| nul_below(&format!("{place}[{index}]"), item))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, item)| {
            if name.contains('\0') {
                return Some(place.to_owned());
            }
            nul_below(&format!("{place}.{name}"), item)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// One level of nesting around the present position.
#[derive(Debug, Clone, Copy)]
enum Level<'a> {
    /// In an object: the last name, and whether its value has begun.
    Object { name: &'a [u8], in_value: bool },
    /// In an array: the index of the present item.
    Array(usize),
}

/// A walk over a JSON text, or over the beginning of one that stops being one.
#[derive(Debug)]
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    levels: Vec<Level<'a>>,
}

impl<'a> Walk<'a> {
    fn new(text: &'a [u8]) -> Self {
        let (at, levels) = (0, Vec::new());
        Self { text, at, levels }
    }

    /// Goes on until a list begins that is `wanted`; false at the end.
    fn find(&mut self, wanted: impl Fn(&Self) -> bool) -> bool {
        while let Some(byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'{' => self.levels.push(Level::Object {
                    name: b"",
                    in_value: false,
                }),
                b'[' if wanted(self) => return true,
                b'[' => self.levels.push(Level::Array(0)),
                b'}' | b']' => drop(self.levels.pop()),
                b':' => self.enter_value(),
                b',' => self.next_item(),
                b'"' => self.read_string(),
                _ => {}
            }
        }
        false
    }

    fn enter_value(&mut self) {
        if let Some(Level::Object { in_value, .. }) = self.levels.last_mut() {
            *in_value = true;
        }
    }

    fn next_item(&mut self) {
        match self.levels.last_mut() {
            Some(Level::Array(index)) => *index += 1,
            Some(Level::Object { in_value, .. }) => *in_value = false,
            None => {}
        }
    }

    fn read_string(&mut self) {
        let start = self.at;
        let end = start + string_length(&self.text[start..]);
        self.at = end + 1;
        if let Some(Level::Object { name, in_value: false }) = self.levels.last_mut() {
            *name = &self.text[start..end];
        }
    }

    /// Whether the specification has an object where a list begins here.
    fn is_list_for_object(&self) -> bool {
        let named = |level: Option<&Level<'a>>, names: &[&str]| match level {
            Some(Level::Object { name, in_value: true }) => names.iter().any(|known| known.as_bytes() == *name),
            _ => false,
        };
        let mut levels = self.levels.iter().rev();
        let is_wrong = match levels.next() {
            None => return true,
            Some(Level::Array(_)) => named(levels.next(), &LISTS),
            object => named(object, &OBJECTS),
        };
        is_wrong && named(self.levels.first(), &SECTIONS)
    }

    /// Such as `linux.devices[0].path`.
    fn place(&self) -> String {
        let mut place = String::new();
        for level in self.levels.iter().take(MAX_DEPTH) {
            match level {
                Level::Object { name: b"", .. } => {}
                Level::Object { name, .. } => {
                    if !place.is_empty() {
                        place.push('.');
                    }
                    let name = String::from_utf8_lossy(&name[..name.len().min(MAX_NAME)]);
                    place.push_str(&name.escape_debug().to_string());
                }
                Level::Array(index) => {
                    let _ = write!(place, "[{index}]");
                }
            }
        }
        if place.is_empty() {
            "not a configuration".clone_into(&mut place);
        }
        place
    }
}

/// Bytes of a string up to its closing quote, or to the end of the text.
fn string_length(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use crate::spec::parse;
    use std::path::Path;

    fn check(text: &str, expected: &str) {
        let error = parse(Path::new("c"), text.as_bytes())
            .expect_err("an error")
            .to_string();
        assert_eq!(error, format!("parse c: {expected}"), "{text}");
    }

    #[test]
    fn errors_of_type_and_range_name_their_field() {
        check("[", "[0]");
        check("", "not a configuration");
        check("{\"ociVersion\": 7}", "ociVersion");
        check(
            "{\"ociVersion\":\"1.0.0\",\n \"process\":{\"cwd\":\"/\",\"args\":[\"x\", 5]}}",
            "process.args[1]",
        );
        check(
            r#"{"process":{"user":{"uid":-1,"gid":0},"args":["a"],"cwd":"/"}}"#,
            "process.user.uid",
        );
        check(
            r#"{"linux":{"resources":{"pids":{"limit":1e99}}}}"#,
            "linux.resources.pids.limit",
        );
        check(r#"{"mounts":[{"destination":"/a"},{"type":"x"}]}"#, "mounts[1]");
        check(
            r#"{"linux":{"devices":[{"type":"c","path":{}}]}}"#,
            "linux.devices[0].path",
        );
        check(r#"{"a\"b,[":{"c":tru"#, "a\\\\\\\"b,[.c");
    }

    #[test]
    fn a_list_is_no_object() {
        let field = ": is a list, not an object";
        check(r#"["1.0.0"]"#, &format!("not a configuration{field}"));
        check(r#"{"ociVersion":"1.0.0","linux":[]}"#, &format!("linux{field}"));
        check(r#"{"ociVersion":"1.0.0","root": ["/", true]}"#, &format!("root{field}"));
        check(
            r#"{"ociVersion":"1.0.0","mounts":[{"destination":"/a"}, ["/b"]]}"#,
            &format!("mounts[1]{field}"),
        );
        let unknown = r#"{"ociVersion":"1.0.0","x":{"linux":[[1]]},"linux":{"new":[[1]]},"annotations":{"[":"[["}}"#;
        assert!(parse(Path::new("c"), unknown.as_bytes()).is_ok());
    }

    #[test]
    fn a_nul_byte_is_refused_where_the_kernel_would_see_it() {
        let nul = "\\u0000";
        check(
            &format!(r#"{{"ociVersion":"1.0.0","mounts":[{{"destination":"/a{nul}b"}}]}}"#),
            "mounts[0].destination: holds a NUL byte",
        );
        check(
            &format!(r#"{{"ociVersion":"1.0.0","linux":{{"sysctl":{{"a{nul}":"1"}}}}}}"#),
            "linux.sysctl: holds a NUL byte",
        );
        let harmless = format!(r#"{{"ociVersion":"1.0.0","annotations":{{"a":"{nul}","b":"\\{nul}"}},"new":"{nul}"}}"#);
        assert!(parse(Path::new("c"), harmless.as_bytes()).is_ok());
    }
}
