//! A user: whether it may log in, with which passwords, and its selectors.

use crate::acl::catalog::Catalog;
use crate::acl::listed::Listed;
use crate::acl::selector::{Asked, Denial, RuleError, Selector};
use crate::util::quote;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

/// A user. A value: see [`crate::acl::Account`] for the one in force.
#[derive(Debug, Clone)]
pub struct User {
    pub name: Box<[u8]>,
    pub enabled: bool,
    /// Any password is right.
    pub nopass: bool,
    /// RESTORE need not look into this user's payloads. Shown and kept; payloads are always looked into.
    pub skips_sanitizing: bool,
    /// SHA-256 of each password.
    passwords: Listed<[u8; 32], ()>,
    root: Selector,
    /// Never changed once they are there: ACL SETUSER's copy of a user shares them.
    selectors: Vec<Arc<Selector>>,
}

impl User {
    /// A user without rights or passwords, disabled.
    pub fn new(name: &[u8], all_channels: bool) -> Self {
        User {
            name: name.into(),
            enabled: false,
            nopass: false,
            skips_sanitizing: false,
            passwords: Listed::default(),
            root: Selector::new(all_channels),
            selectors: Vec::new(),
        }
    }

    /// A user with all rights and no need of a password.
    pub fn all_powerful(name: &[u8], catalog: &Catalog) -> Self {
        let mut user = User { enabled: true, nopass: true, ..User::new(name, true) };
        for rule in [b"+@all".as_slice(), b"~*"] {
            user.root.apply(rule, catalog).expect("these rules fit every catalog");
        }
        user
    }

    /// Whether some selector allows everything.
    pub fn has_all_rights(&self) -> bool {
        self.selectors().any(Selector::has_all_rights)
    }

    /// The root selector and the added ones.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(self.added_selectors())
    }

    /// The selector that rules outside of parentheses change.
    pub fn root(&self) -> &Selector {
        &self.root
    }

    /// The selectors in parentheses.
    pub fn added_selectors(&self) -> impl ExactSizeIterator<Item = &Selector> {
        self.selectors.iter().map(|selector| &**selector)
    }

    /// The SHA-256 digests of its passwords in hexadecimal.
    pub fn password_hashes(&self) -> impl ExactSizeIterator<Item = String> {
        self.passwords.in_order().into_iter().map(|(digest, ())| hex(digest))
    }

    /// Whether a password with this digest is one of its own. Looks at all of every digest, whatever it finds.
    pub fn has_password(&self, digest: &[u8; 32]) -> bool {
        let differs = |known: &[u8; 32]| known.iter().zip(digest).fold(0, |all, (a, b)| all | (a ^ b)) != 0;
        self.passwords.iter().fold(false, |found, (known, ())| found | !differs(known))
    }

    /// `requirepass`: this password and no other, or none needed.
    pub fn set_only_password(&mut self, password: Option<&[u8]>) {
        self.passwords.clear();
        self.nopass = password.is_none();
        if let Some(password) = password {
            self.passwords.add(Sha256::digest(password).into(), ());
        }
    }

    /// Applies one rule of ACL SETUSER. On an error nothing has changed.
    pub fn apply(&mut self, rule: &[u8], catalog: &Catalog, all_channels: bool) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"" => {}
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"skip-sanitize-payload" => self.skips_sanitizing = true,
            b"sanitize-payload" => self.skips_sanitizing = false,
            b"nopass" => self.set_only_password(None),
            b"resetpass" => {
                self.nopass = false;
                self.passwords.clear();
            }
            b"clearselectors" => self.selectors = Vec::new(),
            b"reset" => *self = User::new(&self.name, all_channels),
            _ => return self.apply_named(rule, catalog, all_channels),
        }
        Ok(())
    }

    fn apply_named(&mut self, rule: &[u8], catalog: &Catalog, all_channels: bool) -> Result<(), RuleError> {
        match rule {
            [b'>', password @ ..] => self.add_password(Sha256::digest(password).into()),
            [b'#', hash @ ..] => self.add_password(parse_hash(hash)?),
            [b'<', password @ ..] => return self.remove_password(Sha256::digest(password).into()),
            [b'!', hash @ ..] => return self.remove_password(parse_hash(hash)?),
            [b'(', .., b')'] => self.selectors.push(Arc::new(Selector::parse(rule, catalog, all_channels)?)),
            _ => return self.root.apply(rule, catalog),
        }
        Ok(())
    }

    fn add_password(&mut self, digest: [u8; 32]) {
        self.nopass = false;
        self.passwords.add(digest, ());
    }

    fn remove_password(&mut self, digest: [u8; 32]) -> Result<(), RuleError> {
        if self.passwords.remove(&digest) { Ok(()) } else { Err(RuleError::NoSuchPassword) }
    }

    /// Whether the command may run: under one of its selectors alone. Otherwise why not: the reason of the selector
    /// that came furthest.
    pub fn check(&self, asked: &Asked<'_>) -> Result<(), Denial> {
        let mut worst = None;
        for selector in self.selectors() {
            match selector.check(asked) {
                Ok(()) => return Ok(()),
                Err(denial) => worst = worst.max(Some(denial)),
            }
        }
        worst.map_or(Ok(()), Err)
    }

    /// Whether one of its selectors allows both the command and reading every key (SORT's BY and GET).
    pub fn reads_all_keys_with(&self, asked: &Asked<'_>) -> bool {
        self.selectors().any(|selector| selector.reads_all_keys() && selector.check(asked).is_ok())
    }

    /// Whether one of its selectors allows reading this key.
    pub fn reads_key(&self, key: &[u8]) -> bool {
        self.selectors().any(|selector| selector.reads_key(key))
    }

    /// Whether a channel may be used.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors().any(|selector| selector.allows_channel(channel, is_pattern))
    }

    /// Whether every channel that `other` allows is allowed here, going by the patterns' letters.
    pub fn has_channels_of(&self, other: &User) -> bool {
        if self.selectors().any(Selector::has_all_channels) {
            return true;
        }
        let own: BTreeSet<&[u8]> = self.selectors().flat_map(Selector::channels).collect();
        let covers =
            |theirs: &Selector| !theirs.has_all_channels() && theirs.channels().all(|pattern| own.contains(pattern));
        other.selectors().all(covers)
    }

    /// The flags' names in the order ACL GETUSER shows them.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        let flags = [
            (self.enabled, "on"),
            (!self.enabled, "off"),
            (self.nopass, "nopass"),
            (self.skips_sanitizing, "skip-sanitize-payload"),
            (!self.skips_sanitizing, "sanitize-payload"),
        ];
        flags.into_iter().filter(|(on, _)| *on).map(|(_, name)| name)
    }

    /// `user NAME RULES`, as in ACL LIST.
    pub fn line(&self) -> Vec<u8> {
        let mut words = self.head();
        words.push(self.root.text());
        words.extend(self.selectors.iter().map(|selector| [b"(", selector.text().as_slice(), b")"].concat()));
        words.join(&b' ')
    }

    /// The line of an ACL file, whose words are what is between two blanks.
    pub fn file_line(&self) -> Vec<u8> {
        self.words().join(&b' ')
    }

    /// The line of a configuration, whose words may be quoted.
    pub fn config_line(&self) -> Vec<u8> {
        self.words().iter().map(|word| config_word(word)).collect::<Vec<_>>().join(&b' ')
    }

    /// The words of a line that can be read again, a selector being one.
    fn words(&self) -> Vec<Vec<u8>> {
        let mut words = self.head();
        words.extend(self.root.rules());
        words.extend(self.selectors.iter().map(|selector| selector.parenthesized_rules()));
        words
    }

    fn head(&self) -> Vec<Vec<u8>> {
        let mut words = vec![b"user".to_vec(), self.name.to_vec()];
        words.extend(self.flags().map(|flag| flag.into()));
        words.extend(self.password_hashes().map(|hash| format!("#{hash}").into_bytes()));
        words
    }
}

/// Rules with the words of a selector in parentheses put together to one: `(`, `~a`, `+get)` becomes `( ~a +get)`.
/// The error is the place of a parenthesis that is not closed.
pub fn merge_selectors(rules: &[&[u8]]) -> Result<Vec<Vec<u8>>, usize> {
    let mut merged: Vec<Vec<u8>> = Vec::with_capacity(rules.len());
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (place, rule) in rules.iter().enumerate() {
        match open.take() {
            Some((start, mut selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(rule);
                if rule.ends_with(b")") {
                    merged.push(selector);
                } else {
                    open = Some((start, selector));
                }
            }
            None if rule.starts_with(b"(") && !rule.ends_with(b")") => open = Some((place, rule.to_vec())),
            None => merged.push(rule.to_vec()),
        }
    }
    open.map_or(Ok(merged), |(start, _)| Err(start))
}

/// A word as the configuration says it. A selector without anything to quote is written as its author would, in words.
fn config_word(word: &[u8]) -> Vec<u8> {
    let is_plain = |part: &[u8]| quote::word(part) == part;
    let is_plain_selector = word.starts_with(b"(") && word.split(|byte| *byte == b' ').all(is_plain);
    if is_plain_selector { word.to_vec() } else { quote::word(word) }
}

/// 64 lower-case hexadecimal digits.
fn parse_hash(text: &[u8]) -> Result<[u8; 32], RuleError> {
    let (pairs, []) = text.as_chunks::<2>() else { return Err(RuleError::BadHash) };
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(RuleError::BadHash),
    };
    let bytes: Result<Vec<u8>, RuleError> =
        pairs.iter().map(|[high, low]| Ok(value(*high)? * 16 + value(*low)?)).collect();
    bytes?.try_into().map_err(|_| RuleError::BadHash)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::catalog::sample;
    use crate::acl::file;
    use proptest::prelude::*;

    fn user(rules: &str) -> User {
        let mut user = User::new(b"u", false);
        let words: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
        for rule in merge_selectors(&words).unwrap() {
            user.apply(&rule, &sample(), false).unwrap();
        }
        user
    }

    fn line(rules: &str) -> String {
        String::from_utf8(user(rules).line()).unwrap()
    }

    const HASH_OF_A: &str = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

    #[test]
    fn a_user_is_shown_as_it_can_be_set() {
        assert_eq!(line(""), "user u off sanitize-payload resetchannels -@all");
        assert_eq!(line("on nopass ~* &* +@all"), "user u on nopass sanitize-payload ~* &* +@all");
        assert_eq!(
            line(">a skip-sanitize-payload ~k (+get ~r) ( +set )"),
            format!(
                "user u off skip-sanitize-payload #{HASH_OF_A} ~k resetchannels -@all (~r resetchannels -@all +get) \
                 (resetchannels -@all +set)"
            )
        );
        assert_eq!(line("on >a ~k +get (+set) reset"), line(""));
        assert_eq!(line("(+get) clearselectors"), line(""));
    }

    #[test]
    fn passwords() {
        let digest = |password: &str| <[u8; 32]>::from(Sha256::digest(password));
        let both = user(&format!(">b #{HASH_OF_A} >b"));
        assert!(both.has_password(&digest("a")) && both.has_password(&digest("b")) && !both.has_password(&digest("c")));
        assert_eq!(both.password_hashes().len(), 2);
        let mut one = both.clone();
        one.apply(b"<b", &sample(), false).unwrap();
        assert!(!one.has_password(&digest("b")));
        assert_eq!(one.apply(b"<b", &sample(), false), Err(RuleError::NoSuchPassword));
        assert_eq!(one.apply(b"!00", &sample(), false), Err(RuleError::BadHash));
        let upper = format!("#{}", HASH_OF_A.to_uppercase());
        assert_eq!(one.apply(upper.as_bytes(), &sample(), false), Err(RuleError::BadHash));
        one.apply(b"nopass", &sample(), false).unwrap();
        assert!(one.nopass && one.password_hashes().len() == 0);
        one.apply(b">c", &sample(), false).unwrap();
        assert!(!one.nopass);
    }

    #[test]
    fn words_of_a_selector_are_put_together() {
        let merged = |words: &[&str]| {
            let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
            merge_selectors(&words)
                .map(|all| all.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(merged(&["on", "(", "~a", "+get)", "(x)"]).unwrap(), ["on", "( ~a +get)", "(x)"]);
        assert_eq!(merged(&["(a", "(b", ")", ")"]).unwrap(), ["(a (b )", ")"]);
        assert_eq!(merged(&["", "(", ""]), Err(1));
    }

    #[test]
    fn channels_that_stay() {
        let old = user("&a &b (&c)");
        assert!(user("&a &b &c").has_channels_of(&old));
        assert!(user("allchannels").has_channels_of(&old));
        assert!(!user("&a &b").has_channels_of(&old));
        assert!(!user("&a").has_channels_of(&user("allchannels")));
    }

    /// The `file_line` of what an ACL file with this user says.
    fn read_file_line(user: &User) -> Vec<u8> {
        let text = file::lines(&[user.file_line()]);
        let users = file::parse(&text, "f", &sample(), false).expect("what was written can be read");
        assert_eq!(users.len(), 1);
        users[0].file_line()
    }

    /// The same of a configuration.
    fn read_config_line(user: &User) -> Vec<u8> {
        let words = quote::split(&user.config_line()).expect("quotes match up");
        let rules: Vec<&[u8]> = words[2..].iter().map(Vec::as_slice).collect();
        let mut again = User::new(&words[1], false);
        for rule in merge_selectors(&rules).expect("parentheses match up") {
            again.apply(&rule, &sample(), false).expect("it was a rule before");
        }
        again.file_line()
    }

    #[test]
    fn what_needs_quotes_has_them() {
        let mut user = user("on nopass ~it's &\"x (+get ~k)");
        user.apply(b"(\"~it's\" +get)", &sample(), false).unwrap();
        assert_eq!(
            String::from_utf8(user.config_line()).unwrap(),
            "user u on nopass sanitize-payload \"~it's\" resetchannels \"&\\\"x\" -@all \
             (~k resetchannels -@all +get) \"(\\\"~it's\\\" resetchannels -@all +get)\""
        );
        assert!(String::from_utf8(user.file_line()).unwrap().ends_with(" (\"~it's\" resetchannels -@all +get)"));
        assert!(String::from_utf8(user.line()).unwrap().ends_with(" (~it's resetchannels -@all +get)"));
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let sign = prop_oneof![prop::sample::select(b"\"'\\()#~%*|-+@".to_vec()), any::<u8>()];
        proptest::collection::vec(sign, 0..5)
    }

    proptest! {
        /// CVE-2024-51741, CVE-2024-31227: a rule of any shape is taken or refused, and what comes of it can be shown
        /// and read again.
        #[test]
        fn no_rule_panics_and_every_user_can_be_read_again(
            rules in proptest::collection::vec(prop_oneof!["[-+~%&()@|#<>!a-zRW\\* ]{0,8}", any::<String>()], 0..6)
        ) {
            let words: Vec<&[u8]> = rules.iter().map(|rule| rule.as_bytes()).collect();
            let mut user = User::new(b"u", false);
            for rule in merge_selectors(&words).unwrap_or_default() {
                // Refused rules are as good as taken ones here.
                let _ = user.apply(&rule, &sample(), false);
            }
            prop_assert_eq!(&read_file_line(&user), &user.file_line());
            prop_assert_eq!(&read_config_line(&user), &user.file_line());
        }

        /// Whatever SETUSER takes: quotes, parentheses, bytes that are no text, in names, patterns and selectors.
        #[test]
        fn every_user_survives_its_files(
            name in bytes(),
            rules in proptest::collection::vec((prop_oneof![
                Just("~"), Just("%R~"), Just("%RW~"), Just("&"), Just("+select|"), Just("(~"), Just("(\"~"), Just(">")
            ], bytes(), prop_oneof![Just(""), Just(")"), Just("\" +get)"), Just("*")]), 0..6),
        ) {
            prop_assume!(!crate::acl::selector::has_blanks(&name));
            let rules: Vec<Vec<u8>> = rules
                .into_iter()
                .map(|(start, middle, end)| [start.as_bytes(), middle.as_slice(), end.as_bytes()].concat())
                .collect();
            let words: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
            let mut user = User::new(&name, false);
            for rule in merge_selectors(&words).unwrap_or_default() {
                let _ = user.apply(&rule, &sample(), false);
            }
            prop_assert_eq!(&read_file_line(&user), &user.file_line());
            prop_assert_eq!(&read_config_line(&user), &user.file_line());
        }
    }
}
