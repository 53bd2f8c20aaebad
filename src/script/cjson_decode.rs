//! `cjson.decode`: JSON text as Lua values; `null` is `cjson.null`. Iterative: depth costs Lua stack only.
//!
//! As in Redis, a NUL byte ends the text, and numbers are what C's `strtod` reads: hexadecimal, `inf` and `nan` too
//! unless `cjson.decode_invalid_numbers(false)` forbids.

use crate::cjson_encode::{Settings, push_null};
use crate::lua::{Lua, lua_fn};

lua_fn! {
    /// `cjson.decode(text)`.
    pub(crate) fn decode(lua) {
        if lua.top() != 1 {
            lua.bad_argument(1, c"expected 1 argument");
        }
        let text = lua.check_text(1);
        if let [0, _, ..] | [_, 0, ..] = text {
            lua.raise_text(b"JSON parser does not support UTF-16 or UTF-32");
        }
        Decoder { lua, settings: Settings::of(lua), text, place: 0 }.document();
        1
    }
}

#[derive(Clone, Copy)]
enum Kind {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its bytes are in the state's text buffer.
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Invalid(&'static str),
}

#[derive(Clone, Copy)]
struct Token {
    kind: Kind,
    /// Where it begins, or where it went wrong.
    at: usize,
}

/// A container that is open; its table is on the Lua stack.
pub(crate) enum Level {
    /// How many elements it has.
    Array(i32),
    /// The key of the value to come is above it.
    Object,
}

struct Decoder<'a> {
    lua: Lua,
    settings: &'a Settings,
    text: &'a [u8],
    place: usize,
}

impl Decoder<'_> {
    /// Pushes the value of the whole text.
    fn document(&mut self) {
        let levels = self.lua.shared().json_levels();
        levels.clear();
        let mut next = Some(self.token());
        while let Some(token) = next {
            next = match self.begin(token, levels) {
                Some(inner) => Some(inner),
                None => self.attach(levels),
            };
        }
        let token = self.token();
        if !matches!(token.kind, Kind::End) {
            self.fail("the end", token);
        }
    }

    /// Pushes a scalar or an empty container. For any other container, opens a level and gives its first value's token.
    fn begin(&mut self, token: Token, levels: &mut Vec<Level>) -> Option<Token> {
        let lua = self.lua;
        match token.kind {
            Kind::String => lua.push_bytes(lua.shared().text()),
            Kind::Number(value) => lua.push_number(value),
            Kind::Boolean(value) => lua.push_boolean(value),
            Kind::Null => push_null(lua),
            Kind::ObjectBegin => {
                self.descend(levels.len() + 1);
                lua.push_table(0, 0);
                let token = self.token();
                if !matches!(token.kind, Kind::ObjectEnd) {
                    levels.push(Level::Object);
                    return Some(self.key(token));
                }
            }
            Kind::ArrayBegin => {
                self.descend(levels.len() + 1);
                lua.push_table(0, 0);
                let token = self.token();
                if !matches!(token.kind, Kind::ArrayEnd) {
                    levels.push(Level::Array(0));
                    return Some(token);
                }
            }
            _ => self.fail("value", token),
        }
        None
    }

    /// Puts the value on top into the container it is in, closes those that end here, and gives the token of the next
    /// value, if there is one.
    fn attach(&mut self, levels: &mut Vec<Level>) -> Option<Token> {
        loop {
            match levels.last_mut()? {
                Level::Array(len) => {
                    *len += 1;
                    self.lua.raw_set_index(-2, *len);
                    let token = self.token();
                    match token.kind {
                        Kind::Comma => return Some(self.token()),
                        Kind::ArrayEnd => {}
                        _ => self.fail("comma or array end", token),
                    }
                }
                Level::Object => {
                    self.lua.raw_set(-3);
                    let token = self.token();
                    match token.kind {
                        Kind::Comma => {
                            let token = self.token();
                            return Some(self.key(token));
                        }
                        Kind::ObjectEnd => {}
                        _ => self.fail("comma or object end", token),
                    }
                }
            }
            levels.pop();
        }
    }

    /// Pushes the key that `token` is, and gives the token of its value.
    fn key(&mut self, token: Token) -> Token {
        if !matches!(token.kind, Kind::String) {
            self.fail("object key string", token);
        }
        self.lua.push_bytes(self.lua.shared().text());
        let colon = self.token();
        if !matches!(colon.kind, Kind::Colon) {
            self.fail("colon", colon);
        }
        self.token()
    }

    fn descend(&self, depth: usize) {
        if depth > self.settings.decode_max_depth.get() as usize || !self.lua.has_room(6) {
            let place = self.place;
            self.lua.raise_fmt(format_args!("Found too many nested data structures ({depth}) at character {place}"));
        }
    }

    fn fail(&self, expected: &str, found: Token) -> ! {
        let text = match found.kind {
            Kind::ObjectBegin => "T_OBJ_BEGIN",
            Kind::ObjectEnd => "T_OBJ_END",
            Kind::ArrayBegin => "T_ARR_BEGIN",
            Kind::ArrayEnd => "T_ARR_END",
            Kind::String => "T_STRING",
            Kind::Number(_) => "T_NUMBER",
            Kind::Boolean(_) => "T_BOOLEAN",
            Kind::Null => "T_NULL",
            Kind::Colon => "T_COLON",
            Kind::Comma => "T_COMMA",
            Kind::End => "T_END",
            Kind::Invalid(reason) => reason,
        };
        let place = found.at + 1;
        self.lua.raise_fmt(format_args!("Expected {expected} but found {text} at character {place}"))
    }

    /// The byte `ahead` of the place, 0 past the end.
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.place + ahead).copied().unwrap_or(0)
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.place..).unwrap_or_default()
    }

    fn token(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.place += 1;
        }
        let at = self.place;
        let single = match self.peek(0) {
            b'{' => Kind::ObjectBegin,
            b'}' => Kind::ObjectEnd,
            b'[' => Kind::ArrayBegin,
            b']' => Kind::ArrayEnd,
            b',' => Kind::Comma,
            b':' => Kind::Colon,
            0 => return Token { kind: Kind::End, at },
            b'"' => return self.string(at),
            b'-' | b'0'..=b'9' => return self.number(at),
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+' => return self.word(at),
            _ => return self.invalid("invalid token"),
        };
        self.place += 1;
        Token { kind: single, at }
    }

    fn invalid(&self, reason: &'static str) -> Token {
        Token { kind: Kind::Invalid(reason), at: self.place }
    }

    fn word(&mut self, at: usize) -> Token {
        let words: [(&[u8], Kind); 3] =
            [(b"true", Kind::Boolean(true)), (b"false", Kind::Boolean(false)), (b"null", Kind::Null)];
        if let Some((word, kind)) = words.iter().find(|(word, _)| self.rest().starts_with(word)) {
            self.place += word.len();
            return Token { kind: *kind, at };
        }
        if self.settings.decode_invalid_numbers.get() != 0 && is_invalid_number(self.rest()) {
            return self.strtod(at);
        }
        self.invalid("invalid token")
    }

    fn number(&mut self, at: usize) -> Token {
        if self.settings.decode_invalid_numbers.get() == 0 && is_invalid_number(self.rest()) {
            return self.invalid("invalid number");
        }
        self.strtod(at)
    }

    fn strtod(&mut self, at: usize) -> Token {
        match strtod(self.rest()) {
            Some((value, len)) => {
                self.place += len;
                Token { kind: Kind::Number(value), at }
            }
            None => self.invalid("invalid number"),
        }
    }

    /// A string's bytes go to the state's text buffer.
    fn string(&mut self, at: usize) -> Token {
        let out = self.lua.shared().text();
        out.clear();
        self.place += 1;
        loop {
            let rest = self.rest();
            let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0);
            let plain_len = rest.iter().position(special).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..plain_len]);
            self.place += plain_len;
            match self.peek(0) {
                b'"' => break,
                0 => return self.invalid("unexpected end of string"),
                _ => {}
            }
            let byte = match self.peek(1) {
                byte @ (b'"' | b'\\' | b'/') => byte,
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'f' => 12,
                b'r' => b'\r',
                b'u' => match self.unicode() {
                    Some((ch, len)) => {
                        out.extend_from_slice(ch.encode_utf8(&mut [0; 4]).as_bytes());
                        self.place += len;
                        continue;
                    }
                    None => return self.invalid("invalid unicode escape code"),
                },
                _ => return self.invalid("invalid escape code"),
            };
            out.push(byte);
            self.place += 2;
        }
        self.place += 1;
        Token { kind: Kind::String, at }
    }

    /// The character of `\uXXXX`, or of a surrogate pair of them, and its length in the text.
    fn unicode(&self) -> Option<(char, usize)> {
        let high = self.hex4(2)?;
        if !(0xD800..0xE000).contains(&high) {
            return Some((char::from_u32(high)?, 6));
        }
        if high >= 0xDC00 || self.peek(6) != b'\\' || self.peek(7) != b'u' {
            return None;
        }
        let low = self.hex4(8).filter(|low| (0xDC00..0xE000).contains(low))?;
        Some((char::from_u32(0x1_0000 + ((high & 0x3FF) << 10 | low & 0x3FF))?, 12))
    }

    fn hex4(&self, ahead: usize) -> Option<u32> {
        (ahead..ahead + 4).try_fold(0, |value, place| Some(value << 4 | char::from(self.peek(place)).to_digit(16)?))
    }
}

/// Does the text begin with a number that `strtod` reads and JSON forbids?
fn is_invalid_number(text: &[u8]) -> bool {
    let digits = match text {
        [b'+', ..] => return true,
        [b'-', digits @ ..] => digits,
        digits => digits,
    };
    let word = |word: &[u8]| digits.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(word));
    match digits {
        [b'0', b'x' | b'X' | b'0'..=b'9', ..] => true,
        [b'0'..=b'9', ..] => false,
        _ => word(b"inf") || word(b"nan"),
    }
}

/// The longest number the text begins with, as C's `strtod` reads it, and its length.
fn strtod(text: &[u8]) -> Option<(f64, usize)> {
    let sign_len = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let negative = text.first() == Some(&b'-');
    let digits = &text[sign_len..];
    let (value, len) = hexadecimal(digits).or_else(|| decimal(digits)).or_else(|| named(digits))?;
    Some((if negative { -value } else { value }, sign_len + len))
}

fn decimal(text: &[u8]) -> Option<(f64, usize)> {
    let count = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = count(0);
    let mut len = whole;
    if text.get(len) == Some(&b'.') {
        let fraction = count(len + 1);
        if whole + fraction > 0 {
            len += 1 + fraction;
        }
    }
    if len == 0 {
        return None;
    }
    if matches!(text.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
        let exponent = count((len + 1 + sign).min(text.len()));
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    Some((std::str::from_utf8(&text[..len]).ok()?.parse().ok()?, len))
}

/// `0x1F`, `0x1.8p3`. `None` when no digit follows the `x`.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let [b'0', b'x' | b'X', ..] = text else { return None };
    let digit = |place: usize| text.get(place).and_then(|&byte| char::from(byte).to_digit(16));
    let (mut value, mut exponent, mut len, mut digits) = (0.0f64, 0i32, 2, 0);
    while let Some(next) = digit(len) {
        value = value * 16.0 + f64::from(next);
        len += 1;
        digits += 1;
    }
    if text.get(len) == Some(&b'.') && (digits > 0 || digit(len + 1).is_some()) {
        len += 1;
        while let Some(next) = digit(len) {
            value = value * 16.0 + f64::from(next);
            exponent = exponent.saturating_sub(4);
            len += 1;
            digits += 1;
        }
    }
    if digits == 0 {
        return None;
    }
    if matches!(text.get(len), Some(b'p' | b'P')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
        let from = len + 1 + sign;
        let written = text.get(from..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
        if written > 0 {
            let power = text[from..from + written]
                .iter()
                .fold(0i32, |power, byte| power.saturating_mul(10).saturating_add(i32::from(byte - b'0')));
            let power = if text[len + 1] == b'-' { -power } else { power };
            exponent = exponent.saturating_add(power);
            len = from + written;
        }
    }
    // In two steps: the power alone may be out of range where the product is not.
    let half = exponent / 2;
    Some((value * 2f64.powi(half) * 2f64.powi(exponent - half), len))
}

fn named(text: &[u8]) -> Option<(f64, usize)> {
    let names: [(&[u8], f64); 3] = [(b"infinity", f64::INFINITY), (b"inf", f64::INFINITY), (b"nan", f64::NAN)];
    names
        .iter()
        .find(|(name, _)| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
        .map(|(name, value)| (*value, name.len()))
}
