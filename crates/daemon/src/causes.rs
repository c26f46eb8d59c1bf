//! Errors in one line, with what caused them.

/// An error and its causes, outermost first, joined by `: `.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn causes_follow_in_order() {
        let inner = Layer("no such file", None);
        let outer = Layer("reading /x", Some(Box::new(inner)));
        let text = with_causes(&Layer("the configuration", Some(Box::new(outer))));
        assert_eq!(text, "the configuration: reading /x: no such file");
    }
}
