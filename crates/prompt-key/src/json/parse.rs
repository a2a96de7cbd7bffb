use super::{Json, Object, number};
use crate::{Fault, Uncacheable};

/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 128;

/// Reads one JSON text strictly: RFC 8259, and no duplicate members, no lone surrogates, no number that a double does not
/// hold.
///
/// # Errors
/// [`Uncacheable::Json`] with the first fault.
/// Spec: prompt-key §1.
pub fn parse(bytes: &[u8]) -> Result<Json, Uncacheable> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Uncacheable::Json { fault: Fault::Utf8, at: error.valid_up_to() })?;
    let mut reader = Reader { text, at: 0 };
    let read = reader.whole();
    read.map_err(|fault| Uncacheable::Json { fault, at: reader.at })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn whole(&mut self) -> Result<Json, Fault> {
        let value = self.value(0)?;
        self.skip_space();
        match self.peek() {
            None => Ok(value),
            Some(_) => Err(Fault::Syntax("something follows the value")),
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, literal: &str) -> bool {
        let found = self.rest().starts_with(literal);
        if found {
            self.at += literal.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Json, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::TooDeep(MAX_DEPTH));
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Result<Json, Fault> {
        if self.take("null") {
            return Ok(Json::Null);
        }
        if self.take("true") {
            return Ok(Json::Bool(true));
        }
        if self.take("false") {
            return Ok(Json::Bool(false));
        }
        match ["NaN", "Infinity"].into_iter().find(|name| self.rest().starts_with(name)) {
            Some(name) => Err(Fault::NotANumber(name)),
            None if self.rest().is_empty() => Err(Fault::Syntax("a value is missing at the end")),
            None => Err(Fault::Syntax("no value starts so")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, Fault> {
        self.at += 1;
        let mut members = Object::new();
        self.skip_space();
        if self.take("}") {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(Fault::Syntax("a member name is missing"));
            }
            let name = self.string()?;
            if members.contains_key(&name) {
                return Err(Fault::DuplicateMember(name));
            }
            self.skip_space();
            if !self.take(":") {
                return Err(Fault::Syntax("a colon is missing"));
            }
            let value = self.value(depth + 1)?;
            members.insert(name, value);
            self.skip_space();
            if self.take("}") {
                return Ok(Json::Object(members));
            }
            if !self.take(",") {
                return Err(Fault::Syntax("an object ends with }"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, Fault> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.take("]") {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take("]") {
                return Ok(Json::Array(items));
            }
            if !self.take(",") {
                return Err(Fault::Syntax("an array ends with ]"));
            }
        }
    }

    fn number(&mut self) -> Result<Json, Fault> {
        let start = self.at;
        self.take("-");
        if self.rest().starts_with("Infinity") {
            return Err(Fault::NotANumber("-Infinity"));
        }
        if !self.take("0") && self.digits() == 0 {
            return Err(Fault::Syntax("a number has digits"));
        }
        if self.take(".") && self.digits() == 0 {
            return Err(Fault::Syntax("digits follow the point"));
        }
        if self.take("e") || self.take("E") {
            if !self.take("+") {
                self.take("-");
            }
            if self.digits() == 0 {
                return Err(Fault::Syntax("digits follow the exponent"));
            }
        }
        number::read(self.text.get(start..self.at).unwrap_or("")).map(Json::Number)
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn string(&mut self) -> Result<String, Fault> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.find(|char| matches!(char, '"' | '\\' | '\0'..='\x1f')).unwrap_or(rest.len());
            out.push_str(rest.get(..plain).unwrap_or(""));
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return Err(Fault::Syntax("a control character in a string")),
                None => return Err(Fault::Syntax("a string has no end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        self.at += 1;
        let kind = self.peek();
        self.at += usize::from(kind.is_some_and(|byte| byte.is_ascii()));
        match kind {
            Some(b'"') => Ok('"'),
            Some(b'\\') => Ok('\\'),
            Some(b'/') => Ok('/'),
            Some(b'b') => Ok('\u{8}'),
            Some(b'f') => Ok('\u{c}'),
            Some(b'n') => Ok('\n'),
            Some(b'r') => Ok('\r'),
            Some(b't') => Ok('\t'),
            Some(b'u') => self.unicode(),
            _ => Err(Fault::Syntax("no escape starts so")),
        }
    }

    fn unicode(&mut self) -> Result<char, Fault> {
        let first = self.four_digits()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or(Fault::LoneSurrogate);
        }
        if first >= 0xdc00 || !self.take("\\u") {
            return Err(Fault::LoneSurrogate);
        }
        let second = self.four_digits()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(Fault::LoneSurrogate);
        }
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(Fault::LoneSurrogate)
    }

    fn four_digits(&mut self) -> Result<u32, Fault> {
        let bad = Fault::Syntax("four hexadecimal digits follow \\u");
        let Some(digits) = self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        else {
            return Err(bad);
        };
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| bad)
    }
}
