//! How each type of field is read from words, printed by CONFIG GET and written by CONFIG REWRITE.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::values::{Choice, ClientClass, KeyspaceEvents, MasterAddress, OutputLimit, SavePoint, ShutdownFlags};
use crate::util::quote;

/// What a directive demands beyond its type.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Nothing.
    Any,
    /// A number from `min` to `max`, written in `unit`.
    Number { unit: Unit, min: i128, max: i128 },
    /// `Unit::Plain` numbers `0..=i32::MAX` are accepted and moved into `low..=high`.
    Clamped { low: i128, high: i128 },
    /// Text that passes the check.
    Text(fn(&[u8]) -> Result<(), &'static str>),
    /// `yes` is refused with this reason: the directive is known but cannot be honoured.
    OnlyNo(&'static str),
}

/// How a number is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Decimal digits.
    Plain,
    /// Digits and `b`, `k`, `kb`, `m`, `mb`, `g` or `gb`.
    Memory,
    /// As `Memory`, or `N%`, which is held as `-N`.
    MemoryOrPercent,
    /// Octal digits.
    Octal,
}

/// A field of `Config` that a directive sets.
pub(super) trait Setting {
    /// Takes the value from `words`; a refused value leaves the field as it was. The error is Redis's text.
    fn parse(&mut self, rule: &Rule, words: &[&[u8]]) -> Result<(), String>;

    /// The value as CONFIG GET shows it.
    fn print(&self, rule: &Rule) -> Vec<u8>;

    /// The value as `redis.conf` says it, one entry a line, without the directive's name. None: the directive is left
    /// out of the file.
    fn lines(&self, rule: &Rule) -> Vec<Vec<u8>> {
        vec![self.print(rule)]
    }
}

impl Setting for bool {
    fn parse(&mut self, rule: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let word = c_string(single(words)?);
        let yes = word.eq_ignore_ascii_case(b"yes");
        if !yes && !word.eq_ignore_ascii_case(b"no") {
            return Err("argument must be 'yes' or 'no'".into());
        }
        match rule {
            Rule::OnlyNo(reason) if yes => Err((*reason).into()),
            _ => {
                *self = yes;
                Ok(())
            }
        }
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        if *self { b"yes".into() } else { b"no".into() }
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Setting for $number {
            fn parse(&mut self, rule: &Rule, words: &[&[u8]]) -> Result<(), String> {
                let value = parse_number(rule, single(words)?)?;
                *self = <$number>::try_from(value).expect("a directive's range fits the type of its field");
                Ok(())
            }

            fn print(&self, rule: &Rule) -> Vec<u8> {
                print_number(rule, *self as i128).into_bytes()
            }

            fn lines(&self, rule: &Rule) -> Vec<Vec<u8>> {
                vec![rewritten_number(rule, *self as i128).into_bytes()]
            }
        }
    )+};
}
numbers!(u16, i32, u32, i64, u64, usize);

impl<T: Choice> Setting for T {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let word = c_string(single(words)?);
        let known = T::WORDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
        *self = known.ok_or_else(|| one_of(T::WORDS.iter().map(|(name, _)| *name)))?.1;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        T::WORDS.iter().find(|(_, value)| value == self).map_or("unknown", |(name, _)| name).into()
    }
}

impl Setting for ShutdownFlags {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let refuse = || one_of(["default"].into_iter().chain(Self::default().words().map(|(name, _)| name)));
        if words.is_empty() {
            return Err(refuse());
        }
        let mut flags = Self::default();
        for word in words.iter().filter(|word| !word.eq_ignore_ascii_case(b"default")) {
            let mut known = flags.words().into_iter();
            let (_, flag) = known.find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes())).ok_or_else(refuse)?;
            *flag = true;
        }
        if flags.save && flags.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        *self = flags;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        let mut flags = *self;
        let names: Vec<&str> = flags.words().into_iter().filter(|(_, on)| **on).map(|(name, _)| name).collect();
        if names.is_empty() { b"default".into() } else { names.join(" ").into() }
    }
}

/// Text that may be empty.
impl Setting for String {
    fn parse(&mut self, rule: &Rule, words: &[&[u8]]) -> Result<(), String> {
        *self = utf8(checked(rule, single(words)?)?)?;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        self.as_bytes().into()
    }

    fn lines(&self, _: &Rule) -> Vec<Vec<u8>> {
        vec![quote::quoted(self.as_bytes())]
    }
}

/// Text of which the empty one means "not set".
impl Setting for Option<String> {
    fn parse(&mut self, rule: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let text = utf8(checked(rule, single(words)?)?)?;
        *self = (!text.is_empty()).then_some(text);
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        self.as_deref().unwrap_or_default().into()
    }

    fn lines(&self, _: &Rule) -> Vec<Vec<u8>> {
        self.iter().map(|text| quote::quoted(text.as_bytes())).collect()
    }
}

/// A secret: any bytes; empty means "not set".
impl Setting for Option<Vec<u8>> {
    fn parse(&mut self, rule: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let bytes = checked(rule, single(words)?)?;
        *self = (!bytes.is_empty()).then(|| bytes.into());
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        self.clone().unwrap_or_default()
    }

    fn lines(&self, _: &Rule) -> Vec<Vec<u8>> {
        self.iter().map(|bytes| quote::quoted(bytes)).collect()
    }
}

/// The working directory: absolute, and there. A relative value starts at the present one, as `cd` does.
impl Setting for PathBuf {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let given = Path::new(std::ffi::OsStr::from_bytes(single(words)?));
        if given.as_os_str().is_empty() {
            return Err("No such file or directory".to_owned());
        }
        let resolved = self.join(given).canonicalize().map_err(|error| os_reason(&error))?;
        // It is a directory, and can be gone to.
        std::fs::metadata(resolved.join(".")).map_err(|error| os_reason(&error))?;
        *self = resolved;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        self.clone().into_os_string().into_vec()
    }

    fn lines(&self, _: &Rule) -> Vec<Vec<u8>> {
        vec![quote::quoted(self.as_os_str().as_bytes())]
    }
}

impl Setting for Vec<SavePoint> {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let words = non_empty(words);
        let point = |pair: &[&[u8]]| {
            let [seconds, changes] = pair else { return None };
            let point = SavePoint { seconds: decimal(seconds)?, changes: decimal(changes)? };
            (point.seconds > 0).then_some(point)
        };
        let points: Option<Self> = words.chunks(2).map(point).collect();
        *self = points.ok_or("Invalid save parameters")?;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        let points: Vec<String> = self.iter().map(|point| format!("{} {}", point.seconds, point.changes)).collect();
        points.join(" ").into()
    }

    fn lines(&self, _: &Rule) -> Vec<Vec<u8>> {
        match self.as_slice() {
            [] => vec![b"\"\"".into()],
            points => points.iter().map(|point| format!("{} {}", point.seconds, point.changes).into()).collect(),
        }
    }
}

/// Classes that are not named keep their limits.
impl Setting for [OutputLimit; 3] {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        if !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        let mut limits = *self;
        for quad in words.chunks_exact(4) {
            let class =
                ClientClass::parse(quad[0]).ok_or("Invalid client class specified in buffer limit configuration.")?;
            let limit = (|| {
                Some(OutputLimit {
                    hard_bytes: memory(quad[1])?,
                    soft_bytes: memory(quad[2])?,
                    soft_seconds: decimal(quad[3])?,
                })
            })();
            limits[class as usize] =
                limit.ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?;
        }
        *self = limits;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        let one = |class: ClientClass| {
            let limit = self[class as usize];
            let name = ["normal", "slave", "pubsub"][class as usize];
            format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        };
        ClientClass::ALL.map(one).join(" ").into()
    }

    fn lines(&self, _: &Rule) -> Vec<Vec<u8>> {
        let one = |class: ClientClass| {
            let limit = self[class as usize];
            let name = ["normal", "replica", "pubsub"][class as usize];
            let (hard, soft) = (with_unit(limit.hard_bytes.into()), with_unit(limit.soft_bytes.into()));
            format!("{name} {hard} {soft} {}", limit.soft_seconds).into_bytes()
        };
        ClientClass::ALL.map(one).into()
    }
}

/// `oom-score-adj-values`: for a master, a replica, a saving child.
impl Setting for [i32; 3] {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let words: &[&[u8]; 3] = words.try_into().map_err(|_| WRONG_ARITY)?;
        let mut values = [0; 3];
        for (value, word) in values.iter_mut().zip(words) {
            *value = decimal::<i32>(word)
                .filter(|value| (-2000..=2000).contains(value))
                .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
        }
        *self = values;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        self.map(|value| value.to_string()).join(" ").into()
    }
}

impl Setting for KeyspaceEvents {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let events = KeyspaceEvents::parse(single(words)?);
        *self = events.ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        self.letters()
    }

    fn lines(&self, _: &Rule) -> Vec<Vec<u8>> {
        vec![quote::quoted(&self.letters())]
    }
}

/// `bind`: the addresses to listen on.
impl Setting for Vec<String> {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let words = non_empty(words);
        if words.len() > MAX_BIND_ADDRESSES {
            return Err("Too many bind addresses specified.".into());
        }
        *self = words.iter().map(|word| utf8(word)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        self.join(" ").into()
    }

    fn lines(&self, _: &Rule) -> Vec<Vec<u8>> {
        let words: Vec<Vec<u8>> = self.iter().map(|address| quote::word(address.as_bytes())).collect();
        vec![match &*words {
            [] => b"\"\"".into(),
            // What stands alone is split again when it is read.
            [alone] => quote::word(alone),
            many => many.join(&b' '),
        }]
    }
}

impl Setting for Option<MasterAddress> {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let [host, port] = words else { return Err(WRONG_ARITY.into()) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            *self = None;
            return Ok(());
        }
        let port = decimal(port).ok_or("Invalid master port")?;
        *self = Some(MasterAddress { host: utf8(host)?, port });
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        self.as_ref().map(|master| format!("{} {}", master.host, master.port)).unwrap_or_default().into()
    }

    fn lines(&self, _: &Rule) -> Vec<Vec<u8>> {
        let line =
            |master: &MasterAddress| [quote::word(master.host.as_bytes()), master.port.to_string().into()].join(&b' ');
        self.iter().map(line).collect()
    }
}

/// `latency-tracking-info-percentiles`.
impl Setting for Vec<f64> {
    fn parse(&mut self, _: &Rule, words: &[&[u8]]) -> Result<(), String> {
        let mut percentiles = Vec::with_capacity(words.len());
        for word in non_empty(words) {
            let value: f64 = decimal(word).ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&value) {
                return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into());
            }
            percentiles.push(value);
        }
        *self = percentiles;
        Ok(())
    }

    fn print(&self, _: &Rule) -> Vec<u8> {
        let short = |value: &f64| format!("{value:.6}").trim_end_matches('0').trim_end_matches('.').to_owned();
        self.iter().map(short).collect::<Vec<_>>().join(" ").into()
    }

    fn lines(&self, rule: &Rule) -> Vec<Vec<u8>> {
        vec![if self.is_empty() { b"\"\"".into() } else { self.print(rule) }]
    }
}

/// Redis's name for an error of the operating system, without Rust's "(os error N)".
pub(crate) fn os_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A size with an optional unit: `1k` is 1000, `1kb` is 1024. Digits may be missing (0), too large a number is the
/// largest one, as `strtoull` has it.
pub(crate) fn memory(word: &[u8]) -> Option<u64> {
    let word = c_string(word);
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = word.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let value =
        number.iter().fold(0_u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(value.saturating_mul(factor))
}

const WRONG_ARITY: &str = "wrong number of arguments";
const MAX_BIND_ADDRESSES: usize = 16;

fn single<'a>(words: &[&'a [u8]]) -> Result<&'a [u8], String> {
    match words {
        [word] => Ok(word),
        _ => Err(WRONG_ARITY.into()),
    }
}

/// What is in front of a NUL, which is the end in Redis.
fn c_string(word: &[u8]) -> &[u8] {
    word.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A single empty word stands for no words.
fn non_empty<'a, 'b>(words: &'b [&'a [u8]]) -> &'b [&'a [u8]] {
    if words == [b""] { &[] } else { words }
}

fn checked<'a>(rule: &Rule, word: &'a [u8]) -> Result<&'a [u8], String> {
    if let Rule::Text(check) = rule {
        check(word)?;
    }
    Ok(word)
}

fn utf8(word: &[u8]) -> Result<String, String> {
    String::from_utf8(word.into()).map_err(|_| "argument is not valid UTF-8".into())
}

fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("argument(s) must be one of the following: {}", names.collect::<Vec<_>>().join(", "))
}

fn decimal<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// As Redis's `string2ll`: no blanks, no `+`, no leading zeros.
fn canonical_integer(word: &[u8]) -> Option<i128> {
    let value: i64 = decimal(word)?;
    (value.to_string().as_bytes() == word).then_some(value.into())
}

fn parse_number(rule: &Rule, word: &[u8]) -> Result<i128, String> {
    let (unit, min, max) = match *rule {
        Rule::Number { unit, min, max } => (unit, min, max),
        _ => (Unit::Plain, 0, i32::MAX.into()),
    };
    let percent = || {
        let digits = word.strip_suffix(b"%")?;
        canonical_integer(digits).filter(|value| *value >= 0)
    };
    let value = match unit {
        Unit::Plain => canonical_integer(word).ok_or("argument couldn't be parsed into an integer")?,
        Unit::Memory => memory(word).ok_or("argument must be a memory value")?.into(),
        Unit::Octal => std::str::from_utf8(word)
            .ok()
            .and_then(|digits| i64::from_str_radix(digits, 8).ok())
            .ok_or("argument couldn't be parsed as an octal number")?
            .into(),
        Unit::MemoryOrPercent => match (memory(word), percent()) {
            (Some(bytes), _) => bytes.into(),
            (None, Some(percent)) if percent > -min => {
                return Err(format!("percentage argument must be less or equal to {}", -min));
            }
            (None, Some(percent)) => -percent,
            (None, None) => return Err("argument must be a memory or percent value".into()),
        },
    };
    if !(min..=max).contains(&value) {
        return Err(match unit {
            Unit::Octal => format!("argument must be between {min:o} and {max:o} inclusive"),
            _ => format!("argument must be between {min} and {max} inclusive"),
        });
    }
    match *rule {
        Rule::Clamped { low, high } => Ok(value.clamp(low, high)),
        _ => Ok(value),
    }
}

fn print_number(rule: &Rule, value: i128) -> String {
    match rule {
        Rule::Number { unit: Unit::Octal, .. } => format!("{value:o}"),
        Rule::Number { unit: Unit::MemoryOrPercent, .. } if value < 0 => format!("{}%", -value),
        _ => value.to_string(),
    }
}

fn rewritten_number(rule: &Rule, value: i128) -> String {
    match rule {
        Rule::Number { unit: Unit::Memory | Unit::MemoryOrPercent, .. } if value >= 0 => with_unit(value),
        _ => print_number(rule, value),
    }
}

/// The number with the largest unit that divides it.
fn with_unit(bytes: i128) -> String {
    let units = [(30, "gb"), (20, "mb"), (10, "kb")];
    match units.into_iter().find(|(shift, _)| bytes != 0 && bytes % (1 << shift) == 0) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_units() {
        for (word, bytes) in [
            ("0", 0),
            ("", 0),
            ("12", 12),
            ("7B", 7),
            ("7\0x", 7),
            ("1k", 1000),
            ("1KB", 1024),
            ("3m", 3_000_000),
            ("3mb", 3 << 20),
            ("2g", 2_000_000_000),
            ("2Gb", 2 << 30),
            ("99999999999999999999", u64::MAX),
            ("99999999999gb", u64::MAX),
        ] {
            assert_eq!(memory(word.as_bytes()), Some(bytes), "{word}");
        }
        for word in ["-1", "1x", "1 k", "10mbs", "k1"] {
            assert_eq!(memory(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn plain_numbers_are_canonical() {
        let rule = Rule::Number { unit: Unit::Plain, min: -5, max: 100 };
        assert_eq!(parse_number(&rule, b"-5"), Ok(-5));
        for word in ["", " 1", "+1", "01", "1 ", "1.5", "--bla", "99999999999999999999"] {
            let refused = parse_number(&rule, word.as_bytes());
            assert_eq!(refused, Err("argument couldn't be parsed into an integer".into()), "{word}");
        }
        let refused = parse_number(&rule, b"101");
        assert_eq!(refused, Err("argument must be between -5 and 100 inclusive".into()));
    }

    #[test]
    fn percentages_octals_and_clamps() {
        let rule = Rule::Number { unit: Unit::MemoryOrPercent, min: -100, max: i64::MAX.into() };
        assert_eq!(parse_number(&rule, b"20%"), Ok(-20));
        assert_eq!(parse_number(&rule, b"1mb"), Ok(1 << 20));
        assert_eq!(print_number(&rule, -20), "20%");
        let refused = parse_number(&rule, b"200%");
        assert_eq!(refused, Err("percentage argument must be less or equal to 100".into()));
        assert_eq!(parse_number(&rule, b"-1%"), Err("argument must be a memory or percent value".into()));

        let octal = Rule::Number { unit: Unit::Octal, min: 0, max: 0o777 };
        assert_eq!(parse_number(&octal, b"700"), Ok(0o700));
        assert_eq!(print_number(&octal, 0o700), "700");
        assert_eq!(parse_number(&octal, b"1000"), Err("argument must be between 0 and 777 inclusive".into()));
        assert_eq!(parse_number(&octal, b"8"), Err("argument couldn't be parsed as an octal number".into()));

        let hz = Rule::Clamped { low: 1, high: 500 };
        assert_eq!(parse_number(&hz, b"1000"), Ok(500));
        assert_eq!(parse_number(&hz, b"0"), Ok(1));
    }

    #[test]
    fn sizes_are_rewritten_with_their_unit() {
        assert_eq!(with_unit(0), "0");
        assert_eq!(with_unit(1000), "1000");
        assert_eq!(with_unit(2048), "2kb");
        assert_eq!(with_unit(700 << 20), "700mb");
        assert_eq!(with_unit(3 << 30), "3gb");
    }
}
