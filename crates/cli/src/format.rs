//! Lists as Docker prints them: a table with headings, JSON, or the user's own Go template.

pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod units;

use gotmpl::Value;

use crate::error::CliError;

/// How a list is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A table; the columns are a template with tabs.
    Table(String),
    /// A template per row.
    Template(String),
    /// One JSON object per row.
    Json,
}

/// One object of a list: its fields by name, already as text where Docker shows text.
pub(crate) type Row = Vec<(&'static str, Value)>;

/// The headings of the fields of a list.
pub(crate) type Headings = &'static [(&'static str, &'static str)];

impl Format {
    /// Reads `--format`; `default_table` are the columns when nothing is said.
    pub(crate) fn parse(text: &str, default_table: &str) -> Self {
        match text {
            "" | "table" => Self::Table(default_table.to_owned()),
            "json" => Self::Json,
            _ => match text.strip_prefix("table ") {
                Some(columns) => Self::Table(unescape(columns.trim_start())),
                None => Self::Template(unescape(text)),
            },
        }
    }

    /// True when the template mentions the field.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        match self {
            Self::Table(text) | Self::Template(text) => text.contains(field),
            Self::Json => true,
        }
    }

    /// All rows as text, ready to print.
    pub(crate) fn render(&self, headings: Headings, rows: &[Row]) -> Result<String, CliError> {
        match self {
            Self::Json => Ok(rows.iter().map(|row| template::json_of(&object(row)) + "\n").collect()),
            Self::Template(source) => {
                let compiled = template::compile(source).map_err(template::in_list)?;
                let mut text = String::new();
                for row in rows {
                    text.push_str(&compiled.render(&object(row)).map_err(template::in_list)?);
                    text.push('\n');
                }
                Ok(text)
            }
            Self::Table(columns) => {
                let heading: Vec<(&'static str, Value)> = headings
                    .iter()
                    .map(|(field, text)| (*field, Value::from(*text)))
                    .collect();
                let compiled = template::compile(columns).map_err(template::in_list)?;
                let mut lines = vec![compiled.render_heading(&heading).map_err(template::in_list)?];
                for row in rows {
                    lines.push(compiled.render(&object(row)).map_err(template::in_list)?);
                }
                Ok(table::align(&lines, table::Layout::LIST))
            }
        }
    }
}

fn object(row: &Row) -> Value {
    template::map_of(row.iter().cloned())
}

/// Docker turns the two characters `\t` and `\n` into what they mean.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Shortens a text to `width` columns with an ellipsis, as Docker does.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

/// Labels as `a=b,c=d`, sorted.
pub(crate) fn joined_labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: Headings = &[("ID", "CONTAINER ID"), ("Names", "NAMES")];

    fn rows() -> Vec<Row> {
        vec![
            vec![("ID", Value::from("abc")), ("Names", Value::from("one"))],
            vec![("ID", Value::from("def")), ("Names", Value::from("two"))],
        ]
    }

    fn render(format: &str) -> String {
        Format::parse(format, "{{.ID}}\t{{.Names}}")
            .render(HEADINGS, &rows())
            .unwrap()
    }

    #[test]
    fn a_list_is_a_table_json_or_a_template() {
        assert_eq!(
            render(""),
            "CONTAINER ID   NAMES\nabc            one\ndef            two\n"
        );
        assert_eq!(render("table {{.Names}}"), "NAMES\none\ntwo\n");
        assert_eq!(render(r"{{.ID}}\t{{.Names}}"), "abc\tone\ndef\ttwo\n");
        assert_eq!(
            render("json"),
            "{\"ID\":\"abc\",\"Names\":\"one\"}\n{\"ID\":\"def\",\"Names\":\"two\"}\n"
        );
        assert_eq!(
            render("table {{upper .Names}}\\t{{.ID}}"),
            "NAMES     CONTAINER ID\nONE       abc\nTWO       def\n"
        );
    }

    #[test]
    fn broken_templates_are_refused() {
        assert!(Format::parse("{{.ID", "").render(HEADINGS, &rows()).is_err());
        assert!(Format::parse("{{.Nothing}}", "").render(HEADINGS, &rows()).is_err());
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abcd", 4), "abcd");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
