//! Values written as text, as `org.systemd.property.*` annotations hold them (GVariant text
//! format): `true`, `5`, `uint64 5`, `'text'`, `[1, 2]`, `('a', 1)`, `<5>`, `@as []`.

use super::wire::Value;

/// How deep values may nest.
const MAX_DEPTH: u32 = 16;

/// Reads one value; `None` if the text is none.
pub(crate) fn parse_value(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, 0)?;
    parser.skip_blanks();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let Some(rest) = self.rest.strip_prefix(wanted) else {
            return false;
        };
        self.rest = rest;
        true
    }

    /// The longest run of characters of a word or number.
    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !"+-._".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A value, of this type if one is said.
    fn value(&mut self, kind: Option<&str>, depth: u32) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_blanks();
        match self.rest.chars().next()? {
            '@' => {
                let end = self.rest.find(char::is_whitespace)?;
                let (kind, rest) = self.rest[1..].split_at(end - 1);
                self.rest = rest;
                self.value(Some(kind), depth + 1)
            }
            quote @ ('\'' | '"') => self
                .string(quote)
                .and_then(|text| typed_text(kind.unwrap_or("s"), text)),
            '[' => self.array(kind, depth),
            '(' => self.tuple(depth),
            '<' => {
                self.eat('<');
                let inner = self.value(None, depth + 1)?;
                self.eat('>').then(|| Value::Variant(Box::new(inner)))
            }
            _ => {
                let word = self.word();
                match keyword(word) {
                    Some(kind) => self.value(Some(kind), depth + 1),
                    None => number(kind, word),
                }
            }
        }
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                }),
                c if c == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }

    fn array(&mut self, kind: Option<&str>, depth: u32) -> Option<Value> {
        let element = match kind {
            Some(kind) => Some(kind.strip_prefix('a')?),
            None => None,
        };
        let items = self.items('[', ']', element, depth)?;
        // The first says what the others are.
        let signature = match (element, items.first()) {
            (Some(element), _) => element.to_owned(),
            (None, Some(first)) => first.signature(),
            (None, None) => return None,
        };
        let is_uniform = items.iter().all(|item| item.signature() == signature);
        is_uniform.then_some(Value::Array(signature, items))
    }

    fn tuple(&mut self, depth: u32) -> Option<Value> {
        self.items('(', ')', None, depth)
            .filter(|items| !items.is_empty())
            .map(Value::Tuple)
    }

    fn items(&mut self, open: char, close: char, kind: Option<&str>, depth: u32) -> Option<Vec<Value>> {
        self.eat(open);
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.value(kind, depth + 1)?);
            if !self.eat(',') {
                return self.eat(close).then_some(items);
            }
        }
        Some(items)
    }
}

fn keyword(word: &str) -> Option<&'static str> {
    Some(match word {
        "byte" => "y",
        "boolean" => "b",
        "int16" => "n",
        "uint16" => "q",
        "int32" => "i",
        "uint32" => "u",
        "int64" => "x",
        "uint64" => "t",
        "double" => "d",
        "string" => "s",
        "objectpath" => "o",
        "signature" => "g",
        _ => return None,
    })
}

fn typed_text(kind: &str, text: String) -> Option<Value> {
    match kind {
        "s" => Some(Value::Text(text)),
        "o" => Some(Value::Path(text)),
        "g" => Some(Value::Signature(text)),
        _ => None,
    }
}

/// A number, or a truth value; without a type whole numbers are `i` and others `d`.
fn number(kind: Option<&str>, word: &str) -> Option<Value> {
    match (kind, word) {
        (None | Some("b"), "true") => return Some(Value::Bool(true)),
        (None | Some("b"), "false") => return Some(Value::Bool(false)),
        _ => {}
    }
    let guess = if word.contains('.') || word.contains('e') {
        "d"
    } else {
        "i"
    };
    let hexadecimal = word
        .strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let word = &hexadecimal.map_or_else(|| word.to_owned(), |number| number.to_string());
    Some(match kind.unwrap_or(guess) {
        "y" => Value::Byte(word.parse().ok()?),
        "n" => Value::Int16(word.parse().ok()?),
        "q" => Value::Uint16(word.parse().ok()?),
        "i" => Value::Int32(word.parse().ok()?),
        "u" => Value::Uint32(word.parse().ok()?),
        "x" => Value::Int64(word.parse().ok()?),
        "t" => Value::Uint64(word.parse().ok()?),
        "d" => Value::Double(word.parse().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_values() {
        let check = |text: &str, expected: Value| assert_eq!(parse_value(text), Some(expected), "{text}");
        check("true", Value::Bool(true));
        check(" -5 ", Value::Int32(-5));
        check("uint64 18446744073709551615", Value::Uint64(u64::MAX));
        check("@t 0x10", Value::Uint64(16));
        check("1.5", Value::Double(1.5));
        check("'it\\'s'", Value::text("it's"));
        check("\"two\"", Value::text("two"));
        check("objectpath '/a'", Value::Path("/a".into()));
        check("@as []", Value::Array("s".into(), vec![]));
        check(
            "['a', 'b']",
            Value::Array("s".into(), vec![Value::text("a"), Value::text("b")]),
        );
        check(
            "@ay [1, 255]",
            Value::Array("y".into(), vec![Value::Byte(1), Value::Byte(255)]),
        );
        let pair = Value::Tuple(vec![Value::text("/dev/null"), Value::text("rw")]);
        check("[('/dev/null', 'rw')]", Value::Array("(ss)".into(), vec![pair]));
        check("<uint32 7>", Value::Variant(Box::new(Value::Uint32(7))));
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "", "word", "'open", "[1, 'a']", "[]", "byte 256", "1 2", "@q -1", "()", "@", "<1", "\\", "[1",
        ] {
            assert_eq!(parse_value(text), None, "{text:?}");
        }
        assert_eq!(parse_value(&"[".repeat(1000)), None);
    }
}
