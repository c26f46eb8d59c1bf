//! The route table: patterns, how long a handler lives, and matching.

use std::future::Future;
use std::pin::Pin;

use hyper::Method;

use super::{Outcome, Request};

/// A handler, as the table stores it.
pub(crate) type Handler = fn(Request) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What happens to a handler whose client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It is dropped: reads, streams, transfers.
    WithClient,
    /// It completes: changes that must not stop half-way.
    Detached,
}

/// One method and path.
pub(crate) struct Route {
    method: Method,
    pattern: Vec<Segment>,
    pub(crate) lifetime: Lifetime,
    pub(crate) handler: Handler,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Literal(&'static str),
    /// `{id}`: exactly one segment, not empty.
    One(&'static str),
    /// `{name...}`: one segment or more; image names hold slashes.
    Greedy(&'static str),
}

impl Route {
    /// A route for `pattern`, for instance `/images/{name...}/json`.
    pub(crate) fn new(method: Method, pattern: &'static str, lifetime: Lifetime, handler: Handler) -> Self {
        Self {
            method,
            pattern: parse_pattern(pattern),
            lifetime,
            handler,
        }
    }
}

fn parse_pattern(pattern: &'static str) -> Vec<Segment> {
    pattern
        .trim_start_matches('/')
        .split('/')
        .map(
            |text| match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
                None => Segment::Literal(text),
                Some(name) => name.strip_suffix("...").map_or(Segment::One(name), Segment::Greedy),
            },
        )
        .collect()
}

/// What a path matched.
pub(crate) struct Matched<'a> {
    pub(crate) route: &'a Route,
    pub(crate) parameters: Vec<(&'static str, String)>,
}

/// Every route of the daemon.
pub(crate) struct Router(Vec<Route>);

impl Router {
    /// A router over `routes`; the first that matches wins.
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// Finds the route for a path that is decoded and has no version prefix.
    pub(crate) fn find(&self, method: &Method, segments: &[&str]) -> Option<Matched<'_>> {
        self.0
            .iter()
            .filter(|route| route.method == *method)
            .find_map(|route| match_segments(&route.pattern, segments).map(|parameters| Matched { route, parameters }))
    }
}

fn match_segments(pattern: &[Segment], path: &[&str]) -> Option<Vec<(&'static str, String)>> {
    let greedy = pattern.iter().position(|segment| matches!(segment, Segment::Greedy(_)));
    let Some(at) = greedy else {
        return (pattern.len() == path.len())
            .then(|| match_exactly(pattern, path))
            .flatten();
    };
    let behind = pattern.len() - at - 1;
    if path.len() < pattern.len() {
        return None;
    }
    let (front, rest) = path.split_at(at);
    let (middle, back) = rest.split_at(rest.len() - behind);
    let Segment::Greedy(name) = pattern[at] else {
        return None;
    };
    let mut found = match_exactly(&pattern[..at], front)?;
    let value = middle.join("/");
    if value.is_empty() {
        return None;
    }
    found.push((name, value));
    found.extend(match_exactly(&pattern[at + 1..], back)?);
    Some(found)
}

fn match_exactly(pattern: &[Segment], path: &[&str]) -> Option<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    for (segment, text) in pattern.iter().zip(path) {
        match segment {
            Segment::Literal(literal) if literal == text => {}
            Segment::One(name) if !text.is_empty() => found.push((*name, (*text).to_owned())),
            _ => return None,
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match_segments(&parse_pattern(pattern), &segments)
    }

    fn check(pattern: &'static str, path: &str, expected: Option<&[(&'static str, &str)]>) {
        let expected = expected.map(|pairs| pairs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect());
        assert_eq!(find(pattern, path), expected, "{pattern} on {path}");
    }

    #[test]
    fn plain_parameters_take_one_segment() {
        check("/containers/{id}/json", "/containers/abc/json", Some(&[("id", "abc")]));
        check("/containers/{id}/json", "/containers/a/b/json", None);
        check("/containers/{id}/json", "/containers//json", None);
        check("/containers/json", "/containers/json", Some(&[]));
        check("/containers/{id}", "/containers/", None);
    }

    #[test]
    fn image_names_may_hold_slashes_colons_and_digests() {
        let pattern = "/images/{name...}/json";
        check(pattern, "/images/busybox/json", Some(&[("name", "busybox")]));
        check(
            pattern,
            "/images/localhost:5000/a/b:tag/json",
            Some(&[("name", "localhost:5000/a/b:tag")]),
        );
        check(pattern, "/images/x@sha256:00/json", Some(&[("name", "x@sha256:00")]));
        check(pattern, "/images/json", None);
        check(pattern, "/images//json", None);
        check("/images/{name...}", "/images/a/b:1", Some(&[("name", "a/b:1")]));
    }

    #[test]
    fn a_name_that_ends_like_a_route_still_matches_its_suffix() {
        check("/images/{name...}/push", "/images/json/push", Some(&[("name", "json")]));
    }
}
