//! Names in certificates: when two are the same, and whether an authority for certain names only may vouch for one.
//! Source: RFC 5280, 4.2.1.10 and 7.1; OpenSSL 3.0 where it differs.

use super::certificate::Certificate;
use x509_cert::der::asn1::{Any, ObjectIdentifier};
use x509_cert::der::{self, Encode, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{NameConstraints, constraints::name::GeneralSubtree};
use x509_cert::name::Name;

/// A distinguished name in the form in which equal names have equal bytes: letters in lower case, blanks once, whatever
/// kind of string they are written in. One part for each of its relative names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Canonical(Vec<Vec<Vec<u8>>>);

impl Canonical {
    pub(super) fn new(name: &Name) -> der::Result<Canonical> {
        let relative = name.0.iter().map(|relative| {
            let mut all: Vec<Vec<u8>> =
                relative.0.iter().map(|part| attribute(part.oid, &part.value)).collect::<Result<_, _>>()?;
            all.sort();
            Ok(all)
        });
        relative.collect::<der::Result<_>>().map(Canonical)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn starts_with(&self, base: &Canonical) -> bool {
        self.0.starts_with(&base.0)
    }
}

fn attribute(kind: ObjectIdentifier, value: &Any) -> der::Result<Vec<u8>> {
    let mut bytes = kind.to_der()?;
    match text(value) {
        Some(text) => {
            bytes.push(0);
            let words: Vec<String> =
                text.split(is_blank).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
            bytes.extend_from_slice(words.join(" ").as_bytes());
        }
        None => bytes.extend(value.to_der()?),
    }
    Ok(bytes)
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// What a string of any kind says; None for what is none.
fn text(value: &Any) -> Option<String> {
    let bytes = value.value();
    match value.tag() {
        Tag::Utf8String => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::TeletexString => {
            Some(bytes.iter().map(|byte| char::from(*byte)).collect())
        }
        Tag::BmpString => {
            let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok().filter(|_| bytes.len().is_multiple_of(2))
        }
        _ => None,
    }
}

/// Whether an authority for certain names only vouches for this certificate; `is_end` tells that it is not an authority
/// itself but what a peer shows.
pub(super) fn permits(constraints: &NameConstraints, certificate: &Certificate, is_end: bool) -> bool {
    let mut names: Vec<GeneralName> = certificate.extensions.alternative_names.clone();
    let has_dns_name = names.iter().any(|name| matches!(name, GeneralName::DnsName(_)));
    if !certificate.subject.is_empty() {
        names.push(GeneralName::DirectoryName(certificate.subject_name.clone()));
    }
    for part in certificate.subject_name.0.iter().flat_map(|relative| relative.0.iter()) {
        let Some(text) = text(&part.value) else { continue };
        let ia5 = || der::asn1::Ia5String::new(&text).ok();
        match part.oid {
            // An address must be plain ASCII to be compared.
            EMAIL => match ia5() {
                Some(address) => names.push(GeneralName::Rfc822Name(address)),
                None => return false,
            },
            // Without other names, servers used to be known by this one.
            COMMON_NAME if is_end && !has_dns_name && looks_like_host(&text) => {
                names.extend(ia5().map(GeneralName::DnsName));
            }
            _ => {}
        }
    }
    names.iter().all(|name| permits_name(constraints, name))
}

fn permits_name(constraints: &NameConstraints, name: &GeneralName) -> bool {
    let of_kind = |subtrees: &Option<Vec<GeneralSubtree>>| -> Option<Vec<bool>> {
        let same = subtrees.iter().flatten().filter(|tree| is_same_kind(&tree.base, name));
        // Limits of depth have never been used, and nobody knows them. Neither are all kinds of name.
        same.map(|tree| (tree.minimum == 0 && tree.maximum.is_none()).then(|| is_within(name, &tree.base))?).collect()
    };
    let (Some(permitted), Some(excluded)) =
        (of_kind(&constraints.permitted_subtrees), of_kind(&constraints.excluded_subtrees))
    else {
        return false;
    };
    (permitted.is_empty() || permitted.contains(&true)) && !excluded.contains(&true)
}

fn is_same_kind(a: &GeneralName, b: &GeneralName) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Whether the name lies in the subtree `base`; None where that cannot be told.
fn is_within(name: &GeneralName, base: &GeneralName) -> Option<bool> {
    use GeneralName::{DirectoryName, DnsName, IpAddress, Rfc822Name, UniformResourceIdentifier};
    match (name, base) {
        (DirectoryName(name), DirectoryName(base)) => {
            Some(Canonical::new(name).ok()?.starts_with(&Canonical::new(base).ok()?))
        }
        (DnsName(name), DnsName(base)) => Some(is_domain_within(name.as_str(), base.as_str())),
        (Rfc822Name(name), Rfc822Name(base)) => is_address_within(name.as_str(), base.as_str()),
        (UniformResourceIdentifier(name), UniformResourceIdentifier(base)) => {
            Some(is_host_within(host(name.as_str())?, base.as_str()))
        }
        (IpAddress(name), IpAddress(base)) => is_ip_within(name.as_bytes(), base.as_bytes()),
        _ => None,
    }
}

/// A domain is within itself; with or without a leading dot in `base`, so are those below it. Empty is everything.
fn is_domain_within(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let Some(before) = name.strip_suffix(base.as_str()) else { return false };
    base.is_empty() || before.is_empty() || base.starts_with('.') || before.ends_with('.')
}

/// `base` is an address, a host, or a domain with a leading dot.
fn is_address_within(name: &str, base: &str) -> Option<bool> {
    let (local, host) = name.rsplit_once('@')?;
    let Some((base_local, base_host)) = base.rsplit_once('@') else {
        return Some(is_host_within(host, base));
    };
    let has_local = base_local.is_empty() || base_local == local;
    Some(has_local && base_host.eq_ignore_ascii_case(host))
}

/// `base` is a host, or a domain with a leading dot.
fn is_host_within(host: &str, base: &str) -> bool {
    let (host, base) = (host.to_ascii_lowercase(), base.to_ascii_lowercase());
    if base.starts_with('.') { host.len() > base.len() && host.ends_with(&base) } else { host == base }
}

/// The host in a URI.
fn host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let host = rest.split([':', '/']).next().unwrap_or_default();
    (!host.is_empty()).then_some(host)
}

/// `base` is an address and a mask.
fn is_ip_within(address: &[u8], base: &[u8]) -> Option<bool> {
    if ![4, 16].contains(&address.len()) || ![8, 32].contains(&base.len()) {
        return None;
    }
    let (network, mask) = base.split_at(base.len() / 2);
    let is_within = || address.iter().zip(network).zip(mask).all(|((byte, wanted), mask)| byte & mask == wanted & mask);
    Some(network.len() == address.len() && is_within())
}

fn looks_like_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.contains('.') && text.split('.').all(is_label)
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const EMAIL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1");
