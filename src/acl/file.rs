//! The ACL file: a `user NAME RULES` line for each user, nothing else. Source: Redis 7.2 `aclfile`.

use crate::acl::catalog::Catalog;
use crate::acl::selector::{RuleError, has_blanks};
use crate::acl::user::{User, merge_selectors};
use crate::config;
use crate::util::text;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The users of a file's text; `path` is the file's name in errors. If any line is wrong, all that is wrong in one line
/// of text, as Redis says it.
pub fn parse(text: &[u8], path: &str, catalog: &Catalog, all_channels: bool) -> Result<Vec<User>, Vec<u8>> {
    let mut users: Vec<User> = Vec::new();
    let mut names: BTreeSet<Box<[u8]>> = BTreeSet::new();
    let mut errors = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = trim(line, b" \t\r\n");
        if line.is_empty() {
            continue;
        }
        let mut report = Report { errors: &mut errors, path, number };
        if let Some(user) = parse_line(line, &names, &mut report, catalog, all_channels) {
            names.insert(user.name.clone());
            users.push(user);
        }
    }
    if errors.is_empty() {
        return Ok(users);
    }
    errors
        .extend_from_slice(b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed");
    Err(errors)
}

/// The users of the file `path`, relative to the directory `dir`.
pub fn load(dir: &Path, path: &str, catalog: &Catalog, all_channels: bool) -> Result<Vec<User>, Vec<u8>> {
    let text = std::fs::read(dir.join(OsStr::from_bytes(path.as_bytes()))).map_err(|error| {
        let reason = config::os_reason(&error);
        format!("Error loading ACLs, opening file '{path}': {reason}").into_bytes()
    })?;
    parse(&text, path, catalog, all_channels)
}

/// The text of a file with these `user` lines.
pub fn lines(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.iter().chain(b"\n")).copied().collect()
}

/// Where errors of one line are written.
struct Report<'a> {
    errors: &'a mut Vec<u8>,
    path: &'a str,
    number: usize,
}

impl Report<'_> {
    /// `path:line` and what is wrong.
    fn add(&mut self, error: &[u8]) {
        let place = format!("{}:{}", self.path, self.number);
        self.errors.extend([place.as_bytes(), error].concat());
    }
}

fn parse_line(
    line: &[u8],
    others: &BTreeSet<Box<[u8]>>,
    report: &mut Report<'_>,
    catalog: &Catalog,
    all_channels: bool,
) -> Option<User> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [b"user", name, rules @ ..] = words.as_slice() else {
        report.add(b" should start with user keyword followed by the username. ");
        return None;
    };
    let number = report.number.to_string();
    if has_blanks(name) {
        let parts = [report.path.as_bytes(), number.as_bytes(), name];
        report.errors.extend(text::fill("'{}:{}: username '{}' contains invalid characters. ", &parts));
        return None;
    }
    if others.contains(*name) {
        let parts = [name, number.as_bytes()];
        report.errors.extend(text::fill("WARNING: Duplicate user '{}' found on line {}. ", &parts));
        return None;
    }
    let Ok(rules) = merge_selectors(rules) else {
        report.add(b": Unmatched parenthesis in selector definition.");
        return None;
    };
    let mut user = User::new(name, all_channels);
    let mut has_syntax_error = false;
    for rule in rules {
        let rule = trim(&rule, b"\t\r\n");
        match user.apply(rule, catalog, all_channels) {
            Ok(()) => {}
            // Such a rule is no secret.
            Err(error @ RuleError::Unknown) => {
                let reason = error.to_string();
                report.add(&text::fill(": Error in applying operation '{}': {}. ", &[rule, reason.as_bytes()]));
            }
            // The first may be the cause of the others.
            Err(error) if !has_syntax_error => {
                has_syntax_error = true;
                report.add(format!(": {error}. ").as_bytes());
            }
            Err(_) => {}
        }
    }
    Some(user)
}

fn trim<'a>(text: &'a [u8], blanks: &[u8]) -> &'a [u8] {
    let start = text.iter().position(|byte| !blanks.contains(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blanks.contains(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::catalog::sample;

    #[test]
    fn a_file_is_read_and_written() {
        let file = "user bob on nopass  ~a (+get\t ~b )\r\n\n  user default off -@all  \n";
        let users = parse(file.as_bytes(), "f", &sample(), false).unwrap();
        let lines: Vec<Vec<u8>> = users.iter().map(User::line).collect();
        let expected = "user bob on nopass sanitize-payload ~a resetchannels -@all (~b resetchannels -@all +get)\n\
                        user default off sanitize-payload resetchannels -@all\n";
        assert_eq!(String::from_utf8(super::lines(&lines)).unwrap(), expected);
        assert!(parse(b"", "f", &sample(), false).unwrap().is_empty());
    }

    #[test]
    fn every_wrong_line_is_named() {
        let file = "# no comments\nuser\nuser a\0b\nuser a +nosuch ~x % #z\nuser a\nuser b (+get\nuser\tc\n";
        let errors = parse(file.as_bytes(), "/f", &sample(), false).unwrap_err();
        assert_eq!(
            String::from_utf8(errors).unwrap(),
            "/f:1 should start with user keyword followed by the username. \
             /f:2 should start with user keyword followed by the username. \
             '/f:3: username 'a' contains invalid characters. \
             /f:4: Error in applying operation '+nosuch': Unknown command or category name in ACL. \
             /f:4: Syntax error. \
             WARNING: Duplicate user 'a' found on line 5. \
             /f:6: Unmatched parenthesis in selector definition.\
             /f:7 should start with user keyword followed by the username. \
             WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
        );
    }
}
